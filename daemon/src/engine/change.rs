//! What changes: the facts that an engine is told, to be kept.

use std::sync::Arc;

use super::CallbackWish;
use crate::job::{
    CallbackId, Edit, IdMap, JobId, KeptSchedule, NotBefore, Outcome, PastAttempt, Pause, Place, ProcessId,
    RequestId, Start, StopReason, Tries, Unmet, Work, micros,
};

/// A fact to be kept.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// New jobs. Answered by [`Answer::Inserted`](super::Answer::Inserted), or
    /// [`Answer::Refused`](super::Answer::Refused).
    Insert(Insertion),
    /// A job is somewhere else. Answered by [`Answer::Ended`](super::Answer::Ended) where that is its end, by
    /// [`Answer::Placed`](super::Answer::Placed) where that was asked for, and by
    /// [`Answer::Lost`](super::Answer::Lost), with nothing changed, where the fence does not hold.
    Move(Box<Move>),
    /// These jobs, those of them that are in their lines or wait, wait
    /// [`Until::Person`](crate::job::Until::Person) before all else. Answered by
    /// [`Answer::Withheld`](super::Answer::Withheld).
    Hold { request: RequestId, ids: Vec<JobId> },
    /// These jobs, those of them that are in their lines or wait, are of that pool from now on; `is_warm`: it
    /// runs calls and no commands. Answered by [`Answer::Assigned`](super::Answer::Assigned).
    Assign { request: RequestId, ids: Vec<JobId>, pool: Arc<str>, is_warm: bool },
    /// The job, where it is in its line or waits, is another one in what the edit names. Its times count from
    /// these. New callbacks have ids from `first_callback` on; the front gives them, and what comes before
    /// them. Answered by [`Answer::Edited`](super::Answer::Edited).
    Edit(Box<JobEdit>),
    /// Those of these jobs that have ended begin a new round: they are in their lines again, or wait for what
    /// they were to run after. Those of pools that are `closed`, taking no new jobs, stay as they are.
    /// Answered by [`Answer::Retried`](super::Answer::Retried).
    Retry { request: RequestId, ids: Vec<JobId>, times: Times, closed: Vec<Arc<str>> },
    /// Those of these jobs that have ended are forgotten. Answered by
    /// [`Answer::Removed`](super::Answer::Removed).
    Remove { request: RequestId, ids: Vec<JobId> },
    /// The trigger of [`Until::Person`](crate::job::Until::Person): these jobs, all or none, are in their
    /// lines again, their crashes forgiven. Answered by [`Answer::Released`](super::Answer::Released), or
    /// refused with `NotHeld`, or with `PoolDraining` where one is of a pool that is `closed`.
    Release { request: RequestId, ids: Vec<JobId>, closed: Vec<Arc<str>> },
    /// The trigger of [`Until::Time`](crate::job::Until::Time): jobs and callbacks that are due by then wait
    /// no more; so many at most, the first ones. Answered by [`Answer::Woken`](super::Answer::Woken).
    Wake { until_us: i64, limit: u32 },
    /// The trigger of [`Until::Others`](crate::job::Until::Others): of the jobs that were to run after others
    /// which have ended, so many are looked at. Answered by [`Answer::Resolved`](super::Answer::Resolved).
    Resolve { limit: u32 },
    /// The next elements of this array, so many at most, are in their line from now on. With the first of
    /// them the array, which was in its line, has begun, then by the wall's clock, in microseconds since
    /// 1970. Answered by [`Answer::Unfolded`](super::Answer::Unfolded), or where it makes no more elements by
    /// [`Answer::Lost`](super::Answer::Lost).
    Unfold { array: JobId, limit: u32, now_us: i64 },
    /// No more elements of this array, which has begun, are made: it is being ended, for this reason.
    /// Answered by [`Answer::Folded`](super::Answer::Folded), which names those of its elements that have not
    /// ended, after this one and so many at most.
    Fold { array: JobId, reason: StopReason, after: JobId, limit: u32 },
    /// The clock of what waits is so much ahead of the wall's from now on, in microseconds: what waits for a
    /// time of the wall's clock waits for another one of that clock. Answered by
    /// [`Answer::ClockSet`](super::Answer::ClockSet).
    SetClock { ahead_us: i64 },
    /// A pending callback runs: its attempt is counted. Answered by
    /// [`Answer::CallbackBegun`](super::Answer::CallbackBegun).
    BeginCallback { id: CallbackId },
    /// How an attempt of a callback has ended.
    EndCallback { id: CallbackId, end: CallbackEnd, exit_code: Option<i32> },
    /// What a client wants of these callbacks. Answered by
    /// [`Answer::CallbacksAltered`](super::Answer::CallbacksAltered).
    AlterCallbacks { request: RequestId, ids: Vec<CallbackId>, wish: CallbackWish },
    /// Keeps a pool that was added at run time, as the next start is to find it; without a value it is
    /// forgotten, and so is its pause. Answered by [`Answer::Kept`](super::Answer::Kept).
    SetPool { request: RequestId, name: String, value: Option<String> },
    /// These pools are paused from now on, all or none, or without a pause they are resumed. One that is
    /// paused already keeps the pause that it has. Answered by [`Answer::Kept`](super::Answer::Kept).
    SetPause { request: RequestId, pools: Vec<String>, pause: Option<Pause> },
    /// Keeps the number of a pool's workers that somebody has set; without one it is forgotten. Answered by
    /// [`Answer::Kept`](super::Answer::Kept).
    SetWorkers { request: RequestId, pool: String, workers: Option<u32> },
    /// Keeps schedules, as the next start is to find them, all or none; those without a value are forgotten.
    /// Answered by [`Answer::Kept`](super::Answer::Kept).
    SetSchedules { request: RequestId, schedules: Vec<(String, Option<KeptSchedule>)> },
    /// So many jobs of that label run at a time from now on; without a limit the one that was set is
    /// forgotten. Answered by [`Answer::Kept`](super::Answer::Kept).
    SetLimit { request: RequestId, label: String, limit: Option<u32> },
}

