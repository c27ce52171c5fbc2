//! The condition of a daemon.

use serde::{Deserialize, Serialize};

use super::pool::Pool;
use crate::os_text::OsText;

/// Reply of `Status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Condition {
    pub version: String,
    pub pid: i32,
    pub supervisor_pid: i32,
    pub started_at: String,
    pub accepting: bool,
    pub state_dir: OsText,
    pub socket: OsText,
    pub config: Option<OsText>,
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
    #[serde(default)]
    pub incidents: Vec<Incident>,
    #[serde(default)]
    pub stuck: Vec<Stuck>,
    pub pools: Vec<Pool>,
    #[serde(default)]
    pub ending: Option<Ending>,
}

/// What the end of a daemon waits for that has been told to end, and what is left for the next start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Ending {
    pub running: Vec<u64>,
    pub queued: u64,
    pub callbacks: u64,
    pub unwritten: u64,
    pub kept: u64,
}

/// Harm that was done to a slot from outside, and what poold has done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Incident {
    pub at: String,
    #[serde(default)]
    pub pool: Option<String>,
    pub slot: u32,
    pub what: String,
}

/// Something that cannot go on, or cannot end, by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Stuck {
    #[serde(default)]
    pub pool: Option<String>,
    #[serde(default)]
    pub slot: Option<u32>,
    #[serde(default)]
    pub pid: Option<i32>,
    pub what: String,
}

/// What the start has found and killed of the attempts of an earlier daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Swept {
    pub groups: u64,
    pub processes: u64,
    pub spared: u64,
}
