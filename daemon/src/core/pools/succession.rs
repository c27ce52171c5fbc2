//! Resident programs' lives: started, ready, worn, and replaced by a successor that starts first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::ReadyWhen;

use super::slots::{Next, Renewal};
use crate::core::Core;
use crate::core::event::{Effect, Fact, LaneId, PoolId, SlotId};
use crate::core::timers::{Timer, Timers};
use crate::job::{Process, ProcessId, Program, RequestId};

/// A program that is ready as soon as it is executed, and may be another one than that before it, has to stay
/// up for this long before it takes calls: most programs that are broken end sooner. The one before it serves
/// meanwhile.
const PROOF: Duration = Duration::from_secs(1);

/// The deadlines of resident programs.
#[derive(Debug, Default)]
pub struct Programs {
    /// Of those that are not ready, by slot and their workers' pids.
    starts: HashMap<(SlotId, ProcessId), Duration>,
    /// Of those that are ready and have yet to show that they stay up, in the same way.
    proofs: HashMap<(SlotId, ProcessId), (Duration, Process)>,
    /// When a slot's program has lived long enough.
    ages: HashMap<SlotId, Duration>,
}

impl Programs {
    /// A slot's own worker is gone, or about to go.
    pub fn forget(&mut self, timers: &mut Timers, slot: SlotId) {
        if let Some(at) = self.ages.remove(&slot) {
            timers.clear(Some(at), Timer::Worn(slot));
        }
    }

    fn started(&mut self, timers: &mut Timers, slot: SlotId, worker: ProcessId, until: Duration) {
        self.starts.insert((slot, worker), until);
        timers.set(until, Timer::Ready(slot, worker));
    }

    /// That worker's program is ready, or dead.
    fn settled(&mut self, timers: &mut Timers, slot: SlotId, worker: ProcessId) {
        if let Some(at) = self.starts.remove(&(slot, worker)) {
            timers.clear(Some(at), Timer::Ready(slot, worker));
        }
        if let Some((at, _)) = self.proofs.remove(&(slot, worker)) {
            timers.clear(Some(at), Timer::Proven(slot, worker));
        }
    }
}

impl Core {
    pub(in crate::core) fn on_worker_up(&mut self, slot: SlotId, pid: ProcessId) {
        let next = self.slots_mut(slot.lane).map_or(Next::Nothing, |slots| slots.up(slot.index, pid));
        if next == Next::Nothing {
            self.await_program(slot, pid);
        }
        self.go_on(slot, next);
    }

    fn await_program(&mut self, slot: SlotId, pid: ProcessId) {
        if let Some(program) = self.program_of(slot) {
            let until = self.now.monotonic + program.start_timeout;
            self.programs.started(&mut self.timers, slot, pid, until);
        }
    }

    pub(in crate::core) fn on_program_ready(&mut self, slot: SlotId, worker: ProcessId, process: Process) {
        self.programs.settled(&mut self.timers, slot, worker);
        let is_unproven = self.slots(slot.lane).is_some_and(|slots| slots.is_unproven(slot.index, worker));
        let tells = self.program_of(slot).is_some_and(|program| program.ready == ReadyWhen::Notify);
        if tells || !is_unproven {
            return self.seat_program(slot, worker, process);
        }

        let at = self.now.monotonic + PROOF;
        self.programs.proofs.insert((slot, worker), (at, process));
        self.timers.set(at, Timer::Proven(slot, worker));
    }

    /// It has stayed up.
    pub(in crate::core) fn on_program_proven(&mut self, slot: SlotId, worker: ProcessId) {
        if let Some((_, process)) = self.programs.proofs.remove(&(slot, worker)) {
            self.seat_program(slot, worker, process);
        }
    }

    /// The program takes calls from now on, or as soon as its slot is free.
    fn seat_program(&mut self, slot: SlotId, worker: ProcessId, process: Process) {
        let now = self.now.monotonic;
        let Some(slots) = self.slots_mut(slot.lane) else { return };
        let next = slots.ready(slot.index, worker, process, now);
        self.go_on(slot, next);
        self.watch_age(slot);
    }

    /// Has the slot's program replaced when it has lived long enough.
    pub(in crate::core) fn watch_age(&mut self, slot: SlotId) {
        self.programs.forget(&mut self.timers, slot);
        let Some(resident) = self.slots(slot.lane).map(|slots| slots.resident(slot.index)) else { return };
        let max_age = self.program_of(slot).and_then(|program| program.wear.max_age);
        if let (Some(_), Some(age)) = (resident.process, max_age) {
            let at = resident.ready_at + age;
            self.programs.ages.insert(slot, at);
            self.timers.set(at, Timer::Worn(slot));
        }
    }

