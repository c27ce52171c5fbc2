//! A backing in memory: every order is carried out at once and in order, and nothing is on disk.
//!
//! It has two uses. In the daemon it keeps the volatile jobs (`durability = "none"`), which end with the
//! supervisor; what has ended is remembered for a while only, so that clients can ask for it. In the
//! simulation it stands in for the durable backing, forgets nothing by itself, and holds the machines to the
//! contract: what a durable backing would log as a bug is a [mistake](Memory::mistakes) here.

mod arrays;
mod callbacks;
mod edit;
mod history;
mod insert;
mod places;
mod read;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use pool_proto::nouns::{Dependency, IfExists};
use pool_proto::{Json, OsText, Refusal, State};

use arrays::KeptArray;
use callbacks::OutgoingCallback;
use history::EndedJobs;

use super::{
    Answer, Backing, Boot, Change, Chore, MAX_ATTEMPTS, NotAssigned, NotRetried, Order, Pace, Question,
    Times, Told,
};
use crate::job::{
    After, CallbackId, JobId, KeptSchedule, Key, LineKey, PastAttempt, Pause, Place, Position, RequestId,
    Start, Tries, Unique, Unit, Unmet, Work,
};

/// Mistakes that are kept. The first ones tell what is wrong.
const MAX_MISTAKES: usize = 100;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Memory {
    jobs: BTreeMap<JobId, Row>,
    callbacks: BTreeMap<CallbackId, OutgoingCallback>,
    arrays: BTreeMap<JobId, KeptArray>,
    /// The holders of keys.
    keys: HashMap<OsText, JobId>,
    /// Of each unique name the jobs that have it and have not ended: the first has its turn, the others wait.
    names: HashMap<OsText, BTreeSet<JobId>>,
    /// Queued jobs by line. A line without any has no entry.
    lines: BTreeMap<LineKey, BTreeSet<Position>>,
    /// What waits for a time, the first one first.
    waits: BTreeSet<(i64, Unit)>,
    /// What the jobs that have not ended take.
    living_bytes: usize,
    /// Jobs that have deadlines and have not ended, the first one first.
    deadlines: BTreeSet<(i64, JobId)>,
    /// The last one of them that was told where this is the backing for volatile jobs.
    overdue_told: Option<(i64, JobId)>,
    /// Jobs that are to have begun by a time and have not, or have ended since; the first one first.
    starts: BTreeSet<(i64, JobId)>,
    late_told: Option<(i64, JobId)>,
    history: EndedJobs,
    /// Ends so far: the order in which callbacks are run.
    ends: u64,
    /// The first ids that were never given out; 0 before the first insertion.
    next_job: u64,
    next_callback: u64,
    reserved_below: u64,
    boot: Boot,
    /// Jobs that are to run after others, by these: those that have not ended, or were not looked at.
    dependents: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Jobs that have ended, and others are to run after them that nobody has looked at; whether they have
    /// succeeded.
    resolving: BTreeMap<JobId, bool>,
    /// Jobs that are to be canceled, each with the one that has not ended as it was to.
    failed: BTreeMap<JobId, JobId>,
    pools: BTreeMap<String, String>,
    pauses: BTreeMap<String, Pause>,
    workers: BTreeMap<String, u32>,
    schedules: BTreeMap<String, KeptSchedule>,
    limits: BTreeMap<String, u32>,
    told: VecDeque<Told>,
    mistakes: Vec<String>,
}

