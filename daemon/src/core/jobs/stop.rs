//! Ending an attempt from outside: SIGTERM, then SIGKILL, then the worker that does not do as it is told; and
//! what clients want of it meanwhile: signals, and changes of its input.

use std::time::Duration;

use super::attempt::{Active, Phase};
use crate::core::event::{Effect, SlotId};
use crate::core::{Core, Mode, Timer};
use crate::engine::{Change, Move};
use crate::job::{Claim, JobId, Place, Steer, StopReason, TIMED_OUT, Unit};

/// A worker that has been told to kill its attempt takes this long at most; one that was stopped would take
/// for ever.
pub const WORKER_PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    pub(in crate::core) fn on_stop(&mut self) {
        self.hurried = self.mode >= Mode::Stopping;
        self.mode = self.mode.max(Mode::Stopping);
        // What is offered goes back: nothing is started any more.
        self.stirred.extend(self.pools.iter().map(|(id, _)| id));

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

    pub(in crate::core) fn on_signal(&mut self, id: JobId, signal: i32) {
        match self.active.get(&id) {
            // There is no process of its own that could make something of it.
            Some(active) if active.work.call().is_some() => self.end(id, StopReason::Canceled),
            Some(active) if active.handed && active.ahead.is_none() => {
                let (slot, claim) = (active.slot, active.claim(id));
                self.effects.push(Effect::Signal { slot, claim, signal });
            }
            None if self.is_begun_array(id) => {
                for element in self.running_elements(id) {
                    self.on_signal(element, signal);
                }
            }
            // It has ended since somebody looked.
            Some(_) | None => {}
        }
    }

    pub(in crate::core) fn on_steer(&mut self, id: JobId, steer: Steer) {
        let Some(active) = self.active.get(&id).filter(|active| active.started) else { return };
        let (slot, claim) = (active.slot, active.claim(id));
        self.effects.push(Effect::Steer { slot, claim, steer });
    }

    pub(in crate::core) fn on_attempt_deadline(&mut self, id: JobId) {
        match self.active.get(&id).map(|active| active.phase) {
            Some(Phase::Running { .. }) => self.stop(id, StopReason::TimedOut),
            Some(Phase::Stopping { .. }) => self.kill(id),
            Some(Phase::Killing { .. }) => self.kill_worker(id),
            None => {}
        }
    }

    /// An attempt has done nothing for as long as its idle timeout. One that is being ended is past that.
    pub(in crate::core) fn on_idle(&mut self, slot: SlotId, claim: Claim) {
        let Unit::Job(id) = claim.unit else { return };
        let is_meant = |active: &Active| active.is(slot, claim) && active.stop_reason().is_none();
        if self.active.get(&id).is_some_and(is_meant) {
            self.stop(id, StopReason::Idle);
        }
    }

    /// Begins to end an attempt: SIGTERM now, SIGKILL when its time is up. A client's wish outranks the
    /// daemon's.
    pub(in crate::core) fn stop(&mut self, id: JobId, reason: StopReason) {
        let (now, stop_grace) = (self.now, self.settings.stop_grace);
        let Some(active) = self.active.get_mut(&id) else { return };
        let (slot, claim, old_phase) = (active.slot, active.claim(id), active.phase);
        if !active.handed {
            return self.withdraw(id, reason);
        }

        let is_last = !active.work.retries.follow(active.tries.retried, TIMED_OUT);
        match old_phase {
            Phase::Running { deadline } => {
                let grace = match reason {
                    StopReason::Shutdown => active.work.kill_after.min(stop_grace),
                    StopReason::Canceled
                    | StopReason::TimedOut
                    | StopReason::Idle
                    | StopReason::Deadline
                    | StopReason::Late
                    | StopReason::Untied(_)
                    | StopReason::Replaced(_)
                    | StopReason::Dependency(_) => active.work.kill_after,
                };
                let kill_at = now.monotonic + grace;
                active.phase = Phase::Stopping { reason, kill_at };
                active.stopped_at = Some(now.monotonic);
                // Its worker lets it go, so that it can make something of SIGTERM.
                active.frozen = None;
                let started = active.started;

                self.timers.clear(deadline, Timer::Attempt(Unit::Job(id)));
                self.timers.set(kill_at, Timer::Attempt(Unit::Job(id)));
                self.effects.push(Effect::Terminate { slot, claim });
                if started {
                    self.note_stopping(id, reason);
                }
            }
            Phase::Stopping { reason: earlier, kill_at } if reason.outranks(earlier, is_last) => {
                active.phase = Phase::Stopping { reason, kill_at };
                if active.started {
                    self.note_stopping(id, reason);
                }
            }
            Phase::Killing { reason: earlier, kill_worker_at } if reason.outranks(earlier, is_last) => {
                active.phase = Phase::Killing { reason, kill_worker_at };
                if active.started {
                    self.note_stopping(id, reason);
                }
            }
            Phase::Stopping { .. } | Phase::Killing { .. } => {}
        }
    }

    /// Its worker has not been given the attempt, and does not get it.
    fn withdraw(&mut self, id: JobId, reason: StopReason) {
        let Some(active) = self.remove_active(id) else { return };
        self.end_unstarted(id, &active, reason);
        self.vacate(active.slot);
    }

    /// The grace is over.
    pub(in crate::core) fn kill(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Phase::Stopping { reason, kill_at } = active.phase else { return };
        let (slot, claim) = (active.slot, active.claim(id));
        let kill_worker_at = self.now.monotonic + WORKER_PATIENCE;
        active.phase = Phase::Killing { reason, kill_worker_at: Some(kill_worker_at) };

        self.timers.clear(Some(kill_at), Timer::Attempt(Unit::Job(id)));
        self.timers.set(kill_worker_at, Timer::Attempt(Unit::Job(id)));
        self.effects.push(Effect::Kill { slot, claim });
    }

    /// The worker has not done as it was told. Its end is reported when nothing is left of it, and of the
    /// attempt.
    fn kill_worker(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Phase::Killing { kill_worker_at, .. } = &mut active.phase else { return };
        *kill_worker_at = None;
        self.effects.push(Effect::KillWorker { slot: active.slot });
    }

    /// Written down, should this daemon not live to see the end. Its own end is no fate of a job.
    pub(in crate::core) fn note_stopping(&mut self, id: JobId, reason: StopReason) {
        if reason == StopReason::Shutdown {
            return;
        }
        if let Some(active) = self.active.get(&id) {
            let stopping: Move = active.move_to(id, Place::Stopping(reason));
            self.change(Change::Move(Box::new(stopping)));
        }
    }
}
