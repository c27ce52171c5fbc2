//! What is read: records, listings, lines, and what a start finds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use pool_proto::Record;
use pool_proto::methods::ListOrder;
use pool_proto::nouns::{Callback, Dependency, Entry, MemoryLimit, SCHEMA, State};
use pool_proto::text::rfc3339;

use super::{Memory, Row};
use crate::engine::large_bytes;
use crate::engine::{
    ANSWER_BYTES, Answer, Delivery, FETCHED_BYTES, Interrupted, LINE_HEAD, LastEnd, MAX_PACED_LINES,
    MAX_RECORDS, Pace, Page, Ran, Restored, Tied,
};
use crate::job::{
    After, CallbackId, JobId, JobKind, LineKey, PastAttempt, Place, Position, Ready, RequestId, Term, Tie,
    Traits, Until,
};

impl Memory {
    /// The next jobs in a line after this position, so many at most, and whether the line holds
    /// nothing beyond them.
    pub fn fetch(&self, line: &LineKey, after: Option<Position>, limit: usize) -> (Vec<Ready>, bool) {
        let limit = limit.max(1);
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let line = self.lines.get(line).into_iter();
        let mut ids = line.flat_map(|line| line.range((after, Bound::Unbounded))).map(|position| position.id);
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        while jobs.len() < limit
            && bytes <= FETCHED_BYTES
            && let Some(id) = ids.next()
        {
            let Some(ready) = self.ready(id) else { continue };
            bytes += ready.work.own_bytes();
            jobs.push(ready);
        }
        (jobs, ids.next().is_none())
    }

    /// Jobs whose time is over by then, after this one; and the first time beyond them.
    pub fn overdue(
        &self,
        term: Term,
        after: Option<(i64, JobId)>,
        until_us: i64,
        limit: usize,
    ) -> (Vec<(i64, JobId)>, Option<i64>) {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = self.terms(term).range((after, Bound::Unbounded)).copied().peekable();
        let mut jobs = Vec::new();
        while jobs.len() < limit
            && let Some(job) = left.next_if(|&(us, _)| us <= until_us)
        {
            jobs.push(job);
        }
        (jobs, left.peek().map(|&(us, _)| us))
    }

    /// All of them at once, which takes no transaction: the other backing alone tells where to go on.
    pub(super) fn answer_overdue_volatile(&mut self, term: Term, until_us: i64) {
        let told = match term {
            Term::End => self.overdue_told,
            Term::Start => self.late_told,
        };
        let (jobs, next_us) = self.overdue(term, told, until_us, usize::MAX);
        let told = jobs.last().copied().or(told);
        match term {
            Term::End => self.overdue_told = told,
            Term::Start => self.late_told = told,
        }
        let jobs = jobs.into_iter().map(|(_, id)| id).collect();
        self.answer(Answer::Overdue { term, jobs, last: None, next_us });
    }

    pub(super) fn terms(&self, term: Term) -> &BTreeSet<(i64, JobId)> {
        match term {
            Term::End => &self.deadlines,
            Term::Start => &self.starts,
        }
    }