/// A job.
#[derive(Debug, Clone)]
struct Row {
    work: Arc<Work>,
    /// What that takes.
    bytes: usize,
    /// The work as it was submitted, where that is more than is kept: for tests, which look for whoever has
    /// it.
    #[cfg(test)]
    submitted: std::sync::Weak<Work>,
    key: Option<Key>,
    unique: Option<Unique>,
    /// Its callbacks, in order, and how many of them are pending or running.
    callbacks: Vec<CallbackId>,
    undelivered: usize,
    place: Place,
    tries: Tries,
    /// The start of the current attempt was told and confirmed before the attempt ran: it may be told again.
    is_confirmed: bool,
    submitted_us: i64,
    deadline_us: Option<i64>,
    start_by_us: Option<i64>,
    /// What it has waited for since its submission, and what of that is still to come.
    unmet: Unmet,
    /// The time of the wall's clock that it waits for.
    at_us: Option<i64>,
    /// The others among that, in order.
    after: Vec<After>,
    /// All others that it was submitted to run after.
    depends_on: Vec<After>,
    /// So often it has been run again after its end.
    reruns: u32,
    reason: Option<String>,
    last_crash: Option<String>,
    /// Of the current attempt, or of the last one of a job that has ended.
    start: Option<Start>,
    /// It was submitted with a key, which it may have lost since.
    has_had_key: bool,
    /// Its output and result were removed to make room.
    is_stripped: bool,
    /// Attempts that others have followed.
    past: Vec<PastAttempt>,
}

impl Row {
    /// An attempt that is over; an older one goes for it, where there are many.
    fn keep_attempt(&mut self, past: PastAttempt) {
        self.past.retain(|other| other.attempt != past.attempt);
        self.past.push(past);
        let older = self.past.len().saturating_sub(MAX_ATTEMPTS as usize);
        self.past.drain(..older);
    }

    fn has_ended(&self) -> bool {
        matches!(self.place, Place::Ended(_))
    }

    /// It waits until those before it of its unique name, which are to be canceled, have ended.
    fn takes_their_place(&self) -> bool {
        let if_exists = self.unique.as_ref().map(|unique| unique.if_exists);
        self.unmet.follows && !self.has_ended() && if_exists == Some(IfExists::Replace)
    }

    /// What it is still to run after.
    fn dependencies(&self) -> Vec<Dependency> {
        self.after.iter().map(|after| Dependency { id: after.id.0, on: Some(after.on) }).collect()
    }

    fn position(&self, id: JobId) -> Position {
        Position { priority: std::cmp::Reverse(self.work.priority), id }
    }
}

impl Backing for Memory {
    fn submit(&mut self, orders: Vec<Order>) {
        orders.into_iter().for_each(|order| self.carry_out(order));
    }

    fn keep(&mut self, ticket: u64, values: Vec<Json>) {
        self.told.push_back(Told::Kept { ticket, files: vec![None; values.len()] });
    }

    fn next(&mut self) -> Option<Told> {
        self.told.pop_front()
    }
}

impl Memory {
    /// One that forgets ended jobs by itself, beyond what is worth remembering: for volatile jobs.
    pub fn forgetful() -> Self {
        Self { history: EndedJobs::bounded(), ..Self::default() }
    }

    /// Carries out what is about jobs and callbacks that are here; returns what is not. Of an order that may
    /// be about others as well, both happen: it is carried out, and the rest of it returned.
    pub fn take(&mut self, order: Order) -> Option<Order> {
        let is_ours = match order {
            Order::Change(Change::Insert(ref insertion)) => {
                insertion.jobs.first().is_some_and(|work| work.volatile)
            }
            Order::Change(Change::Move(ref moved)) => self.has(moved.id),
            Order::Change(Change::Hold { request, ids }) => return self.take_hold(request, ids),
            Order::Change(Change::Assign { request, ids, pool, is_warm }) => {
                return self.take_assign(request, ids, pool, is_warm);
            }
            Order::Change(Change::Edit(ref change)) if self.has(change.id) => {
                self.refuse_edit(change);
                return None;
            }
            Order::Change(Change::Edit(_)) => false,
            Order::Question(Question::Definition { id, .. }) => self.has(id),
            Order::Change(Change::Retry { request, ids, times, closed }) => {
                return self.take_retry(request, ids, times, closed);
            }
            Order::Change(Change::Release { request, ids, closed }) => {
                return self.take_release(request, ids, closed);
            }
            Order::Change(Change::Remove { request, ids }) => return self.take_remove(request, ids),
            Order::Change(Change::Wake { until_us, limit }) => {
                // Without any here, the other backing's answer says everything.
                if !self.waits.is_empty() {
                    self.wake(until_us, limit as usize);
                }
                false
            }
            // No job waits for one that is here, and none here for a time of the wall's clock.
            Order::Change(Change::Resolve { .. } | Change::SetClock { .. }) => false,
            // No array is volatile.
            Order::Change(Change::Unfold { .. } | Change::Fold { .. }) => false,
            Order::Overdue { term, until_us, .. } => {
                if !self.terms(term).is_empty() {
                    self.answer_overdue_volatile(term, until_us);
                }
                false
            }
            Order::Change(Change::BeginCallback { id } | Change::EndCallback { id, .. }) => {
                self.callbacks.contains_key(&id)
            }
            Order::Question(Question::Records { request, ids }) => return self.take_records(request, ids),
            Order::Change(
                Change::SetPool { .. }
                | Change::SetPause { .. }
                | Change::SetWorkers { .. }
                | Change::SetSchedules { .. }
                | Change::SetLimit { .. }
                // No volatile job has callbacks.
                | Change::AlterCallbacks { .. },
            )
            | Order::Question(
                Question::Page { .. }
                | Question::Counts { .. }
                | Question::Line { .. }
                | Question::Pace { .. }
                | Question::Dependents { .. }
                | Question::Attempts { .. }
                // No volatile job has a key, and none is held.
                | Question::Keepers { .. }
                | Question::Callbacks { .. }
                | Question::CountHeld { .. },
            )
            | Order::Chore(_)
            | Order::Fetch { .. } => false,
        };

        if is_ours {
            self.carry_out(order);
            return None;
        }
        Some(order)
    }

