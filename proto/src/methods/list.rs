//! Reading what poold knows of jobs: `Get`, `List`, `Count`, `Output`, `Absent`, `Why`, `Dependents`,
//! `Attempts`.

use serde::{Deserialize, Serialize};

use crate::nouns::{Attempt, Dependency, Entry, Explanation, Record, State};
use crate::os_text::OsText;

/// Parameters of `Get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Get {
    pub id: u64,
}

/// Reply of `Get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Got {
    pub record: Box<Record>,
}

/// Parameters of `List`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct List {
    #[serde(default)]
    pub states: Option<Vec<State>>,
    #[serde(default)]
    pub pool: Option<String>,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<OsText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_codes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<ListOrder>,
    #[serde(default)]
    pub after: Option<u64>,
    #[serde(default)]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brief: Option<bool>,
}

/// The order of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListOrder {
    /// By id, the oldest first.
    #[default]
    Oldest,
    /// By id, the newest first.
    Newest,
    /// What has ended, the latest end first. One part, which has no next one.
    Ended,
    /// What stands in the lines of a pool, in the order in which it is started, as far as no limit of a label
    /// changes that. One part, which has no next one.
    Line,
}

/// Reply of `List`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Listed {
    pub jobs: Vec<Record>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<Entry>>,
    #[serde(default)]
    pub next: Option<u64>,
}

/// Parameters of `Count`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {}

/// Reply of `Count`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Counted {
    pub states: Vec<StateCount>,
    #[serde(default)]
    pub failed_callbacks: Option<u64>,
}

/// How many jobs are in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct StateCount {
    pub state: State,
    pub jobs: u64,
    pub more: bool,
}

/// Parameters of `Output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Output {
    pub id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// Reply of `Output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct OutputOpened {
    pub attempt: u32,
    pub descriptors: u32,
}

/// How many ids one request of [`Absent`] can name.
pub const MAX_ABSENT: usize = 500;

/// Parameters of `Absent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Absent {
    pub ids: Vec<u64>,
}

/// Reply of `Absent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct AbsentIds {
    pub ids: Vec<u64>,
}

/// Parameters of `Dependents`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Dependents {
    pub id: u64,
}

/// Reply of `Dependents`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct DependentsListed {
    pub dependents: Vec<Dependency>,
    pub more: bool,
}

/// Parameters of `Attempts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Attempts {
    pub id: u64,
}

/// Reply of `Attempts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct AttemptsListed {
    pub attempts: Vec<Attempt>,
}

/// How many ids one request of [`Why`] can name.
pub const MAX_EXPLAINED: usize = 500;

/// Parameters of `Why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Why {
    pub ids: Vec<u64>,
}

/// Reply of `Why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Explained {
    pub jobs: Vec<Explanation>,
}
