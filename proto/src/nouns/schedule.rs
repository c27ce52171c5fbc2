//! Schedules: jobs that are submitted again and again, by the clock.

use serde::{Deserialize, Serialize};

use super::job::Job;

/// What is to be submitted, and when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Schedule {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    pub job: Job,
}

/// What becomes of a firing while an earlier job of the schedule has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Nothing is submitted.
    #[default]
    Skip,
    /// The job waits until the earlier ones have ended.
    Queue,
    /// The jobs run beside each other.
    Allow,
}

/// What becomes of the times that have passed while poold could not submit anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The latest one is made up for, the others are left out.
    #[default]
    RunOnce,
    /// All of them are left out.
    Skip,
    /// Each of them is made up for.
    RunAll,
}

/// A schedule, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct ScheduleState {
    pub schedule: Schedule,
    pub configured: bool,
    pub paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Firing>,
    pub next: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A time of a schedule that has come, and what was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Firing {
    pub at: String,
    pub id: u64,
    pub skipped: bool,
}