    /// No volatile job is held.
    fn take_hold(&mut self, request: RequestId, ids: Vec<JobId>) -> Option<Order> {
        let (ours, others): (Vec<JobId>, Vec<JobId>) = ids.into_iter().partition(|&id| self.has(id));
        if !ours.is_empty() {
            let states = ours.into_iter().map(|id| (id, self.state(id))).collect();
            self.answer(Answer::Withheld { request, held: Vec::new(), others: states });
        }
        (!others.is_empty()).then_some(Order::Change(Change::Hold { request, ids: others }))
    }

    /// No volatile job is moved.
    fn take_assign(
        &mut self,
        request: RequestId,
        ids: Vec<JobId>,
        pool: Arc<str>,
        is_warm: bool,
    ) -> Option<Order> {
        let (ours, others): (Vec<JobId>, Vec<JobId>) = ids.into_iter().partition(|&id| self.has(id));
        if !ours.is_empty() {
            let others = ours.into_iter().map(|id| (id, NotAssigned::Volatile)).collect();
            self.answer(Answer::Assigned {
                request,
                pool: pool.clone(),
                jobs: Vec::new(),
                unfit: Vec::new(),
                others,
            });
        }
        let order = || Order::Change(Change::Assign { request, ids: others.clone(), pool, is_warm });
        (!others.is_empty()).then(order)
    }

    /// No volatile job is run again.
    fn take_retry(
        &mut self,
        request: RequestId,
        ids: Vec<JobId>,
        times: Times,
        closed: Vec<Arc<str>>,
    ) -> Option<Order> {
        let (ours, others): (Vec<JobId>, Vec<JobId>) = ids.into_iter().partition(|&id| self.has(id));
        if !ours.is_empty() {
            let others = ours.into_iter().map(|id| (id, NotRetried::Volatile)).collect();
            let (jobs, failed, arrays) = (Vec::new(), Vec::new(), Vec::new());
            self.answer(Answer::Retried { request, jobs, failed, others, arrays });
        }
        (!others.is_empty()).then_some(Order::Change(Change::Retry { request, ids: others, times, closed }))
    }

    fn take_remove(&mut self, request: RequestId, ids: Vec<JobId>) -> Option<Order> {
        let (ours, others): (Vec<JobId>, Vec<JobId>) = ids.into_iter().partition(|&id| self.has(id));
        if !ours.is_empty() {
            self.remove_named(request, ours);
        }
        (!others.is_empty()).then_some(Order::Change(Change::Remove { request, ids: others }))
    }

    /// Jobs cannot be released here and elsewhere at once, all or none. No volatile job is ever held, so
    /// nobody misses that.
    fn take_release(&mut self, request: RequestId, ids: Vec<JobId>, closed: Vec<Arc<str>>) -> Option<Order> {
        if !ids.iter().any(|&id| self.has(id)) {
            return Some(Order::Change(Change::Release { request, ids, closed }));
        }
        self.release(request, ids, &closed);
        None
    }

