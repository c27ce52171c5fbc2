//! What the core is told, what it has done, and what it tells the desk: closed enums of plain data.
//!
//! Each machine has its own `Event` and `Effect`, and names the other's with its module (`desk::Event`): the
//! two machines are of one shape on purpose.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{CallProgress, MemoryLimiter};
use pool_proto::{Record, State};

use super::settings::Settings;
use crate::engine::{
    Answer, CallbackRun, CallbackWish, Change, Credit, Delivery, NotAssigned, NotEdited, NotRetried, Offer,
    Times, Turns,
};
use crate::job::{
    Answered, CallbackId, Capacity, Claim, Edit, Ended, Items, JobId, Needs, Pause, Position, Process,
    ProcessId, Program, Ready, RequestId, SpawnFailure, Steer, Term, Until, Work,
};

/// The time of an event, as the shell read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed moment, through suspends; never goes back. What waits or lasts is counted in it.
    pub monotonic: Duration,
    /// Microseconds since 1970; for the record only.
    pub wall_us: i64,
}

/// Where a worker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    pub lane: LaneId,
    pub index: u32,
}

/// A pool of jobs, or the lane of the callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneId {
    Pool(PoolId),
    Callbacks,
}

/// A pool, for as long as it is there; another pool, or the same one that has gone and come back, has another
/// id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u32);

/// Something that has happened.
#[derive(Debug)]
pub enum Event {
    // ---- the desk wants something ----
    /// A client submits jobs that have been checked.
    Submit {
        request: RequestId,
        jobs: Vec<Arc<Work>>,
    },
    /// The client of a submission is gone before it was told anything: jobs of it that are tied to their
    /// client are to end.
    Forsaken {
        request: RequestId,
    },
    /// The client of these jobs is gone: those that are tied to it are to end.
    ClientGone {
        ids: Vec<JobId>,
    },
    /// A client is back for these jobs, or takes the place of the one that they were tied to.
    Attended {
        ids: Vec<JobId>,
    },
    /// The job is to end, whatever its state; with `unstarted` only if no attempt runs.
    Cancel {
        id: JobId,
        unstarted: bool,
    },
    /// The jobs, each once, are to be held, those of which no attempt runs; answered by [`Fact::Withheld`],
    /// in parts.
    Hold {
        request: RequestId,
        ids: Vec<JobId>,
    },
    /// The jobs, each once, are to be of that pool, those of which no attempt runs; answered by
    /// [`Fact::Assigned`], in parts.
    Assign {
        request: RequestId,
        ids: Vec<JobId>,
        pool: Arc<str>,
        is_warm: bool,
    },
    /// The job, if no attempt of it runs, is to be another one; answered by [`Fact::Edited`].
    Edit {
        request: RequestId,
        id: JobId,
        edit: Arc<Edit>,
    },
    /// The jobs, each once, are to be run again, those that have ended; answered by [`Fact::Retried`], in
    /// parts.
    Retry {
        request: RequestId,
        ids: Vec<JobId>,
    },
    /// The pool is paused from now on, or without a pause it is not; answered by [`Fact::Settled`] if that is
    /// another one than before.
    SetPause {
        pool: Arc<str>,
        pause: Option<Pause>,
    },
    /// The pool takes no new jobs from now on, or without anybody takes them again; answered by
    /// [`Fact::Drained`] when it has worked off what it has.
    SetDraining {
        pool: Arc<str>,
        by: Option<Pause>,
    },
    /// So many jobs of that label run at a time from now on; without a limit, as the configuration says.
    SetLimit {
        label: Arc<str>,
        limit: Option<u32>,
    },
    /// What runs in that pool, which is paused, is frozen until the pool is resumed.
    FreezePool {
        pool: Arc<str>,
    },
    /// All that belongs to the attempt of a job stands still from now on, or goes on.
    SetFrozen {
        id: JobId,
        frozen: bool,
    },
    /// Each program of a warm pool is to be replaced by a new one; answered by [`Fact::Restarted`].
    Restart {
        request: RequestId,
        pool: Arc<str>,
    },
    /// A signal for the process group of a running job's first process.
    Signal {
        id: JobId,
        signal: i32,
    },
    /// What a client wants of the input of a running job.
    Steer {
        id: JobId,
        steer: Steer,
    },
    /// Accept nothing more, finish everything, then end.
    Drain,
    /// End soon; told a second time: at once.
    Stop,
    /// The configuration is this from now on.
    Configure(Settings),

