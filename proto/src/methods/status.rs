//! The daemon itself: `Ping`, `Status`, `Settings`, `Shutdown`. The reply of `Status` is
//! [`Condition`](crate::nouns::Condition).

use serde::{Deserialize, Serialize};

use crate::nouns::Setting;
use crate::os_text::OsText;

/// Parameters of `Ping`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

/// Reply of `Ping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Pong {
    pub version: String,
    pub pid: i32,
    pub state_dir: OsText,
}

/// Parameters of `Status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {}

/// Parameters of `Settings`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

/// Reply of `Settings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SettingsListed {
    pub config: Option<OsText>,
    pub settings: Vec<Setting>,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownMode {
    /// The daemon ends when all jobs have ended and all callbacks are delivered.
    Drain,
    /// The daemon ends the running attempts and then itself. The jobs stay queued for the next start.
    Now,
}

/// Parameters of `Shutdown`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Shutdown {
    pub mode: ShutdownMode,
}

/// Reply of `Shutdown`: the pid of the process whose end is the end of the daemon. With `more` there is a
/// second reply when all is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct ShuttingDown {
    pub pid: i32,
    #[serde(default)]
    pub kept: Option<u64>,
}
