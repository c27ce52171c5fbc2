//! The requests that wait for the ends of jobs: `Wait`, `Cancel`, and submissions whose client stays.
//!
//! ```text
//!   registered ──▶ engine asked for the records ──▶ told of what has ended ──▶ told of each end as it comes
//! ```
//!
//! A request is registered first and the engine asked then, so that no end slips through: what ends before
//! the engine reads the records is in them; what ends later is told as
//! [`Fact::Ended`](crate::core::Fact::Ended), for which the request is registered already. What comes both
//! ways is told once, since the request has stopped waiting for that job with the first.
//!
//! A client that reads slowly is told slowly, and holds nothing but itself. Records are read a few at a time,
//! the next ones when the client has read those before. While it has much unread ([`Event::Full`]), an end is
//! noted by its id alone and read from the engine later, which keeps what somebody waits for; a start is
//! noted as well, and progress is not told.
//!
//! [`Event::Full`]: super::Event::Full

use std::collections::{BTreeMap, VecDeque, hash_set};

use pool_proto::methods::{Canceled, Submitted};
use pool_proto::nouns::{Brief, CallProgress, ObstacleKind, OnDisconnect, Progress, ProgressEvent};
use pool_proto::{Record, Refusal, State};

use super::obstacle::MOST_TOLD;
use super::request::Open;
use super::{Desk, Effect};
use crate::core::{self, Core, Reach};
use crate::engine::{Question, large_bytes};
use crate::job::{IdMap, IdSet, JobId, Outcome, RequestId};

/// Jobs that one request waits for at most; each takes some hundred bytes.
const MAX_AWAITED: usize = 1 << 20;

/// Ids that the engine is asked for at once.
const IDS_AT_ONCE: usize = 5000;

/// Starts that a client is told of before it reads, each with two descriptors.
const STARTS_AT_ONCE: usize = 8;

/// Bytes of results that one reply in few words has at most, the last one's apart.
const BRIEF_BYTES: usize = 1 << 20;

/// Bytes of parameters and results that the reply to Cancel has at most, the last one's apart.
const CANCELED_BYTES: usize = 4 << 20;

/// What a waiting request is told, and when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Told of each start and of the end of its one job.
    Attached(OnDisconnect),
    /// Told of each end, and what it watches; over with the last end, with `any` with the first.
    /// With `attached`, jobs that are tied to their client end with it.
    Ends { any: bool, watch: Watch, attached: bool },
    /// Told of each end in few words; over with the last.
    Batch,
    /// Has each of the jobs ended, and is told of all ends at once. With `unstarted` the jobs that run go on,
    /// and are not waited for.
    Cancel { unstarted: bool },
}

/// What a waiting request is told of besides ends: each has what those before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    Nothing,
    /// How far calls have come.
    Progress,
    /// Each start, with the attempt's output.
    Output,
}

impl Wanted {
    pub fn watch(self) -> Watch {
        match self {
            Self::Attached(_) => Watch::Output,
            Self::Ends { watch, .. } => watch,
            Self::Batch | Self::Cancel { .. } => Watch::Nothing,
        }
    }

    /// Whether jobs that are tied to their client end when the request's client goes.
    fn ties(self) -> bool {
        match self {
            Self::Attached(on_disconnect) => on_disconnect == OnDisconnect::Cancel,
            Self::Ends { attached, .. } => attached,
            Self::Batch => true,
            Self::Cancel { .. } => false,
        }
    }
}

/// A request that waits for the ends of jobs.
#[derive(Debug)]
pub struct Watcher {
    pub wanted: Wanted,
    remaining: IdSet<JobId>,
    /// The latest attempt of each job whose start it was told, where it watches starts.
    started: IdMap<JobId, u32>,
    /// Records kept for one reply at the end, and what is large of them.
    records: Vec<Record>,
    record_bytes: usize,
    /// Ends in few words, kept for one reply at the end of the turn, and what is large of them.
    briefs: Vec<Brief>,
    brief_bytes: usize,
    /// Jobs whose records are to be read when the client has read what it was told.
    unread: VecDeque<JobId>,
    /// Attempts whose start is to be told then, before that.
    starts: BTreeMap<JobId, u32>,
    /// Starts that it was told of since it last had read all.
    starts_told: usize,
    /// It has much to read.
    is_full: bool,
    /// It wants to know why its jobs do not go on.
    pub tells_obstacles: bool,
    /// How many obstacles of each kind it was told.
    obstacles: BTreeMap<ObstacleKind, u32>,
}

