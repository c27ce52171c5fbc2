//! What keeps the jobs: durably, in order, and for whoever asks. The seam between the machines that decide
//! ([`core`](crate::core), [`desk`](crate::desk)) and what stores, so that another engine can take its place.
//!
//! ```text
//!   core ── Insertion, Change, want, give_back ──▶ ┌────────┐ ── Order ──▶ durable backing (SQLite, its thread)
//!   desk ── Question, Change, Chore ─────────────▶ │ Engine │
//!   core, desk ◀── Answer ──────────────────────── └────────┘ ── Order ──▶ volatile backing (memory)
//! ```
//!
//! [`Engine`] is what the rest of the daemon sees. Its front half ([`front`], [`lines`], [`line`]) is a
//! pure machine in the daemon's loop: it allots ids, keeps windows on the beginnings of lines, and offers
//! jobs against credit, so that no dispatch waits for a disk. Its back half is a [`Backing`], of which
//! there are two: [`sqlite`] and [`memory`]. Both carry out the same [`Order`]s and give the same
//! [`Answer`]s, and one suite of conformance tests runs against either. An engine that is not on this
//! machine would take the place of both halves: it would offer with a deadline of its own, and answer
//! [`Answer::Lost`] where its fence no longer holds.
//!
//! A backing carries out what it is given in the order in which it was given, and answers in that order, each
//! answer only after what it speaks of is as durable as was promised. Nobody needs to keep an order by hand:
//! what must not happen before a change is on disk follows from the answer to it.
//!
//! One answer may come earlier, [`Answer::Inserted`], so that jobs can start beside their own sync: when they
//! are *written*, that is when the death of poold does not take them. It may overtake the answers to what was
//! asked before it, but for the reads of lines. That they are *synced*, so that a power cut does not take
//! them either, is told by [`Answer::Synced`], in its turn.
//!
//! A large value, parameters or the answer of a call, is kept in a file of its own, which is there before the
//! backing is asked for what speaks of it ([`keeping`]): so nothing else waits for its disk.

mod answer;
mod boot;
mod change;
mod chore;
#[cfg(test)]
mod conformance;
mod delivery;
mod few;
mod front;
mod keeping;
mod line;
mod lines;
pub mod memory;
#[cfg(test)]
mod orders;
mod question;
mod reserved_ids;
pub mod retention;
pub mod sqlite;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;

pub use answer::{
    Answer, Assigned, BegunArray, CallbackRun, Conditional, Definition, Dequeued, Edited, Interrupted,
    LastEnd, NotAssigned, NotEdited, NotRemoved, NotRetried, Pace, Ran, Released, Restored, Retried, Revised,
    Tied, Turns,
};
pub use boot::Boot;
pub use change::{
    CallbackEnd, Change, Detail, Fence, Insertion, JobEdit, Move, Reserved, Times, ValueFile, at_us,
    deadline_us, due_us, start_by_us, unmet,
};
pub use chore::{Chore, Room};
pub use delivery::{CallbackPage, CallbackWish, Delivery};
use front::Front;
pub use front::Said;
use keeping::{Keeping, New, Waiting};
#[cfg(test)]
pub use line::WINDOW;
use memory::Memory;
pub use question::{MAX_ENTRIES, Page, Question};
pub use upkeep::HistoryLimits;
use upkeep::Upkeep;

use pool_proto::nouns::ArrayInfo;
use pool_proto::{Json, OsText, Record, Refusal, ResultKind, State};

use crate::job::{Capacity, Element, JobId, LineKey, Place, Position, Ready, RequestId, Term, Work};

/// Bytes of commands, parameters and results in one answer at most, the last one's apart.
pub const ANSWER_BYTES: usize = 1 << 20;

/// Bytes of jobs that are read from a line at once, or woken, the last one's apart.
pub const FETCHED_BYTES: usize = 8 << 20;

/// Records in one answer to [`Question::Records`] at most: commits wait for it.
pub const MAX_RECORDS: usize = 500;

/// Jobs in one answer to [`Question::Line`] at most, so that what it costs does not grow with the line. More
/// than 1,000 are before a job that is not among them.
pub const LINE_HEAD: usize = 1001;

