//! The durable backing of the simulation: [`Memory`], behind a queue of orders that it has not carried out
//! and one of answers that nobody has heard. The [`World`](super::world::World) decides when either comes a
//! step further, and what a full disk does meanwhile.
//!
//! ```text
//!   orders ── written ──▶ disk (outlives poold) ── synced ──▶ synced (outlives the power)
//!                           │                        └──▶ the other answers
//!                           └──▶ urgent insertions are told
//! ```
//!
//! What promises nothing is written, and synced with the next promise.

use std::collections::VecDeque;

use pool_proto::{Json, Refusal};

use crate::engine::memory::Memory;
use crate::engine::{Answer, Backing, Change, Chore, Order, Question, Restored, Told, ValueFile};

const FULL: &str = "no space left on device";

/// See the module's description.
#[derive(Debug, Default)]
pub struct Delayed {
    /// What outlives the daemon.
    pub disk: Memory,
    /// What outlives a power cut, where that is less.
    synced: Option<Memory>,
    pub orders: VecDeque<Order>,
    pub answers: VecDeque<Told>,
    /// Orders that are written are to be synced, and these answers told then.
    owed: Option<Vec<Answer>>,
    /// So many answers may be heard now.
    hearable: usize,
    /// Nothing that changes anything can be written.
    is_full: bool,
    /// There is room again, and so many orders are left that were kept meanwhile.
    kept: Option<usize>,
}

/// What ends the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL: what is written is there.
    Kill,
    /// What is not synced is gone.
    PowerCut,
}

impl Backing for Delayed {
    fn submit(&mut self, orders: Vec<Order>) {
        self.orders.extend(orders);
    }

    /// They are in files when that is heard: what is asked meanwhile overtakes them.
    fn keep(&mut self, ticket: u64, values: Vec<Json>) {
        let file = (!self.is_full).then(|| ValueFile::from("kept"));
        self.answers.push_back(Told::Kept { ticket, files: vec![file; values.len()] });
    }

    fn next(&mut self) -> Option<Told> {
        self.hearable = self.hearable.checked_sub(1)?;
        self.answers.pop_front()
    }
}

impl Delayed {
    /// A backing of a start, and what the start finds.
    pub fn opened(mut disk: Memory, is_full: bool) -> (Self, Restored) {
        let restored = disk.restored();
        let mut delayed = Self { disk, ..Self::default() };
        delayed.set_full(is_full);
        (delayed, restored)
    }

    /// What is left of it. The next start syncs what it finds: its first commit has the log written anew.
    pub fn after(self, death: Death) -> Memory {
        match death {
            Death::Kill => self.disk,
            Death::PowerCut => self.synced.unwrap_or(self.disk),
        }
    }

    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// What a power cut leaves.
    pub fn synced(&self) -> &Memory {
        self.synced.as_ref().unwrap_or(&self.disk)
    }

    /// Jobs whose work somebody holds besides the disk, and what is remembered of it as synced.
    pub fn count_held_elsewhere(&self) -> usize {
        self.disk.count_held_elsewhere(usize::from(self.synced.is_some()))
    }

    /// The disk is full from now on, or has room again. The latter is told when everything has been written
    /// that was kept meanwhile.
    pub fn set_full(&mut self, is_full: bool) {
        let was_told = self.is_full || self.kept.is_some();
        let was_full = std::mem::replace(&mut self.is_full, is_full);
        if is_full {
            self.kept = None;
            if !was_told {
                self.answers.push_back(Told::Failing { reason: FULL.to_owned() });
            }
        } else if was_full {
            self.kept = Some(self.orders.len());
            self.tell_recovered();
        }
    }

    fn tell_recovered(&mut self) {
        if self.kept == Some(0) && self.owed.is_none() {
            self.kept = None;
            self.answers.push_back(Told::Recovered);
        }
    }

    /// The next answer may be heard; false when there is none.
    pub fn let_hear(&mut self) -> bool {
        self.hearable = usize::from(!self.answers.is_empty());
        self.hearable > 0
    }

    /// What the machines are still to be told by what is written.
    pub fn coming(&self) -> impl Iterator<Item = &Answer> {
        let told = self.answers.iter().filter_map(|told| match told {
            Told::Answer(answer) => Some(answer),
            Told::Failing { .. } | Told::Recovered | Told::Kept { .. } => None,
        });
        told.chain(self.owed.iter().flatten())
    }

    /// Steps that it can take without anybody's help, at least.
    pub fn steps_left(&self) -> usize {
        let urgent = self.orders.iter().filter(|order| order.is_urgent_insertion()).count();
        self.orders.len() + urgent + usize::from(self.owed.is_some())
    }

