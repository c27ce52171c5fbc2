//! The beginning of one line. The line itself is the backing's: held here are only the next few jobs, so that
//! memory and start-up do not grow with it. A job that belongs before them pushes the last one out, back into
//! the backing.
//!
//! Volatile jobs are all here.
//!
//! Invariant: every job of the backing's line up to `cursor` is in the window, has been offered, or is
//! leaving; and `behind` is set if there may be others. The backing answers in order, so an insertion that is
//! told while a fetch is under way is either part of what the fetch brings or comes after `cursor`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::job::{IdMap, IdSet, JobId, Position, Ready};

/// Jobs held ahead of what is offered. As many as fast clients have in flight, so that theirs are not read
/// back from the backing.
pub const WINDOW: usize = if cfg!(test) { 256 } else { 2048 };

/// Bytes of the jobs held ahead, the first one's apart.
const WINDOW_BYTES: usize = 32 << 20;

/// Where the jobs are that are here: in which line of their pool, by its number, and at which position.
pub type Places = IdMap<JobId, (u64, Position)>;

/// Before all positions that jobs have.
const FIRST: Position = Position { priority: Reverse(i32::MAX), id: JobId(0) };

/// How much of a line is held, and how it is read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Jobs in the window, and their bytes, the first one's apart.
    pub jobs: usize,
    pub bytes: usize,
    /// Below so many the window is filled again, by so many at a time, lest others wait long for the backing.
    refill: usize,
    fetch: usize,
}

impl Bounds {
    /// Of the line of the jobs without labels.
    pub const PLAIN: Self = Self { jobs: WINDOW, bytes: WINDOW_BYTES, refill: 128, fetch: 256 };

    /// Of each line of jobs with labels: there may be very many.
    pub const LABELED: Self =
        Self { jobs: WINDOW / 8, bytes: WINDOW_BYTES / 8, refill: WINDOW / 128, fetch: WINDOW / 32 };
}

/// See the module's description.
#[derive(Debug)]
pub struct Line {
    number: u64,
    bounds: Bounds,
    /// Of the durable jobs, the next ones.
    window: BTreeMap<Position, Held>,
    /// What those take.
    bytes: usize,
    volatile: BTreeMap<Position, Held>,
    cursor: Option<Position>,
    behind: bool,
    fetching: bool,
    /// What is being fetched no longer begins where the window ends.
    is_stale: bool,
    /// Jobs that have been set aside since the fetch under way was asked for.
    moved: IdSet<JobId>,
}

/// A job that is here, and what it takes in memory.
#[derive(Debug)]
struct Held {
    ready: Ready,
    bytes: usize,
}

/// The first job of a line, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// It is here.
    Known(Position),
    /// It is yet to be read, and comes after this position.
    After(Position),
}

impl Head {
    pub fn position(self) -> Position {
        match self {
            Self::Known(position) | Self::After(position) => position,
        }
    }
}

impl Line {
    /// A line in which no job is.
    pub fn new(number: u64, bounds: Bounds) -> Self {
        Self {
            number,
            bounds,
            window: BTreeMap::new(),
            bytes: 0,
            volatile: BTreeMap::new(),
            cursor: None,
            behind: false,
            fetching: false,
            is_stale: false,
            moved: IdSet::default(),
        }
    }

    /// A line that a start finds, with something in it: nothing before that position, where it is known.
    pub fn restored(number: u64, bounds: Bounds, first: Option<Position>) -> Self {
        Self { cursor: first.map(before), behind: true, ..Self::new(number, bounds) }
    }

    // ---- jobs come ----

    /// A job has been inserted.
    pub fn inserted(&mut self, ready: Ready, places: &mut Places) {
        let is_beyond = self.behind && self.cursor.is_none_or(|cursor| ready.position() > cursor);
        if ready.work.volatile || !is_beyond {
            self.keep(ready, places);
        }
    }

    /// A job that had left the line is back, in its old place.
    pub fn back(&mut self, ready: Ready, places: &mut Places) {
        self.keep(ready, places);
    }

    /// A job is in the backing's line again, in its old place: it is read with those around it.
    pub fn released(&mut self, position: Position) {
        self.cursor = self.cursor.min(Some(before(position)));
        (self.behind, self.is_stale) = (true, self.fetching);
    }

    /// A job that had left the line waits, in the backing.
    pub fn set_aside(&mut self, id: JobId) {
        if self.fetching {
            self.moved.insert(id);
        }
    }

    fn keep(&mut self, ready: Ready, places: &mut Places) {
        let position = ready.position();
        places.insert(ready.id, (self.number, position));
        if ready.work.volatile {
            let bytes = ready.work.own_bytes();
            self.volatile.insert(position, Held { ready, bytes });
            return;
        }
        self.hold(position, ready);
        if !self.behind {
            self.cursor = self.cursor.max(Some(position));
        }
        self.push_out(self.bounds.jobs, places);
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
        self.give_back_room();
        Some(held)
    }

    /// A map that has become empty keeps room for eleven jobs, in each of very many lines.
    fn give_back_room(&mut self) {
        if self.window.is_empty() {
            self.window = BTreeMap::new();
        }
    }

