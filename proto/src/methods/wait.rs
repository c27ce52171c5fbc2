//! Waiting for jobs to end: `Wait`. Its replies are [`Progress`](crate::nouns::Progress), like those of
//! `Submit`.

use serde::{Deserialize, Serialize};

use crate::nouns::OnDisconnect;

/// Parameters of `Wait`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Wait {
    pub ids: Vec<u64>,
    #[serde(default)]
    pub any: Option<bool>,
    #[serde(default)]
    pub output: Option<bool>,
    #[serde(default)]
    pub progress: Option<bool>,
    #[serde(default)]
    pub obstacles: Option<bool>,
    #[serde(default)]
    pub on_disconnect: Option<OnDisconnect>,
}
