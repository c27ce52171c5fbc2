//! Further attempts of jobs that have failed or timed out.

use pool_proto::nouns::{OnCrash, State};

use super::attempt::Active;
use super::outcome;
use crate::core::Core;
use crate::engine::{Change, Fence, Move};
use crate::job::{Holdup, JobId, Outcome, PastAttempt, Place, Retries, Start, StopReason, Tries, Until};

/// A failed attempt that is followed by another.
#[derive(Debug)]
pub struct Failed {
    reason: String,
    due_us: i64,
    attempt: Box<PastAttempt>,
}

impl Core {
    /// An attempt is over, and so is its job, unless it has failed and may be tried again.
    pub(in crate::core) fn conclude(
        &mut self,
        id: JobId,
        active: &Active,
        outcome: Outcome,
        start: Option<Start>,
    ) {
        self.conclude_as(id, active, active.tries, outcome, start);
    }

    /// The same. `tries`: what is kept of how often the job was tried; without this attempt where nothing of
    /// it has run.
    pub(in crate::core) fn conclude_as(
        &mut self,
        id: JobId,
        active: &Active,
        tries: Tries,
        outcome: Outcome,
        start: Option<Start>,
    ) {
        let fence = Fence::Attempt(active.tries.attempts);
        let ends_for_good = match active.stop_reason() {
            Some(StopReason::Shutdown) => active.work.on_crash == OnCrash::Fail,
            Some(StopReason::Deadline) => true,
            _ => false,
        };
        let started_us = start.map(|start| start.started_us).or(active.started_us());
        let failed = self.failed_attempt(id, &outcome, active.tries, active.work.retries, started_us);
        match failed.filter(|_| !ends_for_good) {
            Some(failed) => {
                self.wait_for_retry(id, fence, tries, failed, start);
                self.enqueue(id, &active.work.pool, Holdup::Time);
            }
            None => self.finish_as(id, fence, tries, outcome, start),
        }
    }

    /// What that outcome of an attempt is to a job that was tried so often, where another attempt follows.
    pub(in crate::core) fn failed_attempt(
        &self,
        id: JobId,
        outcome: &Outcome,
        tries: Tries,
        retries: Retries,
        started_us: Option<i64>,
    ) -> Option<Failed> {
        let has_failed = match outcome.state {
            State::Failed | State::TimedOut => true,
            State::Succeeded | State::Canceled | State::Lost => false,
            State::Held
            | State::Scheduled
            | State::Blocked
            | State::Queued
            | State::Running
            | State::Stopping
            | State::Retrying => false,
        };
        if !has_failed || !retries.follow(tries.retried, outcome.code()) {
            return None;
        }
        let backoff = retries.wait(tries.retried, chance(id, tries.attempts));

        let left = retries.allowed - tries.retried;
        let left = if left == 1 {
            "at most 1 more follows".to_owned()
        } else {
            format!("at most {left} more follow")
        };
        let reason = format!("attempt {} failed ({}); {left}", tries.attempts, outcome::in_words(outcome));
        let attempt = Box::new(outcome.as_past(tries.attempts, started_us));
        Some(Failed { reason, due_us: self.due.after(self.now, backoff), attempt })
    }

    /// Until the next attempt is due the job is the engine's alone: a million failed jobs cost no memory and
    /// one timer.
    pub(in crate::core) fn wait_for_retry(
        &mut self,
        id: JobId,
        fence: Fence,
        tries: Tries,
        failed: Failed,
        start: Option<Start>,
    ) {
        let Failed { reason, due_us, attempt } = failed;
        // One of which nothing has run does not count.
        let past = (attempt.attempt == tries.attempts).then_some(attempt);
        let tries = Tries { retried: tries.retried + 1, ..tries };
        let waiting = Move::new(id, fence, Place::Waiting(Until::Time { due_us }), tries);
        self.change(Change::Move(Box::new(Move { reason: Some(reason), start, past, ..waiting })));
        self.wake_for(due_us);
    }
}

/// A number of this attempt's own, as if by chance: the same after a restart. It is SplitMix64 (Steele, Lea,
/// Flood: Fast splittable pseudorandom number generators), whose output passes for random.
fn chance(id: JobId, attempt: u32) -> u64 {
    let seed = id.0.wrapping_mul(0x1_0000_0001).wrapping_add(u64::from(attempt));
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
