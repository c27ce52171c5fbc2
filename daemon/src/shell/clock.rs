//! The time that the machines are told (`kernel/clock.rs` says which clock is for what).

use std::time::Duration;

use crate::core::Now;
use crate::kernel::clock;

/// See the module's description.
#[derive(Debug)]
pub struct Clock {
    start: Duration,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: clock::since_boot() }
    }

    pub fn now(&self) -> Now {
        Now { monotonic: clock::since_boot().saturating_sub(self.start), wall_us: clock::wall_us() }
    }
}
