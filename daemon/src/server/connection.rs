//! One client's connection: bytes in, requests out; replies in, bytes out.
//!
//! Requests on one connection are carried out as they come and replied to in their order: what belongs to a
//! later request is held back until the earlier ones are over. A request whose replies may be many or long
//! holds its connection: the next one is read when it is over. A client that does not read its replies, or
//! has too many requests under way, is not read from until that has changed, so it can hold up nobody but
//! itself.
//!
//! A large message is read elsewhere, and a large reply is written elsewhere ([`aside`](crate::aside)). A
//! connection whose message is being read is not read from, and what belongs behind a reply that is being
//! written is held back, so the order is the same.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use pool_proto::methods::Parsed;
use pool_proto::wire::frame::{Decoder, MAX_FRAME, encode};
use pool_proto::wire::message::ReplyEnvelope;
use pool_proto::{Refusal, Request};
use serde::Serialize;

use super::message::Message;
use super::outbox::Outbox;
use crate::aside::{LARGE, TURN};
use crate::job::RequestId;

/// Calls under way on one connection.
const MAX_REQUESTS: usize = 256;

/// With so many bytes unread by the client, no further requests are read.
const OUT_HIGH: usize = 256 * 1024;

/// Nor with so many descriptors, each of which is one of ours until it is read.
const MAX_DESCRIPTORS: usize = 16;

/// With so many, what is told by and by waits until the client has read it all.
const OUT_FULL: usize = 4 * 1024 * 1024;

/// Bytes of requests under way on one connection beyond which no further ones are read.
const MAX_UNDER_WAY: usize = 4 * 1024 * 1024;

/// A client that has read nothing of what it is owed for so long does not read.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Pending {
    id: RequestId,
    more: bool,
    oneway: bool,
    /// No further request is read before this one is over.
    holds: bool,
    /// Held back until the requests before it are over, and until the replies before it are written.
    replies: VecDeque<HeldReply>,
    done: bool,
    /// The length of its message.
    bytes: usize,
}

#[derive(Debug)]
struct HeldReply {
    /// None while it is being written.
    frame: Option<Vec<u8>>,
    /// Its length; while it is being written, an estimate.
    bytes: usize,
    descriptors: Vec<OwnedFd>,
}

impl HeldReply {
    fn new(frame: Vec<u8>, descriptors: Vec<OwnedFd>) -> Self {
        Self { bytes: frame.len(), frame: Some(frame), descriptors }
    }
}

/// What has become of a connection after it was read from.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing more to read for now.
    Idle,
    /// There may be more: other connections first.
    Unfinished,
    /// This message is to be read elsewhere, and handed to [`Connection::take_in`]. Until then nothing more
    /// is read.
    Large(Vec<u8>),
    /// The client is gone.
    Gone,
}

/// What has become of a connection after it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// The socket may take more: other connections first.
    pub has_more: bool,
    /// Reading, which had stopped for want of room, can go on.
    pub can_read: bool,
}

/// See the module's description.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    outbox: Outbox,
    requests: VecDeque<Pending>,
    /// The bytes of their messages, and of replies that are held back.
    under_way: usize,
    held_back: usize,
    /// The client has said all that it will say.
    read_closed: bool,
    /// Nothing is read any more; closed as soon as the outbox is empty.
    closing: bool,
    /// Reading stopped for want of room, with perhaps more to read.
    stalled: bool,
    /// A message is being read elsewhere; its length.
    being_read: Option<usize>,
    /// Nobody is at the other end any more. What the client has sent still counts.
    pub is_gone: bool,
    /// We are told when the socket takes more.
    watches_room: bool,
    backlog: Burden,
}

/// What is held in memory for a client: the beginning of a message, replies that it has not read.
#[derive(Debug, Clone, Copy, Default)]
struct Burden {
    bytes: usize,
    /// When it last had none, or finished a message.
    since: Option<Instant>,
}

