//! Which jobs hang on what, besides the daemon.
//!
//! A tie to a client is kept by the request that waits, at the desk; here it is known for the start that
//! finds such a job without its client: it then waits for its client before it runs again, and ends when that
//! does not come back.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::core::event::{Effect, LaneId};
use crate::core::{Core, Mode, Timer};
use crate::engine::Tied;
use crate::job::{Holdup, IdMap, JobId, Ready, StopReason, Tie};

/// After a start, the clients of jobs that are tied to them have so long to come back.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// A job that is tied to its client, which a start has found without it.
#[derive(Debug)]
pub struct Unattended {
    pub until: Duration,
    /// Its turn has come, and it waits for its client.
    pub ready: Option<Ready>,
}

impl Core {
    /// `requeued`: the interrupted jobs that are queued again, with their pools, and what keeps them from the
    /// line.
    pub(in crate::core) fn restore_ties(
        &mut self,
        tied: &[Tied],
        requeued: &IdMap<JobId, (Arc<str>, Holdup)>,
    ) {
        for Tied { id, tie, queued_in, holdup, .. } in tied {
            self.ties.add(*id, *tie);
            if let Some((pool, holdup)) = requeued.get(id) {
                self.ties.enqueued(*id, pool, *holdup);
            } else if let Some(pool) = queued_in {
                self.ties.enqueued(*id, pool, *holdup);
            }
            if *tie == Tie::Client {
                let until = self.now.monotonic + CLIENT_PATIENCE;
                self.unattended.insert(*id, Unattended { until, ready: None });
                self.timers.set(until, Timer::Unattended(*id));
            }
        }
        for &Tied { id, tie, .. } in tied.iter().filter(|tied| tied.untied) {
            self.end(id, StopReason::Untied(tie));
        }
    }

    /// The client of a job is back, or takes the place of the one that it was tied to.
    pub(in crate::core) fn attend(&mut self, id: JobId) {
        if let Some(ready) = self.forget_unattended(id) {
            // The engine offers it again, in its old place.
            self.enqueue(id, &ready.work.pool, Holdup::None);
            self.effects.push(Effect::GiveBack(ready));
        }
    }

    /// The job waits for no client any more; it is returned if its turn had come.
    pub(in crate::core) fn forget_unattended(&mut self, id: JobId) -> Option<Ready> {
        let unattended = self.unattended.remove(&id)?;
        self.timers.clear(Some(unattended.until), Timer::Unattended(id));
        unattended.ready
    }

    /// While draining: ends the jobs that are tied to the pool when nothing else is left, or when they hold
    /// every slot, or the room of a label, that others wait for.
    pub(in crate::core) fn end_what_no_drain_waits_for(&mut self) {
        if self.mode != Mode::Draining || self.ties.to_pool.is_empty() {
            return;
        }
        let is_leaving = |id: &JobId| self.ending.contains(id);
        let left = self.ties.to_pool.iter().filter(|(id, _)| !is_leaving(id));
        let startable = |queued: &Queued| self.is_startable(&queued.pool, queued.holdup);
        let queued = left.clone().filter(|(_, queued)| queued.as_ref().is_some_and(startable)).count() as u64;
        let left: Vec<JobId> = left.map(|(&id, _)| id).collect();
        let running = left.iter().filter(|id| self.active.contains_key(id)).count();

        let is_last =
            self.submissions.is_empty() && self.startable_jobs() <= queued && self.active.len() == running;
        let blocks = |id: &JobId| self.active.get(id).is_some_and(|active| self.is_blocked(active.slot.lane));
        // Others wait though no other job runs: where a limit is reached, they may wait for that.
        let is_alone = self.active.len() == running && self.startable_jobs() > queued;
        let fills = |id: &JobId| {
            self.active.get(id).is_some_and(|active| !self.limits.have_room(&active.work.needs.labels))
        };
        let is_in_the_way = |id: &JobId| blocks(id) || is_alone && fills(id);
        let ends: Vec<JobId> = left.into_iter().filter(|id| is_last || is_in_the_way(id)).collect();
        for id in ends {
            self.end(id, StopReason::Untied(Tie::Pool));
        }
    }

    /// Whether others wait for a pool's slots while jobs that are tied to it hold them all.
    fn is_blocked(&self, lane: LaneId) -> bool {
        let LaneId::Pool(id) = lane else { return false };
        let Some(pool) = self.pools.get(id) else { return false };
        let is_tied = |id: JobId| self.ties.of(id) == Some(Tie::Pool);
        let mut running =
            self.active.iter().filter(|(_, active)| active.slot.lane == lane).map(|(&id, _)| id);
        let has_others = pool.queued.all() > self.ties.queued_in(&pool.name);
        let are_taken = !pool.slots.has_idle() || pool.gathering.is_some();
        has_others && are_taken && running.all(is_tied)
    }
}

/// Where a job that is tied to the pool is queued.
#[derive(Debug, PartialEq, Eq)]
struct Queued {
    pool: Arc<str>,
    holdup: Holdup,
}

/// All ties of jobs that have not ended.
#[derive(Debug, Default)]
pub struct Ties {
    of: IdMap<JobId, Tie>,
    to_job: IdMap<JobId, Vec<JobId>>,
    /// Each with where it is queued, if it is.
    to_pool: BTreeMap<JobId, Option<Queued>>,
}

impl Ties {
    pub fn add(&mut self, id: JobId, tie: Tie) {
        self.of.insert(id, tie);
        match tie {
            Tie::Client => {}
            Tie::Job(other) => self.to_job.entry(other).or_default().push(id),
            Tie::Pool => _ = self.to_pool.insert(id, None),
        }
    }

    /// What the job is tied to.
    pub fn of(&self, id: JobId) -> Option<Tie> {
        self.of.get(&id).copied()
    }

    pub fn enqueued(&mut self, id: JobId, pool: &Arc<str>, holdup: Holdup) {
        if let Some(queued) = self.to_pool.get_mut(&id) {
            *queued = Some(Queued { pool: pool.clone(), holdup });
        }
    }

    pub fn dequeued(&mut self, id: JobId) {
        if let Some(queued) = self.to_pool.get_mut(&id) {
            *queued = None;
        }
    }

    /// How many jobs that are tied to a pool are queued in this one.
    fn queued_in(&self, pool: &Arc<str>) -> u64 {
        self.to_pool.values().flatten().filter(|queued| queued.pool == *pool).count() as u64
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

    /// The jobs that are tied to one of these.
    pub fn to_any_of(&self, ids: &RangeInclusive<JobId>) -> Vec<JobId> {
        let tied = self.to_job.iter().filter(|(other, _)| ids.contains(other));
        let mut tied: Vec<JobId> = tied.flat_map(|(_, tied)| tied).copied().collect();
        tied.sort_unstable();
        tied
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && self.to_job.is_empty() && self.to_pool.is_empty()
    }
}
