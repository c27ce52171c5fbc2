//! The lines of one pool, and which job of all of them is offered next: the first one, by rank and turn,
//! for which its labels have room.
//!
//! ```text
//!   lines ── by their heads ──▶ free ────────────────────┐
//!     │                                                  ├── the least ──▶ offered
//!     └── a limit of theirs had no room ──▶ parked       ┘
//!                                           while that limit has room
//! ```
//!
//! Nobody goes through all lines. A line whose head comes up and has no room is parked with the first limit
//! that lacks room; of the lines that are parked with a limit the first one comes up again when the limit has
//! room. What a line costs while nobody takes from it is a place in one of these sets: it has no window then.
//!
//! Room is counted in jobs for each label, over all pools. It is the core's to give. Here it bounds what a
//! pool is offered since it was given, so that a label with room for one job brings each pool one offer, and
//! another one only where that goes before the first. Slots and items of resources that others have keep
//! nobody here: what they are kept for is the pool's to say.
//!
//! A line that waits for one of its limits holds up nobody with another one. So that it does not starve, it
//! insists when jobs after its head have passed it often: from then on its other limits are kept free for it.
//!
//! What needs more slots, or more of a resource, than its pool has is parked with a limit that no others have
//! ([`Limit::Capacity`]), and holds up nobody.
//!
//! The line of the jobs that need nothing besides a slot has a window of its own. Those of the others share
//! one bound, beyond which the line gives way that has been left alone for longest.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Credit;
use super::few::Few;
use super::line::{Bounds, Head, Line, Places, WINDOW};
use crate::job::{Capacity, IdMap, JobId, Limit, Needs, Position, Ready};

/// What the windows of all lines but the plain one hold together, and how many bytes.
const SHARED: usize = WINDOW;
const SHARED_BYTES: usize = 16 << 20;

/// After so many jobs of one of its limits that came after its head, a parked line insists.
const PATIENCE: u32 = if cfg!(test) { 4 } else { 16 };

/// Labels with limits, each with how many more of its jobs may be started.
pub type Rooms = IdMap<Arc<str>, u32>;

/// A line in the order of its head, as far as that is known.
type Turn = (Position, u64);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Lines {
    /// By number.
    lines: IdMap<u64, Box<Entry>>,
    numbers: IdMap<Needs, u64>,
    next_number: u64,
    /// The jobs that are here.
    places: Places,
    free: BTreeSet<Turn>,
    gates: IdMap<Limit, Gate>,
    /// What the pool has.
    capacity: Capacity,
    /// How many lines are parked, and those of them that are so for good: they need more than the pool has.
    parked: usize,
    beyond: BTreeSet<Turn>,
    /// What one of those needs, as was told last.
    told_beyond: Option<Needs>,
    /// The first line of each limit that has room and with which lines are parked.
    firsts: BTreeSet<Turn>,
    /// What the windows of all lines but the plain one hold, and its bytes.
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
    needs: Needs,
    line: Line,
    /// As the sets have it; none where no job is in the line.
    turn: Option<Turn>,
    /// The limit that it is parked with.
    parked_with: Option<Limit>,
    /// How many jobs of its limits have been offered, though its head comes before them.
    passed: u32,
    /// What it holds of the shared bound, and when somebody used it last.
    held: (usize, usize),
    used: u64,
}

/// A limit with which lines are parked, or of which jobs have been offered.
#[derive(Debug, Default)]
struct Gate {
    /// None where everybody may pass.
    room: Option<u32>,
    /// The best jobs, so many as there is room for, that have been offered since the room was given, and are
    /// out.
    offered: BTreeSet<Position>,
    /// The lines that are parked with it.
    parked: BTreeSet<Turn>,
    /// As `firsts` has it.
    first: Option<Turn>,
    /// The lines with this limit that are parked with another one; and those of them that insist.
    elsewhere: Few<Turn>,
    insisting: BTreeSet<Turn>,
}

impl Gate {
    /// Whether a job at that position may be offered.
    fn has_room(&self, position: Position) -> bool {
        let Some(room) = self.room.map(|room| room as usize) else { return true };
        let is_before = |turn: Option<&Turn>| turn.is_some_and(|&(first, _)| first < position);
        if is_before(self.insisting.first()) || is_before(self.parked.first()) {
            return false;
        }
        // What has been offered of later jobs is given back for it.
        room > 0 && (self.offered.len() < room || self.offered.last().is_some_and(|&last| position < last))
    }

