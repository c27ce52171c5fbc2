//! The standard input of running jobs: `OpenInput`, `CloseInput`, `Resize`.

use serde::{Deserialize, Serialize};

use crate::nouns::Input;

/// Parameters of `OpenInput`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct OpenInput {
    pub id: u64,
}

/// Reply of `OpenInput`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct InputOpened {
    pub attempt: u32,
    pub input: Input,
    pub descriptors: u32,
}

/// Parameters of `CloseInput`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct CloseInput {
    pub id: u64,
}

/// Parameters of `Resize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Resize {
    pub id: u64,
    pub rows: u16,
    pub columns: u16,
}