    /// A question without ids is for the other backing: its answer comes after the answers to all that was
    /// asked before.
    fn take_records(&mut self, request: RequestId, ids: Vec<JobId>) -> Option<Order> {
        let (ours, others): (Vec<JobId>, Vec<JobId>) = ids.into_iter().partition(|&id| self.has(id));
        if !ours.is_empty() {
            self.answer_records(request, &ours);
        }
        let question = || Order::Question(Question::Records { request, ids: others.clone() });
        (!others.is_empty() || ours.is_empty()).then(question)
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Change(change) => self.change(change),
            Order::Question(Question::Records { request, ids }) => self.answer_records(request, &ids),
            Order::Question(Question::Page { request, page }) => {
                let (records, entries, next) = self.page(&page);
                self.answer(Answer::Listed { request, records, entries, next });
            }
            Order::Question(Question::Definition { request, id }) => self.define(request, id),
            Order::Question(Question::Counts { request }) => {
                let mut counts = Vec::new();
                self.join_counts(&mut counts);
                let failed_callbacks = self.count_failed_callbacks();
                self.answer(Answer::Tallied { request, counts, failed_callbacks });
            }
            Order::Question(Question::Dependents { request, id, limit }) => {
                let (dependents, more) = self.list_dependents(id, limit as usize);
                self.answer(Answer::Dependents { request, dependents, more });
            }
            Order::Question(Question::Attempts { request, id }) => {
                let attempts = self.exists(id).then(|| self.past_attempts(id));
                self.answer(Answer::Attempts { request, attempts });
            }
            Order::Question(Question::Keepers { request, keys }) => {
                let keepers = keys.iter().map(|key| self.keeper(key)).collect();
                self.answer(Answer::Keepers { request, keepers });
            }
            Order::Question(Question::Callbacks { request, page }) => {
                let (callbacks, next) = self.read_callbacks(page);
                self.answer(Answer::Callbacks { request, callbacks, next });
            }
            Order::Question(Question::CountHeld { request }) => {
                let is_held = |row: &&Row| row.place.state() == State::Held;
                let held = self.jobs.values().filter(is_held).count() as u64;
                self.answer(Answer::Counted { request, held });
            }
            Order::Question(Question::Line { request, line }) => {
                let mut head = Vec::new();
                self.join_line(&line, &mut head);
                self.answer(Answer::Line { request, line, head });
            }
            Order::Question(Question::Pace { request, pool }) => {
                let mut pace = Pace { order: Some(Vec::new()), ran: Vec::new() };
                self.join_pace(&pool, &mut pace);
                self.answer(Answer::Pace { request, pool, pace });
            }
            Order::Chore(chore) => self.do_chore(chore),
            Order::Overdue { term, after, until_us, limit } => {
                let (jobs, next_us) = self.overdue(term, after, until_us, limit as usize);
                let last = jobs.last().copied();
                let jobs = jobs.into_iter().map(|(_, id)| id).collect();
                self.answer(Answer::Overdue { term, jobs, last, next_us });
            }
            Order::Fetch { line, after, limit } => {
                let (jobs, complete) = self.fetch(&line, after, limit as usize);
                self.answer(Answer::Fetched { line, jobs, complete });
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Insert(insertion) => self.insert(insertion),
            Change::Move(moved) => self.place(*moved),
            Change::Hold { request, ids } => self.hold(request, ids),
            Change::Assign { request, ids, pool, is_warm } => self.assign(request, ids, pool, is_warm),
            Change::Edit(change) => self.edit(&change),
            Change::Retry { request, ids, times, closed } => self.retry(request, ids, &times, &closed),
            Change::Remove { request, ids } => self.remove_named(request, ids),
            Change::Release { request, ids, closed } => self.release(request, ids, &closed),
            Change::Wake { until_us, limit } => self.wake(until_us, limit as usize),
            Change::Resolve { limit } => self.resolve(limit as usize),
            Change::Unfold { array, limit, now_us } => self.unfold(array, limit, now_us),
            Change::Fold { array, reason, after, limit } => self.fold(array, reason, after, limit),
            Change::SetClock { ahead_us } => self.set_clock(ahead_us),
            Change::BeginCallback { id } => self.begin_callback(id),
            Change::EndCallback { id, end, exit_code } => self.end_callback(id, end, exit_code),
            Change::AlterCallbacks { request, ids, wish } => self.alter_callbacks(request, ids, wish),
            Change::SetPool { request, name, value } => {
                match value {
                    Some(value) => _ = self.pools.insert(name, value),
                    None => {
                        self.pauses.remove(&name);
                        self.workers.remove(&name);
                        self.pools.remove(&name);
                    }
                }
                self.answer(Answer::Kept { request });
            }
            Change::SetPause { request, pools, pause } => {
                for pool in pools {
                    match pause {
                        Some(pause) => _ = self.pauses.entry(pool).or_insert(pause),
                        None => _ = self.pauses.remove(&pool),
                    }
                }
                self.answer(Answer::Kept { request });
            }
            Change::SetWorkers { request, pool, workers } => {
                match workers {
                    Some(workers) => _ = self.workers.insert(pool, workers),
                    None => _ = self.workers.remove(&pool),
                }
                self.answer(Answer::Kept { request });
            }
            Change::SetSchedules { request, schedules } => {
                for (name, schedule) in schedules {
                    match schedule {
                        Some(schedule) => _ = self.schedules.insert(name, schedule),
                        None => _ = self.schedules.remove(&name),
                    }
                }
                self.answer(Answer::Kept { request });
            }
            Change::SetLimit { request, label, limit } => {
                match limit {
                    Some(limit) => _ = self.limits.insert(label, limit),
                    None => _ = self.limits.remove(&label),
                }
                self.answer(Answer::Kept { request });
            }
        }
    }

