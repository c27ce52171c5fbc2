//! A store in memory that keeps the contract of [`store_op`](crate::scheduler::store_op), for tests, and holds the scheduler to it: what a
//! store would have to drop with an error is a failed test here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pool_proto::interface::{OnCrash, OutputFile, SCHEMA, State};
use pool_proto::text::rfc3339;
use pool_proto::{Record, Refusal, interface};

use crate::job::{
    CallbackId, JobId, JobKind, Key, NewCallback, Outcome, Position, Ready, StopReason, Tie, Work,
};
use crate::scheduler::store_op::{
    CallbackEnd, CallbackRun, Interrupted, PendingCallback, Restored, Start, StoreAnswer, StoreOp, Tied,
};

/// A job as stored.
#[derive(Debug)]
pub struct Row {
    pub work: Arc<Work>,
    pub key: Option<Key>,
    pub state: State,
    pub stopping: Option<StopReason>,
    pub attempt: u32,
    pub crashes: u32,
    pub retried: u32,
    /// It waits for that time, in no queue.
    pub due_us: Option<i64>,
    pub started_us: Option<i64>,
    pub reason: Option<String>,
    pub outcome: Option<Outcome>,
}

/// Where a callback stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Waiting,
    Pending,
    Running,
    Delivered,
    Failed,
    Skipped,
}

/// A callback as stored.
#[derive(Debug)]
pub struct CallbackRow {
    pub job: JobId,
    pub callback: NewCallback,
    pub delivery: Delivery,
    pub attempts: u32,
    due_us: i64,
    /// The place of its job's end among all ends.
    order: u64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pub jobs: BTreeMap<JobId, Row>,
    pub callbacks: BTreeMap<CallbackId, CallbackRow>,
    queued: BTreeMap<Arc<str>, BTreeSet<Position>>,
    next_job: u64,
    next_callback: u64,
    ends: u64,
}