impl Watcher {
    pub fn new(wanted: Wanted, ids: impl IntoIterator<Item = JobId>) -> Self {
        Self {
            wanted,
            remaining: ids.into_iter().collect(),
            started: IdMap::default(),
            records: Vec::new(),
            record_bytes: 0,
            briefs: Vec::new(),
            brief_bytes: 0,
            unread: VecDeque::new(),
            starts: BTreeMap::new(),
            starts_told: 0,
            is_full: false,
            tells_obstacles: false,
            obstacles: BTreeMap::new(),
        }
    }

    /// Whether ends are told as they come, and not by and by.
    pub fn keeps_up(&self) -> bool {
        !self.is_full
    }

    pub fn waits_for_one(&self) -> bool {
        self.remaining.len() == 1
    }

    /// The same, told of obstacles.
    pub fn telling_obstacles(self, tells_obstacles: bool) -> Self {
        Self { tells_obstacles, ..self }
    }

    /// Whether it is to be told one more obstacle of that kind.
    pub fn note_obstacle(&mut self, kind: ObstacleKind) -> bool {
        if !self.tells_obstacles {
            return false;
        }
        let told = self.obstacles.entry(kind).or_default();
        *told += 1;
        *told <= MOST_TOLD
    }

    /// The jobs that it still waits for.
    pub fn remaining(&self) -> hash_set::Iter<'_, JobId> {
        self.remaining.iter()
    }

    fn waits_for(&self, id: JobId) -> bool {
        self.remaining.contains(&id)
    }

    /// It waits for the job no longer; false where it did not. Only [`Requests`](super::request::Requests),
    /// which has the index, calls this.
    pub fn strike(&mut self, id: JobId) -> bool {
        self.remaining.remove(&id)
    }

    /// Whether it has not been told of that start.
    fn note_start(&mut self, id: JobId, attempt: u32) -> bool {
        self.started.insert(id, attempt).is_none_or(|told| told < attempt)
    }
}

/// What may be large of an end in few words.
fn brief_bytes(brief: &Brief) -> usize {
    [&brief.value, &brief.error].into_iter().flatten().map(|json| json.get().len()).sum()
}

/// An end, told in full or in few words.
#[derive(Debug, Clone, Copy)]
enum KnownEnd<'a> {
    Record(&'a Record),
    Brief(&'a Brief),
}

impl KnownEnd<'_> {
    fn in_full(self) -> Record {
        match self {
            Self::Record(record) => record.clone(),
            Self::Brief(_) => unreachable!("whoever wants the record has it read"),
        }
    }

    fn in_brief(self) -> Brief {
        match self {
            Self::Brief(brief) => brief.clone(),
            Self::Record(record) => Brief {
                id: record.id,
                state: record.state,
                result: record.result.filter(|_| record.state != State::Succeeded),
                value: record.value.clone(),
                error: record.error.clone(),
                exit_code: record.exit_code,
                signal: record.signal,
                reason: record.reason.clone(),
                output_pruned: record.output_pruned.then_some(true),
            },
        }
    }
}

/// An outcome in few words.
pub fn in_brief(id: JobId, outcome: &Outcome) -> Brief {
    let Outcome { state, result, exit_code, signal, reason, answer, .. } = outcome;
    let (value, error) = match answer {
        Some(Ok(value)) => (Some(value.clone()), None),
        Some(Err(error)) => (None, Some(error.clone())),
        None => (None, None),
    };
    Brief {
        id: id.0,
        state: *state,
        result: Some(*result).filter(|_| *state != State::Succeeded),
        value,
        error,
        exit_code: *exit_code,
        signal: *signal,
        reason: reason.clone(),
        output_pruned: None,
    }
}

