//! A job as a client describes it, and the choices that a client has about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::array::CallbackFor;
use super::limits::Limits;
use super::record::On;
use crate::os_text::OsText;
use crate::wire::json::Json;

/// The pool that runs a job whose client names no pool.
pub const DEFAULT_POOL: &str = "default";

/// The greatest length of a [`key`](Job::key), a [`round`](Job::round) or a [`unique`](Job::unique) name, in
/// bytes.
pub const MAX_KEY: usize = 512;

/// How many [`labels`](Job::labels) one job can have.
pub const MAX_LABELS: usize = 16;

/// The greatest length of a label, in bytes.
pub const MAX_LABEL: usize = 128;

/// Whether that can be a label: 1 to [`MAX_LABEL`] letters, digits, `-`, `_`, `.`, `:`, `/`, `@` and `+`.
pub fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/@+".contains(c))
}

/// The [`tie`](Job::tie) to the client that waits for the job.
pub const TIE_TO_CLIENT: &str = "client";

/// A job as a client submits it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Job {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<OsText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<JobDurability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<OsText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<OsText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<OsText, OsText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_after_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_within_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<Dependency>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tie: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_crash: Option<OnCrash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<BTreeMap<String, u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on_exit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_retry_on_exit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<OsText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<OsText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_exists: Option<IfExists>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_for: Option<CallbackFor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_done: Option<Vec<OsText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Vec<OsText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Vec<OsText>>,
}

/// Another job that has to end before this one may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Dependency {
    pub id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<On>,
}

/// What standard input comes by that clients write while the job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A pipe.
    Pipe,
    /// A terminal, which is standard output and error too.
    Terminal,
}

impl Input {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Terminal => "terminal",
        }
    }

    /// The opposite of [`as_str`](Self::as_str).
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pipe, Self::Terminal].into_iter().find(|input| input.as_str() == text)
    }
}

/// Where a job is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobDurability {
    /// On disk, as durable as every other job.
    Disk,
    /// Only in the memory of the daemon.
    None,
}

/// What happens to a job whose attempt died with its worker or with the daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// The job is queued again, up to a limit of crashes.
    #[default]
    Requeue,
    /// The job has failed.
    Fail,
    /// The job is held until a client releases or cancels it.
    Hold,
}

impl OnCrash {
    /// The name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requeue => "requeue",
            Self::Fail => "fail",
            Self::Hold => "hold",
        }
    }

    /// The policy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Requeue, Self::Fail, Self::Hold].into_iter().find(|policy| policy.as_str() == name)
    }
}

/// What becomes of a job whose [unique name](Job::unique) another job has that has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfExists {
    /// Nothing is submitted, and nobody waits.
    #[default]
    Skip,
    /// Nothing is submitted; the other job is taken for the one that was to be submitted.
    Join,
    /// The job waits until the ones before it have ended.
    Queue,
    /// The ones before it are canceled, and the job waits until they have ended.
    Replace,
}

/// What happens to a job when the client that waits for the job disconnects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// The job goes on.
    #[default]
    Detach,
    /// The job is canceled.
    Cancel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_misspelt_member_is_an_error() {
        let error = serde_json::from_str::<Job>(r#"{"argv":["true"],"tiemout_s":1}"#).unwrap_err();
        assert!(error.to_string().contains("tiemout_s"), "{error}");
    }
}