    /// The place of the order that is carried out next, where one can be. On a full disk that is the first
    /// one that is refused or only reads: those that change something stay, in their order, and so does a
    /// look into a line that one of them is to change. Nor is a job or a line looked at before what is
    /// written has been synced.
    pub fn next_order(&self) -> Option<usize> {
        if !self.is_full {
            return (!self.orders.is_empty()).then_some(0);
        }
        let enters_line = |order: &Order| matches!(order, Order::Change(change) if change.enters_line());
        let is_ahead = |index: usize| self.orders.iter().take(index).any(enters_line);
        let fits = |(index, order): (usize, &Order)| match order {
            Order::Question(Question::Records { .. } | Question::Keepers { .. }) => self.owed.is_none(),
            Order::Change(Change::Insert(_)) | Order::Question(_) | Order::Overdue { .. } => true,
            Order::Fetch { .. } => self.owed.is_none() && !is_ahead(index),
            Order::Change(_)
            | Order::Chore(
                Chore::Booted(_)
                | Chore::ReserveIds { .. }
                | Chore::Prune { .. }
                | Chore::Hold { .. }
                | Chore::LetGo { .. },
            ) => false,
        };
        self.orders.iter().enumerate().position(fits)
    }

    /// Whether something is written and is to be synced next.
    pub fn can_sync(&self) -> bool {
        self.owed.is_some() && !self.is_full
    }

    /// What is written is synced, and answered.
    pub fn sync(&mut self) {
        self.synced = None;
        let owed = self.owed.take().into_iter().flatten();
        self.answers.extend(owed.map(Told::Answer));
        self.tell_recovered();
    }

    /// Carries out the order at that place, and syncs it where that is promised; an urgent insertion is told
    /// first.
    pub fn carry_out(&mut self, index: usize) {
        let is_urgent = self.orders.get(index).is_some_and(Order::is_urgent_insertion);
        let (answers, is_promise) = self.write(index);
        if is_urgent && !self.is_full {
            self.tell_early(answers);
            return;
        }
        self.answers.extend(answers.into_iter().map(Told::Answer));
        if is_promise {
            self.synced = None;
        }
        self.tell_recovered();
    }

    /// Writes the order at that place; the answers to it, and whether it is to be synced.
    pub fn write(&mut self, index: usize) -> (Vec<Answer>, bool) {
        let Some(order) = self.orders.remove(index) else { return (Vec::new(), false) };
        if let Some(kept) = &mut self.kept {
            *kept = kept.saturating_sub(1);
        }
        let is_promise = order.is_promise();
        match order {
            Order::Change(Change::Insert(insertion)) if self.is_full => {
                (vec![refused(insertion.request)], false)
            }
            order => {
                if !order.is_read() && self.synced.is_none() {
                    self.synced = Some(self.disk.snapshot());
                }
                self.disk.submit(vec![order]);
                let told = std::iter::from_fn(|| self.disk.next());
                let answers = told.filter_map(|told| match told {
                    Told::Answer(answer) => Some(answer),
                    Told::Failing { .. } | Told::Recovered | Told::Kept { .. } => None,
                });
                (answers.collect(), is_promise)
            }
        }
    }

    /// The orders that were written make one batch.
    pub fn end_batch(&mut self, answers: Vec<Answer>, is_promise: bool) {
        if is_promise {
            self.tell_early(answers);
        } else {
            self.answers.extend(answers.into_iter().map(Told::Answer));
            self.tell_recovered();
        }
    }

    /// A batch is written, and has these answers: its new jobs are told, as far as no line was looked at
    /// before them; the rest when it is synced.
    fn tell_early(&mut self, mut answers: Vec<Answer>) {
        let is_look = |answer: &Answer| matches!(answer, Answer::Fetched { .. });
        let before_any_look = answers.iter().position(is_look).unwrap_or(answers.len());
        for answer in &mut answers[..before_any_look] {
            if let &mut Answer::Inserted { request, ref mut is_synced, .. } = answer {
                *is_synced = false;
                let inserted = std::mem::replace(answer, Answer::Synced { request });
                self.answers.push_back(Told::Answer(inserted));
            }
        }
        self.owed = Some(answers);
    }

    /// The next order is refused for once, if it is one of those that a durable backing refuses on a full
    /// disk.
    pub fn refuse_next(&mut self) {
        let request = match self.orders.front() {
            Some(Order::Change(Change::Insert(insertion))) => insertion.request,
            Some(Order::Change(
                Change::SetPool { request, .. }
                | Change::SetPause { request, .. }
                | Change::SetWorkers { request, .. }
                | Change::SetSchedules { request, .. }
                | Change::SetLimit { request, .. },
            )) => *request,
            _ => return,
        };
        self.orders.pop_front();
        self.answers.push_back(Told::Answer(refused(request)));
    }
}

fn refused(request: crate::job::RequestId) -> Answer {
    let refusal = Refusal::StoreFailed { reason: FULL.to_owned() };
    Answer::Refused { request, refusal }
}
