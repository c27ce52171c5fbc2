//! The life of an attempt: started, ended, failed to start, died with its worker or daemon, and ended from outside.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::interface::{CallProgress, OnCrash};

use super::event::{Effect, LaneId, Reply, SlotId};
use super::slots::Slot;
use super::store_op::{Interrupted, LastEnd, StoreOp};
use super::waiters::Watch;
use super::{Scheduler, Timer, outcome};
use crate::job::{Claim, Ended, JobId, Process, Ready, SpawnFailure, Stage, StopReason, Unit, Work};

/// A job's attempt that a worker has.
#[derive(Debug)]
pub struct Active {
    pub slot: SlotId,
    pub worker_pid: i32,
    pub attempt: u32,
    pub crashes: u32,
    pub retried: u32,
    pub start_deaths: u32,
    pub work: Arc<Work>,
    /// Its worker has been given it.
    pub handed: bool,
    /// The attempt's command has been executed.
    pub started: bool,
    /// A call's start is told by itself at that time, unless it has ended before.
    pub tell_start_at: Option<Duration>,
    /// When a call was handed over, in microseconds since 1970.
    pub started_us: i64,
    /// What a call has told last.
    pub progress: Option<CallProgress>,
    pub phase: Phase,
}

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

/// A worker that has been told to kill its attempt takes this long at most; one that was stopped would take for ever.
pub const WORKER_PATIENCE: Duration = Duration::from_secs(5);

/// From handing out an attempt with a timeout to its start, at most, on top of that timeout. Only a worker that hangs needs so long.
pub const START_PATIENCE: Duration = Duration::from_secs(10);

impl Scheduler {
    /// The start of an attempt that must not run twice is on disk.
    pub(super) fn on_claimed(&mut self, id: JobId, attempt: u32, worker_pid: i32) {
        let is_meant =
            |active: &Active| !active.handed && active.attempt == attempt && active.worker_pid == worker_pid;
        if self.active.get(&id).is_some_and(is_meant) {
            self.hand_over(id);
        }
    }

    pub(super) fn on_started(&mut self, slot: SlotId, claim: Claim, process: Process, started_us: i64) {
        let Unit::Job(id) = claim.unit else { return };
        let now = self.now.monotonic;
        let Some(active) = self.active.get_mut(&id).filter(|active| active.is(slot, claim)) else { return };
        active.started = true;
        let (attempt, worker_pid) = (active.attempt, active.worker_pid);
        let (stopping, old_phase) = (active.stop_reason(), active.phase);
        if stopping.is_none() {
            let deadline = active.work.timeout.map(|timeout| now + timeout);
            active.phase = Phase::Running { deadline };
            self.forget_deadline(claim.unit, old_phase);
            self.timers.extend(deadline.map(|at| (at, Timer::Attempt(claim.unit))));
        }
        let LaneId::Pool(pool) = slot.lane else { return };
        self.pools[pool].queue.has_room();
        self.store(StoreOp::Start {
            id,
            attempt,
            slot: slot.index,
            worker_pid,
            process: Some(process),
            started_us,
        });
        if let Some(reason) = stopping {
            self.store_stopping(id, reason);
        }
        for call in self.waiters.watchers(id, Watch::Output) {
            self.reply(call, Reply::Started { id, attempt }, false);
        }
    }

    pub(super) fn on_ended(&mut self, slot: SlotId, claim: Claim, ended: &Ended) {
        let id = match claim.unit {
            Unit::Job(id) => id,
            Unit::Callback(id) => return self.on_callback_ended(id, slot, claim, Some(ended.exit)),
        };
        let Some(active) = self.take_active(id, slot, claim) else { return };
        match outcome::of_end(ended, active.stop_reason(), active.work.on_crash) {
            Some(outcome) => self.conclude(id, &active, outcome, None),
            None if active.work.on_crash == OnCrash::Hold => {
                self.hold(id, active.crashes, "poold was told to end while it ran")
            }
            None => self.requeue(id, active, None),
        }
        self.vacate(slot);
    }

