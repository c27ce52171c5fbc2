//! Callbacks by themselves: `Callbacks`, `GetCallback`, `RetryCallbacks`, `DropCallbacks`.

use serde::{Deserialize, Serialize};

use crate::nouns::CallbackRecord;

/// Callbacks in one reply of [`Callbacks`], at most.
pub const MAX_CALLBACKS: u32 = 500;

/// Parameters of `Callbacks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Callbacks {
    #[serde(default)]
    pub failed: Option<bool>,
    #[serde(default)]
    pub after: Option<u64>,
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Reply of `Callbacks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct CallbacksListed {
    pub callbacks: Vec<CallbackRecord>,
    #[serde(default)]
    pub next: Option<u64>,
}

/// Parameters of `GetCallback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct GetCallback {
    pub id: u64,
}

/// Reply of `GetCallback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct CallbackGot {
    pub callback: Box<CallbackRecord>,
}

/// Parameters of `RetryCallbacks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct RetryCallbacks {
    pub ids: Vec<u64>,
}

/// Parameters of `DropCallbacks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct DropCallbacks {
    pub ids: Vec<u64>,
}

/// Reply of `RetryCallbacks` and `DropCallbacks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct CallbacksAltered {
    pub ids: Vec<u64>,
    pub others: Vec<OtherCallback>,
}

/// A callback that stays as it is, although a client has named it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct OtherCallback {
    pub id: u64,
    #[serde(default)]
    pub state: Option<String>,
    pub reason: String,
}