    pub(super) fn answer_records(&mut self, request: RequestId, ids: &[JobId]) {
        let (mut records, mut missing, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for &id in ids {
            if (bytes > ANSWER_BYTES || records.len() >= MAX_RECORDS) && self.exists(id) {
                rest.push(id);
                continue;
            }
            match self.record(id) {
                Some(record) => {
                    bytes += large_bytes(&record);
                    records.push(record);
                }
                None => missing.push(id),
            }
        }
        self.answer(Answer::Got { request, records, missing, rest });
    }

    pub(super) fn page(&self, page: &Page) -> (Vec<Record>, Vec<Entry>, Option<JobId>) {
        let (mut records, mut entries) = (Vec::new(), Vec::new());
        let next = match page.is_brief {
            true => self.join_entries(page, &mut entries, None),
            false => self.join(page, &mut records, None),
        };
        (records, entries, next)
    }

    /// Adds its jobs to a part of a listing that another backing has answered, which then has at most
    /// `page.limit`; the id after which the listing goes on.
    pub fn join(&self, page: &Page, records: &mut Vec<Record>, next: Option<JobId>) -> Option<JobId> {
        let limit = page.limit.max(1) as usize;
        let before = records.len();
        self.add_some_of(page, next, limit + 1, records);
        if records.len() == before {
            return next;
        }

        match page.order {
            ListOrder::Oldest => records.sort_unstable_by_key(|record| record.id),
            ListOrder::Newest => records.sort_unstable_by_key(|record| Reverse(record.id)),
            ListOrder::Line => {
                records.sort_unstable_by_key(|record| (Reverse(record.priority), record.id));
            }
            // Times of the protocol go in the order of their texts.
            ListOrder::Ended => {
                records.sort_by(|one, other| (&other.ended_at, other.id).cmp(&(&one.ended_at, one.id)))
            }
        }
        let mut room = ANSWER_BYTES;
        let fitting = records.iter().take(limit).take_while(|record| {
            let has_room = room > 0;
            room = room.saturating_sub(large_bytes(record));
            has_room
        });
        let fitting = fitting.count();
        let is_cut = records.len() > fitting;
        records.truncate(fitting);
        match page.order {
            ListOrder::Line | ListOrder::Ended => None,
            ListOrder::Oldest | ListOrder::Newest if is_cut => records.last().map(|record| JobId(record.id)),
            ListOrder::Oldest | ListOrder::Newest => next,
        }
    }

    /// As [`join`](Self::join), for a part that tells little of each job.
    pub fn join_entries(&self, page: &Page, entries: &mut Vec<Entry>, next: Option<JobId>) -> Option<JobId> {
        let limit = page.limit.max(1) as usize;
        let mut ours = Vec::new();
        self.add_some_of(page, next, limit + 1, &mut ours);
        if ours.is_empty() {
            return next;
        }

        entries.extend(ours.into_iter().map(Entry::from));
        match page.order {
            ListOrder::Newest => entries.sort_unstable_by_key(|entry| Reverse(entry.id)),
            _ => entries.sort_unstable_by_key(|entry| entry.id),
        }
        if entries.len() <= limit {
            return next;
        }
        entries.truncate(limit);
        entries.last().map(|entry| JobId(entry.id))
    }

    /// Adds the first jobs of a part that goes up to `next`: so many at most, and one more than there is room
    /// for, so that it is seen that the part is cut.
    fn add_some_of(&self, page: &Page, next: Option<JobId>, most: usize, records: &mut Vec<Record>) {
        let Some(rows) = self.rows_of(page, next) else { return };
        let ours = rows.filter(|(id, row)| {
            page.wants(row.place.state(), &row.work.pool, |label| row.work.needs.labels.has(label))
                && page.filter.fits(&self.traits(*id, row))
        });
        let mut bytes = 0;
        for (id, _) in ours.take(most) {
            let Some(record) = self.record(id) else { continue };
            let is_full = bytes > ANSWER_BYTES;
            bytes += large_bytes(&record);
            records.push(record);
            if is_full {
                break;
            }
        }
    }

    /// The jobs that a part of a listing may have, in its order.
    fn rows_of<'m>(
        &'m self,
        page: &Page,
        next: Option<JobId>,
    ) -> Option<Box<dyn Iterator<Item = (JobId, &'m Row)> + 'm>> {
        match page.order {
            ListOrder::Oldest => {
                let from = JobId(page.after.map_or(0, |after| after.0.saturating_add(1)));
                let until = next.unwrap_or(JobId(u64::MAX));
                (from <= until)
                    .then(|| Box::new(self.jobs.range(from..=until).map(|(&id, row)| (id, row))) as _)
            }
            ListOrder::Newest => {
                let from = next.unwrap_or(JobId(0));
                let below = page.after.unwrap_or(JobId(u64::MAX));
                let rows = || self.jobs.range(from..below).rev().map(|(&id, row)| (id, row));
                (from < below).then(|| Box::new(rows()) as _)
            }
            ListOrder::Ended => {
                let ended = |(&id, row): (&JobId, &'m Row)| Some((self.outcome(id)?.ended_us, id, row));
                let mut rows: Vec<(i64, JobId, &Row)> = self.jobs.iter().filter_map(ended).collect();
                rows.sort_unstable_by_key(|&(ended_us, id, _)| Reverse((ended_us, id)));
                Some(Box::new(rows.into_iter().map(|(_, id, row)| (id, row))))
            }
            ListOrder::Line => {
                let of_pool = |line: &LineKey| page.pool.as_ref().is_some_and(|pool| **pool == *line.pool);
                let lines = self.lines.iter().filter(|(line, _)| of_pool(line));
                // More cannot be on the part.
                let most = page.limit.max(1) as usize;
                let mut places: Vec<Position> =
                    lines.flat_map(|(_, line)| line.iter().take(most).copied()).collect();
                places.sort_unstable();
                let rows = places.into_iter().filter_map(|place| Some((place.id, self.jobs.get(&place.id)?)));
                Some(Box::new(rows))
            }
        }
    }

    fn traits<'m>(&self, id: JobId, row: &'m Row) -> Traits<'m> {
        let outcome = self.outcome(id);
        Traits {
            name: row.work.name.as_ref().map(|name| name.as_escaped()),
            submitted_us: row.submitted_us,
            ended_us: outcome.map(|outcome| outcome.ended_us),
            result: outcome.map(|outcome| outcome.result),
            exit_code: outcome.and_then(|outcome| outcome.exit_code),
            signal: outcome.and_then(|outcome| outcome.signal),
        }
    }

