//! A callback by itself: what it runs, how often it was tried, and the job that it tells of.

use serde::{Deserialize, Serialize};

use super::record::{On, OutputFile};
use super::state::{ResultKind, State};
use crate::os_text::OsText;

/// A callback, with its job in few words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct CallbackRecord {
    pub id: u64,
    pub on: On,
    pub state: String,
    pub attempts: u32,
    pub exit_code: Option<i32>,
    pub command: OsText,
    pub due_at: Option<String>,
    pub job: u64,
    pub job_name: Option<OsText>,
    pub job_state: State,
    pub job_result: Option<ResultKind>,
    pub pool: String,
    pub ended_at: Option<String>,
    pub stdout: Option<OutputFile>,
    pub stderr: Option<OutputFile>,
}
