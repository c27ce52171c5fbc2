//! Reading what poold knows of jobs: `Get`, `List`, `Output`, `Absent`, `Why`, `Dependents`.

use serde::{Deserialize, Serialize};

use crate::nouns::{Dependency, Explanation, Record, State};

/// Parameters of `Get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Get {
    pub id: u64,
}

/// Reply of `Get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Got {
    pub record: Box<Record>,
}

/// Parameters of `List`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct List {
    #[serde(default)]
    pub states: Option<Vec<State>>,
    #[serde(default)]
    pub pool: Option<String>,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub after: Option<u64>,
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Reply of `List`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Listed {
    pub jobs: Vec<Record>,
    #[serde(default)]
    pub next: Option<u64>,
}

/// Parameters of `Output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Output {
    pub id: u64,
}

/// Reply of `Output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct OutputOpened {
    pub attempt: u32,
    pub descriptors: u32,
}

/// How many ids one request of [`Absent`] can name.
pub const MAX_ABSENT: usize = 500;

/// Parameters of `Absent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Absent {
    pub ids: Vec<u64>,
}

/// Reply of `Absent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct AbsentIds {
    pub ids: Vec<u64>,
}

/// Parameters of `Dependents`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Dependents {
    pub id: u64,
}

/// Reply of `Dependents`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct DependentsListed {
    pub dependents: Vec<Dependency>,
    pub more: bool,
}

/// How many ids one request of [`Why`] can name.
pub const MAX_EXPLAINED: usize = 500;

/// Parameters of `Why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Why {
    pub ids: Vec<u64>,
}

/// Reply of `Why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Explained {
    pub jobs: Vec<Explanation>,
}
