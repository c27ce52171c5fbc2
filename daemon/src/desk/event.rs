//! What the desk is told and what it has done: two closed enums of plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use pool_proto::Refusal;
use pool_proto::methods::{Reply, Request};
use pool_proto::nouns::{Condition, Happening, HappeningKind, Input, Tier};

use crate::core::{self, Fact, SlotId};
use crate::engine::{Answer, Change, Chore, Question};
use crate::job::{JobId, ProcessId, RequestId, UserId};
use crate::start::config::Config;

/// A client's connection; unique for the life of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub usize);

/// Something that has happened.
#[derive(Debug)]
pub enum Event {
    // ---- clients ----
    /// A client is there, and may ask for things.
    Connected {
        connection: ConnectionId,
        uid: UserId,
    },
    /// It asks for something. `more`: it takes any number of replies.
    Asked {
        connection: ConnectionId,
        request: RequestId,
        asked: Request,
        more: bool,
    },
    /// The client of a request that had not been replied to in full is gone.
    Disconnected {
        request: RequestId,
    },
    /// A connection is gone, and all of its requests before it.
    Closed {
        connection: ConnectionId,
    },
    /// The client has read all that was sent in reply to this request.
    Drained {
        request: RequestId,
    },
    /// The client of a request that is told more has much unread.
    Full {
        request: RequestId,
    },
    /// The client has left too much unread: what was to be told it was not sent.
    TooSlow {
        request: RequestId,
    },

    // ---- the core and the engine ----
    Fact(Fact),
    /// To a question, or to a change or chore that the desk has asked for; and every refusal.
    Answer(Answer),
    /// The engine cannot be written, and why; or can be again.
    Failing(Option<String>),

    // ---- what the shell was asked to do, or has noticed ----
    /// No file of that name could be opened for a request's standard input, and why, as a sentence.
    SpoolFailed {
        request: RequestId,
        token: String,
        reason: String,
    },
    /// The output of that attempt could not be opened for a request, and why, as a sentence.
    /// Clients cannot write to a job; `reason`: what it is like, as the end of a sentence.
    InputMissing {
        request: RequestId,
        id: JobId,
        reason: String,
    },
    OutputMissing {
        request: RequestId,
        id: JobId,
        attempt: u32,
        /// The client has named the attempt.
        named: bool,
        reason: String,
    },
    /// What the output of ended and of running jobs takes, in bytes.
    Measured {
        ended: u64,
        running: u64,
    },
    /// How the attempts of each pool are contained, and why no better.
    Contained(BTreeMap<String, (Tier, Option<String>)>),
    /// The time has come that the desk waits for.
    Tick,
    /// The wall's clock was set.
    ClockSet,
    /// The configuration file was read anew; or could not be, and why.
    Reread(Result<Box<Config>, String>),
    /// A slot has a worker or a program, or has lost it.
    Worker {
        kind: HappeningKind,
        slot: SlotId,
        pool: Option<Arc<str>>,
        pid: ProcessId,
        reason: Option<String>,
    },
    /// Somebody has done harm to a slot from outside, and what was done about it, as a sentence.
    Incident {
        slot: SlotId,
        pool: Option<Arc<str>>,
        what: String,
    },
}

/// Something to be done, in the order given.
#[derive(Debug)]
pub enum Effect {
    // ---- for clients ----
    /// `last`: nothing more follows to this request.
    Reply {
        request: RequestId,
        reply: Reply,
        last: bool,
    },
    Refuse {
        request: RequestId,
        refusal: Refusal,
    },
    /// To one who listens to events. Where he has more than [`MAX_UNREAD`](super::MAX_UNREAD) bytes unread
    /// this is not sent, and answered by [`Event::TooSlow`].
    Tell {
        request: RequestId,
        happening: Arc<Happening>,
    },
    /// The attempt has started: told with two descriptors for reading its output, or without where they
    /// cannot be opened.
    ReplyStarted {
        request: RequestId,
        id: JobId,
        attempt: u32,
    },
    /// Two descriptors for reading an attempt's output, as the last reply. `log`: of a call, which has
    /// standard error alone. Answered by [`Event::OutputMissing`] where they cannot be opened.
    ReplyOutput {
        request: RequestId,
        id: JobId,
        attempt: u32,
        /// The client has named the attempt.
        named: bool,
        log: bool,
        /// So many bytes have been written, where the attempt has ended.
        written: [Option<u64>; 2],
    },
    /// A descriptor for writing the standard input of an attempt, as the last reply. Answered by
    /// [`Event::InputMissing`] where it cannot be opened.
    ReplyInput {
        request: RequestId,
        id: JobId,
        attempt: u32,
        input: Input,
    },
    /// The condition, as the last reply, completed with what is stuck.
    ReplyCondition {
        request: RequestId,
        condition: Box<Condition>,
    },
    /// A descriptor for writing a standard input, as the last reply. Answered by [`Event::SpoolFailed`] where
    /// it cannot be opened.
    ReplySpooled {
        request: RequestId,
        token: String,
    },
    /// Have [`Event::Drained`] told, once.
    AwaitDrained {
        request: RequestId,
    },

    // ---- for the others ----
    /// For the core.
    Command(core::Event),
    Ask(Question),
    Change(Change),
    Chore(Chore),
    /// Nobody needs this spooled input.
    RemoveSpooled {
        token: String,
    },
    /// Measure what these running jobs have written, each with its latest attempt; answered by
    /// [`Event::Measured`].
    Measure {
        running: Vec<(JobId, u32)>,
    },
    /// Look now whether ended jobs are to go: output takes more room than it may.
    Prune,
    /// The configuration is this from now on.
    Configure(Box<Config>),
    /// The service manager is to know that the daemon is going to end: soon, or when all is done.
    Ending {
        soon: bool,
    },
}

impl Effect {
    /// The request that it replies to, where it does. What listeners are told is no reply.
    pub fn replies_to(&self) -> Option<RequestId> {
        match self {
            Self::Reply { request, .. }
            | Self::Refuse { request, .. }
            | Self::ReplyStarted { request, .. }
            | Self::ReplyOutput { request, .. }
            | Self::ReplyInput { request, .. }
            | Self::ReplyCondition { request, .. }
            | Self::ReplySpooled { request, .. }
            | Self::AwaitDrained { request } => Some(*request),
            Self::Tell { .. }
            | Self::Command(_)
            | Self::Ask(_)
            | Self::Change(_)
            | Self::Chore(_)
            | Self::RemoveSpooled { .. }
            | Self::Measure { .. }
            | Self::Prune
            | Self::Configure(_)
            | Self::Ending { .. } => None,
        }
    }
}
