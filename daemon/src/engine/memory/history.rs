//! Ended jobs, oldest end first, and how many of them are remembered.
//!
//! A job with callbacks that are not delivered counts, but cannot go yet.

use std::collections::BTreeMap;

use super::Memory;
use crate::engine::Answer;
use crate::job::{CallbackId, JobId};

/// Volatile jobs that have ended and are remembered at most, and for how long, in microseconds.
pub(super) const MAX_ENDED: usize = if cfg!(test) { 1000 } else { 100_000 };
pub(super) const MAX_AGE_US: i64 = 10 * 60 * 1_000_000;

/// What those have returned takes so much at most, in bytes, the last one's apart.
const MAX_BYTES: usize = 64 << 20;

/// Ended jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct EndedJobs {
    /// Whether the oldest ones are forgotten beyond the bounds above.
    is_bounded: bool,
    /// Those that can go, by the times of their ends, and the bytes of parameters and answer that they hold.
    removable: BTreeMap<(i64, JobId), usize>,
    held_bytes: usize,
    /// All of them, and what they have written.
    jobs: u64,
    output_bytes: u64,
}

/// How much of it may stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub max_jobs: u64,
    pub ended_before_us: i64,
    pub max_output_bytes: u64,
}

impl EndedJobs {
    pub fn bounded() -> Self {
        Self { is_bounded: true, ..Self::default() }
    }

    /// Whether the oldest job, which ended then, is too much.
    fn exceeds(&self, limits: Bounds, oldest_us: i64) -> bool {
        self.jobs > limits.max_jobs
            || self.output_bytes > limits.max_output_bytes
            || oldest_us < limits.ended_before_us
    }

    /// Whether the oldest of several jobs, which ended then, is not worth remembering.
    fn overflows(&self, oldest_us: i64, now_us: i64) -> bool {
        self.is_bounded
            && (self.removable.len() > MAX_ENDED
                || self.held_bytes > MAX_BYTES
                || oldest_us < now_us - MAX_AGE_US)
    }
}

impl Memory {
    /// What all ended jobs have written.
    pub fn ended_output_bytes(&self) -> u64 {
        self.history.output_bytes
    }

    pub(super) fn add_to_history(&mut self, id: JobId) {
        self.history.jobs += 1;
        self.history.output_bytes += self.output_bytes(id);
        self.make_removable(id);
    }

    /// If no callback of it is to be delivered.
    pub(super) fn make_removable(&mut self, id: JobId) {
        let Some(ended_us) = self.outcome(id).map(|outcome| outcome.ended_us) else { return };
        if self.jobs.get(&id).is_some_and(|row| row.undelivered > 0) {
            return;
        }
        let bytes = self.held_bytes(id);
        self.history.removable.insert((ended_us, id), bytes);
        self.history.held_bytes += bytes;

        while let Some((&(oldest_us, oldest), _)) = self.history.removable.first_key_value()
            && oldest != id
            && self.history.overflows(oldest_us, ended_us)
        {
            self.remove(oldest_us, oldest);
        }
    }

    pub(super) fn prune(&mut self, limits: Bounds, batch: usize) {
        let (mut jobs, mut callbacks, mut more) = (Vec::new(), Vec::new(), false);
        while let Some((&(oldest_us, oldest), _)) = self.history.removable.first_key_value()
            && self.history.exceeds(limits, oldest_us)
        {
            if jobs.len() == batch {
                more = true;
                break;
            }
            let attempts = self.jobs.get(&oldest).map_or(0, |row| row.tries.attempts);
            jobs.push((oldest, attempts));
            callbacks.extend(self.remove(oldest_us, oldest));
        }
        callbacks.sort_unstable();
        self.answer(Answer::Pruned { jobs, callbacks, more });
    }

    /// Removes a job that can go; its callbacks, and how often they were tried.
    fn remove(&mut self, ended_us: i64, id: JobId) -> Vec<(CallbackId, u32)> {
        let bytes = self.history.removable.remove(&(ended_us, id)).unwrap_or_default();
        self.history.held_bytes -= bytes;
        self.history.jobs -= 1;
        self.history.output_bytes -= self.output_bytes(id);

        let Some(row) = self.jobs.remove(&id) else { return Vec::new() };
        if let Some(key) = row.key {
            self.keys.remove(&key.text);
        }
        let outgoing = row.callbacks.into_iter().map(|callback_id| {
            let attempts = self.callbacks.remove(&callback_id).map_or(0, |callback| callback.attempts);
            (callback_id, attempts)
        });
        outgoing.collect()
    }

    fn output_bytes(&self, id: JobId) -> u64 {
        let outcome = self.outcome(id);
        outcome.map_or(0, |outcome| outcome.stdout_bytes.unwrap_or(0) + outcome.stderr_bytes.unwrap_or(0))
    }

    fn held_bytes(&self, id: JobId) -> usize {
        let answer = self.outcome(id).and_then(|outcome| outcome.answer.as_ref());
        let answer = answer.map(|answer| match answer {
            Ok(value) => value,
            Err(error) => error,
        });
        let params = self.jobs.get(&id).and_then(|row| row.work.call()?.params.as_ref());
        answer.into_iter().chain(params).map(|json| json.get().len()).sum()
    }
}
