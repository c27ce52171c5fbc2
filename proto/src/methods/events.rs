//! Following what happens: `Events`. Its replies are [`Happening`](crate::nouns::Happening)s.

use serde::{Deserialize, Serialize};

/// Parameters of `Events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Events {
    #[serde(default)]
    pub pools: Option<Vec<String>>,
    #[serde(default)]
    pub ids: Option<Vec<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}
