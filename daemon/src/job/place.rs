//! Where a job is, as data: one noun for the core, for the engine that keeps the job, and for whoever
//! looks at it.
//!
//! ```text
//!            ┌───────────── its attempt is over ─────────────┐
//!            ▼                                               │
//!  Queued ── a slot takes it ──▶ Running ──▶ Stopping ───────┤
//!    ▲ │                            │                        │
//!    │ │                            └────────────────────────┼──▶ Ended, for good
//!    │ └── canceled ───────────────────────────────────────▶ │
//!    └── what it waits for has come ── Waiting(Until) ◀──────┘
//! ```

use std::time::Duration;

use pool_proto::nouns::{MemoryLimiter, State};

use super::{Outcome, Process, ProcessId, StopReason};

/// Where a job is.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In its pool's line, at its [`Position`](super::Position).
    Queued {
        /// An attempt could not be started for want of something, and is to be started again: clients see the
        /// state `retrying`.
        again: bool,
    },
    /// In no line, until something happens.
    Waiting(Until),
    /// A worker has its attempt, or is about to get it.
    Running(Start),
    /// It is an array that has begun: elements of it wait or run, or are still to be made. In no line.
    Begun,
    /// Its attempt is being ended, or it is an array whose elements are. Never with [`StopReason::Shutdown`]:
    /// that is the daemon's intent, not the job's fate.
    Stopping(StopReason),
    /// It is over. What has ended stays as it is.
    Ended(Box<Outcome>),
}

/// What a job or a callback waits for that is in no line. A scheduling feature that makes jobs wait is one
/// more of these, and the trigger that ends the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// This time, in microseconds since 1970: the next attempt after a failed one, of a job or of a callback.
    Time { due_us: i64 },
    /// This time, in microseconds since 1970: its first attempt does not begin before.
    Start { due_us: i64 },
    /// Somebody releases or cancels it.
    Person,
    /// Other jobs have ended, after which it was to run.
    Others,
    /// The job before it of the same unique name has ended.
    Predecessor,
}

/// What keeps a queued job from its line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Holdup {
    /// Nothing: it is in its line.
    #[default]
    None,
    /// See [`Until::Time`] and [`Until::Start`].
    Time,
    /// See [`Until::Others`].
    Others,
    /// See [`Until::Predecessor`].
    Predecessor,
}

impl Holdup {
    /// Each of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::None, Self::Time, Self::Others, Self::Predecessor];
}

impl Until {
    /// What keeps the job from its line; none where it is not queued meanwhile.
    pub fn holdup(self) -> Option<Holdup> {
        match self {
            Self::Time { .. } | Self::Start { .. } => Some(Holdup::Time),
            Self::Others => Some(Holdup::Others),
            Self::Predecessor => Some(Holdup::Predecessor),
            Self::Person => None,
        }
    }
}

/// What a job that has not begun still waits for. It waits for one thing after the other, in the order of the
/// members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unmet {
    /// Somebody releases it.
    pub hold: bool,
    /// So many other jobs end.
    pub others: u32,
    /// The job before it of its unique name ends.
    pub follows: bool,
    /// This time comes, in microseconds since 1970.
    pub start_us: Option<i64>,
}

impl Unmet {
    /// What it waits for now; none where it is in its line.
    pub fn first(self) -> Option<Until> {
        match self {
            Self { hold: true, .. } => Some(Until::Person),
            Self { others: 1.., .. } => Some(Until::Others),
            Self { follows: true, .. } => Some(Until::Predecessor),
            Self { start_us, .. } => start_us.map(|due_us| Until::Start { due_us }),
        }
    }

    /// Where it is.
    pub fn place(self) -> Place {
        self.first().map_or(Place::Queued { again: false }, Place::Waiting)
    }
}

/// A duration as it is written down, in microseconds; what does not fit is as good as for ever.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The start of an attempt: who runs it, where, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The slot's index in the job's pool.
    pub slot: u32,
    pub worker: ProcessId,
    /// The attempt's first process, or the resident program that was called. None where nobody could tell:
    /// the command could not be executed, or its worker died before it could say so.
    pub process: Option<Process>,
    /// What holds the attempt to its limit of memory, if it has one.
    pub memory_limiter: Option<MemoryLimiter>,
    /// In microseconds since 1970, and since the boot.
    pub started_us: i64,
    pub since_boot_us: i64,
}

impl Place {
    /// What keeps the job from its line, where it is queued.
    pub fn holdup(&self) -> Option<Holdup> {
        match self {
            Self::Queued { .. } => Some(Holdup::None),
            Self::Waiting(until) => until.holdup(),
            Self::Begun | Self::Running(_) | Self::Stopping(_) | Self::Ended(_) => None,
        }
    }

    /// The state that clients see.
    pub fn state(&self) -> State {
        match self {
            Self::Queued { again: false } | Self::Waiting(Until::Predecessor) => State::Queued,
            Self::Queued { again: true } | Self::Waiting(Until::Time { .. }) => State::Retrying,
            Self::Waiting(Until::Start { .. }) => State::Scheduled,
            Self::Waiting(Until::Others) => State::Blocked,
            Self::Waiting(Until::Person) => State::Held,
            Self::Begun | Self::Running(_) => State::Running,
            Self::Stopping(_) => State::Stopping,
            Self::Ended(outcome) => outcome.state,
        }
    }
}
