//! What happens to jobs and slots.

use serde::{Deserialize, Serialize};

use super::record::CallProgress;
use super::state::{ResultKind, State};
use crate::os_text::OsText;

/// A reply of `Events`. A member that does not apply is left out, because poold sends many happenings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Happening {
    pub event: HappeningKind,
    pub at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<OsText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<CallProgress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Happening {
    /// A happening of this kind at this time, with no other member.
    pub fn new(event: HappeningKind, at: String) -> Self {
        Self { event, at, ..Self::default() }
    }
}

impl Default for Happening {
    fn default() -> Self {
        Self {
            event: HappeningKind::Listening,
            at: String::new(),
            id: None,
            pool: None,
            name: None,
            attempt: None,
            slot: None,
            pid: None,
            state: None,
            result: None,
            exit_code: None,
            signal: None,
            reason: None,
            callback: None,
            progress: None,
            cursor: None,
        }
    }
}

/// What a [`Happening`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the interface description says what each means")]
pub enum HappeningKind {
    Listening,
    Gap,
    Submitted,
    Started,
    Progress,
    Stopping,
    Requeued,
    Edited,
    Retrying,
    Held,
    Released,
    Ended,
    CallbackDelivered,
    CallbackRetrying,
    CallbackFailed,
    WorkerUp,
    ProgramReady,
    WorkerLost,
    PoolPaused,
    PoolResumed,
}

impl HappeningKind {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::Listening,
        Self::Gap,
        Self::Submitted,
        Self::Started,
        Self::Progress,
        Self::Stopping,
        Self::Requeued,
        Self::Edited,
        Self::Retrying,
        Self::Held,
        Self::Released,
        Self::Ended,
        Self::CallbackDelivered,
        Self::CallbackRetrying,
        Self::CallbackFailed,
        Self::WorkerUp,
        Self::ProgramReady,
        Self::WorkerLost,
        Self::PoolPaused,
        Self::PoolResumed,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Gap => "gap",
            Self::Submitted => "submitted",
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Stopping => "stopping",
            Self::Requeued => "requeued",
            Self::Edited => "edited",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Released => "released",
            Self::Ended => "ended",
            Self::CallbackDelivered => "callback_delivered",
            Self::CallbackRetrying => "callback_retrying",
            Self::CallbackFailed => "callback_failed",
            Self::WorkerUp => "worker_up",
            Self::ProgramReady => "program_ready",
            Self::WorkerLost => "worker_lost",
            Self::PoolPaused => "pool_paused",
            Self::PoolResumed => "pool_resumed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::DESCRIPTION;

    #[test]
    fn names_agree_with_the_wire() {
        for kind in HappeningKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.as_str()));
            assert!(DESCRIPTION.contains(kind.as_str()), "{kind:?} is not described");
        }
    }
}
