//! The settings of a daemon, and where each comes from.

use serde::{Deserialize, Serialize};

/// A setting that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Setting {
    pub name: String,
    pub value: String,
    pub source: SettingSource,
    #[serde(default)]
    pub line: Option<u32>,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// Nobody has said anything else.
    Default,
    /// The configuration's file.
    File,
    /// The command line of the daemon.
    Option,
    /// It was set at run time.
    Set,
}

impl SettingSource {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Option => "option",
            Self::Set => "set",
        }
    }
}
