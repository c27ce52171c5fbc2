//! What the scheduler is told and what it has done: two closed enums of plain data.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::interface::{Brief, CallProgress, OnDisconnect};
use pool_proto::{Record, Refusal};

use super::store_op::{CallbackRun, StoreAnswer, StoreOp};
use super::waiters::Watch;
use crate::job::{Answer, Claim, Ended, JobId, Process, Program, RequestId, SpawnFailure, Work};

/// The time of an event, as the shell read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed moment; never goes back. Deadlines are counted in it.
    pub monotonic: Duration,
    /// Microseconds since 1970; for the record only.
    pub wall_us: i64,
}

impl Now {
    /// The time after so long, in microseconds since 1970; the last there is where that is too long.
    pub fn wall_us_after(&self, wait: Duration) -> i64 {
        self.wall_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))
    }

    /// How long it is until that time, in microseconds since 1970; nothing once it has passed.
    pub fn until(&self, wall_us: i64) -> Duration {
        Duration::from_micros(wall_us.saturating_sub(self.wall_us).max(0).unsigned_abs())
    }
}

/// Where a worker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    pub lane: LaneId,
    pub index: u32,
}

/// A pool of jobs, by its place in the configuration, or the lane of the callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneId {
    Pool(usize),
    Callbacks,
}

/// A pool as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    pub name: Arc<str>,
    pub workers: u32,
    /// What its workers keep running, in a warm pool.
    pub program: Option<Arc<Program>>,
}

/// What the scheduler needs to know of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The default pool first.
    pub pools: Vec<PoolSettings>,
    pub callbacks: CallbackSettings,
    /// Attempts that may die with their worker or daemon before the job is given up.
    pub crash_limit: u32,
    /// From SIGTERM to SIGKILL at most, when the daemon ends.
    pub stop_grace: Duration,
    /// Jobs that may be queued in one pool.
    pub max_queued: u64,
}

/// How callbacks are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallbackSettings {
    /// With one, callbacks run in the order in which their jobs ended.
    pub workers: u32,
    /// Attempts before a callback is given up.
    pub attempts: u32,
    /// From a failed attempt to the next; doubled each time.
    pub backoff: Duration,
    /// After so long an attempt is ended and counts as failed.
    pub timeout: Duration,
}

/// Something that has happened.
#[derive(Debug)]
pub enum Event {
    /// A client submits jobs that have been checked. `attached`: it waits for the end of the one job, and this is what becomes of
    /// the job should the client go.
    Submit { call: RequestId, jobs: Vec<Arc<Work>>, attached: Option<OnDisconnect> },
    /// A client submits jobs that have been checked, and wants to hear of all their ends, in few words.
    SubmitBatch { call: RequestId, jobs: Vec<Arc<Work>> },
    /// A client waits for jobs. `attached`: it is the client that those tied to their client are tied to.
    Wait { call: RequestId, ids: Vec<JobId>, any: bool, watch: Watch, attached: bool },
    /// A client wants jobs ended and waits for that.
    Cancel { call: RequestId, ids: Vec<JobId> },
    /// A client sends a signal to a running job.
    Signal { call: RequestId, id: JobId, signal: i32 },
    /// A client wants held jobs queued again, all or none.
    Release { call: RequestId, ids: Vec<JobId> },
    /// The client of that call is gone.
    Disconnected { call: RequestId },
    /// Accept nothing more, finish everything, then end.
    Drain,
    /// End soon; told a second time: at once.
    Stop,
    /// The configuration has been read anew.
    Configure(Settings),
    /// The store has answered.
    Store(StoreAnswer),
    /// The store cannot be written, or can be again.
    StoreFailing(bool),
    /// A slot has a worker.
    WorkerUp { slot: SlotId, pid: i32 },
    /// A slot's worker could not be started, and why, as a sentence.
    WorkerFailed { slot: SlotId, reason: String },
    /// A slot's worker is dead, and nothing that it ran is left. `unsent`: it never got the attempt that it was handed last.
    WorkerLost { slot: SlotId, pid: i32, how: String, unsent: bool },
    /// An attempt's command has been executed.
    Started { slot: SlotId, claim: Claim, process: Process, started_us: i64 },
    /// An attempt is over, and nothing of it is left.
    Ended { slot: SlotId, claim: Claim, ended: Ended },
    /// An attempt could not be started.
    SpawnFailed { slot: SlotId, claim: Claim, failure: SpawnFailure },
    /// The worker that is to take the place of a slot's has been started.
    SuccessorUp { slot: SlotId, pid: i32 },
    /// It could not be started, and why, as a sentence.
    SuccessorFailed { slot: SlotId, reason: String },
    /// A resident program takes calls from now on; `worker`: the pid of the one that keeps it.
    ProgramReady { slot: SlotId, worker: i32, process: Process },
    /// A resident program has answered a call.
    Answered { slot: SlotId, claim: Claim, answer: Answer },
    /// A resident program tells how far a call has come.
    Progressed { slot: SlotId, claim: Claim, progress: CallProgress },
    /// A resident program has broken the protocol, and how, as a sentence; `during`: the call whose fault that may be.
    Misbehaved { slot: SlotId, worker: i32, during: Option<Claim>, how: String },
    /// The deadline given out has passed.
    Tick,
}

/// Something to be done, in the order given.
#[derive(Debug, PartialEq)]
pub enum Effect {
    Store(StoreOp),
    /// Start a worker for the slot; answered by `WorkerUp` or `WorkerFailed`.
    SpawnWorker {
        slot: SlotId,
    },
    /// Let the slot's worker go; answered by `WorkerLost`.
    RetireWorker {
        slot: SlotId,
    },
    /// Start a second worker for the slot, to take the first one's place; answered by `SuccessorUp` or `SuccessorFailed`.
    SpawnSuccessor {
        slot: SlotId,
    },
    /// The successor is the slot's worker from now on. Its predecessor, if it lives, is to go.
    SwapWorker {
        slot: SlotId,
    },
    /// SIGKILL to the successor; answered by `WorkerLost`.
    KillSuccessor {
        slot: SlotId,
    },
    Run {
        slot: SlotId,
        claim: Claim,
        work: Arc<Work>,
    },
    RunCallback {
        slot: SlotId,
        run: Box<CallbackRun>,
    },
    /// To the process group of the attempt's first process.
    Signal {
        slot: SlotId,
        claim: Claim,
        signal: i32,
    },
    /// SIGTERM to every process of the attempt.
    Terminate {
        slot: SlotId,
        claim: Claim,
    },
    /// SIGKILL to every process of the attempt.
    Kill {
        slot: SlotId,
        claim: Claim,
    },
    /// SIGKILL to the slot's worker, which does not do as it is told; answered by `WorkerLost`.
    KillWorker {
        slot: SlotId,
    },
    /// `last`: nothing more follows to this call.
    Reply {
        call: RequestId,
        reply: Reply,
        last: bool,
    },
    /// All is done: end the daemon.
    Exit,
}

/// What a client is told.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// `count` jobs from `first` on are on disk; in place of those at the places in `existing` there are other ones, which were before.
    Accepted {
        first: JobId,
        count: usize,
        existing: Vec<(usize, JobId)>,
    },
    Started {
        id: JobId,
        attempt: u32,
    },
    Progress {
        id: JobId,
        progress: CallProgress,
    },
    Ended(Box<Record>),
    /// The end of one job of a batch.
    Brief(Box<Brief>),
    Canceled(Vec<Record>),
    Done,
    Refused(Refusal),
}
