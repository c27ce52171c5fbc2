//! Where jobs are: moves, and the triggers that end waits.

use pool_proto::Refusal;

use super::{Memory, Row};
use crate::engine::{Answer, Dequeued, Detail, Fence, Move, Released};
use crate::job::{IdSet, JobId, Outcome, Place, Ready, RequestId, StopReason, Unit, Until};

impl Memory {
    pub(super) fn place(&mut self, moved: Move) {
        let id = moved.id;
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
        let dequeued = left.holdup().map(|holdup| Dequeued { pool: row.work.pool.clone(), holdup });
        match moved.fence {
            Fence::Attempt(_) => row.tries = moved.tries,
            Fence::Idle => {}
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
            Place::Running(start) => (row.start, row.reason) = (Some(*start), moved.reason),
            Place::Stopping(_) => (row.start, row.reason) = (moved.start.or(row.start), moved.reason),
            Place::Ended(_) => (row.start, row.reason) = (moved.start.or(row.start), None),
        }

        match row.place {
            Place::Queued { .. } => self.enter_line(id),
            Place::Waiting(Until::Time { due_us }) => _ = self.waits.insert((due_us, Unit::Job(id))),
            Place::Waiting(Until::Person | Until::Predecessor) | Place::Running(_) | Place::Stopping(_) => {}
            Place::Ended(_) => {
                let has_had_turn = left != Place::Waiting(Until::Predecessor);
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
            Place::Waiting(Until::Predecessor) => {
                Some(format!("job {id} is to wait for another one after its submission"))
            }
            _ if moved.start.is_some() && !is_first => {
                Some(format!("the start of attempt {attempt} of job {id} is told twice"))
            }
            Place::Queued { .. }
            | Place::Waiting(_)
            | Place::Running(_)
            | Place::Stopping(_)
            | Place::Ended(_) => None,
        };
        mistake.into_iter().for_each(|mistake| self.mistake(mistake));
    }

    fn end(&mut self, id: JobId, want: Detail, dequeued: Option<Dequeued>, has_had_turn: bool) {
        let callbacks = self.release_callbacks(id);
        let record = match want {
            Detail::Nothing => None,
            Detail::Record => self.record(id).map(Box::new),
        };
        if let Some(us) = self.jobs.get(&id).and_then(|row| row.deadline_us) {
            self.deadlines.remove(&(us, id));
        }
        let stdin = self.jobs.get(&id).and_then(|row| row.work.stdin.clone());
        let next = self.pass_turn_on(id).filter(|_| has_had_turn).and_then(|next| self.take_turn_of(next));
        self.answer(Answer::Ended { id, record, callbacks, dequeued, stdin, next });
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

    /// The trigger of [`Until::Predecessor`]: the job is in its line.
    fn take_turn_of(&mut self, id: JobId) -> Option<Ready> {
        self.jobs.get_mut(&id)?.place = Place::Queued { again: false };
        self.enter_line(id);
        self.ready(id)
    }

    /// All of them, or none.
    pub(super) fn release(&mut self, request: RequestId, mut ids: Vec<JobId>) {
        let is_held = |id: &JobId| {
            self.jobs.get(id).is_some_and(|row| matches!(row.place, Place::Waiting(Until::Person)))
        };
        if let Some(id) = ids.iter().find(|id| !is_held(id)) {
            return self.answer(Answer::Refused { request, refusal: Refusal::NotHeld { id: id.0 } });
        }

        let mut seen = IdSet::default();
        ids.retain(|&id| seen.insert(id));
        let mut jobs = Vec::new();
        for id in ids {
            let Some(row) = self.jobs.get_mut(&id) else { continue };
            row.place = Place::Queued { again: false };
            (row.tries.crashes, row.reason, row.last_crash) = (0, None, None);
            jobs.push(Released { position: row.position(id), pool: row.work.pool.clone() });
            self.enter_line(id);
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
                    row.place = Place::Queued { again: true };
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

    /// Out of its line or its wait; where it was.
    pub(super) fn leave_place(&mut self, id: JobId) -> Place {
        let Some(row) = self.jobs.get(&id) else { return Place::Queued { again: false } };
        match row.place {
            Place::Queued { .. } => {
                let position = row.position(id);
                if let Some(line) = self.lines.get_mut(&*row.work.pool) {
                    line.remove(&position);
                    if line.is_empty() {
                        self.lines.remove(&*row.work.pool);
                    }
                }
            }
            Place::Waiting(Until::Time { due_us }) => _ = self.waits.remove(&(due_us, Unit::Job(id))),
            Place::Waiting(Until::Person | Until::Predecessor)
            | Place::Running(_)
            | Place::Stopping(_)
            | Place::Ended(_) => {}
        }
        row.place.clone()
    }

    pub(super) fn enter_line(&mut self, id: JobId) {
        let Some(row) = self.jobs.get(&id) else { return };
        let position = row.position(id);
        match self.lines.get_mut(&*row.work.pool) {
            Some(line) => _ = line.insert(position),
            None => _ = self.lines.insert(row.work.pool.clone(), [position].into()),
        }
    }

    pub(super) fn ready(&self, id: JobId) -> Option<Ready> {
        let row = self.jobs.get(&id)?;
        Some(Ready { id, tries: row.tries, work: row.work.clone() })
    }

    pub(super) fn outcome(&self, id: JobId) -> Option<&Outcome> {
        match &self.jobs.get(&id)?.place {
            Place::Ended(outcome) => Some(outcome),
            Place::Queued { .. } | Place::Waiting(_) | Place::Running(_) | Place::Stopping(_) => None,
        }
    }
}

fn holds(fence: Fence, row: &Row) -> bool {
    match fence {
        Fence::Attempt(attempt) => !row.has_ended() && row.tries.attempts <= attempt,
        Fence::Idle => matches!(row.place, Place::Queued { .. } | Place::Waiting(_)),
    }
}
