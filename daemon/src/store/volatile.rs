//! Jobs that are kept in memory alone (`durability = "none"`): the same operations with the same answers, at once, and nothing on disk. They
//! end with the supervisor. What has ended is remembered for a while, so that it can be asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pool_proto::Record;
use pool_proto::interface::{SCHEMA, State};
use pool_proto::text::rfc3339;

use crate::job::{JobId, JobKind, Outcome, Ready, Work};
use crate::scheduler::store_op::{ListQuery, Start, StoreAnswer, StoreOp};

/// Ended jobs that are remembered at most, and for how long, in microseconds.
const MAX_ENDED: usize = 100_000;
const MAX_AGE_US: i64 = 10 * 60 * 1_000_000;

/// What the ended ones have returned takes so much at most, in bytes, the last one's apart.
const MAX_BYTES: usize = 64 << 20;

/// A job.
#[derive(Debug)]
struct Row {
    work: Arc<Work>,
    state: State,
    attempts: u32,
    crashes: u32,
    retried: u32,
    due_us: Option<i64>,
    submitted_us: i64,
    reason: Option<String>,
    last_crash: Option<String>,
    start: Option<Start>,
    outcome: Option<Outcome>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Volatile {
    jobs: BTreeMap<JobId, Row>,
    /// Those that have ended, the first one first, when, and the bytes that they hold.
    ended: VecDeque<(JobId, i64, usize)>,
    ended_bytes: usize,
    /// Those that wait for their next attempt's time.
    due: BTreeSet<(i64, JobId)>,
    answers: VecDeque<StoreAnswer>,
}

impl Volatile {
    /// Whether it has the job.
    pub fn has(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id)
    }

    /// Carries out what is about its jobs; returns what is not.
    pub fn take(&mut self, op: StoreOp) -> Option<StoreOp> {
        let subject = match &op {
            StoreOp::Insert { jobs, .. } => {
                return if jobs.iter().any(|work| work.volatile) { self.insert(op) } else { Some(op) };
            }
            StoreOp::Get { .. } => return self.get(op),
            // Both stores may have some.
            StoreOp::TakeDue { until_us, limit } => {
                self.take_due(*until_us, *limit as usize);
                return Some(op);
            }
            StoreOp::Start { id, .. }
            | StoreOp::Claim { id, .. }
            | StoreOp::Hold { id, .. }
            | StoreOp::Stopping { id, .. }
            | StoreOp::Retrying { id, .. }
            | StoreOp::Requeue { id, .. }
            | StoreOp::AttemptFailed { id, .. }
            | StoreOp::Finish { id, .. }
            | StoreOp::FinishQueued { id, .. } => *id,
            StoreOp::Booted { .. }
            | StoreOp::Release { .. }
            | StoreOp::Fetch { .. }
            | StoreOp::List { .. }
            | StoreOp::ClaimCallback { .. }
            | StoreOp::CallbackEnded { .. }
            | StoreOp::SetPool { .. }
            | StoreOp::ReserveIds { .. }
            | StoreOp::Prune { .. } => return Some(op),
        };
        if self.has(subject) { self.change(op) } else { Some(op) }
    }

    fn insert(&mut self, op: StoreOp) -> Option<StoreOp> {
        let StoreOp::Insert { call, first, jobs, submitted_us, .. } = op else { return Some(op) };
        for (id, work) in (first.0..).map(JobId).zip(&jobs) {
            let row = Row {
                work: work.clone(),
                state: State::Queued,
                attempts: 0,
                crashes: 0,
                retried: 0,
                due_us: None,
                submitted_us,
                reason: None,
                last_crash: None,
                start: None,
                outcome: None,
            };
            self.jobs.insert(id, row);
        }
        self.answers.push_back(StoreAnswer::Inserted {
            call,
            first,
            jobs,
            untied: Vec::new(),
            existing: Vec::new(),
        });
        None
    }

    /// Of a question that is about others as well, the rest is returned.
    fn get(&mut self, op: StoreOp) -> Option<StoreOp> {
        let StoreOp::Get { call, ids } = op else { return Some(op) };
        let (ours, others): (Vec<JobId>, Vec<JobId>) = ids.into_iter().partition(|&id| self.has(id));
        if !ours.is_empty() {
            let records = ours.iter().filter_map(|&id| self.record(id)).collect();
            self.answers.push_back(StoreAnswer::Got { call, records, missing: Vec::new() });
        }
        (!others.is_empty() || ours.is_empty()).then_some(StoreOp::Get { call, ids: others })
    }

