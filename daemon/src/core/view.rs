//! What others may see of the core: the desk, for its replies, and the shell.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{self, CallProgress, Input, SlotState, Tier};
use pool_proto::text::rfc3339;

#[cfg(test)]
use super::event::LaneId;
use super::pools::gather::Gathering;
use super::pools::limits::LimitView;
use super::pools::pool::JobPool;
use super::pools::slots::Occupancy;
use super::pools::stock::ResourceView;
use super::{Core, Mode, Now};
use crate::job::{Capacity, Holdup, JobId, Pause, Resources, StopReason, Unit};

/// Whether a signal would reach a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A worker has its attempt.
    Running,
    /// Its attempt has not been handed to its worker: as far as clients see, it is queued.
    NotHanded,
    /// It is not here: the engine knows whether it has ended, is queued, or never was.
    Unknown,
}

impl Core {
    /// Whether new jobs are accepted.
    pub fn is_serving(&self) -> bool {
        self.mode == Mode::Serving
    }

    /// The jobs that workers have, each with its attempt.
    pub fn running(&self) -> impl Iterator<Item = (JobId, u32)> + '_ {
        self.active.iter().map(|(&id, active)| (id, active.tries.attempts))
    }

    /// The same jobs, each with its pool.
    pub fn running_pools(&self) -> impl Iterator<Item = (JobId, Arc<str>)> + '_ {
        self.active.iter().map(|(&id, active)| (id, active.work.pool.clone()))
    }

    /// The pools as clients see them. `containment`: how the attempts of the pool of that name are contained,
    /// and why no better.
    pub fn pools(&self, containment: impl Fn(&str) -> (Tier, Option<String>)) -> Vec<nouns::Pool> {
        self.pools
            .iter()
            .map(|(_, pool)| describe(pool, self.draining(&pool.name), containment(&pool.name)))
            .collect()
    }

    /// How many jobs are in the state `queued`: those in lines, and those that wait for another one of their
    /// unique name.
    pub fn count_queued(&self) -> u64 {
        let of_pool = |pool: &JobPool| pool.queued[Holdup::None] + pool.queued[Holdup::Predecessor];
        self.pools.iter().map(|(_, pool)| of_pool(pool)).sum()
    }

    /// The attempt of a job that the engine has been told the start of, and not the end.
    pub fn attempt_of(&self, id: JobId) -> Option<u32> {
        self.active.get(&id).filter(|active| active.started).map(|active| active.tries.attempts)
    }

    /// Whether clients write the standard input of a job that runs, and how; and its attempt.
    pub fn input_of(&self, id: JobId) -> Option<(u32, Input)> {
        let active = self.active.get(&id).filter(|active| active.started)?;
        Some((active.tries.attempts, active.work.input?))
    }

    /// How far a running call has come, as its program has told last.
    pub fn progress_of(&self, id: JobId) -> Option<CallProgress> {
        self.active.get(&id)?.progress.clone()
    }

    /// The jobs whose end is on its way into the engine.
    pub fn ending(&self) -> impl Iterator<Item = JobId> + '_ {
        self.ending.iter().copied()
    }

    /// Whether the end of that job is on its way into the engine.
    pub fn is_ending(&self, id: JobId) -> bool {
        self.ending.contains(&id)
    }

    /// Since when the attempt of a job stands still, in microseconds since 1970.
    pub fn frozen_since_us(&self, id: JobId) -> Option<i64> {
        Some(self.active.get(&id)?.frozen?.since_us)
    }

    /// Whether what runs for the job is a call.
    pub fn is_call(&self, id: JobId) -> bool {
        self.active.get(&id).is_some_and(|active| active.work.call().is_some())
    }

    /// Why the attempt of a job is being ended, where it is.
    pub fn stop_of(&self, id: JobId) -> Option<StopReason> {
        self.active.get(&id)?.stop_reason()
    }

    /// All limits of labels.
    pub fn limits(&self) -> Vec<LimitView> {
        self.limits.views()
    }

    pub fn count_limits(&self) -> usize {
        self.limits.count_limits()
    }

    /// The limit of a label, if it has one.
    pub fn limit_of(&self, label: &str) -> Option<LimitView> {
        self.limits.view(label)
    }

    /// What the pool of that name has for its jobs.
    pub fn capacity_of(&self, name: &str) -> Option<&Capacity> {
        self.pools.named(name).map(|pool| &pool.capacity)
    }

    /// The same of all pools.
    pub fn capacities(&self) -> Vec<(Arc<str>, Capacity)> {
        self.pools.iter().map(|(_, pool)| (pool.name.clone(), pool.capacity.clone())).collect()
    }

    /// The job for which the pool of that name gathers slots and items of resources.
    pub fn gathers(&self, name: &str) -> Option<&Gathering> {
        self.pools.named(name)?.gathering.as_ref()
    }

    /// The first of these resources of a pool of which too little is free.
    pub fn lacking_resource(&self, name: &str, takes: &Resources) -> Option<ResourceView> {
        let stock = &self.pools.named(name)?.stock;
        let lacking = stock.lacking(takes)?;
        stock.views().find(|view| view.name == lacking)
    }

    /// The first of these labels whose limit is reached.
    pub fn full_limit(&self, labels: &[String]) -> Option<LimitView> {
        self.limits.full(labels)
    }

    /// How long something waits yet that is due at that time, in microseconds since 1970.
    pub fn left_until(&self, now: Now, due_us: i64) -> Duration {
        self.due.moment_of(now, due_us).saturating_sub(now.monotonic)
    }

    /// The slots of a pool as clients see them; none where it does not exist, or only finishes what it runs.
    pub fn slots_of(&self, name: &str) -> Vec<nouns::Slot> {
        self.pools.named(name).map(describe_slots).unwrap_or_default()
    }

    /// Whether each slot of the pool has a job.
    pub fn are_all_busy(&self, name: &str) -> bool {
        self.slots_of(name).iter().all(|slot| slot.job.is_some())
    }

    /// How long the jobs have run that the slots of the pool have; none where some slot has none.
    pub fn busy_for(&self, name: &str, now: Now) -> Option<Vec<Duration>> {
        let since = |slot: nouns::Slot| {
            let active = self.active.get(&JobId(slot.job?))?;
            Some(now.monotonic.saturating_sub(active.since.monotonic))
        };
        self.slots_of(name).into_iter().map(since).collect()
    }

    /// Whether a signal would reach the job.
    pub fn reachable(&self, id: JobId) -> Reach {
        match self.active.get(&id) {
            // Its elements run.
            None if self.is_begun_array(id) => Reach::Running,
            // It may be running without our knowing yet; its worker reads a signal after the order to start
            // it.
            Some(active) if active.handed && active.ahead.is_none() || active.work.call().is_some() => {
                Reach::Running
            }
            Some(_) => Reach::NotHanded,
            None => Reach::Unknown,
        }
    }

    /// A pool of that name, for those that want to submit to it: as [`pool_kind`](Self::pool_kind), but not
    /// one that has been taken out.
    pub fn open_pool(&self, name: &str) -> Option<(Arc<str>, bool)> {
        let pool = self.pools.named(name).filter(|pool| pool.slots.wanted() > 0)?;
        Some((pool.name.clone(), pool.slots.is_warm()))
    }

    /// A pool of that name, even if it only finishes what it runs: its name to share, and whether it takes
    /// calls, not commands.
    pub fn pool_kind(&self, name: &str) -> Option<(Arc<str>, bool)> {
        self.pools.named(name).map(|pool| (pool.name.clone(), pool.slots.is_warm()))
    }

    /// The calls that run in a pool, in the order of its slots.
    pub fn calls_in(&self, name: &str) -> Vec<JobId> {
        let slots = self.pools.named(name).into_iter().flat_map(|pool| pool.slots.iter());
        slots
            .filter_map(|(_, slot)| match slot {
                Occupancy::Busy { unit: Unit::Job(id), .. } => Some(id),
                _ => None,
            })
            .collect()
    }

    /// The name of a lane's pool; none for the callbacks' lane, and for a pool that has gone.
    #[cfg(test)]
    pub fn pool_name(&self, lane: LaneId) -> Option<Arc<str>> {
        match lane {
            LaneId::Pool(id) => self.pools.get(id).map(|pool| pool.name.clone()),
            LaneId::Callbacks => None,
        }
    }
}