    /// Adds its jobs to the counts of another backing.
    pub fn join_counts(&self, counts: &mut Vec<(State, u64, bool)>) {
        for row in self.jobs.values() {
            let state = row.place.state();
            match counts.iter_mut().find(|(other, ..)| *other == state) {
                Some((_, count, _)) => *count += 1,
                None if state == State::Queued => {}
                None => counts.push((state, 1, false)),
            }
        }
        counts.sort_unstable_by_key(|&(state, ..)| State::ALL.iter().position(|&other| other == state));
    }

    /// The jobs that are to run after this one, so many at most, and whether there are more; none where it is
    /// not here.
    /// The attempts of a job that others have followed.
    pub fn past_attempts(&self, id: JobId) -> Vec<PastAttempt> {
        self.jobs.get(&id).map(|row| row.past.clone()).unwrap_or_default()
    }

    pub(super) fn list_dependents(&self, id: JobId, limit: usize) -> (Option<Vec<After>>, bool) {
        if !self.exists(id) {
            return (None, false);
        }
        let waits = |(&dependent, row): (&JobId, &Row)| {
            let on = row.after.iter().find(|after| after.id == id)?.on;
            Some(After { id: dependent, on })
        };
        let mut dependents: Vec<After> = self.jobs.iter().filter_map(waits).take(limit + 1).collect();
        let more = dependents.len() > limit;
        dependents.truncate(limit);
        (Some(dependents), more)
    }

    /// Adds its jobs to the beginning of a line that another backing has answered, each in its place.
    pub fn join_line(&self, line: &LineKey, head: &mut Vec<Position>) {
        let Some(line) = self.lines.get(line) else { return };
        head.extend(line.iter().take(LINE_HEAD));
        head.sort_unstable();
        head.truncate(LINE_HEAD);
    }

    /// Adds what is known here of how a pool works off its jobs.
    pub fn join_pace(&self, pool: &Arc<str>, pace: &mut Pace) {
        let lines = self.lines.iter().filter(|(line, _)| line.pool == *pool);
        let heads: Vec<Vec<Position>> =
            lines.map(|(_, line)| line.iter().take(LINE_HEAD).copied().collect()).collect();
        if !heads.is_empty() {
            let known = pace.order.take().filter(|_| heads.len() <= MAX_PACED_LINES);
            pace.order = known.map(|known| Pace::merge(heads.into_iter().chain([known]).collect()));
        }

        let ran = self.jobs.values().filter(|row| row.work.pool == *pool).filter_map(|row| {
            let Place::Ended(outcome) = &row.place else { return None };
            let started_us = row.start?.started_us;
            let (ended_us, slots) = (outcome.ended_us, row.work.needs.slots);
            let lasted_us = (ended_us - started_us).max(0).unsigned_abs();
            Ran::tells(outcome.state).then_some(Ran { ended_us, lasted_us, slots })
        });
        pace.ran.extend(ran);
        pace.ran = Ran::latest(std::mem::take(&mut pace.ran));
    }

