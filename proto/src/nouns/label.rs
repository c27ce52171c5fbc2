//! Labels of jobs, and their limits.

use serde::{Deserialize, Serialize};

/// The limit of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct LabelLimit {
    pub label: String,
    pub limit: u32,
    pub source: LimitSource,
    pub running: Vec<u64>,
}

/// Who has set a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// A client, or a job that is exclusive for the label.
    Set,
    /// The configuration of the daemon.
    Config,
}

impl LimitSource {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Config => "config",
        }
    }
}
