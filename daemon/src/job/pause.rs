//! A pool that somebody has paused.

use super::ids::UserId;

/// Since when a pool starts nothing, and who wanted that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Microseconds since 1970.
    pub since_us: i64,
    pub by: UserId,
}