    // ---- the engine has something to say ----
    Answer(Answer),
    /// Jobs that may be started, against the credit that was given. Without any where the core has asked and
    /// there are none.
    Offered {
        pool: Arc<str>,
        offers: Vec<Offer>,
    },
    /// All that is in the lines of a pool needs more than the pool has.
    BeyondCapacity {
        pool: Arc<str>,
    },
    /// Jobs in the lines of a pool need more than the pool has: what one of them needs; or none does any
    /// more.
    TooSmall {
        pool: Arc<str>,
        needs: Option<Needs>,
    },
    /// It cannot be written, or can be again.
    Failing(bool),

    // ---- a worker has something to say, or somebody has of it ----
    /// A slot has a worker.
    WorkerUp {
        slot: SlotId,
        pid: ProcessId,
    },
    /// A slot's worker could not be started, and why, as a sentence.
    WorkerFailed {
        slot: SlotId,
        reason: String,
    },
    /// A slot's worker, or its successor, is dead, but something that it ran may be left: nothing is to be
    /// handed to it. Its loss is told later.
    WorkerDying {
        slot: SlotId,
        pid: ProcessId,
    },
    /// A slot's worker is dead, and nothing that it ran is left. `unsent`: it never got the attempt that it
    /// was handed last.
    WorkerLost {
        slot: SlotId,
        pid: ProcessId,
        how: String,
        unsent: bool,
    },
    /// An attempt's command has been executed.
    Started {
        slot: SlotId,
        claim: Claim,
        process: Process,
        started_us: i64,
        memory_limiter: Option<MemoryLimiter>,
    },
    /// An attempt has done nothing for as long as its idle timeout.
    Idle {
        slot: SlotId,
        claim: Claim,
    },
    /// An attempt is over, and nothing of it is left.
    Ended {
        slot: SlotId,
        claim: Claim,
        ended: Ended,
    },
    /// A worker has not begun with the attempt that it had ahead, and does not have it any more.
    GivenBack {
        slot: SlotId,
        claim: Claim,
    },
    /// An attempt could not be started.
    SpawnFailed {
        slot: SlotId,
        claim: Claim,
        failure: SpawnFailure,
    },
    /// The worker that is to take the place of a slot's has been started.
    SuccessorUp {
        slot: SlotId,
        pid: ProcessId,
    },
    /// It could not be started, and why, as a sentence.
    SuccessorFailed {
        slot: SlotId,
        reason: String,
    },
    /// A resident program takes calls from now on; `worker`: the one that keeps it.
    ProgramReady {
        slot: SlotId,
        worker: ProcessId,
        process: Process,
    },
    /// A resident program has answered a call.
    Answered {
        slot: SlotId,
        claim: Claim,
        answered: Answered,
    },
    /// A resident program tells how far a call has come.
    Progressed {
        slot: SlotId,
        claim: Claim,
        progress: CallProgress,
    },
    /// A resident program has broken the protocol, and how, as a sentence; `during`: the call whose fault
    /// that may be.
    Misbehaved {
        slot: SlotId,
        worker: ProcessId,
        during: Option<Claim>,
        how: String,
    },

    /// The deadline given out has passed.
    Tick,
    /// The wall's clock was set.
    ClockSet,
}

