//! What holds after every step of every story, and what must have held when it is over. The [`World`] notes what only it can know, over
//! all crashes, in its [`Chronicle`].

use std::collections::{BTreeMap, BTreeSet};

use pool_proto::interface::{OnCrash, SlotState, State, Tier};

use super::store::Delivery;
use super::world::{Sent, Worker, World};
use crate::job::{CallbackId, JobId, Unit};
use crate::scheduler::store_op::{StoreAnswer, StoreOp};
use crate::scheduler::{LaneId, Mode, SlotId, Timer};

/// What has happened to jobs and callbacks since the first start.
#[derive(Debug, Default)]
pub struct Chronicle {
    /// Attempts that workers were given or, where a job must not run twice, that were written down for that.
    tried: BTreeMap<JobId, u32>,
    /// Attempts that may have died with their worker or daemon.
    deaths: BTreeMap<JobId, u32>,
    /// Callbacks that a worker has been given.
    called: BTreeSet<CallbackId>,
}

impl Chronicle {
    pub fn tried(&mut self, id: JobId) {
        *self.tried.entry(id).or_default() += 1;
    }

    pub fn called(&mut self, id: CallbackId) {
        self.called.insert(id);
    }

    pub fn died(&mut self, id: JobId) {
        *self.deaths.entry(id).or_default() += 1;
    }
}

/// The state diagram of [`scheduler`](crate::scheduler), as the store sees it: attempts too short to be told of leave out `running`.
pub fn assert_transition(id: JobId, from: State, to: State) {
    use State::{Canceled, Failed, Held, Lost, Queued, Retrying, Running, Stopping, Succeeded, TimedOut};
    let is_drawn = match from {
        Queued => matches!(to, Running | Retrying | Failed | Canceled | TimedOut),
        Retrying => matches!(to, Running | Retrying | Failed | Canceled | TimedOut),
        Running => true,
        Stopping => matches!(to, Stopping | Canceled | TimedOut | Retrying),
        Held => matches!(to, Queued | Canceled),
        Succeeded | Failed | Canceled | TimedOut | Lost => false,
    };
    assert!(is_drawn, "job {id} goes from {from:?} to {to:?}");
}

/// The job that an operation is about, if it is one job.
pub fn subject(op: &StoreOp) -> Option<JobId> {
    match op {
        StoreOp::Start { id, .. }
        | StoreOp::Claim { id, .. }
        | StoreOp::Hold { id, .. }
        | StoreOp::Stopping { id, .. }
        | StoreOp::Retrying { id, .. }
        | StoreOp::Requeue { id, .. }
        | StoreOp::AttemptFailed { id, .. }
        | StoreOp::Finish { id, .. }
        | StoreOp::FinishQueued { id, .. } => Some(*id),
        _ => None,
    }
}

impl World {
    /// What holds whenever the scheduler has done its part.
    pub fn check(&self) {
        if self.dead || self.exited {
            return;
        }
        self.check_slots();
        self.check_running();
        self.check_waiters();
        self.check_idle_slots();
    }

    /// Scheduler and workers agree on who does what; no job is in two slots.
    fn check_slots(&self) {
        let mut seen = BTreeSet::new();
        for (pool, described) in self.scheduler.pools(|_| (Tier::Subreaper, None)).iter().enumerate() {
            for slot in &described.slots {
                let id = SlotId { lane: LaneId::Pool(pool), index: slot.slot };
                let worker = self.workers.get(&id).map(|(_, worker)| worker);
                match (slot.state, worker) {
                    (SlotState::Idle, Some(Worker::Idle)) => {}
                    (SlotState::Down, None | Some(Worker::Starting | Worker::Leaving)) => {}
                    (SlotState::Recycling, Some(Worker::Idle)) => {
                        assert!(self.successors.contains_key(&id), "{id:?}")
                    }
                    (SlotState::Starting, None | Some(Worker::Starting | Worker::Loading)) => {}
                    (
                        SlotState::BackingOff | SlotState::Failed,
                        None | Some(Worker::Starting | Worker::Condemned { .. }),
                    ) => {}
                    (SlotState::Busy, Some(Worker::Condemned { claim: Some(claim) })) => {
                        assert_eq!(claim.unit, Unit::Job(JobId(slot.job.expect("it has a call"))), "{id:?}");
                    }
                    (SlotState::Busy, Some(Worker::Idle | Worker::Condemned { claim: None })) => {} // The store has yet to write the start down.
                    (SlotState::Busy, Some(Worker::Busy { claim, .. })) => {
                        assert_eq!(
                            claim.unit,
                            Unit::Job(JobId(slot.job.expect("a job's pool runs jobs"))),
                            "{id:?}"
                        );
                    }
                    other => panic!("{id:?} is {other:?}"),
                }
                let is_new = slot.job.is_none_or(|job| seen.insert(job));
                assert!(is_new, "job {:?} is in two slots", slot.job);
            }
        }
    }

