//! Attempts that stand still, since a client has paused them or their pool: all that belongs to such an
//! attempt is frozen by its worker. Its timeout stands still with it; the deadline of its job does not.
//!
//! That an attempt is frozen is kept nowhere: with its worker, or with poold, the attempt dies, and the next
//! one is another.
//!
//! ```text
//!   running ──▶ frozen ──▶ running
//!                 │
//!                 └──▶ being ended: SIGTERM waits for it when it is let go
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Phase;
use crate::core::event::Effect;
use crate::core::{Core, Timer};
use crate::job::{JobId, Unit};

/// An attempt that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// Microseconds since 1970.
    pub since_us: i64,
    /// So much of its timeout is left.
    pub left: Option<Duration>,
    /// It goes on when its pool is resumed.
    pub with_pool: bool,
}

impl Core {
    /// Freezes an attempt that a worker has begun with, or is about to. An attempt that is frozen with its
    /// pool stays so from now on until it is thawed by itself, unless it is meant with its pool once more.
    pub(in crate::core) fn freeze(&mut self, id: JobId, with_pool: bool) {
        let now = self.now;
        let Some(active) = self.active.get_mut(&id) else { return };
        if let Some(frozen) = &mut active.frozen {
            frozen.with_pool &= with_pool;
            return;
        }
        let Phase::Running { deadline } = active.phase else { return };
        if !active.is_at_work() {
            return;
        }

        let left = deadline.map(|at| at.saturating_sub(now.monotonic));
        active.frozen = Some(Frozen { since_us: now.wall_us, left, with_pool });
        active.phase = Phase::Running { deadline: None };
        let (slot, claim) = (active.slot, active.claim(id));
        self.timers.clear(deadline, Timer::Attempt(Unit::Job(id)));
        self.effects.push(Effect::Freeze { slot, claim });
    }

    /// Lets an attempt go on, with what is left of its timeout.
    pub(in crate::core) fn thaw(&mut self, id: JobId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Some(frozen) = active.frozen.take() else { return };
        let deadline = frozen.left.map(|left| self.now.monotonic + left);
        active.phase = Phase::Running { deadline };
        let (slot, claim) = (active.slot, active.claim(id));
        if let Some(at) = deadline {
            self.timers.set(at, Timer::Attempt(Unit::Job(id)));
        }
        self.effects.push(Effect::Thaw { slot, claim });
    }

    /// What runs in a paused pool, and what a worker begins with there yet, is frozen until the pool is
    /// resumed.
    pub(in crate::core) fn freeze_pool(&mut self, name: &Arc<str>) {
        let Some(pool) = self.pools.id_of(name).and_then(|id| self.pools.get_mut(id)) else { return };
        if pool.pause.is_none() {
            return; // It has been resumed since.
        }
        pool.freezes = true;
        for id in self.active_in(name) {
            self.freeze(id, true);
        }
    }

    /// A worker is about to begin with an attempt, whose pool may have been frozen since it was handed out.
    pub(in crate::core) fn freeze_with_pool(&mut self, id: JobId) {
        let Some(pool) = self.active.get(&id).map(|active| active.work.pool.clone()) else { return };
        if self.pools.named(&pool).is_some_and(|pool| pool.freezes) {
            self.freeze(id, true);
        }
    }

    /// The pool is paused no more: what was frozen with it goes on.
    pub(in crate::core) fn thaw_pool(&mut self, name: &Arc<str>) {
        if let Some(pool) = self.pools.id_of(name).and_then(|id| self.pools.get_mut(id)) {
            pool.freezes = false;
        }
        let is_with_pool = |core: &Self, id: &JobId| {
            core.active.get(id).and_then(|active| active.frozen).is_some_and(|frozen| frozen.with_pool)
        };
        for id in self.active_in(name) {
            if is_with_pool(self, &id) {
                self.thaw(id);
            }
        }
    }

    /// In the order of their ids, whatever has become of the pool.
    fn active_in(&self, name: &Arc<str>) -> Vec<JobId> {
        let of_pool = self.active.iter().filter(|(_, active)| active.work.pool == *name);
        let mut ids: Vec<JobId> = of_pool.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }
}
