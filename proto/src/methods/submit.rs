//! Submitting jobs: `Submit`, `SubmitMany`, and `Spool` for their standard input.

use serde::{Deserialize, Serialize};

use crate::nouns::{Brief, Job, OnDisconnect};

/// Parameters of `Submit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Submit {
    pub job: Job,
    #[serde(default)]
    pub on_disconnect: Option<OnDisconnect>,
}

/// Parameters of `SubmitMany`; each job is an object with the members of [`Job`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SubmitMany {
    pub jobs: Vec<Job>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Job>,
}

/// Replies of `SubmitMany`. The first reply has the ids, in the order of the jobs, and the places of the jobs
/// that existed. With `more`, further replies have the ends of the jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Submitted {
    pub ids: Vec<u64>,
    #[serde(default)]
    pub existing: Vec<usize>,
    #[serde(default)]
    pub results: Vec<Brief>,
}

/// Parameters of `Spool`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {}

/// Reply of `Spool`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Spooled {
    pub token: String,
    pub descriptors: u32,
}
