//! Calls to resident programs, and the programs' lives: ready, worn, replaced, and what becomes of a call whose program fails it.
//!
//! A call is a job like any other; it differs in who tells of it. Nobody tells of its start: it has started when the program was handed it.
//! That is written down together with its end, unless it takes its time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::interface::{CallProgress, OnCrash};

use super::attempts::Active;
use super::event::{Effect, LaneId, Reply, SlotId};
use super::slots::{Next, Slot};
use super::store_op::{Start, StoreOp};
use super::waiters::Watch;
use super::{Scheduler, Timer, outcome};
use crate::job::{Answer, Claim, JobId, Process, Program, Unit, Wear};

/// A call that takes longer has its start told by itself.
pub const TELL_START: Duration = Duration::from_millis(2);

/// So often at most a call is handed to a fresh program without harm to it when the program dies before it has ever answered anything. A
/// program that cannot start would otherwise use up the attempts of one call after the other.
const MAX_START_DEATHS: u32 = 8;

/// The deadlines of resident programs.
#[derive(Debug, Default)]
pub struct Programs {
    /// Of those that are not ready, by slot and their workers' pids.
    starts: HashMap<(SlotId, i32), Duration>,
    /// When a slot's program has lived long enough.
    ages: HashMap<SlotId, Duration>,
}

impl Programs {
    /// A slot's own worker is gone, or about to go.
    pub fn forget(&mut self, timers: &mut BTreeSet<(Duration, Timer)>, slot: SlotId) {
        if let Some(at) = self.ages.remove(&slot) {
            timers.remove(&(at, Timer::Worn(slot)));
        }
    }

    fn started(
        &mut self,
        timers: &mut BTreeSet<(Duration, Timer)>,
        slot: SlotId,
        worker: i32,
        until: Duration,
    ) {
        self.starts.insert((slot, worker), until);
        timers.insert((until, Timer::Ready(slot, worker)));
    }

    /// That worker's program is ready, or dead.
    fn settled(&mut self, timers: &mut BTreeSet<(Duration, Timer)>, slot: SlotId, worker: i32) {
        if let Some(at) = self.starts.remove(&(slot, worker)) {
            timers.remove(&(at, Timer::Ready(slot, worker)));
        }
    }
}

impl Scheduler {
    // ---- programs ----

    pub(super) fn on_worker_up(&mut self, slot: SlotId, pid: i32) {
        self.slots_mut(slot.lane).up(slot.index, pid);
        self.await_program(slot, pid);
    }

    fn await_program(&mut self, slot: SlotId, pid: i32) {
        if let Some(program) = self.program_of(slot) {
            let until = self.now.monotonic + program.start_timeout;
            self.programs.started(&mut self.timers, slot, pid, until);
        }
    }

    pub(super) fn on_program_ready(&mut self, slot: SlotId, worker: i32, process: Process) {
        let now = self.now.monotonic;
        self.programs.settled(&mut self.timers, slot, worker);
        let next = self.slots_mut(slot.lane).ready(slot.index, worker, process, now);
        self.go_on(slot, next);
        self.watch_age(slot);
    }

    /// Has the slot's program replaced when it has lived long enough.
    pub(super) fn watch_age(&mut self, slot: SlotId) {
        self.programs.forget(&mut self.timers, slot);
        let resident = self.slots(slot.lane).resident(slot.index);
        let max_age = self.program_of(slot).and_then(|program| program.wear.max_age);
        if let (Some(_), Some(age)) = (resident.process, max_age) {
            let at = resident.ready_at + age;
            self.programs.ages.insert(slot, at);
            self.timers.insert((at, Timer::Worn(slot)));
        }
    }

    /// It has had its time to become ready.
    pub(super) fn on_program_late(&mut self, slot: SlotId, worker: i32) {
        self.programs.starts.remove(&(slot, worker));
        if !self.slots(slot.lane).is_starting(slot.index, worker) {
            return;
        }
        let timeout = self.program_of(slot).map_or(Duration::ZERO, |program| program.start_timeout);
        let seconds = timeout.as_secs_f64();
        self.end_program(
            slot,
            worker,
            format!("its program was not ready within {seconds} s (start_timeout)"),
        );
    }

    /// The program of that worker is ended, and so is the worker; `WorkerLost` follows.
    fn end_program(&mut self, slot: SlotId, worker: i32, reason: String) {
        let slots = self.slots_mut(slot.lane);
        slots.condemn(slot.index, worker, reason);
        if slots.is_successor(slot.index, worker) {
            self.effects.push(Effect::KillSuccessor { slot });
        } else if slots.get(slot.index).pid() == Some(worker) {
            slots.spoil(slot.index);
            self.effects.push(Effect::KillWorker { slot });
        }
    }

    pub(super) fn on_successor_up(&mut self, slot: SlotId, pid: i32) {
        let next = self.slots_mut(slot.lane).successor_up(slot.index, pid);
        if next == Next::Retire {
            // Nobody waits for it any more: the pool has become smaller.
            return self.effects.push(Effect::KillSuccessor { slot });
        }
        self.go_on(slot, next);
        self.await_program(slot, pid);
    }

    pub(super) fn on_successor_lost(&mut self, slot: SlotId, reason: String) {
        let now = self.now.monotonic;
        let next = self.slots_mut(slot.lane).successor_lost(slot.index, now, reason);
        self.go_on(slot, next);
    }

    /// A worker is dead. What became of its program: what it was killed for, or how it died.
    pub(super) fn program_lost(&mut self, slot: SlotId, worker: i32, how: &str) -> String {
        self.programs.settled(&mut self.timers, slot, worker);
        self.slots_mut(slot.lane).take_verdict(slot.index, worker).unwrap_or_else(|| how.to_owned())
    }

