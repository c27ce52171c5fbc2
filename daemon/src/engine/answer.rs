//! What an engine answers, and what a start finds in it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{OnCrash, State};
use pool_proto::{OsText, Record, Refusal};

use super::Boot;
use crate::job::{
    After, CallbackId, Holdup, JobId, KeptSchedule, Labels, LineKey, Pause, Position, Process, ProcessId,
    Queued, Ready, RequestId, Retries, StopReason, Term, Tie, Tries, Until, Work, micros,
};

/// What has become of an order; each comes only after what it speaks of is as durable as was promised, but
/// for an insertion that is written and not synced.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// `existing`: the places in `jobs`, in order, of those that were not added, and which jobs hold their keys
    /// or unique names. `is_synced`: they are as durable as was promised. Otherwise the death of poold does
    /// not take them, but a power cut may: they may be started, and nobody is told of them before
    /// [`Synced`](Self::Synced) follows. Only an [urgent](super::Insertion::is_urgent) insertion is answered
    /// so.
    Inserted {
        request: RequestId,
        first: JobId,
        jobs: Vec<Arc<Work>>,
        existing: Vec<(usize, JobId)>,
        turns: Turns,
        conditions: Conditional,
        is_synced: bool,
    },
    /// The jobs of an insertion, which was answered when it was written, are as durable as was promised.
    Synced {
        request: RequestId,
    },
    /// Nothing of a request's change was made, or what it asks for cannot be read.
    Refused {
        request: RequestId,
        refusal: Refusal,
    },
    /// The start of an attempt that was to be confirmed is on disk. `worker`: the one that was to run it. An
    /// attempt that its worker never got is begun again under the same number by another, whose start is not
    /// on disk yet.
    Placed {
        id: JobId,
        attempt: u32,
        worker: ProcessId,
    },
    /// The fence of a move did not hold: the job has ended, or belongs to another attempt, or does not exist.
    /// Nothing was changed.
    Lost {
        id: JobId,
    },
    /// A job has ended. `callbacks`: those that are pending now, in order. `dequeued`: under
    /// [`Fence::Idle`](super::Fence::Idle), where it was queued. `stdin`: the token of its spooled input,
    /// which nobody needs any more. `next`: the next job of its unique name, and what that waits for now.
    /// `has_dependents`: jobs were to run after it, which [`Change::Resolve`](super::Change::Resolve) sees
    /// to.
    Ended {
        id: JobId,
        record: Option<Box<Record>>,
        callbacks: Vec<CallbackId>,
        dequeued: Option<Dequeued>,
        stdin: Option<String>,
        next: Option<(Ready, Option<Until>)>,
        has_dependents: bool,
    },
    /// `held`: those that wait for a person now, each with where it was queued, unless it has waited so
    /// before. `others`: those that are as they were, each with its state; none where it does not exist.
    Withheld {
        request: RequestId,
        held: Vec<(JobId, Option<Dequeued>)>,
        others: Vec<(JobId, Option<State>)>,
    },
    /// `jobs`: those that are of that pool now. `unfit`: those that it cannot run, which are where they were.
    /// `others`: those that could not be moved, and why.
    Assigned {
        request: RequestId,
        pool: Arc<str>,
        jobs: Vec<Assigned>,
        unfit: Vec<(Assigned, NotAssigned)>,
        others: Vec<(JobId, NotAssigned)>,
    },
    /// `jobs`: those that have begun a new round. `failed`: of these, those that were to run after a job
    /// which has ended in another way, each with that one. `others`: those that are as they were, and why.
    Retried {
        request: RequestId,
        jobs: Vec<Retried>,
        failed: Vec<(JobId, JobId)>,
        others: Vec<(JobId, NotRetried)>,
    },
    /// `jobs`, `callbacks`: those that are gone, each with its attempts, whose output files can go. `others`:
    /// those that are as they were, and why.
    Removed {
        request: RequestId,
        jobs: Vec<(JobId, u32)>,
        callbacks: Vec<(CallbackId, u32)>,
        others: Vec<(JobId, NotRemoved)>,
    },
    /// They are in their lines, each in its old place, and are read in their turn: there may be any number.
    Released {
        request: RequestId,
        jobs: Vec<Released>,
    },
    /// Jobs that have waited for the ends of others wait for these no more. `failed`: those whose other job,
    /// named beside them, has not ended as it was to. `more`: not all have been looked at.
    Resolved {
        jobs: Vec<Released>,
        failed: Vec<(JobId, JobId)>,
        more: bool,
    },
    /// In their lines, or pending, again. `next_us`: when others are due.
    Woken {
        jobs: Vec<Ready>,
        callbacks: Vec<CallbackId>,
        next_us: Option<i64>,
    },
    /// `next_us`: when the first of those is due that wait for a time.
    ClockSet {
        next_us: Option<i64>,
    },
    /// Jobs whose time is over, in its order. `last`: where the next look goes on, where that is to be
    /// kept; `next_us`: the first deadline beyond these.
    Overdue {
        term: Term,
        jobs: Vec<JobId>,
        last: Option<(i64, JobId)>,
        next_us: Option<i64>,
    },
    /// `complete`: the line holds nothing beyond these.
    Fetched {
        line: LineKey,
        jobs: Vec<Ready>,
        complete: bool,
    },
    /// Records in the order of the ids asked for, and the ids for which no job exists. `rest`: the ids of
    /// jobs that were not read, since the records before them take as much as one answer may.
    Got {
        request: RequestId,
        records: Vec<Record>,
        missing: Vec<JobId>,
        rest: Vec<JobId>,
    },
    /// `next`: the id after which the listing goes on.
    Listed {
        request: RequestId,
        records: Vec<Record>,
        next: Option<JobId>,
    },
    /// The jobs at the beginning of a line, in order; where these are fewer than
    /// [`LINE_HEAD`](super::LINE_HEAD), the line holds nothing beyond them.
    Line {
        request: RequestId,
        line: LineKey,
        head: Vec<Position>,
    },
    /// The jobs that are to run after one has ended, each with the end that it needs, in order; none where
    /// that one does not exist. `more`: there are others.
    Dependents {
        request: RequestId,
        dependents: Option<Vec<After>>,
        more: bool,
    },
    CallbackBegun(Box<CallbackRun>),
    IdsReserved {
        below: u64,
    },
    /// To [`Change::SetPool`](super::Change::SetPool), [`Change::SetPause`](super::Change::SetPause),
    /// [`Change::SetWorkers`](super::Change::SetWorkers),
    /// [`Change::SetSchedules`](super::Change::SetSchedules) and
    /// [`Change::SetLimit`](super::Change::SetLimit).
    Kept {
        request: RequestId,
    },
    /// To [`Chore::Hold`](super::Chore::Hold): the length of the database's file, in bytes.
    Held {
        request: RequestId,
        bytes: Result<u64, Refusal>,
    },
    /// To [`Chore::LetGo`](super::Chore::LetGo): whether the file was left alone until now.
    LetGo {
        request: Option<RequestId>,
        whole: Result<(), Refusal>,
    },
    /// Ids and attempts of the jobs and callbacks removed, whose output files can go; `outputs`: jobs that
    /// stay, whose output files can go as well; `more`: the limits are not met yet.
    Pruned {
        jobs: Vec<(JobId, u32)>,
        callbacks: Vec<(CallbackId, u32)>,
        outputs: Vec<(JobId, u32)>,
        more: bool,
    },
}

