//! New jobs, with their keys, ties and callbacks.

use std::collections::HashMap;
use std::sync::Arc;

use pool_proto::{OsText, Refusal, State};

use super::callbacks::OutgoingCallback;
use super::{Memory, Row};
use crate::engine::{Answer, Insertion};
use crate::job::{CallbackId, JobId, Key, Place, Tie, Tries, Work};

impl Memory {
    pub(super) fn insert(&mut self, insertion: Insertion) {
        let Insertion { request, first, first_callback, jobs, submitted_us } = insertion;
        let existing = self.existing(first, &jobs);
        let is_new = |place: usize| existing.binary_search_by_key(&place, |&(place, _)| place).is_err();
        let new: Vec<(JobId, &Arc<Work>)> = (first.0..)
            .map(JobId)
            .zip(&jobs)
            .enumerate()
            .filter(|&(place, _)| is_new(place))
            .map(|(_, job)| job)
            .collect();

        let mut untied = Vec::new();
        for &(id, work) in &new {
            let Some(Tie::Job(other)) = work.tie else { continue };
            match self.jobs.get(&other) {
                None => {
                    let refusal = Refusal::NoSuchJob { id: other.0, pruned: None };
                    return self.answer(Answer::Refused { request, refusal });
                }
                Some(row) if row.has_ended() => untied.push(id),
                Some(_) => {}
            }
        }

        if first.0 < self.next_job || first_callback.0 < self.next_callback {
            self.mistake(format!(
                "ids from job {first} and callback {first_callback} on were given out before"
            ));
            let reason = format!(
                "the ids from {first} on were given out before; please report this as a defect of poold"
            );
            return self.answer(Answer::Refused { request, refusal: Refusal::StoreFailed { reason } });
        }
        let callbacks: usize = jobs.iter().map(|work| work.callbacks.len()).sum();
        self.next_job = first.0 + jobs.len() as u64;
        self.next_callback = first_callback.0 + callbacks as u64;

        let mut callback_ids = (first_callback.0..).map(CallbackId);
        for (id, work) in new {
            self.add(id, work, &mut callback_ids, submitted_us);
        }
        self.answer(Answer::Inserted { request, first, jobs, untied, existing });
    }

    fn add(
        &mut self,
        id: JobId,
        submitted: &Arc<Work>,
        callback_ids: &mut impl Iterator<Item = CallbackId>,
        submitted_us: i64,
    ) {
        if let Some(key) = &submitted.key
            && let Some(loser) = self.keys.insert(key.text.clone(), id)
            && let Some(row) = self.jobs.get_mut(&loser)
        {
            row.key = None;
        }

        let mut callbacks = Vec::new();
        for (callback, callback_id) in submitted.callbacks.iter().zip(callback_ids) {
            self.callbacks.insert(callback_id, OutgoingCallback::new(id, callback.clone()));
            callbacks.push(callback_id);
        }

        let is_whole = submitted.key.is_none() && submitted.callbacks.is_empty();
        let work = if is_whole {
            submitted.clone()
        } else {
            Arc::new(Work { key: None, callbacks: Vec::new(), ..Work::clone(submitted) })
        };
        let row = Row {
            work,
            #[cfg(test)]
            submitted: if is_whole { std::sync::Weak::new() } else { Arc::downgrade(submitted) },
            key: submitted.key.clone(),
            callbacks,
            undelivered: 0,
            place: Place::Queued { again: false },
            tries: Tries::default(),
            is_confirmed: false,
            submitted_us,
            reason: None,
            last_crash: None,
            start: None,
            has_had_key: submitted.key.is_some(),
            is_stripped: false,
        };
        self.jobs.insert(id, row);
        self.enter_line(id);
    }

    /// The places of jobs that are not to be added, in order, and who holds their keys. Of several with one
    /// key the first is added.
    fn existing(&self, first: JobId, jobs: &[Arc<Work>]) -> Vec<(usize, JobId)> {
        let mut existing = Vec::new();
        let mut given: HashMap<&OsText, JobId> = HashMap::new();
        for (place, (id, work)) in (first.0..).map(JobId).zip(jobs).enumerate() {
            let Some(key) = &work.key else { continue };
            let holder = given.get(&key.text).copied().or_else(|| self.keeper(key));
            existing.extend(holder.map(|holder| (place, holder)));
            given.insert(&key.text, holder.unwrap_or(id));
        }
        existing
    }

    /// The job that holds a key and does not lose it to a job with this one.
    fn keeper(&self, key: &Key) -> Option<JobId> {
        let &id = self.keys.get(&key.text)?;
        let row = self.jobs.get(&id)?;
        let state = row.place.state();
        let is_of_round = row.key.as_ref().is_some_and(|held| held.round == key.round);
        let gives_way =
            state.is_terminal() && state != State::Succeeded && key.round.is_some() && !is_of_round;
        (!gives_way).then_some(id)
    }
}
