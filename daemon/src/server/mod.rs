//! The clients: accepts connections on the socket, reads calls, sends replies. What a call means is decided elsewhere; what a call is,
//! how it is framed, and that no client can hold up another, is decided here.

mod connection;
mod outbox;
mod request;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use mio::net::UnixListener;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use pool_proto::Refusal;
use serde::Serialize;

use crate::job::{IdMap, IdSet, RequestId};
use connection::{Connection, Progress};
pub use request::{Parsed, Request, parse};

/// Tokens of connections begin here; smaller ones are free for others.
pub const FIRST_TOKEN: usize = 1 << 32;

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Bytes that are held in all for clients that do not finish their messages or do not read their replies.
const MAX_BACKLOG: usize = 256 * 1024 * 1024;

/// What clients want.
#[derive(Debug)]
pub enum ServerEvent {
    Request {
        connection: Token,
        call: RequestId,
        request: Request,
    },
    /// The client of a call that had not been replied to in full is gone.
    Disconnected {
        call: RequestId,
    },
    /// A connection is gone, and with it what was bound to it.
    Closed {
        connection: Token,
    },
    /// The client has read all that was sent in reply to this call: a listing may go on.
    Drained {
        call: RequestId,
    },
}

/// All connections.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    registry: Registry,
    connections: IdMap<Token, Connection>,
    calls: IdMap<RequestId, Token>,
    next_token: usize,
    next_call: u64,
    max_clients: usize,
    owner: u32,
    /// Connections with more to read than their turn allowed, and those with something to send.
    unfinished: Vec<Token>,
    dirty: IdSet<Token>,
    /// Calls that wait for their replies to be read before they go on.
    streaming: IdSet<RequestId>,
    /// Accepting stopped for want of descriptors.
    accept_stalled: bool,
    backlog: usize,
    /// What clients say is read into this.
    buffer: Box<[u8]>,
}