    /// What is too much for the window goes, from its end: so many jobs stay at most.
    pub fn push_out(&mut self, jobs: usize, places: &mut Places) {
        while (self.window.len() > jobs || self.bytes > self.bounds.bytes && self.window.len() > 1)
            && let Some((position, Held { ready, bytes })) = self.window.pop_last()
        {
            self.bytes -= bytes;
            places.remove(&ready.id);
            self.cursor = self.cursor.min(Some(before(position)));
            (self.behind, self.is_stale) = (true, self.fetching);
        }
        self.give_back_room();
    }

    // ---- jobs are read ----

    /// What to ask the backing for, if anything: jobs after this place, at most so many.
    pub fn fetch(&mut self) -> Option<(Option<Position>, u32)> {
        // A quarter is less than what is left where a job was pushed out for its size.
        let has_enough = self.window.len() >= self.bounds.refill || self.bytes > self.bounds.bytes / 4;
        let is_filled =
            has_enough && self.window.first_key_value().is_some_and(|(&position, _)| self.is_known(position));
        if !self.behind || self.fetching || is_filled {
            return None;
        }
        self.fetching = true;
        let room = self.bounds.jobs.saturating_sub(self.window.len());
        let most = self.bounds.fetch;
        Some((self.cursor, room.clamp(self.bounds.refill.min(most), most) as u32))
    }

    /// The backing's answer to [`fetch`](Self::fetch). Jobs in `skip` have left the line, or are on their way
    /// out of it.
    pub fn fetched(
        &mut self,
        jobs: Vec<Ready>,
        complete: bool,
        skip: impl Fn(JobId) -> bool,
        places: &mut Places,
    ) {
        self.fetching = false;
        let moved = std::mem::take(&mut self.moved);
        if std::mem::take(&mut self.is_stale) {
            return;
        }
        self.behind = !complete;
        self.cursor = jobs.last().map(Ready::position).or(self.cursor);
        for ready in jobs {
            if !skip(ready.id) && !moved.contains(&ready.id) && !places.contains_key(&ready.id) {
                places.insert(ready.id, (self.number, ready.position()));
                self.hold(ready.position(), ready);
            }
        }
        self.push_out(self.bounds.jobs, places);
    }

    // ---- jobs go ----

    /// The first job; none where no job is in the line.
    pub fn head(&self) -> Option<Head> {
        let firsts = [self.window.keys().next(), self.volatile.keys().next()];
        match firsts.into_iter().flatten().copied().min() {
            Some(first) if self.is_known(first) => Some(Head::Known(first)),
            _ if self.behind => Some(Head::After(self.cursor.unwrap_or(FIRST))),
            _ => None,
        }
    }

    /// Whether the backing cannot have a job that goes before.
    pub fn is_known(&self, position: Position) -> bool {
        !self.behind || self.cursor.is_some_and(|cursor| position <= cursor)
    }

    /// Takes the job at that position out, with what it takes in memory.
    pub fn take(&mut self, position: Position, places: &mut Places) -> Option<(Ready, usize)> {
        let Held { ready, bytes } = self.let_go(position).or_else(|| self.volatile.remove(&position))?;
        places.remove(&ready.id);
        Some((ready, bytes))
    }

    /// How many jobs its window has, and what they take.
    pub fn held(&self) -> (usize, usize) {
        (self.window.len(), self.bytes)
    }

    /// Whether nothing of it is left: no job is in it, and none is on its way.
    pub fn is_over(&self) -> bool {
        self.window.is_empty() && self.volatile.is_empty() && !self.behind && !self.fetching
    }

    /// Whether jobs are on their way from the backing.
    #[cfg(test)]
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }
}

/// The position right before this one.
fn before(position: Position) -> Position {
    Position { id: JobId(position.id.0.saturating_sub(1)), ..position }
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
        let (mut line, mut places) = (Line::new(0, Bounds::PLAIN), Places::default());
        for id in 1..=JOBS {
            line.inserted(huge(id), &mut places);
            assert!(line.bytes <= WINDOW_BYTES + (11 << 20), "{} bytes after job {id}", line.bytes);
        }

        let mut offered = Vec::new();
        let mut fetches = 0;
        while offered.len() < JOBS as usize {
            while let Some((after, _)) = line.fetch() {
                fetches += 1;
                assert!(fetches < 100, "it is filled without end");
                let next = after.map_or(1, |after| after.id.0 + 1);
                // As much as a backing reads at once: the first job is more than that.
                let jobs = if next <= JOBS { vec![huge(next)] } else { Vec::new() };
                line.fetched(jobs, next >= JOBS, |_| false, &mut places);
            }
            let Some(Head::Known(first)) = line.head() else { continue };
            offered.extend(line.take(first, &mut places).map(|(ready, _)| ready.id.0));
        }
        assert_eq!(offered, (1..=JOBS).collect::<Vec<u64>>());
        assert_eq!((line.bytes, line.is_over(), places.len()), (0, true, 0));
    }
}
