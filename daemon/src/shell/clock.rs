//! The two clocks that the machines are told. Which is for what: whatever has been waited or has lasted is
//! counted on the monotonic one; the wall's is for the record.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::core::Now;

/// See the module's description.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.start.elapsed(), wall_us: i64::try_from(wall.as_micros()).unwrap_or(i64::MAX) }
    }
}
