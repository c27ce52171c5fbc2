//! Whether there is room for the output of more jobs: what ended ones have left, and what running ones have
//! written so far, of which only their files tell. The shell measures both when it is asked to; the history
//! makes room before anybody is refused.

use std::num::NonZeroU64;
use std::time::Duration;

use pool_proto::{Refusal, Request};

use super::event::ConnectionId;
use super::request::{Deferred, Open};
use super::{Desk, Effect};
use crate::core::Core;
use crate::job::RequestId;

/// The files of running jobs are looked at so often at most, however many submissions there are.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// What the output of all jobs takes, as far as is known.
#[derive(Debug, Default)]
pub struct OutputRoom {
    bytes: u64,
    measured_at: Option<Duration>,
    /// A measure is under way.
    is_asked: bool,
    /// Somebody was refused for want of room since the last measure, and the history has been told to make
    /// some.
    is_pruned: bool,
}

impl OutputRoom {
    /// What the output of all jobs takes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn is_fresh(&self, now: Duration) -> bool {
        !self.is_asked && self.measured_at.is_some_and(|at| now < at + MEASURE_EVERY)
    }

    fn measured(&mut self, now: Duration, bytes: u64) {
        *self = Self { bytes, measured_at: Some(now), is_asked: false, is_pruned: false };
    }
}

impl Desk {
    /// Whether the request is to wait for a measure. Those that wait are carried out in the order in which
    /// they came.
    pub(super) fn awaits_measure(&self, connection: ConnectionId, asked: &Request) -> bool {
        // Whatever follows a submission on its connection finds it done.
        if self.requests.is_submission_deferred(connection) {
            return true;
        }
        let is_fresh = self.room.is_fresh(self.now.monotonic);
        match asked {
            Request::Submit(_) | Request::SubmitMany(_) | Request::RunSchedule(_) => {
                self.config.max_total_output_bytes.is_some() && !is_fresh
            }
            Request::Status => !is_fresh,
            // A submission that was sent before is still to be accepted.
            Request::Shutdown(_) => self.room.is_asked,
            Request::Ping
            | Request::Spool
            | Request::Wait(_)
            | Request::Get(_)
            | Request::List(_)
            | Request::Output(_)
            | Request::Cancel(_)
            | Request::Signal(_)
            | Request::OpenInput(_)
            | Request::CloseInput(_)
            | Request::Resize(_)
            | Request::SetFrozen(_)
            | Request::Hold(_)
            | Request::Move(_)
            | Request::Retry(_)
            | Request::Edit(_)
            | Request::Definition(_)
            | Request::Remove(_)
            | Request::Release(_)
            | Request::Callbacks(_)
            | Request::GetCallback(_)
            | Request::RetryCallbacks(_)
            | Request::DropCallbacks(_)
            | Request::Pools
            | Request::AddPool(_)
            | Request::RemovePool(_)
            | Request::RestartPool(_)
            | Request::SetPaused(_)
            | Request::DrainPool(_)
            | Request::SetWorkers(_)
            | Request::AddSchedule(_)
            | Request::Schedules(_)
            | Request::SetSchedulesPaused(_)
            | Request::RemoveSchedules(_)
            | Request::LabelLimits
            | Request::Settings
            | Request::SetLabelLimit(_)
            | Request::Absent(_)
            | Request::Why(_)
            | Request::Dependents(_)
            | Request::Attempts(_)
            | Request::Count
            | Request::Events(_)
            | Request::Backup
            | Request::EndBackup => false,
        }
    }

    pub(super) fn defer(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        asked: Request,
        more: bool,
        core: &Core,
    ) {
        self.requests.insert(request, Open::Measuring(Box::new(Deferred { connection, asked, more })));
        if !self.room.is_asked {
            self.room.is_asked = true;
            self.effects.push(Effect::Measure { running: core.running().collect() });
        }
    }

    pub(super) fn on_measured(&mut self, ended: u64, running: u64, core: &Core) {
        self.room.measured(self.now.monotonic, ended.saturating_add(running));
        for request in self.requests.measuring() {
            let Some(Open::Measuring(deferred)) = self.requests.remove(request) else { continue };
            let Deferred { connection, asked, more } = *deferred;
            self.carry_out(connection, request, asked, more, core);
        }
    }

    /// Whether more jobs may be accepted.
    pub(super) fn check_output_room(&mut self) -> Result<(), Refusal> {
        let Some(limit) = self.config.max_total_output_bytes.map(NonZeroU64::get) else { return Ok(()) };
        if self.room.bytes <= limit {
            return Ok(());
        }
        if !std::mem::replace(&mut self.room.is_pruned, true) {
            self.effects.push(Effect::Prune);
        }
        Err(Refusal::OutputFull { limit })
    }
}
