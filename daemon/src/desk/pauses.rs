//! Pools that are paused and resumed. The desk knows the pauses that are kept, and tells the core which are
//! in force: those that are kept, and those that are on their way to the disk. So a pause is in force from
//! the request on, and its end once that is kept: nothing starts in a pool that the next start may find
//! paused.
//!
//! Pools that are drained are here as well. The core alone knows of these, and nothing keeps them.

use std::collections::BTreeSet;
use std::sync::Arc;

use pool_proto::Refusal;
use pool_proto::methods::{Empty, SetPaused};

use super::request::Open;
use super::{ConnectionId, Desk, Effect};
use crate::core::{self, Core};
use crate::engine::Change;
use crate::job::{Pause, RequestId};

/// Pools on their way to be paused or resumed, on behalf of a request.
#[derive(Debug)]
pub struct PauseChange {
    pub pools: Vec<String>,
    /// None where they are resumed.
    pause: Option<Pause>,
    /// It is on disk, and its client is told when attempts that were handed out ahead are back.
    pub is_kept: bool,
    /// Its client has gone. The change is made all the same.
    pub is_forsaken: bool,
}

impl Desk {
    pub(super) fn on_set_paused(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        asked: SetPaused,
        core: &Core,
    ) {
        let SetPaused { pools, paused, freeze } = asked;
        if let Some(unknown) = pools.iter().find(|pool| !self.can_be_paused(pool, core)) {
            return self.refuse(request, Refusal::NoSuchPool { pool: unknown.clone() });
        }

        if !paused {
            self.take_jobs_again(&pools, core);
        }
        let frozen = if paused && freeze == Some(true) { pools.clone() } else { Vec::new() };
        let changes = |pool: &String| self.pauses.contains_key(pool) != paused || self.is_pausing(pool);
        let pools: BTreeSet<String> = pools.into_iter().filter(changes).collect();
        if pools.is_empty() {
            self.freeze_pools(frozen);
            return self.reply(request, Empty {}, true);
        }

        let by = self.clients.get(&connection).expect("a client connects before it asks").uid;
        let pause = paused.then_some(Pause { since_us: self.now.wall_us, by });
        let pools = Vec::from_iter(pools);
        let change = PauseChange { pools: pools.clone(), pause, is_kept: false, is_forsaken: false };
        self.requests.insert(request, Open::Pausing(change));
        self.enforce_pauses(&pools);
        self.freeze_pools(frozen);
        self.effects.push(Effect::Change(Change::SetPause { request, pools, pause }));
    }

    /// The pool takes no new jobs. With `more` the client is told when it has nothing to do any more.
    pub(super) fn on_drain_pool(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        pool: &str,
        more: bool,
        core: &Core,
    ) {
        let Some((pool, _)) = core.open_pool(pool) else {
            return self.refuse(request, Refusal::NoSuchPool { pool: pool.to_owned() });
        };
        let by = self.clients.get(&connection).expect("a client connects before it asks").uid;
        if more {
            self.requests.insert(request, Open::DrainingPool(pool.clone()));
        } else {
            self.reply(request, Empty {}, true);
        }
        let by = Some(Pause { since_us: self.now.wall_us, by });
        self.command(core::Event::SetDraining { pool, by });
    }

    pub(super) fn on_pool_drained(&mut self, pool: &str) {
        let waits = |open: &Open| matches!(open, Open::DrainingPool(drained) if **drained == *pool);
        for request in self.requests.that(waits) {
            self.reply(request, Empty {}, true);
        }
    }

    /// Whoever waits for the end of a drain that somebody has ended is told so.
    fn take_jobs_again(&mut self, pools: &[String], core: &Core) {
        for pool in pools.iter().filter(|pool| core.draining(pool).is_some()) {
            let waits = |open: &Open| matches!(open, Open::DrainingPool(drained) if **drained == **pool);
            for request in self.requests.that(waits) {
                let reason = format!("the pool {pool:?} was told to take jobs again: its drain is over");
                self.refuse(request, Refusal::InvalidPool { field: "name".to_owned(), reason });
            }
            self.command(core::Event::SetDraining { pool: Arc::from(pool.as_str()), by: None });
        }
        self.try_schedules_again();
    }

    /// What runs there stands still until the pool is resumed, or its pause has failed to be kept.
    fn freeze_pools(&mut self, pools: Vec<String>) {
        for pool in pools {
            self.command(core::Event::FreezePool { pool: Arc::from(pool) });
        }
    }

    /// Whether there is such a pool, and nobody is removing it; one that is paused may have gone from the
    /// configuration.
    fn can_be_paused(&self, pool: &str, core: &Core) -> bool {
        let is_known = core.open_pool(pool).is_some() || self.pauses.contains_key(pool);
        is_known && !self.is_changing(pool)
    }

    /// Whether a request that is not over pauses or resumes the pool.
    fn is_pausing(&self, pool: &String) -> bool {
        self.requests.any(|open| matches!(open, Open::Pausing(change) if change.pools.contains(pool)))
    }

    /// Tells the core which of these pools are paused from now on.
    pub(super) fn enforce_pauses(&mut self, pools: &[String]) {
        for pool in pools {
            let pause = self.pauses.get(pool).copied().or_else(|| self.pause_under_way(pool));
            self.command(core::Event::SetPause { pool: Arc::from(pool.as_str()), pause });
        }
    }

    /// The first pause of that pool that is on its way to the disk.
    fn pause_under_way(&self, pool: &String) -> Option<Pause> {
        let pausing = self.requests.that(|open| matches!(open, Open::Pausing(change) if !change.is_kept));
        pausing.into_iter().find_map(|request| match self.requests.get(request) {
            Some(Open::Pausing(change)) if change.pools.contains(pool) => change.pause,
            _ => None,
        })
    }

    /// Pools are paused or resumed, and that is kept.
    pub(super) fn on_paused(&mut self, request: RequestId, core: &Core) {
        let Some(Open::Pausing(change)) = self.requests.get_mut(request) else { return };
        change.is_kept = true;
        let (pools, pause, is_forsaken) = (change.pools.clone(), change.pause, change.is_forsaken);
        for pool in &pools {
            self.keep_pause(pool, pause);
        }
        self.enforce_pauses(&pools);

        if is_forsaken {
            self.requests.remove(request);
        }
        self.reply_paused(core);
    }

    fn keep_pause(&mut self, pool: &str, pause: Option<Pause>) {
        let has_changed = self.pauses.contains_key(pool) != pause.is_some();
        match pause {
            Some(pause) => _ = self.pauses.entry(pool.to_owned()).or_insert(pause),
            None => _ = self.pauses.remove(pool),
        }
        if has_changed {
            self.hear_of_pause(pool, pause.is_some());
        }
    }

    /// A pool that was added has been removed.
    pub(super) fn forget_pause(&mut self, pool: &str) {
        if self.pauses.remove(pool).is_some() {
            self.enforce_pauses(&[pool.to_owned()]);
        }
    }

    /// Replies to those whose pauses are kept, and have come true.
    pub(super) fn reply_paused(&mut self, core: &Core) {
        let is_done = |open: &Open| match open {
            Open::Pausing(change) => change.is_kept && change.pools.iter().all(|pool| core.is_settled(pool)),
            _ => false,
        };
        for request in self.requests.that(is_done) {
            self.reply(request, Empty {}, true);
        }
    }
}
