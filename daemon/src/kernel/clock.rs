//! Which clock is for what. All of poold's time comes from here, or is a bare pause of some seconds
//! (`std::time::Instant`) that nobody is told of.
//!
//! | clock | what for |
//! |---|---|
//! | CLOCK_BOOTTIME, [`since_boot`] | what has been waited or has lasted: deadlines, backoffs, durations. Nobody can set it, and it goes on while the machine is suspended |
//! | CLOCK_REALTIME, [`wall_us`] | the record: when a job was submitted, started. An administrator or NTP may set it at any time, by hours |
//!
//! What waits is written down as microseconds since 1970, since a boot's clock means nothing to the next
//! boot, but goes by the boot's clock (`engine/boot.rs`); a start bounds it (`engine/sqlite/waits.rs`,
//! `deadlines.rs`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since the machine was started.
pub fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a timespec, to where there is one. Every Linux that poold runs on has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let (seconds, nanos) =
        (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    Duration::new(seconds, nanos)
}

/// Microseconds since 1970, for the record.
pub fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
