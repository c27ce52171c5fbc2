//! Types of the interface that are about pools; what a field means is said in its description, once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::interface::JobDurability;

/// A pool and its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Pool {
    pub name: String,
    pub workers: u32,
    pub queued: u64,
    pub running: u32,
    pub containment: Tier,
    pub containment_note: Option<String>,
    #[serde(default)]
    pub command: Option<Vec<String>>,
    pub slots: Vec<Slot>,
}

/// What holds an attempt's processes together, each on top of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Every orphan of it falls to a process of poold's.
    Subreaper,
    /// It runs in a control group of its slot's.
    Cgroup,
    /// Its worker is process 1 of a pid namespace.
    PidNamespace,
}

impl Tier {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subreaper => "subreaper",
            Self::Cgroup => "cgroup",
            Self::PidNamespace => "pid-namespace",
        }
    }
}

/// A slot of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Slot {
    pub slot: u32,
    pub pid: Option<i32>,
    pub state: SlotState,
    pub job: Option<u64>,
    pub reason: Option<String>,
    #[serde(default)]
    pub program_pid: Option<i32>,
    #[serde(default)]
    pub calls: Option<u64>,
}

/// What a slot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Its worker waits for work.
    Idle,
    /// Its worker has an attempt.
    Busy,
    /// It has no worker for the moment.
    Down,
    /// Its program has been started and is not ready yet.
    Starting,
    /// It waits for work, and its program's replacement is being started.
    Recycling,
    /// Its program could not be started, or has died, and is started again before long.
    BackingOff,
    /// Its program could not be started several times in a row; it is tried again now and then.
    Failed,
}

impl SlotState {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Idle, Self::Busy, Self::Down, Self::Starting, Self::Recycling, Self::BackingOff, Self::Failed];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Down => "down",
            Self::Starting => "starting",
            Self::Recycling => "recycling",
            Self::BackingOff => "backing_off",
            Self::Failed => "failed",
        }
    }
}

/// Parameters of `Pools`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {}

/// Reply of `Pools`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct PoolsListed {
    pub pools: Vec<Pool>,
}

/// Parameters of `AddPool`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct AddPool {
    pub name: String,
    pub workers: u32,
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadyWhen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_after_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<JobDurability>,
}

/// When a resident program counts as ready for calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyWhen {
    /// As soon as it has been executed.
    #[default]
    Started,
    /// With its first notification `ready`.
    Notify,
}

/// Parameters of `RemovePool`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct RemovePool {
    pub name: String,
}
