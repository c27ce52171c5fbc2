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

/// Parameters of `Release`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Release {
    pub ids: Vec<u64>,
}
