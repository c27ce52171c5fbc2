//! One pool's look-ahead into its queue. The queue itself is the store's: held here are only the next few jobs, so that memory and
//! start-up do not grow with it. A job that belongs before them pushes the last one out, back into the store.
//!
//! Jobs that are kept in memory alone are all here.
//!
//! Invariant: every queued job of the store's up to `cursor` is in the window, and `behind` is set if there may be others. The store answers in
//! order, so an insertion that is told while a fetch is under way is either part of what the fetch brings or comes after `cursor`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{IdMap, IdSet, JobId, Position, Ready};

/// Jobs held ahead of the slots. As many as fast clients have in flight, so that theirs are not read back from the store.
pub const WINDOW: usize = if cfg!(test) { 256 } else { 2048 };

/// Below so many the window is filled again, by so many at a time, lest others wait long for the store.
const REFILL: usize = 128;
const FETCH: usize = 256;

const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A pool's queue as the scheduler sees it.
#[derive(Debug, Default)]
pub struct Queue {
    /// Of the store's jobs, the next ones.
    window: BTreeMap<Position, Ready>,
    /// Those that the store does not have.
    volatile: BTreeMap<Position, Ready>,
    /// Where those in either are.
    positions: IdMap<JobId, Position>,
    /// Queued in all, here and in the store; those that wait for their next attempt's time are among them.
    total: u64,
    cursor: Option<Position>,
    behind: bool,
    fetching: bool,
    /// What is being fetched no longer begins where the window ends.
    is_stale: bool,
    /// Jobs that have been set aside since the fetch under way was asked for.
    moved: IdSet<JobId>,
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
        let is_beyond = self.behind && self.cursor.is_none_or(|cursor| ready.position() > cursor);
        if ready.work.volatile || !is_beyond {
            self.keep(ready);
        }
    }

    /// A job that had left the queue is back, in its old place.
    pub fn requeued(&mut self, ready: Ready) {
        self.total += 1;
        self.keep(ready);
    }

    /// A job that had left the queue waits for its time, in the store.
    pub fn set_aside(&mut self, id: JobId) {
        self.total += 1;
        if self.fetching {
            self.moved.insert(id);
        }
    }

    /// Its time has come.
    pub fn due(&mut self, ready: Ready) {
        self.keep(ready);
    }

    fn keep(&mut self, ready: Ready) {
        let position = ready.position();
        self.positions.insert(ready.id, position);
        if ready.work.volatile {
            self.volatile.insert(position, ready);
            return;
        }
        self.window.insert(position, ready);
        if !self.behind {
            self.cursor = self.cursor.max(Some(position));
        }
        self.push_out();
    }

    /// What is too much for the window goes, from its end.
    fn push_out(&mut self) {
        while self.window.len() > WINDOW
            && let Some((_, ready)) = self.window.pop_last()
        {
            self.positions.remove(&ready.id);
            self.cursor = self.cursor.min(self.window.last_key_value().map(|(&position, _)| position));
            (self.behind, self.is_stale) = (true, self.fetching);
        }
    }

    /// How many of the next jobs fit.
    pub fn count_in_window(&self, fits: impl Fn(&JobId) -> bool) -> u64 {
        self.positions.keys().filter(|id| fits(id)).count() as u64
    }

    /// What to ask the store for, if anything: jobs after this place, at most so many.
    pub fn fetch(&mut self) -> Option<(Option<Position>, u32)> {
        let is_filled = self.window.len() >= REFILL
            && self.window.first_key_value().is_some_and(|(&position, _)| self.is_known(position));
        if !self.behind || self.fetching || is_filled {
            return None;
        }
        self.fetching = true;
        let room = WINDOW - self.window.len();
        Some((self.cursor, room.clamp(REFILL, FETCH) as u32))
    }

    /// The store's answer to [`fetch`](Self::fetch). Jobs in `skip` are in nobody's queue, or on their way out of it.
    pub fn fetched(&mut self, jobs: Vec<Ready>, complete: bool, skip: impl Fn(JobId) -> bool) {
        self.fetching = false;
        let moved = std::mem::take(&mut self.moved);
        if std::mem::take(&mut self.is_stale) {
            return;
        }
        self.behind = !complete;
        self.cursor = jobs.last().map(Ready::position).or(self.cursor);
        for ready in jobs {
            if !skip(ready.id) && !moved.contains(&ready.id) && !self.positions.contains_key(&ready.id) {
                self.positions.insert(ready.id, ready.position());
                self.window.insert(ready.position(), ready);
            }
        }
        self.push_out();
    }

    /// The next job, unless the pool is paused.
    pub fn pop(&mut self, now: Duration) -> Option<Ready> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        let firsts = [self.window.first_key_value(), self.volatile.first_key_value()];
        let first = firsts.into_iter().flatten().map(|(&position, _)| position).min()?;
        if self.is_known(first) { self.take(first) } else { None }
    }

    /// Whether the store cannot have a job that comes before.
    fn is_known(&self, position: Position) -> bool {
        !self.behind || self.cursor.is_some_and(|cursor| position <= cursor)
    }

    /// Takes a job out, if it is here.
    pub fn remove(&mut self, id: JobId) -> Option<Ready> {
        let position = *self.positions.get(&id)?;
        self.take(position)
    }

    fn take(&mut self, position: Position) -> Option<Ready> {
        let ready = self.window.remove(&position).or_else(|| self.volatile.remove(&position))?;
        self.positions.remove(&ready.id);
        self.total -= 1;
        Some(ready)
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
