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
//!            │ ▲ ▲                   │  │
//!            │ │ │                   │  └─ timeout, cancel, tie, stop ─▶ stopping ──▶ timed_out | canceled | queued
//!            │ │ └── worker died ────┴──────────────────────────────────┘ │ │
//!            │ └─ release ── held ◀── on crash: hold ─────────────────────┤ └─ crash limit ──▶ lost
//!            └─ cancel, tie ──▶ canceled         on crash: fail ──────────┴──▶ failed
//! ```
//!
//! In place of `failed` and `timed_out`, a job that has retries left is `retrying` until its next attempt is due, and then back in the queue.

mod attempts;
mod callbacks;
mod calls;
mod clients;
mod event;
mod lane;
mod outcome;
mod queue;
mod retries;
mod slots;
pub mod store_op;
#[cfg(test)]
mod tests;
mod ties;
mod waiters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::interface::{self, Brief, CallProgress, OnCrash, SlotState, Tier};
use pool_proto::{Record, Refusal};

use attempts::{Active, Phase, START_PATIENCE};
use calls::{Programs, TELL_START};
use clients::{Follow, Submission};
pub use event::{CallbackSettings, Effect, Event, LaneId, Now, PoolSettings, Reply, Settings, SlotId};
use lane::CallbackLane;
use queue::Queue;
use slots::{Next, Slot, Slots};
use store_op::{Restored, StoreAnswer, StoreOp};
use ties::{Ties, Unattended};
pub use waiters::Watch;
use waiters::{End, Kind, Waiters};

use crate::job::{
    CallbackId, IdMap, IdSet, JobId, Outcome, Program, Ready, RequestId, StopReason, Tie, Unit, Work,
};

/// One pool of jobs.
#[derive(Debug)]
struct Pool {
    name: Arc<str>,
    /// What its workers keep running.
    program: Option<Arc<Program>>,
    slots: Slots,
    queue: Queue,
    /// Jobs that the store has been given and has not answered.
    inserting: u64,
}

