//! The life of an attempt: begun, handed to its worker, started, ended; or failed to start.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{CallProgress, MemoryLimiter, OnCrash};

use super::freeze::Frozen;
use super::outcome;
use crate::core::event::{Effect, Fact, SlotId};
use crate::core::waits::hold::Wish;
use crate::core::{Core, LaneId, Now, Timer};
use crate::engine::{Change, Fence, Move};
use crate::job::{
    Claim, Ended, Holdup, JobId, PastAttempt, Place, Process, ProcessId, Ready, RequestId, SpawnFailure,
    Stage, Start, StopReason, Tries, Unit, Work, micros,
};

/// A job's attempt that a worker has.
#[derive(Debug)]
pub struct Active {
    pub slot: SlotId,
    pub worker: ProcessId,
    /// This attempt included.
    pub tries: Tries,
    pub work: Arc<Work>,
    /// Its worker has been given it.
    pub handed: bool,
    /// Behind another one, which its slot has.
    pub ahead: Option<Ahead>,
    /// What clients want of the job, if its worker has not begun with what it has ahead.
    pub wishes: Vec<(RequestId, Wish)>,
    /// It was to have begun before: it ends where it comes back without having begun.
    pub is_late: bool,
    /// The attempt's command has been executed, and the engine has been told.
    pub started: bool,
    /// A call's start is told by itself at that time, unless it has ended before.
    pub tell_start_at: Option<Duration>,
    /// When it began, as well as is known: when it was handed over or, later, when its command was executed.
    pub since: Now,
    /// What a call has told last.
    pub progress: Option<CallProgress>,
    pub phase: Phase,
    /// It stands still.
    pub frozen: Option<Frozen>,
    /// When the daemon began to end it.
    pub stopped_at: Option<Duration>,
}

/// An attempt that waits at its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Its worker has been asked to give it back.
    pub is_called_back: bool,
}

/// How far an attempt's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Running {
        deadline: Option<Duration>,
    },
    /// It has been sent SIGTERM.
    Stopping {
        reason: StopReason,
        kill_at: Duration,
    },
    /// Its worker has been told to kill it, and is itself killed should it not do so.
    Killing {
        reason: StopReason,
        kill_worker_at: Option<Duration>,
    },
}

/// From handing out an attempt with a timeout to its start, at most, on top of that timeout. Only a worker
/// that hangs needs so long.
pub const START_PATIENCE: Duration = Duration::from_secs(10);

/// A call that takes longer has its start told by itself.
pub const TELL_START: Duration = Duration::from_millis(2);

impl Core {
    /// A slot takes a job.
    pub(in crate::core) fn begin_attempt(&mut self, ready: Ready, slot: SlotId, worker: ProcessId) {
        let id = ready.id;
        let must_not_repeat = ready.work.on_crash != OnCrash::Requeue;
        let active = Active::new(ready, slot, worker, self.now);
        let claim = Move { confirm: true, ..active.move_to(id, Place::Running(active.start(None))) };
        let element = active.work.element().copied();
        self.insert_active(id, active);
        if let Some(element) = element {
            self.passed(element.array, id);
        }

        if must_not_repeat {
            // Its start is written down before it starts: handed over when the engine has confirmed that.
            self.change(Change::Move(Box::new(claim)));
        } else {
            self.hand_over(id);
        }
    }

    /// A slot that will be free very soon takes a job.
    pub(in crate::core) fn begin_ahead(&mut self, ready: Ready, slot: SlotId, worker: ProcessId) {
        let id = ready.id;
        let ahead = Some(Ahead { is_called_back: false });
        let element = ready.work.element().copied();
        self.insert_active(id, Active { ahead, ..Active::new(ready, slot, worker, self.now) });
        self.hand_over(id);
        if let Some(element) = element {
            self.passed(element.array, id);
        }
    }

    /// It has come to its turn: its worker has begun with it.
    pub(in crate::core) fn on_turn_at_worker(&mut self, id: JobId) {
        if let Some(active) = self.active.get_mut(&id) {
            (active.ahead, active.since) = (None, self.now);
            let wishes = std::mem::take(&mut active.wishes);
            wishes.into_iter().for_each(|(request, wish)| self.begun(id, request, &wish));
        }
        self.freeze_with_pool(id);
    }

    /// The worker has not begun with what it had ahead.
    pub(in crate::core) fn on_given_back(&mut self, slot: SlotId, claim: Claim) {
        let Unit::Job(id) = claim.unit else { return };
        if !self.active.get(&id).is_some_and(|active| active.is(slot, claim)) {
            return;
        }
        if let Some(slots) = self.slots_mut(slot.lane) {
            slots.without_ahead(slot.index);
        }
        self.go_unbegun(id);
        if let LaneId::Pool(pool) = slot.lane {
            self.stirred.insert(pool);
        }
    }