/// So many jobs that have ended last tell how long one of a pool takes.
pub const PACED: usize = 50;

/// Lines of a pool of which the order among each other is looked for: a pool with more of them is told none.
pub const MAX_PACED_LINES: usize = 64;

/// The greatest number of jobs that are counted of one state: an index is read so far in some 10 ms.
pub const MAX_COUNTED: u64 = 100_000;

/// So many attempts of a job before its latest one are kept.
pub const MAX_ATTEMPTS: u32 = 100;

/// What may be large of a record.
pub fn large_bytes(record: &Record) -> usize {
    let json = [&record.params, &record.value, &record.error].into_iter().flatten();
    let argv = record.argv.iter().flatten().map(OsText::len).sum::<usize>();
    argv + json.map(|json| json.get().len()).sum::<usize>()
}

/// The record of an element of an array that has not been unfolded up to it: it waits as its array does, or
/// for that, or was given up with it.
pub fn unmade_record(of_array: Record, id: JobId, element: &Element, is_dropped: bool) -> Record {
    let has_ended = is_dropped || of_array.state.is_terminal();
    let state = match of_array.state {
        _ if has_ended => State::Canceled,
        State::Running | State::Stopping => State::Queued,
        state => state,
    };
    Record {
        id: id.0,
        state,
        result: has_ended.then_some(ResultKind::Canceled),
        exit_code: None,
        reason: of_array.reason.filter(|_| !has_ended),
        started_at: None,
        ended_at: of_array.ended_at.filter(|_| has_ended),
        wall_s: None,
        key: None,
        unique: None,
        callbacks: Vec::new(),
        array: Some(Box::new(ArrayInfo { unfolded: Some(0), ..element.info() })),
        ..of_array
    }
}

/// What a backing is given: closed, and matched once in each.
#[derive(Debug, PartialEq)]
pub enum Order {
    Change(Change),
    Question(Question),
    Chore(Chore),
    /// The next jobs in a line, after this position, so many at most. Answered by [`Answer::Fetched`].
    Fetch {
        line: LineKey,
        after: Option<Position>,
        limit: u32,
    },
    /// Jobs that have not ended, or not begun, and whose time for that is over by then: those after this time
    /// and job, so many at most. Answered by [`Answer::Overdue`].
    Overdue {
        term: Term,
        after: Option<(i64, JobId)>,
        until_us: i64,
        limit: u32,
    },
}

impl Order {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Question(_) | Self::Fetch { .. } | Self::Overdue { .. } => true,
            Self::Change(_) | Self::Chore(_) => false,
        }
    }

    /// See [`Change::is_promise`].
    pub fn is_promise(&self) -> bool {
        match self {
            Self::Change(change) => change.is_promise(),
            Self::Chore(chore) => chore.is_promise(),
            Self::Question(_) | Self::Fetch { .. } | Self::Overdue { .. } => false,
        }
    }

    /// See [`Move::can_linger`].
    pub fn can_linger(&self) -> bool {
        matches!(self, Self::Change(Change::Move(moved)) if moved.can_linger())
    }

    /// See [`Insertion::is_urgent`].
    pub fn is_urgent_insertion(&self) -> bool {
        matches!(self, Self::Change(change) if change.is_urgent_insertion())
    }

    /// See [`Change::enters_line`].
    pub fn enters_line(&self) -> bool {
        matches!(self, Self::Change(change) if change.enters_line())
    }

    /// What it holds in memory beyond its own size, nearly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Change(change) => change.bytes(),
            Self::Question(_) | Self::Chore(_) | Self::Fetch { .. } | Self::Overdue { .. } => 0,
        }
    }

    /// See [`Change::weight`].
    pub fn weight(&self) -> usize {
        match self {
            Self::Change(change) => change.weight(),
            Self::Question(_) | Self::Chore(_) | Self::Fetch { .. } | Self::Overdue { .. } => 1,
        }
    }
}

/// What an engine's halves are joined by.
pub trait Backing {
    /// Hands over orders, to be carried out in this order. Never blocks.
    fn submit(&mut self, orders: Vec<Order>);

