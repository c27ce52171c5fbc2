//! What poold knows of a job: the record and its parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::array::ArrayInfo;
use super::job::{Dependency, OnCrash};
use super::limits::MemoryLimiter;
use super::state::{ResultKind, State};
use crate::os_text::OsText;
use crate::wire::json::Json;

/// The version of the shape of a record.
pub const SCHEMA: u32 = 1;

/// The record of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Record {
    pub schema: u32,
    pub id: u64,
    pub state: State,
    pub result: Option<ResultKind>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub pool: String,
    pub slot: Option<u32>,
    pub name: Option<OsText>,
    pub argv: Option<Vec<OsText>>,
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub params: Option<Json>,
    #[serde(default)]
    pub value: Option<Json>,
    #[serde(default)]
    pub error: Option<Json>,
    #[serde(default)]
    pub progress: Option<CallProgress>,
    pub cwd: OsText,
    pub tie: Option<String>,
    pub on_crash: OnCrash,
    #[serde(default)]
    pub key: Option<OsText>,
    #[serde(default)]
    pub unique: Option<OsText>,
    #[serde(default)]
    pub labels: Option<Vec<String>>,
    #[serde(default = "one")]
    pub slots: u32,
    #[serde(default)]
    pub resources: Option<BTreeMap<String, u32>>,
    #[serde(default)]
    pub items: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub array: Option<Box<ArrayInfo>>,
    #[serde(default)]
    pub waits_for: Option<u64>,
    #[serde(default)]
    pub after: Option<Vec<Dependency>>,
    #[serde(default)]
    pub depends_on: Option<Vec<Dependency>>,
    pub attempt: u32,
    pub crashes: u32,
    pub worker_pid: Option<i32>,
    pub pid: Option<i32>,
    pub submitted_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub wall_s: Option<f64>,
    pub usage: Option<Usage>,
    #[serde(default)]
    pub last_crash: Option<String>,
    #[serde(default)]
    pub reruns: u32,
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub retries: u32,
    #[serde(default)]
    pub retried: u32,
    #[serde(default)]
    pub retry_on_exit: Option<String>,
    #[serde(default)]
    pub due_at: Option<String>,
    #[serde(default)]
    pub deadline_at: Option<String>,
    #[serde(default)]
    pub start_by: Option<String>,
    #[serde(default)]
    pub memory_limit: Option<MemoryLimit>,
    #[serde(default)]
    pub frozen_since: Option<String>,
    pub stdout: Option<OutputFile>,
    pub stderr: Option<OutputFile>,
    #[serde(default)]
    pub output_pruned: bool,
    pub callbacks: Vec<Callback>,
}

fn one() -> u32 {
    1
}

/// What all processes of a job have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Usage {
    pub user_s: f64,
    pub sys_s: f64,
    pub max_rss_bytes: u64,
    #[serde(default)]
    pub memory_peak_bytes: Option<u64>,
}

/// How much memory a job may use, and what holds it to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct MemoryLimit {
    pub bytes: u64,
    pub by: Option<MemoryLimiter>,
}

/// The file that holds the output of the latest attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct OutputFile {
    pub path: OsText,
    pub bytes: Option<u64>,
}

/// A callback, as the record of its job shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Callback {
    pub id: u64,
    pub on: On,
    pub state: String,
    pub attempts: u32,
    pub exit_code: Option<i32>,
}

/// Which ends a callback is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Every end.
    Done,
    /// A success.
    Success,
    /// Every other end.
    Failure,
}

impl On {
    /// The name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Done, Self::Success, Self::Failure].into_iter().find(|on| on.as_str() == name)
    }

    /// Whether a callback of this kind runs after an end in `state`.
    pub fn matches(self, state: State) -> bool {
        match self {
            Self::Done => true,
            Self::Success => state == State::Succeeded,
            Self::Failure => state != State::Succeeded,
        }
    }
}

/// How far a call has come, as its program reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct CallProgress {
    #[serde(default)]
    pub fraction: Option<f64>,
    #[serde(default)]
    pub text: Option<String>,
}

/// A job on a listing that tells little of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Entry {
    pub id: u64,
    pub state: State,
    pub pool: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<OsText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    pub slots: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Box<ArrayInfo>>,
    pub submitted_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        let Record {
            id,
            state,
            pool,
            name,
            labels,
            slots,
            array,
            submitted_at,
            started_at,
            ended_at,
            result,
            exit_code,
            signal,
            ..
        } = record;
        Self {
            id,
            state,
            pool,
            name,
            labels,
            slots,
            array,
            submitted_at,
            started_at,
            ended_at,
            result,
            exit_code,
            signal,
        }
    }
}

/// The end of a job in few words, for a client that waits for many jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Brief {
    pub id: u64,
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_pruned: Option<bool>,
}