    /// A job's record, if the job is here. Output files are not named: volatile jobs have none.
    pub fn record(&self, id: JobId) -> Option<Record> {
        let Some(row) = self.jobs.get(&id) else { return self.record_of_unmade(id) };
        let Row {
            work, key, unique, place, tries, submitted_us, deadline_us, reason, last_crash, start, ..
        } = row;
        let (argv, call) = match &work.kind {
            JobKind::Exec(argv) => (Some(argv.clone()), None),
            JobKind::Call(call) => (None, Some(call)),
        };
        let outcome = self.outcome(id);
        let answer = outcome.filter(|_| !row.is_stripped).and_then(|outcome| outcome.answer.as_ref());
        let ended_us = outcome.map(|outcome| outcome.ended_us);
        let begun_us = self.arrays.get(&id).and_then(|array| array.begun_us);
        let started_us = start.map(|start| start.started_us).or(begun_us);
        let wall = started_us
            .zip(ended_us)
            .map(|(started_us, ended_us)| (ended_us - started_us).max(0) as f64 / 1e6);
        let due_us = match place {
            Place::Waiting(Until::Time { due_us } | Until::Start { due_us }) => Some(*due_us),
            Place::Queued { .. }
            | Place::Waiting(Until::Person | Until::Others | Until::Predecessor)
            | Place::Begun
            | Place::Running(_)
            | Place::Stopping(_)
            | Place::Ended(_) => None,
        };
        let is_following = *place == Place::Waiting(Until::Predecessor);
        let living = unique.as_ref().filter(|_| is_following).and_then(|unique| self.names.get(&unique.name));
        let waits_for = living.and_then(|living| living.range(..id).next_back());
        Some(Record {
            schema: SCHEMA,
            id: id.0,
            state: place.state(),
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
            key: key.as_ref().map(|key| key.text.clone()),
            unique: unique.as_ref().map(|unique| unique.name.clone()),
            labels: work.needs.labels.to_names(),
            slots: work.needs.slots,
            resources: work.needs.resources.to_counts(),
            array: self.array_info(id, work),
            waits_for: waits_for.map(|before| before.0),
            after: (*place == Place::Waiting(Until::Others)).then(|| row.dependencies()),
            depends_on: (!row.depends_on.is_empty()).then(|| {
                let named = row.depends_on.iter().take(100);
                named.map(|after| Dependency { id: after.id.0, on: Some(after.on) }).collect()
            }),
            attempt: tries.attempts,
            crashes: tries.crashes,
            last_crash: last_crash.clone(),
            reruns: row.reruns,
            priority: work.priority,
            retries: work.retries.allowed,
            retried: tries.retried,
            retry_on_exit: work.retries.on.as_text(),
            due_at: due_us.map(rfc3339),
            deadline_at: deadline_us.map(rfc3339),
            start_by: row.start_by_us.map(rfc3339),
            worker_pid: start.map(|start| start.worker.get()),
            pid: start.and_then(|start| start.process).map(|process| process.pid.get()),
            submitted_at: rfc3339(*submitted_us),
            started_at: started_us.map(rfc3339),
            ended_at: ended_us.map(rfc3339),
            wall_s: wall,
            usage: outcome.and_then(|outcome| outcome.usage),
            memory_limit: work
                .environment
                .limits
                .memory_bytes
                .map(|bytes| MemoryLimit { bytes, by: start.and_then(|start| start.memory_limiter) }),
            frozen_since: None,
            items: None,
            stdout: None,
            stderr: None,
            output_pruned: row.is_stripped,
            callbacks: self.callback_records(row),
        })
    }

    fn callback_records(&self, row: &Row) -> Vec<Callback> {
        let callbacks = row.callbacks.iter().filter_map(|id| Some((id, self.callbacks.get(id)?)));
        let records = callbacks.map(|(id, callback)| Callback {
            id: id.0,
            on: callback.callback.on,
            state: callback.delivery.as_str().to_owned(),
            attempts: callback.attempts,
            exit_code: callback.exit_code,
        });
        records.collect()
    }