    /// The slot's program is to be replaced by a fresh one.
    pub(super) fn wear_out(&mut self, slot: SlotId) {
        if self.slots_mut(slot.lane).wear_out(slot.index) {
            self.effects.push(Effect::SpawnSuccessor { slot });
        }
    }

    /// A pool has another program from now on; each of its slots gets it in turn, with nothing lost.
    pub(super) fn set_program(&mut self, index: usize, program: Option<&Arc<Program>>) {
        let pool = &mut self.pools[index];
        if pool.program.as_ref() == program || pool.slots.is_warm() != program.is_some() {
            return;
        }
        pool.program = program.cloned();
        for index_of_slot in 0..pool.slots.wanted() {
            self.wear_out(SlotId { lane: LaneId::Pool(index), index: index_of_slot });
        }
    }

    /// What the slot's worker is to keep running, in a warm pool.
    pub fn program_of(&self, slot: SlotId) -> Option<Arc<Program>> {
        match slot.lane {
            LaneId::Pool(index) => self.pools[index].program.clone(),
            LaneId::Callbacks => None,
        }
    }

    // ---- calls ----

    /// A call takes its time.
    pub(super) fn tell_start(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        (active.started, active.tell_start_at) = (true, None);
        let stopping = active.stop_reason();
        let Start { attempt, slot, worker_pid, process, started_us } = self.start_of(id);
        self.store(StoreOp::Start { id, attempt, slot, worker_pid, process, started_us });
        if let Some(reason) = stopping {
            self.store_stopping(id, reason);
        }
    }

    fn start_of(&self, id: JobId) -> Start {
        let active = &self.active[&id];
        let &Active { slot, attempt, worker_pid, started_us, .. } = active;
        Start {
            attempt,
            slot: slot.index,
            worker_pid,
            process: self.slots(slot.lane).resident(slot.index).process,
            started_us,
        }
    }

    pub(super) fn on_answered(&mut self, slot: SlotId, claim: Claim, answer: Answer) {
        let Unit::Job(id) = claim.unit else { return };
        if !self.active.get(&id).is_some_and(|active| active.is(slot, claim)) {
            return;
        }
        let start = Some(self.start_of(id)).filter(|_| !self.active[&id].started);
        let Some(active) = self.take_active(id, slot, claim) else { return };
        let wear = self.program_of(slot).map_or(Wear::default(), |program| program.wear);
        let now = self.now.monotonic;
        let is_worn = self.slots_mut(slot.lane).answered(slot.index, answer.rss_bytes, now, &wear);
        let ended_us = answer.ended_us;
        match active.stop_reason() {
            None => {
                self.conclude(id, &active, outcome::of_answer(answer), start);
                self.vacate(slot);
                if is_worn {
                    self.wear_out(slot);
                }
            }
            // It has been sent SIGTERM, whatever it makes of that.
            Some(reason) => {
                let stopped = outcome::of_stop(reason, ended_us);
                self.conclude(id, &active, stopped.unwrap_or_else(|| outcome::of_answer(answer)), start);
                self.end_program(
                    slot,
                    active.worker_pid,
                    "its program was told to end with a call".to_owned(),
                );
            }
        }
    }

    pub(super) fn on_progressed(&mut self, slot: SlotId, claim: Claim, progress: CallProgress) {
        let Unit::Job(id) = claim.unit else { return };
        let Some(active) = self.active.get_mut(&id).filter(|active| active.is(slot, claim)) else { return };
        active.progress = Some(progress.clone());
        for call in self.waiters.watchers(id, Watch::Progress) {
            self.reply(call, Reply::Progress { id, progress: progress.clone() }, false);
        }
    }

    /// The program goes. The call that may be at fault has failed; another one that it has is treated as if the program had died.
    pub(super) fn on_misbehaved(&mut self, slot: SlotId, worker: i32, during: Option<Claim>, how: String) {
        let failed = during.and_then(|claim| {
            let Unit::Job(id) = claim.unit else { return None };
            let is_current = self.active.get(&id).is_some_and(|active| active.is(slot, claim));
            is_current.then_some((id, claim))
        });
        if let Some((id, claim)) = failed {
            let start = Some(self.start_of(id)).filter(|_| !self.active[&id].started);
            let ended_us = self.now.wall_us;
            let Some(active) = self.take_active(id, slot, claim) else { return };
            let stopped = active.stop_reason().and_then(|reason| outcome::of_stop(reason, ended_us));
            self.conclude(id, &active, stopped.unwrap_or_else(|| outcome::of_breach(&how, ended_us)), start);
            return self.end_program(slot, worker, how);
        }
        if let Slot::Busy { pid, unit: Unit::Job(id) } = self.slots(slot.lane).get(slot.index)
            && pid == worker
        {
            if self.active.get(&id).is_some_and(|active| !active.handed)
                && let Some(active) = self.active.remove(&id)
            {
                self.requeue_untried(id, active, None);
                return self.end_program(slot, worker, how);
            }
            // What it has still to do is decided when its worker is dead.
            self.slots_mut(slot.lane).condemn(slot.index, worker, how);
            return self.effects.push(Effect::KillWorker { slot });
        }
        self.end_program(slot, worker, how);
    }

    /// The attempt counts, but not as a crash of its own.
    pub(super) fn requeue_after_start_death(&mut self, id: JobId, mut active: Active, how: &str) {
        if !active.started {
            self.store_tried(id, &active);
        }
        active.start_deaths += 1;
        self.requeue(id, active, Some(how.to_owned()));
    }
}

impl Active {
    /// Should its program die without ever having answered anything.
    pub(super) fn is_put_down_to_the_program(&self) -> bool {
        self.work.on_crash == OnCrash::Requeue && self.start_deaths < MAX_START_DEATHS
    }
}
