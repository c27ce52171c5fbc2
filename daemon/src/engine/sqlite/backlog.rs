//! What is kept while the database cannot be written: changes, in order, and reads that must wait for them.
//!
//! Nothing of it is ever dropped, so it is the daemon that must not go on and on: beyond a size of the
//! backlog no more jobs are fetched, and so, once those that are at hand have run, none are started.

use std::collections::VecDeque;

use crate::engine::{Change, Order};

/// Bytes of memory beyond which no more jobs are fetched.
const MAX_BYTES: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// An order, and what it took when it came, in bytes: what it takes changes, since others share parts of it.
#[derive(Debug)]
struct Kept {
    order: Order,
    bytes: usize,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Backlog {
    orders: VecDeque<Kept>,
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
        self.orders.iter().filter(|kept| !kept.order.is_read()).count()
    }

    /// Keeps an order behind all others.
    pub fn push(&mut self, mut order: Order) {
        if let Order::Change(Change::Move(moved)) = &mut order {
            moved.work = None; // It is on disk.
        }
        let kept = self.counted(order);
        self.orders.push_back(kept);
    }

    /// Takes out so many orders at most, the first ones.
    pub fn take(&mut self, limit: usize) -> Vec<Order> {
        let count = limit.min(self.orders.len());
        let taken: Vec<Kept> = self.orders.drain(..count).collect();
        taken.into_iter().map(|kept| self.discounted(kept)).collect()
    }

    /// Puts orders that were taken out back before all others.
    pub fn put_back(&mut self, orders: Vec<Order>) {
        for order in orders.into_iter().rev() {
            let kept = self.counted(order);
            self.orders.push_front(kept);
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
        let (fetches, others): (VecDeque<Kept>, VecDeque<Kept>) =
            std::mem::take(&mut self.orders).into_iter().partition(|kept| is_fetch(&kept.order));
        self.orders = others;
        fetches.into_iter().map(|kept| self.discounted(kept)).collect()
    }

    fn counted(&mut self, order: Order) -> Kept {
        let bytes = bytes_of(&order);
        self.bytes += bytes;
        self.entering += usize::from(order.enters_line());
        self.fetches += usize::from(is_fetch(&order));
        Kept { order, bytes }
    }

    fn discounted(&mut self, kept: Kept) -> Order {
        let Kept { order, bytes } = kept;
        self.bytes -= bytes;
        self.entering -= usize::from(order.enters_line());
        self.fetches -= usize::from(is_fetch(&order));
        order
    }
}

fn is_fetch(order: &Order) -> bool {
    matches!(order, Order::Fetch { .. })
}

/// What an order takes in memory, nearly.
fn bytes_of(order: &Order) -> usize {
    size_of::<Order>() + order.bytes()
}
