//! What an engine answers, and what a start finds in it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{CallbackRecord, Entry, OnCrash, State};
use pool_proto::{OsText, Record, Refusal};

use super::{Boot, CallbackWish, Delivery, LINE_HEAD, PACED};
use crate::job::{
    After, ArrayTally, CallbackId, Holdup, JobId, KeptSchedule, Labels, LineKey, Needs, PastAttempt, Pause,
    Position, Process, ProcessId, Queued, Ready, RequestId, Retries, StopReason, Term, Tie, Tries, Unfit,
    Until, Work, micros,
};

/// What has become of an order; each comes only after what it speaks of is as durable as was promised, but
/// for an insertion that is written and not synced.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// `existing`: the places in `jobs`, in order, of those that were not added, and which jobs hold their
    /// keys or unique names. `is_synced`: they are as durable as was promised. Otherwise the death of poold
    /// does not take them, but a power cut may: they may be started, and nobody is told of them before
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
    /// to. `array`: where it is an array, or an element of one that is kept: how far that has come.
    Ended {
        id: JobId,
        record: Option<Box<Record>>,
        callbacks: Vec<CallbackId>,
        dequeued: Option<Dequeued>,
        stdin: Option<String>,
        next: Option<(Ready, Option<Until>)>,
        has_dependents: bool,
        array: Option<Box<ArrayTally>>,
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
    /// What has become of a job that was to be another one.
    Edited {
        request: RequestId,
        id: JobId,
        edited: Edited,
    },
    /// What a job is to do, as it was submitted and edited; none where it does not exist.
    Defined {
        request: RequestId,
        id: JobId,
        definition: Option<Box<Definition>>,
    },
    /// `jobs`: those that have begun a new round. `failed`: of these, those that were to run after a job
    /// which has ended in another way, each with that one. `others`: those that are as they were, and why.
    /// `arrays`: those that go on because of it, or have not ended; each once.
    Retried {
        request: RequestId,
        jobs: Vec<Retried>,
        failed: Vec<(JobId, JobId)>,
        others: Vec<(JobId, NotRetried)>,
        arrays: Vec<BegunArray>,
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
    /// `jobs`: elements of an array, in order, that are in their line now, and are read in their turn. `tie`:
    /// what each of them is tied to.
    Unfolded {
        tally: Box<ArrayTally>,
        jobs: Vec<Released>,
        tie: Option<Tie>,
    },
    /// `living`: elements of an array that have not ended, in order. `more`: there are others after these.
    Folded {
        tally: Box<ArrayTally>,
        living: Vec<JobId>,
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
    /// Records, or where the page is brief, entries. `next`: the id after which the listing goes on.
    Listed {
        request: RequestId,
        records: Vec<Record>,
        entries: Vec<Entry>,
        next: Option<JobId>,
    },
    /// How many jobs are in each state, and whether there are more than that. What is queued is the core's
    /// to count.
    Tallied {
        request: RequestId,
        counts: Vec<(State, u64, bool)>,
        failed_callbacks: u64,
    },
    Pace {
        request: RequestId,
        pool: Arc<str>,
        pace: Pace,
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
    /// The attempts of a job before its latest one, the last [`MAX_ATTEMPTS`](super::MAX_ATTEMPTS), in order;
    /// none where it does not exist.
    Attempts {
        request: RequestId,
        attempts: Option<Vec<PastAttempt>>,
    },
    /// For each key the job that has it; none where a job with that key would be added.
    Keepers {
        request: RequestId,
        keepers: Vec<Option<JobId>>,
    },
    /// So many jobs wait for a person.
    Counted {
        request: RequestId,
        held: u64,
    },
    CallbackBegun(Box<CallbackRun>),
    /// `ids`: those that are as the client wants them now, in order. `others`: those that are as they were,
    /// each with how far its delivery is; none where it does not exist.
    CallbacksAltered {
        request: RequestId,
        wish: CallbackWish,
        ids: Vec<CallbackId>,
        others: Vec<(CallbackId, Option<Delivery>)>,
    },
    /// In order. `next`: the id after which there are others.
    Callbacks {
        request: RequestId,
        callbacks: Vec<CallbackRecord>,
        next: Option<CallbackId>,
    },
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

/// How a pool works off its jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// The first jobs of all its lines, in order; none is missing between them. Where there are fewer than
    /// [`LINE_HEAD`](super::LINE_HEAD), these are all. None where that is not known.
    pub order: Option<Vec<Position>>,
    /// Those that have ended last, [`PACED`](super::PACED) at most: when each ended, for how long its last
    /// attempt ran, in microseconds, and in how many slots.
    pub ran: Vec<Ran>,
}

/// See [`Pace::ran`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ran {
    pub ended_us: i64,
    pub lasted_us: u64,
    pub slots: u32,
}

impl Pace {
    /// The order of several lines, of which the beginnings are known, as far as it is certain.
    pub fn merge(heads: Vec<Vec<Position>>) -> Vec<Position> {
        // Beyond the last job that is known of a line, others of that line may stand.
        let full = heads.iter().filter(|head| head.len() >= LINE_HEAD).filter_map(|head| head.last());
        let horizon = full.min().copied();
        let mut order: Vec<Position> = heads.into_iter().flatten().collect();
        order.sort_unstable();
        order.retain(|position| horizon.is_none_or(|horizon| *position <= horizon));
        order.truncate(LINE_HEAD);
        order
    }
}

impl Ran {
    /// Whether the attempt of a job that has ended so was one as any other.
    pub fn tells(state: State) -> bool {
        matches!(state, State::Succeeded | State::Failed | State::TimedOut)
    }

    /// The latest of them.
    pub fn latest(mut all: Vec<Self>) -> Vec<Self> {
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.truncate(PACED);
        all
    }
}

/// A job that has come into another pool, or stays in its own. `from`: its old one. `holdup`: what keeps it
/// from its line there, as it did before; none where it is not queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    pub position: Position,
    pub needs: Needs,
    pub from: Arc<str>,
    pub holdup: Option<Holdup>,
}

/// What has become of a job that was to be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edited {
    Done(Box<Revised>),
    /// It stays as it is, and where it is, and why.
    Kept(Assigned, NotEdited),
    /// It is neither in a line nor does it wait.
    Not(NotEdited),
}

