//! One pool's look-ahead into its queue. The queue itself is the store's: held here are only the next few jobs, so that memory and
//! start-up do not grow with it.
//!
//! Jobs that are kept in memory alone are all in the window.
//!
//! Invariant: every queued job is either in the window, or its id is greater than `cursor` and `behind` is set. The store answers in
//! order, so an insertion that is told while a fetch is under way is either part of what the fetch brings or comes after `cursor`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{JobId, Ready};

/// Jobs held ahead of the slots.
pub const WINDOW: usize = 256;

/// Below so many the window is filled again.
const REFILL: usize = 64;

const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A pool's queue as the scheduler sees it.
#[derive(Debug, Default)]
pub struct Queue {
    window: BTreeMap<JobId, Ready>,
    /// Of those in the window, the ones that the store does not have.
    volatile: usize,
    /// Queued in all, in the window and in the store.
    total: u64,
    /// The greatest id that the window has ever taken in from the back.
    cursor: Option<JobId>,
    /// The store has jobs beyond `cursor`.
    behind: bool,
    fetching: bool,
    /// After an attempt that the machine had no room for.
    paused_until: Option<Duration>,
    pauses: u32,
}

impl Queue {
    /// The queue that a start finds.
    pub fn restored(total: u64) -> Self {
        Self { total, behind: total > 0, ..Self::default() }
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// A job has been stored.
    pub fn inserted(&mut self, ready: Ready) {
        self.total += 1;
        if ready.work.volatile {
            return self.keep(ready);
        }
        if self.behind || self.stored() >= WINDOW {
            self.behind = true;
        } else {
            self.cursor = Some(ready.id);
            self.window.insert(ready.id, ready);
        }
    }

    /// A job that had left the queue is back, under its old id and so before all that came later.
    pub fn requeued(&mut self, ready: Ready) {
        self.total += 1;
        self.keep(ready);
    }

    fn keep(&mut self, ready: Ready) {
        self.volatile += usize::from(ready.work.volatile);
        self.window.insert(ready.id, ready);
    }

    /// How many of the store's jobs are in the window.
    fn stored(&self) -> usize {
        self.window.len() - self.volatile
    }

    /// How many of the next jobs fit.
    pub fn count_in_window(&self, fits: impl Fn(&JobId) -> bool) -> u64 {
        self.window.keys().filter(|id| fits(id)).count() as u64
    }

    /// What to ask the store for, if anything: jobs after this id, at most so many.
    pub fn fetch(&mut self) -> Option<(Option<JobId>, u32)> {
        if !self.behind || self.fetching || self.stored() >= REFILL {
            return None;
        }
        self.fetching = true;
        Some((self.cursor, (WINDOW - self.stored()) as u32))
    }

    /// The store's answer to [`fetch`](Self::fetch). Jobs in `skip` are on their way out of the queue.
    pub fn fetched(&mut self, jobs: Vec<Ready>, complete: bool, skip: impl Fn(JobId) -> bool) {
        self.fetching = false;
        self.behind = !complete;
        if let Some(last) = jobs.last() {
            self.cursor = Some(last.id);
        }
        self.window.extend(jobs.into_iter().filter(|job| !skip(job.id)).map(|job| (job.id, job)));
    }

    /// The next job, unless the pool is paused.
    pub fn pop(&mut self, now: Duration) -> Option<Ready> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        // Beyond the cursor the store may have jobs that came before.
        let is_known = |id: &JobId| !self.behind || self.cursor.is_some_and(|cursor| *id <= cursor);
        self.window.first_key_value().filter(|(id, _)| is_known(id))?;
        let (_, ready) = self.window.pop_first()?;
        self.left(&ready);
        Some(ready)
    }

    /// Takes a job out of the window, if it is there.
    pub fn remove(&mut self, id: JobId) -> Option<Ready> {
        let ready = self.window.remove(&id)?;
        self.left(&ready);
        Some(ready)
    }

    fn left(&mut self, ready: &Ready) {
        self.total -= 1;
        self.volatile -= usize::from(ready.work.volatile);
    }

    /// A job that was not in the window has left the queue in the store.
    pub fn removed_from_store(&mut self) {
        self.total -= 1;
    }

    /// The machine has no room for a process: starts nothing until the time returned.
    pub fn pause(&mut self, now: Duration) -> Duration {
        let until = now + BACKOFF.saturating_mul(1 << self.pauses.min(10)).min(BACKOFF_MAX);
        self.pauses += 1;
        self.paused_until = Some(until);
        until
    }

    /// An attempt has started: there is room again.
    pub fn has_room(&mut self) {
        self.pauses = 0;
    }
}