    /// A change of a job that there is. What has ended stays as it is.
    fn change(&mut self, op: StoreOp) -> Option<StoreOp> {
        match op {
            StoreOp::Start { id, attempt, slot, worker_pid, process, started_us } => {
                self.start(id, Start { attempt, slot, worker_pid, process, started_us });
            }
            StoreOp::Claim { id, attempt, slot, worker_pid, started_us } => {
                self.start(id, Start { attempt, slot, worker_pid, process: None, started_us });
                self.answers.push_back(StoreAnswer::Claimed { id, attempt, worker_pid });
            }
            StoreOp::Stopping { id, .. } => self.set_state(id, State::Stopping, None),
            StoreOp::Retrying { id, reason } => self.set_state(id, State::Retrying, Some(reason)),
            StoreOp::Hold { id, crashes, reason } => {
                self.leave_attempt(id, State::Held, crashes, Some(reason))
            }
            StoreOp::Requeue { id, crashes, reason } => {
                self.leave_attempt(id, State::Queued, crashes, reason)
            }
            StoreOp::AttemptFailed { id, retried, reason, start, due_us } => {
                start.into_iter().for_each(|start| self.start(id, start));
                self.attempt_failed(id, retried, reason, due_us);
            }
            StoreOp::Finish { id, outcome, start, want_record } => {
                start.into_iter().for_each(|start| self.start(id, start));
                self.finish(id, *outcome, want_record);
            }
            StoreOp::FinishQueued { id, outcome, want_record } => {
                if self.jobs.get(&id).is_some_and(|row| row.state.is_terminal()) {
                    self.answers.push_back(StoreAnswer::NotQueued { id });
                } else {
                    self.finish(id, *outcome, want_record);
                }
            }
            other => return Some(other),
        }
        None
    }

    fn living(&mut self, id: JobId) -> Option<&mut Row> {
        self.jobs.get_mut(&id).filter(|row| !row.state.is_terminal())
    }

    fn start(&mut self, id: JobId, start: Start) {
        let Some(row) = self.living(id) else { return };
        (row.state, row.attempts, row.start, row.reason) = (State::Running, start.attempt, Some(start), None);
    }

    fn set_state(&mut self, id: JobId, state: State, reason: Option<String>) {
        let Some(row) = self.living(id) else { return };
        (row.state, row.reason) = (state, reason);
    }

    fn attempt_failed(&mut self, id: JobId, retried: u32, reason: String, due_us: i64) {
        let Some(row) = self.living(id) else { return };
        (row.state, row.retried, row.reason, row.start, row.due_us) =
            (State::Retrying, retried, Some(reason), None, Some(due_us));
        self.due.insert((due_us, id));
    }

    fn take_due(&mut self, until_us: i64, limit: usize) {
        let mut jobs = Vec::new();
        while let Some(&(due_us, id)) = self.due.first()
            && due_us <= until_us
            && jobs.len() < limit
        {
            self.due.pop_first();
            let Some(row) = self.living(id) else { continue };
            row.due_us = None;
            let &mut Row { attempts, crashes, retried, ref work, .. } = row;
            jobs.push(Ready { id, attempts, crashes, retried, start_deaths: 0, work: work.clone() });
        }
        let next_us = self.due.first().map(|&(due_us, _)| due_us);
        if !jobs.is_empty() || next_us.is_some() {
            self.answers.push_back(StoreAnswer::Due { jobs, next_us });
        }
    }

    fn leave_attempt(&mut self, id: JobId, state: State, crashes: u32, reason: Option<String>) {
        let Some(row) = self.living(id) else { return };
        let died = reason.as_ref().map(|reason| format!("attempt {}: {reason}", row.attempts));
        row.last_crash = died.or(row.last_crash.take());
        (row.state, row.crashes, row.reason, row.start) = (state, crashes, reason, None);
    }

