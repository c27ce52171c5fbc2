//! What large messages do to the order of a connection, and to others: nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use mio::Poll;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;
use pool_proto::methods::Empty;

use super::*;
use crate::aside::TURN;

/// A server with one client, whose first large messages fit into its socket.
struct Scene {
    server: Server,
    client: UnixStream,
    token: Token,
    events: Vec<ServerEvent>,
    /// Something has been done aside.
    heard: Receiver<()>,
    _poll: Poll,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = StdUnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let poll = Poll::new().unwrap();
        let (told, heard) = mpsc::channel();
        let notify: Notify = Arc::new(move || _ = told.send(()));
        let listener = UnixListener::from_std(listener);
        let admits: Admits = Box::new(|_| Ok(()));
        let mut server = Server::new(listener, Token(0), poll.registry(), 10, admits, notify).unwrap();

        let client = UnixStream::connect(&path).unwrap();
        client.set_nonblocking(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        setsockopt(&client, SndBuf, &(2 * TURN)).unwrap();
        let mut events = Vec::new();
        server.accept(&mut events);
        let [ServerEvent::Connected { connection, .. }] = events[..] else { panic!("{events:?}") };
        events.clear();
        Self { server, client, token: connection, events, heard, _poll: poll, _dir: dir }
    }

    /// The client sends this, and the server reads until it has to wait.
    fn say(&mut self, frames: &[&str]) {
        let text: String = frames.iter().map(|frame| format!("{frame}\0")).collect();
        self.client.write_all(text.as_bytes()).unwrap();
        self.ready(false);
    }

    fn ready(&mut self, is_gone: bool) {
        let readiness = Readiness { is_readable: true, is_open: !is_gone, is_gone };
        self.server.on_ready(self.token, readiness, &mut self.events);
        while self.server.has_unfinished() {
            self.server.read_unfinished(&mut self.events);
        }
    }

    /// Waits until one more thing has been done aside, and has the server hear of it.
    fn hear_aside(&mut self) {
        self.heard.recv_timeout(Duration::from_secs(60)).unwrap();
        self.server.hear_aside(&mut self.events);
    }

    /// What the client has asked for, and whether it is gone, since this was last asked.
    fn told(&mut self) -> Vec<String> {
        let name = |event| match event {
            ServerEvent::Asked { asked, .. } => asked.name().rsplit('.').next().unwrap().to_owned(),
            ServerEvent::Disconnected { request } => format!("disconnected {}", request.0),
            ServerEvent::Closed { .. } => "closed".to_owned(),
            other => panic!("{other:?}"),
        };
        self.events.drain(..).map(name).collect()
    }

    /// What the client has been sent so far, a frame each.
    fn received(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        loop {
            self.server.dirty.insert(self.token); // Its socket has room.
            self.server.flush(&mut self.events);
            let read = self.client.read_to_end(&mut bytes);
            let connection = self.server.connections.get(&self.token);
            if read.is_ok() || connection.is_none_or(|connection| connection.unread() == 0) {
                break;
            }
        }
        let frames = bytes.split(|&byte| byte == 0).map(|frame| String::from_utf8(frame.to_vec()).unwrap());
        frames.filter(|frame| !frame.is_empty()).collect()
    }
}

const GET: &str = r#"{"method":"io.poold.Release","parameters":{"ids":[7]}}"#;

/// A ping that is longer than what is read in the loop.
fn large() -> String {
    format!(r#"{{"method":"io.poold.Ping","parameters":{{"text":"{}"}}}}"#, "x".repeat(LARGE))
}

#[test]
fn a_turn_reads_no_more_of_a_connection_than_its_share() {
    let mut scene = Scene::new();
    scene.client.write_all(&vec![b'x'; TURN + 50_000]).unwrap();
    let readiness = Readiness { is_readable: true, is_open: true, is_gone: false };
    scene.server.on_ready(scene.token, readiness, &mut scene.events);
    assert_eq!((scene.server.backlog, scene.server.has_unfinished()), (TURN, true));

    scene.server.read_unfinished(&mut scene.events);
    assert_eq!((scene.server.backlog, scene.server.has_unfinished()), (TURN + 50_000, false));
}

#[test]
fn what_follows_a_large_message_comes_after_it() {
    let mut scene = Scene::new();
    scene.say(&[GET, &large(), GET]);
    assert_eq!(scene.told(), ["Release"], "the large message is being read elsewhere");
    assert!(scene.server.backlog > LARGE, "it still counts");

    scene.hear_aside();
    assert_eq!(scene.told(), ["Ping", "Release"]);
    assert_eq!(scene.server.backlog, 0);
}

#[test]
fn what_somebody_has_sent_who_is_gone_still_counts() {
    let mut scene = Scene::new();
    scene.say(&[&large(), GET]);
    let (other, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut scene.client, other));
    scene.ready(true);
    assert!(scene.told().is_empty() && scene.server.clients() == 1);

    scene.hear_aside();
    assert_eq!(scene.told(), ["Ping", "Release", "disconnected 1", "disconnected 2", "closed"]);
    assert_eq!((scene.server.clients(), scene.server.backlog), (0, 0));
}

#[test]
fn who_is_given_up_while_his_message_is_read_is_not_heard() {
    let mut scene = Scene::new();
    scene.say(&[&large()]);
    scene.server.give_up(scene.token, &mut scene.events);
    scene.hear_aside();
    let received = scene.received();
    assert!(received[0].contains("io.poold.Overloaded") && received.len() == 1, "{received:?}");
    assert_eq!(scene.told(), ["closed"]);
}

#[test]
fn a_large_message_that_is_none_is_refused_and_ends_the_connection() {
    let mut scene = Scene::new();
    scene.say(&[&"x".repeat(LARGE + 1), GET]);
    scene.hear_aside();
    let received = scene.received();
    assert!(received[0].contains("io.poold.InvalidMessage") && received.len() == 1, "{received:?}");
    assert_eq!(scene.told(), ["closed"], "nothing after it is heard");
}

#[test]
fn a_large_message_with_a_fault_is_refused_and_the_next_one_is_heard() {
    let mut scene = Scene::new();
    scene.say(&[&large().replace("Ping", "Pong"), GET]);
    scene.hear_aside();
    assert_eq!(scene.told(), ["Release"]);
    let received = scene.received();
    assert!(received[0].contains("MethodNotFound") && received.len() == 1, "{received:?}");
}

#[test]
fn what_follows_a_large_reply_comes_after_it() {
    let mut scene = Scene::new();
    scene.say(&[GET, GET]);
    assert_eq!(scene.told(), ["Release", "Release"]);
    let text = "x".repeat(LARGE + 1);
    scene.server.reply_large(RequestId(1), text.len(), text.clone(), true);
    scene.server.reply(RequestId(2), &Empty {}, Vec::new(), true);
    assert!(scene.received().is_empty(), "the large reply is being written elsewhere");

    scene.hear_aside();
    let received = scene.received();
    assert_eq!(received[0].len(), text.len() + r#"{"parameters":""}"#.len());
    assert_eq!(received[1..], [r#"{"parameters":{}}"#]);
    assert_eq!(scene.server.backlog, 0);
}

#[test]
fn a_large_reply_to_nobody_is_dropped() {
    let mut scene = Scene::new();
    scene.say(&[GET]);
    let text = "x".repeat(LARGE + 1);
    scene.server.reply_large(RequestId(1), text.len(), text, true);
    scene.server.close(scene.token, &mut scene.events);
    scene.hear_aside();
    assert_eq!(scene.told(), ["Release", "closed"]);
    assert_eq!((scene.server.clients(), scene.server.backlog), (0, 0));
}