    /// An attempt that a worker had ahead, and never began with.
    pub(in crate::core) fn go_unbegun(&mut self, id: JobId) {
        let Some(active) = self.remove_active(id) else { return };
        self.forget_timers(id, &active);
        match active.stop_reason() {
            Some(reason) => self.end_unstarted(id, &active, reason),
            None => self.requeue_untried(id, &active, None),
        }
        for (request, wish) in active.wishes {
            self.alter_idle(request, vec![id], &wish);
        }
    }

    /// The start of an attempt that must not run twice is on disk. Where that was meant for a worker that has
    /// died since, the job has been queued again, and has perhaps been taken again under the same number:
    /// that start is still to be confirmed.
    pub(in crate::core) fn on_placed(&mut self, id: JobId, attempt: u32, worker: ProcessId) {
        let is_meant =
            |active: &Active| !active.handed && active.tries.attempts == attempt && active.worker == worker;
        let Some(slot) = self.active.get(&id).filter(|active| is_meant(active)).map(|active| active.slot)
        else {
            return;
        };
        self.hand_over(id);
        // Another one may be handed out behind it now.
        if let LaneId::Pool(pool) = slot.lane {
            self.stirred.insert(pool);
        }
    }

    /// The worker gets the attempt.
    fn hand_over(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let is_call = active.work.call().is_some();

        let patience = if is_call { Duration::ZERO } else { START_PATIENCE };
        let deadline = active.work.timeout.map(|timeout| self.now.monotonic + timeout + patience);
        (active.handed, active.phase) = (true, Phase::Running { deadline });
        if let Some(at) = deadline {
            self.timers.set(at, Timer::Attempt(Unit::Job(id)));
        }

        if is_call {
            let at = self.now.monotonic + TELL_START;
            (active.tell_start_at, active.since) = (Some(at), self.now);
            self.timers.set(at, Timer::Start(id));
        }

        let (slot, claim, work, ahead) =
            (active.slot, active.claim(id), active.work.clone(), active.ahead.is_some());
        let items = self.items_of(id);
        self.effects.push(Effect::Run { slot, claim, work, items, ahead });
        if let Some(slots) = self.slots_mut(slot.lane).filter(|_| !ahead) {
            slots.list_if_quick(slot.index);
        }
        self.freeze_with_pool(id);
    }

    pub(in crate::core) fn on_started(
        &mut self,
        slot: SlotId,
        claim: Claim,
        process: Process,
        started_us: i64,
        memory_limiter: Option<MemoryLimiter>,
    ) {
        let Unit::Job(id) = claim.unit else { return };
        let now = self.now.monotonic;
        let Some(active) = self.active.get_mut(&id).filter(|active| active.is(slot, claim)) else { return };

        active.started = true;
        active.since = Now { monotonic: now, wall_us: started_us };
        let (stopping, old_phase) = (active.stop_reason(), active.phase);
        let start = Start { memory_limiter, ..active.start(Some(process)) };
        let started = active.move_to(id, Place::Running(start));
        let attempt = active.tries.attempts;
        if let Some(frozen) = &mut active.frozen {
            frozen.left = active.work.timeout;
        } else if stopping.is_none() {
            let deadline = active.work.timeout.map(|timeout| now + timeout);
            active.phase = Phase::Running { deadline };
            self.timers.clear(old_phase.deadline(), Timer::Attempt(claim.unit));
            if let Some(at) = deadline {
                self.timers.set(at, Timer::Attempt(claim.unit));
            }
        }

        if let LaneId::Pool(pool) = slot.lane
            && let Some(pool) = self.pools.get_mut(pool)
        {
            pool.offers.has_room();
            pool.shortage = None;
            pool.slots.note_quick(slot.index, false);
        }
        self.change(Change::Move(Box::new(started)));
        if let Some(reason) = stopping {
            self.note_stopping(id, reason);
        }
        self.tell(Fact::Started { id, attempt });
    }

