//! An attempt that is over.

use serde::{Deserialize, Serialize};

use super::state::ResultKind;

/// An attempt that is over, before the one that its job's record tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Attempt {
    pub attempt: u32,
    #[serde(default)]
    pub started_at: Option<String>,
    pub ended_at: String,
    pub result: ResultKind,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    #[serde(default)]
    pub reason: Option<String>,
}
