//! Pools and slots: a reading of poold, kept up to date by events.

use pool_proto::State;
use pool_proto::nouns::{Pool, SlotState};

use super::job::Job;
use crate::tell::pool::taken_of;

/// All pools, in poold's order.
#[derive(Debug, Default)]
pub struct Pools {
    pub all: Vec<PoolRow>,
    /// Counts changes by events.
    changes: u64,
}

/// A pool.
#[derive(Debug)]
pub struct PoolRow {
    pub name: String,
    pub queued: u64,
    pub is_paused: bool,
    /// How many items of its resources are taken, in words.
    pub resources: String,
    pub slots: Vec<SlotRow>,
}

/// A slot.
#[derive(Debug)]
pub struct SlotRow {
    pub number: u32,
    pub state: SlotState,
    pub job: Option<Job>,
    pub reason: Option<String>,
    /// The count of changes when an event changed it last.
    changed: u64,
}

impl PoolRow {
    /// How many slots have a job.
    pub fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| slot.job.is_some()).count()
    }
}

impl Pools {
    /// The count of changes so far, to be given to [`take`](Self::take) with a reading that is asked for now.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes a reading. Slots that have changed by events since it was asked for, at the count `asked_at`,
    /// stay: all events up to the reading have been heard when it comes.
    pub fn take(&mut self, pools: Vec<Pool>, asked_at: u64) {
        let mut before: Vec<PoolRow> = std::mem::take(&mut self.all);
        for pool in pools {
            let known = before.iter().position(|known| known.name == pool.name);
            let mut known = known.map(|place| before.swap_remove(place).slots).unwrap_or_default();
            let slots = pool.slots.into_iter().map(|slot| {
                let before = known.iter().position(|known| known.number == slot.slot);
                let before = before.map(|place| known.swap_remove(place));
                if let Some(before) = before.as_ref().filter(|before| before.changed > asked_at) {
                    return SlotRow { job: before.job.clone(), reason: before.reason.clone(), ..*before };
                }
                let (changed, job) = before.map_or((0, None), |before| (before.changed, before.job));
                let job = slot.job.map(|id| match job {
                    Some(job) if job.id == id => job,
                    _ => Job::bare(id, &pool.name, State::Running),
                });
                SlotRow { number: slot.slot, state: slot.state, job, reason: slot.reason, changed }
            });
            let slots = slots.collect();
            let resources = taken_of(&pool.resources);
            let (queued, is_paused) = (pool.queued, pool.paused);
            self.all.push(PoolRow { name: pool.name, queued, is_paused, resources, slots });
        }
    }

    /// The pool of that name.
    pub fn find(&self, name: &str) -> Option<&PoolRow> {
        self.all.iter().find(|pool| pool.name == name)
    }

    /// The same, to be changed.
    pub fn find_mut(&mut self, name: &str) -> Option<&mut PoolRow> {
        self.all.iter_mut().find(|pool| pool.name == name)
    }

    /// A slot of a pool.
    pub fn slot(&self, pool: &str, number: u32) -> Option<&SlotRow> {
        self.find(pool)?.slots.iter().find(|slot| slot.number == number)
    }

    /// The slot that has the job.
    fn slot_of(&mut self, id: u64) -> Option<&mut SlotRow> {
        let slots = self.all.iter_mut().flat_map(|pool| &mut pool.slots);
        slots.into_iter().find(|slot| slot.job.as_ref().is_some_and(|job| job.id == id))
    }

    /// The job, if it has a slot.
    pub fn job(&self, id: u64) -> Option<&Job> {
        let slots = self.all.iter().flat_map(|pool| &pool.slots);
        slots.filter_map(|slot| slot.job.as_ref()).find(|job| job.id == id)
    }

    /// The same.
    pub fn job_mut(&mut self, id: u64) -> Option<&mut Job> {
        self.slot_of(id)?.job.as_mut()
    }

    /// The slot has that job from now on.
    pub fn begin(&mut self, pool: &str, number: u32, job: Job) {
        self.changes += 1;
        let changed = self.changes;
        let Some(pool) = self.find_mut(pool) else { return };
        pool.queued = pool.queued.saturating_sub(1);
        if let Some(slot) = pool.slots.iter_mut().find(|slot| slot.number == number) {
            *slot = SlotRow { number, state: SlotState::Busy, job: Some(job), reason: None, changed };
        }
    }

    /// The job has no slot any more; returns it if it had one.
    pub fn end(&mut self, id: u64) -> Option<Job> {
        self.changes += 1;
        let changed = self.changes;
        let slot = self.slot_of(id)?;
        slot.changed = changed;
        slot.state = SlotState::Idle;
        slot.job.take()
    }

    /// A slot's worker has come or gone.
    pub fn set_slot(&mut self, pool: &str, number: u32, state: SlotState, reason: Option<String>) {
        self.changes += 1;
        let changed = self.changes;
        let Some(pool) = self.find_mut(pool) else { return };
        if let Some(slot) = pool.slots.iter_mut().find(|slot| slot.number == number) {
            let state = if slot.job.is_some() { slot.state } else { state };
            *slot = SlotRow { number, state, job: slot.job.take(), reason, changed };
        }
    }

    /// More, or fewer, jobs of the pool are queued.
    pub fn queue(&mut self, pool: &str, change: i64) {
        if let Some(pool) = self.find_mut(pool) {
            pool.queued = pool.queued.saturating_add_signed(change);
        }
    }

    /// How many slots there are, and how many have a job.
    pub fn slots(&self) -> (usize, usize) {
        let count =
            |(all, busy): (usize, usize), pool: &PoolRow| (all + pool.slots.len(), busy + pool.busy());
        self.all.iter().fold((0, 0), count)
    }

    /// How many jobs are queued in all pools.
    pub fn queued(&self) -> u64 {
        self.all.iter().map(|pool| pool.queued).sum()
    }
}
