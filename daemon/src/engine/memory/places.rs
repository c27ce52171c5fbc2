//! Where jobs are: moves, and the triggers that end waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use pool_proto::{Refusal, State};

use super::{Memory, Row};
use crate::engine::{Answer, Assigned, Dequeued, Detail, Fence, Move, NotAssigned, Released};
use crate::job::{After, IdSet, JobId, Outcome, Place, Ready, RequestId, StopReason, Unit, Until, Work};

impl Memory {
    pub(super) fn place(&mut self, mut moved: Move) {
        let id = moved.id;
        let is_end = matches!(moved.to, Place::Ended(_));
        // Nobody has counted an element that was not kept.
        let is_early = is_end && moved.fence == Fence::Idle && self.make_early(id);
        if !self.jobs.get(&id).is_some_and(|row| holds(moved.fence, row)) {
            // A job that is idle may have been taken or have ended meanwhile. An attempt has nobody else to
            // move its job.
            if moved.fence != Fence::Idle {
                self.mistake(format!(
                    "`{}` for job {id}, which has ended, is beyond {:?} or does not exist",
                    moved.to.state().as_str(),
                    moved.fence
                ));
            }
            return self.answer(Answer::Lost { id });
        }
        self.check(&moved);

        let left = self.leave_place(id);
        let Some(row) = self.jobs.get_mut(&id) else { return };
        let dequeued = left
            .holdup()
            .filter(|_| !is_early)
            .map(|holdup| Dequeued { pool: row.work.pool.clone(), holdup });
        match moved.fence {
            Fence::Attempt(_) => row.tries = moved.tries,
            Fence::Idle => {}
        }

        if row.tries.attempts > 0
            && let Some(us) = row.start_by_us
        {
            self.starts.remove(&(us, id));
        }
        if let Some(past) = moved.past.take() {
            row.keep_attempt(*past);
        }
        row.is_confirmed = moved.confirm;
        let to_confirm = moved.worker_to_confirm();
        row.place = moved.to;
        match &row.place {
            Place::Queued { .. } | Place::Waiting(_) => {
                if let Some(reason) = moved.reason.as_ref().filter(|_| moved.crashed) {
                    row.last_crash = Some(format!("attempt {}: {reason}", row.tries.attempts));
                }
                (row.start, row.reason) = (None, moved.reason);
            }
            // Only unfolding puts an array there.
            Place::Begun => {}
            Place::Running(start) => (row.start, row.reason) = (Some(*start), moved.reason),
            Place::Stopping(_) => (row.start, row.reason) = (moved.start.or(row.start), moved.reason),
            Place::Ended(_) => (row.start, row.reason) = (moved.start.or(row.start), None),
        }

        match row.place {
            Place::Queued { .. } | Place::Waiting(_) => self.take_place(id),
            Place::Begun | Place::Running(_) | Place::Stopping(_) => {}
            Place::Ended(_) => {
                let has_had_turn = !row.unmet.follows;
                let dequeued = dequeued.filter(|_| moved.fence == Fence::Idle);
                return self.end(id, moved.want, dequeued, has_had_turn);
            }
        }
        if let Some(worker) = to_confirm {
            self.answer(Answer::Placed { id, attempt: moved.tries.attempts, worker });
        }
    }

    /// What no machine in order does, though the fence holds.
    fn check(&mut self, moved: &Move) {
        let id = moved.id;
        let Some(row) = self.jobs.get(&id) else { return };
        let attempt = moved.tries.attempts;
        let is_first = attempt > row.tries.attempts || (row.is_confirmed && attempt == row.tries.attempts);

        let mistake = match &moved.to {
            Place::Running(_) if !is_first => {
                Some(format!("attempt {attempt} of job {id} starts after attempt {}", row.tries.attempts))
            }
            Place::Stopping(StopReason::Shutdown) => Some(format!("the daemon's end is no fate of job {id}")),
            Place::Waiting(Until::Time { .. })
                if moved.tries.retried != row.tries.retried + 1
                    || moved.tries.retried > row.work.retries.allowed =>
            {
                Some(format!(
                    "job {id} waits for its retry {} after {}",
                    moved.tries.retried, row.tries.retried
                ))
            }
            Place::Waiting(Until::Predecessor | Until::Others | Until::Start { .. }) => {
                Some(format!("job {id} is to wait for another one after its submission"))
            }
            _ if moved.start.is_some() && !is_first => {
                Some(format!("the start of attempt {attempt} of job {id} is told twice"))
            }
            Place::Queued { .. }
            | Place::Waiting(_)
            | Place::Begun
            | Place::Running(_)
            | Place::Stopping(_)
            | Place::Ended(_) => None,
        };
        mistake.into_iter().for_each(|mistake| self.mistake(mistake));
    }

