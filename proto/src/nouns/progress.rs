//! How far a job has come: what poold tells a client that waits.

use serde::{Deserialize, Serialize};

use super::record::{CallProgress, Record};
use super::state::State;

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
    pub state: Option<State>,
    #[serde(default)]
    pub progress: Option<CallProgress>,
    #[serde(default)]
    pub obstacle: Option<Obstacle>,
}

/// Why a job does not go on, although nothing of it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Obstacle {
    pub id: u64,
    pub kind: ObstacleKind,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<bool>,
}

/// The kinds of obstacle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleKind {
    /// A person has to decide.
    Held,
    /// The job has failed and waits for its next attempt.
    Retry,
    /// The job waits for the time that it was submitted for.
    Scheduled,
    /// The job waits for the ends of other jobs.
    Blocked,
    /// Another job of the same unique name has not ended.
    Unique,
    /// The job's pool starts nothing.
    Pool,
    /// poold cannot write its database, so the job's end or start cannot be told.
    Store,
}

/// What a [`Progress`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressEvent {
    /// The job is on disk.
    Accepted,
    /// The job was not submitted: another job has its unique name, and has not ended.
    Skipped,
    /// An attempt has started. Two descriptors come with the reply.
    Started,
    /// A call has reported progress.
    Progress,
    /// poold has begun to wait for the job's end, or knows an obstacle to it.
    Waiting,
    /// The job has ended. The record comes with the reply.
    Ended,
}