    /// What runs has not ended, and nobody believes so.
    fn check_running(&self) {
        for id in self.running_jobs().into_iter().map(JobId) {
            assert!(!self.store.state(id).is_terminal(), "job {id} runs after its end");
            assert!(!self.ended.contains_key(&id), "job {id} runs, and its end has been told");
            let ends = |op: &StoreOp| matches!(op, StoreOp::Finish { id: other, .. } if *other == id);
            assert!(!self.ops.iter().any(ends), "job {id} runs while its end is being written");
        }
    }

    /// Nobody waits for what has ended, unless the news is on its way.
    fn check_waiters(&self) {
        let asks = |op: &StoreOp, id: JobId| matches!(op, StoreOp::Get { ids, .. } if ids.contains(&id));
        let tells = |answer: &StoreAnswer, id: JobId| match answer {
            StoreAnswer::Finished { id: other, .. } => *other == id,
            StoreAnswer::Got { records, .. } => records.iter().any(|record| record.id == id.0),
            _ => false,
        };
        for (&id, _) in self.store.jobs.iter().filter(|(_, row)| row.state.is_terminal()) {
            if !self.scheduler.waiters.calls_for(id).is_empty() {
                let is_told = self.answers.iter().any(|answer| tells(answer, id))
                    || self.ops.iter().any(|op| asks(op, id));
                assert!(is_told, "somebody waits for job {id}, which has ended, and is not told");
            }
        }
    }

    /// No slot is idle while a job could run in it; with the store's work done there is nothing else to wait for.
    fn check_idle_slots(&self) {
        let is_paused =
            |pool: usize| self.scheduler.timers.iter().any(|(_, timer)| *timer == Timer::Resume(pool));
        if self.scheduler.mode >= Mode::Stopping || !self.ops.is_empty() || !self.answers.is_empty() {
            return;
        }
        for (index, pool) in self.scheduler.pools.iter().enumerate() {
            let waiting = pool.queue.total() - self.store.count_waiting(&pool.name) as u64;
            let waits = waiting > 0 && pool.slots.has_idle() && !is_paused(index);
            assert!(!waits, "{waiting} jobs wait in {:?} beside an idle slot", pool.name);
        }
    }

    /// What must have come true when everything has had its time.
    pub fn check_ends(&self) {
        for (&id, row) in &self.store.jobs {
            assert!(row.state.is_terminal(), "job {id} has not ended: {row:?}");
            let tried = self.seen.tried.get(&id).copied().unwrap_or(0);
            assert!(
                row.attempt <= tried,
                "job {id} counts {} attempts, and was tried {tried} times",
                row.attempt
            );
            let has_failed =
                matches!(row.state, State::Failed | State::TimedOut) && row.work.on_crash == OnCrash::Requeue;
            assert!(
                !has_failed || row.retried == row.work.retries.allowed,
                "job {id} is not tried again: {row:?}"
            );
            assert!(
                row.state != State::Succeeded || row.attempt > 0,
                "job {id} has succeeded without an attempt"
            );
            let deaths = self.seen.deaths.get(&id).copied().unwrap_or(0);
            assert!(
                row.state != State::Lost || deaths >= self.settings.crash_limit,
                "job {id} is lost after {deaths} deaths"
            );
            assert!(row.crashes <= deaths, "job {id} counts {} crashes of {deaths} deaths", row.crashes);
            let is_given_up = row.crashes == self.settings.crash_limit;
            assert!(
                row.state != State::Lost || is_given_up,
                "job {id} is lost after {} crashes",
                row.crashes
            );
        }
        for &id in &self.accepted {
            assert!(self.store.jobs.contains_key(&id), "job {id} was accepted and is gone");
        }
        for (&id, &state) in &self.ended {
            assert_eq!(self.store.state(id), state, "job {id} ended otherwise than was told");
        }
        self.check_callbacks();
        for (claim, sent) in &self.signals {
            assert!(
                !matches!((claim.unit, sent), (Unit::Callback(_), Sent::Signal(_))),
                "a client's signal for {claim}"
            );
        }
    }

    fn check_callbacks(&self) {
        for (id, callback) in &self.store.callbacks {
            let state = self.store.jobs[&callback.job].state;
            let is_due = callback.callback.on.matches(state);
            let is_settled = matches!(callback.delivery, Delivery::Delivered | Delivery::Failed);
            let fits = if is_due { is_settled } else { callback.delivery == Delivery::Skipped };
            assert!(fits, "callback {id} of a job that is {state:?}: {callback:?}");
            assert_eq!(
                self.seen.called.contains(id),
                is_due,
                "callback {id} of a job that is {state:?} runs exactly when it is due"
            );
        }
    }
}