/// A job that is another one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revised {
    /// Where it was queued; none where it was held.
    pub from: Option<Dequeued>,
    /// Its place, and what it waits for now.
    pub now: Released,
    /// What these are now, where the edit was about them.
    pub deadline_us: Option<Option<i64>>,
    pub start_by_us: Option<Option<i64>>,
    /// Labels of it that have got a limit of one, unless they had a limit.
    pub exclusive: Labels,
    /// It is to run after this job, which has ended otherwise than it was to.
    pub failed: Option<JobId>,
}

/// Why a job is not edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotEdited {
    /// There is no such job.
    Missing,
    /// It runs, or has ended.
    Beyond(State),
    /// It is kept in memory alone.
    Volatile,
    Unfit(Unfit),
    /// It was tried before, and so does not wait for a time or for others any more.
    Tried,
    /// It cannot run after this job, which does not exist.
    PriorGone(JobId),
    /// It cannot run after this job, which was submitted later, or is the job itself.
    PriorLater(JobId),
    /// It is an element of an array, and cannot run after this job: that is the array, or was submitted with
    /// it and may wait for it.
    PriorWithArray(JobId),
}

/// What a job is to do, as it was submitted and edited since.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// With its conditions, its unique name and its callbacks. Of a unique name it is not kept what becomes
    /// of the job while another one has it.
    pub work: Work,
    pub state: State,
    /// So many attempts.
    pub attempts: u32,
    /// Its parameters may have been removed to make room.
    pub may_lack_params: bool,
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

/// An array that has begun and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunArray {
    pub tally: ArrayTally,
    pub pool: Arc<str>,
    pub tie: Option<Tie>,
    pub deadline_us: Option<i64>,
    /// It is being ended, for this reason.
    pub stopping: Option<StopReason>,
    /// It is in no line, and waits for nothing. Otherwise all of its elements were ended one by one before.
    pub has_begun: bool,
}

/// A job that has ended and begins a new round. `tie`: what it is still tied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    pub released: Released,
    /// It is an array that goes on where it was: it is in no line.
    pub has_begun: bool,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRetried {
    /// There is no such job.
    Missing,
    /// It has not ended.
    Living(State),
    /// It was kept in memory alone.
    Volatile,
    /// Its pool, this one, takes no new jobs.
    PoolClosed(Arc<str>),
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
    /// It is an array, and all of its elements have succeeded.
    AllSucceeded,
    /// It is an array, and each of its elements has been kept: they are run again by themselves.
    Unfolded,
    /// It is an element of this array, which cannot begin a new round, for the same reason as a job.
    ArrayUndelivered(JobId),
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
    /// Arrays that have begun and have not ended, or of which all elements have ended.
    pub arrays: Vec<BegunArray>,
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
    pub needs: Needs,
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
