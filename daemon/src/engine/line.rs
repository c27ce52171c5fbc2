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

use super::Credit;
use crate::job::{IdMap, IdSet, JobId, Position, Ready};

/// Jobs held ahead of what is offered. As many as fast clients have in flight, so that theirs are not read
/// back from the backing.
pub const WINDOW: usize = if cfg!(test) { 256 } else { 2048 };

/// Bytes of the jobs held ahead, the first one's apart.
const WINDOW_BYTES: usize = 32 << 20;

/// Below so many the window is filled again, by so many at a time, lest others wait long for the backing.
const REFILL: usize = 128;
const FETCH: usize = 256;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Line {
    /// Of the durable jobs, the next ones.
    window: BTreeMap<Position, Held>,
    /// What those take.
    bytes: usize,
    volatile: BTreeMap<Position, Held>,
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
    /// What may be offered.
    credit: Credit,
    /// Besides, what goes before this one.
    ahead_of: Option<Position>,
}

/// A job that is here, and what it takes in memory.
#[derive(Debug)]
struct Held {
    ready: Ready,
    bytes: usize,
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

    /// A job is in the backing's line again, in its old place: it is read with those around it.
    pub fn released(&mut self, position: Position) {
        let before = Position { id: JobId(position.id.0.saturating_sub(1)), ..position };
        self.cursor = self.cursor.min(Some(before));
        (self.behind, self.is_stale) = (true, self.fetching);
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
            let bytes = ready.work.own_bytes();
            self.volatile.insert(position, Held { ready, bytes });
            return;
        }
        self.hold(position, ready);
        if !self.behind {
            self.cursor = self.cursor.max(Some(position));
        }
        self.push_out();
    }

    fn hold(&mut self, position: Position, ready: Ready) {
        let bytes = ready.work.own_bytes();
        self.bytes += bytes;
        if let Some(earlier) = self.window.insert(position, Held { ready, bytes }) {
            self.bytes -= earlier.bytes;
        }
    }

    fn let_go(&mut self, position: Position) -> Option<Held> {
        let held = self.window.remove(&position)?;
        self.bytes -= held.bytes;
        Some(held)
    }

    /// What is too much for the window goes, from its end.
    fn push_out(&mut self) {
        while (self.window.len() > WINDOW || self.bytes > WINDOW_BYTES && self.window.len() > 1)
            && let Some((_, Held { ready, bytes })) = self.window.pop_last()
        {
            self.bytes -= bytes;
            self.positions.remove(&ready.id);
            self.cursor = self.cursor.min(self.window.last_key_value().map(|(&position, _)| position));
            (self.behind, self.is_stale) = (true, self.fetching);
        }
    }

    // ---- jobs are read ----

    /// What to ask the backing for, if anything: jobs after this place, at most so many.
    pub fn fetch(&mut self) -> Option<(Option<Position>, u32)> {
        // A quarter is less than what is left where a job was pushed out for its size.
        let has_enough = self.window.len() >= REFILL || self.bytes > WINDOW_BYTES / 4;
        let is_filled =
            has_enough && self.window.first_key_value().is_some_and(|(&position, _)| self.is_known(position));
        if !self.is_wanted || !self.behind || self.fetching || is_filled {
            return None;
        }
        self.fetching = true;
        let room = WINDOW.saturating_sub(self.window.len());
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
                self.hold(ready.position(), ready);
            }
        }
        self.push_out();
    }

    // ---- jobs go ----

    /// So much more may be offered, and beyond that whatever goes before this position.
    pub fn want(&mut self, credit: Credit, ahead_of: Option<Position>) {
        self.is_wanted = true;
        self.credit.add(credit);
        self.ahead_of = ahead_of;
    }

    /// The next job that may be offered now, and its bytes.
    pub fn offer(&mut self) -> Option<(Ready, usize)> {
        let firsts = [self.window.keys().next(), self.volatile.keys().next()];
        let first = firsts.into_iter().flatten().copied().min()?;
        let is_due = self.credit.is_left() || self.ahead_of.is_some_and(|last| first < last);
        if !is_due || !self.is_known(first) {
            return None;
        }
        let Held { ready, bytes } = self.take(first)?;
        self.credit.spend(bytes);
        Some((ready, bytes))
    }

    /// Whether the backing cannot have a job that goes before.
    fn is_known(&self, position: Position) -> bool {
        !self.behind || self.cursor.is_some_and(|cursor| position <= cursor)
    }

    /// Takes a job out, if it is here.
    pub fn remove(&mut self, id: JobId) -> Option<Ready> {
        let position = *self.positions.get(&id)?;
        self.take(position).map(|held| held.ready)
    }

    fn take(&mut self, position: Position) -> Option<Held> {
        let held = self.let_go(position).or_else(|| self.volatile.remove(&position))?;
        self.positions.remove(&held.ready.id);
        Some(held)
    }

    /// Whether that job is here, and its turn does not hang on what is yet to be read.
    #[cfg(test)]
    pub fn has(&self, id: JobId) -> bool {
        self.positions.get(&id).is_some_and(|&position| self.is_known(position))
    }

    /// Whether jobs are on their way from the backing.
    #[cfg(test)]
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// Whether no job is here.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.window.is_empty() && self.volatile.is_empty() && self.positions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::orders::work;
    use crate::job::Tries;

    fn huge(id: u64) -> Ready {
        let work = work(&[&"x".repeat(10 << 20)], &[]);
        Ready { id: JobId(id), tries: Tries::default(), work: Arc::clone(&work) }
    }

    #[test]
    fn huge_jobs_wait_in_the_backing_and_each_has_its_turn() {
        const JOBS: u64 = 12;
        let mut line = Line::default();
        for id in 1..=JOBS {
            line.inserted(huge(id));
            assert!(line.bytes <= WINDOW_BYTES + (11 << 20), "{} bytes after job {id}", line.bytes);
        }

        let mut offered = Vec::new();
        let mut fetches = 0;
        while offered.len() < JOBS as usize {
            line.want(Credit { jobs: 1, bytes: 1 }, None);
            while let Some((after, _)) = line.fetch() {
                fetches += 1;
                assert!(fetches < 100, "it is filled without end");
                let next = after.map_or(1, |after| after.id.0 + 1);
                // As much as a backing reads at once: the first job is more than that.
                let jobs = if next <= JOBS { vec![huge(next)] } else { Vec::new() };
                line.fetched(jobs, next >= JOBS, |_| false);
            }
            offered.extend(line.offer().map(|(ready, _)| ready.id.0));
        }
        assert_eq!(offered, (1..=JOBS).collect::<Vec<u64>>());
        assert_eq!((line.bytes, line.is_empty()), (0, true));
    }
}
