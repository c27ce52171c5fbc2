//! Calls to resident programs, and what becomes of a call whose program fails it.
//!
//! A call is a job like any other; it differs in who tells of it. Nobody tells of its start: it has started
//! when the program was handed it. That is written down together with its end, unless it takes its time.

use pool_proto::nouns::{CallProgress, OnCrash};

use super::attempt::Active;
use super::outcome;
use crate::core::Core;
use crate::core::event::{Effect, Fact, SlotId};
use crate::core::pools::slots::Occupancy;
use crate::engine::Change;
use crate::job::{Answered, Claim, JobId, Place, ProcessId, Start, Unit, Wear};

impl Core {
    /// A call takes its time.
    pub(in crate::core) fn tell_start(&mut self, id: JobId) {
        let Some(start) = self.start_of(id) else { return };
        let Some(active) = self.active.get_mut(&id) else { return };
        (active.started, active.tell_start_at) = (true, None);

        let stopping = active.stop_reason();
        let started = active.move_to(id, Place::Running(start));
        self.change(Change::Move(Box::new(started)));
        if let Some(reason) = stopping {
            self.note_stopping(id, reason);
        }
    }

    fn start_of(&self, id: JobId) -> Option<Start> {
        let active = self.active.get(&id)?;
        let process = self.slots(active.slot.lane)?.resident(active.slot.index).process;
        Some(active.start(process))
    }

    /// The start of an attempt, where the engine has not been told of it.
    fn untold_start(&self, id: JobId) -> Option<Start> {
        self.start_of(id).filter(|_| self.active.get(&id).is_some_and(|active| !active.started))
    }

    pub(in crate::core) fn on_answered(&mut self, slot: SlotId, claim: Claim, answered: Answered) {
        let Unit::Job(id) = claim.unit else { return };
        if !self.active.get(&id).is_some_and(|active| active.is(slot, claim)) {
            return;
        }
        let start = self.untold_start(id);
        let Some(active) = self.take_active(id, slot, claim) else { return };

        let wear = self.program_of(slot).map_or(Wear::default(), |program| program.wear);
        let now = self.now.monotonic;
        let slots = self.slots_mut(slot.lane);
        let is_worn = slots.is_some_and(|slots| slots.answered(slot.index, answered.rss_bytes, now, &wear));

        let ended_us = active.ended_us(self.now);
        match active.stop_reason() {
            None => {
                self.conclude(id, &active, outcome::of_answer(answered, ended_us), start);
                self.vacate(slot);
                if is_worn {
                    self.wear_out(slot);
                }
            }
            // It has been sent SIGTERM, whatever it makes of that.
            Some(reason) => {
                match outcome::of_stop(reason, ended_us) {
                    Some(stopped) => self.conclude(id, &active, stopped, start),
                    // The daemon ends. A value is there, and complete; an error may be what SIGTERM has
                    // caused.
                    None if answered.result.is_ok() => {
                        self.conclude(id, &active, outcome::of_answer(answered, ended_us), start);
                    }
                    None => self.interrupted(id, &active, answered, start),
                }
                self.end_program(slot, active.worker, "its program was told to end with a call".to_owned());
            }
        }
    }

    /// A call was answered with an error after its program was told to end with the daemon.
    fn interrupted(&mut self, id: JobId, active: &Active, answered: Answered, start: Option<Start>) {
        match active.work.on_crash {
            OnCrash::Fail => {
                self.conclude(id, active, outcome::of_answer(answered, active.ended_us(self.now)), start)
            }
            OnCrash::Hold => {
                if !active.started {
                    self.note_tried(id, active);
                }
                let past = active.lost(outcome::TOLD_TO_END, self.now);
                self.hold(id, active.tries, outcome::TOLD_TO_END, past);
            }
            OnCrash::Requeue => {
                if !active.started {
                    self.note_tried(id, active);
                }
                self.requeue(id, active, None);
            }
        }
    }

    pub(in crate::core) fn on_progressed(&mut self, slot: SlotId, claim: Claim, progress: CallProgress) {
        let Unit::Job(id) = claim.unit else { return };
        let Some(active) = self.active.get_mut(&id).filter(|active| active.is(slot, claim)) else { return };
        active.progress = Some(progress.clone());
        self.tell(Fact::Progressed { id, attempt: claim.attempt, progress });
    }

    /// The program goes. The call that may be at fault has failed; another one that it has is treated as if
    /// the program had died.
    pub(in crate::core) fn on_misbehaved(
        &mut self,
        slot: SlotId,
        worker: ProcessId,
        during: Option<Claim>,
        how: String,
    ) {
        let failed = during.and_then(|claim| {
            let Unit::Job(id) = claim.unit else { return None };
            let is_current = self.active.get(&id).is_some_and(|active| active.is(slot, claim));
            is_current.then_some((id, claim))
        });
        if let Some((id, claim)) = failed {
            let start = self.untold_start(id);
            let Some(active) = self.take_active(id, slot, claim) else { return };
            let ended_us = active.ended_us(self.now);
            let stopped = active.stop_reason().and_then(|reason| outcome::of_stop(reason, ended_us));
            self.conclude(id, &active, stopped.unwrap_or_else(|| outcome::of_breach(&how, ended_us)), start);
            return self.end_program(slot, worker, how);
        }

        let Some(slots) = self.slots_mut(slot.lane) else { return };
        if let Occupancy::Busy { pid, unit: Unit::Job(id) } = slots.get(slot.index)
            && pid == worker
        {
            if self.active.get(&id).is_some_and(|active| !active.handed)
                && let Some(active) = self.remove_active(id)
            {
                self.requeue_untried(id, &active, None);
                return self.end_program(slot, worker, how);
            }
            // What it has still to do is decided when its worker is dead.
            if let Some(slots) = self.slots_mut(slot.lane) {
                slots.condemn(slot.index, worker, how);
            }
            return self.effects.push(Effect::KillWorker { slot });
        }
        self.end_program(slot, worker, how);
    }
}