    fn do_chore(&mut self, chore: Chore) {
        match chore {
            Chore::Booted(boot) => self.boot = boot,
            Chore::ReserveIds { below } => {
                self.reserved_below = self.reserved_below.max(below);
                self.answer(Answer::IdsReserved { below });
            }
            Chore::Prune(room) => self.prune(&room),
            Chore::Hold { request, .. } => {
                let reason = "jobs that are kept in memory have no file that could be copied".to_owned();
                self.answer(Answer::Held { request, bytes: Err(Refusal::StoreFailed { reason }) });
            }
            Chore::LetGo { request, .. } => {
                let reason = "it was not begun on this connection".to_owned();
                self.answer(Answer::LetGo { request, whole: Err(Refusal::BackupSpoiled { reason }) });
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.told.push_back(Told::Answer(answer));
    }

    /// The machines have done what the contract does not allow, or what can only be a bug of theirs.
    fn mistake(&mut self, text: String) {
        tracing::error!("bug: {text}; ignored");
        if self.mistakes.len() < MAX_MISTAKES {
            self.mistakes.push(text);
        }
    }

    /// Whether the job is here.
    pub fn has(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id)
    }
}

/// What tests look at.
#[cfg(test)]
impl Memory {
    /// What a durable backing would have logged as bugs, the first ones. A move that was lost under
    /// [`Fence::Idle`](super::Fence::Idle) is none.
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }

    /// Where a job is.
    pub fn place_of(&self, id: JobId) -> Option<&Place> {
        self.jobs.get(&id).map(|row| &row.place)
    }

    /// How often a job has been run again after its end.
    pub fn reruns_of(&self, id: JobId) -> u32 {
        self.jobs.get(&id).map_or(0, |row| row.reruns)
    }

    /// How often a job was tried.
    pub fn tries_of(&self, id: JobId) -> Option<Tries> {
        self.jobs.get(&id).map(|row| row.tries)
    }

    /// The work of a job, as a slot gets it: without key and callbacks.
    pub fn work_of(&self, id: JobId) -> Option<&Arc<Work>> {
        self.jobs.get(&id).map(|row| &row.work)
    }

    /// The key that a job holds.
    pub fn key_of(&self, id: JobId) -> Option<&Key> {
        self.jobs.get(&id)?.key.as_ref()
    }

