//! The clients: accepts connections on the socket, reads requests, sends replies. What a request means is
//! decided elsewhere; what a request is, how it is framed, and that no client can hold up another, is decided
//! here.
//!
//! ```text
//!   socket ──▶ connection ── large message ──▶ aside ── read ─────▶ connection ──▶ requests
//!   replies ──────────────── large reply ────▶ aside ── written ──▶ connection ──▶ socket
//! ```

mod connection;
mod message;
mod outbox;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Instant;

use mio::event::Event;
use mio::net::UnixListener;
use mio::{Interest, Registry, Token};
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use pool_proto::Refusal;
use pool_proto::wire::frame::encode;
use pool_proto::wire::message::ReplyEnvelope;
use serde::Serialize;

use crate::aside::{Aside, LARGE, Notify};
use crate::job::{IdMap, IdSet, RequestId, UserId};
use connection::{Connection, Flushed, Reading};
use message::Message;
pub use pool_proto::Request;

/// Tokens of connections begin here; smaller ones are free for others.
pub const FIRST_TOKEN: usize = 1 << 32;

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Bytes that are held in all for clients that do not finish their messages or do not read their replies.
const MAX_BACKLOG: usize = 256 * 1024 * 1024;

/// With so many, even clients that read are given up.
const MAX_READ_SLOWLY: usize = 4 * MAX_BACKLOG;

/// What clients want, or are.
#[derive(Debug)]
pub enum ServerEvent {
    /// A client is there, and may ask for things.
    Connected { connection: Token, uid: UserId },
    /// It asks for something. `more`: it takes any number of replies.
    Asked { connection: Token, request: RequestId, asked: Request, more: bool },
    /// The client of a request that had not been replied to in full is gone.
    Disconnected { request: RequestId },
    /// A connection is gone, and with it what was bound to it.
    Closed { connection: Token },
    /// The client has read all that was sent in reply to this request.
    Drained { request: RequestId },
}

/// What has been done aside for a connection.
enum Done {
    /// A large message of its client's has been read.
    Read { token: Token, message: Result<Message, Refusal> },
    /// A large reply has been written.
    Written { token: Token, request: RequestId, frame: Vec<u8> },
}

/// Which users may connect at all.
pub type Admits = Box<dyn Fn(UserId) -> Result<(), Refusal>>;

/// Whether there are no descriptors left, here or on the whole machine.
pub fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| [libc::EMFILE, libc::ENFILE].contains(&errno))
}

/// Tells a client that has just come why he cannot stay.
fn dismiss(mut connection: Connection, refusal: &Refusal) {
    connection.refuse(refusal);
    // A socket that is new has room for it.
    let _ = connection.flush();
}

/// What a connection's socket is ready for.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    is_readable: bool,
    /// Its client has not closed it: more may come.
    is_open: bool,
    /// Nobody is there to be answered.
    is_gone: bool,
}

impl Readiness {
    pub fn of(event: &Event) -> Self {
        Self {
            is_readable: event.is_readable(),
            is_open: !event.is_read_closed(),
            is_gone: event.is_write_closed(),
        }
    }
}

/// All connections.
pub struct Server {
    listener: UnixListener,
    registry: Registry,
    connections: IdMap<Token, Connection>,
    requests: IdMap<RequestId, Token>,
    next_token: usize,
    next_request: u64,
    max_clients: usize,
    admits: Admits,
    /// Connections with more to read than their turn allowed.
    unfinished: Vec<Token>,
    /// Connections with more to send than their turn allowed.
    unsent: Vec<Token>,
    /// Connections that may have something to send.
    dirty: IdSet<Token>,
    /// Requests that wait for their replies to be read before they go on.
    streaming: IdSet<RequestId>,
    /// Accepting stopped for want of descriptors.
    accept_stalled: bool,
    /// Given up where there are no more descriptors, so that a client can be told that there are none.
    spare: Option<File>,
    backlog: usize,
    /// What clients say is read into this.
    buffer: Box<[u8]>,
    /// Reads and writes what is large.
    aside: Aside<Done>,
}

