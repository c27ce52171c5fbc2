//! Job arrays: how far each has come, and the elements that are not kept yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use pool_proto::Record;
use pool_proto::nouns::ArrayInfo;

use super::{Memory, Row};
use crate::engine::{Answer, BegunArray, NotRetried, Released, Reserved, Times, deadline_us, unmade_record};
use crate::job::{
    ArrayPart, ArrayPlan, ArrayTally, CallbackId, Element, JobId, Needs, NewCallback, Place, StopReason,
    Unmet, Until, Work, array_label, micros,
};

/// An array.
#[derive(Debug, Clone)]
pub(super) struct KeptArray {
    pub tally: ArrayTally,
    plan: ArrayPlan,
    /// Those of each element, and the id of the first one of all.
    pub callbacks: Vec<NewCallback>,
    first_callback: CallbackId,
    /// Elements that were ended before the array had come to them.
    early: BTreeSet<JobId>,
    /// When it began.
    pub begun_us: Option<i64>,
}

impl Memory {
    pub(super) fn add_array(&mut self, id: JobId, submitted: &Work, reserved: Reserved) {
        let Some(plan) = submitted.plan() else { return };
        let array = KeptArray {
            tally: ArrayTally::new(id, reserved.first, plan),
            plan: plan.clone(),
            callbacks: submitted.element_callbacks().to_vec(),
            first_callback: reserved.first_callback,
            early: BTreeSet::new(),
            begun_us: None,
        };
        self.arrays.insert(id, array);
    }

    pub(super) fn unfold(&mut self, id: JobId, limit: u32, now_us: i64) {
        let is_due = match self.jobs.get(&id).map(|row| &row.place) {
            Some(Place::Queued { .. } | Place::Begun) => true,
            Some(Place::Waiting(_) | Place::Running(_) | Place::Stopping(_) | Place::Ended(_)) | None => {
                false
            }
        };
        let Some(array) = self.arrays.get_mut(&id).filter(|array| is_due && !array.tally.drops) else {
            return self.answer(Answer::Lost { id });
        };
        let next = array.tally.next;
        let until = next.saturating_add(limit).min(array.tally.elements);
        let ids = (next..until).map(|place| array.tally.id_at(place));
        let to_make: Vec<JobId> = ids.filter(|id| !array.early.remove(id)).collect();
        array.tally.next = until;
        array.begun_us.get_or_insert(now_us);

        let mut jobs = Vec::new();
        for element in to_make {
            self.make(id, element);
            let Some(row) = self.jobs.get(&element) else { continue };
            jobs.push(Released { position: row.position(element), line: row.work.line(), until: None });
        }
        self.leave_place(id);
        let Some(row) = self.jobs.get_mut(&id) else { return };
        row.place = Place::Begun;
        let tie = Element::tie(row.work.tie);
        if let Some(us) = row.start_by_us.take() {
            self.starts.remove(&(us, id));
        }
        let Some(array) = self.arrays.get(&id) else { return };
        self.answer(Answer::Unfolded { tally: Box::new(array.tally), jobs, tie });
    }

    /// An element gets a row, in its line.
    fn make(&mut self, array: JobId, id: JobId) {
        let (Some(kept), Some(row)) = (self.arrays.get_mut(&array), self.jobs.get(&array)) else { return };
        let Some(place) = kept.tally.place_of(id) else { return };
        kept.tally.made += 1;
        let index = kept.plan.indices.at(place).unwrap_or_default();
        let own = kept.tally.at_once.map(|_| array_label(array));
        let labels = row.work.needs.labels.iter().cloned().chain(own).collect();
        let needs = Needs { labels, ..row.work.needs.clone() };
        let element = Element { array, index, elements: kept.tally.elements };
        let work = Arc::new(Work {
            array: Some(Box::new(ArrayPart::Element(element))),
            needs,
            tie: Element::tie(row.work.tie),
            start_within: None,
            callbacks: kept.callbacks.clone(),
            ..Work::clone(&row.work)
        });
        let of_one = kept.callbacks.len() as u64;
        let mut callbacks = (kept.first_callback.0 + u64::from(place) * of_one..).map(CallbackId);
        let counted_from_us = match (row.deadline_us, work.deadline) {
            (Some(us), Some(deadline)) => us.saturating_sub(micros(deadline)),
            _ => row.submitted_us,
        };
        let times = Times { submitted_us: row.submitted_us, counted_from_us };
        self.add(id, &work, &mut callbacks, &times, (Unmet::default(), Vec::new()));
    }

