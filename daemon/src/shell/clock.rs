//! The time that the machines are told (`kernel/clock.rs` says which clock is for what).

use crate::core::Now;
use crate::kernel::clock;

/// Now, since the boot, as workers tell it, and for the record.
pub fn now() -> Now {
    Now { monotonic: clock::since_boot(), wall_us: clock::wall_us() }
}