    pub(super) fn on_spawn_failed(&mut self, slot: SlotId, claim: Claim, failure: SpawnFailure) {
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
            Some(reason) => self.end_unstarted(id, active, reason),
            None if outcome::is_shortage(failure) => {
                let reason = outcome::explain(failure, &active.work);
                self.pause(self.pool_of(&active.work));
                self.requeue_untried(id, active, Some(reason));
            }
            None => {
                let outcome = outcome::of_failure(failure, &active.work, self.now.wall_us);
                // A command that cannot be executed has been tried: the attempt counts, and its empty output is there to be read.
                if failure.stage == Stage::Exec {
                    self.store_tried(id, &active);
                }
                self.conclude(id, &active, outcome, None);
            }
        }
    }

    pub(super) fn on_worker_lost(&mut self, slot: SlotId, pid: i32, how: &str, unsent: bool) {
        let how = &self.program_lost(slot, pid, how);
        let slots = self.slots(slot.lane);
        if slots.is_successor(slot.index, pid) {
            return self.on_successor_lost(slot, how.to_owned());
        }
        let unit = match slots.get(slot.index) {
            // It has been replaced, or was the successor of one that has gone.
            other if other.pid() != Some(pid) => return,
            Slot::Busy { unit, .. } => Some(unit),
            Slot::Down { .. }
            | Slot::Starting { .. }
            | Slot::Idle { .. }
            | Slot::Spoilt { .. }
            | Slot::Retired { .. } => None,
        };
        let never_answered = slots.is_warm() && slots.resident(slot.index).calls == 0;
        let is_ended = |active: &Active| active.work.call().is_some() && active.stop_reason().is_some();
        if let Some(Unit::Job(id)) = unit
            && self.active.get(&id).is_some_and(is_ended)
        {
            self.slots_mut(slot.lane).forgive(slot.index);
        }
        self.respawn_later(slot, how.to_owned());
        match unit {
            Some(Unit::Job(id)) => {
                let Some(active) = self.active.remove(&id) else { return };
                self.forget_timers(id, &active);
                match active.stop_reason() {
                    _ if !active.handed => self.requeue_untried(id, active, None),
                    None | Some(StopReason::Shutdown) if unsent => self.requeue_untried(id, active, None),
                    None if never_answered && active.is_put_down_to_the_program() => {
                        self.requeue_after_start_death(id, active, how)
                    }
                    _ => self.job_crashed(id, active, how),
                }
            }
            Some(Unit::Callback(id)) => self.callback_over(id, None),
            None => {}
        }
    }

    fn job_crashed(&mut self, id: JobId, mut active: Active, how: &str) {
        active.crashes += 1;
        let ended_us = self.now.wall_us;
        if !active.started {
            // It may have been executed, and its worker killed before it could say so.
            self.store_tried(id, &active);
        }
        let stopping = active.stop_reason();
        if let Some(outcome) = stopping.and_then(|reason| outcome::of_stop(reason, ended_us)) {
            return self.conclude(id, &active, outcome, None);
        }
        match active.work.on_crash {
            OnCrash::Fail => self.finish(id, outcome::crashed(how, ended_us), None),
            OnCrash::Hold => self.hold(id, active.crashes, how),
            // It was on its way back into the queue.
            OnCrash::Requeue if stopping == Some(StopReason::Shutdown) => {
                active.crashes -= 1;
                self.requeue(id, active, None);
            }
            OnCrash::Requeue if active.crashes >= self.settings.crash_limit => {
                self.finish(id, outcome::lost(active.crashes, how, ended_us), None);
            }
            OnCrash::Requeue => self.requeue(id, active, Some(how.to_owned())),
        }
    }

    /// Decides on an attempt that ended with the last daemon; true when its job is queued again.
    pub(super) fn recover(&mut self, job: &Interrupted, last_end: LastEnd) -> bool {
        let crashes = job.crashes + 1;
        let how = match last_end {
            LastEnd::Unknown => "poold or the machine died",
            LastEnd::Died => "poold died",
            LastEnd::Rebooted => "the machine was restarted or lost power",
        };
        let ended_us = self.now.wall_us;
        if let Some(outcome) = job.stopping.and_then(|reason| outcome::of_stop(reason, ended_us)) {
            if let Some(failed) = self.failed_attempt(&outcome, job.attempt, job.retried, job.retries) {
                self.store_failed(job.id, failed, None);
                return true;
            }
            self.finish(job.id, outcome, None);
            return false;
        }
        match job.on_crash {
            OnCrash::Fail => self.finish(job.id, outcome::crashed(how, ended_us), None),
            OnCrash::Hold => self.hold(job.id, crashes, how),
            OnCrash::Requeue if crashes >= self.settings.crash_limit => {
                self.finish(job.id, outcome::lost(crashes, how, ended_us), None);
            }
            OnCrash::Requeue => {
                self.store(StoreOp::Requeue { id: job.id, crashes, reason: Some(how.to_owned()) });
                return true;
            }
        }
        false
    }

    /// The job waits for somebody to decide.
    fn hold(&mut self, id: JobId, crashes: u32, how: &str) {
        let reason = format!(
            "{how}; `poolctl release {id}` runs it again, `poolctl cancel {id}` does not (on crash: hold)"
        );
        self.store(StoreOp::Hold { id, crashes, reason });
        self.held.insert(id);
    }

    pub(super) fn on_attempt_deadline(&mut self, id: JobId) {
        match self.active.get(&id).map(|active| active.phase) {
            Some(Phase::Running { .. }) => self.stop(id, StopReason::TimedOut),
            Some(Phase::Stopping { .. }) => self.kill(id),
            Some(Phase::Killing { .. }) => self.kill_worker(id),
            None => {}
        }
    }

    /// Begins to end an attempt: SIGTERM now, SIGKILL when its time is up. A client's wish outranks the daemon's.
    pub(super) fn stop(&mut self, id: JobId, reason: StopReason) {
        let (now, stop_grace) = (self.now.monotonic, self.settings.stop_grace);
        let Some(active) = self.active.get_mut(&id) else { return };
        let (slot, claim, old_phase) = (active.slot, active.claim(id), active.phase);
        if !active.handed {
            return self.withdraw(id, reason);
        }
        match old_phase {
            Phase::Running { .. } => {
                let grace = match reason {
                    StopReason::Shutdown => active.work.kill_after.min(stop_grace),
                    StopReason::Canceled | StopReason::TimedOut | StopReason::Untied(_) => {
                        active.work.kill_after
                    }
                };
                let kill_at = now + grace;
                active.phase = Phase::Stopping { reason, kill_at };
                let started = active.started;
                self.forget_deadline(Unit::Job(id), old_phase);
                self.timers.insert((kill_at, Timer::Attempt(Unit::Job(id))));
                self.effects.push(Effect::Terminate { slot, claim });
                if started {
                    self.store_stopping(id, reason);
                }
            }
            Phase::Stopping { reason: StopReason::Shutdown, kill_at } if reason != StopReason::Shutdown => {
                active.phase = Phase::Stopping { reason, kill_at };
                if active.started {
                    self.store_stopping(id, reason);
                }
            }
            Phase::Stopping { .. } | Phase::Killing { .. } => {}
        }
    }

    /// Its worker has not been given the attempt, and does not get it.
    fn withdraw(&mut self, id: JobId, reason: StopReason) {
        let Some(active) = self.active.remove(&id) else { return };
        let slot = active.slot;
        self.end_unstarted(id, active, reason);
        self.vacate(slot);
    }

    /// Nothing of the attempt has run.
    fn end_unstarted(&mut self, id: JobId, active: Active, reason: StopReason) {
        match outcome::of_stop(reason, self.now.wall_us) {
            Some(outcome) => self.conclude(id, &active, outcome, None),
            None => self.requeue_untried(id, active, None),
        }
    }

    /// The grace is over.
    pub(super) fn kill(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Phase::Stopping { reason, .. } = active.phase else { return };
        let (slot, claim, old_phase) = (active.slot, active.claim(id), active.phase);
        let kill_worker_at = self.now.monotonic + WORKER_PATIENCE;
        active.phase = Phase::Killing { reason, kill_worker_at: Some(kill_worker_at) };
        self.forget_deadline(Unit::Job(id), old_phase);
        self.timers.insert((kill_worker_at, Timer::Attempt(Unit::Job(id))));
        self.effects.push(Effect::Kill { slot, claim });
    }

    /// The worker has not done as it was told. Its end is reported when nothing is left of it, and of the attempt.
    fn kill_worker(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Phase::Killing { kill_worker_at, .. } = &mut active.phase else { return };
        *kill_worker_at = None;
        self.effects.push(Effect::KillWorker { slot: active.slot });
    }

    /// The attempt counts though nobody has told of its start.
    pub(super) fn store_tried(&mut self, id: JobId, active: &Active) {
        let &Active { slot, worker_pid, attempt, .. } = active;
        self.store(StoreOp::Start {
            id,
            attempt,
            slot: slot.index,
            worker_pid,
            process: None,
            started_us: self.now.wall_us,
        });
    }

    pub(super) fn store_stopping(&mut self, id: JobId, reason: StopReason) {
        if reason != StopReason::Shutdown {
            self.store(StoreOp::Stopping { id, reason });
        }
    }

    pub(super) fn take_active(&mut self, id: JobId, slot: SlotId, claim: Claim) -> Option<Active> {
        self.active.get(&id).filter(|active| active.is(slot, claim))?;
        let active = self.active.remove(&id)?;
        self.forget_timers(id, &active);
        Some(active)
    }

    fn forget_timers(&mut self, id: JobId, active: &Active) {
        self.forget_deadline(Unit::Job(id), active.phase);
        if let Some(at) = active.tell_start_at {
            self.timers.remove(&(at, Timer::Start(id)));
        }
    }

    fn forget_deadline(&mut self, unit: Unit, phase: Phase) {
        let at = match phase {
            Phase::Running { deadline: at } | Phase::Killing { kill_worker_at: at, .. } => at,
            Phase::Stopping { kill_at, .. } => Some(kill_at),
        };
        if let Some(at) = at {
            self.timers.remove(&(at, Timer::Attempt(unit)));
        }
    }

    /// The attempt counts, the job is queued again.
    pub(super) fn requeue(&mut self, id: JobId, active: Active, reason: Option<String>) {
        self.store(StoreOp::Requeue { id, crashes: active.crashes, reason });
        let pool = self.pool_of(&active.work);
        let Active { attempt, crashes, retried, start_deaths, work, .. } = active;
        self.pools[pool].queue.requeued(Ready {
            id,
            attempts: attempt,
            crashes,
            retried,
            start_deaths,
            work,
        });
    }

    /// The attempt was not started and does not count.
    pub(super) fn requeue_untried(&mut self, id: JobId, active: Active, reason: Option<String>) {
        match reason {
            Some(reason) => self.store(StoreOp::Retrying { id, reason }),
            // The store takes it for running.
            None if active.work.on_crash != OnCrash::Requeue => {
                self.store(StoreOp::Requeue { id, crashes: active.crashes, reason: None });
            }
            None => {}
        }
        let pool = self.pool_of(&active.work);
        let Active { attempt, crashes, retried, start_deaths, work, .. } = active;
        self.pools[pool].queue.requeued(Ready {
            id,
            attempts: attempt - 1,
            crashes,
            retried,
            start_deaths,
            work,
        });
    }
}

impl Active {
    /// An attempt of that job, for that slot's worker.
    pub fn new(ready: Ready, slot: SlotId, worker_pid: i32) -> Self {
        let Ready { id: _, attempts, crashes, retried, start_deaths, work } = ready;
        Self {
            slot,
            worker_pid,
            attempt: attempts + 1,
            crashes,
            retried,
            start_deaths,
            work,
            handed: false,
            started: false,
            tell_start_at: None,
            started_us: 0,
            progress: None,
            phase: Phase::Running { deadline: None },
        }
    }

    pub fn claim(&self, id: JobId) -> Claim {
        Claim { unit: Unit::Job(id), attempt: self.attempt }
    }

    /// Whether a report speaks of this attempt.
    pub fn is(&self, slot: SlotId, claim: Claim) -> bool {
        self.slot == slot && self.attempt == claim.attempt
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.phase {
            Phase::Running { .. } => None,
            Phase::Stopping { reason, .. } | Phase::Killing { reason, .. } => Some(reason),
        }
    }
}
