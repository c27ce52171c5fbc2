//! How often a job was tried, how often it may be tried, and its place in the queue meanwhile.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::{JobId, Work};

/// What becomes of a job whose attempt has failed or timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// So many attempts may fail and be followed by another.
    pub allowed: u32,
    /// From the first failure to the next attempt; doubled after each.
    pub backoff: Duration,
}

/// No backoff grows longer, unless it was given so.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

impl Retries {
    pub const NONE: Self = Self { allowed: 0, backoff: Duration::ZERO };

    /// How long the next attempt waits, where there is one. `retried`: failed attempts that were followed by
    /// another before.
    pub fn after(&self, retried: u32) -> Option<Duration> {
        let doubled = self.backoff.saturating_mul(1 << retried.min(30));
        (retried < self.allowed).then(|| doubled.min(MAX_BACKOFF.max(self.backoff)))
    }
}

/// A job's place in its pool's queue: by priority, the highest first, then in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub priority: Reverse<i32>,
    pub id: JobId,
}

/// How often a job was tried so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Attempts, the one that runs included.
    pub attempts: u32,
    /// Attempts that a dying worker, daemon or machine has taken along.
    pub crashes: u32,
    /// Failed attempts that were followed by another.
    pub retried: u32,
}

/// A job that waits for a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    pub id: JobId,
    pub tries: Tries,
    pub work: Arc<Work>,
}

impl Ready {
    pub fn position(&self) -> Position {
        Position { priority: Reverse(self.work.priority), id: self.id }
    }
}