    fn end(&mut self, id: JobId, want: Detail, dequeued: Option<Dequeued>, has_had_turn: bool) {
        let callbacks = self.release_callbacks(id);
        let (array, has_dropped) = self.count_in_array(id);
        let record = match want {
            Detail::Nothing => None,
            Detail::Record => self.record(id).map(Box::new),
        };
        if let Some(us) = self.jobs.get(&id).and_then(|row| row.deadline_us) {
            self.deadlines.remove(&(us, id));
        }
        if let Some(us) = self.jobs.get(&id).and_then(|row| row.start_by_us) {
            self.starts.remove(&(us, id));
        }
        let stdin = self.jobs.get(&id).filter(|row| row.work.element().is_none());
        let stdin = stdin.and_then(|row| row.work.stdin.clone());
        let next = self.pass_turn_on(id).filter(|_| has_had_turn).and_then(|next| self.take_turn_of(next));
        let has_dependents = self.note_end(id) || has_dropped;
        self.answer(Answer::Ended { id, record, callbacks, dequeued, stdin, next, has_dependents, array });
        self.living_bytes -= self.jobs.get(&id).map_or(0, |row| row.bytes);
        self.add_to_history(id);
    }

    /// A job has ended: the one that is the first of its unique name now.
    fn pass_turn_on(&mut self, id: JobId) -> Option<JobId> {
        let name = &self.jobs.get(&id)?.unique.as_ref()?.name;
        let living = self.names.get_mut(name)?;
        living.remove(&id);
        let next = living.first().copied();
        if next.is_none() {
            self.names.remove(name);
        }
        next
    }

    /// The trigger of [`Until::Predecessor`]: the job, and what it waits for now; none where it waits for
    /// something else as before.
    fn take_turn_of(&mut self, id: JobId) -> Option<(Ready, Option<Until>)> {
        self.jobs.get_mut(&id)?.unmet.follows = false;
        let Released { until, .. } = self.go_on(id, Until::Predecessor)?;
        Some((self.ready(id)?, until))
    }

    /// A job that has waited for this waits for one thing less: what it waits for now. None where it waits
    /// for something else, or for the same as before.
    fn go_on(&mut self, id: JobId, from: Until) -> Option<Released> {
        let row = self.jobs.get(&id)?;
        let until = row.unmet.first();
        if row.place != Place::Waiting(from) || until == Some(from) {
            return None;
        }
        let released = Released { position: row.position(id), line: row.work.line(), until };
        self.leave_place(id);
        let row = self.jobs.get_mut(&id)?;
        row.place = row.unmet.place();
        self.take_place(id);
        Some(released)
    }

    /// A job has ended: whether others are to run after it.
    fn note_end(&mut self, id: JobId) -> bool {
        self.forget_after(id);
        let has_dependents = self.dependents.contains_key(&id);
        if has_dependents {
            let succeeded = self.outcome(id).is_some_and(|outcome| outcome.state == State::Succeeded);
            self.resolving.insert(id, succeeded);
        }
        has_dependents
    }

    /// A job is to run after no others any more.
    pub(super) fn forget_after(&mut self, id: JobId) {
        self.failed.remove(&id);
        let after = self.jobs.get_mut(&id).map(|row| std::mem::take(&mut row.after)).unwrap_or_default();
        for After { id: prior, .. } in after {
            if let Some(dependents) = self.dependents.get_mut(&prior) {
                dependents.remove(&id);
                if dependents.is_empty() {
                    self.dependents.remove(&prior);
                }
            }
        }
    }

    /// The trigger of [`Until::Others`].
    pub(super) fn resolve(&mut self, limit: usize) {
        let (mut jobs, mut failed, mut left) = (Vec::new(), Vec::new(), limit);
        while left > 0
            && let Some((&prior, &succeeded)) = self.resolving.first_key_value()
        {
            let Some(id) = self.dependents.get_mut(&prior).and_then(BTreeSet::pop_first) else {
                self.dependents.remove(&prior);
                self.resolving.remove(&prior);
                continue;
            };
            left -= 1;
            let Some(row) = self.jobs.get_mut(&id) else { continue };
            let is_met = |after: &After| after.id != prior || !after.is_met_by(succeeded);
            row.after.retain(is_met);
            if row.after.iter().any(|after| after.id == prior) {
                self.failed.entry(id).or_insert(prior);
                failed.push((id, prior));
                continue;
            }
            row.unmet.others -= 1;
            jobs.extend(self.go_on(id, Until::Others));
        }
        self.fail_those_after(left, &mut failed);
        self.answer(Answer::Resolved { jobs, failed, more: !self.resolving.is_empty() });
    }

