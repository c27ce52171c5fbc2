//! The verbs of the seam between scheduler and store. The store carries them out in the order in which they were given and answers
//! in that order, each answer only after what it speaks of has been committed. Another engine may take the store's place behind them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use pool_proto::interface::{OnCrash, State};
use pool_proto::{Record, Refusal};

use crate::job::{
    CallbackId, JobId, Outcome, Position, Process, Ready, RequestId, Retries, StopReason, Tie, Work,
};

/// What the store is asked to do.
#[derive(Debug, PartialEq)]
pub enum StoreOp {
    /// Adds jobs with ids from `first` on, in order, and their callbacks with ids from `first_callback` on, all or none. Refused when one
    /// is tied to a job that there is not. One whose key a job has is not added, and its id stays unused, unless that job has ended
    /// without success and is of another round: then it loses the key.
    /// Answered by [`StoreAnswer::Inserted`] or [`StoreAnswer::Refused`].
    Insert {
        call: RequestId,
        first: JobId,
        first_callback: CallbackId,
        jobs: Vec<Arc<Work>>,
        submitted_us: i64,
    },
    /// Processes named from here on are of this boot of the machine.
    Booted { boot_id: String },
    /// An attempt runs; without a process, it was tried: its command could not be executed, or its worker died before it could tell.
    Start { id: JobId, attempt: u32, slot: u32, worker_pid: i32, process: Option<Process>, started_us: i64 },
    /// An attempt is about to run that must not run twice. Answered by [`StoreAnswer::Claimed`], before which it must not start.
    Claim { id: JobId, attempt: u32, slot: u32, worker_pid: i32, started_us: i64 },
    /// Out of the queue, until somebody releases or cancels it.
    Hold { id: JobId, crashes: u32, reason: String },
    /// Held jobs go back into the queue, their crashes forgiven. Answered by [`StoreAnswer::Released`].
    Release { call: RequestId, ids: Vec<JobId> },
    /// An attempt is being ended, and why; never with [`StopReason::Shutdown`].
    Stopping { id: JobId, reason: StopReason },
    /// An attempt could not be started for now. The job stays in the queue, as one in state `retrying`: it is fetched, counted, listed
    /// and restored like a queued one.
    Retrying { id: JobId, reason: String },
    /// Back into the queue, under its old id. `reason`: how the attempt died, where that is why.
    Requeue { id: JobId, crashes: u32, reason: Option<String> },
    /// An attempt has failed, and there is to be another from `due_us` on, in microseconds since 1970: until [`TakeDue`](Self::TakeDue) finds
    /// that it is due, the job is `retrying` and in no queue, but counted as queued. `retried`: failed attempts that were followed by another, this
    /// one included. `start`: of the attempt, where that has not been told before.
    AttemptFailed { id: JobId, retried: u32, reason: String, start: Option<Start>, due_us: i64 },
    /// Jobs whose next attempt is due by then are in their queues from now on; so many at most, the first ones.
    /// Answered by [`StoreAnswer::Due`].
    TakeDue { until_us: i64, limit: u32 },
    /// A final state, and with it the callbacks that match it become pending, the others skipped.
    /// Answered by [`StoreAnswer::Finished`].
    /// `start`: of its attempt, where that has not been told before.
    Finish { id: JobId, outcome: Box<Outcome>, start: Option<Start>, want_record: bool },
    /// The same for a job that the scheduler does not hold, provided that it is still queued.
    /// Answered by [`StoreAnswer::Finished`], or [`StoreAnswer::NotQueued`] when it is not, or not there.
    FinishQueued { id: JobId, outcome: Box<Outcome>, want_record: bool },
    /// The next queued jobs of a pool, by their places. Answered by [`StoreAnswer::Fetched`].
    Fetch { pool: Arc<str>, after: Option<Position>, limit: u32 },
    /// Records by id. Answered by [`StoreAnswer::Got`].
    Get { call: RequestId, ids: Vec<JobId> },
    /// One page of records. Answered by [`StoreAnswer::Listed`].
    List { call: RequestId, query: ListQuery },
    /// Marks a pending callback as running and counts the attempt. Answered by [`StoreAnswer::CallbackClaimed`].
    ClaimCallback { id: CallbackId },
    /// How an attempt of a callback ended.
    CallbackEnded { id: CallbackId, end: CallbackEnd, exit_code: Option<i32> },
    /// Ids below this one may have been given to jobs that the store has never heard of: no start gives them out again.
    /// Answered by [`StoreAnswer::IdsReserved`].
    ReserveIds { below: u64 },
    /// Keeps a pool that was added at run time, as it is to be found by the next start; without a value it is forgotten.
    /// Answered by [`StoreAnswer::PoolChanged`].
    SetPool { call: RequestId, name: String, value: Option<String> },
    /// Removes ended jobs beyond the limits, oldest first, at most `batch` of them. Answered by [`StoreAnswer::Pruned`].
    Prune { max_jobs: u64, ended_before_us: i64, max_output_bytes: u64, batch: u32 },
}

impl StoreOp {
    /// Whether it puts jobs into a queue that were in none, or may not have been.
    pub fn enters_queue(&self) -> bool {
        match self {
            Self::Requeue { .. } | Self::Retrying { .. } | Self::Release { .. } | Self::TakeDue { .. } => {
                true
            }
            Self::Insert { .. }
            | Self::Booted { .. }
            | Self::Start { .. }
            | Self::Claim { .. }
            | Self::Hold { .. }
            | Self::Stopping { .. }
            | Self::AttemptFailed { .. }
            | Self::Finish { .. }
            | Self::FinishQueued { .. }
            | Self::Fetch { .. }
            | Self::Get { .. }
            | Self::List { .. }
            | Self::ClaimCallback { .. }
            | Self::CallbackEnded { .. }
            | Self::ReserveIds { .. }
            | Self::SetPool { .. }
            | Self::Prune { .. } => false,
        }
    }
}