    /// It has had its time to become ready.
    pub(in crate::core) fn on_program_late(&mut self, slot: SlotId, worker: ProcessId) {
        self.programs.starts.remove(&(slot, worker));
        if !self.slots(slot.lane).is_some_and(|slots| slots.is_starting(slot.index, worker)) {
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
    pub(in crate::core) fn end_program(&mut self, slot: SlotId, worker: ProcessId, reason: String) {
        let Some(slots) = self.slots_mut(slot.lane) else { return };
        slots.condemn(slot.index, worker, reason);
        if slots.give_up_successor(slot.index, worker) {
            self.effects.push(Effect::KillSuccessor { slot });
        } else if slots.get(slot.index).pid() == Some(worker) {
            slots.spoil(slot.index);
            self.effects.push(Effect::KillWorker { slot });
        }
    }

    pub(in crate::core) fn on_successor_up(&mut self, slot: SlotId, pid: ProcessId) {
        let next =
            self.slots_mut(slot.lane).map_or(Next::Retire, |slots| slots.successor_up(slot.index, pid));
        if next == Next::Retire {
            // Nobody waits for it any more: the pool has become smaller, and is perhaps over with this.
            self.effects.push(Effect::KillSuccessor { slot });
            return self.go_on(slot, Next::Nothing);
        }
        self.go_on(slot, next);
        self.await_program(slot, pid);
    }

    pub(in crate::core) fn on_successor_lost(&mut self, slot: SlotId, reason: String) {
        let now = self.now.monotonic;
        let Some(slots) = self.slots_mut(slot.lane) else { return };
        let next = slots.successor_lost(slot.index, now, reason);
        self.go_on(slot, next);
    }

    /// A worker is dead. What became of its program: what it was killed for, or how it died.
    pub(in crate::core) fn program_lost(&mut self, slot: SlotId, worker: ProcessId, how: &str) -> String {
        self.programs.settled(&mut self.timers, slot, worker);
        let verdict = self.slots_mut(slot.lane).and_then(|slots| slots.take_verdict(slot.index, worker));
        verdict.unwrap_or_else(|| how.to_owned())
    }

    /// The slot's program is to be replaced by a fresh one.
    pub(in crate::core) fn wear_out(&mut self, slot: SlotId) {
        if self.slots_mut(slot.lane).is_some_and(|slots| slots.wear_out(slot.index)) {
            let seat = self.seat_of(slot.lane);
            self.effects.push(Effect::SpawnSuccessor { slot, seat });
        }
    }

    /// Somebody wants new programs in the pool.
    pub(in crate::core) fn on_restart(&mut self, request: RequestId, name: &Arc<str>) {
        let Some(id) = self.pools.id_of(name) else {
            // It has gone since the desk looked, and its programs with it.
            return self.tell(Fact::Restarted { request, result: Ok(()) });
        };
        self.renew_all(id);
        if let Some(pool) = self.pools.get_mut(id) {
            pool.restarts.push(request);
        }
        self.stirred.insert(id);
    }

    /// Tells those who wait for new programs when all are there.
    pub(in crate::core) fn tell_restarted(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        if !pool.restarts.is_empty() && pool.slots.are_renewed() {
            for request in std::mem::take(&mut pool.restarts) {
                self.tell(Fact::Restarted { request, result: Ok(()) });
            }
        }
    }

    /// A program has never become ready: nobody waits for it in silence.
    pub(in crate::core) fn restart_failed(&mut self, slot: SlotId, reason: &str) {
        let LaneId::Pool(id) = slot.lane else { return };
        let Some(pool) = self.pools.get_mut(id) else { return };
        for request in std::mem::take(&mut pool.restarts) {
            self.tell(Fact::Restarted { request, result: Err(reason.to_owned()) });
        }
    }

    /// Each program of the pool is replaced, also one that is about to take a place: it is as old as the
    /// others.
    fn renew_all(&mut self, id: PoolId) {
        let now = self.now.monotonic;
        let Some(pool) = self.pools.get(id) else { return };
        let indices: Vec<u32> = pool.slots.iter().map(|(index, _)| index).collect();
        for index in indices {
            let slot = SlotId { lane: LaneId::Pool(id), index };
            let Some(slots) = self.slots_mut(slot.lane) else { return };
            let Renewal { end, succeed, respawn } = slots.renew(index, now);
            for worker in end {
                self.end_program(slot, worker, "its program was to be replaced by a new one".to_owned());
            }
            if succeed {
                let seat = self.seat_of(slot.lane);
                self.effects.push(Effect::SpawnSuccessor { slot, seat });
            }
            if let Some(at) = respawn {
                self.timers.clear(Some(at), Timer::Respawn(slot));
                self.respawn(slot);
            }
        }
    }

    /// A pool has another program from now on; each of its slots gets it in turn, with nothing lost.
    pub(in crate::core) fn set_program(&mut self, id: PoolId, program: Option<&Arc<Program>>) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        if pool.program.as_ref() == program || pool.slots.is_warm() != program.is_some() {
            return;
        }
        pool.program = program.cloned();
        self.renew_all(id);
    }

    /// What the slot's worker is to keep running, in a warm pool.
    pub(in crate::core) fn program_of(&self, slot: SlotId) -> Option<&Arc<Program>> {
        match slot.lane {
            LaneId::Pool(id) => self.pools.get(id)?.program.as_ref(),
            LaneId::Callbacks => None,
        }
    }
}