/// New jobs with ids from `first` on, in order, and their callbacks with ids from `first_callback` on: all
/// are added, or none.
///
/// Refused when one is tied to a job that does not exist. A job is not added if another job holds its key;
/// its id then stays unused. Exception: a holder of another round that ended without success loses the key,
/// and the new job is added.
///
/// Where a job of the same unique name has not ended, a job is not added, or is added and waits
/// [`Until::Predecessor`](crate::job::Until::Predecessor), as it says. The end of a job of a unique name is
/// the trigger: in its transaction the next one, by id, gets into its line, and
/// [`Answer::Ended`](super::Answer::Ended) brings it along.
///
/// A label for which a new job is exclusive gets a limit of one, unless a limit of it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Insertion {
    pub request: RequestId,
    pub first: JobId,
    pub first_callback: CallbackId,
    /// Never empty; all of them volatile, or none.
    pub jobs: Vec<Arc<Work>>,
    pub times: Times,
    /// A slot is free for one of them: they are told as soon as they are written, where the sync takes its
    /// time.
    pub is_urgent: bool,
    /// Of jobs whose parameters are in a file already: their places, in order, and its token.
    pub files: Vec<(usize, ValueFile)>,
}

/// The token of a file that keeps a large value. The file is there, and synced where that is promised.
pub type ValueFile = Arc<str>;

impl Insertion {
    /// The file that has the parameters of the job at that place.
    pub fn file_of(&self, place: usize) -> Option<&ValueFile> {
        let at = self.files.binary_search_by_key(&place, |&(place, _)| place).ok()?;
        Some(&self.files[at].1)
    }
}

/// A job that is to be another one.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEdit {
    pub request: RequestId,
    pub id: JobId,
    pub edit: Arc<Edit>,
    pub times: Times,
    /// No id from these on has been given out.
    pub next_job: JobId,
    pub first_callback: CallbackId,
}

