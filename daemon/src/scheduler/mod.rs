//! The scheduler: which job runs where and when, and who is told what. A pure state machine: [`Scheduler::handle`] takes an event and
//! the time, and returns what is to be done about it. It does no I/O and reads no clock, so a test is a list of events and the effects
//! expected, and hours pass in microseconds.
//!
//! It holds what is active: slots, running attempts, waiters, the next few jobs of each pool, the next deadline. The queue is the
//! store's. What must not happen before a change is on disk follows from the store's answer to it, so no order needs to be kept by hand:
//! a job is accepted when it has been [`Inserted`](StoreAnswer::Inserted), its end is told when it is [`Finished`](StoreAnswer::Finished).
//!
//! ```text
//!            ┌────────── no room for a process ──────────┐
//!            ▼                                           │
//!  Insert ▶ queued ── slot free ──▶ running ── command executed, ended ──▶ succeeded | failed
//!            │ ▲                     │  │
//!            │ │                     │  └─ timeout, cancel, stop ─▶ stopping ──▶ timed_out | canceled | queued
//!            │ └── worker died ──────┴───────────────────────────────┘ │
//!            │                                                         └─ crash limit ──▶ lost
//!            └─ cancel ──▶ canceled
//! ```

mod event;
mod lane;
mod outcome;
mod queue;
mod slots;
pub mod store_op;
mod waiters;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::interface::{self, OnDisconnect, ResultKind, SlotState, State};
use pool_proto::{Record, Refusal};

pub use event::{CallbackSettings, Effect, Event, LaneId, Now, PoolSettings, Reply, Settings, SlotId};
use lane::CallbackLane;
use queue::Queue;
use slots::{Slot, Slots};
use store_op::{CallbackEnd, CallbackRun, Restored, StoreAnswer, StoreOp};
use waiters::{Kind, Waiters};

use crate::job::{CallId, CallbackId, Claim, Ended, Exit, JobId, Outcome, Ready, SpawnFailure, Stage, StopReason, Unit, Work};

/// One pool of jobs.
#[derive(Debug)]
struct Pool {
    name: Arc<str>,
    slots: Slots,
    queue: Queue,
}

/// A job's attempt that a worker has.
#[derive(Debug)]
struct Active {
    slot: SlotId,
    worker_pid: i32,
    attempt: u32,
    crashes: u32,
    work: Arc<Work>,
    /// The attempt's command has been executed.
    started: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running { deadline: Option<Duration> },
    Stopping { reason: StopReason, kill_at: Option<Duration> },
}

/// A submission that the store has not answered yet.
#[derive(Debug)]
struct Submission {
    attached: Option<OnDisconnect>,
    /// Its client has gone in between.
    orphaned: bool,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// An attempt's timeout, or its SIGKILL.
    Attempt(Unit),
    /// A slot's next worker.
    Respawn(SlotId),
    /// A paused pool goes on.
    Resume(usize),
    /// A failed callback's next attempt.
    Callback(CallbackId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Serving,
    /// Accepts nothing more; ends when everything has ended.
    Draining,
    /// Starts nothing more either; ends when nothing runs.
    Stopping,
    Exited,
}

/// See the module's description.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    pools: Vec<Pool>,
    lane: CallbackLane,
    active: HashMap<JobId, Active>,
    waiters: Waiters,
    submissions: HashMap<CallId, Submission>,
    /// Queued jobs outside the windows that the store has been asked to cancel.
    canceling: HashSet<JobId>,
    /// Ends that the store has been given and has not confirmed.
    finishing: u64,
    store_failing: bool,
    /// Told to stop for a second time.
    hurried: bool,
    timers: BTreeSet<(Duration, Timer)>,
    mode: Mode,
    next_job: u64,
    next_callback: u64,
    now: Now,
    effects: Vec<Effect>,
}

