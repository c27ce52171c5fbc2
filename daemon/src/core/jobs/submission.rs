//! Jobs on their way into the engine: counted from the moment when a client asks until the engine has
//! answered. They may start when they are written; their submission is over when they are synced.

use std::sync::Arc;

use crate::core::event::{Denial, Effect, Fact, PoolId};
use crate::core::{Core, Mode};
use crate::engine::{Conditional, Released, Times, Turns, deadline_us, start_by_us};
use crate::job::{JobId, RequestId, StopReason, Term, Tie, Work};

/// A submission that the engine has not answered yet.
#[derive(Debug)]
pub struct PendingInsertion {
    /// How many jobs for each pool.
    added: Vec<(PoolId, u64)>,
    times: Times,
    /// Its client has gone in between.
    is_forsaken: bool,
}

impl Core {
    pub(in crate::core) fn on_submit(&mut self, request: RequestId, jobs: Vec<Arc<Work>>) {
        if self.mode != Mode::Serving {
            return self.tell(Fact::Denied { request, denial: Denial::Draining, jobs });
        }
        match self.make_room(&jobs) {
            Ok(added) => {
                let times = self.times();
                let pending = PendingInsertion { added, times, is_forsaken: false };
                let is_urgent = pending.added.iter().any(|&(id, _)| self.has_free_slot(id));
                self.submissions.insert(request, pending);
                self.effects.push(Effect::Insert { request, jobs, times, is_urgent });
            }
            Err(denial) => self.tell(Fact::Denied { request, denial, jobs }),
        }
    }

    /// Of what is submitted now.
    pub(in crate::core) fn times(&self) -> Times {
        Times { submitted_us: self.now.wall_us, counted_from_us: self.due.now_us(self.now) }
    }

    /// Whether a job of the pool could start at once.
    fn has_free_slot(&self, id: PoolId) -> bool {
        self.pools
            .get(id)
            .is_some_and(|pool| pool.slots.has_idle() && pool.shortage.is_none() && pool.pause.is_none())
    }

    /// How many jobs for each pool, unless that is too many. What is on its way to the engine counts as
    /// queued.
    fn make_room(&mut self, jobs: &[Arc<Work>]) -> Result<Vec<(PoolId, u64)>, Denial> {
        let mut added: Vec<(PoolId, u64)> = Vec::new();
        for work in jobs {
            // A pool may have gone since the job was admitted: its queue is there, but nobody would see to
            // it.
            let id =
                self.pools.id_of(&work.pool).ok_or_else(|| Denial::PoolGone { pool: work.pool.clone() })?;
            match added.iter_mut().find(|(other, _)| *other == id) {
                Some((_, count)) => *count += 1,
                None => {
                    self.check_draining(&work.pool)?;
                    added.push((id, 1));
                }
            }
        }

        let limit = self.settings.max_queued;
        for &(id, count) in &added {
            let pool = self.pools.get(id).expect("it has just been found");
            if pool.queued.all() + pool.inserting + count > limit {
                return Err(Denial::QueueFull { pool: pool.name.clone(), limit });
            }
        }

        for &(id, count) in &added {
            self.pools.get_mut(id).expect("it has just been found").inserting += count;
        }
        Ok(added)
    }

    /// The engine has answered.
    pub(in crate::core) fn take_submission(&mut self, request: RequestId) -> Option<PendingInsertion> {
        let submission = self.submissions.remove(&request)?;
        for &(id, count) in &submission.added {
            // A pool stays for as long as something is on its way into it.
            if let Some(pool) = self.pools.get_mut(id) {
                pool.inserting -= count;
                self.stirred.insert(id);
            }
        }
        Some(submission)
    }

    pub(in crate::core) fn on_forsaken(&mut self, request: RequestId) {
        if let Some(submission) = self.submissions.get_mut(&request) {
            submission.is_forsaken = true;
        }
    }

    pub(in crate::core) fn on_inserted(
        &mut self,
        request: RequestId,
        first: JobId,
        jobs: Vec<Arc<Work>>,
        existing: Vec<(usize, JobId)>,
        turns: Turns,
        conditions: Conditional,
    ) {
        let Some(submission) = self.take_submission(request) else { return };

        let mut taken = existing.iter().map(|&(place, _)| place).peekable();
        let (now_us, mut overdue, mut next_us) = (self.due.now_us(self.now), Vec::new(), [None; 2]);
        let from_us = submission.times.counted_from_us;
        for (place, (id, work)) in (first.0..).map(JobId).zip(&jobs).enumerate() {
            if taken.next_if_eq(&place).is_some() {
                continue;
            }
            if let Some(tie) = work.tie {
                self.ties.add(id, tie);
            }
            self.limit_to_one(work);
            let terms = [(Term::End, deadline_us(from_us, work)), (Term::Start, start_by_us(from_us, work))];
            for ((term, us), next_us) in terms.into_iter().zip(&mut next_us) {
                match us {
                    // The look at others that are over may have been beyond it already.
                    Some(us) if us <= now_us => overdue.push((term, id)),
                    us => *next_us = [*next_us, us].into_iter().flatten().min(),
                }
            }
            self.waits(id, &work.pool, conditions.until(id));
        }

        let replaced = turns.replaced.clone();
        let mut ids: Vec<JobId> = (first.0..).take(jobs.len()).map(JobId).collect();
        existing.iter().for_each(|&(place, id)| ids[place] = id);
        // Told whether or not its client has gone: the desk knows what is to become of the request.
        let Conditional { untied, waiting, failed } = conditions;
        let is_synced = !self.unsynced.contains(&request);
        self.tell(Fact::Inserted { request, first, jobs, existing, turns, waiting, is_synced });
        if submission.is_forsaken {
            self.on_client_gone(ids);
        }

        for id in untied {
            let tie = self.ties.of(id).expect("it has just been tied");
            self.end(id, StopReason::Untied(tie));
        }
        self.end_each(&replaced, StopReason::Replaced);
        self.end_each(&failed, StopReason::Dependency);
        for (term, id) in overdue {
            self.out_of_time(term, id);
        }
        for (term, next_us) in [Term::End, Term::Start].into_iter().zip(next_us) {
            next_us.into_iter().for_each(|next_us| self.watch(term, next_us));
        }
    }

    /// The jobs of a submission, which have been told, are synced.
    pub(in crate::core) fn on_synced(&mut self, request: RequestId) {
        self.unsynced.remove(&request);
        self.tell(Fact::Synced { request });
    }

    /// Ends these jobs, each because of the one beside it.
    pub(in crate::core) fn end_each(&mut self, jobs: &[(JobId, JobId)], why: fn(JobId) -> StopReason) {
        for &(id, other) in jobs {
            self.end(id, why(other));
        }
    }

    /// Jobs that are tied to their client end with it.
    pub(in crate::core) fn on_client_gone(&mut self, mut ids: Vec<JobId>) {
        ids.retain(|&id| self.ties.of(id) == Some(Tie::Client));
        for id in ids {
            self.end(id, StopReason::Untied(Tie::Client));
        }
    }

    pub(in crate::core) fn on_released(&mut self, request: RequestId, jobs: Vec<Released>) {
        for Released { position, line, until } in &jobs {
            self.waits_now(position.id, &line.pool, *until);
        }
        let jobs = jobs.into_iter().map(|released| (released.position.id, released.line.pool)).collect();
        self.tell(Fact::Released { request, jobs });
    }
}
