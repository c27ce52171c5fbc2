//! How a daemon is: methods of `io.poold` for whoever looks for what is wrong.

use serde::{Deserialize, Serialize};

use crate::interface::{Method, Pool};

/// Parameters of `Status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {}

impl Method for Status {
    const NAME: &'static str = "io.poold.Status";
    type Reply = Condition;
}

/// Reply of `Status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Condition {
    pub version: String,
    pub pid: i32,
    pub supervisor_pid: i32,
    pub started_at: String,
    pub accepting: bool,
    pub state_dir: String,
    pub socket: String,
    pub config: Option<String>,
    pub config_error: Option<String>,
    pub durability: String,
    pub store_failure: Option<String>,
    pub clients: u64,
    pub max_clients: u64,
    pub max_open_files: u64,
    pub max_queued: u64,
    #[serde(default)]
    pub output_bytes: u64,
    #[serde(default)]
    pub max_total_output_bytes: Option<u64>,
    pub swept: Swept,
    pub pools: Vec<Pool>,
}

/// What the start has found of an earlier daemon's attempts, and killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Swept {
    pub groups: u64,
    pub processes: u64,
    pub spared: u64,
}

/// The ids that one call of [`Absent`] can name.
pub const MAX_ABSENT: usize = 500;

/// Parameters of `Absent`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Absent {
    pub ids: Vec<u64>,
}

impl Method for Absent {
    const NAME: &'static str = "io.poold.Absent";
    type Reply = AbsentIds;
}

/// Reply of `Absent`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct AbsentIds {
    pub ids: Vec<u64>,
}