/// A reply to `Submit` or `Wait` that tells nothing but what it is about.
pub fn progress(event: ProgressEvent, id: JobId) -> Progress {
    Progress {
        event,
        id: id.0,
        attempt: None,
        descriptors: None,
        record: None,
        existing: None,
        state: None,
        progress: None,
        obstacle: None,
    }
}

impl Desk {
    /// The request waits from now on, so that no end can slip through; the engine then tells what has ended
    /// already, and what does not exist.
    pub(super) fn on_wait(
        &mut self,
        request: RequestId,
        mut ids: Vec<JobId>,
        wanted: Wanted,
        tells_obstacles: bool,
    ) {
        if ids.is_empty() {
            let parameter = "ids: at least one is needed".to_owned();
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        if ids.len() > MAX_AWAITED {
            let parameter = format!("ids: at most {MAX_AWAITED} at once");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        ids.sort_unstable();
        ids.dedup();

        let watcher = Watcher::new(wanted, ids.iter().copied()).telling_obstacles(tells_obstacles);
        self.requests.insert(request, Open::Waiting(Box::new(watcher)));
        if tells_obstacles {
            // So that the client knows that it is heard, however long the jobs take.
            match wanted {
                Wanted::Cancel { .. } => self.reply(request, Canceled::default(), false),
                Wanted::Attached(_) | Wanted::Ends { .. } | Wanted::Batch => {
                    self.reply(request, progress(ProgressEvent::Waiting, ids[0]), false);
                }
            }
        }
        if let Wanted::Ends { attached: true, .. } = wanted {
            self.command(core::Event::Attended { ids: ids.clone() });
        }
        self.read_soon(request, ids);
        self.read_on(request);
    }

    /// The records of these jobs are read when their turn has come.
    pub(super) fn read_soon(&mut self, request: RequestId, ids: impl IntoIterator<Item = JobId>) {
        if let Some(watcher) = self.requests.watcher_mut(request) {
            watcher.unread.extend(ids);
        }
    }

    /// Asks for the next records, unless the client has enough to read.
    pub(super) fn read_on(&mut self, request: RequestId) {
        let Some(watcher) = self.requests.watcher_mut(request) else { return };
        if watcher.is_full {
            return;
        }
        let count = watcher.unread.len().min(IDS_AT_ONCE);
        let ids: Vec<JobId> = watcher.unread.drain(..count).collect();
        if !ids.is_empty() {
            self.ask(Question::Records { request, ids });
        }
    }

    /// The client has much to read: the rest is told when it has read that.
    pub(super) fn on_full(&mut self, request: RequestId) {
        let Some(watcher) = self.requests.watcher_mut(request) else { return };
        if !std::mem::replace(&mut watcher.is_full, true) {
            self.effects.push(Effect::AwaitDrained { request });
        }
    }

    /// The client of a waiting request has read all that it was told.
    pub(super) fn tell_on(&mut self, request: RequestId) {
        let Some(watcher) = self.requests.watcher_mut(request) else { return };
        (watcher.is_full, watcher.starts_told) = (false, 0);
        while let Some(watcher) = self.requests.watcher_mut(request)
            && !watcher.is_full
            && let Some((id, attempt)) = watcher.starts.pop_first()
        {
            self.tell_start(request, id, attempt);
        }
        self.read_on(request);
    }

    /// The records of jobs that a request may still wait for. `rest`: those that there was no room for.
    pub(super) fn on_awaited_records(
        &mut self,
        request: RequestId,
        records: &[Record],
        missing: &[JobId],
        rest: Vec<JobId>,
        core: &Core,
    ) {
        if let Some(watcher) = self.requests.watcher_mut(request) {
            rest.into_iter().rev().for_each(|id| watcher.unread.push_front(id));
        }
        if let Some(id) = missing.first() {
            return self.refuse(request, Refusal::NoSuchJob { id: id.0, pruned: None });
        }

        for record in records {
            let id = JobId(record.id);
            // It may be over: with `any`, an end before this one was the last reply.
            let Some(watcher) = self.requests.watcher(request) else { return };
            if !watcher.waits_for(id) {
                continue; // It was told of already.
            }
            let wanted = watcher.wanted;

            let is_queued = matches!(record.state, State::Queued | State::Retrying);
            // An array has no attempt of its own.
            let is_array = record.array.as_ref().is_some_and(|array| array.index.is_none());
            if record.argv.is_some() && record.started_at.is_some() && !is_queued && !is_array {
                self.tell_start(request, id, record.attempt);
            }
            if wanted.watch() >= Watch::Progress
                && let Some(progress) = core.progress_of(id)
            {
                self.tell_progress(request, id, progress);
            }

            if record.state.is_terminal() {
                self.tell_end(request, id, KnownEnd::Record(record));
            } else if let Wanted::Cancel { unstarted } = wanted {
                if unstarted && !matches!(core.reachable(id), Reach::Unknown) {
                    self.spare(request, id);
                } else {
                    self.command(core::Event::Cancel { id, unstarted });
                }
            }
            if let Some(obstacle) = self.obstacle_of(record, core) {
                self.tell_obstacle_to(request, obstacle);
            }
        }

        if let Some(watcher) = self.requests.watcher(request)
            && !watcher.is_full
            && !watcher.unread.is_empty()
        {
            self.effects.push(Effect::AwaitDrained { request });
        }
    }

    // ---- what the core tells ----

    pub(super) fn on_started(&mut self, id: JobId, attempt: u32) {
        for request in self.requests.watching(id, Watch::Output) {
            self.tell_start(request, id, attempt);
        }
    }

    /// To those who listen, and those who wait.
    pub(super) fn tell_progress_of(&mut self, id: JobId, attempt: u32, progress: &CallProgress) {
        self.hear_of_progress(id, attempt, progress);
        for request in self.requests.watching(id, Watch::Progress) {
            self.tell_progress(request, id, progress.clone());
        }
    }

    pub(super) fn on_ended(&mut self, id: JobId, record: Option<&Record>) {
        let brief = self.requests.take_brief(id);
        for request in self.requests.awaiting(id) {
            let Some(watcher) = self.requests.watcher_mut(request) else { continue };
            if watcher.is_full {
                // Of a later look at it, the record is there as long as somebody waits for it.
                watcher.unread.push_back(id);
                continue;
            }
            let is_batch = watcher.wanted == Wanted::Batch;
            match (record, &brief) {
                (Some(record), _) => self.tell_end(request, id, KnownEnd::Record(record)),
                (None, Some(brief)) if is_batch => self.tell_end(request, id, KnownEnd::Brief(brief)),
                // It did not wait yet when the end was given to the engine. It has come since, and may have
                // been told that the job still ran.
                (None, _) => self.ask(Question::Records { request, ids: vec![id] }),
            }
        }
    }

    /// A job that was to be ended has ended before, or does not exist: the engine knows which.
    pub(super) fn on_lost(&mut self, id: JobId) {
        self.requests.take_brief(id);
        for request in self.requests.awaiting(id) {
            self.ask(Question::Records { request, ids: vec![id] });
        }
    }

    // ---- what a request is told ----

    /// A start is told once. It may be known in two ways: from the record, and from the core, whose word may
    /// still be on its way when the record is read.
    fn tell_start(&mut self, request: RequestId, id: JobId, attempt: u32) {
        let Some(watcher) = self.requests.watcher_mut(request) else { return };
        if watcher.wanted.watch() < Watch::Output {
            return;
        }
        if watcher.is_full || watcher.starts_told == STARTS_AT_ONCE {
            watcher.starts.insert(id, attempt);
            return self.on_full(request);
        }
        if watcher.note_start(id, attempt) {
            watcher.starts_told += 1;
            self.effects.push(Effect::ReplyStarted { request, id, attempt });
        }
    }

    fn tell_progress(&mut self, request: RequestId, id: JobId, of_call: CallProgress) {
        if self.requests.watcher(request).is_none_or(|watcher| watcher.is_full) {
            return;
        }
        let told = Progress { progress: Some(of_call), ..progress(ProgressEvent::Progress, id) };
        self.reply(request, told, false);
    }

    /// A job has ended: its request is told, if it still waits for the job.
    fn tell_end(&mut self, request: RequestId, id: JobId, end: KnownEnd<'_>) {
        // Where its start is yet to be told, that comes first.
        if let Some(watcher) = self.requests.watcher_mut(request)
            && watcher.starts.contains_key(&id)
        {
            return watcher.unread.push_back(id);
        }
        let Some(watcher) = self.requests.end_awaited(request, id) else { return };
        let is_last = watcher.remaining.is_empty();
        match watcher.wanted {
            Wanted::Attached(_) => self.tell_record(request, end.in_full(), true),
            Wanted::Ends { any, .. } => self.tell_record(request, end.in_full(), any || is_last),
            // They travel together, at the end of the turn.
            Wanted::Batch => {
                if watcher.briefs.is_empty() {
                    self.brief_at_end.push(request);
                }
                let brief = end.in_brief();
                watcher.brief_bytes += brief_bytes(&brief);
                watcher.briefs.push(brief);
                if watcher.brief_bytes > BRIEF_BYTES {
                    self.tell_briefs_of(request);
                }
            }
            Wanted::Cancel { .. } => {
                let mut record = end.in_full();
                watcher.record_bytes += large_bytes(&record);
                if watcher.record_bytes > CANCELED_BYTES {
                    (record.params, record.value, record.error) = (None, None, None);
                }
                watcher.records.push(record);
                self.tell_canceled(request);
            }
        }
    }

    /// A cancel of what has not started does not wait for this job, which has.
    fn spare(&mut self, request: RequestId, id: JobId) {
        if self.requests.end_awaited(request, id).is_some() {
            self.tell_canceled(request);
        }
    }

    /// All ends are told at once, with the last.
    fn tell_canceled(&mut self, request: RequestId) {
        let Some(watcher) = self.requests.watcher_mut(request) else { return };
        if watcher.remaining.is_empty() {
            let mut jobs = std::mem::take(&mut watcher.records);
            jobs.sort_unstable_by_key(|record| record.id);
            self.reply(request, Canceled { jobs, obstacles: None }, true);
        }
    }

    fn tell_record(&mut self, request: RequestId, record: Record, last: bool) {
        let (id, attempt) = (JobId(record.id), Some(record.attempt));
        let ended =
            Progress { attempt, record: Some(Box::new(record)), ..progress(ProgressEvent::Ended, id) };
        self.reply(request, ended, last);
    }

    /// The ends of this turn, for those who want them in few words.
    pub(super) fn tell_briefs(&mut self) {
        for request in std::mem::take(&mut self.brief_at_end) {
            self.tell_briefs_of(request);
        }
    }

    fn tell_briefs_of(&mut self, request: RequestId) {
        let Some(watcher) = self.requests.watcher_mut(request) else { return };
        let results = std::mem::take(&mut watcher.briefs);
        watcher.brief_bytes = 0;
        if results.is_empty() {
            return; // They were told before the end of the turn.
        }
        let is_last = watcher.remaining.is_empty();
        self.reply(request, Submitted { results, ..Submitted::default() }, is_last);
    }

    /// The client of a waiting request has gone.
    pub(super) fn abandon(&mut self, watcher: Watcher) {
        if watcher.wanted.ties() && !watcher.remaining.is_empty() {
            let mut ids: Vec<JobId> = watcher.remaining.into_iter().collect();
            ids.sort_unstable();
            self.command(core::Event::ClientGone { ids });
        }
    }
}
