//! Pools that start nothing of what is queued in them, and why: a fact for whoever waits for such a job, and
//! for a drain, which does not wait for what cannot run.

use pool_proto::text::rfc3339;

use super::pool::JobPool;
use super::slots::Slots;
use crate::core::Core;
use crate::core::event::{Fact, PoolId};
use crate::job::Pause;

/// Shortages of a pool, or deaths of a slot's workers, in a row, after which nobody counts on the next try.
pub const LASTS_AFTER: u32 = 5;

/// Why a pool starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// As a clause: "no program is up: ...".
    pub reason: String,
    /// Waiting alone does not seem to end it.
    pub lasts: bool,
}

impl Core {
    /// Why nothing that is queued in the pool of that name starts, if so.
    pub fn stall_of(&self, name: &str) -> Option<Stall> {
        match self.pools.named(name) {
            Some(pool) => pool.stall(),
            None => Some(no_such_pool(name)),
        }
    }

    /// Tells when a pool has stalled; that it goes on shows in the starts.
    pub(in crate::core) fn tell_stall(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        let is_stalled = pool.queued.all() > 0 && pool.stall().is_some() && !pool.may_begin_more();
        if std::mem::replace(&mut pool.is_stalled, is_stalled) || !is_stalled {
            return;
        }
        let pool = pool.name.clone();
        self.tell(Fact::Stalled { pool });
    }
}

impl JobPool {
    pub fn stall(&self) -> Option<Stall> {
        if self.slots.wanted() == 0 {
            return Some(no_such_pool(&self.name));
        }
        if let Some(pause) = &self.pause {
            return Some(paused(&self.name, pause));
        }
        if let Some(reason) = &self.shortage {
            return Some(Stall { reason: reason.clone(), lasts: self.offers.shortages() >= LASTS_AFTER });
        }
        if self.is_beyond_capacity() {
            return Some(beyond_capacity(&self.name));
        }
        let what = if self.slots.is_warm() { "program" } else { "worker" };
        let (why, lasts) = stall_of_slots(&self.slots)?;
        let name = &self.name;
        Some(Stall { reason: format!("no {what} of the pool {name:?} is up: {why}"), lasts })
    }
}

fn no_such_pool(name: &str) -> Stall {
    Stall { reason: format!("there is no pool {name:?} any more"), lasts: true }
}

fn paused(name: &str, pause: &Pause) -> Stall {
    let since = rfc3339(pause.since_us);
    let reason = format!("pool {name} is paused since {since}: `poolctl pool resume {name}` lets it go on");
    Stall { reason, lasts: true }
}

fn beyond_capacity(name: &str) -> Stall {
    let reason = format!("all that waits in pool {name} needs more slots or resources than the pool has");
    Stall { reason, lasts: true }
}

/// Why no slot has a worker that could take something, where each has lost one at least; and whether each
/// has lost several in a row.
pub fn stall_of_slots(slots: &Slots) -> Option<(String, bool)> {
    if slots.has_idle() || slots.wanted() == 0 {
        return None;
    }
    let mut lasts = true;
    for index in 0..slots.wanted() {
        let failures = slots.failures_of_down(index).filter(|&failures| failures > 0)?;
        lasts &= failures >= LASTS_AFTER;
    }
    let why = (0..slots.wanted()).find_map(|index| slots.reason(index)).unwrap_or_default();
    Some((why, lasts))
}
