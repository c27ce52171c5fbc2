//! When history is pruned: looked at after so many ends, or so many bytes, as may have made it too long.

use std::sync::Arc;
use std::time::Duration;

use super::Room;
use crate::job::{JobId, micros};

/// After so many ends at most the history is looked at.
const EVERY: u64 = 256;

/// And whenever it may have grown by this part of what is allowed.
const PART: u64 = 16;

/// Jobs that are forgotten at once: others wait for the transaction.
const BATCH: u32 = 100;

/// How much history may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    pub max_jobs: u64,
    pub max_age: Duration,
    pub max_output_bytes: u64,
}

/// See the module's description.
#[derive(Debug)]
pub struct Upkeep {
    limits: HistoryLimits,
    /// What has been added to the history since it was last looked at.
    ends: u64,
    bytes: u64,
}

impl Upkeep {
    pub fn new(limits: HistoryLimits) -> Self {
        Self { limits, ends: 0, bytes: 0 }
    }

    pub fn set_limits(&mut self, limits: HistoryLimits) {
        self.limits = limits;
    }

    /// A job has ended, with so much output.
    pub fn ended(&mut self, bytes: u64) {
        self.ends += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub fn is_due(&self) -> bool {
        let ends = (self.limits.max_jobs / PART).clamp(1, EVERY);
        self.ends >= ends || self.bytes > self.limits.max_output_bytes / PART
    }

    /// What is to be done now, without those that somebody waits for.
    pub fn prune(&mut self, wall_us: i64, spared: Arc<[JobId]>) -> Room {
        (self.ends, self.bytes) = (0, 0);
        let max_age_us = micros(self.limits.max_age);
        Room {
            max_jobs: self.limits.max_jobs,
            ended_before_us: wall_us.saturating_sub(max_age_us),
            max_output_bytes: self.limits.max_output_bytes,
            batch: BATCH,
            spared,
        }
    }
}
