//! The outbox of what is to be run when a job has ended.
//!
//! ```text
//! Waiting ── job ends ──▶ Pending ◀──▶ Running ──▶ Delivered | Failed
//!                └──▶ Skipped
//! ```

use super::Memory;
use crate::engine::{Answer, CallbackEnd, CallbackRun};
use crate::job::{CallbackId, JobId, NewCallback, Unit};

/// How far the delivery of a callback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Its job has not ended.
    Waiting,
    Pending,
    Running,
    Delivered,
    Failed,
    /// Its job has ended otherwise.
    Skipped,
}

/// A callback.
#[derive(Debug, Clone)]
pub(super) struct OutgoingCallback {
    pub job: JobId,
    pub callback: NewCallback,
    pub delivery: Delivery,
    pub attempts: u32,
    /// Those of them that have told of earlier ends.
    pub earlier: u32,
    /// Attempts that have begun since the last one that has ended.
    pub unended: u32,
    pub exit_code: Option<i32>,
    /// It is pending, but waits for that time.
    pub due_us: Option<i64>,
    /// The place of its job's end among all ends.
    pub order: u64,
}

impl Delivery {
    /// As clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl OutgoingCallback {
    pub fn new(job: JobId, callback: NewCallback) -> Self {
        Self {
            job,
            callback,
            delivery: Delivery::Waiting,
            attempts: 0,
            earlier: 0,
            unended: 0,
            exit_code: None,
            due_us: None,
            order: 0,
        }
    }
}

impl Memory {
    /// Decides on the callbacks of a job that has ended: those that are pending now, in order.
    pub(super) fn release_callbacks(&mut self, id: JobId) -> Vec<CallbackId> {
        self.ends += 1;
        let Some(row) = self.jobs.get_mut(&id) else { return Vec::new() };
        let state = row.place.state();
        let mut pending = Vec::new();
        for &callback_id in &row.callbacks {
            let Some(callback) = self.callbacks.get_mut(&callback_id) else { continue };
            let is_due = callback.callback.on.matches(state);
            callback.delivery = if is_due { Delivery::Pending } else { Delivery::Skipped };
            callback.order = self.ends;
            pending.extend(is_due.then_some(callback_id));
        }
        row.undelivered = pending.len();
        pending
    }

    /// A callback may be running already: for the last daemon, or for a worker that died before it could
    /// begin.
    pub(super) fn begin_callback(&mut self, id: CallbackId) {
        let waiting = self.callbacks.get_mut(&id);
        let Some(callback) =
            waiting.filter(|callback| matches!(callback.delivery, Delivery::Pending | Delivery::Running))
        else {
            return self.mistake(format!("begin of callback {id}, which is not pending"));
        };
        callback.delivery = Delivery::Running;
        callback.attempts += 1;
        callback.unended += 1;
        if let Some(due_us) = callback.due_us.take() {
            self.waits.remove(&(due_us, Unit::Callback(id)));
        }

        let (job, attempt, command) = (callback.job, callback.attempts, callback.callback.command.clone());
        let earlier = callback.earlier;
        let (Some(row), Some(record)) = (self.jobs.get(&job), self.record(job)) else { return };
        let (work, record) = (row.work.clone(), Box::new(record));
        self.answer(Answer::CallbackBegun(Box::new(CallbackRun {
            id,
            attempt,
            earlier,
            command,
            work,
            record,
        })));
    }

    pub(super) fn end_callback(&mut self, id: CallbackId, end: CallbackEnd, exit_code: Option<i32>) {
        let running = self.callbacks.get_mut(&id);
        let Some(callback) = running.filter(|callback| callback.delivery == Delivery::Running) else {
            return self.mistake(format!("end of callback {id}, which is not running"));
        };
        callback.exit_code = exit_code;
        callback.unended = 0;
        callback.delivery = match end {
            CallbackEnd::Delivered => Delivery::Delivered,
            CallbackEnd::Failed => Delivery::Failed,
            CallbackEnd::Again { due_us } => {
                callback.due_us = Some(due_us);
                self.waits.insert((due_us, Unit::Callback(id)));
                callback.delivery = Delivery::Pending;
                return;
            }
        };

        let job = callback.job;
        if let Some(row) = self.jobs.get_mut(&job) {
            row.undelivered = row.undelivered.saturating_sub(1);
            self.make_removable(job);
        }
    }
}