impl Server {
    /// Serves the listener, which is registered under `token`. `notify` is called when
    /// [`hear_aside`](Self::hear_aside) has something to hear.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(
        mut listener: UnixListener,
        token: Token,
        registry: &Registry,
        max_clients: usize,
        admits: Admits,
        notify: Notify,
    ) -> io::Result<Self> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self {
            listener,
            registry: registry.try_clone()?,
            connections: IdMap::default(),
            requests: IdMap::default(),
            next_token: FIRST_TOKEN,
            next_request: 1,
            max_clients,
            admits,
            unfinished: Vec::new(),
            unsent: Vec::new(),
            dirty: IdSet::default(),
            streaming: IdSet::default(),
            accept_stalled: false,
            spare: File::open("/dev/null").ok(),
            backlog: 0,
            buffer: vec![0; READ].into_boxed_slice(),
            aside: Aside::new("messages", notify),
        })
    }

    /// Serves another listener in the place of the last one. Who is connected stays so.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn listen_on(&mut self, listener: OwnedFd, token: Token) -> io::Result<()> {
        let listener = StdUnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let mut listener = UnixListener::from_std(listener);
        self.registry.register(&mut listener, token, Interest::READABLE)?;
        let mut old = std::mem::replace(&mut self.listener, listener);
        // It is closed right after; failing to deregister it changes nothing.
        let _ = self.registry.deregister(&mut old);
        Ok(())
    }

    /// How many are connected.
    pub fn clients(&self) -> usize {
        self.connections.len()
    }

    pub fn set_max_clients(&mut self, max_clients: usize) {
        self.max_clients = max_clients;
    }

    /// Takes in all clients that wait. They are read from when they are found ready, after those that were so
    /// before: what somebody has sent over one connection is not overtaken by what he sends over a second
    /// one.
    pub fn accept(&mut self, events: &mut Vec<ServerEvent>) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(Connection::new(stream), events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) if is_shortage(&error) && self.spare.take().is_some() => self.turn_away(),
                Err(error) => {
                    // They stay in the listener's queue; the next connection that closes makes room.
                    tracing::warn!(%error, clients = self.connections.len(), "cannot accept a client for now");
                    self.accept_stalled = true;
                    return;
                }
            }
        }
    }

    /// There are no more descriptors but the spare one: who waits is told so, rather than left waiting.
    fn turn_away(&mut self) {
        if let Ok((stream, _)) = self.listener.accept() {
            tracing::warn!(clients = self.connections.len(), "a client is turned away: no more descriptors");
            dismiss(Connection::new(stream), &Refusal::TooManyClients { limit: self.connections.len() });
        }
        self.spare = File::open("/dev/null").ok();
    }

    /// Sends what is on its way, so that the descriptors that travel with it are free.
    pub fn flush_descriptors(&mut self) {
        for &token in &self.dirty {
            // What fails here fails again, when everything is sent.
            let _ = self.connections.get_mut(&token).map(Connection::flush);
        }
    }

    /// Whether clients wait that could not be accepted.
    pub fn is_accept_stalled(&self) -> bool {
        self.accept_stalled
    }

    /// Tries it once more, if clients wait that could not be accepted.
    pub fn accept_again(&mut self, events: &mut Vec<ServerEvent>) {
        if std::mem::take(&mut self.accept_stalled) {
            self.accept(events);
        }
    }

    fn add(&mut self, mut connection: Connection, events: &mut Vec<ServerEvent>) {
        let uid = match self.welcome(&mut connection) {
            Ok(uid) => uid,
            // Not kept until the end of the turn: many who come at once would take all descriptors.
            Err(refusal) => return dismiss(connection, &refusal),
        };
        let token = Token(self.next_token);
        if let Err(error) = self.registry.register(connection.stream_mut(), token, Interest::READABLE) {
            tracing::warn!(%error, "cannot serve a client");
            return;
        }
        self.next_token += 1;
        events.push(ServerEvent::Connected { connection: token, uid });
        self.connections.insert(token, connection);
        self.dirty.insert(token);
    }

    /// Who it is, if he may stay.
    fn welcome(&self, connection: &mut Connection) -> Result<UserId, Refusal> {
        // Without credentials it is nobody who is known.
        let peer = getsockopt(connection.stream_mut(), PeerCredentials).map_or(u32::MAX, |peer| peer.uid());
        let uid = UserId::new(peer);
        (self.admits)(uid)?;
        if self.connections.len() >= self.max_clients {
            return Err(Refusal::TooManyClients { limit: self.max_clients });
        }
        Ok(uid)
    }

    /// A connection is ready for something.
    pub fn on_ready(&mut self, token: Token, readiness: Readiness, events: &mut Vec<ServerEvent>) {
        self.dirty.insert(token);
        if readiness.is_gone
            && let Some(connection) = self.connections.get_mut(&token)
        {
            connection.is_gone = true;
        }
        if readiness.is_readable || readiness.is_gone {
            self.read(token, readiness.is_open, events);
        }
    }

    fn read(&mut self, token: Token, is_open: bool, events: &mut Vec<ServerEvent>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let next_id = ids(&mut self.next_request);
        let on_request = asks(token, &mut self.requests, events);
        let progress = connection.read(&mut self.buffer, is_open, next_id, on_request);
        self.dirty.insert(token);
        match progress {
            Reading::Idle if connection.is_gone && !connection.is_being_read() => {
                return self.close(token, events);
            }
            Reading::Idle => {}
            Reading::Unfinished => self.unfinished.push(token),
            Reading::Large(frame) => {
                self.aside.hand(move || Done::Read { token, message: Message::read(&frame) });
            }
            Reading::Gone => return self.close(token, events),
        }
        self.recount(token, events);
    }

    /// Goes on with what was waiting for large messages and replies. A client that has gone meanwhile is no
    /// error.
    pub fn hear_aside(&mut self, events: &mut Vec<ServerEvent>) {
        while let Some(done) = self.aside.take() {
            match done {
                Done::Read { token, message } => {
                    let Some(connection) = self.connections.get_mut(&token) else { continue };
                    let next_id = ids(&mut self.next_request);
                    connection.take_in(message, next_id, asks(token, &mut self.requests, events));
                    self.read(token, false, events);
                }
                Done::Written { token, request, frame } => {
                    let Some(connection) = self.connections.get_mut(&token) else { continue };
                    connection.written(request, frame);
                    self.dirty.insert(token);
                }
            }
        }
    }

    /// Where too much is held for clients, the greatest burdens go.
    fn recount(&mut self, token: Token, events: &mut Vec<ServerEvent>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let (new, old) = connection.recount();
        self.backlog = self.backlog + new - old;
        while self.backlog > MAX_BACKLOG {
            let now = Instant::now();
            let spares_readers = self.backlog <= MAX_READ_SLOWLY;
            let burdens = self.connections.iter().filter(|(_, one)| !(spares_readers && one.reads(now)));
            let burdens = burdens.map(|(&token, connection)| (connection.burden(now), token));
            let Some((_, token)) = burdens.max() else { return };
            tracing::warn!(
                clients = self.connections.len(),
                "too much is held for clients: the one that holds up most is dropped"
            );
            self.give_up(token, events);
        }
    }

    fn give_up(&mut self, token: Token, events: &mut Vec<ServerEvent>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if !connection.give_up(&Refusal::Overloaded { limit: MAX_BACKLOG }) {
            return self.close(token, events);
        }
        let (new, old) = connection.recount();
        self.backlog = self.backlog + new - old;
        self.dirty.insert(token);
    }

    /// Whether there is more to read or to send without waiting.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty() || !self.unsent.is_empty()
    }

    /// Goes on with connections that have had their turn.
    pub fn read_unfinished(&mut self, events: &mut Vec<ServerEvent>) {
        self.dirty.extend(self.unsent.drain(..));
        for token in std::mem::take(&mut self.unfinished) {
            self.read(token, false, events);
        }
    }

    /// Replies to a request; `last`: nothing more follows. A client that has gone is no error.
    pub fn reply(
        &mut self,
        request: RequestId,
        parameters: &impl Serialize,
        descriptors: Vec<OwnedFd>,
        last: bool,
    ) {
        if let Some(connection) = self.connection_of(request, last) {
            connection.reply(request, parameters, descriptors, last);
        }
    }

    /// Replies to a request with something that may be large, of about so many bytes.
    pub fn reply_large(
        &mut self,
        request: RequestId,
        bytes: usize,
        parameters: impl Serialize + Send + 'static,
        last: bool,
    ) {
        if bytes <= LARGE {
            return self.reply(request, &parameters, Vec::new(), last);
        }
        let Some(&token) = self.requests.get(&request) else { return };
        let Some(connection) = self.connection_of(request, last) else { return };
        if connection.reply_later(request, bytes, last) {
            self.aside.hand(move || {
                let envelope = ReplyEnvelope { parameters: Some(&parameters), continues: !last, error: None };
                Done::Written { token, request, frame: encode(&envelope) }
            });
        }
    }

    /// Replies to a request with a named error.
    pub fn refuse(&mut self, request: RequestId, refusal: &Refusal) {
        if let Some(connection) = self.connection_of(request, true) {
            connection.reply_refusal(request, refusal);
        }
    }

    /// How many bytes the client of this request has not taken yet.
    pub fn unread(&self, request: RequestId) -> usize {
        self.requests
            .get(&request)
            .and_then(|token| self.connections.get(token))
            .map_or(0, Connection::unread)
    }

    /// Whether the client of this request has much to read.
    pub fn is_full(&self, request: RequestId) -> bool {
        let token = self.requests.get(&request);
        token.and_then(|token| self.connections.get(token)).is_some_and(Connection::is_full)
    }

    /// Asks for [`ServerEvent::Drained`], once.
    pub fn notify_drained(&mut self, request: RequestId) {
        self.streaming.insert(request);
        self.dirty.extend(self.requests.get(&request));
    }

    fn connection_of(&mut self, request: RequestId, last: bool) -> Option<&mut Connection> {
        let token = *self.requests.get(&request)?;
        if last {
            self.requests.remove(&request);
        }
        self.dirty.insert(token);
        self.connections.get_mut(&token)
    }

    /// Sends what the sockets take, to each no more than is its turn.
    pub fn flush(&mut self, events: &mut Vec<ServerEvent>) {
        for token in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            match connection.flush() {
                Ok(_) if connection.is_over() => self.close(token, events),
                Ok(_) if connection.watch(&self.registry, token).is_err() => self.close(token, events),
                Ok(Flushed { has_more, can_read }) => {
                    let drained = connection.requests().filter(|request| self.streaming.contains(request));
                    let drained: Vec<RequestId> =
                        drained.filter(|&request| connection.is_drained_for(request)).collect();
                    for request in drained {
                        self.streaming.remove(&request);
                        events.push(ServerEvent::Drained { request });
                    }
                    if can_read {
                        self.unfinished.push(token);
                    }
                    if has_more {
                        self.unsent.push(token);
                    }
                    self.recount(token, events);
                }
                Err(error) => {
                    tracing::debug!(%error, "a client is dropped");
                    self.close(token, events);
                }
            }
        }
    }

    fn close(&mut self, token: Token, events: &mut Vec<ServerEvent>) {
        let Some(mut connection) = self.connections.remove(&token) else { return };
        // The descriptor is closed right after; failing to deregister it changes nothing.
        let _ = self.registry.deregister(connection.stream_mut());
        for request in connection.requests() {
            self.streaming.remove(&request);
            if self.requests.remove(&request).is_some() {
                events.push(ServerEvent::Disconnected { request });
            }
        }
        events.push(ServerEvent::Closed { connection: token });
        let (_, counted) = connection.recount();
        self.backlog -= counted;
        drop(connection);
        self.accept_again(events);
    }
}

/// Names requests.
fn ids(next: &mut u64) -> impl FnMut() -> RequestId {
    move || {
        let id = RequestId(*next);
        *next += 1;
        id
    }
}

/// Tells what the client of a connection asks for.
fn asks(
    token: Token,
    requests: &mut IdMap<RequestId, Token>,
    events: &mut Vec<ServerEvent>,
) -> impl FnMut(RequestId, Request, bool) {
    move |request, asked, more| {
        requests.insert(request, token);
        events.push(ServerEvent::Asked { connection: token, request, asked, more });
    }
}
