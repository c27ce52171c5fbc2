//! What is kept while the database cannot be written: changes, in order, and reads that must wait for them.
//!
//! Nothing of it is ever dropped, so it is the daemon that must not go on and on: beyond a size of the
//! backlog no more jobs are fetched, and so, once those that are at hand have run, none are started.

use std::collections::VecDeque;

use crate::engine::{Change, Order};

/// Bytes of memory beyond which no more jobs are fetched.
const MAX_BYTES: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// See the module's description.
#[derive(Debug, Default)]
pub struct Backlog {
    orders: VecDeque<Order>,
    bytes: usize,
    /// How many of them put jobs into lines.
    entering: usize,
    /// How many of them read a line.
    fetches: usize,
}

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Changes and chores; what only reads is no loss.
    pub fn count_changes(&self) -> usize {
        self.orders.iter().filter(|order| !order.is_read()).count()
    }

    /// Keeps an order behind all others.
    pub fn push(&mut self, mut order: Order) {
        if let Order::Change(Change::Move(moved)) = &mut order {
            moved.work = None; // It is on disk.
        }
        self.count(&order);
        self.orders.push_back(order);
    }

    /// Takes out so many orders at most, the first ones.
    pub fn take(&mut self, limit: usize) -> Vec<Order> {
        let count = limit.min(self.orders.len());
        let taken: Vec<Order> = self.orders.drain(..count).collect();
        taken.iter().for_each(|order| self.discount(order));
        taken
    }

    /// Puts orders that were taken out back before all others.
    pub fn put_back(&mut self, orders: Vec<Order>) {
        for order in orders.into_iter().rev() {
            self.count(&order);
            self.orders.push_front(order);
        }
    }

    /// Whether a line is not to be read now. Jobs that are put back into their line are taken from there, and
    /// nobody would look for them again: so that must be written before. And with a large backlog no more
    /// jobs are to be started.
    pub fn bars_fetches(&self) -> bool {
        self.entering > 0 || self.bytes > MAX_BYTES
    }

    /// Takes out the reads of lines, if nothing bars them any more.
    pub fn take_fetches(&mut self) -> Vec<Order> {
        if self.fetches == 0 || self.bars_fetches() {
            return Vec::new();
        }
        let (fetches, others): (VecDeque<Order>, VecDeque<Order>) =
            std::mem::take(&mut self.orders).into_iter().partition(is_fetch);
        self.orders = others;
        fetches.iter().for_each(|order| self.discount(order));
        fetches.into()
    }

    fn count(&mut self, order: &Order) {
        self.bytes += bytes_of(order);
        self.entering += usize::from(order.enters_line());
        self.fetches += usize::from(is_fetch(order));
    }

    fn discount(&mut self, order: &Order) {
        self.bytes -= bytes_of(order);
        self.entering -= usize::from(order.enters_line());
        self.fetches -= usize::from(is_fetch(order));
    }
}

fn is_fetch(order: &Order) -> bool {
    matches!(order, Order::Fetch { .. })
}

/// What an order takes in memory, nearly.
fn bytes_of(order: &Order) -> usize {
    size_of::<Order>() + order.bytes()
}
