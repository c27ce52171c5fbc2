//! Schedules: `AddSchedule`, `Schedules`, `SetSchedulesPaused`, `RunSchedule`, `RemoveSchedules`.

use serde::{Deserialize, Serialize};

use crate::nouns::{Schedule, ScheduleState};

/// There are no more schedules than this.
pub const MAX_SCHEDULES: usize = 1_000;

/// Parameters of `AddSchedule`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct AddSchedule {
    pub schedule: Schedule,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
}

/// Parameters of `Schedules`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Schedules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Reply of `Schedules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SchedulesListed {
    pub schedules: Vec<ScheduleState>,
}

/// Parameters of `SetSchedulesPaused`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SetSchedulesPaused {
    pub names: Vec<String>,
    pub paused: bool,
}

/// Parameters of `RunSchedule`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct RunSchedule {
    pub name: String,
}

/// Parameters of `RemoveSchedules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct RemoveSchedules {
    pub names: Vec<String>,
}