impl Scheduler {
    /// The scheduler of a start, and what is to be done first. Interrupted attempts are counted as crashes, their jobs queued again or,
    /// at the limit, given up.
    pub fn restore(settings: Settings, restored: Restored, now: Now) -> (Self, Vec<Effect>) {
        let mut scheduler = Self {
            lane: CallbackLane::new(settings.callbacks),
            settings: Settings { pools: Vec::new(), ..settings.clone() },
            pools: Vec::new(),
            active: HashMap::new(),
            waiters: Waiters::default(),
            submissions: HashMap::new(),
            canceling: HashSet::new(),
            finishing: 0,
            store_failing: false,
            hurried: false,
            timers: BTreeSet::new(),
            mode: Mode::Serving,
            next_job: restored.next_job,
            next_callback: restored.next_callback,
            now,
            effects: Vec::new(),
        };
        let mut queued = restored.queued;
        for job in restored.interrupted {
            if scheduler.recover(&job) {
                *queued.entry(job.pool).or_default() += 1;
            }
        }
        for callback in restored.callbacks {
            scheduler.schedule_callback(callback.id, callback.due_us);
        }
        scheduler.configure(settings, &queued);
        scheduler.dispatch();
        let effects = std::mem::take(&mut scheduler.effects);
        (scheduler, effects)
    }

