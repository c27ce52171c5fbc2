//! What tests may see of the core besides its [view](super::view), to hold it to its invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{PoolId, SlotId};
use super::pools::stock::ResourceView;
use super::{Core, Mode, Now, Timer};
use crate::job::{JobId, Queued, StopReason};

/// A pool, as a test looks at it.
#[derive(Debug)]
pub struct PoolAudit {
    pub id: PoolId,
    pub name: Arc<str>,
    pub queued: Queued,
    /// Slots that it is to have.
    pub wanted: u32,
    pub has_idle: bool,
    /// It keeps its idle slots for a job that takes several, or items of resources.
    pub gathers: bool,
    /// The machine had no room for a process, and the pool starts nothing for a while.
    pub backs_off: bool,
    pub is_paused: bool,
}

impl Core {
    /// The pools that each look at all pools walks over.
    pub fn audit_pools(&self) -> Vec<PoolAudit> {
        let backs_off = |id: PoolId| self.timers.iter().any(|timer| timer == Timer::BackedOff(id));
        let audit = |(id, pool): (PoolId, &super::pools::pool::JobPool)| PoolAudit {
            id,
            name: pool.name.clone(),
            queued: pool.queued,
            wanted: pool.slots.wanted(),
            has_idle: pool.slots.has_idle(),
            gathers: pool.gathering.is_some(),
            backs_off: backs_off(id),
            is_paused: pool.pause.is_some(),
        };
        self.pools.iter().map(audit).collect()
    }

    /// Whether the slot, or its successor, is started anew after a while.
    pub fn audit_respawn(&self, slot: SlotId) -> bool {
        self.timers.iter().any(|timer| timer == Timer::Respawn(slot))
    }

    /// Slots that are lent to the jobs of others.
    pub fn audit_lent(&self) -> impl Iterator<Item = (SlotId, u64)> + '_ {
        self.pools.iter().flat_map(|(id, pool)| {
            let lent = pool.slots.iter().filter_map(|(index, _)| Some((index, pool.slots.lent_to(index)?)));
            lent.map(move |(index, job)| (SlotId { lane: super::LaneId::Pool(id), index }, job.0))
        })
    }

    /// The items of resources that attempts of a pool have.
    pub fn audit_items(&self, pool: PoolId) -> impl Iterator<Item = ResourceView> + '_ {
        self.pools.get(pool).into_iter().flat_map(|pool| pool.stock.views())
    }

    /// The time by which deadlines and waits are counted, in microseconds since 1970.
    pub fn audit_clock(&self, now: Now) -> i64 {
        self.due.now_us(now)
    }

    /// Whether an attempt of the job is being ended for good.
    pub fn audit_ends(&self, id: JobId) -> bool {
        if self.arrays.get(&id).is_some_and(|array| array.is_stopping()) {
            return true;
        }
        let reason = self.active.get(&id).and_then(|active| active.stop_reason());
        let is_last =
            |active: &super::Active| !active.work.retries.follow(active.tries.retried, crate::job::TIMED_OUT);
        match reason {
            Some(StopReason::TimedOut | StopReason::Idle) => self.active.get(&id).is_some_and(is_last),
            Some(StopReason::Shutdown) | None => false,
            Some(_) => true,
        }
    }

    /// Whether a worker has the job, or is about to get it.
    pub fn audit_begins(&self, id: JobId) -> bool {
        self.active.contains_key(&id)
    }

    /// Jobs that are queued for pools which do not exist.
    pub fn unserved(&self, pool: &str) -> u64 {
        self.unserved.get(pool).map_or(0, Queued::all)
    }

    /// The jobs that run, by label.
    pub fn audit_labels(&self) -> BTreeMap<Arc<str>, BTreeSet<JobId>> {
        self.limits.by_label()
    }

    /// Whether it still starts jobs.
    pub fn starts_jobs(&self) -> bool {
        self.mode < Mode::Stopping
    }

    /// What it holds for jobs, callbacks and submissions, by name; nothing once all of them have ended.
    pub fn held(&self) -> Vec<&'static str> {
        let held = [
            ("active attempts", !self.active.is_empty()),
            ("arrays", !self.arrays.is_empty()),
            ("limits of arrays", self.limits.has_arrays()),
            ("submissions", !self.submissions.is_empty()),
            ("submissions that are not synced", !self.unsynced.is_empty()),
            ("ends that are not kept", !self.ending.is_empty()),
            ("holds that are not kept", !self.holding.is_empty()),
            ("slots that are lent", self.audit_lent().next().is_some()),
            ("items of resources", self.pools.iter().any(|(_, pool)| !pool.stock.is_untouched())),
            ("slots that are gathered", self.pools.iter().any(|(_, pool)| pool.gathering.is_some())),
            ("labels of running jobs", !self.limits.are_idle()),
            ("ties", !self.ties.is_empty()),
            ("unattended jobs", !self.unattended.is_empty()),
            ("offers", self.pools.iter().any(|(_, pool)| !pool.offers.is_empty())),
            ("submissions into pools", self.pools.iter().any(|(_, pool)| pool.inserting > 0)),
            ("queued jobs", self.pools.iter().any(|(_, pool)| pool.queued.all() > 0)),
            ("jobs of pools that do not exist", self.unserved.values().any(|queued| queued.all() > 0)),
            ("callbacks", !self.lane.is_empty()),
        ];
        held.into_iter().filter(|&(_, is_held)| is_held).map(|(name, _)| name).collect()
    }
}