/// Something to be done, in the order given.
#[derive(Debug, PartialEq)]
pub enum Effect {
    // ---- for the engine ----
    /// Keep these new jobs. Answered by [`Answer::Inserted`] or [`Answer::Refused`].
    Insert {
        request: RequestId,
        jobs: Vec<Arc<Work>>,
        times: Times,
        /// A slot is free for one of them.
        is_urgent: bool,
    },
    Change(Change),
    /// Tell which jobs have not ended, or not begun, and had until then at most: those after this time and
    /// job, so many at most. Answered by [`Answer::Overdue`].
    AskOverdue {
        term: Term,
        after: Option<(i64, JobId)>,
        until_us: i64,
        limit: u32,
    },
    /// Offer so much more of this pool; and beyond that any that goes before `ahead_of`, for which the
    /// last one is given back.
    Want {
        pool: Arc<str>,
        credit: Credit,
        ahead_of: Option<Position>,
    },
    /// So many more jobs of that label may start, in all pools; without a number any. Each pool may be
    /// offered that many besides what it has been offered before.
    SetRoom {
        label: Arc<str>,
        room: Option<u32>,
    },
    /// The pool has this from now on, for all its jobs together. As with [`SetRoom`](Self::SetRoom), the pool
    /// may be offered what there is room for besides what it has been offered before.
    SetCapacity {
        pool: Arc<str>,
        capacity: Capacity,
    },
    /// Offer what may be offered to this pool now. Answered by [`Event::Offered`], with nothing where that is
    /// nothing.
    AskOffers {
        pool: Arc<str>,
    },
    /// An offer that is not taken.
    GiveBack(Ready),