    fn offer(&mut self, position: Position) {
        self.offered.insert(position);
        while self.room.is_some_and(|room| self.offered.len() > room as usize) {
            self.offered.pop_last();
        }
    }

    fn is_over(&self) -> bool {
        self.parked.is_empty() && self.offered.is_empty() && self.elsewhere.is_empty()
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
    Fetch(Needs, Option<Position>, u32),
}

impl Lines {
    // ---- jobs come ----

    /// A line that a start finds: see [`Line::restored`].
    pub fn restore(&mut self, needs: &Needs, first: Option<Position>) {
        let number = self.number(needs);
        self.change(number, |line, _| *line = Line::restored(number, bounds(needs), first));
    }

    /// A job has been inserted.
    pub fn inserted(&mut self, ready: Ready) {
        let number = self.number(&ready.work.needs);
        self.change(number, |line, places| line.inserted(ready, places));
    }

    /// A job that had left its line is back, in its old place.
    pub fn back(&mut self, ready: Ready) {
        let number = self.number(&ready.work.needs);
        self.change(number, |line, places| line.back(ready, places));
    }

    /// A job is in the backing's line again.
    pub fn released(&mut self, needs: &Needs, position: Position) {
        let number = self.number(needs);
        self.change(number, |line, _| line.released(position));
    }

    /// A job that had left its line waits, in the backing.
    pub fn set_aside(&mut self, needs: &Needs, id: JobId) {
        if let Some(&number) = self.numbers.get(needs) {
            self.change(number, |line, _| line.set_aside(id));
        }
    }

    /// The backing has read jobs of a line: see [`Line::fetched`].
    pub fn fetched(&mut self, needs: &Needs, jobs: Vec<Ready>, complete: bool, skip: impl Fn(JobId) -> bool) {
        let number = self.number(needs);
        self.change(number, |line, places| line.fetched(jobs, complete, skip, places));
    }

    /// Takes a job out, if it is here; whether it is.
    pub fn remove(&mut self, id: JobId) -> bool {
        let Some(&(number, position)) = self.places.get(&id) else { return false };
        self.change(number, |line, places| line.take(position, places)).is_some()
    }

