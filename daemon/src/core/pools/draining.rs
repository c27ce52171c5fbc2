//! Pools that somebody drains: such a pool takes no new jobs, and works off what it has. Nobody keeps that:
//! it ends with the daemon, unlike a pause, and with whoever wants the pool to take jobs again.

use std::sync::Arc;

use crate::core::Core;
use crate::core::event::{Denial, Fact, LaneId};
use crate::job::Pause;

/// That a pool is being drained.
#[derive(Debug)]
pub struct Draining {
    /// By whom, and since when.
    by: Pause,
    /// That it is empty has been told.
    is_told: bool,
}

impl Core {
    /// Whether, by whom and since when the pool of that name is being drained.
    pub fn draining(&self, name: &str) -> Option<Pause> {
        self.draining.get(name).map(|draining| draining.by)
    }

    /// The pools that are being drained: none of their jobs is run again, or released.
    pub fn closed_pools(&self) -> Vec<Arc<str>> {
        self.draining.keys().cloned().collect()
    }

    /// The pool takes no new jobs from now on, or takes them again.
    pub(in crate::core) fn set_draining(&mut self, name: &Arc<str>, by: Option<Pause>) {
        match (by, self.draining.get_mut(name)) {
            // Whoever drains it as well is told, too.
            (Some(_), Some(draining)) => draining.is_told = false,
            (Some(by), None) => _ = self.draining.insert(name.clone(), Draining { by, is_told: false }),
            (None, _) => _ = self.draining.remove(name),
        }
    }

    pub(in crate::core) fn check_draining(&self, name: &Arc<str>) -> Result<(), Denial> {
        match self.draining.contains_key(name) {
            true => Err(Denial::PoolDraining { pool: name.clone() }),
            false => Ok(()),
        }
    }

    /// Tells of the pools that are empty by now.
    pub(in crate::core) fn tell_drained(&mut self) {
        if self.draining.is_empty() {
            return;
        }
        let untold = self.draining.iter().filter(|(_, draining)| !draining.is_told);
        let empty: Vec<Arc<str>> =
            untold.filter(|(name, _)| self.has_nothing_to_do(name)).map(|(name, _)| name.clone()).collect();
        for pool in empty {
            if let Some(draining) = self.draining.get_mut(&pool) {
                draining.is_told = true;
            }
            self.tell(Fact::Drained { pool });
        }
    }

    /// Whether nothing runs in the pool, and nothing that is queued there can be started soon. What waits for
    /// a person, for others or for long does not count, as for the end of the daemon.
    fn has_nothing_to_do(&self, name: &Arc<str>) -> bool {
        let Some(id) = self.pools.id_of(name) else { return true };
        let runs = self.active.values().any(|active| active.slot.lane == LaneId::Pool(id));
        let is_coming = self.pools.get(id).is_some_and(|pool| pool.inserting > 0);
        !runs && !is_coming && self.startable_in_pool(id) == 0
    }
}