fn describe(
    pool: &JobPool,
    draining: Option<Pause>,
    (containment, containment_note): (Tier, Option<String>),
) -> nouns::Pool {
    let slots = describe_slots(pool);
    let running = slots.iter().filter(|slot| slot.state == SlotState::Busy).count();
    nouns::Pool {
        name: pool.name.to_string(),
        workers: pool.slots.wanted(),
        queued: pool.queued.all(),
        running: running as u32,
        containment,
        containment_note,
        paused: pool.pause.is_some(),
        paused_since: pool.pause.map(|pause| rfc3339(pause.since_us)),
        paused_by: pool.pause.map(|pause| pause.by.get()),
        backfill: pool.backfill,
        gathering_for: pool.gathering.as_ref().map(|gathering| gathering.id.0),
        draining_since: draining.map(|draining| rfc3339(draining.since_us)),
        draining_by: draining.map(|draining| draining.by.get()),
        command: pool.program.as_ref().map(|program| program.command.clone()),
        too_small_for: pool
            .too_small_for
            .as_ref()
            .and_then(|needs| pool.capacity.shortfall(needs))
            .map(|shortfall| shortfall.to_string()),
        resources: pool.stock.views().map(describe_resource).collect(),
        slots,
    }
}

fn describe_resource(view: ResourceView) -> nouns::Resource {
    let item = |(item, job): (Arc<str>, Option<JobId>), removed: bool| nouns::ResourceItem {
        item: item.to_string(),
        job: job.map(|id| id.0),
        removed: removed.then_some(true),
    };
    let items = view.items.into_iter().map(|of| item(of, false));
    let removed = view.removed.into_iter().map(|(name, id)| item((name, Some(id)), true));
    nouns::Resource { name: view.name.to_string(), items: items.chain(removed).collect() }
}

