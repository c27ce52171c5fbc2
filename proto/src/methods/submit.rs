//! Submitting jobs: `Submit`, `SubmitMany`, and `Spool` for their standard input.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::nouns::{Brief, Job, Obstacle, OnDisconnect};

/// Parameters of `Submit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Submit {
    pub job: Job,
    #[serde(default)]
    pub on_disconnect: Option<OnDisconnect>,
    #[serde(default)]
    pub obstacles: Option<bool>,
}

/// The greatest number of jobs in one `SubmitMany`.
pub const MAX_JOBS: usize = 250_000;

/// An empty job takes three bytes of a message and some hundred of memory, so they are counted as they are
/// read.
fn at_most_max_jobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Job>, D::Error> {
    struct Jobs;

    impl<'de> Visitor<'de> for Jobs {
        type Value = Vec<Job>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut jobs = Vec::new();
            while let Some(job) = list.next_element()? {
                if jobs.len() == MAX_JOBS {
                    return Err(A::Error::custom(format!("jobs: at most {MAX_JOBS} in one message")));
                }
                jobs.push(job);
            }
            Ok(jobs)
        }
    }

    deserializer.deserialize_seq(Jobs)
}

/// Parameters of `SubmitMany`; each job is an object with the members of [`Job`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SubmitMany {
    #[serde(deserialize_with = "at_most_max_jobs")]
    pub jobs: Vec<Job>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Job>,
    #[serde(default)]
    pub obstacles: Option<bool>,
}

/// Replies of `SubmitMany`. The first reply has the ids, in the order of the jobs, and the places of the jobs
/// that existed, and of those that were skipped. With `more`, further replies have the ends of the jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Submitted {
    pub ids: Vec<u64>,
    #[serde(default)]
    pub existing: Vec<usize>,
    #[serde(default)]
    pub skipped: Option<Vec<usize>>,
    #[serde(default)]
    pub results: Vec<Brief>,
    #[serde(default)]
    pub obstacles: Option<Vec<Obstacle>>,
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
