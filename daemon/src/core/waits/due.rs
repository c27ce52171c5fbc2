//! The trigger of what waits until a time. Who waits is the engine's; here is only when to ask for those that
//! are due.

use std::time::Duration;

use crate::core::{Core, Timer};
use crate::engine::Change;
use crate::job::CallbackId;

/// So many are woken at once, lest others wait long for the engine.
const AT_ONCE: u32 = 2048;

/// When those that are due are next asked for.
#[derive(Debug, Default)]
pub struct Due(Option<Duration>);

impl Core {
    /// Something waits until that time, in microseconds since 1970.
    pub(in crate::core) fn wake_for(&mut self, due_us: i64) {
        let at = self.now.monotonic + self.now.until(due_us);
        if self.due.0.is_some_and(|next| next <= at) {
            return;
        }
        self.timers.clear(self.due.0.replace(at), Timer::Due);
        self.timers.set(at, Timer::Due);
    }

    pub(in crate::core) fn take_due(&mut self) {
        self.due.0 = None;
        self.change(Change::Wake { until_us: self.now.wall_us, limit: AT_ONCE });
    }

    /// The jobs are in their lines, from which the engine offers them.
    pub(in crate::core) fn on_woken(&mut self, callbacks: Vec<CallbackId>, next_us: Option<i64>) {
        for id in callbacks {
            self.lane.push(id);
        }
        if let Some(due_us) = next_us {
            self.wake_for(due_us);
        }
    }
}
