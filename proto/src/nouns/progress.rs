//! How far a job has come: what poold tells a client that waits.

use serde::{Deserialize, Serialize};

use super::record::{CallProgress, Record};

/// A reply of `Submit` or `Wait`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Progress {
    pub event: ProgressEvent,
    pub id: u64,
    #[serde(default)]
    pub attempt: Option<u32>,
    #[serde(default)]
    pub descriptors: Option<u32>,
    #[serde(default)]
    pub record: Option<Box<Record>>,
    #[serde(default)]
    pub existing: Option<bool>,
    #[serde(default)]
    pub progress: Option<CallProgress>,
}

/// What a [`Progress`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressEvent {
    /// The job is on disk.
    Accepted,
    /// An attempt has started. Two descriptors come with the reply.
    Started,
    /// A call has reported progress.
    Progress,
    /// The job has ended. The record comes with the reply.
    Ended,
}