    pub(super) fn fold(&mut self, id: JobId, reason: StopReason, after: JobId, limit: u32) {
        let has_begun =
            self.jobs.get(&id).is_some_and(|row| matches!(row.place, Place::Begun | Place::Stopping(_)));
        let Some(array) = self.arrays.get_mut(&id).filter(|_| has_begun) else {
            return self.answer(Answer::Lost { id });
        };
        array.tally.drops = true;
        let tally = array.tally;
        if let Some(row) = self.jobs.get_mut(&id)
            && row.place == Place::Begun
        {
            row.place = Place::Stopping(reason);
        }
        let living = self.jobs.range(*tally.ids().start()..=*tally.ids().end());
        let living = living.filter(|(id, row)| **id > after && !row.has_ended()).map(|(&id, _)| id);
        let mut living: Vec<JobId> = living.take(limit as usize + 1).collect();
        let more = living.len() > limit as usize;
        living.truncate(limit as usize);
        self.answer(Answer::Folded { tally: Box::new(tally), living, more });
    }

    /// A job has ended: how far its array has come, or the array that it is. And whether others were to run
    /// after elements that are never made.
    pub(super) fn count_in_array(&mut self, id: JobId) -> (Option<Box<ArrayTally>>, bool) {
        let Some(row) = self.jobs.get(&id) else { return (None, false) };
        match row.work.array.as_deref() {
            None => (None, false),
            Some(ArrayPart::Element(Element { array, .. })) => {
                let counted = self.outcome(id).map(|outcome| (outcome.state, outcome.code()));
                let Some((array, (state, code))) = self.arrays.get_mut(&array.clone()).zip(counted) else {
                    return (None, false);
                };
                array.tally.count(state, code);
                (Some(Box::new(array.tally)), false)
            }
            Some(ArrayPart::Whole(_)) => {
                let Some(array) = self.arrays.get_mut(&id) else { return (None, false) };
                array.tally.drops |= array.tally.made < array.tally.elements;
                let tally = array.tally;
                let is_unmade = |id: &JobId| tally.drops && self.unmade(*id).is_some();
                let priors: Vec<JobId> =
                    self.dependents.range(tally.ids()).map(|(&id, _)| id).filter(is_unmade).collect();
                let has_dropped = !priors.is_empty();
                self.resolving.extend(priors.into_iter().map(|id| (id, false)));
                (Some(Box::new(tally)), has_dropped)
            }
        }
    }

    /// The array of an element that is not kept yet.
    fn unmade(&self, id: JobId) -> Option<&KeptArray> {
        if self.has(id) {
            return None;
        }
        let array = self.arrays.values().find(|array| array.tally.place_of(id).is_some())?;
        let is_beyond = array.tally.place_of(id) >= Some(array.tally.next);
        (is_beyond && !array.early.contains(&id)).then_some(array)
    }

    /// Whether an element that is not kept yet is over; none where that is no element.
    pub(super) fn is_over_unmade(&self, id: JobId) -> Option<bool> {
        self.unmade(id).map(|array| array.tally.drops)
    }

    /// Whether there is such a job, and be it an element that is not kept yet.
    pub fn exists(&self, id: JobId) -> bool {
        self.has(id) || self.unmade(id).is_some()
    }

    /// Keeps an element that was not, since it is to be ended; whether there is such an element.
    pub(super) fn make_early(&mut self, id: JobId) -> bool {
        let Some(array) = self.unmade(id).filter(|array| !array.tally.drops).map(|array| array.tally.array)
        else {
            return false;
        };
        self.make(array, id);
        if let Some(array) = self.arrays.get_mut(&array) {
            array.early.insert(id);
        }
        true
    }

    pub(super) fn record_of_unmade(&self, id: JobId) -> Option<Record> {
        let array = self.unmade(id)?;
        let of_array = self.record(array.tally.array)?;
        let place = array.tally.place_of(id)?;
        let index = array.plan.indices.at(place)?;
        let element = Element { array: array.tally.array, index, elements: array.tally.elements };
        Some(unmade_record(of_array, id, &element, array.tally.drops))
    }

