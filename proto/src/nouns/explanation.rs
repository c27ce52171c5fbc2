//! What a job waits for, or does instead: what `Why` tells.

use serde::{Deserialize, Serialize};

use super::progress::ObstacleKind;
use super::state::State;

/// What a job waits for, or does instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Explanation {
    pub id: u64,
    pub state: State,
    pub kind: ExplanationKind,
    pub reason: String,
    pub pool: String,
    #[serde(default)]
    pub position: Option<u32>,
    #[serde(default)]
    pub busy: Option<Vec<u64>>,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub limit: Option<u32>,
    #[serde(default)]
    pub due_at: Option<String>,
    #[serde(default)]
    pub waits_for: Option<Vec<u64>>,
    #[serde(default)]
    pub estimate: Option<Estimate>,
}

/// About when a job starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Estimate {
    pub before: u64,
    pub start_in_s: f64,
    pub from_jobs: u64,
}

/// The kinds of explanation: those of obstacles, and four more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplanationKind {
    /// See [`ObstacleKind::Held`].
    Held,
    /// See [`ObstacleKind::Retry`].
    Retry,
    /// See [`ObstacleKind::Scheduled`].
    Scheduled,
    /// See [`ObstacleKind::Blocked`].
    Blocked,
    /// See [`ObstacleKind::Unique`].
    Unique,
    /// See [`ObstacleKind::Pool`].
    Pool,
    /// See [`ObstacleKind::Store`].
    Store,
    /// The job is in the line of its pool.
    Line,
    /// The job is in its line, and as many jobs of one of its labels run as the limit of the label allows.
    Limit,
    /// An attempt of the job runs, or is being ended.
    Running,
    /// The job has ended.
    Ended,
}

impl From<ObstacleKind> for ExplanationKind {
    fn from(kind: ObstacleKind) -> Self {
        match kind {
            ObstacleKind::Held => Self::Held,
            ObstacleKind::Retry => Self::Retry,
            ObstacleKind::Scheduled => Self::Scheduled,
            ObstacleKind::Blocked => Self::Blocked,
            ObstacleKind::Unique => Self::Unique,
            ObstacleKind::Pool => Self::Pool,
            ObstacleKind::Store => Self::Store,
        }
    }
}
