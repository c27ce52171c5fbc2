//! Changing what becomes of jobs: `Cancel`, `Signal`, `Hold`, `Move`,
//! `Retry`, `Remove`, `Release`.

use serde::{Deserialize, Serialize};

use crate::nouns::{Obstacle, Record, State};

/// Parameters of `Cancel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Cancel {
    pub ids: Vec<u64>,
    #[serde(default)]
    pub unstarted: Option<bool>,
    #[serde(default)]
    pub obstacles: Option<bool>,
}

/// Replies of `Cancel`; the last one has the jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Canceled {
    pub jobs: Vec<Record>,
    #[serde(default)]
    pub obstacles: Option<Vec<Obstacle>>,
}

/// Parameters of `SetFrozen`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SetFrozen {
    pub id: u64,
    pub frozen: bool,
}

/// Parameters of `Signal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Signal {
    pub id: u64,
    pub signal: i32,
}

/// Jobs that one `Hold`, `Move`, `Retry`, `Remove` or `Release` names at most: all of them are one
/// transaction, for which others wait.
pub const MAX_RELEASED: usize = 16_384;

/// Parameters of `Hold`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Hold {
    pub ids: Vec<u64>,
}

/// Parameters of `Move`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Move {
    pub ids: Vec<u64>,
    pub pool: String,
}

/// Parameters of `Retry`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Retry {
    pub ids: Vec<u64>,
}

/// Parameters of `Remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Remove {
    pub ids: Vec<u64>,
}

/// Reply of what changes some jobs and leaves the others: `Hold`, `Move`, `Retry`, `Remove`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Altered {
    pub ids: Vec<u64>,
    pub others: Vec<Other>,
}

/// A job that stays as it is, although a client has named it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Other {
    pub id: u64,
    #[serde(default)]
    pub state: Option<State>,
    pub reason: String,
}

/// Parameters of `Release`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Release {
    pub ids: Vec<u64>,
}
