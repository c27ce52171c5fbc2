//! New jobs, with their keys, ties and callbacks.

use std::collections::HashMap;
use std::sync::Arc;

use pool_proto::nouns::IfExists;
use pool_proto::{OsText, Refusal, State};

use super::callbacks::OutgoingCallback;
use super::{Memory, Row};
use crate::engine::{Answer, Conditional, Insertion, Times, Turns, at_us, deadline_us, start_by_us, unmet};
use crate::job::{After, CallbackId, JobId, Key, Labels, Tie, Tries, Unique, Unmet, Work};

/// What becomes of an insertion's jobs that have keys or unique names.
#[derive(Default)]
struct LookedUp {
    /// The places of those that are not to be added, in order, and which jobs are there in their stead.
    existing: Vec<(usize, JobId)>,
    turns: Turns,
}

/// What the jobs that have not ended take at most where they are nowhere else.
const MAX_LIVING_BYTES: usize = if cfg!(test) { 1 << 20 } else { 1 << 30 };

impl Memory {
    pub(super) fn insert(&mut self, insertion: Insertion) {
        let (reserved, ids, callbacks) =
            (insertion.reserved(), insertion.count_ids(), insertion.count_callbacks());
        let Insertion { request, first, first_callback, jobs, times, is_urgent: _, files: _ } = insertion;
        let LookedUp { existing, turns } = self.look_up(first, &jobs);
        let is_new = |place: usize| existing.binary_search_by_key(&place, |&(place, _)| place).is_err();
        let new: Vec<(JobId, &Arc<Work>)> = (first.0..)
            .map(JobId)
            .zip(&jobs)
            .enumerate()
            .filter(|&(place, _)| is_new(place))
            .map(|(_, job)| job)
            .collect();

        let added: usize = new.iter().map(|(_, work)| work.own_bytes()).sum();
        if self.history.is_bounded() && self.living_bytes + added > MAX_LIVING_BYTES {
            let refusal = Refusal::MemoryFull { limit: MAX_LIVING_BYTES as u64 };
            return self.answer(Answer::Refused { request, refusal });
        }

        let mut conditions = Conditional::default();
        for &(id, work) in &new {
            if let Some(missing) = work.after().iter().map(|after| after.id).find(|id| !self.exists(*id)) {
                let refusal = Refusal::NoSuchJob { id: missing.0, pruned: None };
                return self.answer(Answer::Refused { request, refusal });
            }
            let Some(Tie::Job(other)) = work.tie else { continue };
            match self.jobs.get(&other) {
                None if self.is_over_unmade(other) == Some(false) => {}
                None if self.exists(other) => conditions.untied.push(id),
                None => {
                    let refusal = Refusal::NoSuchJob { id: other.0, pruned: None };
                    return self.answer(Answer::Refused { request, refusal });
                }
                Some(row) if row.has_ended() => conditions.untied.push(id),
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
        self.next_job = first.0 + ids;
        self.next_callback = first_callback.0 + callbacks;

        let mut callback_ids = (first_callback.0..).map(CallbackId);
        for (id, work) in new {
            let after = self.depend(id, work.after(), &mut conditions.failed);
            let unmet = unmet(&times, work, after.len() as u32, turns.before(id).is_some());
            conditions.waiting.extend(unmet.first().map(|until| (id, until)));
            self.add(id, work, &mut callback_ids, &times, (unmet, after));
            if let Some(&reserved) = reserved.get(&id) {
                self.add_array(id, work, reserved);
            }
        }
        let is_synced = true;
        self.answer(Answer::Inserted { request, first, jobs, existing, turns, conditions, is_synced });
    }

    /// What a job has to wait for of what it is to run after. `failed`: takes those that it waits for in
    /// vain.
    pub(super) fn depend(
        &mut self,
        id: JobId,
        wanted: &[After],
        failed: &mut Vec<(JobId, JobId)>,
    ) -> Vec<After> {
        let mut open = Vec::new();
        for &after in wanted {
            let has_succeeded = self.outcome(after.id).map(|outcome| outcome.state == State::Succeeded);
            match has_succeeded.or(self.is_over_unmade(after.id).filter(|&is_over| is_over).map(|_| false)) {
                Some(succeeded) if after.is_met_by(succeeded) => continue,
                Some(_) if self.failed.contains_key(&id) => {}
                Some(_) => {
                    self.failed.insert(id, after.id);
                    failed.push((id, after.id));
                }
                None => _ = self.dependents.entry(after.id).or_default().insert(id),
            }
            open.push(after);
        }
        open
    }

    pub(super) fn add(
        &mut self,
        id: JobId,
        submitted: &Arc<Work>,
        callback_ids: &mut impl Iterator<Item = CallbackId>,
        times: &Times,
        (unmet, after): (Unmet, Vec<After>),
    ) {
        let deadline_us = deadline_us(times.counted_from_us, submitted);
        let start_by_us = start_by_us(times.counted_from_us, submitted);
        self.deadlines.extend(deadline_us.map(|us| (us, id)));
        self.starts.extend(start_by_us.map(|us| (us, id)));
        if let Some(key) = &submitted.key
            && let Some(loser) = self.keys.insert(key.text.clone(), id)
            && let Some(row) = self.jobs.get_mut(&loser)
        {
            row.key = None;
        }

        if let Some(unique) = &submitted.unique {
            self.names.entry(unique.name.clone()).or_default().insert(id);
        }

        for label in submitted.exclusive.iter() {
            self.limits.entry(label.to_string()).or_insert(1);
        }

        let mut callbacks = Vec::new();
        for (callback, callback_id) in submitted.own_callbacks().iter().zip(callback_ids) {
            self.callbacks.insert(callback_id, OutgoingCallback::new(id, callback.clone()));
            callbacks.push(callback_id);
        }

        let is_whole = submitted.key.is_none()
            && submitted.unique.is_none()
            && submitted.conditions.is_none()
            && submitted.exclusive.is_empty()
            && submitted.callbacks.is_empty();
        let work = if is_whole {
            submitted.clone()
        } else {
            Arc::new(Work {
                key: None,
                unique: None,
                conditions: None,
                exclusive: Labels::NONE,
                callbacks: Vec::new(),
                ..Work::clone(submitted)
            })
        };
        let bytes = work.own_bytes();
        self.living_bytes += bytes;
        let row = Row {
            work,
            bytes,
            #[cfg(test)]
            submitted: if is_whole { std::sync::Weak::new() } else { Arc::downgrade(submitted) },
            key: submitted.key.clone(),
            unique: submitted.unique.clone(),
            callbacks,
            undelivered: 0,
            place: unmet.place(),
            tries: Tries::default(),
            is_confirmed: false,
            submitted_us: times.submitted_us,
            deadline_us,
            start_by_us,
            unmet,
            at_us: at_us(submitted),
            after,
            depends_on: submitted.after().to_vec(),
            reruns: 0,
            reason: None,
            last_crash: None,
            start: None,
            has_had_key: submitted.key.is_some(),
            is_stripped: false,
            past: Vec::new(),
        };
        self.jobs.insert(id, row);
        self.take_place(id);
    }

    /// What becomes of jobs with keys and unique names. Of several with one key the first is added; a key
    /// decides before a name does.
    fn look_up(&self, first: JobId, jobs: &[Arc<Work>]) -> LookedUp {
        let (mut looked_up, mut given) = (LookedUp::default(), HashMap::new());
        let mut names: HashMap<&OsText, Vec<JobId>> = HashMap::new();
        for (place, (id, work)) in (first.0..).map(JobId).zip(jobs).enumerate() {
            let of_key = work.key.as_ref().and_then(|key| {
                let other: Option<JobId> = given.get(&key.text).copied();
                other.or_else(|| self.keeper(key))
            });
            let one = match (of_key, &work.unique) {
                (Some(holder), _) => holder,
                (None, None) => id,
                (None, Some(unique)) => {
                    let kept = || self.names.get(&unique.name).into_iter().flatten().copied().collect();
                    let living = names.entry(&unique.name).or_insert_with(kept);
                    self.take_turn(id, place, unique, living, &mut looked_up.turns)
                }
            };
            looked_up.existing.extend((one != id).then_some((place, one)));
            if let Some(key) = &work.key {
                given.insert(&key.text, one);
            }
        }
        looked_up
    }

    /// `living`: the jobs of the name that have not ended. The job that is added, or is there in its stead.
    fn take_turn(
        &self,
        id: JobId,
        place: usize,
        unique: &Unique,
        living: &mut Vec<JobId>,
        turns: &mut Turns,
    ) -> JobId {
        let (Some(&one), Some(&last)) = (living.first(), living.last()) else {
            living.push(id);
            return id;
        };
        // What is about to be replaced is nobody's to wait for.
        let takes_place = |id: &&JobId| {
            self.jobs.get(id).is_some_and(Row::takes_their_place)
                || turns.replaced.iter().any(|(_, by)| by == *id)
        };
        let one = living.iter().rev().find(takes_place).copied().unwrap_or(one);
        match unique.if_exists {
            IfExists::Skip => {
                let state = self.jobs.get(&one).map_or(State::Queued, |row| row.place.state());
                turns.skipped.push((place, state));
                return one;
            }
            IfExists::Join => return one,
            IfExists::Queue => {}
            IfExists::Replace => {
                let is_new = |id: &JobId| !turns.replaced.iter().any(|(replaced, _)| replaced == id);
                let replaced: Vec<JobId> = living.iter().rev().copied().filter(is_new).collect();
                turns.replaced.extend(replaced.into_iter().map(|before| (before, id)));
            }
        }
        turns.waiting.push((id, last));
        living.push(id);
        id
    }

    /// The job that holds a key and does not lose it to a job with this one.
    pub(super) fn keeper(&self, key: &Key) -> Option<JobId> {
        let &id = self.keys.get(&key.text)?;
        let row = self.jobs.get(&id)?;
        let state = row.place.state();
        let is_of_round = row.key.as_ref().is_some_and(|held| held.round == key.round);
        let gives_way =
            state.is_terminal() && state != State::Succeeded && key.round.is_some() && !is_of_round;
        (!gives_way).then_some(id)
    }
}