/// What is given out for the elements of an array in its insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// The id of the first element.
    pub first: JobId,
    /// That of its first callback, where each element has some.
    pub first_callback: CallbackId,
}

impl Insertion {
    /// How many ids it takes: the jobs' own, and then those of all elements of the arrays among them.
    pub fn count_ids(&self) -> u64 {
        self.jobs.len() as u64 + self.jobs.iter().map(|work| work.elements()).sum::<u64>()
    }

    /// How many ids of callbacks it takes: those of the jobs, and then those of elements.
    pub fn count_callbacks(&self) -> u64 {
        let count = |work: &Arc<Work>| {
            let times = if work.calls_back_by_element() { work.elements() } else { 1 };
            times * work.callbacks.len() as u64
        };
        self.jobs.iter().map(count).sum()
    }

    /// What is given out for the elements of each array.
    pub fn reserved(&self) -> IdMap<JobId, Reserved> {
        let mut reserved = IdMap::default();
        let arrays = (self.first.0..).map(JobId).zip(&self.jobs).filter(|(_, work)| work.plan().is_some());
        let mut next = self.first.0 + self.jobs.len() as u64;
        let own = self.jobs.iter().filter(|work| !work.calls_back_by_element());
        let mut next_callback =
            self.first_callback.0 + own.map(|work| work.callbacks.len() as u64).sum::<u64>();
        for (id, work) in arrays {
            let first_callback = CallbackId(next_callback);
            reserved.insert(id, Reserved { first: JobId(next), first_callback });
            next += work.elements();
            if work.calls_back_by_element() {
                next_callback += work.elements() * work.callbacks.len() as u64;
            }
        }
        reserved
    }
}

/// When jobs are submitted, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// By the wall's clock.
    pub submitted_us: i64,
    /// By the clock of what waits, from which deadlines and delays are counted.
    pub counted_from_us: i64,
}

/// The deadline of a job, counted from then; the last time that can be written where that is too long.
pub fn deadline_us(from_us: i64, work: &Work) -> Option<i64> {
    work.deadline.map(|deadline| from_us.saturating_add(micros(deadline)))
}

/// When a job is to have begun, counted from then.
pub fn start_by_us(from_us: i64, work: &Work) -> Option<i64> {
    work.start_within.map(|within| from_us.saturating_add(micros(within)))
}

/// When a job may begin, by the clock of what waits.
pub fn due_us(times: &Times, start: NotBefore) -> i64 {
    let from_us = times.counted_from_us;
    match start {
        NotBefore::Delay(delay) => from_us.saturating_add(micros(delay)),
        NotBefore::At { us } => us.saturating_add(from_us.saturating_sub(times.submitted_us)),
    }
}

/// What a new job has to wait for. `others`: so many other jobs; `follows`: the one before it of its name.
pub fn unmet(times: &Times, work: &Work, others: u32, follows: bool) -> Unmet {
    let conditions = work.conditions.as_deref();
    Unmet {
        hold: conditions.is_some_and(|conditions| conditions.hold),
        others,
        follows,
        start_us: conditions.and_then(|conditions| conditions.start).map(|start| due_us(times, start)),
    }
}

/// The time of the wall's clock before which a job does not begin.
pub fn at_us(work: &Work) -> Option<i64> {
    match work.conditions.as_ref()?.start? {
        NotBefore::Delay(_) => None,
        NotBefore::At { us } => Some(us),
    }
}