    // ---- for the workers ----
    /// Start a worker for the slot; answered by `WorkerUp` or `WorkerFailed`.
    SpawnWorker {
        slot: SlotId,
        seat: SeatOf,
    },
    /// Let the slot's worker go; answered by `WorkerLost`.
    RetireWorker {
        slot: SlotId,
    },
    /// Start a second worker for the slot, to take the first one's place; answered by `SuccessorUp` or
    /// `SuccessorFailed`.
    SpawnSuccessor {
        slot: SlotId,
        seat: SeatOf,
    },
    /// The successor is the slot's worker from now on. Its predecessor, if it lives, is to go.
    SwapWorker {
        slot: SlotId,
    },
    /// SIGKILL to the successor; answered by `WorkerLost`.
    KillSuccessor {
        slot: SlotId,
    },
    /// Start an attempt; `ahead`: when the one is over that the slot has. Such a one is given back where that
    /// takes its time; answered by `GivenBack`, unless it has begun.
    Run {
        slot: SlotId,
        claim: Claim,
        work: Arc<Work>,
        /// The items of resources that it has.
        items: Items,
        ahead: bool,
    },
    /// What the slot has ahead is to be given back.
    TakeBack {
        slot: SlotId,
        claim: Claim,
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
    /// What a client wants of the attempt's input.
    Steer {
        slot: SlotId,
        claim: Claim,
        steer: Steer,
    },
    /// All that belongs to the attempt stands still.
    Freeze {
        slot: SlotId,
        claim: Claim,
    },
    /// It goes on.
    Thaw {
        slot: SlotId,
        claim: Claim,
    },
    /// SIGTERM to every process of the attempt, which goes on if it is frozen.
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

    /// For the desk.
    Tell(Fact),
    /// All is done: end the daemon.
    Exit,
}

/// What a worker is started for.
#[derive(Debug, Clone, PartialEq)]
pub struct SeatOf {
    /// The pool's name; none in the lane of the callbacks.
    pub pool: Option<Arc<str>>,
    /// What the worker is to keep running, in a warm pool.
    pub program: Option<Arc<Program>>,
}

/// What has come about, for whoever wants to know.
#[derive(Debug, PartialEq)]
pub enum Fact {
    /// `jobs`, with ids from `first` on, are kept. In place of those at the places in `existing` there are
    /// other ones, which were before. `waiting`: those that are not in their lines, and for what they wait.
    /// Unless `is_synced`, nobody is told of them before [`Synced`](Self::Synced): a power cut may take them.
    Inserted {
        request: RequestId,
        first: JobId,
        jobs: Vec<Arc<Work>>,
        existing: Vec<(usize, JobId)>,
        turns: Turns,
        waiting: Vec<(JobId, Until)>,
        is_synced: bool,
    },
    /// The jobs of that submission are accepted: a power cut does not take them.
    Synced {
        request: RequestId,
    },
    /// They are not even tried to be kept. `jobs`: as they were submitted.
    Denied {
        request: RequestId,
        denial: Denial,
        jobs: Vec<Arc<Work>>,
    },
    /// The command of an attempt has been executed.
    Started {
        id: JobId,
        attempt: u32,
    },
    Progressed {
        id: JobId,
        attempt: u32,
        progress: CallProgress,
    },
    /// An end is kept. Without a record where none was wanted when the end was given to the engine.
    Ended {
        id: JobId,
        record: Option<Box<Record>>,
    },
    /// Elements of an array that were never made are over with it: those among these that have not ended
    /// otherwise.
    Dropped {
        ids: RangeInclusive<JobId>,
    },
    /// An array has elements that have not ended, and no slot has one or is about to: they may all be held.
    ArrayIdle {
        array: JobId,
    },
    /// The job that it waited for has ended: it is in its line.
    TurnCame {
        id: JobId,
        pool: Arc<str>,
        after: JobId,
    },
    /// A job that was to be ended has ended before, or does not exist.
    Lost {
        id: JobId,
    },
    /// Some of the jobs that a client wants held, each once in all facts of the request. `held`: those that
    /// are, with the pools of those that were not before; `others`: those that stay as they are, with their
    /// states; none where a job does not exist.
    Withheld {
        request: RequestId,
        held: Vec<(JobId, Option<Arc<str>>)>,
        others: Vec<(JobId, Option<State>)>,
    },
    /// Some of the jobs that a client wants in that pool, each once in all facts of the request. `jobs`:
    /// those that are, with the pools that they were in; `others`: those that stay as they are, and why.
    Assigned {
        request: RequestId,
        pool: Arc<str>,
        jobs: Vec<(JobId, Arc<str>)>,
        others: Vec<(JobId, NotAssigned)>,
    },
    /// The job is another one now, in that pool; or it stays as it is, and why.
    Edited {
        request: RequestId,
        id: JobId,
        edited: Result<Arc<str>, NotEdited>,
    },
    /// Some of the jobs that a client wants to be run again, each once in all facts of the request. `jobs`:
    /// those that are, with their pools; `others`: those that stay as they are, and why.
    Retried {
        request: RequestId,
        jobs: Vec<(JobId, Arc<str>)>,
        others: Vec<(JobId, NotRetried)>,
    },
    /// Held jobs are in their lines again.
    Released {
        request: RequestId,
        jobs: Vec<(JobId, Arc<str>)>,
    },
    /// What a client wants of callbacks is kept: see [`Answer::CallbacksAltered`].
    CallbacksAltered {
        request: RequestId,
        wish: CallbackWish,
        ids: Vec<CallbackId>,
        others: Vec<(CallbackId, Option<Delivery>)>,
    },
    /// A pool starts nothing of what is queued in it: see [`Core::stall_of`](super::Core::stall_of).
    Stalled {
        pool: Arc<str>,
    },
    /// What the pause of a pool, or its end, has brought about has come true: see
    /// [`Core::is_settled`](super::Core::is_settled).
    Settled {
        pool: Arc<str>,
    },
    /// A pool that takes no new jobs has nothing to do any more.
    Drained {
        pool: Arc<str>,
    },
    /// All programs of a pool are new ones; or, as an error, what became of one that could not be started.
    Restarted {
        request: RequestId,
        result: Result<(), String>,
    },
    /// Everything is over: whoever still waits does so in vain.
    Exiting,
}

/// Why jobs are not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The daemon is about to end.
    Draining,
    /// Somebody drains the pool.
    PoolDraining { pool: Arc<str> },
    /// The pool has gone since the jobs were checked.
    PoolGone { pool: Arc<str> },
    /// So many are queued in the pool already.
    QueueFull { pool: Arc<str>, limit: u64 },
}