/// Where a job was queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dequeued {
    pub pool: Arc<str>,
    /// What kept it from the line.
    pub holdup: Holdup,
}

/// New jobs that are not in their lines, or not for long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditional {
    /// Those that are tied to a job which has ended already.
    pub untied: Vec<JobId>,
    /// Those that wait, in order, and for what.
    pub waiting: Vec<(JobId, Until)>,
    /// Those that were to run after a job which has ended in another way, each with that one.
    pub failed: Vec<(JobId, JobId)>,
}

impl Conditional {
    /// What the job waits for.
    pub fn until(&self, id: JobId) -> Option<Until> {
        let at = self.waiting.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.waiting[at].1)
    }
}

/// What unique names have brought about in an insertion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    /// The places in `existing`, in order, of those that were to be skipped, and the states of the jobs in
    /// their stead.
    pub skipped: Vec<(usize, State)>,
    /// Those that were added and wait, in order, each with the job before it.
    pub waiting: Vec<(JobId, JobId)>,
    /// Earlier jobs that are to be canceled, each with the one that takes its place. The latest comes first,
    /// so that none gets its turn by the end of another one.
    pub replaced: Vec<(JobId, JobId)>,
}

impl Turns {
    /// The job before that one, where it waits for one.
    pub fn before(&self, id: JobId) -> Option<JobId> {
        let at = self.waiting.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.waiting[at].1)
    }

    /// Whether the job at that place of the insertion was to be skipped.
    pub fn is_skipped(&self, place: usize) -> bool {
        self.skipped.binary_search_by_key(&place, |&(place, _)| place).is_ok()
    }
}

/// A job that has waited, and its place in its line. `until`: what it waits for now; none where it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    pub position: Position,
    pub line: LineKey,
    pub until: Option<Until>,
}

/// A job that has come into another pool, or stays in its own. `from`: its old one. `holdup`: what keeps it
/// from its line there, as it did before; none where it is not queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    pub position: Position,
    pub labels: Labels,
    pub from: Arc<str>,
    pub holdup: Option<Holdup>,
}

/// Why a job stays in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAssigned {
    /// There is no such job.
    Missing,
    /// It runs, or has ended.
    Beyond(State),
    /// It is kept in memory alone.
    Volatile,
    /// It is a command, and the pool runs calls.
    Command,
    /// It is a call, and the pool runs commands.
    Call,
}

/// A job that has ended and begins a new round. `tie`: what it is still tied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    pub released: Released,
    pub tie: Option<Tie>,
    pub deadline_us: Option<i64>,
    /// It is to have begun by then.
    pub start_by_us: Option<i64>,
}

/// Why a job is not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRemoved {
    /// There is no such job.
    Missing,
    /// It has not ended.
    Living(State),
    /// Its callbacks are still to be delivered.
    Undelivered,
}