    /// What needs the success of what fails will fail as well.
    fn fail_those_after(&mut self, mut left: usize, failed: &mut Vec<(JobId, JobId)>) {
        let mut at = 0;
        while left > 0
            && let Some(&(prior, _)) = failed.get(at)
        {
            at += 1;
            let Some(dependents) = self.dependents.get_mut(&prior) else { continue };
            let looked_at: Vec<JobId> = dependents.iter().take(left).copied().collect();
            left -= looked_at.len();
            for id in looked_at {
                let needs_it = |after: &After| after.id == prior && !after.is_met_by(false);
                if self.jobs.get(&id).is_some_and(|row| row.after.iter().any(needs_it)) {
                    dependents.remove(&id);
                    self.failed.entry(id).or_insert(prior);
                    failed.push((id, prior));
                }
            }
        }
    }

    /// What was to fail because of a job that has not ended yet, before a start, is looked at again when that
    /// has ended: somebody may have changed what that one waits for.
    pub(super) fn look_again(&mut self) {
        for (id, row) in &self.jobs {
            for After { id: prior, .. } in &row.after {
                if self.jobs.get(prior).is_some_and(|prior| !prior.place.state().is_terminal()) {
                    self.dependents.entry(*prior).or_default().insert(*id);
                }
            }
        }
        let (jobs, dependents) = (&self.jobs, &self.dependents);
        self.failed.retain(|id, prior| {
            let is_settled =
                |after: &&After| dependents.get(&after.id).is_none_or(|others| !others.contains(id));
            let settled = jobs.get(id).and_then(|row| row.after.iter().find(is_settled));
            settled.inspect(|after| *prior = after.id).is_some()
        });
    }

    /// Those that are in their lines or wait.
    pub(super) fn hold(&mut self, request: RequestId, ids: Vec<JobId>) {
        let (mut held, mut others) = (Vec::new(), Vec::new());
        for id in ids {
            let holdup = self.jobs.get(&id).and_then(|row| row.place.holdup());
            match (self.state(id), holdup) {
                (Some(State::Held), _) => held.push((id, None)),
                (_, Some(holdup)) => {
                    self.leave_place(id);
                    let Some(row) = self.jobs.get_mut(&id) else { continue };
                    (row.unmet.hold, row.place) = (true, Place::Waiting(Until::Person));
                    held.push((id, Some(Dequeued { pool: row.work.pool.clone(), holdup })));
                }
                (state, None) => others.push((id, state)),
            }
        }
        self.answer(Answer::Withheld { request, held, others });
    }

