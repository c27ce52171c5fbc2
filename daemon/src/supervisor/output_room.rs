//! Whether there is room for the output of more jobs: what ended ones have left, of which the store keeps the sum, and what running ones
//! have written so far, of which only their files tell. The history makes room before anybody is refused.

use std::fs;
use std::num::NonZeroU64;
use std::time::Duration;

use pool_proto::Refusal;

use super::Supervisor;
use crate::output;

/// The files of running jobs are looked at so often at most, however many submissions there are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What running jobs have written.
#[derive(Debug, Default)]
pub struct Running {
    bytes: u64,
    looked_at: Option<Duration>,
}

impl Supervisor {
    /// Whether more jobs may be accepted.
    pub(super) fn check_output_room(&mut self) -> Result<(), Refusal> {
        let Some(limit) = self.config.max_total_output_bytes.map(NonZeroU64::get) else { return Ok(()) };
        let is_new = self.look_at_running();
        if self.store.ended_output_bytes().saturating_add(self.running_output.bytes) <= limit {
            return Ok(());
        }
        if is_new {
            self.prune();
        }
        Err(Refusal::OutputFull { limit })
    }

    /// What the output of all jobs takes.
    pub(super) fn output_bytes(&mut self) -> u64 {
        self.look_at_running();
        self.store.ended_output_bytes().saturating_add(self.running_output.bytes)
    }

    /// How much output of ended jobs may stay.
    pub(super) fn max_history_output_bytes(&mut self) -> u64 {
        if self.config.max_total_output_bytes.is_some() {
            self.look_at_running();
        }
        self.config.max_history_output_bytes(self.running_output.bytes)
    }

    /// False where that was done a moment ago.
    fn look_at_running(&mut self) -> bool {
        let now = self.clock.now().monotonic;
        if self.running_output.looked_at.is_some_and(|at| now < at + LOOK_EVERY) {
            return false;
        }
        // Those of attempts that a crash has cut off are still there.
        let attempts =
            self.scheduler.running().flat_map(|(id, last)| (1..=last).map(move |attempt| (id, attempt)));
        let files = attempts.map(|(id, attempt)| output::job_paths(&self.place.state_dir, id, attempt));
        let size = |path| fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
        let bytes = files
            .map(|(stdout, stderr)| size(stdout).saturating_add(size(stderr)))
            .fold(0, u64::saturating_add);
        self.running_output = Running { bytes, looked_at: Some(now) };
        true
    }
}