/// Where a job was when the store was given its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Here: in a slot or in a window.
    Held,
    /// In the store's queue, and not among the jobs held here.
    InStore,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// An attempt's timeout, or its SIGKILL.
    Attempt(Unit),
    /// A slot's next worker, or its worker's successor.
    Respawn(SlotId),
    /// A call has taken so long that its start is told by itself.
    Start(JobId),
    /// A resident program that is not ready has used up its time; by its worker's pid.
    Ready(SlotId, i32),
    /// A resident program has lived long enough.
    Worn(SlotId),
    /// A paused pool goes on.
    Resume(usize),
    /// A failed callback's next attempt.
    Callback(CallbackId),
    /// Failed jobs' next attempts.
    Due,
    /// The client of a job that is tied to it has not come back.
    Unattended(JobId),
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
    active: IdMap<JobId, Active>,
    waiters: Waiters,
    submissions: IdMap<RequestId, Submission>,
    /// Jobs whose end the store has been given and has not confirmed.
    ending: IdMap<JobId, Ending>,
    /// Jobs in the state held.
    held: IdSet<JobId>,
    /// Jobs queued for pools that are not configured.
    unserved: BTreeMap<String, u64>,
    /// Ends on their way to the store, in few words, for those who want them so.
    briefs: IdMap<JobId, Brief>,
    programs: Programs,
    ties: Ties,
    unattended: IdMap<JobId, Unattended>,
    /// When failed jobs are next looked for whose next attempt is due.
    next_due: Option<Duration>,
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
            active: IdMap::default(),
            waiters: Waiters::default(),
            submissions: IdMap::default(),
            ending: IdMap::default(),
            held: restored.held.into_iter().collect(),
            unserved: BTreeMap::new(),
            briefs: IdMap::default(),
            programs: Programs::default(),
            ties: Ties::default(),
            unattended: IdMap::default(),
            next_due: None,
            store_failing: false,
            hurried: false,
            timers: BTreeSet::new(),
            mode: Mode::Serving,
            next_job: restored.next_job,
            next_callback: restored.next_callback,
            now,
            effects: Vec::new(),
        };
        scheduler.unserved = restored.queued;
        for job in restored.interrupted {
            if scheduler.recover(&job, restored.last_end) {
                *scheduler.unserved.entry(job.pool).or_default() += 1;
            }
        }
        for callback in restored.callbacks {
            scheduler.schedule_callback(callback.id, callback.due_us);
        }
        if let Some(due_us) = restored.next_due_us {
            scheduler.wake_for(due_us);
        }
        scheduler.configure(settings);
        scheduler.restore_ties(&restored.tied);
        scheduler.dispatch();
        let effects = std::mem::take(&mut scheduler.effects);
        (scheduler, effects)
    }

    /// Takes in an event; returns what is to be done about it, in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Submit { call, jobs, attached } => {
                self.on_submit(call, jobs, attached.map_or(Follow::Nothing, Follow::Attached));
            }
            Event::SubmitBatch { call, jobs } => self.on_submit(call, jobs, Follow::Batch),
            Event::Wait { call, ids, any, watch, attached } => {
                self.on_wait(call, ids, Kind::Wait { any, watch, attached })
            }
            Event::Cancel { call, ids } => self.on_wait(call, ids, Kind::Cancel),
            Event::Signal { call, id, signal } => self.on_signal(call, id, signal),
            Event::Release { call, ids } => self.on_release(call, ids),
            Event::Disconnected { call } => self.on_disconnected(call),
            Event::Drain => self.mode = self.mode.max(Mode::Draining),
            Event::Stop => self.on_stop(),
            Event::Configure(settings) => self.configure(settings),
            Event::Store(answer) => self.on_store(answer),
            Event::StoreFailing(failing) => self.store_failing = failing,
            Event::WorkerUp { slot, pid } => self.on_worker_up(slot, pid),
            Event::WorkerFailed { slot, reason } => self.respawn_later(slot, reason),
            Event::WorkerLost { slot, pid, how, unsent } => self.on_worker_lost(slot, pid, &how, unsent),
            Event::Started { slot, claim, process, started_us } => {
                self.on_started(slot, claim, process, started_us)
            }
            Event::Ended { slot, claim, ended } => self.on_ended(slot, claim, &ended),
            Event::SpawnFailed { slot, claim, failure } => self.on_spawn_failed(slot, claim, failure),
            Event::SuccessorUp { slot, pid } => self.on_successor_up(slot, pid),
            Event::SuccessorFailed { slot, reason } => self.on_successor_lost(slot, reason),
            Event::ProgramReady { slot, worker, process } => self.on_program_ready(slot, worker, process),
            Event::Answered { slot, claim, answer } => self.on_answered(slot, claim, answer),
            Event::Progressed { slot, claim, progress } => self.on_progressed(slot, claim, progress),
            Event::Misbehaved { slot, worker, during, how } => self.on_misbehaved(slot, worker, during, how),
            Event::Tick => self.on_tick(),
        }
        self.dispatch();
        self.end_what_no_drain_waits_for();
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

    /// The jobs that workers have, each with its attempt.
    pub fn running(&self) -> impl Iterator<Item = (JobId, u32)> + '_ {
        self.active.iter().map(|(&id, active)| (id, active.attempt))
    }

    /// The same jobs, each with its pool.
    pub fn running_pools(&self) -> impl Iterator<Item = (JobId, Arc<str>)> + '_ {
        self.active.iter().map(|(&id, active)| (id, active.work.pool.clone()))
    }

    /// The pools as clients see them. `containment`: how the attempts of the pool of that name are contained, and why no better.
    pub fn pools(&self, containment: impl Fn(&str) -> (Tier, Option<String>)) -> Vec<interface::Pool> {
        self.pools.iter().map(|pool| pool.describe(containment(&pool.name))).collect()
    }

    /// The attempt of a job that the store has been told the start of, and not the end.
    pub fn attempt_of(&self, id: JobId) -> Option<u32> {
        self.active.get(&id).filter(|active| active.started).map(|active| active.attempt)
    }

    /// How far a running call has come, as its program has told last.
    pub fn progress_of(&self, id: JobId) -> Option<CallProgress> {
        self.active.get(&id)?.progress.clone()
    }

    /// A pool of that name, for those that want to submit to it: as [`pool_kind`](Self::pool_kind), but not one that has been taken out.
    pub fn open_pool(&self, name: &str) -> Option<(Arc<str>, bool)> {
        let pool = self.pools.iter().find(|pool| *pool.name == *name && pool.slots.wanted() > 0)?;
        Some((pool.name.clone(), pool.slots.is_warm()))
    }

    /// A pool of that name, even if it only finishes what it runs: its name to share, and whether it takes calls, not commands.
    pub fn pool_kind(&self, name: &str) -> Option<(Arc<str>, bool)> {
        self.pools
            .iter()
            .find(|pool| *pool.name == *name)
            .map(|pool| (pool.name.clone(), pool.slots.is_warm()))
    }

    fn on_stop(&mut self) {
        self.hurried = self.mode >= Mode::Stopping;
        self.mode = self.mode.max(Mode::Stopping);
        let mut ids: Vec<JobId> = self.active.keys().copied().collect();
        ids.sort_unstable();
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

    fn configure(&mut self, settings: Settings) {
        for wanted in &settings.pools {
            let index = match self.pools.iter().position(|pool| pool.name == wanted.name) {
                Some(index) => index,
                None => {
                    let total = self.unserved.remove(&*wanted.name).unwrap_or(0);
                    let (name, program) = (wanted.name.clone(), wanted.program.clone());
                    let (slots, queue) = (Slots::new(program.is_some()), Queue::restored(total));
                    self.pools.push(Pool { name, program, slots, queue, inserting: 0 });
                    self.pools.len() - 1
                }
            };
            self.resize(LaneId::Pool(index), wanted.workers);
            self.set_program(index, wanted.program.as_ref());
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
        let slots::Resized { spawn, retire, drop_successor } = self.slots_mut(lane).resize(wanted);
        let slot = |index| SlotId { lane, index };
        self.effects
            .extend(drop_successor.into_iter().map(|index| Effect::KillSuccessor { slot: slot(index) }));
        self.effects.extend(spawn.into_iter().map(|index| Effect::SpawnWorker { slot: slot(index) }));
        for index in retire {
            self.programs.forget(&mut self.timers, slot(index));
            self.effects.push(Effect::RetireWorker { slot: slot(index) });
        }
    }

    // ---- the store's answers ----

    fn on_store(&mut self, answer: StoreAnswer) {
        match answer {
            StoreAnswer::Inserted { call, first, jobs, untied, existing } => {
                self.on_inserted(call, first, jobs, &untied, existing);
            }
            StoreAnswer::Refused { call, refusal } => self.on_refused(call, refusal),
            StoreAnswer::Claimed { id, attempt, worker_pid } => self.on_claimed(id, attempt, worker_pid),
            StoreAnswer::Released { call, jobs } => self.on_released(call, jobs),
            StoreAnswer::Fetched { pool, jobs, complete } => self.on_fetched(&pool, jobs, complete),
            StoreAnswer::Due { jobs, next_us } => self.on_due(jobs, next_us),
            StoreAnswer::Finished { id, record, callbacks, stdin: _ } => {
                self.on_finished(id, record.as_deref(), callbacks)
            }
            // It has ended meanwhile; whoever waits for it learns so from `Got`.
            StoreAnswer::NotQueued { id } => _ = self.ending.remove(&id),
            StoreAnswer::Got { call, records, missing } => {
                self.on_got(call, &records, missing.first().copied())
            }
            StoreAnswer::CallbackClaimed(run) => self.on_callback_claimed(run),
            // The shell's own business: the scheduler asked for none.
            StoreAnswer::Listed { .. }
            | StoreAnswer::Pruned { .. }
            | StoreAnswer::IdsReserved { .. }
            | StoreAnswer::PoolChanged { .. } => {}
        }
    }

    fn on_fetched(&mut self, pool: &str, jobs: Vec<Ready>, complete: bool) {
        let Some(pool) = self.pools.iter_mut().find(|other| *other.name == *pool) else { return };
        // The store may not have been told yet that they have left the queue.
        let has_left = |id: JobId| {
            let is_set_aside = self.unattended.get(&id).is_some_and(|unattended| unattended.ready.is_some());
            self.active.contains_key(&id)
                || self.ending.contains_key(&id)
                || self.held.contains(&id)
                || is_set_aside
        };
        pool.queue.fetched(jobs, complete, has_left);
    }

    fn on_finished(&mut self, id: JobId, record: Option<&Record>, callbacks: Vec<CallbackId>) {
        if self.ending.remove(&id) == Some(Ending::InStore)
            && let Some(record) = record
        {
            match self.pools.iter_mut().find(|pool| *pool.name == *record.pool) {
                Some(pool) => pool.queue.removed_from_store(),
                None => {
                    _ = self.unserved.get_mut(&record.pool).map(|queued| *queued = queued.saturating_sub(1))
                }
            }
        }
        for callback in callbacks {
            self.lane.push(callback);
        }
        for tied in self.ties.ended(id) {
            self.end(tied, StopReason::Untied(Tie::Job(id)));
        }
        let brief = self.briefs.remove(&id);
        for call in self.waiters.calls_for(id) {
            let end = match (record, &brief) {
                (Some(record), _) => End::Record(record),
                (None, Some(brief)) if self.waiters.kind(call) == Some(Kind::Batch) => End::Brief(brief),
                // It had not waited when the job ended. It has come since, while the store could not write, and was told that it still ran.
                (None, _) => {
                    self.store(StoreOp::Get { call, ids: vec![id] });
                    continue;
                }
            };
            if let Some((call, reply, last)) = self.waiters.ended_for(call, id, end) {
                self.reply(call, reply, last);
            }
        }
    }

    fn on_tick(&mut self) {
        while let Some(&(at, timer)) = self.timers.first()
            && at <= self.now.monotonic
        {
            self.timers.pop_first();
            match timer {
                Timer::Attempt(Unit::Job(id)) => self.on_attempt_deadline(id),
                Timer::Attempt(Unit::Callback(id)) => self.on_callback_deadline(id),
                Timer::Respawn(slot) => self.respawn(slot),
                Timer::Start(id) => self.tell_start(id),
                Timer::Ready(slot, worker) => self.on_program_late(slot, worker),
                Timer::Worn(slot) => self.wear_out(slot),
                Timer::Resume(_) => {} // The dispatch that follows every event goes on with the pool.
                Timer::Callback(id) => self.lane.push(id),
                Timer::Due => self.take_due(),
                Timer::Unattended(id) => self.end(id, StopReason::Untied(Tie::Client)),
            }
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
        while self.pools[index].slots.has_idle()
            && let Some(ready) = self.pools[index].queue.pop(self.now.monotonic)
        {
            if let Some(unattended) = self.unattended.get_mut(&ready.id) {
                unattended.ready = Some(ready);
                continue;
            }
            if ready.work.call().is_some() != self.pools[index].slots.is_warm() {
                let outcome = outcome::of_mismatch(&ready.work, self.now.wall_us);
                self.finish(ready.id, outcome, None);
                continue;
            }
            let (slot, worker_pid) =
                self.pools[index].slots.take(Unit::Job(ready.id)).expect("a slot is idle");
            let id = ready.id;
            let is_claimed = ready.work.on_crash != OnCrash::Requeue;
            let slot = SlotId { lane: LaneId::Pool(index), index: slot };
            let active = Active::new(ready, slot, worker_pid);
            let attempt = active.attempt;
            self.active.insert(id, active);
            if is_claimed {
                // It must not run twice, so its start is written down before it starts.
                let started_us = self.now.wall_us;
                self.store(StoreOp::Claim { id, attempt, slot: slot.index, worker_pid, started_us });
            } else {
                self.hand_over(id);
            }
        }
        let pool = &mut self.pools[index];
        if let Some((after, limit)) = pool.queue.fetch() {
            let pool = pool.name.clone();
            self.store(StoreOp::Fetch { pool, after, limit });
        }
    }

    /// The worker gets the attempt.
    fn hand_over(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let patience = if active.work.call().is_some() { Duration::ZERO } else { START_PATIENCE };
        let deadline = active.work.timeout.map(|timeout| self.now.monotonic + timeout + patience);
        (active.handed, active.phase) = (true, Phase::Running { deadline });
        if active.work.call().is_some() {
            let at = self.now.monotonic + TELL_START;
            (active.tell_start_at, active.started_us) = (Some(at), self.now.wall_us);
            self.timers.insert((at, Timer::Start(id)));
        }
        self.timers.extend(deadline.map(|at| (at, Timer::Attempt(Unit::Job(id)))));
        self.effects.push(Effect::Run {
            slot: active.slot,
            claim: active.claim(id),
            work: active.work.clone(),
        });
    }

    /// `start`: of its attempt, where the store has not been told of it.
    fn finish(&mut self, id: JobId, outcome: Outcome, start: Option<store_op::Start>) {
        self.ending.insert(id, Ending::Held);
        let want_record = self.waiters.wants_record(id);
        if self.waiters.wants_brief(id) {
            self.briefs.insert(id, outcome::in_brief(id, &outcome));
        }
        self.store(StoreOp::Finish { id, outcome: Box::new(outcome), start, want_record });
    }

    fn pause(&mut self, pool: usize) {
        let until = self.pools[pool].queue.pause(self.now.monotonic);
        self.timers.insert((until, Timer::Resume(pool)));
    }

    fn vacate(&mut self, slot: SlotId) {
        let next = self.slots_mut(slot.lane).vacate(slot.index);
        self.go_on(slot, next);
    }

    /// What follows from a slot's being free, or its worker's being lost.
    fn go_on(&mut self, slot: SlotId, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Retire => {
                self.programs.forget(&mut self.timers, slot);
                self.effects.push(Effect::RetireWorker { slot });
            }
            Next::Swap => {
                self.effects.push(Effect::SwapWorker { slot });
                self.watch_age(slot);
            }
            Next::RespawnAt(at) if at <= self.now.monotonic => self.respawn(slot),
            Next::RespawnAt(at) => _ = self.timers.insert((at, Timer::Respawn(slot))),
        }
    }

    fn respawn_later(&mut self, slot: SlotId, reason: String) {
        let now = self.now.monotonic;
        self.programs.forget(&mut self.timers, slot);
        let next = self.slots_mut(slot.lane).lost(slot.index, now, reason);
        self.go_on(slot, next);
    }

    fn respawn(&mut self, slot: SlotId) {
        let now = self.now.monotonic;
        if self.slots_mut(slot.lane).respawn(slot.index, now) {
            self.effects.push(Effect::SpawnWorker { slot });
        } else if self.slots(slot.lane).is_worn(slot.index) {
            self.wear_out(slot);
        }
    }

    fn exit_when_done(&mut self) {
        if self.mode < Mode::Draining
            || self.mode == Mode::Exited
            || !self.active.is_empty()
            || !self.lane.running().is_empty()
        {
            return;
        }
        let settled = self.submissions.is_empty() && self.ending.is_empty() && !self.lane.is_claiming();
        let done = match self.mode {
            Mode::Draining => settled && self.lane.is_empty() && self.waiting_jobs() == 0,
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

    /// Jobs that wait for their turn.
    fn waiting_jobs(&self) -> u64 {
        let unattended = self.unattended.values().filter(|unattended| unattended.ready.is_some()).count();
        self.pools.iter().map(|pool| pool.queue.total()).sum::<u64>() + unattended as u64
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

    fn reply(&mut self, call: RequestId, reply: Reply, last: bool) {
        self.effects.push(Effect::Reply { call, reply, last });
    }
}

impl Pool {
    fn describe(&self, (containment, containment_note): (Tier, Option<String>)) -> interface::Pool {
        let describe = |(index, slot): (u32, Slot)| {
            let job = match slot {
                Slot::Busy { unit: Unit::Job(id), .. } => Some(id.0),
                Slot::Busy { unit: Unit::Callback(_), .. } => None,
                Slot::Down { .. } | Slot::Starting { .. } | Slot::Idle { .. } | Slot::Spoilt { .. } => None,
                Slot::Retired { .. } => return None,
            };
            let state = self.slots.state(index);
            let is_well = matches!(state, SlotState::Idle | SlotState::Busy) && !self.slots.is_worn(index);
            let reason = self.slots.reason(index).filter(|_| !is_well);
            let resident = self.slots.resident(index);
            let program_pid = resident.process.map(|process| process.pid);
            let calls = program_pid.map(|_| resident.calls);
            Some(interface::Slot { slot: index, pid: slot.pid(), state, job, reason, program_pid, calls })
        };
        let slots: Vec<interface::Slot> = self.slots.iter().filter_map(describe).collect();
        let running = slots.iter().filter(|slot| slot.state == SlotState::Busy).count();
        interface::Pool {
            name: self.name.to_string(),
            workers: self.slots.wanted(),
            queued: self.queue.total(),
            running: running as u32,
            containment,
            containment_note,
            command: self.program.as_ref().map(|program| program.command.clone()),
            slots,
        }
    }
}
