//! What the core needs to know of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::job::{Items, Program};

/// A pool as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    pub name: Arc<str>,
    pub workers: u32,
    /// What its workers keep running, in a warm pool.
    pub program: Option<Arc<Program>>,
    /// While the first job in line waits for several slots, or for resources, those behind it may use what is
    /// free.
    pub backfill: bool,
    /// The items of its resources.
    pub resources: Items,
}

/// Attempts that take no longer are quick: about as long as a worker waits before it tells of a start by
/// itself, and gives back what it has ahead.
pub const QUICK: Duration = Duration::from_millis(4);

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The default pool first.
    pub pools: Vec<PoolSettings>,
    pub callbacks: CallbackSettings,
    /// Attempts that may die with their worker or daemon before the job is given up.
    pub crash_limit: u32,
    /// From SIGTERM to SIGKILL at most, when the daemon ends.
    pub stop_grace: Duration,
    /// So many jobs of a label run at a time.
    pub limits: BTreeMap<Arc<str>, u32>,
    /// Jobs that may be queued in one pool.
    pub max_queued: u64,
    /// A slot whose attempts are shorter gets its next one ahead. Zero: none does.
    pub quick: Duration,
}

/// How callbacks are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallbackSettings {
    /// With one, callbacks run in the order in which their jobs ended.
    pub workers: u32,
    /// Attempts before a callback is given up.
    pub attempts: u32,
    /// From a failed attempt to the next; doubled each time.
    pub backoff: Duration,
    /// After so long an attempt is ended and counts as failed.
    pub timeout: Duration,
}
