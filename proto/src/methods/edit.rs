//! Changing what a job is to do before it begins, and reading what it is to do: `Edit`, `Definition`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nouns::{Job, State};
use crate::os_text::OsText;

/// Parameters of `Edit`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Edit {
    pub id: u64,
    #[serde(default)]
    pub set: Option<Job>,
    #[serde(default)]
    pub set_env: Option<BTreeMap<OsText, OsText>>,
    #[serde(default)]
    pub unset: Option<Vec<String>>,
}

/// Parameters of `Definition`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Definition {
    pub id: u64,
}

/// Reply of `Definition`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Defined {
    pub job: Job,
    pub state: State,
    pub attempts: u32,
    pub params_pruned: bool,
}
