//! The outbox of what is to be run when a job has ended.
//!
//! ```text
//! Waiting ── job ends ──▶ Pending ◀──▶ Running ──▶ Delivered | Failed
//!                └──▶ Skipped
//! ```
//!
//! What clients may change about that, [`Delivery::altered`] says.

use pool_proto::nouns::CallbackRecord;
use pool_proto::text::rfc3339;

use super::Memory;
use crate::engine::{
    ANSWER_BYTES, Answer, CallbackEnd, CallbackPage, CallbackRun, CallbackWish, Delivery, MAX_COUNTED,
};
use crate::job::{CallbackId, JobId, NewCallback, RequestId, Unit};

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
        if self.callbacks.get(&id).is_some_and(|callback| callback.delivery == Delivery::Dropped) {
            return; // Just now: the core has been told, and has given the slot to another.
        }
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

    /// What a client wants of these callbacks.
    pub(super) fn alter_callbacks(
        &mut self,
        request: RequestId,
        wanted: Vec<CallbackId>,
        wish: CallbackWish,
    ) {
        let (mut ids, mut others) = (Vec::new(), Vec::new());
        for id in wanted {
            let before = self.callbacks.get(&id).map(|callback| callback.delivery);
            match before.and_then(|before| before.altered(wish)) {
                None => others.push((id, before)),
                Some(after) => {
                    self.set_delivery(id, after);
                    ids.push(id);
                }
            }
        }
        self.answer(Answer::CallbacksAltered { request, wish, ids, others });
    }

    fn set_delivery(&mut self, id: CallbackId, after: Delivery) {
        let Some(callback) = self.callbacks.get_mut(&id) else { return };
        let before = std::mem::replace(&mut callback.delivery, after);
        // The attempts that it has had are over, and so are the crashes that it may have brought about.
        (callback.earlier, callback.unended) = (callback.attempts, 0);
        if let Some(due_us) = callback.due_us.take() {
            self.waits.remove(&(due_us, Unit::Callback(id)));
        }

        let job = callback.job;
        let Some(row) = self.jobs.get_mut(&job) else { return };
        match (before.is_undelivered(), after.is_undelivered()) {
            (false, true) => {
                row.undelivered += 1;
                self.keep_from_removal(job);
            }
            (true, false) => {
                row.undelivered = row.undelivered.saturating_sub(1);
                self.make_removable(job);
            }
            (false, false) | (true, true) => {}
        }
    }

    pub(super) fn count_failed_callbacks(&self) -> u64 {
        let failed = self.callbacks.values().filter(|callback| callback.delivery == Delivery::Failed);
        failed.take(MAX_COUNTED as usize).count() as u64
    }

    /// Callbacks in order, and the id after which there are others.
    pub(super) fn read_callbacks(&self, page: CallbackPage) -> (Vec<CallbackRecord>, Option<CallbackId>) {
        let (failed, after, limit) = match page {
            CallbackPage::One(id) => return (self.tell_callback(id).into_iter().collect(), None),
            CallbackPage::Open { failed, after, limit } => (failed, after, limit as usize),
        };
        let is_one = |delivery: Delivery| match failed {
            true => delivery == Delivery::Failed,
            false => Delivery::OPEN.contains(&delivery),
        };
        let all = self.callbacks.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let mut told: Vec<CallbackRecord> = Vec::new();
        let mut bytes = 0;
        for (&id, _) in all.filter(|(_, callback)| is_one(callback.delivery)) {
            if told.len() == limit || bytes > ANSWER_BYTES {
                let last = told.last().map(|last| CallbackId(last.id));
                return (told, last);
            }
            let callback = self.tell_callback(id);
            bytes += callback.as_ref().map_or(0, |callback| callback.command.len());
            told.extend(callback);
        }
        (told, None)
    }

    fn tell_callback(&self, id: CallbackId) -> Option<CallbackRecord> {
        let callback = self.callbacks.get(&id)?;
        let record = self.record(callback.job)?;
        Some(CallbackRecord {
            id: id.0,
            on: callback.callback.on,
            state: callback.delivery.as_str().to_owned(),
            attempts: callback.attempts,
            exit_code: callback.exit_code,
            command: callback.callback.command.clone(),
            due_at: callback.due_us.map(rfc3339),
            job: record.id,
            job_name: record.name,
            job_state: record.state,
            job_result: record.result,
            pool: record.pool,
            ended_at: record.ended_at,
            stdout: None,
            stderr: None,
        })
    }
}
