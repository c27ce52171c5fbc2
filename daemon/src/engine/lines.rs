//! The lines of one pool, and which job of all of them is offered next: the first one, by rank and turn,
//! whose labels have room.
//!
//! ```text
//!   lines ── by their heads ──▶ free ────────────────────┐
//!     │                                                  ├── the least ──▶ offered
//!     └── a label of theirs had no room ──▶ parked       ┘
//!                                           while that label has room
//! ```
//!
//! Nobody goes through all lines. A line whose head comes up and has no room is parked with the first label
//! that lacks room; of the lines that are parked with a label the first one comes up again when the label has
//! room. What a line costs while nobody takes from it is a place in one of these sets: it has no window then.
//!
//! Room is counted in jobs for each label, over all pools, and is the core's to give. Here it bounds what a
//! pool is offered since it was given, so that a label with room for one job brings each pool one offer, and
//! another one only where that goes before the first.
//!
//! A line that waits for one of its labels holds up nobody with another one. So that it does not starve, it
//! insists when jobs after its head have passed it often: from then on its other labels are kept free for it.
//!
//! The line of the jobs without labels has a window of its own. Those of the others share one bound, beyond
//! which the line gives way that has been left alone for longest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Credit;
use super::line::{Bounds, Head, Line, Places, WINDOW};
use crate::job::{IdMap, JobId, Labels, Position, Ready};

/// What the windows of all lines with labels hold together, and how many bytes.
const SHARED: usize = WINDOW;
const SHARED_BYTES: usize = 16 << 20;

/// After so many jobs of one of its labels that came after its head, a parked line insists.
const PATIENCE: u32 = if cfg!(test) { 4 } else { 16 };

/// Labels with limits, each with how many more of its jobs may be started.
pub type Rooms = IdMap<Arc<str>, u32>;

/// A line in the order of its head, as far as that is known.
type Turn = (Position, u64);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Lines {
    /// By number.
    lines: BTreeMap<u64, Entry>,
    numbers: IdMap<Labels, u64>,
    next_number: u64,
    /// The jobs that are here.
    places: Places,
    free: BTreeSet<Turn>,
    labels: IdMap<Arc<str>, Label>,
    /// The first line of each label that has room and with which lines are parked.
    firsts: BTreeSet<Turn>,
    /// What the windows of lines with labels hold, and its bytes.
    shared: (usize, usize),
    /// The lines that hold some of it, the one first that has been left alone for longest.
    left_alone: BTreeSet<(u64, u64)>,
    uses: u64,
    /// The line that has been taken from last, unless it has been seen to since.
    taken_from: Option<u64>,
    /// Somebody takes jobs.
    is_wanted: bool,
    /// What may be offered.
    credit: Credit,
    /// Besides, what goes before this one.
    ahead_of: Option<Position>,
}

#[derive(Debug)]
struct Entry {
    labels: Labels,
    line: Line,
    /// As the sets have it; none where no job is in the line.
    turn: Option<Turn>,
    /// The label that it is parked with.
    parked_with: Option<Arc<str>>,
    /// How many jobs of its labels have been offered, though its head comes before them.
    passed: u32,
    /// What it holds of the shared bound, and when somebody used it last.
    held: (usize, usize),
    used: u64,
}

/// A label with which lines are parked, or of which jobs have been offered.
#[derive(Debug, Default)]
struct Label {
    /// None where it has no limit.
    room: Option<u32>,
    /// The best jobs, so many as there is room for, that have been offered since the room was given, and are
    /// out.
    offered: BTreeSet<Position>,
    /// The lines that are parked with it.
    parked: BTreeSet<Turn>,
    /// As `firsts` has it.
    first: Option<Turn>,
    /// The lines with this label that are parked with another one; and those of them that insist.
    elsewhere: BTreeSet<Turn>,
    insisting: BTreeSet<Turn>,
}

impl Label {
    /// Whether a job at that position may be offered.
    fn has_room(&self, position: Position) -> bool {
        let Some(room) = self.room.map(|room| room as usize) else { return true };
        if self.insisting.first().is_some_and(|&(first, _)| first < position) {
            return false;
        }
        room > 0 && (self.offered.len() < room || self.offered.last().is_some_and(|&last| position < last))
    }