    /// The unique name of a job.
    pub fn name_of(&self, id: JobId) -> Option<&OsText> {
        self.jobs.get(&id)?.unique.as_ref().map(|unique| &unique.name)
    }

    /// The unique names of jobs that have not ended, each with these jobs.
    pub fn names(&self) -> impl Iterator<Item = (&OsText, &BTreeSet<JobId>)> {
        self.names.iter()
    }

    /// What the job still waits for before it begins.
    pub fn unmet(&self, id: JobId) -> Unmet {
        self.jobs.get(&id).map(|row| row.unmet).unwrap_or_default()
    }

    /// How far the delivery of a callback is, how often it was tried, and whose end it tells.
    pub fn delivery_of(&self, id: CallbackId) -> Option<(crate::engine::Delivery, u32, JobId)> {
        let callback = self.callbacks.get(&id)?;
        Some((callback.delivery, callback.attempts, callback.job))
    }

    /// All jobs, in order.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// All callbacks, in order.
    pub fn callbacks(&self) -> impl Iterator<Item = CallbackId> {
        self.callbacks.keys().copied()
    }

    /// Jobs that come before that one in its line, and in other lines of its pool with such needs.
    pub fn queued_before(&self, id: JobId, is_one: impl Fn(&crate::job::Needs) -> bool) -> Vec<JobId> {
        let Some(row) = self.jobs.get(&id) else { return Vec::new() };
        let (own, position) = (row.work.line(), row.position(id));
        let lines = self.lines_of(&row.work.pool).filter(|(line, _)| **line == own || is_one(&line.needs));
        lines.flat_map(|(_, jobs)| jobs.range(..position)).map(|position| position.id).collect()
    }

    /// How many jobs are in the lines of a pool.
    pub fn count_queued(&self, pool: &str) -> usize {
        self.lines_of(pool).map(|(_, line)| line.len()).sum()
    }

    /// The lines of a pool in which jobs are.
    pub fn lines_of(&self, pool: &str) -> impl Iterator<Item = (&LineKey, &BTreeSet<Position>)> {
        self.lines.iter().filter(move |(line, _)| *line.pool == *pool)
    }

    /// The limits of labels that are kept.
    pub fn limits(&self) -> &BTreeMap<String, u32> {
        &self.limits
    }

    /// How many jobs of a pool wait for the time of their next attempt.
    pub fn count_waiting(&self, pool: &str) -> usize {
        let is_of_pool = |id: &JobId| self.jobs.get(id).is_some_and(|row| *row.work.pool == *pool);
        let jobs = self.waits.iter().filter_map(|(_, unit)| match unit {
            Unit::Job(id) => Some(id),
            Unit::Callback(_) => None,
        });
        jobs.filter(|id| is_of_pool(id)).count()
    }

    /// The pools that are paused.
    pub fn pauses(&self) -> &BTreeMap<String, Pause> {
        &self.pauses
    }

    /// Jobs whose work somebody holds besides this backing, and so many snapshots of it.
    pub fn count_held_elsewhere(&self, snapshots: usize) -> usize {
        let is_held =
            |row: &&Row| Arc::strong_count(&row.work) > 1 + snapshots || row.submitted.strong_count() > 0;
        self.jobs.values().filter(is_held).count()
    }

    /// All that it keeps, as it is now, and nothing of what it is still to say.
    pub fn snapshot(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            callbacks: self.callbacks.clone(),
            arrays: self.arrays.clone(),
            keys: self.keys.clone(),
            dependents: self.dependents.clone(),
            resolving: self.resolving.clone(),
            failed: self.failed.clone(),
            names: self.names.clone(),
            lines: self.lines.clone(),
            waits: self.waits.clone(),
            deadlines: self.deadlines.clone(),
            starts: self.starts.clone(),
            history: self.history.clone(),
            boot: self.boot.clone(),
            pools: self.pools.clone(),
            pauses: self.pauses.clone(),
            workers: self.workers.clone(),
            schedules: self.schedules.clone(),
            limits: self.limits.clone(),
            mistakes: self.mistakes.clone(),
            told: VecDeque::new(),
            ..*self
        }
    }
}
