//! Which jobs hang on what, besides the daemon.
//!
//! A tie to a client is kept by the call that waits ([`waiters`](super::waiters)); here it is known for the start that finds such a job
//! without its client: it then waits for its client before it runs again, and ends when that does not come back.

use std::collections::BTreeSet;
use std::time::Duration;

use super::event::LaneId;
use super::store_op::Tied;
use super::{Mode, Scheduler, Timer};
use crate::job::{IdMap, JobId, Ready, StopReason, Tie};

/// After a start, the clients of jobs that are tied to them have so long to come back.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// A job that is tied to its client, which a start has found without it.
#[derive(Debug)]
pub struct Unattended {
    pub until: Duration,
    /// Its turn has come, and it waits for its client.
    pub ready: Option<Ready>,
}

impl Scheduler {
    pub(super) fn restore_ties(&mut self, tied: &[Tied]) {
        for &Tied { id, tie, .. } in tied {
            self.ties.add(id, tie);
            if tie == Tie::Client {
                let until = self.now.monotonic + CLIENT_PATIENCE;
                self.unattended.insert(id, Unattended { until, ready: None });
                self.timers.insert((until, Timer::Unattended(id)));
            }
        }
        for &Tied { id, tie, .. } in tied.iter().filter(|tied| tied.untied) {
            self.end(id, StopReason::Untied(tie));
        }
    }

    /// The client of a job is back, or takes the place of the one that it was tied to.
    pub(super) fn attend(&mut self, id: JobId) {
        if let Some(ready) = self.forget_unattended(id) {
            let pool = self.pool_of(&ready.work);
            self.pools[pool].queue.requeued(ready);
        }
    }

    /// The job waits for no client any more; it is returned if its turn had come.
    pub(super) fn forget_unattended(&mut self, id: JobId) -> Option<Ready> {
        let unattended = self.unattended.remove(&id)?;
        self.timers.remove(&(unattended.until, Timer::Unattended(id)));
        unattended.ready
    }

    /// While draining: ends the jobs that are tied to the pool when nothing else is left, or when they hold every slot that others wait for.
    pub(super) fn end_what_no_drain_waits_for(&mut self) {
        if self.mode != Mode::Draining || self.ties.to_pool().is_empty() {
            return;
        }
        let left: Vec<JobId> =
            self.ties.to_pool().iter().copied().filter(|id| !self.ending.contains_key(id)).collect();
        let is_waiting = |id: &&JobId| !self.active.contains_key(id) && !self.held.contains(id);
        let waiting = left.iter().filter(is_waiting).count() as u64;
        let running = left.iter().filter(|id| self.active.contains_key(id)).count();
        let is_last =
            self.submissions.is_empty() && self.waiting_jobs() == waiting && self.active.len() == running;
        let blocks = |id: &JobId| self.active.get(id).is_some_and(|active| self.is_blocked(active.slot.lane));
        let ends: Vec<JobId> = left.into_iter().filter(|id| is_last || blocks(id)).collect();
        for id in ends {
            self.end(id, StopReason::Untied(Tie::Pool));
        }
    }

    /// Whether others wait for a pool's slots while jobs that are tied to it hold them all.
    fn is_blocked(&self, lane: LaneId) -> bool {
        let LaneId::Pool(index) = lane else { return false };
        let is_tied = |id: &JobId| self.ties.of(*id) == Some(Tie::Pool);
        let pool = &self.pools[index];
        let running: Vec<&JobId> =
            self.active.iter().filter(|(_, active)| active.slot.lane == lane).map(|(id, _)| id).collect();
        let has_others = pool.queue.total() > pool.queue.count_in_window(is_tied);
        has_others && !pool.slots.has_idle() && running.iter().all(|&id| is_tied(id))
    }
}

/// All ties of jobs that have not ended.
#[derive(Debug, Default)]
pub struct Ties {
    of: IdMap<JobId, Tie>,
    to_job: IdMap<JobId, Vec<JobId>>,
    to_pool: BTreeSet<JobId>,
}

impl Ties {
    pub fn add(&mut self, id: JobId, tie: Tie) {
        self.of.insert(id, tie);
        match tie {
            Tie::Client => {}
            Tie::Job(other) => self.to_job.entry(other).or_default().push(id),
            Tie::Pool => _ = self.to_pool.insert(id),
        }
    }

    /// What the job is tied to.
    pub fn of(&self, id: JobId) -> Option<Tie> {
        self.of.get(&id).copied()
    }

    /// The jobs that no drain waits for.
    pub fn to_pool(&self) -> &BTreeSet<JobId> {
        &self.to_pool
    }

    /// A job has ended: those that were tied to it are to end too.
    pub fn ended(&mut self, id: JobId) -> Vec<JobId> {
        match self.of.remove(&id) {
            Some(Tie::Pool) => _ = self.to_pool.remove(&id),
            Some(Tie::Job(other)) => {
                if let Some(siblings) = self.to_job.get_mut(&other) {
                    siblings.retain(|&sibling| sibling != id);
                    if siblings.is_empty() {
                        self.to_job.remove(&other);
                    }
                }
            }
            Some(Tie::Client) | None => {}
        }
        self.to_job.remove(&id).unwrap_or_default()
    }
}
