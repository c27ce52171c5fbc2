//! Every request that has not been replied to in full, and all that hangs on it: what is removed here is
//! over, and leaves nothing behind.

use std::sync::Arc;

use pool_proto::Request;
use pool_proto::nouns::Brief;

use super::event::ConnectionId;
use super::limits::LimitChange;
use super::listen::Listener;
use super::listing::{Listing, Sought};
use super::pauses::PauseChange;
use super::pools::PoolChange;
use super::schedules::{FiringUnderWay, ScheduleChange};
use super::signal::Alteration;
use super::submit::Submission;
use super::wait::{Wanted, Watch, Watcher};
use super::why::Inquiry;
use super::workers::WorkersChange;
use crate::job::{IdMap, JobId, RequestId};

/// A request that has not been replied to in full: what it is about, with all that it owns.
#[derive(Debug)]
pub enum Open {
    /// A submission, or what must not overtake it, waits until the output of all jobs has been measured.
    Measuring(Box<Deferred>),
    /// Its jobs are on their way into the engine.
    Submitting(Submission),
    /// It waits for the ends of jobs.
    Waiting(Box<Watcher>),
    /// A signal for a job that does not run here: the engine is asked what the job does instead.
    Signaling,
    /// Jobs are being held, moved, run again or removed.
    Altering(Box<Alteration>),
    /// Held jobs are on their way back into their lines.
    Releasing,
    Getting,
    /// The job's record is read: it names the attempt whose output is to be opened.
    OpeningOutput,
    Listing(Box<Listing>),
    /// It wants to know which jobs do not exist.
    Seeking(Box<Sought>),
    /// It wants to know which jobs wait for that one.
    ListingDependents(JobId),
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
    BackingUp,
    EndingBackup,
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
            Self::Measuring(_)
            | Self::Waiting(_)
            | Self::Signaling
            | Self::Altering(_)
            | Self::Releasing
            | Self::Getting
            | Self::OpeningOutput
            | Self::Listing(_)
            | Self::Seeking(_)
            | Self::ListingDependents(_)
            | Self::Inquiring(_)
            | Self::Listening(_)
            | Self::Pausing(_)
            | Self::Firing(_)
            | Self::RestartingPool(_)
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
            Self::Measuring(_)
            | Self::Waiting(_)
            | Self::Signaling
            | Self::Altering(_)
            | Self::Releasing
            | Self::Getting
            | Self::OpeningOutput
            | Self::Listing(_)
            | Self::Seeking(_)
            | Self::ListingDependents(_)
            | Self::Inquiring(_)
            | Self::Listening(_)
            | Self::Firing(_)
            | Self::RestartingPool(_)
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

    /// The firing of a schedule that this request is, if it is one: it is over.
    pub fn take_firing(&mut self, request: RequestId) -> Option<FiringUnderWay> {
        match self.open.get(&request) {
            Some(Open::Firing(_)) => match self.remove(request) {
                Some(Open::Firing(firing)) => Some(firing),
                _ => None,
            },
            _ => None,
        }
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

    /// Whether anybody waits for the job who wants its whole record.
    pub fn want_record(&self, id: JobId) -> bool {
        self.any_wants(id, |watcher| watcher.wanted != Wanted::Batch && watcher.keeps_up())
    }

    /// Whether anybody waits for the job who wants its end in few words.
    pub fn want_brief(&self, id: JobId) -> bool {
        self.any_wants(id, |watcher| watcher.wanted == Wanted::Batch && watcher.keeps_up())
    }

    /// Whether anybody waits for the job, and for no other any more.
    pub fn want_alone(&self, id: JobId) -> bool {
        self.any_wants(id, Watcher::waits_for_one)
    }

    fn any_wants(&self, id: JobId, wants: impl Fn(&Watcher) -> bool) -> bool {
        let is_one = |&request: &RequestId| self.watcher(request).is_some_and(&wants);
        self.awaited.get(&id).is_some_and(|awaited| awaited.requests.iter().any(is_one))
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
