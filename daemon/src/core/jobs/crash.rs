//! What becomes of a job whose attempt died with its worker, with the daemon or with the machine.

use std::sync::Arc;

use pool_proto::nouns::OnCrash;

use super::attempt::Active;
use super::outcome;
use crate::core::Core;
use crate::core::event::SlotId;
use crate::core::pools::slots::Occupancy;
use crate::engine::{Change, Fence, Interrupted, LastEnd, Move};
use crate::job::{Holdup, JobId, PastAttempt, Place, ProcessId, StopReason, Tries, Unit, Until};

impl Core {
    /// `unsent`: the worker never got the attempt that it was handed last.
    pub(in crate::core) fn on_worker_lost(&mut self, slot: SlotId, pid: ProcessId, how: &str, unsent: bool) {
        let how = &self.program_lost(slot, pid, how);
        let Some(slots) = self.slots_mut(slot.lane) else { return };
        // One that was ended for a new one has not failed.
        let is_superseded = slots.take_superseded(slot.index, pid);
        if is_superseded {
            slots.forgive(slot.index);
        }
        if slots.is_successor(slot.index, pid) {
            if !is_superseded {
                self.restart_failed(slot, how);
            }
            return self.on_successor_lost(slot, how.to_owned());
        }
        let unit = match slots.get(slot.index) {
            // It has been replaced, or was the successor of one that has gone.
            other if other.pid() != Some(pid) => return,
            Occupancy::Busy { unit, .. } => Some(unit),
            Occupancy::Down { .. }
            | Occupancy::Starting { .. }
            | Occupancy::Idle { .. }
            | Occupancy::Spoilt { .. }
            | Occupancy::Retired { .. } => None,
        };

        // A program that dies of a call that it has had, or is ended with one, has not failed to start: the
        // next call does not wait for that.
        let is_ended = |active: &Active| {
            active.work.call().is_some() && (active.stop_reason().is_some() || active.handed && !unsent)
        };
        if let Some(Unit::Job(id)) = unit
            && self.active.get(&id).is_some_and(is_ended)
            && let Some(slots) = self.slots_mut(slot.lane)
        {
            slots.forgive(slot.index);
        }

        let was_ready =
            self.slots(slot.lane).is_some_and(|slots| slots.resident(slot.index).process.is_some());
        if !is_superseded && !was_ready {
            self.restart_failed(slot, how);
        }

        let ahead = self.slots_mut(slot.lane).and_then(|slots| slots.without_ahead(slot.index));

        // The slot first: its next worker starts while the attempt's fate is written down. `dispatch` runs at
        // the end of the event, after this function: so nothing is handed to a worker before the move of the
        // lost job is emitted, not even to a successor that is ready and has taken the slot over.
        self.respawn_later(slot, how.to_owned());
        match unit {
            Some(Unit::Job(id)) => self.lose_attempt(id, how, unsent),
            Some(Unit::Callback(id)) => self.callback_over(id, None),
            None => {}
        }
        // Its worker tells the end of an attempt before it begins with the next one.
        if let Some(id) = ahead {
            self.go_unbegun(id);
        }
    }

    fn lose_attempt(&mut self, id: JobId, how: &str, unsent: bool) {
        let Some(active) = self.remove_active(id) else { return };
        self.forget_timers(id, &active);
        match active.stop_reason() {
            _ if !active.handed => self.requeue_untried(id, &active, None),
            None | Some(StopReason::Shutdown) if unsent => self.requeue_untried(id, &active, None),
            _ => self.job_crashed(id, active, how),
        }
    }