    pub(super) fn array_info(&self, id: JobId, work: &Work) -> Option<Box<ArrayInfo>> {
        Some(Box::new(match work.array.as_deref()? {
            ArrayPart::Element(element) => element.info(),
            ArrayPart::Whole(plan) => {
                let tally = &self.arrays.get(&id)?.tally;
                ArrayInfo { held: self.count_held(tally), ..tally.info(plan.indices.to_string()) }
            }
        }))
    }

    fn count_held(&self, tally: &ArrayTally) -> Option<u32> {
        let is_held = |(_, row): &(&JobId, &Row)| row.place == Place::Waiting(Until::Person);
        let held = self.jobs.range(tally.ids()).filter(is_held).count();
        u32::try_from(held).ok().filter(|&held| held > 0)
    }

    /// Arrays that have begun and have not ended, or of which all elements have ended.
    pub(super) fn begun_arrays(&self) -> Vec<BegunArray> {
        let begun = self.arrays.keys().filter_map(|&id| self.begun_array(id));
        begun.filter(|array| array.has_begun || array.tally.is_over()).collect()
    }

    fn begun_array(&self, id: JobId) -> Option<BegunArray> {
        let (array, row) = (self.arrays.get(&id)?, self.jobs.get(&id)?);
        let stopping = match row.place {
            Place::Stopping(reason) => Some(reason),
            Place::Queued { .. } | Place::Waiting(_) | Place::Begun | Place::Running(_) => None,
            Place::Ended(_) => return None,
        };
        let has_begun = matches!(row.place, Place::Begun | Place::Stopping(_));
        let (pool, tie, deadline_us) = (row.work.pool.clone(), row.work.tie, row.deadline_us);
        Some(BegunArray { tally: array.tally, pool, tie, deadline_us, stopping, has_begun })
    }

    /// Whether the array that is to be run again has elements that were never made, and whether one was.
    pub(super) fn is_partial(&self, id: JobId) -> Option<(bool, bool)> {
        let tally = &self.arrays.get(&id)?.tally;
        Some((tally.made < tally.elements, tally.made > 0))
    }

    /// Its elements that were never made are made after all.
    pub(super) fn make_more(&mut self, id: JobId) {
        if let Some(array) = self.arrays.get_mut(&id) {
            array.tally.drops = false;
        }
    }

    /// Why the array of an element cannot go on, since the element is to be run again.
    pub(super) fn may_revive(&self, array: JobId) -> Result<(), NotRetried> {
        let Some(row) = self.jobs.get(&array).filter(|row| row.has_ended()) else { return Ok(()) };
        if row.undelivered > 0 {
            return Err(NotRetried::ArrayUndelivered(array));
        }
        self.may_have_name(row)
    }

    /// An array goes on, if it has ended.
    pub(super) fn revive(&mut self, id: JobId, times: &Times) -> Option<BegunArray> {
        if self.jobs.get(&id).is_some_and(Row::has_ended) {
            self.take_from_history(id);
            self.resolving.remove(&id);
            let tie = self.jobs.get(&id).and_then(|row| self.kept_tie(row.work.tie));
            let row = self.jobs.get_mut(&id)?;
            if row.work.tie != tie {
                row.work = Arc::new(Work { tie, ..Work::clone(&row.work) });
            }
            row.reruns += 1;
            row.deadline_us = deadline_us(times.counted_from_us, &row.work);
            (row.place, row.reason, row.bytes) = (Place::Begun, None, row.work.own_bytes());
            self.living_bytes += row.bytes;
            self.deadlines.extend(row.deadline_us.map(|us| (us, id)));
            if let Some(unique) = &row.unique {
                self.names.entry(unique.name.clone()).or_default().insert(id);
            }
            let array = self.arrays.get_mut(&id)?;
            array.begun_us.get_or_insert(times.submitted_us);
            self.callbacks_wait(id);
        }
        self.begun_array(id)
    }

    /// An element that has ended is run again.
    pub(super) fn take_back_in_array(&mut self, id: JobId) -> Option<JobId> {
        let array = self.jobs.get(&id)?.work.element()?.array;
        let state = self.outcome(id)?.state;
        self.arrays.get_mut(&array)?.tally.take_back(state);
        Some(array)
    }
}