impl MemoryStore {
    /// Carries out and commits; the answer, where there is one.
    pub fn apply(&mut self, op: StoreOp) -> Option<StoreAnswer> {
        match op {
            StoreOp::Insert { call, first, first_callback, jobs, .. } => {
                if let Some(id) = self.tied_to_nothing(&jobs) {
                    return Some(StoreAnswer::Refused { call, refusal: Refusal::NoSuchJob { id: id.0 } });
                }
                let existing = self.insert(first, first_callback, &jobs);
                let untied = self.untied(first, &jobs);
                return Some(StoreAnswer::Inserted { call, first, jobs, untied, existing });
            }
            StoreOp::Claim { id, attempt, worker_pid, started_us, .. } => {
                let row = self.leave_queue(id);
                (row.state, row.stopping, row.attempt, row.started_us) =
                    (State::Running, None, attempt, Some(started_us));
                return Some(StoreAnswer::Claimed { id, attempt, worker_pid });
            }
            StoreOp::Hold { id, crashes, reason } => {
                let row = self.leave_queue(id);
                (row.state, row.reason, row.started_us, row.crashes) =
                    (State::Held, Some(reason), None, crashes);
            }
            StoreOp::Release { call, ids } => {
                for &id in &ids {
                    let row = self.enter_queue(id);
                    assert_eq!(row.state, State::Held, "job {id}");
                    (row.state, row.reason, row.crashes) = (State::Queued, None, 0);
                }
                return Some(StoreAnswer::Released {
                    call,
                    jobs: ids.iter().map(|&id| self.ready(id)).collect(),
                });
            }
            StoreOp::Start { id, attempt, started_us, .. } => {
                let row = self.leave_queue(id);
                let was_claimed = row.work.on_crash != OnCrash::Requeue
                    && row.state == State::Running
                    && attempt == row.attempt;
                assert!(
                    attempt > row.attempt || was_claimed,
                    "job {id}: attempt {attempt} starts after attempt {}",
                    row.attempt
                );
                (row.state, row.stopping, row.attempt) = (State::Running, None, attempt);
                (row.started_us, row.reason) = (Some(started_us), None);
            }
            StoreOp::Stopping { id, reason } => {
                assert_ne!(reason, StopReason::Shutdown, "job {id}");
                let row = self.leave_queue(id);
                (row.state, row.stopping) = (State::Stopping, Some(reason));
            }
            StoreOp::Retrying { id, reason } => {
                let row = self.enter_queue(id);
                (row.state, row.reason, row.started_us) = (State::Retrying, Some(reason), None);
            }
            StoreOp::Requeue { id, crashes, reason } => {
                let row = self.enter_queue(id);
                (row.state, row.reason, row.started_us, row.crashes) = (State::Queued, reason, None, crashes);
            }
            StoreOp::AttemptFailed { id, retried, reason, start, due_us } => {
                self.start_untold(id, start);
                let row = self.leave_queue(id);
                assert!(
                    retried == row.retried + 1 && retried <= row.work.retries.allowed,
                    "job {id}: {retried} attempts are repeated"
                );
                (row.state, row.reason, row.started_us) = (State::Retrying, Some(reason), None);
                (row.retried, row.due_us) = (retried, Some(due_us));
            }
            StoreOp::TakeDue { until_us, limit } => return Some(self.take_due(until_us, limit as usize)),
            StoreOp::Finish { id, outcome, start, want_record } => {
                self.start_untold(id, start);
                return Some(self.finish(id, *outcome, want_record));
            }
            StoreOp::FinishQueued { id, outcome, want_record } => {
                let is_queued = |row: &Row| matches!(row.state, State::Queued | State::Retrying);
                if !self.jobs.get(&id).is_some_and(is_queued) {
                    return Some(StoreAnswer::NotQueued { id });
                }
                return Some(self.finish(id, *outcome, want_record));
            }
            StoreOp::Fetch { .. } | StoreOp::Get { .. } => return Some(self.read(&op)),
            StoreOp::ClaimCallback { id } => return Some(self.claim(id)),
            StoreOp::CallbackEnded { id, end, .. } => {
                let row = self.callbacks.get_mut(&id).expect("there is such a callback");
                assert_eq!(row.delivery, Delivery::Running, "callback {id}");
                match end {
                    CallbackEnd::Delivered => row.delivery = Delivery::Delivered,
                    CallbackEnd::Failed => row.delivery = Delivery::Failed,
                    CallbackEnd::Again { due_us } => (row.delivery, row.due_us) = (Delivery::Pending, due_us),
                }
            }
            StoreOp::List { .. }
            | StoreOp::Prune { .. }
            | StoreOp::Booted { .. }
            | StoreOp::SetPool { .. }
            | StoreOp::ReserveIds { .. } => {
                unreachable!("the scheduler asks for none")
            }
        }
        None
    }

    /// The answer to an operation that changes nothing.
    pub fn read(&self, op: &StoreOp) -> StoreAnswer {
        match op {
            StoreOp::Fetch { pool, after, limit } => {
                let queued = self.queued.get(pool).into_iter().flatten();
                let ids = queued
                    .filter(|&&position| after.is_none_or(|after| position > after))
                    .map(|position| position.id);
                let page: Vec<JobId> = ids.take(*limit as usize + 1).collect();
                let complete = page.len() <= *limit as usize;
                let jobs = page.iter().take(*limit as usize).map(|&id| self.ready(id)).collect();
                StoreAnswer::Fetched { pool: pool.clone(), jobs, complete }
            }
            StoreOp::Get { call, ids } => {
                let (found, missing): (Vec<JobId>, Vec<JobId>) =
                    ids.iter().partition(|id| self.jobs.contains_key(id));
                StoreAnswer::Got {
                    call: *call,
                    records: found.iter().map(|&id| self.record(id)).collect(),
                    missing,
                }
            }
            other => unreachable!("{other:?} is no read"),
        }
    }