    /// Lists the first of the lines that are parked with it, if there is room.
    fn list(&mut self, firsts: &mut BTreeSet<Turn>) {
        let first = self.parked.first().copied().filter(|&(position, _)| self.has_room(position));
        if self.first != first {
            self.first.inspect(|turn| _ = firsts.remove(turn));
            firsts.extend(first);
            self.first = first;
        }
    }
}

/// What is to be done next for a pool.
#[derive(Debug)]
pub enum Next {
    Offer(Ready, usize),
    /// Jobs of that line are to be read, after this position and at most so many.
    Fetch(Labels, Option<Position>, u32),
}

impl Lines {
    // ---- jobs come ----

    /// A line that a start finds: see [`Line::restored`].
    pub fn restore(&mut self, labels: &Labels, first: Option<Position>) {
        let number = self.number(labels);
        self.change(number, |line, _| *line = Line::restored(number, bounds(labels), first));
    }

    /// A job has been inserted.
    pub fn inserted(&mut self, ready: Ready) {
        let number = self.number(&ready.work.labels);
        self.change(number, |line, places| line.inserted(ready, places));
    }

    /// A job that had left its line is back, in its old place.
    pub fn back(&mut self, ready: Ready) {
        let number = self.number(&ready.work.labels);
        self.change(number, |line, places| line.back(ready, places));
    }

    /// A job is in the backing's line again.
    pub fn released(&mut self, labels: &Labels, position: Position) {
        let number = self.number(labels);
        self.change(number, |line, _| line.released(position));
    }

    /// A job that had left its line waits, in the backing.
    pub fn set_aside(&mut self, labels: &Labels, id: JobId) {
        if let Some(&number) = self.numbers.get(labels) {
            self.change(number, |line, _| line.set_aside(id));
        }
    }

    /// The backing has read jobs of a line: see [`Line::fetched`].
    pub fn fetched(
        &mut self,
        labels: &Labels,
        jobs: Vec<Ready>,
        complete: bool,
        skip: impl Fn(JobId) -> bool,
    ) {
        let number = self.number(labels);
        self.change(number, |line, places| line.fetched(jobs, complete, skip, places));
    }

    /// Takes a job out, if it is here; whether it is.
    pub fn remove(&mut self, id: JobId) -> bool {
        let Some(&(number, position)) = self.places.get(&id) else { return false };
        self.change(number, |line, places| line.take(position, places)).is_some()
    }

