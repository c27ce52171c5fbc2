//! Every request that has not been replied to in full, and all that hangs on it: what is removed here is
//! over, and leaves nothing behind.

use std::ops::RangeInclusive;
use std::sync::Arc;

use pool_proto::Request;
use pool_proto::nouns::Brief;

use super::condition::Countdown;
use super::event::ConnectionId;
use super::limits::LimitChange;
use super::listen::Listener;
use super::listing::{Listing, Sought};
use super::pauses::PauseChange;
use super::pools::PoolChange;
use super::schedules::{FiringUnderWay, ScheduleChange};
use super::signal::Alteration;
use super::submit::{Repetition, Submission};
use super::wait::{Wanted, Watch, Watcher};
use super::why::Inquiry;
use super::workers::WorkersChange;
use crate::job::{CallbackId, IdMap, JobId, RequestId};

/// A request that has not been replied to in full: what it is about, with all that it owns.
#[derive(Debug)]
pub enum Open {
    /// A submission, or what must not overtake it, waits until the output of all jobs has been measured.
    Measuring(Box<Deferred>),
    /// Its jobs are on their way into the engine.
    Submitting(Submission),
    /// Its jobs cannot be accepted, but may be there already: the engine is asked who has their keys.
    Repeating(Box<Repetition>),
    /// It waits for the ends of jobs.
    Waiting(Box<Watcher>),
    /// A signal for a job that does not run here: the engine is asked what the job does instead.
    Signaling,
    /// Jobs are being held, moved, run again or removed.
    Altering(Box<Alteration>),
    /// A job is being edited.
    Editing,
    /// It wants to know what a job is to do.
    Defining,
    /// Held jobs are on their way back into their lines.
    Releasing,
    /// Callbacks are being run again, or dropped.
    AlteringCallbacks,
    ListingCallbacks,
    GettingCallback(CallbackId),
    Getting,
    /// The job's record is read: it names the attempt whose output is to be opened.
    OpeningOutput {
        /// The one whose output is wanted; none: the latest.
        attempt: Option<u32>,
    },
    Listing(Box<Listing>),
    /// It wants to know which jobs do not exist.
    Seeking(Box<Sought>),
    /// It wants to know how many jobs there are.
    Tallying,
    /// It wants to know which jobs wait for that one.
    ListingDependents(JobId),
    /// The attempts of this job are asked for.
    ListingAttempts(JobId),
    /// It wants to know what jobs wait for.
    Inquiring(Box<Inquiry>),
    /// It is told what happens.
    Listening(Box<Listener>),
    /// A pool is on its way into the engine, or out of it.
    ChangingPool(PoolChange),
    /// Pools are being paused or resumed.
    Pausing(PauseChange),
    /// A number of workers is on its way into the engine.
    SettingWorkers(WorkersChange),
    /// Schedules are on their way into the engine, or out of it.
    ChangingSchedules(ScheduleChange),
    /// A request of the desk's own: a time of a schedule has come.
    Firing(FiringUnderWay),
    /// The limit of a label is on its way into the engine.
    SettingLimit(LimitChange),
    /// It is told when the programs of that pool are new ones.
    RestartingPool(Arc<str>),
    /// It is told when that pool, which takes no new jobs, has nothing to do any more.
    DrainingPool(Arc<str>),
    BackingUp,
    EndingBackup,
    /// The daemon is to end, once the engine has counted what it holds.
    Counting(Countdown),
    /// It is told when the daemon has come to its end.
    ShuttingDown,
}

/// A request that is carried out later, as it came.
#[derive(Debug)]
pub struct Deferred {
    pub connection: ConnectionId,
    pub asked: Request,
    pub more: bool,
}

impl Open {
    /// The engine has been given a change on its behalf: the entry stays until the engine has answered,
    /// though its client has gone. Says that the client has gone; false where nothing is on its way.
    pub fn outlive_client(&mut self) -> bool {
        match self {
            Self::Submitting(submission) => submission.is_forsaken = true,
            Self::ChangingPool(change) => change.is_forsaken = true,
            Self::Pausing(change) if !change.is_kept => change.is_forsaken = true,
            Self::ChangingSchedules(change) => change.is_forsaken = true,
            Self::SettingWorkers(change) => change.is_forsaken = true,
            Self::SettingLimit(change) => change.is_forsaken = true,
            Self::Counting(countdown) => countdown.is_forsaken = true,
            Self::Measuring(_)
            | Self::Repeating(_)
            | Self::Waiting(_)
            | Self::Signaling
            | Self::Altering(_)
            | Self::Editing
            | Self::Defining
            | Self::Releasing
            | Self::AlteringCallbacks
            | Self::ListingCallbacks
            | Self::GettingCallback(_)
            | Self::Getting
            | Self::OpeningOutput { .. }
            | Self::Listing(_)
            | Self::Seeking(_)
            | Self::ListingDependents(_)
            | Self::ListingAttempts(_)
            | Self::Tallying
            | Self::Inquiring(_)
            | Self::Listening(_)
            | Self::Pausing(_)
            | Self::Firing(_)
            | Self::RestartingPool(_)
            | Self::DrainingPool(_)
            | Self::BackingUp
            | Self::EndingBackup
            | Self::ShuttingDown => return false,
        }
        true
    }