    /// What a start finds.
    pub fn restored(&self) -> Restored {
        let mut queued = BTreeMap::new();
        for row in self.jobs.values().filter(|row| matches!(row.state, State::Queued | State::Retrying)) {
            *queued.entry(row.work.pool.to_string()).or_default() += 1;
        }
        let active =
            self.jobs.iter().filter(|(_, row)| matches!(row.state, State::Running | State::Stopping));
        let interrupted = active.map(|(&id, row)| Interrupted {
            id,
            pool: row.work.pool.to_string(),
            attempt: row.attempt,
            crashes: row.crashes,
            on_crash: row.work.on_crash,
            retries: row.work.retries,
            retried: row.retried,
            worker_pid: None,
            process: None,
            stopping: row.stopping,
        });
        let living = || self.jobs.iter().filter(|(_, row)| !row.state.is_terminal());
        let tied = living().filter_map(|(&id, row)| {
            let tie = row.work.tie?;
            let untied = matches!(tie, Tie::Job(other) if self.jobs[&other].state.is_terminal());
            Some(Tied { id, tie, untied })
        });
        let mut outbox: Vec<(u64, PendingCallback)> = self
            .callbacks
            .iter()
            .filter(|(_, row)| matches!(row.delivery, Delivery::Pending | Delivery::Running))
            .map(|(&id, row)| (row.order, PendingCallback { id, due_us: row.due_us }))
            .collect();
        outbox.sort_by_key(|(order, callback)| (*order, callback.id));
        Restored {
            next_job: self.next_job.max(1),
            next_callback: self.next_callback.max(1),
            queued,
            next_due_us: self.jobs.values().filter_map(|row| row.due_us).min(),
            interrupted: interrupted.collect(),
            held: living().filter(|(_, row)| row.state == State::Held).map(|(&id, _)| id).collect(),
            tied: tied.collect(),
            callbacks: outbox.into_iter().map(|(_, callback)| callback).collect(),
            ..Restored::default()
        }
    }

    pub fn state(&self, id: JobId) -> State {
        self.jobs[&id].state
    }

    /// Jobs that are in a pool's queue before this one.
    pub fn queued_before(&self, pool: &Arc<str>, id: JobId) -> impl Iterator<Item = JobId> {
        let position = self.position(id);
        self.queued
            .get(pool)
            .into_iter()
            .flat_map(move |queued| queued.range(..position))
            .map(|position| position.id)
    }

    /// How many jobs of a pool wait for the time of their next attempt.
    pub fn count_waiting(&self, pool: &str) -> usize {
        self.jobs.values().filter(|row| *row.work.pool == *pool && row.due_us.is_some()).count()
    }

    fn position(&self, id: JobId) -> Position {
        Position { priority: Reverse(self.jobs[&id].work.priority), id }
    }

    /// Jobs whose work somebody holds besides the store.
    pub fn count_held_elsewhere(&self) -> usize {
        self.jobs.values().filter(|row| Arc::strong_count(&row.work) > 1).count()
    }

    /// Who has the key of such work and keeps it.
    fn keeper(&self, work: &Work) -> Option<JobId> {
        let key = work.key.as_ref()?;
        let (&id, row) =
            self.jobs.iter().find(|(_, row)| row.key.as_ref().is_some_and(|other| other.text == key.text))?;
        let gives_way = row.state.is_terminal() && row.state != State::Succeeded && key.round.is_some();
        let is_of_round = row.key.as_ref().is_some_and(|other| other.round == key.round);
        (!gives_way || is_of_round).then_some(id)
    }

    fn tied_to_nothing(&self, jobs: &[Arc<Work>]) -> Option<JobId> {
        let target = |work: &Arc<Work>| match work.tie {
            _ if self.keeper(work).is_some() => None,
            Some(Tie::Job(id)) if !self.jobs.contains_key(&id) => Some(id),
            _ => None,
        };
        jobs.iter().find_map(target)
    }

    fn untied(&self, first: JobId, jobs: &[Arc<Work>]) -> Vec<JobId> {
        let is_untied =
            |work: &Arc<Work>| matches!(work.tie, Some(Tie::Job(id)) if self.jobs[&id].state.is_terminal());
        let added = (first.0..).map(JobId).zip(jobs).filter(|(id, _)| self.jobs.contains_key(id));
        added.filter(|(_, work)| is_untied(work)).map(|(id, _)| id).collect()
    }