    /// Keeps large values in files of their own, before the orders that speak of them. Told by
    /// [`Told::Kept`] with the same ticket, in no order with the answers. Never blocks.
    fn keep(&mut self, ticket: u64, values: Vec<Json>);

    /// The next thing that it has to say. Never blocks.
    fn next(&mut self) -> Option<Told>;
}

/// What a backing says.
#[derive(Debug, PartialEq)]
pub enum Told {
    Answer(Answer),
    /// It cannot be written, and why. Told once, until [`Recovered`](Self::Recovered); once more when it is
    /// found to be damaged, which is for good. New jobs are refused meanwhile, reads go on, every other
    /// change is kept, in order, and written when that is possible.
    Failing {
        reason: String,
    },
    /// It can be written again, and everything that was kept has been.
    Recovered,
    /// What has become of values that were to be kept: for each its file, or none where it has none, and
    /// goes with the order that speaks of it.
    Kept {
        ticket: u64,
        files: Vec<Option<ValueFile>>,
    },
}

/// A job that may be started, against the credit of its pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The job; its next attempt, `tries.attempts + 1`, is the fence of all that is said of that attempt.
    pub ready: Ready,
    /// It must have been started by then, on the monotonic clock, or belongs to others. None where nobody
    /// else could take it.
    pub start_by: Option<std::time::Duration>,
    /// What it takes in memory, and of the credit.
    pub bytes: usize,
}

/// How much a pool may be offered: so many jobs, while there is room for bytes. The job that uses up the room
/// may take more than is left of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credit {
    pub jobs: u32,
    pub bytes: usize,
}

impl Credit {
    pub fn is_left(self) -> bool {
        self.jobs > 0 && self.bytes > 0
    }