    /// Takes in an event; returns what is to be done about it, in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Submit { call, jobs, attached } => self.on_submit(call, jobs, attached),
            Event::Wait { call, ids, any, output } => self.on_wait(call, ids, Kind::Wait { any, output }),
            Event::Cancel { call, ids } => self.on_wait(call, ids, Kind::Cancel),
            Event::Signal { call, id, signal } => self.on_signal(call, id, signal),
            Event::Disconnected { call } => self.on_disconnected(call),
            Event::Drain => self.mode = self.mode.max(Mode::Draining),
            Event::Stop => self.on_stop(),
            Event::Configure(settings) => self.configure(settings, &BTreeMap::new()),
            Event::Store(answer) => self.on_store(answer),
            Event::StoreFailing(failing) => self.store_failing = failing,
            Event::WorkerUp { slot, pid } => self.slots_mut(slot.lane).up(slot.index, pid),
            Event::WorkerFailed { slot } => self.respawn_later(slot),
            Event::WorkerLost { slot, pid, how } => self.on_worker_lost(slot, pid, &how),
            Event::Started { slot, claim, pid } => self.on_started(slot, claim, pid),
            Event::Ended { slot, claim, ended } => self.on_ended(slot, claim, &ended),
            Event::SpawnFailed { slot, claim, failure } => self.on_spawn_failed(slot, claim, failure),
            Event::Tick => self.on_tick(),
        }
        self.dispatch();
        self.exit_when_done();
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Whether new jobs are accepted.
    pub fn is_serving(&self) -> bool {
        self.mode == Mode::Serving
    }

    /// The pools as clients see them.
    pub fn pools(&self) -> Vec<interface::Pool> {
        self.pools.iter().map(Pool::describe).collect()
    }

    /// Whether a pool of that name takes jobs, and its own name to share.
    pub fn pool_name(&self, name: &str) -> Option<Arc<str>> {
        self.pools.iter().find(|pool| *pool.name == *name).map(|pool| pool.name.clone())
    }

    // ---- clients ----

    fn on_submit(&mut self, call: CallId, jobs: Vec<Arc<Work>>, attached: Option<OnDisconnect>) {
        if self.mode != Mode::Serving {
            return self.reply(call, Reply::Refused(Refusal::Draining {}), true);
        }
        let op = StoreOp::Insert {
            call,
            first: JobId(self.next_job),
            first_callback: CallbackId(self.next_callback),
            submitted_us: self.now.wall_us,
            jobs,
        };
        if let StoreOp::Insert { jobs, .. } = &op {
            self.next_job += jobs.len() as u64;
            self.next_callback += jobs.iter().map(|work| work.callbacks.len() as u64).sum::<u64>();
        }
        self.submissions.insert(call, Submission { attached, orphaned: false });
        self.store(op);
    }

    /// The call waits from now on, so that no end can slip through; the store then tells what has ended already, and what there is not.
    fn on_wait(&mut self, call: CallId, mut ids: Vec<JobId>, kind: Kind) {
        if ids.is_empty() {
            let parameter = "ids: at least one is needed".to_owned();
            return self.reply(call, Reply::Refused(Refusal::InvalidParameter { parameter }), true);
        }
        ids.sort_unstable();
        ids.dedup();
        self.waiters.add(call, kind, &ids);
        self.store(StoreOp::Get { call, ids });
    }

    fn on_signal(&mut self, call: CallId, id: JobId, signal: i32) {
        match self.active.get(&id) {
            Some(active) if active.started => {
                let (slot, claim) = (active.slot, active.claim(id));
                self.effects.push(Effect::Signal { slot, claim, signal });
                self.reply(call, Reply::Done, true);
            }
            Some(_) => self.refuse_signal(call, id, State::Queued),
            // Not held here: the store knows whether it has ended, is queued, or never was.
            None => self.store(StoreOp::Get { call, ids: vec![id] }),
        }
    }

    fn refuse_signal(&mut self, call: CallId, id: JobId, state: State) {
        let refusal = Refusal::NotRunning { id: id.0, state: state.as_str().to_owned() };
        self.reply(call, Reply::Refused(refusal), true);
    }

    fn on_disconnected(&mut self, call: CallId) {
        if let Some(submission) = self.submissions.get_mut(&call) {
            submission.orphaned = true;
        }
        if let Some((Kind::Attached(OnDisconnect::Cancel), ids)) = self.waiters.remove(call) {
            ids.into_iter().for_each(|id| self.cancel(id));
        }
    }

    fn on_stop(&mut self) {
        self.hurried = self.mode >= Mode::Stopping;
        self.mode = self.mode.max(Mode::Stopping);
        let ids: Vec<JobId> = self.active.keys().copied().collect();
        for id in ids {
            self.stop(id, StopReason::Shutdown);
            if self.hurried {
                self.kill(id);
            }
        }
        for (id, current) in self.lane.running() {
            self.stop_callback(id, current);
        }
    }

    fn stop_callback(&mut self, id: CallbackId, current: lane::Current) {
        let (slot, Some(claim)) = (current.slot, current.claim) else { return };
        let timer = Timer::Attempt(Unit::Callback(id));
        if self.hurried {
            return self.effects.push(Effect::Kill { slot, claim });
        }
        let kill_at = self.now.monotonic + self.settings.stop_grace;
        if let Some(deadline) = self.lane.hasten(id, kill_at) {
            self.timers.remove(&(deadline, timer));
        }
        self.timers.insert((kill_at, timer));
        self.effects.push(Effect::Terminate { slot, claim });
    }

    fn configure(&mut self, settings: Settings, queued: &BTreeMap<String, u64>) {
        for wanted in &settings.pools {
            let index = match self.pools.iter().position(|pool| pool.name == wanted.name) {
                Some(index) => index,
                None => {
                    let total = queued.get(&*wanted.name).copied().unwrap_or(0);
                    let queue = Queue::restored(total);
                    self.pools.push(Pool { name: wanted.name.clone(), slots: Slots::default(), queue });
                    self.pools.len() - 1
                }
            };
            self.resize(LaneId::Pool(index), wanted.workers);
        }
        // A pool that has gone from the configuration ends what it runs and keeps its queue.
        for index in 0..self.pools.len() {
            if !settings.pools.iter().any(|wanted| wanted.name == self.pools[index].name) {
                self.resize(LaneId::Pool(index), 0);
            }
        }
        self.lane.configure(settings.callbacks);
        self.resize(LaneId::Callbacks, settings.callbacks.workers);
        self.settings = settings;
    }

    fn resize(&mut self, lane: LaneId, wanted: u32) {
        let (spawn, retire) = self.slots_mut(lane).resize(wanted);
        self.effects.extend(spawn.into_iter().map(|index| Effect::SpawnWorker { slot: SlotId { lane, index } }));
        self.effects.extend(retire.into_iter().map(|index| Effect::RetireWorker { slot: SlotId { lane, index } }));
    }

    // ---- the store's answers ----

    fn on_store(&mut self, answer: StoreAnswer) {
        match answer {
            StoreAnswer::Inserted { call, first, jobs } => self.on_inserted(call, first, jobs),
            StoreAnswer::Refused { call, reason } => {
                if self.submissions.remove(&call).is_some_and(|submission| !submission.orphaned) {
                    self.reply(call, Reply::Refused(Refusal::StoreFailed { reason }), true);
                }
            }
            StoreAnswer::Fetched { pool, jobs, complete } => {
                if let Some(pool) = self.pools.iter_mut().find(|other| other.name == pool) {
                    pool.queue.fetched(jobs, complete, |id| self.canceling.contains(&id));
                }
            }
            StoreAnswer::Finished { id, record, callbacks } => self.on_finished(id, record.as_deref(), callbacks),
            // It has ended meanwhile; whoever waits for it learns so from `Got`.
            StoreAnswer::NotQueued { id } => {
                self.finishing -= 1;
                self.canceling.remove(&id);
            }
            StoreAnswer::Got { call, records, missing } => self.on_got(call, &records, missing.first().copied()),
            StoreAnswer::CallbackClaimed(run) => self.on_callback_claimed(run),
            // The shell's own business: the scheduler asked for neither.
            StoreAnswer::Listed { .. } | StoreAnswer::Pruned { .. } => {}
        }
    }

    fn on_inserted(&mut self, call: CallId, first: JobId, jobs: Vec<Arc<Work>>) {
        let Some(submission) = self.submissions.remove(&call) else { return };
        let count = jobs.len();
        for (id, work) in (first.0..).map(JobId).zip(jobs) {
            let pool = self.pool_of(&work);
            self.pools[pool].queue.inserted(Ready { id, attempts: 0, crashes: 0, work });
        }
        match submission {
            Submission { attached: Some(OnDisconnect::Cancel), orphaned: true } => self.cancel(first),
            Submission { orphaned: true, .. } => {}
            Submission { attached: Some(on_disconnect), .. } => {
                self.waiters.add(call, Kind::Attached(on_disconnect), &[first]);
                self.reply(call, Reply::Accepted { first, count }, false);
            }
            Submission { attached: None, .. } => self.reply(call, Reply::Accepted { first, count }, true),
        }
    }

    fn on_finished(&mut self, id: JobId, record: Option<&Record>, callbacks: Vec<CallbackId>) {
        self.finishing -= 1;
        if self.canceling.remove(&id)
            && let Some(record) = record
            && let Some(pool) = self.pools.iter_mut().find(|pool| *pool.name == *record.pool)
        {
            pool.queue.removed_from_store();
        }
        for callback in callbacks {
            self.lane.push(callback);
        }
        if let Some(record) = record {
            for (call, reply, last) in self.waiters.ended(id, record) {
                self.reply(call, reply, last);
            }
        }
    }

    fn on_got(&mut self, call: CallId, records: &[Record], missing: Option<JobId>) {
        let Some(kind) = self.waiters.kind(call) else { return self.on_got_for_signal(call, records, missing) };
        if let Some(id) = missing {
            self.waiters.remove(call);
            return self.reply(call, Reply::Refused(Refusal::NoSuchJob { id: id.0 }), true);
        }
        for record in records {
            let id = JobId(record.id);
            if !self.waiters.waits_for(call, id) {
                continue; // It was told of already, or is asked for twice.
            }
            let is_queued = matches!(record.state, State::Queued | State::Retrying);
            if matches!(kind, Kind::Wait { output: true, .. }) && record.started_at.is_some() && !is_queued {
                self.reply(call, Reply::Started { id, attempt: record.attempt }, false);
            }
            if record.state.is_terminal() {
                if let Some((call, reply, last)) = self.waiters.ended_for(call, id, record) {
                    self.reply(call, reply, last);
                }
            } else if kind == Kind::Cancel {
                self.cancel(id);
            }
        }
    }

    fn on_got_for_signal(&mut self, call: CallId, records: &[Record], missing: Option<JobId>) {
        match (records.first(), missing) {
            (Some(record), _) => self.refuse_signal(call, JobId(record.id), record.state),
            (None, Some(id)) => self.reply(call, Reply::Refused(Refusal::NoSuchJob { id: id.0 }), true),
            (None, None) => {}
        }
    }

    // ---- workers ----

    fn on_started(&mut self, slot: SlotId, claim: Claim, pid: i32) {
        let Unit::Job(id) = claim.unit else { return };
        let started_us = self.now.wall_us;
        let now = self.now.monotonic;
        let Some(active) = self.active.get_mut(&id).filter(|active| active.is(slot, claim)) else { return };
        active.started = true;
        let (attempt, worker_pid) = (active.attempt, active.worker_pid);
        let stopping = match &mut active.phase {
            Phase::Running { deadline } => {
                *deadline = active.work.timeout.map(|timeout| now + timeout);
                self.timers.extend(deadline.map(|at| (at, Timer::Attempt(claim.unit))));
                None
            }
            Phase::Stopping { reason, .. } => Some(*reason),
        };
        let LaneId::Pool(pool) = slot.lane else { return };
        self.pools[pool].queue.has_room();
        self.store(StoreOp::Start { id, attempt, slot: slot.index, worker_pid, pid: Some(pid), started_us });
        if let Some(reason) = stopping {
            self.store_stopping(id, reason);
        }
        for call in self.waiters.output_watchers(id) {
            self.reply(call, Reply::Started { id, attempt }, false);
        }
    }

    fn on_ended(&mut self, slot: SlotId, claim: Claim, ended: &Ended) {
        let id = match claim.unit {
            Unit::Job(id) => id,
            Unit::Callback(id) => return self.on_callback_ended(id, slot, claim, Some(ended.exit)),
        };
        let Some(active) = self.take_active(id, slot, claim) else { return };
        match outcome::of_end(ended, active.stop_reason(), self.now.wall_us) {
            Some(outcome) => self.finish(id, outcome),
            None => self.requeue(id, active, None),
        }
        self.vacate(slot);
    }

    fn on_spawn_failed(&mut self, slot: SlotId, claim: Claim, failure: SpawnFailure) {
        let id = match claim.unit {
            Unit::Job(id) => id,
            Unit::Callback(id) => return self.on_callback_ended(id, slot, claim, None),
        };
        let Some(active) = self.take_active(id, slot, claim) else { return };
        self.job_not_started(id, active, failure);
        self.vacate(slot);
    }

    fn job_not_started(&mut self, id: JobId, active: Active, failure: SpawnFailure) {
        match active.stop_reason() {
            Some(StopReason::Canceled | StopReason::TimedOut) => self.finish(id, outcome::canceled(self.now.wall_us)),
            Some(StopReason::Shutdown) => self.requeue_untried(id, active, None),
            None if outcome::is_shortage(failure) => {
                let reason = outcome::explain(failure, &active.work);
                self.pause(self.pool_of(&active.work));
                self.requeue_untried(id, active, Some(reason));
            }
            None => {
                let outcome = outcome::of_failure(failure, &active.work, self.now.wall_us);
                // A command that cannot be executed has been tried: the attempt counts, and its empty output is there to be read.
                if failure.stage == Stage::Exec {
                    let Active { slot, worker_pid, attempt, .. } = active;
                    let started_us = self.now.wall_us;
                    self.store(StoreOp::Start { id, attempt, slot: slot.index, worker_pid, pid: None, started_us });
                }
                self.finish(id, outcome);
            }
        }
    }

    fn on_worker_lost(&mut self, slot: SlotId, pid: i32, how: &str) {
        let unit = match self.slots(slot.lane).get(slot.index) {
            Slot::Busy { unit, .. } => Some(unit),
            Slot::Down { .. } | Slot::Idle { .. } | Slot::Retired { .. } => None,
        };
        self.respawn_later(slot);
        match unit {
            Some(Unit::Job(id)) => {
                let Some(active) = self.active.remove(&id) else { return };
                self.forget_deadline(Unit::Job(id), active.phase);
                self.job_crashed(id, active, &format!("its worker {pid} {how}"));
            }
            Some(Unit::Callback(id)) => self.callback_over(id, None),
            None => {}
        }
    }

    fn job_crashed(&mut self, id: JobId, mut active: Active, how: &str) {
        active.crashes += 1;
        let ended_us = self.now.wall_us;
        match active.stop_reason() {
            Some(StopReason::Canceled) => self.finish(id, outcome::canceled(ended_us)),
            Some(StopReason::TimedOut) => {
                self.finish(id, outcome::without_process(State::TimedOut, ResultKind::Timeout, None, ended_us));
            }
            // It was on its way back into the queue.
            Some(StopReason::Shutdown) => {
                active.crashes -= 1;
                self.requeue(id, active, None);
            }
            None if active.crashes >= self.settings.crash_limit => self.finish(id, outcome::lost(active.crashes, how, ended_us)),
            None => self.requeue(id, active, Some(how.to_owned())),
        }
    }

    /// Decides on an attempt that ended with the last daemon; true when its job is queued again.
    fn recover(&mut self, job: &store_op::Interrupted) -> bool {
        let crashes = job.crashes + 1;
        let how = "poold or the machine died";
        let ended_us = self.now.wall_us;
        let outcome = match job.stopping {
            Some(StopReason::Canceled) => outcome::canceled(ended_us),
            Some(StopReason::TimedOut) => outcome::without_process(State::TimedOut, ResultKind::Timeout, None, ended_us),
            Some(StopReason::Shutdown) | None if crashes >= self.settings.crash_limit => outcome::lost(crashes, how, ended_us),
            Some(StopReason::Shutdown) | None => {
                self.store(StoreOp::Requeue { id: job.id, crashes, reason: Some(how.to_owned()) });
                return true;
            }
        };
        self.finish(job.id, outcome);
        false
    }

    // ---- time ----

    fn on_tick(&mut self) {
        while let Some(&(at, timer)) = self.timers.first()
            && at <= self.now.monotonic
        {
            self.timers.pop_first();
            match timer {
                Timer::Attempt(Unit::Job(id)) => self.on_attempt_deadline(id),
                Timer::Attempt(Unit::Callback(id)) => {
                    if let Some(lane::Current { slot, claim: Some(claim), .. }) = self.lane.get(id) {
                        self.effects.push(Effect::Kill { slot, claim });
                    }
                }
                Timer::Respawn(slot) => {
                    let now = self.now.monotonic;
                    if self.slots_mut(slot.lane).respawn(slot.index, now) {
                        self.effects.push(Effect::SpawnWorker { slot });
                    }
                }
                Timer::Resume(_) => {} // The dispatch that follows every event goes on with the pool.
                Timer::Callback(id) => self.lane.push(id),
            }
        }
    }

    fn on_attempt_deadline(&mut self, id: JobId) {
        match self.active.get(&id).map(|active| active.phase) {
            Some(Phase::Running { .. }) => self.stop(id, StopReason::TimedOut),
            Some(Phase::Stopping { .. }) => self.kill(id),
            None => {}
        }
    }

    // ---- callbacks ----

    fn schedule_callback(&mut self, id: CallbackId, due_us: i64) {
        let wait = Duration::from_micros((due_us - self.now.wall_us).max(0).unsigned_abs());
        if wait.is_zero() {
            self.lane.push(id);
        } else {
            self.lane.wait(id);
            self.timers.insert((self.now.monotonic + wait, Timer::Callback(id)));
        }
    }

    fn on_callback_claimed(&mut self, run: Box<CallbackRun>) {
        if self.mode >= Mode::Stopping {
            // It stays marked as running, which the next start takes up again.
            if let Some(current) = self.lane.remove(run.id) {
                self.vacate(current.slot);
            }
            return;
        }
        let claim = Claim { unit: Unit::Callback(run.id), attempt: run.attempt };
        let deadline = self.now.monotonic + self.settings.callbacks.timeout;
        // Without a slot its worker has died meanwhile, and it is in the queue again.
        let Some(slot) = self.lane.claimed(run.id, claim, deadline) else { return };
        self.timers.insert((deadline, Timer::Attempt(claim.unit)));
        self.effects.push(Effect::RunCallback { slot, run });
    }

    fn on_callback_ended(&mut self, id: CallbackId, slot: SlotId, claim: Claim, exit: Option<Exit>) {
        if !self.lane.get(id).is_some_and(|current| current.slot == slot && current.claim == Some(claim)) {
            return;
        }
        let exit_code = match exit {
            Some(Exit::Code(code)) => Some(code),
            Some(Exit::Signal { .. }) | None => None,
        };
        self.callback_over(id, exit_code);
        self.vacate(slot);
    }

    fn callback_over(&mut self, id: CallbackId, exit_code: Option<i32>) {
        let Some(current) = self.lane.remove(id) else { return };
        if let Some(deadline) = current.deadline {
            self.timers.remove(&(deadline, Timer::Attempt(Unit::Callback(id))));
        }
        let Some(claim) = current.claim else { return self.lane.push_front(id) };
        let end = self.lane.judge(claim.attempt, exit_code == Some(0), self.now.wall_us);
        self.store(StoreOp::CallbackEnded { id, end, exit_code });
        if let CallbackEnd::Again { due_us } = end {
            self.schedule_callback(id, due_us);
        }
    }

    // ---- moves that several events share ----

    /// Starts whatever can be started, and has the windows filled.
    fn dispatch(&mut self) {
        if self.mode >= Mode::Stopping {
            return;
        }
        for index in 0..self.pools.len() {
            self.dispatch_pool(index);
        }
        while let Some(id) = self.lane.next() {
            self.store(StoreOp::ClaimCallback { id });
        }
    }

    fn dispatch_pool(&mut self, index: usize) {
        let pool = &mut self.pools[index];
        while pool.slots.has_idle()
            && let Some(ready) = pool.queue.pop(self.now.monotonic)
        {
            let unit = Unit::Job(ready.id);
            let (slot, worker_pid) = pool.slots.take(unit).expect("a slot is idle");
            let slot = SlotId { lane: LaneId::Pool(index), index: slot };
            let claim = Claim { unit, attempt: ready.attempts + 1 };
            self.effects.push(Effect::Run { slot, claim, work: ready.work.clone() });
            let active = Active {
                slot,
                worker_pid,
                attempt: claim.attempt,
                crashes: ready.crashes,
                work: ready.work,
                started: false,
                phase: Phase::Running { deadline: None },
            };
            self.active.insert(ready.id, active);
        }
        if let Some((after, limit)) = pool.queue.fetch() {
            let pool = pool.name.clone();
            self.store(StoreOp::Fetch { pool, after, limit });
        }
    }

    /// Ends a job, whatever its state.
    fn cancel(&mut self, id: JobId) {
        if self.active.contains_key(&id) {
            return self.stop(id, StopReason::Canceled);
        }
        let outcome = outcome::canceled(self.now.wall_us);
        if self.pools.iter_mut().any(|pool| pool.queue.remove(id).is_some()) {
            self.finish(id, outcome);
        } else if self.canceling.insert(id) {
            self.finishing += 1;
            self.store(StoreOp::FinishQueued { id, outcome: Box::new(outcome), want_record: true });
        }
    }

    /// Begins to end an attempt: SIGTERM now, SIGKILL when its time is up. A client's wish outranks the daemon's.
    fn stop(&mut self, id: JobId, reason: StopReason) {
        let (now, stop_grace) = (self.now.monotonic, self.settings.stop_grace);
        let Some(active) = self.active.get_mut(&id) else { return };
        let (slot, claim, old_phase) = (active.slot, active.claim(id), active.phase);
        match old_phase {
            Phase::Running { .. } => {
                let grace = match reason {
                    StopReason::Shutdown => active.work.kill_after.min(stop_grace),
                    StopReason::Canceled | StopReason::TimedOut => active.work.kill_after,
                };
                let kill_at = now + grace;
                active.phase = Phase::Stopping { reason, kill_at: Some(kill_at) };
                let started = active.started;
                self.forget_deadline(Unit::Job(id), old_phase);
                self.timers.insert((kill_at, Timer::Attempt(Unit::Job(id))));
                self.effects.push(Effect::Terminate { slot, claim });
                if started {
                    self.store_stopping(id, reason);
                }
            }
            Phase::Stopping { reason: StopReason::Shutdown, kill_at } if reason == StopReason::Canceled => {
                active.phase = Phase::Stopping { reason, kill_at };
                self.store_stopping(id, reason);
            }
            Phase::Stopping { .. } => {}
        }
    }

    /// The grace is over.
    fn kill(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Phase::Stopping { reason, kill_at: Some(_) } = active.phase else { return };
        let (slot, claim, old_phase) = (active.slot, active.claim(id), active.phase);
        active.phase = Phase::Stopping { reason, kill_at: None };
        self.forget_deadline(Unit::Job(id), old_phase);
        self.effects.push(Effect::Kill { slot, claim });
    }

    fn store_stopping(&mut self, id: JobId, reason: StopReason) {
        if reason != StopReason::Shutdown {
            self.store(StoreOp::Stopping { id, reason });
        }
    }

    fn take_active(&mut self, id: JobId, slot: SlotId, claim: Claim) -> Option<Active> {
        self.active.get(&id).filter(|active| active.is(slot, claim))?;
        let active = self.active.remove(&id)?;
        self.forget_deadline(claim.unit, active.phase);
        Some(active)
    }

    fn forget_deadline(&mut self, unit: Unit, phase: Phase) {
        let (Phase::Running { deadline: at } | Phase::Stopping { kill_at: at, .. }) = phase;
        if let Some(at) = at {
            self.timers.remove(&(at, Timer::Attempt(unit)));
        }
    }

    fn finish(&mut self, id: JobId, outcome: Outcome) {
        self.finishing += 1;
        let want_record = self.waiters.watch(id);
        self.store(StoreOp::Finish { id, outcome: Box::new(outcome), want_record });
    }

    /// The attempt counts, the job is queued again.
    fn requeue(&mut self, id: JobId, active: Active, reason: Option<String>) {
        self.store(StoreOp::Requeue { id, crashes: active.crashes, reason });
        let pool = self.pool_of(&active.work);
        let Active { attempt, crashes, work, .. } = active;
        self.pools[pool].queue.requeued(Ready { id, attempts: attempt, crashes, work });
    }

    /// The attempt was not started and does not count.
    fn requeue_untried(&mut self, id: JobId, active: Active, reason: Option<String>) {
        if let Some(reason) = reason {
            self.store(StoreOp::Retrying { id, reason });
        }
        let pool = self.pool_of(&active.work);
        let Active { attempt, crashes, work, .. } = active;
        self.pools[pool].queue.requeued(Ready { id, attempts: attempt - 1, crashes, work });
    }

    fn pause(&mut self, pool: usize) {
        let until = self.pools[pool].queue.pause(self.now.monotonic);
        self.timers.insert((until, Timer::Resume(pool)));
    }

    fn vacate(&mut self, slot: SlotId) {
        if self.slots_mut(slot.lane).vacate(slot.index) {
            self.effects.push(Effect::RetireWorker { slot });
        }
    }

    fn respawn_later(&mut self, slot: SlotId) {
        let now = self.now.monotonic;
        match self.slots_mut(slot.lane).lost(slot.index, now) {
            Some(at) if at <= now => {
                self.slots_mut(slot.lane).respawn(slot.index, now);
                self.effects.push(Effect::SpawnWorker { slot });
            }
            Some(at) => _ = self.timers.insert((at, Timer::Respawn(slot))),
            None => {}
        }
    }

    fn exit_when_done(&mut self) {
        if self.mode < Mode::Draining || self.mode == Mode::Exited || !self.active.is_empty() || !self.lane.running().is_empty() {
            return;
        }
        let settled = self.submissions.is_empty() && self.finishing == 0 && !self.lane.is_claiming();
        let done = match self.mode {
            Mode::Draining => settled && self.lane.is_empty() && self.pools.iter().all(|pool| pool.queue.total() == 0),
            // A store that cannot be written must not keep the daemon alive; what it holds is tried once more at its close.
            Mode::Stopping => settled || self.store_failing || self.hurried,
            Mode::Serving | Mode::Exited => false,
        };
        if done {
            self.mode = Mode::Exited;
            for call in self.waiters.drain() {
                self.reply(call, Reply::Refused(Refusal::ShuttingDown {}), true);
            }
            self.effects.push(Effect::Exit);
        }
    }

    fn slots(&self, lane: LaneId) -> &Slots {
        match lane {
            LaneId::Pool(index) => &self.pools[index].slots,
            LaneId::Callbacks => &self.lane.slots,
        }
    }

    fn slots_mut(&mut self, lane: LaneId) -> &mut Slots {
        match lane {
            LaneId::Pool(index) => &mut self.pools[index].slots,
            LaneId::Callbacks => &mut self.lane.slots,
        }
    }

    fn pool_of(&self, work: &Work) -> usize {
        let known = self.pools.iter().position(|pool| pool.name == work.pool);
        known.expect("work is only taken in for pools that there are, and none is ever removed")
    }

    fn store(&mut self, op: StoreOp) {
        self.effects.push(Effect::Store(op));
    }

    fn reply(&mut self, call: CallId, reply: Reply, last: bool) {
        self.effects.push(Effect::Reply { call, reply, last });
    }
}