    fn finish(&mut self, id: JobId, outcome: Outcome, want_record: bool) {
        let Some(row) = self.living(id) else { return };
        let (value, error) = match &outcome.answer {
            Some(Ok(value)) => (Some(value), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let params = row.work.call().and_then(|call| call.params.as_ref());
        let bytes = [value, error, params].into_iter().flatten().map(|json| json.get().len()).sum();
        let ended_us = outcome.ended_us;
        let due = row.due_us.take().map(|due_us| (due_us, id));
        row.crashes += u32::from(outcome.crashed);
        (row.state, row.outcome) = (outcome.state, Some(outcome));
        due.into_iter().for_each(|due| _ = self.due.remove(&due));
        let record = want_record.then(|| self.record(id)).flatten().map(Box::new);
        self.answers.push_back(StoreAnswer::Finished { id, record, callbacks: Vec::new(), stdin: None });
        self.ended.push_back((id, ended_us, bytes));
        self.ended_bytes += bytes;
        self.forget(ended_us);
    }

    /// Forgets the oldest ends beyond what is remembered.
    fn forget(&mut self, now_us: i64) {
        while let Some(&(id, ended_us, bytes)) = self.ended.front()
            && (self.ended.len() > MAX_ENDED
                || self.ended_bytes > MAX_BYTES
                || ended_us < now_us - MAX_AGE_US)
            && self.ended.len() > 1
        {
            self.ended.pop_front();
            self.ended_bytes -= bytes;
            self.jobs.remove(&id);
        }
    }

    /// Adds its jobs to a page of a listing, which then has at most `query.limit`; where the listing goes on.
    pub fn join(&self, query: &ListQuery, page: &mut Vec<Record>, next: Option<JobId>) -> Option<JobId> {
        let from = JobId(query.after.map_or(0, |after| after.0 + 1));
        let until = next.map_or(u64::MAX, |next| next.0);
        let fits = |row: &Row| {
            (query.states.is_empty() || query.states.contains(&row.state))
                && query.pool.as_ref().is_none_or(|pool| **pool == *row.work.pool)
        };
        let limit = query.limit.max(1) as usize;
        let ours = self.jobs.range(from..=JobId(until)).filter(|(_, row)| fits(row)).take(limit + 1);
        let before = page.len();
        page.extend(ours.filter_map(|(&id, _)| self.record(id)));
        if page.len() == before {
            return next;
        }
        page.sort_unstable_by_key(|record| record.id);
        let is_cut = page.len() > limit;
        page.truncate(limit);
        if is_cut { page.last().map(|record| JobId(record.id)) } else { next }
    }

    /// A job's record, if there is such a job.
    pub fn record(&self, id: JobId) -> Option<Record> {
        let Row {
            work,
            state,
            attempts,
            crashes,
            retried,
            due_us,
            submitted_us,
            reason,
            last_crash,
            start,
            outcome,
        } = self.jobs.get(&id)?;
        let (argv, call) = match &work.kind {
            JobKind::Exec(argv) => (Some(argv.clone()), None),
            JobKind::Call(call) => (None, Some(call)),
        };
        let outcome = outcome.as_ref();
        let answer = outcome.and_then(|outcome| outcome.answer.as_ref());
        let ended_us = outcome.map(|outcome| outcome.ended_us);
        let wall =
            start.zip(ended_us).map(|(start, ended_us)| (ended_us - start.started_us).max(0) as f64 / 1e6);
        Some(Record {
            schema: SCHEMA,
            id: id.0,
            state: *state,
            result: outcome.map(|outcome| outcome.result),
            exit_code: outcome.and_then(|outcome| outcome.exit_code),
            signal: outcome.and_then(|outcome| outcome.signal),
            reason: outcome.map_or_else(|| reason.clone(), |outcome| outcome.reason.clone()),
            pool: work.pool.to_string(),
            slot: start.map(|start| start.slot),
            name: work.name.clone(),
            argv,
            method: call.map(|call| call.method.clone()),
            params: call.and_then(|call| call.params.clone()),
            value: answer.and_then(|answer| answer.as_ref().ok()).cloned(),
            error: answer.and_then(|answer| answer.as_ref().err()).cloned(),
            progress: None,
            cwd: work.cwd.clone(),
            tie: work.tie.map(|tie| tie.to_string()),
            on_crash: work.on_crash,
            key: None,
            attempt: *attempts,
            crashes: *crashes,
            last_crash: last_crash.clone(),
            priority: work.priority,
            retries: work.retries.allowed,
            retried: *retried,
            due_at: due_us.map(rfc3339),
            worker_pid: start.map(|start| start.worker_pid),
            pid: start.and_then(|start| start.process).map(|process| process.pid),
            submitted_at: rfc3339(*submitted_us),
            started_at: start.map(|start| rfc3339(start.started_us)),
            ended_at: ended_us.map(rfc3339),
            wall_s: wall,
            usage: outcome.and_then(|outcome| outcome.usage),
            stdout: None,
            stderr: None,
            callbacks: Vec::new(),
        })
    }

    /// The next answer.
    pub fn answer(&mut self) -> Option<StoreAnswer> {
        self.answers.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_proto::interface::{OnCrash, ResultKind};
    use std::time::Duration;

    use crate::job::{Call, CallbackId, Environment, RequestId, Retries};

    fn call(volatile: bool) -> Arc<Work> {
        Arc::new(Work {
            pool: Arc::from("p"),
            name: None,
            kind: JobKind::Call(Call { method: "m".to_owned(), params: None }),
            volatile,
            cwd: "/".to_owned(),
            environment: Arc::new(Environment::default()),
            stdin: None,
            timeout: None,
            kill_after: Duration::ZERO,
            tie: None,
            on_crash: OnCrash::Requeue,
            priority: 0,
            retries: Retries::NONE,
            key: None,
            callbacks: Vec::new(),
        })
    }

    fn insert(first: u64, count: usize, volatile: bool) -> StoreOp {
        let jobs = vec![call(volatile); count];
        StoreOp::Insert {
            call: RequestId(1),
            first: JobId(first),
            first_callback: CallbackId(1),
            jobs,
            submitted_us: 1,
        }
    }

    fn finish(id: u64, ended_us: i64) -> StoreOp {
        let outcome = Outcome {
            state: State::Succeeded,
            result: ResultKind::Success,
            exit_code: Some(0),
            signal: None,
            reason: None,
            usage: None,
            stdout_bytes: None,
            stderr_bytes: None,
            answer: None,
            crashed: false,
            ended_us,
        };
        StoreOp::Finish { id: JobId(id), outcome: Box::new(outcome), start: None, want_record: true }
    }

    #[test]
    fn what_is_its_own_is_answered_and_the_rest_is_passed_on() {
        let mut volatile = Volatile::default();
        assert_eq!(volatile.take(insert(5, 2, true)), None);
        assert!(matches!(volatile.answer(), Some(StoreAnswer::Inserted { first: JobId(5), .. })));
        assert!(volatile.take(insert(7, 1, false)).is_some());
        let rest =
            volatile.take(StoreOp::Get { call: RequestId(2), ids: vec![JobId(5), JobId(9), JobId(6)] });
        assert_eq!(rest, Some(StoreOp::Get { call: RequestId(2), ids: vec![JobId(9)] }));
        assert!(
            matches!(volatile.answer(), Some(StoreAnswer::Got { records, missing, .. }) if records.len() == 2 && missing.is_empty())
        );
        assert_eq!(volatile.take(finish(5, 10)), None);
        assert!(
            matches!(volatile.answer(), Some(StoreAnswer::Finished { record: Some(record), .. }) if record.state == State::Succeeded)
        );
        assert!(volatile.take(finish(9, 10)).is_some());
        // What has ended stays as it is.
        volatile.take(StoreOp::Requeue { id: JobId(5), crashes: 1, reason: None });
        assert_eq!(volatile.record(JobId(5)).unwrap().state, State::Succeeded);
    }

    #[test]
    fn the_crash_that_ends_a_job_is_counted_with_its_end() {
        let mut volatile = Volatile::default();
        volatile.take(insert(5, 1, true));
        volatile.take(StoreOp::Requeue { id: JobId(5), crashes: 1, reason: None });
        let StoreOp::Finish { outcome, .. } = finish(5, 10) else { unreachable!("it is an end") };
        let outcome = Box::new(Outcome { crashed: true, ..*outcome });
        volatile.take(StoreOp::Finish { id: JobId(5), outcome, start: None, want_record: false });
        assert_eq!(volatile.record(JobId(5)).unwrap().crashes, 2);
    }

    #[test]
    fn ends_are_forgotten_after_a_while() {
        let mut volatile = Volatile::default();
        volatile.take(insert(1, 3, true));
        volatile.take(finish(1, 0));
        volatile.take(finish(2, MAX_AGE_US));
        assert!(volatile.has(JobId(1)));
        volatile.take(finish(3, MAX_AGE_US + 1));
        assert_eq!([1, 2, 3].map(|id| volatile.has(JobId(id))), [false, true, true]);
    }

    #[test]
    fn a_listing_has_them_in_their_places() {
        let mut volatile = Volatile::default();
        volatile.take(insert(2, 3, true));
        let stored = |id| Record { id, ..volatile.record(JobId(2)).unwrap() };
        let query = |after, limit| ListQuery { after, limit, ..ListQuery::default() };
        let ids = |page: &[Record]| page.iter().map(|record| record.id).collect::<Vec<u64>>();
        let mut page = vec![stored(1), stored(7)];
        assert_eq!(volatile.join(&query(None, 3), &mut page, None), Some(JobId(3)));
        assert_eq!(ids(&page), [1, 2, 3]);
        let mut page = vec![stored(7)];
        assert_eq!(volatile.join(&query(Some(JobId(3)), 3), &mut page, None), None);
        assert_eq!(ids(&page), [4, 7]);
        let mut page = vec![stored(1)];
        assert_eq!(volatile.join(&query(None, 1), &mut page, Some(JobId(1))), Some(JobId(1)));
        assert_eq!(ids(&page), [1]);
    }
}
