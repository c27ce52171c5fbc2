//! What is kept of a schedule.

use super::ids::JobId;
use super::pause::Pause;

/// A schedule, as the next start is to find it. When its times are, is nobody's business but the desk's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSchedule {
    /// The protocol's schedule as JSON; none of one that the configuration defines.
    pub definition: Option<String>,
    /// Its times are counted from then on, in microseconds since 1970.
    pub from_us: i64,
    /// All times up to this moment are over, whatever has come of them.
    pub over_us: i64,
    pub last: Option<LastFiring>,
    pub pause: Option<Pause>,
}

/// The latest time of a schedule that has come and was not left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFiring {
    /// In microseconds since 1970.
    pub due_us: i64,
    /// What was submitted, or the job that had not ended.
    pub job: JobId,
    /// Nothing was submitted, since that job had not ended.
    pub is_skipped: bool,
}