    /// What a start finds that has only this.
    pub fn restored(&mut self) -> Restored {
        self.look_again();
        let mut restored = Restored {
            next_job: self.next_job.max(self.reserved_below).max(1),
            next_callback: self.next_callback.max(1),
            queued: BTreeMap::new(),
            lines: self
                .lines
                .iter()
                .filter_map(|(line, jobs)| Some((line.clone(), *jobs.first()?)))
                .collect(),
            replaced: self.replaced(),
            failed: self.failed.iter().map(|(&id, &prior)| (id, prior)).collect(),
            has_unresolved: !self.resolving.is_empty(),
            arrays: self.begun_arrays(),
            interrupted: Vec::new(),
            boot: self.boot.clone(),
            last_end: LastEnd::Unknown,
            tied: Vec::new(),
            callbacks: Vec::new(),
            crashed_callbacks: BTreeMap::new(),
            waiting_callbacks: Vec::new(),
            next_due_us: self.waits.first().map(|&(due_us, _)| due_us),
            goes_by_wall: self
                .jobs
                .values()
                .any(|row| row.unmet.start_us.and(row.at_us).is_some() && !row.has_ended()),
            next_deadline_us: self.deadlines.first().map(|&(deadline_us, _)| deadline_us),
            next_start_by_us: self.starts.first().map(|&(start_by_us, _)| start_by_us),
            stdin: HashSet::new(),
            pools: self.pools.clone(),
            pauses: self.pauses.clone(),
            workers: self.workers.clone(),
            schedules: self.schedules.clone(),
            limits: self.limits.clone(),
        };
        for (&id, row) in self.jobs.iter().filter(|(_, row)| !row.has_ended()) {
            self.restore_job(id, row, &mut restored);
        }

        let running = self.callbacks.iter().filter(|(_, callback)| callback.delivery == Delivery::Running);
        restored.crashed_callbacks = running.map(|(&id, callback)| (id, callback.unended)).collect();

        let undelivered = self
            .callbacks
            .iter()
            .filter(|(_, callback)| matches!(callback.delivery, Delivery::Pending | Delivery::Running));
        let mut undelivered: Vec<(u64, CallbackId, bool)> =
            undelivered.map(|(&id, callback)| (callback.order, id, callback.due_us.is_some())).collect();
        undelivered.sort_unstable();
        for (_, id, waits) in undelivered {
            if waits { restored.waiting_callbacks.push(id) } else { restored.callbacks.push(id) }
        }
        restored
    }

    /// Jobs that are still to be canceled, each with the last one that takes its place.
    fn replaced(&self) -> Vec<(JobId, JobId)> {
        let takes_place = |id: &&JobId| self.jobs.get(id).is_some_and(Row::takes_their_place);
        let of_name = |living: &BTreeSet<JobId>| {
            let latest = living.iter().rev().find(takes_place).copied();
            let before =
                latest.into_iter().flat_map(|latest| living.range(..latest).map(move |&id| (id, latest)));
            before.collect::<Vec<_>>()
        };
        let mut replaced: Vec<(JobId, JobId)> = self.names.values().flat_map(of_name).collect();
        replaced.sort_unstable_by(|one, other| other.cmp(one));
        replaced
    }

    fn restore_job(&self, id: JobId, row: &Row, restored: &mut Restored) {
        let stopping = match row.place {
            Place::Stopping(reason) => Some(reason),
            Place::Queued { .. } | Place::Waiting(_) | Place::Begun | Place::Running(_) | Place::Ended(_) => {
                None
            }
        };
        match row.place {
            // An array has no attempt.
            Place::Stopping(_) if row.work.plan().is_some() => {}
            Place::Running(_) | Place::Stopping(_) => restored.interrupted.push(Interrupted {
                id,
                pool: row.work.pool.to_string(),
                needs: row.work.needs.clone(),
                tries: row.tries,
                on_crash: row.work.on_crash,
                retries: row.work.retries,
                slot: row.start.map(|start| start.slot),
                started_us: row.start.map(|start| start.started_us),
                since_boot_us: row.start.map(|start| start.since_boot_us),
                lasted: None,
                worker: row.start.map(|start| start.worker),
                process: row.start.and_then(|start| start.process),
                stopping,
            }),
            Place::Queued { .. } | Place::Waiting(_) | Place::Begun | Place::Ended(_) => {}
        }

        let holdup = row.place.holdup();
        if let Some(holdup) = holdup {
            restored.queued.entry(row.work.pool.to_string()).or_default().add(holdup, 1);
        }

        if let Some(tie) = row.work.tie {
            let untied = match tie {
                // A job that has been pruned has ended.
                Tie::Job(other) => self.jobs.get(&other).is_none_or(Row::has_ended),
                Tie::Client | Tie::Pool => false,
            };
            let queued_in = holdup.map(|_| row.work.pool.clone());
            restored.tied.push(Tied { id, tie, queued_in, holdup: holdup.unwrap_or_default(), untied });
        }
        restored.stdin.extend(row.work.stdin.clone());
    }
}
