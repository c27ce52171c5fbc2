//! Ended jobs that are run again, under their ids.

use std::sync::Arc;

use super::{Delivery, Memory, Row};
use crate::engine::{Answer, NotRetried, Released, Retried, Times, deadline_us, start_by_us};
use crate::job::{After, JobId, RequestId, Tie, Tries, Unmet, Work};

impl Memory {
    pub(super) fn retry(&mut self, request: RequestId, mut ids: Vec<JobId>, times: &Times) {
        let mut seen = crate::job::IdSet::default();
        ids.retain(|&id| seen.insert(id));
        let (mut jobs, mut failed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for id in ids {
            match self.begin_round(id, times, &mut failed) {
                Ok(retried) => jobs.push(retried),
                Err(why_not) => others.push((id, why_not)),
            }
        }
        self.answer(Answer::Retried { request, jobs, failed, others });
    }

    fn begin_round(
        &mut self,
        id: JobId,
        times: &Times,
        failed: &mut Vec<(JobId, JobId)>,
    ) -> Result<Retried, NotRetried> {
        let row = self.jobs.get(&id).ok_or(NotRetried::Missing)?;
        // One that has begun has waited for the others already.
        let wanted = if row.tries.attempts == 0 { row.depends_on.clone() } else { Vec::new() };
        self.may_retry(row, &wanted)?;

        self.take_from_history(id);
        self.resolving.remove(&id);
        let after = self.depend(id, &wanted, failed);
        let unmet = Unmet { others: after.len() as u32, ..Unmet::default() };
        let tie = self.jobs.get(&id).and_then(|row| self.kept_tie(row.work.tie));

        let row = self.jobs.get_mut(&id).ok_or(NotRetried::Missing)?;
        if row.work.tie != tie {
            row.work = Arc::new(Work { tie, ..Work::clone(&row.work) });
        }
        row.reruns += 1;
        row.deadline_us = deadline_us(times.counted_from_us, &row.work);
        let has_begun = row.tries.attempts > 0;
        row.start_by_us = start_by_us(times.counted_from_us, &row.work).filter(|_| !has_begun);
        row.tries = Tries { attempts: row.tries.attempts, ..Tries::default() };
        (row.place, row.unmet, row.after, row.at_us) = (unmet.place(), unmet, after, None);
        (row.reason, row.last_crash, row.start) = (None, None, None);
        (row.is_confirmed, row.bytes) = (false, row.work.own_bytes());
        self.living_bytes += row.bytes;
        self.deadlines.extend(row.deadline_us.map(|us| (us, id)));
        self.starts.extend(row.start_by_us.map(|us| (us, id)));
        if let Some(unique) = &row.unique {
            self.names.entry(unique.name.clone()).or_default().insert(id);
        }
        let released = Released { position: row.position(id), line: row.work.line(), until: unmet.first() };
        let (deadline_us, start_by_us) = (row.deadline_us, row.start_by_us);
        for callback in &row.callbacks {
            let Some(callback) = self.callbacks.get_mut(callback) else { continue };
            (callback.delivery, callback.exit_code) = (Delivery::Waiting, None);
            callback.earlier = callback.attempts;
        }
        self.take_place(id);
        Ok(Retried { released, tie, deadline_us, start_by_us })
    }

    /// `wanted`: what it is to run after.
    fn may_retry(&self, row: &Row, wanted: &[After]) -> Result<(), NotRetried> {
        if !row.has_ended() {
            return Err(NotRetried::Living(row.place.state()));
        }
        if row.undelivered > 0 {
            return Err(NotRetried::Undelivered);
        }
        if row.work.stdin.is_some() {
            return Err(NotRetried::InputGone);
        }
        if row.is_stripped && row.work.call().is_some_and(|call| call.params.is_none()) {
            return Err(NotRetried::ParamsGone);
        }
        if let Some(missing) = wanted.iter().find(|after| !self.has(after.id)) {
            return Err(NotRetried::PriorGone(missing.id));
        }
        let holder = row.unique.as_ref().and_then(|unique| self.names.get(&unique.name)?.first());
        holder.map_or(Ok(()), |&holder| Err(NotRetried::NameTaken(holder)))
    }

    /// What a job is still tied to: a client is not there any more, and another job only until it has ended.
    fn kept_tie(&self, tie: Option<Tie>) -> Option<Tie> {
        tie.filter(|tie| match tie {
            Tie::Job(other) => self.jobs.get(other).is_some_and(|row| !row.has_ended()),
            Tie::Pool => true,
            Tie::Client => false,
        })
    }
}
