//! Further attempts of jobs that have failed or timed out. Until the next one is due the job is the store's alone; held here is when to ask
//! for those that are.

use pool_proto::interface::{OnCrash, State};

use super::attempts::Active;
use super::queue::WINDOW;
use super::store_op::{Start, StoreOp};
use super::{Scheduler, Timer, outcome};
use crate::job::{JobId, Outcome, Ready, Retries, StopReason};

/// A failed attempt that is followed by another.
#[derive(Debug)]
pub struct Failed {
    retried: u32,
    reason: String,
    due_us: i64,
}

impl Scheduler {
    /// An attempt is over, and so is its job, unless it has failed and may be tried again.
    pub(super) fn conclude(&mut self, id: JobId, active: &Active, outcome: Outcome, start: Option<Start>) {
        let ends_for_good =
            active.stop_reason() == Some(StopReason::Shutdown) && active.work.on_crash == OnCrash::Fail;
        let failed = self.failed_attempt(&outcome, active.attempt, active.retried, active.work.retries);
        match failed.filter(|_| !ends_for_good) {
            Some(failed) => {
                self.store_failed(id, failed, start);
                let pool = self.pool_of(&active.work);
                self.pools[pool].queue.set_aside(id);
            }
            None => self.finish(id, outcome, start),
        }
    }

    /// What that outcome of an attempt is to a job that was tried again so often, where another attempt follows.
    pub(super) fn failed_attempt(
        &self,
        outcome: &Outcome,
        attempt: u32,
        retried: u32,
        retries: Retries,
    ) -> Option<Failed> {
        let has_failed = match outcome.state {
            State::Failed | State::TimedOut => true,
            State::Succeeded | State::Canceled | State::Lost => false,
            State::Held | State::Queued | State::Running | State::Stopping | State::Retrying => false,
        };
        let backoff = retries.after(retried).filter(|_| has_failed)?;
        let left = retries.allowed - retried;
        let left = if left == 1 {
            "1 more follows at most".to_owned()
        } else {
            format!("{left} more follow at most")
        };
        let reason = format!("attempt {attempt} has failed ({}); {left}", outcome::in_words(outcome));
        Some(Failed { retried: retried + 1, reason, due_us: self.now.wall_us_after(backoff) })
    }

    pub(super) fn store_failed(&mut self, id: JobId, failed: Failed, start: Option<Start>) {
        let Failed { retried, reason, due_us } = failed;
        self.store(StoreOp::AttemptFailed { id, retried, reason, start, due_us });
        self.wake_for(due_us);
    }

    /// Some job's next attempt is due at that time, in microseconds since 1970.
    pub(super) fn wake_for(&mut self, due_us: i64) {
        let at = self.now.monotonic + self.now.until(due_us);
        if self.next_due.is_some_and(|next| next <= at) {
            return;
        }
        if let Some(later) = self.next_due.replace(at) {
            self.timers.remove(&(later, Timer::Due));
        }
        self.timers.insert((at, Timer::Due));
    }

    pub(super) fn take_due(&mut self) {
        self.next_due = None;
        self.store(StoreOp::TakeDue { until_us: self.now.wall_us, limit: WINDOW as u32 });
    }

    pub(super) fn on_due(&mut self, jobs: Vec<Ready>, next_us: Option<i64>) {
        for ready in jobs {
            // Of a pool that is not configured, it is where the store has put it.
            if !self.ending.contains_key(&ready.id)
                && let Some(pool) = self.pools.iter_mut().find(|pool| pool.name == ready.work.pool)
            {
                pool.queue.due(ready);
            }
        }
        if let Some(due_us) = next_us {
            self.wake_for(due_us);
        }
    }
}