    /// Those that are in their lines or wait, and can run there.
    pub(super) fn assign(&mut self, request: RequestId, ids: Vec<JobId>, pool: Arc<str>, is_warm: bool) {
        let (mut jobs, mut unfit, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for id in ids {
            let Some(row) = self.jobs.get(&id) else {
                others.push((id, NotAssigned::Missing));
                continue;
            };
            if !matches!(row.place, Place::Queued { .. } | Place::Waiting(_)) {
                others.push((id, NotAssigned::Beyond(row.place.state())));
                continue;
            }
            let (from, holdup) = (row.work.pool.clone(), row.place.holdup());
            let needs = row.work.needs.clone();
            let assigned = Assigned { position: row.position(id), needs, from, holdup };
            match row.work.call().is_some() {
                true if !is_warm => unfit.push((assigned, NotAssigned::Call)),
                false if is_warm => unfit.push((assigned, NotAssigned::Command)),
                true | false => {
                    self.leave_place(id);
                    let Some(row) = self.jobs.get_mut(&id) else { continue };
                    row.work = Arc::new(Work { pool: pool.clone(), ..Work::clone(&row.work) });
                    self.take_place(id);
                    jobs.push(assigned);
                }
            }
        }
        self.answer(Answer::Assigned { request, pool, jobs, unfit, others });
    }

    pub(super) fn state(&self, id: JobId) -> Option<State> {
        self.jobs.get(&id).map(|row| row.place.state())
    }

    /// All of them, or none.
    pub(super) fn release(&mut self, request: RequestId, mut ids: Vec<JobId>, closed: &[Arc<str>]) {
        let is_held = |id: &JobId| {
            self.jobs.get(id).is_some_and(|row| matches!(row.place, Place::Waiting(Until::Person)))
        };
        if let Some(id) = ids.iter().find(|id| !is_held(id)) {
            return self.answer(Answer::Refused { request, refusal: Refusal::NotHeld { id: id.0 } });
        }
        let pools = ids.iter().filter_map(|id| self.jobs.get(id)).map(|row| &row.work.pool);
        if let Some(pool) = pools.into_iter().find(|pool| closed.contains(pool)).map(ToString::to_string) {
            return self.answer(Answer::Refused { request, refusal: Refusal::PoolDraining { pool } });
        }

        let mut seen = IdSet::default();
        ids.retain(|&id| seen.insert(id));
        let mut jobs = Vec::new();
        for id in ids {
            let Some(row) = self.jobs.get_mut(&id) else { continue };
            row.unmet.hold = false;
            (row.tries.crashes, row.reason, row.last_crash) = (0, None, None);
            jobs.extend(self.go_on(id, Until::Person));
        }
        self.answer(Answer::Released { request, jobs });
    }

    pub(super) fn wake(&mut self, until_us: i64, limit: usize) {
        let (mut jobs, mut callbacks) = (Vec::new(), Vec::new());
        while jobs.len() + callbacks.len() < limit
            && let Some(&(due_us, unit)) = self.waits.first()
            && due_us <= until_us
        {
            self.waits.pop_first();
            match unit {
                Unit::Job(id) => {
                    let Some(row) = self.jobs.get_mut(&id) else { continue };
                    let again = row.place != Place::Waiting(Until::Start { due_us });
                    row.place = Place::Queued { again };
                    row.unmet.start_us = None;
                    self.enter_line(id);
                    jobs.extend(self.ready(id));
                }
                Unit::Callback(id) => {
                    let Some(callback) = self.callbacks.get_mut(&id) else { continue };
                    callback.due_us = None;
                    callbacks.push(id);
                }
            }
        }
        let next_us = self.waits.first().map(|&(due_us, _)| due_us);
        self.answer(Answer::Woken { jobs, callbacks, next_us });
    }

    pub(super) fn set_clock(&mut self, ahead_us: i64) {
        let goes_by_wall = |row: &Row| row.unmet.start_us.and(row.at_us).filter(|_| !row.has_ended());
        let times: Vec<(JobId, i64)> =
            self.jobs.iter().filter_map(|(&id, row)| Some((id, goes_by_wall(row)?))).collect();
        for (id, at_us) in times {
            let left = self.leave_place(id);
            let Some(row) = self.jobs.get_mut(&id) else { continue };
            let due_us = at_us.saturating_add(ahead_us);
            row.unmet.start_us = Some(due_us);
            if matches!(left, Place::Waiting(Until::Start { .. })) {
                row.place = Place::Waiting(Until::Start { due_us });
            }
            self.take_place(id);
        }
        let next_us = self.waits.first().map(|&(due_us, _)| due_us);
        self.answer(Answer::ClockSet { next_us });
    }

    /// Out of its line or its wait; where it was.
    pub(super) fn leave_place(&mut self, id: JobId) -> Place {
        let Some(row) = self.jobs.get(&id) else { return Place::Queued { again: false } };
        match row.place {
            Place::Queued { .. } => {
                let (position, key) = (row.position(id), row.work.line());
                if let Some(line) = self.lines.get_mut(&key) {
                    line.remove(&position);
                    if line.is_empty() {
                        self.lines.remove(&key);
                    }
                }
            }
            Place::Waiting(Until::Time { due_us } | Until::Start { due_us }) => {
                self.waits.remove(&(due_us, Unit::Job(id)));
            }
            Place::Waiting(Until::Person | Until::Others | Until::Predecessor)
            | Place::Begun
            | Place::Running(_)
            | Place::Stopping(_)
            | Place::Ended(_) => {}
        }
        row.place.clone()
    }

    /// Into its line, or its wait.
    pub(super) fn take_place(&mut self, id: JobId) {
        match self.jobs.get(&id).map(|row| &row.place) {
            Some(Place::Queued { .. }) => self.enter_line(id),
            Some(&Place::Waiting(Until::Time { due_us } | Until::Start { due_us })) => {
                self.waits.insert((due_us, Unit::Job(id)));
            }
            Some(
                Place::Waiting(Until::Person | Until::Others | Until::Predecessor)
                | Place::Begun
                | Place::Running(_)
                | Place::Stopping(_)
                | Place::Ended(_),
            )
            | None => {}
        }
    }

    pub(super) fn enter_line(&mut self, id: JobId) {
        let Some(row) = self.jobs.get(&id) else { return };
        let (line, position) = (row.work.line(), row.position(id));
        self.lines.entry(line).or_default().insert(position);
    }

    pub(super) fn ready(&self, id: JobId) -> Option<Ready> {
        let row = self.jobs.get(&id)?;
        Some(Ready { id, tries: row.tries, work: row.work.clone() })
    }

    pub(super) fn outcome(&self, id: JobId) -> Option<&Outcome> {
        match &self.jobs.get(&id)?.place {
            Place::Ended(outcome) => Some(outcome),
            Place::Queued { .. }
            | Place::Waiting(_)
            | Place::Begun
            | Place::Running(_)
            | Place::Stopping(_) => None,
        }
    }
}

fn holds(fence: Fence, row: &Row) -> bool {
    match fence {
        Fence::Attempt(attempt) => !row.has_ended() && row.tries.attempts <= attempt,
        Fence::Idle => matches!(row.place, Place::Queued { .. } | Place::Waiting(_)),
    }
}
