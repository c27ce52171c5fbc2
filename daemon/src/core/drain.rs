//! Which work a drain waits for: all that can run. What cannot is kept for the next start: jobs of a pool
//! that is gone, is paused or cannot start anything, and jobs and callbacks whose next attempt is a long time
//! off.

use std::time::Duration;

use super::pools::pool::JobPool;
use super::pools::stall::stall_of_slots;
use super::{Core, Mode, PoolId};
use crate::job::{Holdup, JobId, Queued};

/// A drain waits for a further attempt that is due within this time.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// What the end of the daemon waits for, and what does not hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// In order.
    pub running: Vec<JobId>,
    /// Jobs that will run before the end.
    pub queued: u64,
    /// Callbacks that will run before the end, or run.
    pub callbacks: u64,
    /// Ends and submissions that are not on disk yet.
    pub unwritten: u64,
    /// Jobs and callbacks that are left for the next start.
    pub kept: u64,
}

impl Core {
    /// What the end of the daemon waits for; none while it is not about to end.
    pub fn holds(&self) -> Option<Holds> {
        if self.mode == Mode::Serving {
            return None;
        }
        let mut running: Vec<JobId> = self.active.keys().copied().collect();
        running.sort_unstable();

        let starts_more = self.mode == Mode::Draining;
        let queued = if starts_more { self.startable_jobs() } else { 0 };
        let due = if starts_more { self.startable_callbacks() } else { 0 };
        let all_queued = self.pools.iter().map(|(_, pool)| pool.queued.all()).sum::<u64>()
            + self.unserved.values().map(Queued::all).sum::<u64>()
            + self.unattended_jobs()
            + self.unfolding_arrays();
        Some(Holds {
            running,
            queued,
            callbacks: due + self.lane.taken() as u64,
            unwritten: (self.ending.len() + self.submissions.len() + self.unsynced.len()) as u64,
            kept: (all_queued - queued) + (self.lane.pending() as u64 - due),
        })
    }

    /// Whether a drain has still something to start.
    pub(super) fn has_startable(&self) -> bool {
        self.startable_jobs() + self.startable_callbacks() > 0
    }

    /// Queued jobs that a drain waits for.
    pub(super) fn startable_jobs(&self) -> u64 {
        let queued = self.pools.iter().map(|(_, pool)| self.startable_in(pool)).sum::<u64>();
        queued + self.unattended_jobs() + self.startable_arrays()
    }

    /// Queued jobs of that pool that can be started now, or soon.
    pub(super) fn startable_in_pool(&self, id: PoolId) -> u64 {
        self.pools.get(id).map_or(0, |pool| self.startable_in(pool))
    }

    fn startable_in(&self, pool: &JobPool) -> u64 {
        if !can_start(pool) {
            return 0;
        }
        // A count may be a little old where an end under way has taken a job out of its wait. What waits for
        // another job can be started when that has ended, not before; if that one holds the drain.
        let waiting = if self.is_due_soon() { pool.queued[Holdup::Time] } else { 0 };
        let in_line = if pool.is_beyond_capacity() { 0 } else { pool.queued[Holdup::None] };
        in_line + waiting
    }

    /// Whether a drain waits for a job that is queued in this pool.
    pub(super) fn is_startable(&self, pool: &str, holdup: Holdup) -> bool {
        let is_held_up = match holdup {
            Holdup::None => false,
            Holdup::Time => !self.is_due_soon(),
            Holdup::Others | Holdup::Predecessor => true,
        };
        let is_in_line = holdup == Holdup::None;
        let can_start = |pool: &JobPool| can_start(pool) && !(is_in_line && pool.is_beyond_capacity());
        !is_held_up && self.pools.named(pool).is_some_and(can_start)
    }

    fn startable_callbacks(&self) -> u64 {
        if stall_of_slots(&self.lane.slots).is_some_and(|(_, lasts)| lasts) {
            return 0;
        }
        let waiting = if self.is_due_soon() { 0 } else { self.lane.waiting() };
        (self.lane.pending() - waiting) as u64
    }

    /// The first of what waits for a time is due soon: whose that is, the engine knows, and tells then.
    fn is_due_soon(&self) -> bool {
        self.due.is_by(self.now.monotonic + DRAIN_PATIENCE)
    }

    /// Jobs whose turn has come, and which wait for their client.
    fn unattended_jobs(&self) -> u64 {
        self.unattended.values().filter(|unattended| unattended.ready.is_some()).count() as u64
    }
}

fn can_start(pool: &JobPool) -> bool {
    pool.stall().is_none_or(|stall| !stall.lasts)
}
