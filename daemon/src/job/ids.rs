//! The names by which things are told apart: jobs, callbacks, requests, claims, processes, users.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Maps and sets by id. Several are looked at for every call, so their hash is a quick one; seeded, since a
/// client may name any id.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

pub type IdSet<K> = HashSet<K, foldhash::fast::RandomState>;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

id!(
    /// A job's id; only ever grows, for the life of the state directory.
    JobId
);

id!(
    /// A callback's id; only ever grows, for the life of the state directory.
    CallbackId
);

id!(
    /// A client's request; unique for the life of the supervisor.
    RequestId
);

macro_rules! kernel_id {
    ($(#[$doc:meta])* $name:ident, $raw:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($raw);

        impl $name {
            /// The kernel's number for it.
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The number as system calls and the protocol have it.
            pub const fn get(self) -> $raw {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

kernel_id!(
    /// A process, by the number that the kernel reuses after its end: see [`Process`] for one that lasts.
    ProcessId,
    i32
);
kernel_id!(
    /// A user, as the kernel knows users.
    UserId,
    u32
);
kernel_id!(
    /// A group of users, as the kernel knows groups.
    GroupId,
    u32
);

/// What a worker can be given an attempt of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Job(JobId),
    Callback(CallbackId),
}

/// One attempt, the fence that every report of a worker carries: a report with an old one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    pub unit: Unit,
    /// Counted from 1.
    pub attempt: u32,
}

impl fmt::Display for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Job(id) => write!(formatter, "job {id} attempt {}", self.attempt),
            Unit::Callback(id) => write!(formatter, "callback {id} attempt {}", self.attempt),
        }
    }
}

/// A process, told from all others of this boot of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: ProcessId,
    /// Its start, in clock ticks since the boot (proc(5)); none where it had ended before anybody looked.
    pub start_ticks: Option<u64>,
}
