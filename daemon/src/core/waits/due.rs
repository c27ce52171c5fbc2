//! The trigger of what waits until a time. Who waits is the engine's; here is only when to ask for those that
//! are due.
//!
//! It is written down as microseconds since 1970, lest a restart forget it; but nobody looks at the wall's
//! clock for it, which may be set by hours. This clock is the boot's, counted from when it began by the
//! wall's clock at poold's first start in it ([`Boot`](crate::engine::Boot)).

use std::time::Duration;

use crate::core::{Core, Now, Timer};
use crate::engine::Change;
use crate::job::{CallbackId, Holdup, Ready, micros};

/// So many are woken at once, lest others wait long for the engine.
const AT_ONCE: u32 = 2048;

/// When those that are due are next asked for, and the clock that says so.
#[derive(Debug)]
pub struct Due {
    next: Option<Duration>,
    /// The engine has been asked, and has not answered.
    is_asked: bool,
    boot_began_us: i64,
}

impl Due {
    /// `boot_began_us`: in microseconds since 1970.
    pub fn new(boot_began_us: i64) -> Self {
        Self { next: None, is_asked: false, boot_began_us }
    }

    /// Whether something is due by that time of the monotonic clock, or may be already.
    pub fn is_by(&self, time: Duration) -> bool {
        self.is_asked || self.next.is_some_and(|next| next <= time)
    }

    /// The time of this clock, in microseconds since 1970.
    pub fn now_us(&self, now: Now) -> i64 {
        self.boot_began_us.saturating_add(micros(now.monotonic))
    }

    /// When it will be that time, on the monotonic clock; now, where it has passed.
    pub fn moment_of(&self, now: Now, us: i64) -> Duration {
        let left = us.saturating_sub(self.now_us(now)).max(0);
        now.monotonic + Duration::from_micros(left.unsigned_abs())
    }

    /// The time after so long; the last that can be written where that is too long.
    pub fn after(&self, now: Now, wait: Duration) -> i64 {
        self.now_us(now).saturating_add(micros(wait))
    }
}

impl Core {
    /// Something waits until that time, in microseconds since 1970.
    pub(in crate::core) fn wake_for(&mut self, due_us: i64) {
        let at = self.due.moment_of(self.now, due_us);
        self.timers.bring_forward(&mut self.due.next, at, Timer::Due);
    }

    /// The wall's clock may have been set: what waits for a time of it follows.
    pub(in crate::core) fn follow_wall(&mut self) {
        let ahead_us = self.due.now_us(self.now).saturating_sub(self.now.wall_us);
        self.change(Change::SetClock { ahead_us });
    }

    pub(in crate::core) fn on_clock_set(&mut self, next_us: Option<i64>) {
        if let Some(due_us) = next_us {
            self.wake_for(due_us);
        }
    }

    pub(in crate::core) fn take_due(&mut self) {
        (self.due.next, self.due.is_asked) = (None, true);
        self.change(Change::Wake { until_us: self.due.now_us(self.now), limit: AT_ONCE });
    }

    /// The jobs are in their lines, from which the engine offers them.
    pub(in crate::core) fn on_woken(
        &mut self,
        jobs: &[Ready],
        callbacks: Vec<CallbackId>,
        next_us: Option<i64>,
    ) {
        self.due.is_asked = false;
        for ready in jobs {
            self.goes_on(ready.id, &ready.work.pool, Holdup::Time, None);
        }
        for id in callbacks {
            self.lane.push(id);
        }
        if let Some(due_us) = next_us {
            self.wake_for(due_us);
        }
    }
}