    /// Its client has gone, and nobody is told anything.
    pub fn is_forsaken(&self) -> bool {
        match self {
            Self::Submitting(submission) => submission.is_forsaken,
            Self::ChangingPool(change) => change.is_forsaken,
            Self::Pausing(change) => change.is_forsaken,
            Self::ChangingSchedules(change) => change.is_forsaken,
            Self::SettingWorkers(change) => change.is_forsaken,
            Self::SettingLimit(change) => change.is_forsaken,
            Self::Counting(countdown) => countdown.is_forsaken,
            Self::Measuring(_)
            | Self::Repeating(_)
            | Self::Waiting(_)
            | Self::Signaling
            | Self::Altering(_)
            | Self::Editing
            | Self::Defining
            | Self::Releasing
            | Self::AlteringCallbacks
            | Self::ListingCallbacks
            | Self::GettingCallback(_)
            | Self::Getting
            | Self::OpeningOutput { .. }
            | Self::Listing(_)
            | Self::Seeking(_)
            | Self::ListingDependents(_)
            | Self::ListingAttempts(_)
            | Self::Tallying
            | Self::Inquiring(_)
            | Self::Listening(_)
            | Self::Firing(_)
            | Self::RestartingPool(_)
            | Self::DrainingPool(_)
            | Self::BackingUp
            | Self::EndingBackup
            | Self::ShuttingDown => false,
        }
    }
}

/// Who waits for a job's end.
#[derive(Debug, Default)]
struct Awaited {
    /// In the order in which they came.
    requests: Vec<RequestId>,
    /// The end in few words, between its being given to the engine and its being kept, where somebody wants
    /// it so.
    brief: Option<Box<Brief>>,
}

/// What is wanted of a job's end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// Somebody wants the whole record.
    pub record: bool,
    /// Somebody wants it in few words.
    pub brief: bool,
    /// Somebody waits for this end, and for no other any more.
    pub alone: bool,
}

/// All requests, and indexes of them: who waits for a job, who listens, and who waits for a measure.
#[derive(Debug, Default)]
pub struct Requests {
    open: IdMap<RequestId, Open>,
    awaited: IdMap<JobId, Awaited>,
    listeners: Vec<RequestId>,
    /// In the order in which they came.
    measuring: Vec<RequestId>,
}

impl Requests {
    pub fn insert(&mut self, request: RequestId, open: Open) {
        match &open {
            Open::Waiting(watcher) => {
                for &id in watcher.remaining() {
                    self.awaited.entry(id).or_default().requests.push(request);
                }
            }
            Open::Listening(_) => self.listeners.push(request),
            Open::Measuring(_) => self.measuring.push(request),
            _ => {}
        }
        let earlier = self.open.insert(request, open);
        debug_assert!(earlier.is_none(), "a request is open once");
    }

    /// The one way out: everything that the request owned comes along, and no index knows it any more.
    pub fn remove(&mut self, request: RequestId) -> Option<Open> {
        let open = self.open.remove(&request)?;
        match &open {
            Open::Waiting(watcher) => {
                for &id in watcher.remaining() {
                    forget(&mut self.awaited, id, request);
                }
            }
            Open::Listening(_) => self.listeners.retain(|&other| other != request),
            Open::Measuring(_) => self.measuring.retain(|&other| other != request),
            _ => {}
        }
        Some(open)
    }

    pub fn get(&self, request: RequestId) -> Option<&Open> {
        self.open.get(&request)
    }

    /// What it owns may change, but for the jobs that it waits for: see [`end_awaited`](Self::end_awaited).
    pub fn get_mut(&mut self, request: RequestId) -> Option<&mut Open> {
        self.open.get_mut(&request)
    }

    pub fn watcher(&self, request: RequestId) -> Option<&Watcher> {
        match self.open.get(&request) {
            Some(Open::Waiting(watcher)) => Some(watcher),
            _ => None,
        }
    }

    pub fn watcher_mut(&mut self, request: RequestId) -> Option<&mut Watcher> {
        match self.open.get_mut(&request) {
            Some(Open::Waiting(watcher)) => Some(watcher),
            _ => None,
        }
    }