impl Connection {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(MAX_FRAME),
            outbox: Outbox::default(),
            requests: VecDeque::new(),
            under_way: 0,
            held_back: 0,
            read_closed: false,
            closing: false,
            stalled: false,
            being_read: None,
            is_gone: false,
            watches_room: false,
            backlog: Burden::default(),
        }
    }

    pub fn stream_mut(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// The requests that have not been replied to in full.
    pub fn requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.requests.iter().map(|request| request.id)
    }

    /// Reads what there is by way of `buffer`, and passes each request to `on_request`; `next_id` names them.
    /// `is_open`: its client has not closed it, so that a read which does not fill the buffer was the last
    /// one, and what comes later is told.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        is_open: bool,
        mut next_id: impl FnMut() -> RequestId,
        mut on_request: impl FnMut(RequestId, Request, bool),
    ) -> Reading {
        self.stalled = false;
        let mut taken = 0;
        let mut is_drained = false;
        loop {
            while self.has_room()
                && let Some(bytes) = self.decoder.next_length()
            {
                self.backlog.since = None;
                if bytes > LARGE {
                    self.being_read = Some(bytes);
                    return self.decoder.take_frame().map_or(Reading::Idle, Reading::Large);
                }
                let Some(frame) = self.decoder.next_frame() else { break };
                let message = Message::read(frame);
                if !self.accept(message, bytes, &mut next_id, &mut on_request) {
                    return Reading::Idle;
                }
            }
            if self.closing || self.read_closed || is_drained && self.has_room() {
                return Reading::Idle;
            }
            if !self.has_room() {
                self.stalled = true;
                return Reading::Idle;
            }
            if taken >= TURN {
                return Reading::Unfinished;
            }
            match self.stream.read(buffer) {
                Ok(0) => self.read_closed = true,
                Ok(count) => {
                    taken += count;
                    is_drained = is_open && count < buffer.len();
                    if let Err(too_large) = self.decoder.extend(&buffer[..count]) {
                        self.refuse(&Refusal::FrameTooLarge { limit: too_large.limit });
                        return Reading::Idle;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Idle,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Reading::Gone,
            }
        }
    }

    /// Whether a message of its client's is being read elsewhere.
    pub fn is_being_read(&self) -> bool {
        self.being_read.is_some()
    }

    /// A large message has been read elsewhere.
    pub fn take_in(
        &mut self,
        message: Result<Message, Refusal>,
        mut next_id: impl FnMut() -> RequestId,
        mut on_request: impl FnMut(RequestId, Request, bool),
    ) {
        let bytes = self.being_read.take().unwrap_or(0);
        if !self.closing {
            self.accept(message, bytes, &mut next_id, &mut on_request);
        }
    }

    /// Takes a message in, which had so many bytes; false when the client cannot be understood.
    fn accept(
        &mut self,
        message: Result<Message, Refusal>,
        bytes: usize,
        next_id: &mut impl FnMut() -> RequestId,
        on_request: &mut impl FnMut(RequestId, Request, bool),
    ) -> bool {
        let Message { more, oneway, asked } = match message {
            Ok(message) => message,
            Err(refusal) => {
                self.refuse(&refusal);
                return false;
            }
        };
        let id = next_id();
        let mut pending =
            Pending { id, more, oneway, holds: false, replies: VecDeque::new(), done: false, bytes };
        self.under_way += bytes;
        let reply = match asked {
            Ok(Parsed::Request(request)) => {
                pending.holds = more || request.is_long();
                self.requests.push_back(pending);
                on_request(id, request, more);
                return true;
            }
            Ok(Parsed::Service(reply)) => {
                encode(&ReplyEnvelope { parameters: Some(reply), continues: false, error: None })
            }
            Err(refusal) => encode(&refusal),
        };
        if !oneway {
            self.held_back += reply.len();
            pending.replies.push_back(HeldReply::new(reply, Vec::new()));
        }
        pending.done = true;
        self.requests.push_back(pending);
        self.release();
        true
    }

    /// Replies to a request; `last`: nothing more follows.
    pub fn reply(
        &mut self,
        id: RequestId,
        parameters: &impl Serialize,
        descriptors: Vec<OwnedFd>,
        last: bool,
    ) {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else { return };
        request.done = last;
        if request.wants(last) {
            let frame =
                encode(&ReplyEnvelope { parameters: Some(parameters), continues: !last, error: None });
            self.held_back += frame.len();
            request.replies.push_back(HeldReply::new(frame, descriptors));
        }
        self.release();
    }

    /// A reply of about so many bytes is to be written elsewhere, and handed to [`written`](Self::written).
    /// False where nobody wants it. `last`: nothing more follows.
    pub fn reply_later(&mut self, id: RequestId, bytes: usize, last: bool) -> bool {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else { return false };
        request.done = last;
        let is_wanted = request.wants(last);
        if is_wanted {
            self.held_back += bytes;
            request.replies.push_back(HeldReply { frame: None, bytes, descriptors: Vec::new() });
        }
        self.release();
        is_wanted
    }

    /// The first reply to the request that was being written is there.
    pub fn written(&mut self, id: RequestId, frame: Vec<u8>) {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else { return };
        let Some(reply) = request.replies.iter_mut().find(|reply| reply.frame.is_none()) else { return };
        self.held_back = self.held_back - reply.bytes + frame.len();
        *reply = HeldReply::new(frame, Vec::new());
        self.release();
    }

    /// Replies with a named error, which is always the last.
    pub fn reply_refusal(&mut self, id: RequestId, refusal: &Refusal) {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else { return };
        if !request.oneway {
            let frame = encode(refusal);
            self.held_back += frame.len();
            request.replies.push_back(HeldReply::new(frame, Vec::new()));
        }
        request.done = true;
        self.release();
    }

    /// Tells the client, outside any request, why it is being dropped.
    pub fn refuse(&mut self, refusal: &Refusal) {
        self.outbox.push(encode(refusal), Vec::new());
        self.closing = true;
    }

    /// How many bytes are held for the client now, and how many were when this was last asked.
    pub fn recount(&mut self) -> (usize, usize) {
        let old = self.backlog.bytes;
        let bytes =
            self.decoder.pending() + self.being_read.unwrap_or(0) + self.outbox.len() + self.held_back;
        let since = (bytes > 0).then(|| self.backlog.since.unwrap_or_else(Instant::now));
        self.backlog = Burden { bytes, since };
        (bytes, old)
    }

    /// Whether the client reads, as far as is known: it has taken something of late, or is owed nothing.
    pub fn reads(&self, now: Instant) -> bool {
        self.decoder.pending() == 0
            && self.backlog.since.is_none_or(|since| now.saturating_duration_since(since) < PATIENCE)
    }

    /// How much of a burden the client is: the bytes held for it, times how long.
    pub fn burden(&self, now: Instant) -> u128 {
        let time = self.backlog.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.backlog.bytes as u128 * (time.as_micros() + 1)
    }

    /// Gives the client up, and what is held for it. False where it could not even be told why, since it does
    /// not read.
    pub fn give_up(&mut self, refusal: &Refusal) -> bool {
        self.decoder = Decoder::new(MAX_FRAME);
        let can_be_told = self.outbox.is_empty();
        self.refuse(refusal);
        can_be_told
    }

    /// Whether the request is the one whose replies go out now, all of them sent.
    pub fn is_drained_for(&self, id: RequestId) -> bool {
        let is_next = |request: &Pending| request.id == id && request.replies.is_empty();
        self.outbox.is_empty() && self.requests.front().is_some_and(is_next)
    }

    /// How many bytes the client has not taken yet.
    pub fn unread(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the client has much to read.
    pub fn is_full(&self) -> bool {
        self.outbox.len() + self.held_back >= OUT_FULL || self.outbox.descriptors() >= MAX_DESCRIPTORS
    }

    /// Sends what the socket takes, and no more than is one client's turn.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn flush(&mut self) -> io::Result<Flushed> {
        let before = self.outbox.len();
        let has_more = self.outbox.flush(self.stream.as_raw_fd(), TURN)?;
        if self.outbox.len() < before {
            self.backlog.since = None; // It reads.
        }
        Ok(Flushed { has_more, can_read: self.stalled && self.has_room() })
    }

    /// Has us told when the socket takes more, as long as something waits for that: otherwise whatever the
    /// client reads would wake us.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let wanted = !self.outbox.is_empty();
        if wanted != self.watches_room {
            let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(&mut self.stream, token, interest)?;
            self.watches_room = wanted;
        }
        Ok(())
    }

    /// Nothing more is to be expected from this client, and nothing owed to it.
    pub fn is_over(&self) -> bool {
        self.outbox.is_empty() && (self.closing || self.read_closed && self.requests.is_empty())
    }

    fn has_room(&self) -> bool {
        let is_held = self.requests.back().is_some_and(|request| request.holds);
        let has_unread = self.outbox.len() >= OUT_HIGH || self.outbox.descriptors() >= MAX_DESCRIPTORS;
        let has_much = self.requests.len() >= MAX_REQUESTS
            || self.under_way >= MAX_UNDER_WAY
            || self.held_back >= OUT_FULL;
        !self.closing && self.being_read.is_none() && !is_held && !has_unread && !has_much
    }

    /// Moves what may go out now into the outbox.
    fn release(&mut self) {
        while let Some(request) = self.requests.front_mut() {
            while let Some(reply) = request.replies.front_mut() {
                let Some(frame) = reply.frame.take() else { return };
                self.held_back -= reply.bytes;
                self.outbox.push(frame, std::mem::take(&mut reply.descriptors));
                request.replies.pop_front();
            }
            if !request.done {
                break;
            }
            self.under_way -= request.bytes;
            self.requests.pop_front();
        }
    }
}

impl Pending {
    /// A client that did not ask for more than one reply gets the last one.
    fn wants(&self, last: bool) -> bool {
        !self.oneway && (last || self.more)
    }
}