    pub(in crate::core) fn on_ended(&mut self, slot: SlotId, claim: Claim, ended: &Ended) {
        let id = match claim.unit {
            Unit::Job(id) => id,
            Unit::Callback(id) => return self.on_callback_ended(id, slot, claim, Some(ended.exit)),
        };
        let Some(active) = self.take_active(id, slot, claim) else { return };

        // What ended before the daemon sent it anything has ended by itself: its report was on its way.
        let ended_at = Duration::from_micros(ended.ended_since_boot_us);
        let lasted_us = ended.ended_us.saturating_sub(active.since.wall_us);
        let is_quick = lasted_us < micros(self.settings.quick);
        if let Some(slots) = self.slots_mut(slot.lane) {
            slots.note_quick(slot.index, is_quick);
        }
        let is_interrupted = |reason: &StopReason| {
            *reason != StopReason::Shutdown || active.stopped_at.is_none_or(|at| ended_at >= at)
        };
        let stopping = active.stop_reason().filter(is_interrupted);
        match outcome::of_end(ended, stopping, active.work.on_crash) {
            Some(outcome) => self.conclude(id, &active, outcome, None),
            None if active.work.on_crash == OnCrash::Hold => {
                let past = active.lost(outcome::TOLD_TO_END, self.now);
                self.hold(id, active.tries, outcome::TOLD_TO_END, past);
            }
            None => self.requeue(id, &active, None),
        }
        self.vacate(slot);
    }

    pub(in crate::core) fn on_spawn_failed(&mut self, slot: SlotId, claim: Claim, failure: SpawnFailure) {
        let id = match claim.unit {
            Unit::Job(id) => id,
            Unit::Callback(id) => return self.on_callback_ended(id, slot, claim, None),
        };
        let Some(active) = self.take_active(id, slot, claim) else { return };
        self.not_started(id, &active, failure);
        self.vacate(slot);
    }

    fn not_started(&mut self, id: JobId, active: &Active, failure: SpawnFailure) {
        match active.stop_reason() {
            Some(reason) => self.end_unstarted(id, active, reason),
            None if outcome::is_shortage(failure) => {
                let reason = outcome::explain(failure, &active.work);
                self.back_off(active.slot.lane, reason.clone());
                self.requeue_untried(id, active, Some(reason));
            }
            None => {
                let outcome = outcome::of_failure(failure, &active.work, active.ended_us(self.now));
                if failure.stage == Stage::Exec {
                    // A command that cannot be executed has been tried: the attempt counts, and its empty
                    // output is there to be read.
                    self.note_tried(id, active);
                    self.conclude(id, active, outcome, None);
                } else {
                    self.conclude_as(id, active, active.untried(), outcome, None);
                }
            }
        }
    }

    /// Nothing of the attempt has run.
    pub(in crate::core) fn end_unstarted(&mut self, id: JobId, active: &Active, reason: StopReason) {
        match outcome::of_stop(reason, active.ended_us(self.now)) {
            Some(outcome) if reason == StopReason::Deadline => {
                let fence = Fence::Attempt(active.tries.attempts);
                self.finish_as(id, fence, active.untried(), outcome, None);
            }
            Some(outcome) => self.conclude_as(id, active, active.untried(), outcome, None),
            None => self.requeue_untried(id, active, None),
        }
    }

    /// The attempt counts though nobody has told of its start.
    pub(in crate::core) fn note_tried(&mut self, id: JobId, active: &Active) {
        self.change(Change::Move(Box::new(active.move_to(id, Place::Running(active.start(None))))));
    }

    /// The attempt counts, the job is queued again. `died`: how the attempt died, where it did.
    pub(in crate::core) fn requeue(&mut self, id: JobId, active: &Active, died: Option<String>) {
        let queued = active.move_to(id, Place::Queued { again: false });
        let crashed = died.is_some();
        let how = died.as_deref().unwrap_or(outcome::TOLD_TO_END);
        let past = Some(active.lost(how, self.now));
        self.put_back(Move { reason: died, crashed, past, ..queued }, active);
    }

    /// The attempt was not started and does not count. `reason`: what there was no room for, where that is
    /// why.
    pub(in crate::core) fn requeue_untried(&mut self, id: JobId, active: &Active, reason: Option<String>) {
        if active.is_late
            && active.tries.attempts == 1
            && let Some(outcome) = outcome::of_stop(StopReason::Late, active.ended_us(self.now))
        {
            let fence = Fence::Attempt(active.tries.attempts);
            return self.finish_as(id, fence, active.untried(), outcome, None);
        }
        if reason.is_none() && active.is_untold() {
            return self.give_back(id, active);
        }
        let (tries, again) = (active.untried(), reason.is_some());
        self.put_back(Move { tries, reason, ..active.move_to(id, Place::Queued { again }) }, active);
    }

    /// The engine was told nothing of the attempt: it has the job where it was, as it was. One that was
    /// retrying still is, for the same reason.
    fn give_back(&mut self, id: JobId, active: &Active) {
        self.enqueue(id, &active.work.pool, Holdup::None);
        self.came_back(&active.work.pool);
        self.await_offer(id, &active.work);
        let ready = Ready { id, tries: active.untried(), work: active.work.clone() };
        self.effects.push(Effect::GiveBack(ready));
    }