    fn number(&mut self, needs: &Needs) -> u64 {
        if let Some(&number) = self.numbers.get(needs) {
            return number;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(needs.clone(), number);
        let entry = Box::new(Entry {
            needs: needs.clone(),
            line: Line::new(number, bounds(needs)),
            turn: None,
            parked_with: None,
            passed: 0,
            held: (0, 0),
            used: 0,
        });
        self.lines.insert(number, entry);
        number
    }

    /// Changes a line, and what follows from its head and its window. One that is over goes.
    fn change<T>(&mut self, number: u64, change: impl FnOnce(&mut Line, &mut Places) -> T) -> Option<T> {
        let entry = self.lines.get_mut(&number)?;
        let changed = change(&mut entry.line, &mut self.places);
        let turn = entry.line.head().map(|head| (head.position(), number));
        let old = std::mem::replace(&mut entry.turn, turn);
        let is_over = !entry.needs.are_plain() && entry.line.is_over();
        if old != turn {
            self.look_again(number, old);
            self.take_turn(number, old, turn);
        }
        self.share(number);

        if is_over && let Some(entry) = self.lines.remove(&number) {
            self.numbers.remove(&entry.needs);
        }
        Some(changed)
    }

    /// A line that is parked since its jobs need more than the pool has is looked at once more: it may have
    /// nobody left, which only a read tells, and for a parked line nobody reads on.
    fn look_again(&mut self, number: u64, turn: Option<Turn>) {
        let Some(entry) = self.lines.get_mut(&number) else { return };
        if let Some(limit) = entry.parked_with.take_if(|limit| matches!(limit, Limit::Capacity { .. })) {
            let needs = entry.needs.clone();
            self.leave(Some(&limit), &needs, turn);
            self.free.extend(turn);
        }
    }

    /// The head of a line is another one.
    fn take_turn(&mut self, number: u64, old: Option<Turn>, new: Option<Turn>) {
        let Some(entry) = self.lines.get_mut(&number) else { return };
        // It is another job that has been passed.
        if new.map(|(position, _)| position) > old.map(|(position, _)| position) {
            entry.passed = 0;
        }
        if new.is_none() {
            let limit = entry.parked_with.take();
            let needs = entry.needs.clone();
            return self.leave(limit.as_ref(), &needs, old);
        }
        match entry.parked_with.clone() {
            None => {
                old.inspect(|turn| _ = self.free.remove(turn));
                self.free.extend(new);
            }
            Some(limit) => {
                let needs = entry.needs.clone();
                let Some((old, new)) = old.zip(new) else { return };
                let gate = self.gates.entry(limit).or_default();
                if gate.parked.remove(&old) {
                    gate.parked.insert(new);
                }
                if self.beyond.remove(&old) {
                    self.beyond.insert(new);
                }
                gate.list(&mut self.firsts);
                for limit in needs.limits() {
                    if let Some(gate) = self.gates.get_mut(&limit)
                        && gate.elsewhere.remove(&old)
                    {
                        gate.elsewhere.insert(new);
                    }
                }
                self.insist(number, old);
            }
        }
    }

    /// A line is no longer where it was.
    fn leave(&mut self, limit: Option<&Limit>, needs: &Needs, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let Some(limit) = limit else {
            self.free.remove(&turn);
            return;
        };
        if let Some(gate) = self.gates.get_mut(limit)
            && gate.parked.remove(&turn)
        {
            self.parked -= 1;
            self.beyond.remove(&turn);
        }
        for limit in needs.limits() {
            if let Some(gate) = self.gates.get_mut(&limit) {
                gate.elsewhere.remove(&turn);
                gate.insisting.remove(&turn);
            }
            self.list(&limit);
        }
    }

    // ---- the bound that lines share ----

    /// A line has been used: counts what it holds, and has others give way.
    fn share(&mut self, number: u64) {
        let Some(entry) = self.lines.get_mut(&number).filter(|entry| !entry.needs.are_plain()) else {
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

    /// A limit has so much room from now on. The head of the first line that is parked with it, if it has
    /// room.
    pub fn set_room(&mut self, limit: &Limit, room: Option<u32>) -> Option<Position> {
        let gate = self.gates.get_mut(limit)?;
        gate.room = room;
        gate.offered.clear();
        self.list(limit)
    }

    /// The pool has this from now on.
    pub fn set_capacity(&mut self, capacity: Capacity) {
        self.capacity = capacity;
        self.told_beyond = None;
        let is_of_pool = |limit: &&Limit| !matches!(limit, Limit::Label(_));
        let limits: Vec<Limit> = self.gates.keys().filter(is_of_pool).cloned().collect();
        for limit in limits {
            let room = self.capacity.room(&limit);
            self.set_room(&limit, room);
        }
    }

    /// Whether all that waits needs more than the pool has.
    pub fn are_beyond_capacity(&self) -> bool {
        !self.beyond.is_empty() && self.beyond.len() == self.parked && self.free.is_empty()
    }

    /// What the first line needs that needs more than the pool has, if there is one; where that is another
    /// thing than was told last.
    pub fn tell_beyond(&mut self) -> Option<Option<Needs>> {
        let first = self.beyond.first().and_then(|(_, number)| self.lines.get(number));
        let needs = first.map(|entry| &entry.needs);
        if needs == self.told_beyond.as_ref() {
            return None;
        }
        self.told_beyond = needs.cloned();
        Some(self.told_beyond.clone())
    }

    /// A job with these needs is out no more, or is not going to be started.
    pub fn returned(&mut self, needs: &Needs, position: Position) {
        for limit in needs.limits() {
            if self.gates.get_mut(&limit).is_some_and(|gate| gate.offered.remove(&position)) {
                self.list(&limit);
            }
        }
    }

    /// How much room a limit has; none where everybody may pass.
    fn room(&self, limit: &Limit, rooms: &Rooms) -> Option<u32> {
        match limit {
            Limit::Label(label) => rooms.get(label).copied(),
            Limit::Capacity { .. } => self.capacity.room(limit),
        }
    }

    /// A job with these needs is offered.
    fn spend(&mut self, needs: &Needs, position: Position, rooms: &Rooms) {
        for limit in needs.limits() {
            let Some(room) = self.room(&limit, rooms) else { continue };
            let gate = self.gates.entry(limit.clone()).or_default();
            gate.room = Some(room);
            let passed = gate.elsewhere.first().filter(|&&(first, _)| first < position).copied();
            gate.offer(position);
            self.list(&limit);
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
        for limit in entry.needs.clone().limits() {
            let Some(gate) = self.gates.get_mut(&limit) else { continue };
            gate.insisting.remove(&before);
            if insists && gate.elsewhere.contains(&turn) {
                gate.insisting.insert(turn);
            }
            self.list(&limit);
        }
    }

    /// The first limit of the line with the best head that has no room.
    fn full(&self, needs: &Needs, position: Position, rooms: &Rooms) -> Option<Limit> {
        let has_room = |limit: &Limit| match self.gates.get(limit) {
            Some(gate) => gate.has_room(position),
            None => self.room(limit, rooms) != Some(0),
        };
        needs.limits().find(|limit| !has_room(limit))
    }

    /// Lists the first of the lines that are parked with a limit, if it has room, and forgets a limit that
    /// nothing is to be known of. The head of that line.
    fn list(&mut self, limit: &Limit) -> Option<Position> {
        let gate = self.gates.get_mut(limit)?;
        gate.list(&mut self.firsts);
        let first = gate.first;
        if gate.is_over() {
            self.gates.remove(limit);
        }
        first.map(|(position, _)| position)
    }

    /// The line with the best head has a limit without room.
    fn park(&mut self, number: u64, limit: Limit, rooms: &Rooms) {
        let Some(entry) = self.lines.get_mut(&number) else { return };
        let Some(turn) = entry.turn else { return };
        let before = entry.parked_with.replace(limit.clone());
        let needs = entry.needs.clone();
        self.leave(before.as_ref(), &needs, Some(turn));
        // What cannot run keeps nothing free for itself.
        let is_beyond = matches!(limit, Limit::Capacity { .. });
        for other in needs.limits() {
            let Some(room) = self.room(&other, rooms) else { continue };
            let gate = self.gates.entry(other.clone()).or_default();
            gate.room = Some(room);
            if other == limit {
                gate.parked.insert(turn);
                self.parked += 1;
                self.beyond.extend(is_beyond.then_some(turn));
            } else if !is_beyond {
                gate.elsewhere.insert(turn);
            }
        }
        self.list(&limit);
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
            if let Some(limit) = self.full(&entry.needs, position, rooms) {
                if matches!(limit, Limit::Capacity { .. })
                    && !matches!(entry.line.head(), Some(Head::Known(_)))
                {
                    return self.fetch(number);
                }
                self.park(number, limit, rooms);
                continue;
            }

            let is_due = self.credit.is_left() || self.ahead_of.is_some_and(|last| position < last);
            let (head, needs) = (entry.line.head(), entry.needs.clone());
            if is_due && let Some(Head::Known(first)) = head {
                let (ready, bytes) = self.change(number, |line, places| line.take(first, places))??;
                self.credit.spend(bytes);
                self.spend(&needs, first, rooms);
                self.taken_from = Some(number);
                return Some(Next::Offer(ready, bytes));
            }
            return self.fetch(number);
        }
    }

    fn fetch(&mut self, number: u64) -> Option<Next> {
        let (after, limit) = self.change(number, |line, _| line.fetch())??;
        Some(Next::Fetch(self.lines.get(&number)?.needs.clone(), after, limit))
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
        self.places.is_empty()
            && self.lines.values().all(|entry| entry.needs.are_plain())
            && self.firsts.is_empty()
            && self.gates.is_empty()
            && self.parked == 0
            && self.beyond.is_empty()
            && self.left_alone.is_empty()
            && self.shared == (0, 0)
    }
}

fn bounds(needs: &Needs) -> Bounds {
    if needs.are_plain() { Bounds::PLAIN } else { Bounds::LABELED }
}
