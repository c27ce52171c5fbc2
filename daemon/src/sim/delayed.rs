//! The durable backing of the simulation: [`Memory`], behind a queue of orders that it has not carried out
//! and one of answers that nobody has heard. The [`World`](super::world::World) decides when either comes a
//! step further, and what a full disk does meanwhile.

use std::collections::VecDeque;

use pool_proto::Refusal;

use crate::engine::memory::Memory;
use crate::engine::{Answer, Backing, Change, Chore, Order, Restored, Told};

const FULL: &str = "no space left on device";

/// See the module's description.
#[derive(Debug, Default)]
pub struct Delayed {
    /// What outlives the daemon.
    pub disk: Memory,
    pub orders: VecDeque<Order>,
    pub answers: VecDeque<Told>,
    /// So many answers may be heard now.
    hearable: usize,
    /// Nothing that changes anything can be written.
    is_full: bool,
    /// There is room again, and so many orders are left that were kept meanwhile.
    kept: Option<usize>,
}

impl Backing for Delayed {
    fn submit(&mut self, orders: Vec<Order>) {
        self.orders.extend(orders);
    }

    fn next(&mut self) -> Option<Told> {
        self.hearable = self.hearable.checked_sub(1)?;
        self.answers.pop_front()
    }
}

impl Delayed {
    /// A backing of a start, and what the start finds.
    pub fn opened(disk: Memory, is_full: bool) -> (Self, Restored) {
        let restored = disk.restored();
        let mut delayed = Self { disk, ..Self::default() };
        delayed.set_full(is_full);
        (delayed, restored)
    }

    pub fn is_full(&self) -> bool {
        self.is_full
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
        if self.kept == Some(0) {
            self.kept = None;
            self.answers.push_back(Told::Recovered);
        }
    }

    /// The next answer may be heard; false when there is none.
    pub fn let_hear(&mut self) -> bool {
        self.hearable = usize::from(!self.answers.is_empty());
        self.hearable > 0
    }

    /// The place of the order that is carried out next, where one can be. On a full disk that is the first
    /// one that is refused or only reads: those that change something stay, in their order, and so does a
    /// look into a line that one of them is to change.
    pub fn next_order(&self) -> Option<usize> {
        if !self.is_full {
            return (!self.orders.is_empty()).then_some(0);
        }
        let enters_line = |order: &Order| matches!(order, Order::Change(change) if change.enters_line());
        let is_ahead = |index: usize| self.orders.iter().take(index).any(enters_line);
        let fits = |(index, order): (usize, &Order)| match order {
            Order::Change(Change::Insert(_)) | Order::Question(_) | Order::Overdue { .. } => true,
            Order::Fetch { .. } => !is_ahead(index),
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

    /// Carries out the order at that place.
    pub fn carry_out(&mut self, index: usize) {
        let Some(order) = self.orders.remove(index) else { return };
        match order {
            Order::Change(Change::Insert(insertion)) if self.is_full => {
                self.refuse(insertion.request);
            }
            order => {
                self.disk.submit(vec![order]);
                while let Some(told) = self.disk.next() {
                    self.answers.push_back(told);
                }
            }
        }
        if let Some(kept) = &mut self.kept {
            *kept = kept.saturating_sub(1);
        }
        self.tell_recovered();
    }

    /// The next order is refused for once, if it is an insertion.
    pub fn refuse_insertion(&mut self) {
        if let Some(Order::Change(Change::Insert(insertion))) = self.orders.front() {
            let request = insertion.request;
            self.orders.pop_front();
            self.refuse(request);
        }
    }

    fn refuse(&mut self, request: crate::job::RequestId) {
        let refusal = Refusal::StoreFailed { reason: FULL.to_owned() };
        self.answers.push_back(Told::Answer(Answer::Refused { request, refusal }));
    }
}
