//! Jobs that take several slots of their pool, or items of its resources. Such a job starts when all of that
//! is free at the same time. When it is the best one that is offered, its pool gathers: slots and items that
//! become free are kept for it, and nothing behind it starts. So it does not starve; and since what runs
//! waits for nobody's slots and items, it gets them.
//!
//! ```text
//!   best of the offers ── all is free ──▶ runs in one slot, has the others lent
//!        │  ▲
//!        ▼  │ nothing else is as urgent
//!      gathers ── canceled, held, moved, something more urgent comes, its pool is paused ──▶ others go on
//! ```
//!
//! Meanwhile it counts as running for its labels, which it had room for: or other pools could take that from
//! it again and again. With `backfill` those behind it that fit into what is free start all the same, unless
//! they take what it needs; until sixteen have passed it.

use std::sync::Arc;

use super::pool::JobPool;
use crate::core::event::{Effect, LaneId, PoolId};
use crate::core::{Core, Mode};
use crate::engine::Offer;
use crate::job::{Capacity, Items, JobId, Needs};

/// So many jobs behind it may start while a job gathers what it takes.
const PATIENCE: u32 = if cfg!(test) { 4 } else { 16 };

/// A job that waits for several slots, or for items of resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathering {
    pub id: JobId,
    pub needs: Needs,
}

impl Core {
    /// The pool gathers for its best job, if that needs more than is free, and for no other any more.
    pub(in crate::core) fn gather(&mut self, id: PoolId) {
        let (now, starts_jobs) = (self.now.monotonic, self.mode < Mode::Stopping);
        let Some(pool) = self.pools.get_mut(id) else { return };
        let gathers = |best: &&Offer| {
            starts_jobs && pool.pause.is_none() && !pool.offers.rests(now) && !pool.has_all_for(best)
        };
        let best = pool.offers.best().filter(|best| takes_more(&best.ready.work.needs)).filter(gathers);
        let best = best.filter(|best| !self.unattended.contains_key(&best.ready.id));
        let wanted = best.map(|best| Gathering { id: best.ready.id, needs: best.ready.work.needs.clone() });
        if pool.gathering == wanted {
            return;
        }

        let before = std::mem::replace(&mut pool.gathering, wanted.clone());
        if let Some(Gathering { id, needs }) = wanted {
            self.occupy(id, &needs.labels);
        }
        // If it runs by now it goes on having the room.
        if let Some(Gathering { id, needs }) = before.filter(|before| !self.active.contains_key(&before.id)) {
            self.leave_labels(id, &needs.labels);
        }
    }

    /// A job behind the one that gathers, which may start before it.
    pub(in crate::core) fn backfill(&mut self, id: PoolId) -> Option<Offer> {
        let now = self.now.monotonic;
        let pool = self.pools.get_mut(id).filter(|pool| pool.backfill && !pool.offers.rests(now))?;
        let first = pool.offers.best()?.ready.clone();
        if pool.offers.passes(first.id) >= PATIENCE {
            return None;
        }
        let limits = &self.limits;
        let takes_from_first = |needs: &Needs| {
            let shared = needs.labels.iter().filter(|label| first.work.needs.labels.has(label));
            needs.resources.share(&first.work.needs.resources) || limits.apply_to(&shared.cloned().collect())
        };
        let may_pass = |offer: &&Offer| {
            let needs = &offer.ready.work.needs;
            // An array takes no slot: it begins otherwise.
            let is_array = offer.ready.work.plan().is_some();
            !is_array
                && pool.has_all_for(offer)
                && limits.have_room(&needs.labels)
                && !takes_from_first(needs)
        };
        let passes = pool.offers.others().find(may_pass)?.ready.id;
        pool.offers.pass(first.id);
        pool.offers.remove(passes)
    }

    /// The attempt of a job that takes several slots, or items of resources, is over.
    pub(in crate::core) fn take_back(&mut self, id: JobId, lane: LaneId, needs: &Needs) {
        let LaneId::Pool(pool_id) = lane else { return };
        let Some(pool) = self.pools.get_mut(pool_id) else { return };
        if needs.slots > 1 {
            pool.slots.take_back(id);
        }
        if !needs.resources.is_empty() {
            pool.stock.give_back(id);
        }
        if takes_more(needs) {
            self.stirred.insert(pool_id);
        }
    }

    /// The items of resources that the attempt of a job has.
    pub fn items_of(&self, id: JobId) -> Items {
        let lane = self.active.get(&id).map(|active| active.slot.lane);
        let Some(LaneId::Pool(pool)) = lane else { return Items::new() };
        let items = self.pools.get(pool).and_then(|pool| pool.stock.of(id));
        items.cloned().unwrap_or_default()
    }

    /// Tells the engine what a pool has, where that is another thing than before.
    pub(in crate::core) fn tell_capacity(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        let capacity = Capacity { slots: pool.slots.wanted(), resources: pool.stock.amounts() };
        if pool.capacity != capacity {
            pool.capacity = capacity.clone();
            pool.is_beyond = false;
            // Something better may fit now than what is at hand.
            self.asking.insert(id);
            self.effects.push(Effect::SetCapacity { pool: pool.name.clone(), capacity });
        }
    }

    /// All that is in the lines of a pool needs more than the pool has.
    pub(in crate::core) fn on_beyond_capacity(&mut self, name: &Arc<str>) {
        let Some(id) = self.pools.id_of(name) else { return };
        if let Some(pool) = self.pools.get_mut(id).filter(|pool| !pool.is_beyond) {
            pool.is_beyond = true;
            self.stirred.insert(id);
        }
    }
}

impl JobPool {
    /// Whether the slots and the items of resources are free that an offer takes.
    pub fn has_all_for(&self, offer: &Offer) -> bool {
        let needs = &offer.ready.work.needs;
        self.slots.has_idle_for(needs.slots) && self.stock.has_free(&needs.resources)
    }

    /// Whether it starts nothing of what is in its lines, since all of that needs more than it has.
    pub fn is_beyond_capacity(&self) -> bool {
        self.is_beyond && self.offers.is_empty()
    }
}

/// Whether a job takes more than one slot, so that its pool may have to gather that.
fn takes_more(needs: &Needs) -> bool {
    needs.slots > 1 || !needs.resources.is_empty()
}
