//! The beginning of one pool's line. The line itself is the backing's: held here are only the next few jobs,
//! so that memory and start-up do not grow with it. A job that belongs before them pushes the last one out,
//! back into the backing.
//!
//! Volatile jobs are all here.
//!
//! Invariant: every job of the backing's line up to `cursor` is in the window, has been offered, or is
//! leaving; and `behind` is set if there may be others. The backing answers in order, so an insertion that is
//! told while a fetch is under way is either part of what the fetch brings or comes after `cursor`.

use std::collections::BTreeMap;

use crate::job::{IdMap, IdSet, JobId, Position, Ready};

/// Jobs held ahead of what is offered. As many as fast clients have in flight, so that theirs are not read
/// back from the backing.
pub const WINDOW: usize = if cfg!(test) { 256 } else { 2048 };

/// Below so many the window is filled again, by so many at a time, lest others wait long for the backing.
const REFILL: usize = 128;
const FETCH: usize = 256;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Line {
    /// Of the durable jobs, the next ones.
    window: BTreeMap<Position, Ready>,
    volatile: BTreeMap<Position, Ready>,
    /// Where those in either are.
    positions: IdMap<JobId, Position>,
    cursor: Option<Position>,
    behind: bool,
    fetching: bool,
    /// What is being fetched no longer begins where the window ends.
    is_stale: bool,
    /// Jobs that have been set aside since the fetch under way was asked for.
    moved: IdSet<JobId>,
    /// Somebody takes jobs from it.
    is_wanted: bool,
    /// So many more may be offered.
    credit: u32,
    /// Besides, what goes before this one.
    ahead_of: Option<Position>,
}

impl Line {
    /// A line that a start finds, with something in it.
    pub fn restored() -> Self {
        Self { behind: true, ..Self::default() }
    }

    // ---- jobs come ----

    /// A job has been inserted.
    pub fn inserted(&mut self, ready: Ready) {
        let is_beyond = self.behind && self.cursor.is_none_or(|cursor| ready.position() > cursor);
        if ready.work.volatile || !is_beyond {
            self.keep(ready);
        }
    }

    /// A job that had left the line is back, in its old place.
    pub fn back(&mut self, ready: Ready) {
        self.keep(ready);
    }

    /// A job that had left the line waits, in the backing.
    pub fn set_aside(&mut self, id: JobId) {
        if self.fetching {
            self.moved.insert(id);
        }
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

    // ---- jobs are read ----

    /// What to ask the backing for, if anything: jobs after this place, at most so many.
    pub fn fetch(&mut self) -> Option<(Option<Position>, u32)> {
        let is_filled = self.window.len() >= REFILL
            && self.window.first_key_value().is_some_and(|(&position, _)| self.is_known(position));
        if !self.is_wanted || !self.behind || self.fetching || is_filled {
            return None;
        }
        self.fetching = true;
        let room = WINDOW - self.window.len();
        Some((self.cursor, room.clamp(REFILL, FETCH) as u32))
    }

    /// The backing's answer to [`fetch`](Self::fetch). Jobs in `skip` have left the line, or are on their way
    /// out of it.
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

    // ---- jobs go ----

    /// So many more may be offered, and beyond that whatever goes before this position.
    pub fn want(&mut self, credit: u32, ahead_of: Option<Position>) {
        self.is_wanted = true;
        self.credit = self.credit.saturating_add(credit);
        self.ahead_of = ahead_of;
    }

    /// The next job that may be offered now.
    pub fn offer(&mut self) -> Option<Ready> {
        let firsts = [self.window.first_key_value(), self.volatile.first_key_value()];
        let first = firsts.into_iter().flatten().map(|(&position, _)| position).min()?;
        let is_due = self.credit > 0 || self.ahead_of.is_some_and(|last| first < last);
        if !is_due || !self.is_known(first) {
            return None;
        }
        self.credit = self.credit.saturating_sub(1);
        self.take(first)
    }

    /// Whether the backing cannot have a job that goes before.
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
        Some(ready)
    }

    /// Whether no job is here.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.window.is_empty() && self.volatile.is_empty() && self.positions.is_empty()
    }
}
