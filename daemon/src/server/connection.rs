//! One client's connection: bytes in, requests out; replies in, bytes out.
//!
//! Requests on one connection are carried out as they come and replied to in their order: what belongs to a
//! later request is held back until the earlier ones are over. A request whose replies may be many or long
//! holds its connection: the next one is read when it is over. A client that does not read its replies, or
//! has too many requests under way, is not read from until that has changed, so it can hold up nobody but
//! itself.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use pool_proto::methods::{Parsed, parse};
use pool_proto::wire::frame::{Decoder, MAX_FRAME, encode};
use pool_proto::wire::message::{ReplyEnvelope, RequestEnvelope};
use pool_proto::{Refusal, Request};
use serde::Serialize;
use serde_json::value::RawValue;

use super::outbox::Outbox;
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

/// Bytes read from one connection before the others get their turn.
const TURN: usize = 1024 * 1024;

#[derive(Debug)]
struct Pending {
    id: RequestId,
    more: bool,
    oneway: bool,
    /// No further request is read before this one is over.
    holds: bool,
    /// Held back until the requests before it are over.
    replies: Vec<(Vec<u8>, Vec<OwnedFd>)>,
    done: bool,
    /// The length of its message.
    bytes: usize,
}

/// What has become of a connection after it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing more to read for now.
    Idle,
    /// There may be more: other connections first.
    Unfinished,
    /// The client is gone.
    Gone,
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
                && let Some(frame) = self.decoder.next_frame()
            {
                self.backlog.since = None;
                let envelope = serde_json::from_slice::<RequestEnvelope<&RawValue>>(frame);
                let bytes = frame.len();
                match envelope {
                    Ok(envelope) => {
                        self.under_way += bytes;
                        accept(&envelope, bytes, &mut self.requests, &mut next_id, &mut on_request);
                        let replies = self.requests.back().into_iter().flat_map(|request| &request.replies);
                        self.held_back += replies.map(|(frame, _)| frame.len()).sum::<usize>();
                    }
                    Err(error) => {
                        self.refuse(&Refusal::InvalidMessage { reason: error.to_string() });
                        return Reading::Idle;
                    }
                }
                self.release();
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

    /// Replies to a request; `last`: nothing more follows.
    pub fn reply(
        &mut self,
        id: RequestId,
        parameters: &impl Serialize,
        descriptors: Vec<OwnedFd>,
        last: bool,
    ) {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else { return };
        // A client that did not ask for more than one reply gets the last one.
        let wanted = !request.oneway && (last || request.more);
        if wanted {
            let frame =
                encode(&ReplyEnvelope { parameters: Some(parameters), continues: !last, error: None });
            self.held_back += frame.len();
            request.replies.push((frame, descriptors));
        }
        request.done = last;
        self.release();
    }

    /// Replies with a named error, which is always the last.
    pub fn reply_refusal(&mut self, id: RequestId, refusal: &Refusal) {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else { return };
        if !request.oneway {
            let frame = encode(refusal);
            self.held_back += frame.len();
            request.replies.push((frame, Vec::new()));
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
        let bytes = self.decoder.pending() + self.outbox.len() + self.held_back;
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
        self.outbox.is_empty() && self.requests.front().is_some_and(|request| request.id == id)
    }

    /// How many bytes the client has not taken yet.
    pub fn unread(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the client has much to read.
    pub fn is_full(&self) -> bool {
        self.outbox.len() + self.held_back >= OUT_FULL || self.outbox.descriptors() >= MAX_DESCRIPTORS
    }

    /// Sends what the socket takes; true when reading, which had stopped for want of room, can go on.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        let before = self.outbox.len();
        self.outbox.flush(self.stream.as_raw_fd())?;
        if self.outbox.len() < before {
            self.backlog.since = None; // It reads.
        }
        Ok(self.stalled && self.has_room())
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
        !self.closing && !is_held && !has_unread && !has_much
    }

    /// Moves what may go out now into the outbox.
    fn release(&mut self) {
        while let Some(request) = self.requests.front_mut() {
            for (frame, descriptors) in request.replies.drain(..) {
                self.held_back -= frame.len();
                self.outbox.push(frame, descriptors);
            }
            if !request.done {
                break;
            }
            self.under_way -= request.bytes;
            self.requests.pop_front();
        }
    }
}

fn accept(
    envelope: &RequestEnvelope<&RawValue>,
    bytes: usize,
    requests: &mut VecDeque<Pending>,
    next_id: &mut impl FnMut() -> RequestId,
    on_request: &mut impl FnMut(RequestId, Request, bool),
) {
    let id = next_id();
    let mut pending = Pending {
        id,
        more: envelope.more,
        oneway: envelope.oneway,
        holds: false,
        replies: Vec::new(),
        done: false,
        bytes,
    };
    match parse(envelope) {
        Ok(Parsed::Request(request)) => {
            pending.holds = envelope.more || request.is_long();
            requests.push_back(pending);
            return on_request(id, request, envelope.more);
        }
        Ok(Parsed::Service(reply)) => {
            pending.replies.push((
                encode(&ReplyEnvelope { parameters: Some(reply), continues: false, error: None }),
                Vec::new(),
            ));
        }
        Err(refusal) => pending.replies.push((encode(&refusal), Vec::new())),
    }
    if pending.oneway {
        pending.replies.clear();
    }
    pending.done = true;
    requests.push_back(pending);
}