    /// The places of those that are not added, and who has their keys.
    fn insert(
        &mut self,
        first: JobId,
        first_callback: CallbackId,
        jobs: &[Arc<Work>],
    ) -> Vec<(usize, JobId)> {
        assert!(first.0 >= self.next_job && first_callback.0 >= self.next_callback, "ids only ever grow");
        let mut existing = Vec::new();
        let mut callback_ids = (first_callback.0..).map(CallbackId);
        for (place, (id, work)) in (first.0..).map(JobId).zip(jobs).enumerate() {
            if let Some(keeper) = self.keeper(work) {
                existing.push((place, keeper));
                continue;
            }
            if let Some(key) = &work.key {
                let has_it = |row: &&mut Row| row.key.as_ref().is_some_and(|other| other.text == key.text);
                self.jobs.values_mut().find(has_it).into_iter().for_each(|row| row.key = None);
            }
            for (callback, callback_id) in work.callbacks.iter().zip(callback_ids.by_ref()) {
                let callback = callback.clone();
                let row = CallbackRow {
                    job: id,
                    callback,
                    delivery: Delivery::Waiting,
                    attempts: 0,
                    due_us: 0,
                    order: 0,
                };
                self.callbacks.insert(callback_id, row);
                self.next_callback = callback_id.0 + 1;
            }
            let row = Row {
                work: work.clone(),
                key: work.key.clone(),
                state: State::Queued,
                stopping: None,
                attempt: 0,
                crashes: 0,
                retried: 0,
                due_us: None,
                started_us: None,
                reason: None,
                outcome: None,
            };
            self.jobs.insert(id, row);
            self.enter_queue(id);
        }
        self.next_job = first.0 + jobs.len() as u64;
        existing
    }

    fn leave_queue(&mut self, id: JobId) -> &mut Row {
        let position = self.position(id);
        let row = self.jobs.get_mut(&id).expect("there is such a job");
        assert!(!row.state.is_terminal(), "job {id} has ended");
        row.due_us = None;
        self.queued.entry(row.work.pool.clone()).or_default().remove(&position);
        row
    }

    fn enter_queue(&mut self, id: JobId) -> &mut Row {
        let position = self.position(id);
        let row = self.jobs.get_mut(&id).expect("there is such a job");
        assert!(!row.state.is_terminal(), "job {id} has ended");
        self.queued.entry(row.work.pool.clone()).or_default().insert(position);
        row
    }

    /// The start of a call, which nobody has told before.
    fn start_untold(&mut self, id: JobId, start: Option<Start>) {
        let Some(Start { attempt, started_us, .. }) = start else { return };
        let row = self.jobs.get_mut(&id).expect("there is such a job");
        let was_claimed = row.work.on_crash != OnCrash::Requeue && attempt == row.attempt;
        assert!(attempt > row.attempt || was_claimed, "job {id}: attempt {attempt} is told of twice");
        (row.attempt, row.started_us) = (attempt, Some(started_us));
    }

    fn take_due(&mut self, until_us: i64, limit: usize) -> StoreAnswer {
        let mut waiting: Vec<(i64, JobId)> =
            self.jobs.iter().filter_map(|(&id, row)| Some((row.due_us?, id))).collect();
        waiting.sort_unstable();
        let count = waiting.iter().take(limit).take_while(|(due_us, _)| *due_us <= until_us).count();
        for &(_, id) in &waiting[..count] {
            self.enter_queue(id).due_us = None;
        }
        let jobs = waiting[..count].iter().map(|&(_, id)| self.ready(id)).collect();
        StoreAnswer::Due { jobs, next_us: waiting.get(count).map(|&(due_us, _)| due_us) }
    }