impl Active {
    fn claim(&self, id: JobId) -> Claim {
        Claim { unit: Unit::Job(id), attempt: self.attempt }
    }

    /// Whether a report speaks of this attempt.
    fn is(&self, slot: SlotId, claim: Claim) -> bool {
        self.slot == slot && self.attempt == claim.attempt
    }

    fn stop_reason(&self) -> Option<StopReason> {
        match self.phase {
            Phase::Running { .. } => None,
            Phase::Stopping { reason, .. } => Some(reason),
        }
    }
}

impl Pool {
    fn describe(&self) -> interface::Pool {
        let describe = |(index, slot): (u32, Slot)| {
            let (pid, state, job) = match slot {
                Slot::Down { .. } => (None, SlotState::Down, None),
                Slot::Idle { pid } => (Some(pid), SlotState::Idle, None),
                Slot::Busy { pid, unit: Unit::Job(id) } => (Some(pid), SlotState::Busy, Some(id.0)),
                Slot::Busy { pid, unit: Unit::Callback(_) } => (Some(pid), SlotState::Busy, None),
                Slot::Retired { .. } => return None,
            };
            Some(interface::Slot { slot: index, pid, state, job })
        };
        let slots: Vec<interface::Slot> = self.slots.iter().filter_map(describe).collect();
        let running = slots.iter().filter(|slot| slot.state == SlotState::Busy).count();
        interface::Pool {
            name: self.name.to_string(),
            workers: self.slots.wanted(),
            queued: self.queue.total(),
            running: running as u32,
            slots,
        }
    }
}
