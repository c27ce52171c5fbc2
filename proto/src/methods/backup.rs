//! Copying the database while poold works: `Backup`, `EndBackup`.

use serde::{Deserialize, Serialize};

use crate::os_text::OsText;

/// Parameters of `Backup`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {}

/// Reply of `Backup`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct BackupBegun {
    pub path: OsText,
    pub bytes: u64,
}

/// Parameters of `EndBackup`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndBackup {}