    fn put_back(&mut self, queued: Move, active: &Active) {
        let id = queued.id;
        self.enqueue(id, &active.work.pool, Holdup::None);
        self.came_back(&active.work.pool);
        self.await_offer(id, &active.work);
        self.change(Change::Move(Box::new(Move { work: Some(active.work.clone()), ..queued })));
    }

    fn insert_active(&mut self, id: JobId, active: Active) {
        let labels = active.work.needs.labels.clone();
        self.active.insert(id, active);
        self.occupy(id, &labels);
    }

    pub(in crate::core) fn remove_active(&mut self, id: JobId) -> Option<Active> {
        let active = self.active.remove(&id)?;
        self.vacate_labels(id, &active.work.needs.labels, active.slot.lane);
        self.take_back(id, active.slot.lane, &active.work.needs);
        Some(active)
    }

    pub(in crate::core) fn take_active(&mut self, id: JobId, slot: SlotId, claim: Claim) -> Option<Active> {
        self.active.get(&id).filter(|active| active.is(slot, claim))?;
        let active = self.remove_active(id)?;
        self.forget_timers(id, &active);
        Some(active)
    }

    pub(in crate::core) fn forget_timers(&mut self, id: JobId, active: &Active) {
        self.timers.clear(active.phase.deadline(), Timer::Attempt(Unit::Job(id)));
        self.timers.clear(active.tell_start_at, Timer::Start(id));
    }
}

impl Active {
    /// An attempt of that job, for that slot's worker.
    fn new(ready: Ready, slot: SlotId, worker: ProcessId, since: Now) -> Self {
        let Ready { id: _, tries, work } = ready;
        Self {
            slot,
            worker,
            tries: Tries { attempts: tries.attempts + 1, ..tries },
            work,
            handed: false,
            ahead: None,
            wishes: Vec::new(),
            is_late: false,
            started: false,
            tell_start_at: None,
            since,
            progress: None,
            phase: Phase::Running { deadline: None },
            frozen: None,
            stopped_at: None,
        }
    }

    /// Its start, as the engine is told of it. `process`: its first one, where that is known.
    pub fn start(&self, process: Option<Process>) -> Start {
        Start {
            slot: self.slot.index,
            worker: self.worker,
            process,
            memory_limiter: None,
            started_us: self.since.wall_us,
            since_boot_us: micros(self.since.monotonic),
        }
    }

    /// When it ended, if that is now, for the record: what has passed since its beginning, whatever has
    /// become of the wall's clock.
    pub fn ended_us(&self, now: Now) -> i64 {
        let lasted = now.monotonic.saturating_sub(self.since.monotonic);
        self.since.wall_us.saturating_add(micros(lasted))
    }

    /// When it has started, in microseconds since 1970, where somebody has told of that.
    pub fn started_us(&self) -> Option<i64> {
        self.started.then_some(self.since.wall_us)
    }

    /// It has died now, with its worker or with its daemon.
    pub fn lost(&self, how: &str, now: Now) -> Box<PastAttempt> {
        outcome::died(self.tries.attempts, self.started_us(), how, self.ended_us(now))
    }

    /// How often the job was tried, where nothing of this attempt has run.
    pub fn untried(&self) -> Tries {
        Tries { attempts: self.tries.attempts - 1, ..self.tries }
    }

    /// Whether the engine was told nothing of this attempt: neither its start, nor that it is about to start.
    fn is_untold(&self) -> bool {
        !self.started && self.work.on_crash == OnCrash::Requeue
    }

    pub fn claim(&self, id: JobId) -> Claim {
        Claim { unit: Unit::Job(id), attempt: self.tries.attempts }
    }

    /// A move of the job by whoever has this attempt.
    pub fn move_to(&self, id: JobId, to: Place) -> Move {
        Move::new(id, Fence::Attempt(self.tries.attempts), to, self.tries)
    }

    /// Whether a report speaks of this attempt.
    pub fn is(&self, slot: SlotId, claim: Claim) -> bool {
        self.slot == slot && self.tries.attempts == claim.attempt
    }

    /// Whether its worker has a process for it, as far as is known here. A call has none of its own.
    pub fn is_at_work(&self) -> bool {
        self.handed && self.ahead.is_none() && self.work.call().is_none()
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.phase {
            Phase::Running { .. } => None,
            Phase::Stopping { reason, .. } | Phase::Killing { reason, .. } => Some(reason),
        }
    }
}

impl Phase {
    /// When the next step is due.
    pub fn deadline(self) -> Option<Duration> {
        match self {
            Self::Running { deadline: at } | Self::Killing { kill_worker_at: at, .. } => at,
            Self::Stopping { kill_at, .. } => Some(kill_at),
        }
    }
}