/// The start of a call, which is told together with its end where it is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub attempt: u32,
    pub slot: u32,
    pub worker_pid: i32,
    /// The program that was called.
    pub process: Option<Process>,
    pub started_us: i64,
}

/// What became of a callback's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackEnd {
    /// It has done its work.
    Delivered,
    /// It failed and is to be run again at `due_us`.
    Again { due_us: i64 },
    /// It failed for the last time.
    Failed,
}

/// Which records to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Any state when empty.
    pub states: Vec<State>,
    pub pool: Option<String>,
    pub after: Option<JobId>,
    pub limit: u32,
}

/// What the store answers.
#[derive(Debug, PartialEq)]
pub enum StoreAnswer {
    /// `untied`: those that are tied to a job which has ended already. `existing`: the places in `jobs`, in order, of those that were
    /// not added, and who had their keys.
    Inserted {
        call: RequestId,
        first: JobId,
        jobs: Vec<Arc<Work>>,
        untied: Vec<JobId>,
        existing: Vec<(usize, JobId)>,
    },
    /// Nothing of an [`StoreOp::Insert`] was stored; or what a [`StoreOp::Get`] or [`StoreOp::List`] asks for cannot be read.
    Refused {
        call: RequestId,
        refusal: Refusal,
    },
    Claimed {
        id: JobId,
        attempt: u32,
        worker_pid: i32,
    },
    Released {
        call: RequestId,
        jobs: Vec<Ready>,
    },
    /// `complete`: the pool's queue holds nothing beyond these.
    Fetched {
        pool: Arc<str>,
        jobs: Vec<Ready>,
        complete: bool,
    },
    /// `next_us`: when others are due.
    Due {
        jobs: Vec<Ready>,
        next_us: Option<i64>,
    },
    /// `callbacks`: those that are now pending, in order. `stdin`: the token of its spooled input, which nobody needs any more.
    Finished {
        id: JobId,
        record: Option<Box<Record>>,
        callbacks: Vec<CallbackId>,
        stdin: Option<String>,
    },
    NotQueued {
        id: JobId,
    },
    /// Records in the order of the ids asked for, and the ids that there are not.
    Got {
        call: RequestId,
        records: Vec<Record>,
        missing: Vec<JobId>,
    },
    /// `next`: where the listing goes on.
    Listed {
        call: RequestId,
        records: Vec<Record>,
        next: Option<JobId>,
    },
    CallbackClaimed(Box<CallbackRun>),
    IdsReserved {
        below: u64,
    },
    PoolChanged {
        call: RequestId,
    },
    /// Ids and attempts of the jobs and callbacks removed, whose output files can go; `more`: the limits are not met yet.
    Pruned {
        jobs: Vec<(JobId, u32)>,
        callbacks: Vec<(CallbackId, u32)>,
        more: bool,
    },
}

/// A callback ready to run.
#[derive(Debug, PartialEq)]
pub struct CallbackRun {
    pub id: CallbackId,
    /// Counted from 1, this one included.
    pub attempt: u32,
    pub command: String,
    /// The job that has ended: its work without callbacks, for cwd and environment, and its record.
    pub work: Arc<Work>,
    pub record: Box<Record>,
}

/// What a start finds in the store.
#[derive(Debug, Default, PartialEq)]
pub struct Restored {
    /// The first ids that were never given out.
    pub next_job: u64,
    pub next_callback: u64,
    /// Jobs queued, by pool; those that wait for their next attempt's time are among them.
    pub queued: BTreeMap<String, u64>,
    /// Jobs with an attempt that ended with the last daemon.
    pub interrupted: Vec<Interrupted>,
    /// The boot of the machine that the processes named are of.
    pub boot_id: Option<String>,
    /// What the last daemon's end is known to have been.
    pub last_end: LastEnd,
    pub held: Vec<JobId>,
    /// Jobs that have not ended and are tied to something.
    pub tied: Vec<Tied>,
    /// Callbacks not yet delivered, in the order in which their jobs ended.
    pub callbacks: Vec<PendingCallback>,
    /// When the first of the next attempts is due that wait for their time.
    pub next_due_us: Option<i64>,
    /// Tokens of the spooled inputs that some job needs.
    pub stdin: HashSet<String>,
    /// Pools that were added at run time: their values by name.
    pub pools: BTreeMap<String, String>,
}

/// A job with an attempt that ended with the last daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    pub id: JobId,
    pub pool: String,
    pub attempt: u32,
    pub crashes: u32,
    pub on_crash: OnCrash,
    pub retries: Retries,
    pub retried: u32,
    /// The worker that ran the attempt.
    pub worker_pid: Option<i32>,
    /// The attempt's first process.
    pub process: Option<Process>,
    /// It was being ended, for this reason.
    pub stopping: Option<StopReason>,
}

/// How the last daemon ended, where it left interrupted attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LastEnd {
    #[default]
    Unknown,
    /// In this boot of the machine.
    Died,
    /// With the machine.
    Rebooted,
}

/// A job that is tied to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tied {
    pub id: JobId,
    pub tie: Tie,
    /// It is tied to a job, and that has ended.
    pub untied: bool,
}

/// A callback not yet delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingCallback {
    pub id: CallbackId,
    /// Not before this time, in microseconds since 1970.
    pub due_us: i64,
}