/// Where a job is from now on, and what is known of it there: the one operation on a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    pub id: JobId,
    pub fence: Fence,
    pub to: Place,
    /// As of now, the attempt that runs or has ended included. Under [`Fence::Idle`] they mean nothing and
    /// stay as they are kept.
    pub tries: Tries,
    /// The start of the attempt that is over, where nobody has told of it before: that of a short call comes
    /// with its end.
    pub start: Option<Start>,
    /// Why it is there, as a sentence for people. An end has its own, in its outcome.
    pub reason: Option<String>,
    /// The attempt died with its worker, its daemon or the machine, and `reason` says how: kept beyond the
    /// next start, as the last crash.
    pub crashed: bool,
    /// The attempt that is over with this move, where the job goes on.
    pub past: Option<Box<PastAttempt>>,
    /// The job's work, where the mover has it at hand, so that a job that is queued again need not be read
    /// again.
    pub work: Option<Arc<Work>>,
    /// What the answer to an end is to tell.
    pub want: Detail,
    /// Somebody waits for this end, and for nothing else. Other ends may be kept together with those that
    /// come a moment later.
    pub is_urgent: bool,
    /// Answered by [`Answer::Placed`](super::Answer::Placed) once it is as durable as an acceptance: for the
    /// start of an attempt that must not run twice.
    pub confirm: bool,
    /// The file that has the answer of the call that has ended, where it is in one already.
    pub file: Option<ValueFile>,
}

/// What must hold for a move to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// The job has not ended, and no attempt after this one was counted; 0 for a job that has never run.
    Attempt(u32),
    /// The job is in its line or waits: the mover knows nothing else of it.
    Idle,
}

/// How much whoever waits for an end wants to know of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    #[default]
    Nothing,
    /// The whole record, read in the transaction of the end.
    Record,
}

/// What became of a callback's attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackEnd {
    /// It has done its work.
    Delivered,
    /// It failed, and waits [`Until::Time`](crate::job::Until::Time) for its next attempt.
    Again { due_us: i64 },
    /// It failed for the last time.
    Failed,
}

impl Change {
    /// Whether the commit of this change is a promise to a client, and so needs an fsync. The other changes
    /// only say how far things have come: a power cut that takes one of them away makes a job or a callback
    /// run again, which the power cut does anyway.
    pub fn is_promise(&self) -> bool {
        match self {
            Self::Insert(_)
            | Self::Hold { .. }
            | Self::Assign { .. }
            | Self::Edit(_)
            | Self::Retry { .. }
            | Self::Remove { .. }
            | Self::Release { .. }
            | Self::AlterCallbacks { .. }
            | Self::SetPool { .. }
            | Self::SetPause { .. }
            | Self::SetWorkers { .. }
            | Self::SetSchedules { .. }
            | Self::SetLimit { .. } => true,
            Self::Move(moved) => moved.is_promise(),
            Self::Wake { .. }
            | Self::Resolve { .. }
            | Self::Unfold { .. }
            | Self::Fold { .. }
            | Self::SetClock { .. }
            | Self::BeginCallback { .. }
            | Self::EndCallback { .. } => false,
        }
    }

    /// See [`Insertion::is_urgent`].
    pub fn is_urgent_insertion(&self) -> bool {
        matches!(self, Self::Insert(insertion) if insertion.is_urgent)
    }

    /// Whether it puts jobs into a line that were in none, or may not have been.
    pub fn enters_line(&self) -> bool {
        match self {
            Self::Move(moved) => matches!(moved.to, Place::Queued { .. }),
            Self::Assign { .. }
            | Self::Edit(_)
            | Self::Retry { .. }
            | Self::Release { .. }
            | Self::Wake { .. }
            | Self::Resolve { .. }
            | Self::Unfold { .. } => true,
            Self::Insert(_)
            | Self::Hold { .. }
            | Self::Fold { .. }
            | Self::Remove { .. }
            | Self::SetClock { .. }
            | Self::BeginCallback { .. }
            | Self::EndCallback { .. }
            | Self::AlterCallbacks { .. }
            | Self::SetPool { .. }
            | Self::SetPause { .. }
            | Self::SetWorkers { .. }
            | Self::SetSchedules { .. }
            | Self::SetLimit { .. } => false,
        }
    }