    fn finish(&mut self, id: JobId, outcome: Outcome, want_record: bool) -> StoreAnswer {
        self.ends += 1;
        let order = self.ends;
        let row = self.leave_queue(id);
        row.state = outcome.state;
        row.crashes += u32::from(outcome.crashed);
        let (state, ended_us) = (outcome.state, outcome.ended_us);
        row.outcome = Some(outcome);
        let mut due = Vec::new();
        for (&callback_id, callback) in self.callbacks.iter_mut().filter(|(_, callback)| callback.job == id) {
            let is_due = callback.callback.on.matches(state);
            callback.delivery = if is_due { Delivery::Pending } else { Delivery::Skipped };
            (callback.due_us, callback.order) = (ended_us, order);
            due.extend(is_due.then_some(callback_id));
        }
        let record = want_record.then(|| Box::new(self.record(id)));
        StoreAnswer::Finished { id, record, callbacks: due, stdin: None }
    }

    fn claim(&mut self, id: CallbackId) -> StoreAnswer {
        let row = self.callbacks.get_mut(&id).expect("there is such a callback");
        assert!(
            matches!(row.delivery, Delivery::Pending | Delivery::Running),
            "callback {id} is {:?}",
            row.delivery
        );
        row.delivery = Delivery::Running;
        row.attempts += 1;
        let (job, attempt, command) = (row.job, row.attempts, row.callback.command.clone());
        let (work, record) = (self.jobs[&job].work.clone(), Box::new(self.record(job)));
        StoreAnswer::CallbackClaimed(Box::new(CallbackRun { id, attempt, command, work, record }))
    }

    fn ready(&self, id: JobId) -> Ready {
        let row = &self.jobs[&id];
        let &Row { attempt, crashes, retried, ref work, .. } = row;
        Ready { id, attempts: attempt, crashes, retried, start_deaths: 0, work: work.clone() }
    }

    fn record(&self, id: JobId) -> Record {
        let row = &self.jobs[&id];
        let outcome = row.outcome.as_ref();
        let output =
            || (row.attempt > 0).then(|| OutputFile { path: format!("{id}.{}", row.attempt), bytes: None });
        let callbacks = self.callbacks.iter().filter(|(_, callback)| callback.job == id);
        let callbacks = callbacks.map(|(callback_id, callback)| interface::Callback {
            id: callback_id.0,
            on: callback.callback.on,
            state: format!("{:?}", callback.delivery).to_lowercase(),
            attempts: callback.attempts,
            exit_code: None,
        });
        Record {
            schema: SCHEMA,
            id: id.0,
            state: row.state,
            result: outcome.map(|outcome| outcome.result),
            exit_code: outcome.and_then(|outcome| outcome.exit_code),
            signal: outcome.and_then(|outcome| outcome.signal),
            reason: outcome.map_or_else(|| row.reason.clone(), |outcome| outcome.reason.clone()),
            pool: row.work.pool.to_string(),
            slot: None,
            name: row.work.name.clone(),
            argv: match &row.work.kind {
                JobKind::Exec(argv) => Some(argv.clone()),
                JobKind::Call(_) => None,
            },
            method: row.work.call().map(|call| call.method.clone()),
            params: row.work.call().and_then(|call| call.params.clone()),
            value: outcome.and_then(|outcome| outcome.answer.clone()?.ok()),
            error: outcome.and_then(|outcome| outcome.answer.clone()?.err()),
            progress: None,
            cwd: row.work.cwd.clone(),
            tie: row.work.tie.map(|tie| tie.to_string()),
            on_crash: row.work.on_crash,
            key: row.key.as_ref().map(|key| key.text.clone()),
            attempt: row.attempt,
            crashes: row.crashes,
            worker_pid: None,
            pid: None,
            submitted_at: rfc3339(0),
            started_at: row.started_us.map(rfc3339),
            ended_at: outcome.map(|outcome| rfc3339(outcome.ended_us)),
            wall_s: None,
            usage: outcome.and_then(|outcome| outcome.usage),
            last_crash: None,
            priority: row.work.priority,
            retries: row.work.retries.allowed,
            retried: row.retried,
            due_at: row.due_us.map(rfc3339),
            stdout: output(),
            stderr: output(),
            callbacks: callbacks.collect(),
        }
    }
}