    fn number(&mut self, labels: &Labels) -> u64 {
        if let Some(&number) = self.numbers.get(labels) {
            return number;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(labels.clone(), number);
        let entry = Entry {
            labels: labels.clone(),
            line: Line::new(number, bounds(labels)),
            turn: None,
            parked_with: None,
            passed: 0,
            held: (0, 0),
            used: 0,
        };
        self.lines.insert(number, entry);
        number
    }

    /// Changes a line, and what follows from its head and its window. One that is over goes.
    fn change<T>(&mut self, number: u64, change: impl FnOnce(&mut Line, &mut Places) -> T) -> Option<T> {
        let entry = self.lines.get_mut(&number)?;
        let changed = change(&mut entry.line, &mut self.places);
        let turn = entry.line.head().map(|head| (head.position(), number));
        let old = std::mem::replace(&mut entry.turn, turn);
        let is_over = !entry.labels.is_empty() && entry.line.is_over();
        if old != turn {
            self.take_turn(number, old, turn);
        }
        self.share(number);

        if is_over && let Some(entry) = self.lines.remove(&number) {
            self.numbers.remove(&entry.labels);
        }
        Some(changed)
    }

    /// The head of a line is another one.
    fn take_turn(&mut self, number: u64, old: Option<Turn>, new: Option<Turn>) {
        let Some(entry) = self.lines.get_mut(&number) else { return };
        // It is another job that has been passed.
        if new.map(|(position, _)| position) > old.map(|(position, _)| position) {
            entry.passed = 0;
        }
        if new.is_none() {
            let label = entry.parked_with.take();
            let labels = entry.labels.clone();
            return self.leave(label.as_ref(), &labels, old);
        }
        match entry.parked_with.clone() {
            None => {
                old.inspect(|turn| _ = self.free.remove(turn));
                self.free.extend(new);
            }
            Some(name) => {
                let labels = entry.labels.clone();
                let label = self.labels.entry(name).or_default();
                old.inspect(|turn| _ = label.parked.remove(turn));
                label.parked.extend(new);
                label.list(&mut self.firsts);
                let Some((old, new)) = old.zip(new) else { return };
                for name in labels.iter() {
                    if let Some(label) = self.labels.get_mut(name)
                        && label.elsewhere.remove(&old)
                    {
                        label.elsewhere.insert(new);
                    }
                }
                self.insist(number, old);
            }
        }
    }

    /// A line is no longer where it was.
    fn leave(&mut self, name: Option<&Arc<str>>, labels: &Labels, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let Some(name) = name else {
            self.free.remove(&turn);
            return;
        };
        if let Some(label) = self.labels.get_mut(name) {
            label.parked.remove(&turn);
        }
        for name in labels.iter() {
            if let Some(label) = self.labels.get_mut(name) {
                label.elsewhere.remove(&turn);
                label.insisting.remove(&turn);
            }
            self.list(name);
        }
    }

    // ---- the bound that lines share ----

    /// A line has been used: counts what it holds, and has others give way.
    fn share(&mut self, number: u64) {
        let Some(entry) = self.lines.get_mut(&number).filter(|entry| !entry.labels.is_empty()) else {
            return;
        };
        self.left_alone.remove(&(entry.used, number));
        self.uses += 1;
        entry.used = self.uses;
        self.recount(number);
        while (self.shared.0 > SHARED || self.shared.1 > SHARED_BYTES)
            && let Some(&(used, other)) = self.left_alone.first()
            && other != number
        {
            self.left_alone.remove(&(used, other));
            let Some(entry) = self.lines.get_mut(&other) else { continue };
            entry.line.push_out(0, &mut self.places);
            let turn = entry.line.head().map(|head| (head.position(), other));
            let old = std::mem::replace(&mut entry.turn, turn);
            self.take_turn(other, old, turn);
            self.recount(other);
        }
    }

    fn recount(&mut self, number: u64) {
        let Some(entry) = self.lines.get_mut(&number) else { return };
        let (jobs, bytes) = entry.line.held();
        let (jobs_before, bytes_before) = std::mem::replace(&mut entry.held, (jobs, bytes));
        self.shared.0 = self.shared.0 + jobs - jobs_before;
        self.shared.1 = self.shared.1 + bytes - bytes_before;
        if jobs > 0 {
            self.left_alone.insert((entry.used, number));
        }
    }

    // ---- room ----

    /// A label has so much room from now on. The head of the first line that is parked with it, if it has
    /// room.
    pub fn set_room(&mut self, name: &Arc<str>, room: Option<u32>) -> Option<Position> {
        let label = self.labels.get_mut(name)?;
        label.room = room;
        label.offered.clear();
        self.list(name)
    }

    /// A job with these labels is out no more, or is not going to be started.
    pub fn returned(&mut self, labels: &Labels, position: Position) {
        for name in labels.iter() {
            if self.labels.get_mut(name).is_some_and(|label| label.offered.remove(&position)) {
                self.list(name);
            }
        }
    }

    /// A job with these labels is offered.
    fn spend(&mut self, labels: &Labels, position: Position, rooms: &Rooms) {
        for name in labels.iter() {
            let Some(&room) = rooms.get(name) else { continue };
            let label = self.labels.entry(name.clone()).or_default();
            label.room = Some(room);
            let passed = label.elsewhere.first().filter(|&&(first, _)| first < position).copied();
            label.offered.insert(position);
            if label.offered.len() > room as usize {
                label.offered.pop_last();
            }
            self.list(name);
            if let Some(turn) = passed
                && let Some(entry) = self.lines.get_mut(&turn.1)
            {
                entry.passed = entry.passed.saturating_add(1);
                self.insist(turn.1, turn);
            }
        }
    }

    /// A line that has been passed often insists from now on. `before`: its turn until now.
    fn insist(&mut self, number: u64, before: Turn) {
        let Some(entry) = self.lines.get(&number) else { return };
        let insists = entry.passed >= PATIENCE;
        let Some(turn) = entry.turn else { return };
        for name in entry.labels.clone().iter() {
            let Some(label) = self.labels.get_mut(name) else { continue };
            label.insisting.remove(&before);
            if insists && label.elsewhere.contains(&turn) {
                label.insisting.insert(turn);
            }
            self.list(name);
        }
    }

    fn has_room(&self, name: &Arc<str>, position: Position, rooms: &Rooms) -> bool {
        match self.labels.get(name) {
            Some(label) => label.has_room(position),
            None => rooms.get(name) != Some(&0),
        }
    }

    /// Lists the first of the lines that are parked with a label, if it has room, and forgets a label that
    /// nothing is to be known of. The head of that line.
    fn list(&mut self, name: &Arc<str>) -> Option<Position> {
        let label = self.labels.get_mut(name)?;
        label.list(&mut self.firsts);
        let first = label.first;
        if label.parked.is_empty() && label.offered.is_empty() && label.elsewhere.is_empty() {
            self.labels.remove(name);
        }
        first.map(|(position, _)| position)
    }

    /// The line with the best head has a label without room.
    fn park(&mut self, number: u64, name: Arc<str>, rooms: &Rooms) {
        let Some(entry) = self.lines.get_mut(&number) else { return };
        let Some(turn) = entry.turn else { return };
        let before = entry.parked_with.replace(name.clone());
        let labels = entry.labels.clone();
        self.leave(before.as_ref(), &labels, Some(turn));
        for other in labels.iter().filter(|other| rooms.contains_key(*other)) {
            let label = self.labels.entry(other.clone()).or_default();
            label.room = rooms.get(other).copied();
            let among = if *other == name { &mut label.parked } else { &mut label.elsewhere };
            among.insert(turn);
        }
        self.list(&name);
        self.insist(number, turn);
    }

    // ---- jobs go ----

    /// So much more may be offered, and beyond that whatever goes before this position.
    pub fn want(&mut self, credit: Credit, ahead_of: Option<Position>) {
        self.is_wanted = true;
        self.credit.add(credit);
        self.ahead_of = ahead_of;
    }

    /// The next job that may be offered now, or the line that is to be read for that.
    pub fn next(&mut self, rooms: &Rooms) -> Option<Next> {
        if !self.is_wanted {
            return None;
        }
        // Read on before the window is used up, so that its head is known when its turn comes.
        if let Some(number) = self.taken_from.take()
            && let Some(fetch) = self.fetch(number)
        {
            return Some(fetch);
        }
        loop {
            let (position, number) = *self.free.first().into_iter().chain(self.firsts.first()).min()?;
            let entry = self.lines.get(&number)?;
            let full = entry.labels.iter().find(|name| !self.has_room(name, position, rooms));
            if let Some(name) = full.cloned() {
                self.park(number, name, rooms);
                continue;
            }

            let is_due = self.credit.is_left() || self.ahead_of.is_some_and(|last| position < last);
            let (head, labels) = (entry.line.head(), entry.labels.clone());
            if is_due && let Some(Head::Known(first)) = head {
                let (ready, bytes) = self.change(number, |line, places| line.take(first, places))??;
                self.credit.spend(bytes);
                self.spend(&labels, first, rooms);
                self.taken_from = Some(number);
                return Some(Next::Offer(ready, bytes));
            }
            return self.fetch(number);
        }
    }

    fn fetch(&mut self, number: u64) -> Option<Next> {
        let (after, limit) = self.change(number, |line, _| line.fetch())??;
        Some(Next::Fetch(self.lines.get(&number)?.labels.clone(), after, limit))
    }

    // ---- for tests ----

    /// Whether that job is here, and its turn does not hang on what is yet to be read.
    #[cfg(test)]
    pub fn has(&self, id: JobId) -> bool {
        let place = self.places.get(&id);
        place.is_some_and(|(number, position)| self.lines[number].line.is_known(*position))
    }

    /// Whether jobs are on their way from the backing.
    #[cfg(test)]
    pub fn is_fetching(&self) -> bool {
        self.lines.values().any(|entry| entry.line.is_fetching())
    }

    /// Whether no job is here, nor anything that is held for one.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let is_plain = |entry: &Entry| entry.labels.is_empty();
        self.places.is_empty()
            && self.lines.values().all(is_plain)
            && self.firsts.is_empty()
            && self.labels.is_empty()
            && self.left_alone.is_empty()
            && self.shared == (0, 0)
    }
}

fn bounds(labels: &Labels) -> Bounds {
    if labels.is_empty() { Bounds::PLAIN } else { Bounds::LABELED }
}