/// Why a job begins no new round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRetried {
    /// There is no such job.
    Missing,
    /// It has not ended.
    Living(State),
    /// It was kept in memory alone.
    Volatile,
    /// Its callbacks are still to be delivered.
    Undelivered,
    /// Its spooled input went with its end.
    InputGone,
    /// Its parameters may have been removed to make room.
    ParamsGone,
    /// This job has its unique name.
    NameTaken(JobId),
    /// This job, which it was to run after, has been pruned.
    PriorGone(JobId),
}

/// A callback ready to run.
#[derive(Debug, PartialEq)]
pub struct CallbackRun {
    pub id: CallbackId,
    /// Counted from 1, this one included.
    pub attempt: u32,
    /// How many of the others have told of earlier ends, before the job was run again.
    pub earlier: u32,
    pub command: OsText,
    /// The job that has ended: its work without callbacks, for cwd and environment, and its record.
    pub work: Arc<Work>,
    pub record: Box<Record>,
}

/// What a start finds.
#[derive(Debug, Default, PartialEq)]
pub struct Restored {
    /// The first ids that were never given out.
    pub next_job: u64,
    pub next_callback: u64,
    /// Jobs queued, by pool.
    pub queued: BTreeMap<String, Queued>,
    /// The lines in which jobs are, each with a position that none of its jobs is before.
    pub lines: Vec<(LineKey, Position)>,
    /// Jobs that are still to be canceled, each with the one that takes its place.
    pub replaced: Vec<(JobId, JobId)>,
    /// Jobs that are still to be canceled, each with the one after which it was to run.
    pub failed: Vec<(JobId, JobId)>,
    /// Jobs have ended whose dependents have not all been looked at.
    pub has_unresolved: bool,
    /// Jobs with an attempt that ended with the last daemon.
    pub interrupted: Vec<Interrupted>,
    /// The boot of the machine that the processes named are of, and by whose clock is written what waits.
    pub boot: Boot,
    /// What the last daemon's end is known to have been.
    pub last_end: LastEnd,
    /// Jobs that have not ended and are tied to something.
    pub tied: Vec<Tied>,
    /// Callbacks not yet delivered that wait for no time, in the order in which their jobs ended.
    pub callbacks: Vec<CallbackId>,
    /// Those of them that ran when the last daemon died, and how often in a row that has happened.
    pub crashed_callbacks: BTreeMap<CallbackId, u32>,
    /// Callbacks that wait for the time of their next attempt; [`Answer::Woken`] tells when it has come.
    pub waiting_callbacks: Vec<CallbackId>,
    /// When the first of those is due that wait [`Until::Time`](crate::job::Until::Time), jobs and callbacks.
    pub next_due_us: Option<i64>,
    /// Some wait for a time of the wall's clock.
    pub goes_by_wall: bool,
    /// The first deadline of a job that has not ended.
    pub next_deadline_us: Option<i64>,
    /// When the first of those that have not begun is to have.
    pub next_start_by_us: Option<i64>,
    /// Tokens of the spooled inputs that some job needs.
    pub stdin: HashSet<String>,
    /// Pools that were added at run time: their values by name.
    pub pools: BTreeMap<String, String>,
    /// Pools that are paused, by name, whether they exist or not.
    pub pauses: BTreeMap<String, Pause>,
    /// The numbers of workers that somebody has set, by the pools' names.
    pub workers: BTreeMap<String, u32>,
    /// Schedules, by name.
    pub schedules: BTreeMap<String, KeptSchedule>,
    /// The limits of labels that were set at run time: so many jobs at a time.
    pub limits: BTreeMap<String, u32>,
}

/// A job with an attempt that ended with the last daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    pub id: JobId,
    pub pool: String,
    pub labels: Labels,
    /// `tries.attempts` is the attempt.
    pub tries: Tries,
    pub on_crash: OnCrash,
    pub retries: Retries,
    /// The slot that it ran in.
    pub slot: Option<u32>,
    /// When the attempt was started, in microseconds since 1970, and since the boot of then.
    pub started_us: Option<i64>,
    pub since_boot_us: Option<i64>,
    /// How long ago that was, where it was in this boot.
    pub lasted: Option<Duration>,
    /// The worker that ran the attempt.
    pub worker: Option<ProcessId>,
    /// The attempt's first process.
    pub process: Option<Process>,
    /// It was being ended, for this reason.
    pub stopping: Option<StopReason>,
}

impl Interrupted {
    /// When it has ended, in microseconds since 1970: now, unless it is known how long it has lasted. The
    /// wall's clock may have been set since it was started.
    pub fn ended_us(&self, now_us: i64) -> i64 {
        let ended_us = self.started_us.zip(self.lasted);
        ended_us.map_or(now_us, |(started_us, lasted)| started_us.saturating_add(micros(lasted)))
    }
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tied {
    pub id: JobId,
    pub tie: Tie,
    /// The pool in which it is queued.
    pub queued_in: Option<Arc<str>>,
    /// What keeps it from the line there.
    pub holdup: Holdup,
    /// It is tied to a job, and that has ended.
    pub untied: bool,
}