    /// What it holds in memory beyond its own size, nearly. Ends are those that come in numbers, and that may
    /// be large: with what a call has returned.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Insert(insertion) => insertion.jobs.iter().map(|work| work.own_bytes()).sum(),
            Self::Move(moved) => {
                let end = match &moved.to {
                    Place::Ended(outcome) => {
                        let answer = usize::try_from(outcome.answer_bytes()).unwrap_or(usize::MAX);
                        size_of::<Outcome>() + outcome.reason.as_ref().map_or(0, String::len) + answer
                    }
                    Place::Queued { .. }
                    | Place::Waiting(_)
                    | Place::Begun
                    | Place::Running(_)
                    | Place::Stopping(_) => 0,
                };
                size_of::<Move>() + moved.reason.as_ref().map_or(0, String::len) + end
            }
            Self::Edit(change) => size_of::<Edit>() + change.edit.bytes(),
            Self::Hold { .. }
            | Self::Assign { .. }
            | Self::Retry { .. }
            | Self::Remove { .. }
            | Self::Release { .. }
            | Self::Wake { .. }
            | Self::Resolve { .. }
            | Self::Unfold { .. }
            | Self::Fold { .. }
            | Self::SetClock { .. }
            | Self::BeginCallback { .. }
            | Self::EndCallback { .. }
            | Self::AlterCallbacks { .. }
            | Self::SetPool { .. }
            | Self::SetPause { .. }
            | Self::SetWorkers { .. }
            | Self::SetSchedules { .. }
            | Self::SetLimit { .. } => 0,
        }
    }

    /// How many jobs it is about, at least one.
    pub fn weight(&self) -> usize {
        match self {
            Self::Insert(insertion) => insertion.jobs.len().max(1),
            Self::Hold { ids, .. }
            | Self::Assign { ids, .. }
            | Self::Retry { ids, .. }
            | Self::Remove { ids, .. }
            | Self::Release { ids, .. } => ids.len().max(1),
            Self::AlterCallbacks { ids, .. } => ids.len().max(1),
            Self::Unfold { limit, .. } => *limit as usize,
            Self::Move(_)
            | Self::Edit(_)
            | Self::Wake { .. }
            | Self::Resolve { .. }
            | Self::Fold { .. }
            | Self::SetClock { .. }
            | Self::BeginCallback { .. }
            | Self::EndCallback { .. }
            | Self::SetPool { .. }
            | Self::SetPause { .. }
            | Self::SetWorkers { .. }
            | Self::SetSchedules { .. }
            | Self::SetLimit { .. } => 1,
        }
    }
}

impl Move {
    /// A move of which nothing else is known.
    pub fn new(id: JobId, fence: Fence, to: Place, tries: Tries) -> Self {
        Self {
            id,
            fence,
            to,
            tries,
            start: None,
            reason: None,
            crashed: false,
            past: None,
            work: None,
            want: Detail::Nothing,
            is_urgent: false,
            confirm: false,
            file: None,
        }
    }

    /// Whether nobody waits for this move to be kept, but for those who wait for many.
    pub fn can_linger(&self) -> bool {
        let is_of_attempt = self.fence != Fence::Idle;
        let (runs, has_ended) = (matches!(self.to, Place::Running(_)), matches!(self.to, Place::Ended(_)));
        is_of_attempt && !self.confirm && (runs || has_ended && !self.is_urgent)
    }

    /// The worker of the start that is to be confirmed, where this is one.
    pub fn worker_to_confirm(&self) -> Option<ProcessId> {
        match self.to {
            Place::Running(start) => self.confirm.then_some(start.worker),
            Place::Queued { .. }
            | Place::Waiting(_)
            | Place::Begun
            | Place::Stopping(_)
            | Place::Ended(_) => None,
        }
    }

    fn is_promise(&self) -> bool {
        match self.to {
            // Somebody is told of the end, or that it waits for a decision.
            Place::Ended(_) | Place::Waiting(crate::job::Until::Person) => true,
            Place::Queued { .. }
            | Place::Waiting(_)
            | Place::Begun
            | Place::Running(_)
            | Place::Stopping(_) => self.confirm,
        }
    }
}