    /// A request waits for a job no longer, since it is told of the job's end now. None where it did not wait
    /// for it.
    pub fn end_awaited(&mut self, request: RequestId, id: JobId) -> Option<&mut Watcher> {
        let Some(Open::Waiting(watcher)) = self.open.get_mut(&request) else { return None };
        if !watcher.strike(id) {
            return None;
        }
        forget(&mut self.awaited, id, request);
        Some(watcher)
    }

    // ---- who waits for a job ----

    /// Those that wait for a job's end, in the order in which they came.
    pub fn awaiting(&self, id: JobId) -> Vec<RequestId> {
        self.awaited.get(&id).map(|awaited| awaited.requests.clone()).unwrap_or_default()
    }

    /// Those that watch so much of a job.
    pub fn watching(&self, id: JobId, watch: Watch) -> Vec<RequestId> {
        let watches =
            |request: &&RequestId| self.watcher(**request).is_some_and(|w| w.wanted.watch() >= watch);
        self.awaited
            .get(&id)
            .into_iter()
            .flat_map(|awaited| &awaited.requests)
            .filter(watches)
            .copied()
            .collect()
    }

    /// What those who wait for the job want of its end.
    pub fn wishes(&self, id: JobId) -> Wishes {
        let mut wishes = Wishes::default();
        let Some(awaited) = self.awaited.get(&id) else { return wishes };
        for watcher in awaited.requests.iter().filter_map(|&request| self.watcher(request)) {
            let is_batch = watcher.wanted == Wanted::Batch;
            wishes.record |= !is_batch && watcher.keeps_up();
            wishes.brief |= is_batch && watcher.keeps_up();
            wishes.alone |= watcher.waits_for_one();
        }
        wishes
    }

    /// The end of a job in few words, for those who wait for it now: it goes with the last of them.
    pub fn keep_brief(&mut self, id: JobId, brief: Brief) {
        if let Some(awaited) = self.awaited.get_mut(&id) {
            awaited.brief = Some(Box::new(brief));
        }
    }

    pub fn take_brief(&mut self, id: JobId) -> Option<Box<Brief>> {
        self.awaited.get_mut(&id)?.brief.take()
    }

    // ---- others ----

    pub fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    pub fn listeners(&self) -> impl Iterator<Item = (RequestId, &Listener)> {
        self.listeners.iter().filter_map(|request| match self.open.get(request) {
            Some(Open::Listening(listener)) => Some((*request, &**listener)),
            _ => None,
        })
    }

    /// Those that wait for a measure, in the order in which they came.
    pub fn measuring(&self) -> Vec<RequestId> {
        self.measuring.clone()
    }

    /// Whether a submission of this connection, or what has come after it, waits for a measure.
    pub fn is_submission_deferred(&self, connection: ConnectionId) -> bool {
        self.measuring.iter().any(|request| match self.open.get(request) {
            // A look at the daemon holds up nothing.
            Some(Open::Measuring(deferred)) => {
                deferred.connection == connection && !matches!(deferred.asked, Request::Status)
            }
            _ => false,
        })
    }

    /// Those of one kind, in the order in which they came.
    pub fn that(&self, is_one: impl Fn(&Open) -> bool) -> Vec<RequestId> {
        let mut found: Vec<RequestId> =
            self.open.iter().filter(|(_, open)| is_one(open)).map(|(&request, _)| request).collect();
        found.sort_unstable();
        found
    }

    pub fn any(&self, is_one: impl Fn(&Open) -> bool) -> bool {
        self.open.values().any(is_one)
    }

    /// Those of these jobs whose ends somebody waits for, in order.
    pub fn awaited_among(&self, ids: &RangeInclusive<JobId>) -> Vec<JobId> {
        let mut among: Vec<JobId> = self.awaited.keys().copied().filter(|id| ids.contains(id)).collect();
        among.sort_unstable();
        among
    }

    /// Jobs whose ends somebody waits for, in order.
    pub fn awaited(&self) -> Vec<JobId> {
        let mut ids: Vec<JobId> = self.awaited.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Nothing is open, and no index knows of anything.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self.awaited.is_empty()
            && self.listeners.is_empty()
            && self.measuring.is_empty()
    }
}

/// The counterpart of the entry that [`Requests::insert`] makes for each job that is waited for.
fn forget(awaited: &mut IdMap<JobId, Awaited>, id: JobId, request: RequestId) {
    let Some(entry) = awaited.get_mut(&id) else { return };
    entry.requests.retain(|&other| other != request);
    if entry.requests.is_empty() {
        awaited.remove(&id);
    }
}