    pub fn add(&mut self, more: Self) {
        self.jobs = self.jobs.saturating_add(more.jobs);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    /// A job of so many bytes is offered, by credit or ahead of another.
    pub fn spend(&mut self, bytes: usize) {
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// An engine of two backings: one for what must last, one for volatile jobs. See the module's description.
#[derive(Debug)]
pub struct Engine<B> {
    front: Front,
    durable: B,
    volatile: Memory,
    upkeep: Upkeep,
    /// Whoever removes the files of what is pruned keeps up.
    may_prune: bool,
    /// The history is to be looked at with the next flush: as of that time.
    prune_at: Option<i64>,
    /// For the durable backing, handed over at the end of a turn, so that one batch has all that the turn has
    /// brought.
    orders: Vec<Order>,
    /// Pages of listings that the durable backing has been asked for: the volatile jobs that belong on them
    /// are added.
    pages: VecDeque<(RequestId, Page)>,
    /// What waits for large values to be in their files.
    keeping: Keeping,
}

impl<B: Backing> Engine<B> {
    /// `restored`: what the durable backing has found.
    pub fn new(durable: B, restored: &Restored, limits: HistoryLimits) -> Self {
        Self {
            front: Front::restored(restored),
            durable,
            volatile: Memory::forgetful(),
            upkeep: Upkeep::new(limits),
            may_prune: true,
            prune_at: None,
            orders: Vec::new(),
            pages: VecDeque::new(),
            keeping: Keeping::default(),
        }
    }

    /// The backing for what must last.
    pub fn durable(&self) -> &B {
        &self.durable
    }

    #[cfg(test)]
    pub fn durable_mut(&mut self) -> &mut B {
        &mut self.durable
    }

    /// What still waits for its large values to be in files goes without.
    pub fn into_durable(mut self) -> B {
        for waiting in self.keeping.give_up() {
            self.go_on(waiting, Vec::new());
        }
        if !self.orders.is_empty() {
            self.durable.submit(std::mem::take(&mut self.orders));
        }
        self.durable
    }

    /// The backing for volatile jobs.
    #[cfg(test)]
    pub fn volatile(&self) -> &Memory {
        &self.volatile
    }

    /// Keeps new jobs, under ids of its own choice. Answered by [`Answer::Inserted`] or [`Answer::Refused`].
    /// `is_urgent`: see [`Insertion::is_urgent`].
    pub fn insert(&mut self, request: RequestId, jobs: Vec<Arc<Work>>, times: Times, is_urgent: bool) {
        let new = New { request, jobs, times, is_urgent };
        match keeping::values_of(&new) {
            values if values.is_empty() => self.go_on(Waiting::New(new), Vec::new()),
            values => self.keep(Waiting::New(new), values),
        }
    }

    /// Nothing that comes later waits for it: it is asked for when its values are in their files.
    fn keep(&mut self, waiting: Waiting, values: Vec<Json>) {
        let ticket = self.keeping.wait(waiting);
        self.durable.keep(ticket, values);
    }

    fn go_on(&mut self, waiting: Waiting, files: Vec<Option<ValueFile>>) {
        match waiting {
            Waiting::New(new) => {
                let files = keeping::places_of(&new, files);
                self.front.insert(new, files);
            }
            Waiting::End(mut moved) => {
                moved.file = files.into_iter().next().flatten();
                self.front.change(Change::Move(moved));
            }
        }
        self.route();
    }

    /// See [`Effect::AskOverdue`](crate::core::Effect::AskOverdue).
    pub fn ask_overdue(&mut self, term: Term, after: Option<(i64, JobId)>, until_us: i64, limit: u32) {
        self.pass_on(Order::Overdue { term, after, until_us, limit });
    }

    pub fn change(&mut self, change: Change) {
        if let Change::Move(moved) = &change
            && let Place::Ended(outcome) = &moved.to
        {
            self.upkeep.ended(outcome.held_bytes());
        }
        if let Change::Hold { ids, .. } | Change::Assign { ids, .. } = &change {
            let durable = ids.iter().copied().filter(|&id| !self.volatile.has(id));
            self.front.withhold(durable);
        }
        if let Change::Edit(edit) = &change
            && !self.volatile.has(edit.id)
        {
            self.front.withhold([edit.id].into_iter());
        }
        match change {
            Change::Move(moved) if keeping::answer_of(&moved).is_some() && !self.volatile.has(moved.id) => {
                let values = keeping::answer_of(&moved).cloned();
                self.keep(Waiting::End(moved), values.into_iter().collect());
            }
            change => {
                self.front.change(change);
                self.route();
            }
        }
    }

    pub fn ask(&mut self, question: Question) {
        if let Question::Page { request, page } = &question {
            self.pages.push_back((*request, page.clone()));
        }
        self.pass_on(Order::Question(question));
    }

    pub fn chore(&mut self, chore: Chore) {
        self.orders.push(Order::Chore(chore));
    }

    /// See [`Effect::Want`](crate::core::Effect::Want).
    pub fn want(&mut self, pool: &Arc<str>, credit: Credit, ahead_of: Option<Position>) {
        self.front.want(pool, credit, ahead_of);
        self.route();
    }

    /// See [`Effect::SetRoom`](crate::core::Effect::SetRoom).
    pub fn set_room(&mut self, label: &Arc<str>, room: Option<u32>) {
        self.front.set_room(label, room);
        self.route();
    }

    /// See [`Effect::SetCapacity`](crate::core::Effect::SetCapacity).
    pub fn set_capacity(&mut self, pool: &Arc<str>, capacity: Capacity) {
        self.front.set_capacity(pool, capacity);
        self.route();
    }

    /// See [`Effect::AskOffers`](crate::core::Effect::AskOffers).
    pub fn ask_offers(&mut self, pool: &Arc<str>) {
        self.front.ask_offers(pool);
        self.route();
    }

    /// An offer was not taken.
    pub fn give_back(&mut self, ready: Ready) {
        self.front.give_back(ready);
        self.route();
    }

    pub fn set_history_limits(&mut self, limits: HistoryLimits) {
        self.upkeep.set_limits(limits);
    }

    /// No more history is to be forgotten for now: whoever removes its files does not keep up.
    pub fn hold_pruning(&mut self) {
        self.may_prune = false;
    }

    /// It may be again; what has been put off is done now.
    pub fn go_on_pruning(&mut self, wall_us: i64) {
        if !std::mem::replace(&mut self.may_prune, true) {
            self.prune(wall_us);
        }
    }

    /// Removes what is too much of the history.
    pub fn prune(&mut self, wall_us: i64) {
        if self.may_prune {
            self.prune_at = Some(wall_us);
        }
    }

    /// Whether the job is in a window, or has been offered.
    #[cfg(test)]
    pub fn knows(&self, id: JobId) -> bool {
        self.front.knows(id)
    }

    /// Whether jobs of the pool are on their way from the backing.
    #[cfg(test)]
    pub fn is_fetching(&self, pool: &str) -> bool {
        self.front.is_fetching(pool)
    }

    /// What it holds for jobs that are on their way, by name; nothing once all of them have ended.
    #[cfg(test)]
    pub fn held(&self) -> Vec<&'static str> {
        let mut held = self.front.held();
        held.extend((!self.pages.is_empty()).then_some("listings"));
        held.extend((!self.keeping.is_empty()).then_some("large values"));
        held
    }

    /// Whether a job is kept in memory alone.
    pub fn is_volatile(&self, id: JobId) -> bool {
        self.volatile.has(id)
    }

    /// What follows at once from what it was told, without a look at its backings.
    pub fn next_at_once(&mut self) -> Option<Said> {
        self.front.next()
    }

    /// The next thing that it has to say. Never blocks.
    pub fn next(&mut self, wall_us: i64) -> Option<Said> {
        loop {
            if let Some(said) = self.front.next() {
                return Some(said);
            }
            // What is volatile is answered at once; what lasts when it does.
            let told = self.volatile.next().or_else(|| self.durable.next())?;
            self.hear(told, wall_us);
            self.route();
        }
    }

    /// What is said of a job that does not exist: whether there was one, and the history has forgotten it.
    pub fn explain(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::NoSuchJob { id, .. } if (1..self.front.next_job()).contains(&id) => {
                Refusal::NoSuchJob { id, pruned: Some(true) }
            }
            other => other,
        }
    }

    fn hear(&mut self, told: Told, wall_us: i64) {
        let mut answer = match told {
            Told::Answer(answer) => answer,
            Told::Failing { reason } => return self.front.failing(reason),
            Told::Recovered => return self.front.recovered(),
            Told::Kept { ticket, files } => {
                if let Some(waiting) = self.keeping.take(ticket) {
                    self.go_on(waiting, files);
                }
                return;
            }
        };
        match &mut answer {
            Answer::Ended { .. } if self.upkeep.is_due() => self.prune(wall_us),
            Answer::Pruned { more: true, .. } => self.prune(wall_us),
            Answer::Listed { request, records, entries, next } => {
                if let Some(at) = self.pages.iter().position(|(other, _)| other == request)
                    && let Some((_, page)) = self.pages.remove(at)
                {
                    *next = match page.is_brief {
                        true => self.volatile.join_entries(&page, entries, *next),
                        false => self.volatile.join(&page, records, *next),
                    };
                }
            }
            Answer::Tallied { counts, .. } => self.volatile.join_counts(counts),
            Answer::Line { line, head, .. } => self.volatile.join_line(line, head),
            Answer::Pace { pool, pace, .. } => self.volatile.join_pace(pool, pace),
            Answer::Refused { request, .. } => self.pages.retain(|(other, _)| other != request),
            _ => {}
        }
        self.front.answered(answer);
    }

    /// What the front wants done goes to the backing that it is about.
    fn route(&mut self) {
        for order in self.front.take_orders() {
            self.pass_on(order);
        }
    }

    fn pass_on(&mut self, order: Order) {
        self.orders.extend(self.volatile.take(order));
    }

    /// Hands over what this turn has brought. `awaited`: the jobs that somebody waits for by now, in order;
    /// of these nothing is removed. Asked for only where something is.
    pub fn flush(&mut self, awaited: impl FnOnce() -> Vec<JobId>) {
        if self.prune_at.is_some() || self.volatile.is_overfull() {
            let spared: Arc<[JobId]> = awaited().into();
            self.volatile.forget(&spared);
            if let Some(wall_us) = self.prune_at.take() {
                let room = self.upkeep.prune(wall_us, spared);
                self.chore(Chore::Prune(room));
            }
        }
        if !self.orders.is_empty() {
            self.durable.submit(std::mem::take(&mut self.orders));
        }
    }
}