impl Server {
    /// Serves the listener, which is registered under `token`.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(
        mut listener: UnixListener,
        token: Token,
        registry: &Registry,
        max_clients: usize,
    ) -> io::Result<Self> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self {
            listener,
            registry: registry.try_clone()?,
            connections: IdMap::default(),
            calls: IdMap::default(),
            next_token: FIRST_TOKEN,
            next_call: 1,
            max_clients,
            owner: geteuid().as_raw(),
            unfinished: Vec::new(),
            dirty: IdSet::default(),
            streaming: IdSet::default(),
            accept_stalled: false,
            backlog: 0,
            buffer: vec![0; READ].into_boxed_slice(),
        })
    }

    /// How many are connected.
    pub fn clients(&self) -> usize {
        self.connections.len()
    }

    pub fn set_max_clients(&mut self, max_clients: usize) {
        self.max_clients = max_clients;
    }

    /// Takes in all clients that wait. They are read from when they are found ready, after those that were so before: what somebody has sent
    /// over one connection is not overtaken by what he sends over a second one.
    pub fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(Connection::new(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    // They stay in the listener's queue; the next connection that closes makes room.
                    tracing::warn!(%error, clients = self.connections.len(), "cannot accept a client for now");
                    self.accept_stalled = true;
                    return;
                }
            }
        }
    }

    /// Whether clients wait that could not be accepted.
    pub fn is_accept_stalled(&self) -> bool {
        self.accept_stalled
    }

    /// Tries it once more, if clients wait that could not be accepted.
    pub fn accept_again(&mut self) {
        if std::mem::take(&mut self.accept_stalled) {
            self.accept();
        }
    }

    fn add(&mut self, mut connection: Connection) {
        let token = Token(self.next_token);
        if let Err(error) = self.registry.register(connection.stream_mut(), token, Interest::READABLE) {
            tracing::warn!(%error, "cannot serve a client");
            return;
        }
        self.next_token += 1;
        if let Some(refusal) = self.unwelcome(&mut connection) {
            connection.refuse(&refusal);
        }
        self.connections.insert(token, connection);
        self.dirty.insert(token);
    }

    fn unwelcome(&self, connection: &mut Connection) -> Option<Refusal> {
        let owner = self.owner;
        match getsockopt(connection.stream_mut(), PeerCredentials) {
            Ok(peer) if peer.uid() != owner => Some(Refusal::NotOwner { uid: peer.uid(), owner }),
            Err(_) => Some(Refusal::NotOwner { uid: u32::MAX, owner }),
            Ok(_) if self.connections.len() >= self.max_clients => {
                Some(Refusal::TooManyClients { limit: self.max_clients })
            }
            Ok(_) => None,
        }
    }

    /// A connection is ready for something.
    pub fn on_ready(&mut self, token: Token, readable: bool, hung_up: bool, events: &mut Vec<ServerEvent>) {
        self.dirty.insert(token);
        if readable {
            self.read(token, events);
        }
        if hung_up {
            self.close(token, events);
        }
    }

    fn read(&mut self, token: Token, events: &mut Vec<ServerEvent>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let (calls, next_call) = (&mut self.calls, &mut self.next_call);
        let next_id = || {
            let id = RequestId(*next_call);
            *next_call += 1;
            id
        };
        let progress = connection.read(&mut self.buffer, next_id, |call, request| {
            calls.insert(call, token);
            events.push(ServerEvent::Request { connection: token, call, request });
        });
        self.dirty.insert(token);
        match progress {
            Progress::Idle => {}
            Progress::Unfinished => self.unfinished.push(token),
            Progress::Gone => return self.close(token, events),
        }
        self.recount(token, events);
    }

    /// Where too much is held for clients, the greatest burdens go.
    fn recount(&mut self, token: Token, events: &mut Vec<ServerEvent>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let (new, old) = connection.recount();
        self.backlog = self.backlog + new - old;
        while self.backlog > MAX_BACKLOG {
            let now = Instant::now();
            let burdens = self.connections.iter().map(|(&token, connection)| (connection.burden(now), token));
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

    /// Whether there is more to read without waiting.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Goes on with connections that have had their turn.
    pub fn read_unfinished(&mut self, events: &mut Vec<ServerEvent>) {
        for token in std::mem::take(&mut self.unfinished) {
            self.read(token, events);
        }
    }

    /// Replies to a call; `last`: nothing more follows to it. A client that has gone is no error.
    pub fn reply(
        &mut self,
        call: RequestId,
        parameters: &impl Serialize,
        descriptors: Vec<OwnedFd>,
        last: bool,
    ) {
        if let Some(connection) = self.connection_of(call, last) {
            connection.reply(call, parameters, descriptors, last);
        }
    }

    /// Replies to a call with a named error.
    pub fn refuse(&mut self, call: RequestId, refusal: &Refusal) {
        if let Some(connection) = self.connection_of(call, true) {
            connection.reply_refusal(call, refusal);
        }
    }

    /// Whether the call wants any number of replies.
    pub fn wants_more(&self, call: RequestId) -> bool {
        let connection = self.calls.get(&call).and_then(|token| self.connections.get(token));
        connection.is_some_and(|connection| connection.wants_more(call))
    }

    /// How many bytes the client of this call has not taken yet.
    pub fn unread(&self, call: RequestId) -> usize {
        self.calls.get(&call).and_then(|token| self.connections.get(token)).map_or(0, Connection::unread)
    }

    /// Asks for [`ServerEvent::Drained`], once.
    pub fn notify_drained(&mut self, call: RequestId) {
        self.streaming.insert(call);
        self.dirty.extend(self.calls.get(&call));
    }

    fn connection_of(&mut self, call: RequestId, last: bool) -> Option<&mut Connection> {
        let token = *self.calls.get(&call)?;
        if last {
            self.calls.remove(&call);
        }
        self.dirty.insert(token);
        self.connections.get_mut(&token)
    }

    /// Sends what the sockets take.
    pub fn flush(&mut self, events: &mut Vec<ServerEvent>) {
        for token in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            match connection.flush() {
                Ok(_) if connection.is_over() => self.close(token, events),
                Ok(_) if connection.watch(&self.registry, token).is_err() => self.close(token, events),
                Ok(resume) => {
                    let drained = connection.calls().filter(|call| self.streaming.contains(call));
                    let drained: Vec<RequestId> =
                        drained.filter(|&call| connection.is_drained_for(call)).collect();
                    for call in drained {
                        self.streaming.remove(&call);
                        events.push(ServerEvent::Drained { call });
                    }
                    if resume {
                        self.unfinished.push(token);
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
        for call in connection.calls() {
            self.streaming.remove(&call);
            if self.calls.remove(&call).is_some() {
                events.push(ServerEvent::Disconnected { call });
            }
        }
        events.push(ServerEvent::Closed { connection: token });
        let (_, counted) = connection.recount();
        self.backlog -= counted;
        drop(connection);
        self.accept_again();
    }
}
