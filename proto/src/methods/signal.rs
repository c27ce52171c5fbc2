//! Changing what becomes of jobs: `Cancel`, `Signal`, `Release`.

use serde::{Deserialize, Serialize};

use crate::nouns::{Obstacle, Record};

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

/// Parameters of `Signal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Signal {
    pub id: u64,
    pub signal: i32,
}

/// Jobs that one `Release` names at most: all of them are one transaction, for which others wait.
pub const MAX_RELEASED: usize = 16_384;

/// Parameters of `Release`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Release {
    pub ids: Vec<u64>,
}
