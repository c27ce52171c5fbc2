//! Limits of labels: `LabelLimits`, `SetLabelLimit`.

use serde::{Deserialize, Serialize};

use crate::nouns::LabelLimit;

/// Parameters of `LabelLimits`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelLimits {}

/// Reply of `LabelLimits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct LabelLimitsListed {
    pub limits: Vec<LabelLimit>,
}

/// How many labels can have limits.
pub const MAX_LIMITS: usize = 10_000;

/// Parameters of `SetLabelLimit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SetLabelLimit {
    pub label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