    fn job_crashed(&mut self, id: JobId, mut active: Active, how: &str) {
        let ended_us = active.ended_us(self.now);
        if !active.started {
            // It may have been executed, and its worker killed before it could say so.
            self.note_tried(id, &active);
        }

        // Counted with what becomes of the job, not before: a daemon that dies in between would count it
        // again.
        let before = active.tries;
        active.tries.crashes += 1;
        let stopping = active.stop_reason();
        if let Some(outcome) = stopping.and_then(|reason| outcome::of_stop(reason, ended_us)) {
            active.tries = before;
            return self.conclude(id, &active, outcome, None);
        }
        match active.work.on_crash {
            OnCrash::Fail => self.finish(&active, id, outcome::crashed(how, ended_us), None),
            OnCrash::Hold => self.hold(id, active.tries, how, active.lost(how, self.now)),
            // It was on its way back into the queue.
            OnCrash::Requeue if stopping == Some(StopReason::Shutdown) => {
                active.tries = before;
                self.requeue(id, &active, None);
            }
            OnCrash::Requeue if active.tries.crashes >= self.settings.crash_limit => {
                let outcome = outcome::lost(active.tries.crashes, how, ended_us);
                self.finish(&active, id, outcome, None);
            }
            OnCrash::Requeue => self.requeue(id, &active, Some(how.to_owned())),
        }
    }

    /// Decides on an attempt that ended with the last daemon. Where its job is queued again: what keeps it
    /// from its line.
    pub(in crate::core) fn recover(&mut self, job: &Interrupted, last_end: LastEnd) -> Option<Holdup> {
        let how = match last_end {
            LastEnd::Unknown => "poold or the machine died",
            LastEnd::Died => "poold died",
            LastEnd::Rebooted => "the machine was restarted or lost power",
        };
        let ended_us = job.ended_us(self.now.wall_us);
        let id = job.id;

        if let Some(outcome) = job.stopping.and_then(|reason| outcome::of_stop(reason, ended_us)) {
            let failed = self.failed_attempt(id, &outcome, job.tries, job.retries, job.started_us);
            if let Some(failed) = failed.filter(|_| job.stopping != Some(StopReason::Deadline)) {
                self.wait_for_retry(id, Fence::Attempt(job.tries.attempts), job.tries, failed, None);
                self.enqueue(id, &Arc::from(job.pool.as_str()), Holdup::Time);
                return Some(Holdup::Time);
            }
            self.finish_as(id, Fence::Attempt(job.tries.attempts), job.tries, outcome, None);
            return None;
        }

        let past = outcome::died(job.tries.attempts, job.started_us, how, ended_us);
        let tries = Tries { crashes: job.tries.crashes + 1, ..job.tries };
        let fence = Fence::Attempt(tries.attempts);
        match job.on_crash {
            OnCrash::Fail => self.finish_as(id, fence, tries, outcome::crashed(how, ended_us), None),
            OnCrash::Hold => self.hold(id, tries, how, past),
            OnCrash::Requeue if tries.crashes >= self.settings.crash_limit => {
                self.finish_as(id, fence, tries, outcome::lost(tries.crashes, how, ended_us), None);
            }
            OnCrash::Requeue => {
                let queued = Move::new(id, fence, Place::Queued { again: false }, tries);
                let reason = Some(how.to_owned());
                self.change(Change::Move(Box::new(Move {
                    reason,
                    crashed: true,
                    past: Some(past),
                    ..queued
                })));
                self.enqueue(id, &Arc::from(job.pool.as_str()), Holdup::None);
                return Some(Holdup::None);
            }
        }
        None
    }

    /// The job waits for somebody to decide.
    pub(in crate::core) fn hold(&mut self, id: JobId, tries: Tries, how: &str, past: Box<PastAttempt>) {
        let reason = format!(
            "{how}; `poolctl release {id}` runs it again, `poolctl cancel {id}` does not (on crash: hold)"
        );
        let held = Move::new(id, Fence::Attempt(tries.attempts), Place::Waiting(Until::Person), tries);
        self.change(Change::Move(Box::new(Move { reason: Some(reason), past: Some(past), ..held })));
        self.held_in_arrays(std::iter::once(id));
    }
}