fn describe_slots(pool: &JobPool) -> Vec<nouns::Slot> {
    let describe_slot = |(index, slot): (u32, Occupancy)| {
        let job = match slot {
            Occupancy::Busy { unit: Unit::Job(id), .. } => Some(id.0),
            Occupancy::Busy { unit: Unit::Callback(_), .. } => None,
            Occupancy::Retired { .. } => return None,
            // It belongs to the job of another slot, whether it has a worker or not.
            Occupancy::Down { .. }
            | Occupancy::Starting { .. }
            | Occupancy::Idle { .. }
            | Occupancy::Spoilt { .. }
                if pool.slots.lent_to(index).is_some() =>
            {
                pool.slots.lent_to(index).map(|id| id.0)
            }
            Occupancy::Down { .. }
            | Occupancy::Starting { .. }
            | Occupancy::Idle { .. }
            | Occupancy::Spoilt { .. } => None,
        };
        let state = pool.slots.state(index);
        let is_well = matches!(state, SlotState::Idle | SlotState::Busy) && !pool.slots.is_worn(index);
        let reason = pool.slots.reason(index).filter(|_| !is_well);
        let resident = pool.slots.resident(index);
        let program_pid = resident.process.map(|process| process.pid.get());
        let calls = program_pid.map(|_| resident.calls);
        let pid = slot.pid().map(|pid| pid.get());
        Some(nouns::Slot { slot: index, pid, state, job, reason, program_pid, calls })
    };

    pool.slots.iter().filter_map(describe_slot).collect()
}
