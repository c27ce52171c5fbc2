//! Ended jobs that are run again, under their ids.

use std::sync::Arc;

use pool_proto::State;

use super::{Memory, Row};
use crate::engine::{
    Answer, BegunArray, Delivery, NotRetried, Released, Retried, Times, deadline_us, start_by_us,
};
use crate::job::{After, JobId, Place, RequestId, Tie, Tries, Unmet, Work};

impl Memory {
    pub(super) fn retry(
        &mut self,
        request: RequestId,
        mut ids: Vec<JobId>,
        times: &Times,
        closed: &[Arc<str>],
    ) {
        let mut seen = crate::job::IdSet::default();
        ids.retain(|&id| seen.insert(id));
        let (mut jobs, mut failed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut arrays = Vec::new();
        for id in ids {
            let is_closed = |row: &&Row| row.has_ended() && closed.contains(&row.work.pool);
            if let Some(row) = self.jobs.get(&id).filter(is_closed) {
                others.push((id, NotRetried::PoolClosed(row.work.pool.clone())));
                continue;
            }
            match self.begin_round(id, times, &mut failed, &mut arrays) {
                Ok(retried) => jobs.push(retried),
                Err(why_not) => others.push((id, why_not)),
            }
        }
        self.answer(Answer::Retried { request, jobs, failed, others, arrays });
    }

    fn begin_round(
        &mut self,
        id: JobId,
        times: &Times,
        failed: &mut Vec<(JobId, JobId)>,
        arrays: &mut Vec<BegunArray>,
    ) -> Result<Retried, NotRetried> {
        let row = self.jobs.get(&id).ok_or(NotRetried::Missing)?;
        // One that has begun has waited for the others already.
        let wanted = if row.tries.attempts == 0 { row.depends_on.clone() } else { Vec::new() };
        self.may_retry(row, &wanted)?;
        if let Some(element) = row.work.element() {
            self.may_revive(element.array)?;
        }
        match self.is_partial(id) {
            Some((false, _)) if matches!(&row.place, Place::Ended(end) if end.state == State::Succeeded) => {
                return Err(NotRetried::AllSucceeded);
            }
            Some((false, _)) => return Err(NotRetried::Unfolded),
            Some((true, true)) => return Ok(self.go_on_with_array(id, times, arrays)),
            Some((true, false)) => self.make_more(id),
            None => {}
        }
        if let Some(array) = self.take_back_in_array(id) {
            note(arrays, self.revive(array, times));
        }

        self.take_from_history(id);
        self.resolving.remove(&id);
        let after = self.depend(id, &wanted, failed);
        let unmet = Unmet { others: after.len() as u32, ..Unmet::default() };
        let tie = self.jobs.get(&id).and_then(|row| self.kept_tie(row.work.tie));

        let row = self.jobs.get_mut(&id).ok_or(NotRetried::Missing)?;
        if row.work.tie != tie {
            row.work = Arc::new(Work { tie, ..Work::clone(&row.work) });
        }
        if let Place::Ended(outcome) = &row.place
            && let Some(start) = row.start
            // One that no worker has begun with does not count.
            && row.tries.attempts > 0
        {
            let last = outcome.as_past(row.tries.attempts, Some(start.started_us));
            row.keep_attempt(last);
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
        self.callbacks_wait(id);
        self.take_place(id);
        Ok(Retried { released, has_begun: false, tie, deadline_us, start_by_us })
    }

    /// The elements of an array that were never made are made after all.
    fn go_on_with_array(&mut self, id: JobId, times: &Times, arrays: &mut Vec<BegunArray>) -> Retried {
        self.make_more(id);
        let begun = self.revive(id, times);
        let (tie, deadline_us) = begun.as_ref().map_or((None, None), |begun| (begun.tie, begun.deadline_us));
        note(arrays, begun);
        let row = &self.jobs[&id];
        let released = Released { position: row.position(id), line: row.work.line(), until: None };
        Retried { released, has_begun: true, tie, deadline_us, start_by_us: None }
    }

    /// The callbacks of a job wait for its next end.
    pub(super) fn callbacks_wait(&mut self, id: JobId) {
        for callback in self.jobs.get(&id).iter().flat_map(|row| &row.callbacks) {
            let Some(callback) = self.callbacks.get_mut(callback) else { continue };
            (callback.delivery, callback.exit_code) = (Delivery::Waiting, None);
            callback.earlier = callback.attempts;
        }
    }

    /// `wanted`: what it is to run after.
    fn may_retry(&self, row: &Row, wanted: &[After]) -> Result<(), NotRetried> {
        if !row.has_ended() {
            return Err(NotRetried::Living(row.place.state()));
        }
        if row.undelivered > 0 {
            return Err(NotRetried::Undelivered);
        }
        let array = row.work.element().and_then(|element| self.jobs.get(&element.array));
        if row.work.stdin.is_some() && array.is_none_or(Row::has_ended) {
            return Err(NotRetried::InputGone);
        }
        if row.is_stripped && row.work.call().is_some_and(|call| call.params.is_none()) {
            return Err(NotRetried::ParamsGone);
        }
        if let Some(missing) = wanted.iter().find(|after| !self.exists(after.id)) {
            return Err(NotRetried::PriorGone(missing.id));
        }
        self.may_have_name(row)
    }

    pub(super) fn may_have_name(&self, row: &Row) -> Result<(), NotRetried> {
        let holder = row.unique.as_ref().and_then(|unique| self.names.get(&unique.name)?.first());
        holder.map_or(Ok(()), |&holder| Err(NotRetried::NameTaken(holder)))
    }

    /// What a job is still tied to: a client is not there any more, and another job only until it has ended.
    pub(super) fn kept_tie(&self, tie: Option<Tie>) -> Option<Tie> {
        tie.filter(|tie| match tie {
            Tie::Job(other) => self.jobs.get(other).is_some_and(|row| !row.has_ended()),
            Tie::Pool => true,
            Tie::Client => false,
        })
    }
}

/// Each array once, as it is last.
fn note(arrays: &mut Vec<BegunArray>, begun: Option<BegunArray>) {
    let Some(begun) = begun else { return };
    arrays.retain(|other| other.tally.array != begun.tally.array);
    arrays.push(begun);
}
