//! A pool and its slots.

use serde::{Deserialize, Serialize};

use crate::os_text::OsText;

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
    pub paused: bool,
    #[serde(default)]
    pub paused_since: Option<String>,
    #[serde(default)]
    pub paused_by: Option<u32>,
    #[serde(default)]
    pub backfill: bool,
    #[serde(default)]
    pub gathering_for: Option<u64>,
    #[serde(default)]
    pub draining_since: Option<String>,
    #[serde(default)]
    pub draining_by: Option<u32>,
    #[serde(default)]
    pub command: Option<Vec<OsText>>,
    #[serde(default)]
    pub resources: Vec<Resource>,
    #[serde(default)]
    pub too_small_for: Option<String>,
    pub slots: Vec<Slot>,
}

/// The longest name of a resource, in bytes.
pub const MAX_RESOURCE: usize = 64;

/// Whether a resource can be named so.
#[must_use]
pub fn is_resource(name: &str) -> bool {
    name.len() <= MAX_RESOURCE
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// A resource of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Resource {
    pub name: String,
    pub items: Vec<ResourceItem>,
}

/// An item of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct ResourceItem {
    pub item: String,
    pub job: Option<u64>,
    #[serde(default)]
    pub removed: Option<bool>,
}

/// What holds the processes of an attempt together. Each tier includes the tiers before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Every orphan of the attempt falls to a process of poold.
    Subreaper,
    /// The attempt runs in a control group of its slot.
    Cgroup,
    /// The worker is process 1 of a pid namespace.
    PidNamespace,
}

impl Tier {
    /// The name on the wire.
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
    /// The worker waits for work.
    Idle,
    /// The worker has an attempt.
    Busy,
    /// The slot has no worker for the moment.
    Down,
    /// The program has been started and is not ready yet.
    Starting,
    /// The worker waits for work, and the replacement for its program is being started.
    Recycling,
    /// The program could not be started or has died, and is started again soon.
    BackingOff,
    /// The program could not be started several times in a row; poold tries again from time to time.
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

/// When a resident program counts as ready for calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyWhen {
    /// As soon as the program has been executed.
    #[default]
    Started,
    /// With the first notification `ready` of the program.
    Notify,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_the_wire() {
        for state in SlotState::ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("{:?}", state.as_str()));
        }
        for tier in [Tier::Subreaper, Tier::Cgroup, Tier::PidNamespace] {
            assert_eq!(serde_json::to_string(&tier).unwrap(), format!("{:?}", tier.as_str()));
        }
    }
}
