//! Pools that somebody has paused: such a pool starts nothing until it is resumed. What runs in it goes on,
//! unless it is frozen with the pool ([`freeze`](crate::core::jobs::freeze)); its programs stay up, and what is
//! submitted to it waits.
//!
//! The desk keeps the pauses, and says which are in force. A pause is in force as soon as it is asked for,
//! before it is on disk. So when it is on disk, the start of every attempt that must not run twice, and that
//! was asked for before, has been confirmed: nothing starts behind it.

use std::sync::Arc;

use super::pool::JobPool;
use crate::core::Core;
use crate::core::event::{Fact, PoolId};
use crate::job::Pause;

impl Core {
    /// Whether all that the latest pause of that pool, or its end, has brought about has come true: no worker
    /// has an attempt of a paused pool ahead, which it might yet begin.
    pub fn is_settled(&self, name: &str) -> bool {
        self.pools.named(name).is_none_or(|pool| pool.is_settled)
    }

    /// That pool is paused from now on, or without a pause it is not.
    pub(in crate::core) fn set_pause(&mut self, name: &Arc<str>, pause: Option<Pause>) {
        if pause.is_none() {
            self.thaw_pool(name);
        }
        match (self.pools.id_of(name), pause) {
            (Some(id), pause) => self.set_pause_of(id, pause),
            (None, Some(pause)) => _ = self.pauses.insert(name.clone(), pause),
            (None, None) => _ = self.pauses.remove(name),
        }
    }

    fn set_pause_of(&mut self, id: PoolId, pause: Option<Pause>) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        if pool.pause != pause {
            (pool.pause, pool.is_settled) = (pause, false);
            // Whatever else it was that kept its jobs from starting.
            pool.is_stalled = false;
            self.stirred.insert(id);
        }
    }

    /// A job has come back into the line of that pool. Where the pool is paused, whoever waits for the job is
    /// told what the job waits for now.
    pub(in crate::core) fn came_back(&mut self, name: &Arc<str>) {
        let Some(id) = self.pools.id_of(name) else { return };
        if let Some(pool) = self.pools.get_mut(id).filter(|pool| pool.pause.is_some()) {
            pool.is_stalled = false;
            self.stirred.insert(id);
        }
    }

    /// Tells when a pause, or its end, has come true.
    pub(in crate::core) fn tell_settled(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        if !pool.is_settled && !pool.may_begin_more() {
            pool.is_settled = true;
            let pool = pool.name.clone();
            self.tell(Fact::Settled { pool });
        }
    }
}

impl JobPool {
    /// Whether it is paused and a worker has an attempt ahead, which is on its way back, or begins after all.
    pub fn may_begin_more(&self) -> bool {
        self.pause.is_some() && self.slots.ahead().next().is_some()
    }
}
