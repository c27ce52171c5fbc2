//! Job arrays: one job that stands for many elements, each a job of its own once the array has come to it.
//!
//! The ids of all elements are given out with the array's own, so the place of an element among them says its
//! id, and the elements stand in their line where the array stood. Until the array is *unfolded* up to an
//! element, nothing of that element is kept anywhere.

use std::ops::RangeInclusive;
use std::sync::Arc;

use pool_proto::nouns::{ArrayInfo, CallbackFor, Indices, State};

use super::{JobId, Tie};

/// What a job has to do with an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrayPart {
    /// It is one.
    Whole(ArrayPlan),
    /// It is an element of one.
    Element(Element),
}

/// What an array consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayPlan {
    pub indices: Indices,
    /// So many elements run at a time.
    pub at_once: Option<u32>,
    pub callback_for: CallbackFor,
}

/// Which element of which array a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    pub array: JobId,
    pub index: u32,
    /// So many elements the array has.
    pub elements: u32,
}

/// How far an array has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayTally {
    pub array: JobId,
    /// The id of the first element; those of the others follow.
    pub first: JobId,
    pub elements: u32,
    pub at_once: Option<u32>,
    /// The place of the first element that it has not been unfolded up to.
    pub next: u32,
    /// So many elements are kept, or were.
    pub made: u32,
    /// Of these, those that have ended.
    pub succeeded: u32,
    pub failed: u32,
    pub canceled: u32,
    /// The greatest code with which one has failed, as poolctl would end.
    pub worst: u8,
    /// No more elements are made: those that are not, count as canceled.
    pub drops: bool,
}

impl ArrayTally {
    /// Of an array of which no element is kept.
    pub fn new(array: JobId, first: JobId, plan: &ArrayPlan) -> Self {
        Self {
            array,
            first,
            elements: plan.indices.count(),
            at_once: plan.at_once,
            next: 0,
            made: 0,
            succeeded: 0,
            failed: 0,
            canceled: 0,
            worst: 0,
            drops: false,
        }
    }

    /// Whether elements are still to be made.
    pub fn has_more(&self) -> bool {
        !self.drops && self.next < self.elements
    }

    /// Whether all elements have ended that are ever made.
    pub fn is_over(&self) -> bool {
        let ended = self.succeeded + self.failed + self.canceled;
        (self.drops || self.made == self.elements) && ended == self.made
    }

    /// So many have not ended.
    pub fn living(&self) -> u32 {
        self.made - self.succeeded - self.failed - self.canceled
    }

    /// The ids of all elements.
    pub fn ids(&self) -> RangeInclusive<JobId> {
        self.first..=JobId(self.first.0 + u64::from(self.elements) - 1)
    }

    /// The place of the element with that id.
    pub fn place_of(&self, id: JobId) -> Option<u32> {
        let place = u32::try_from(id.0.checked_sub(self.first.0)?).ok()?;
        (place < self.elements).then_some(place)
    }

    /// The id of the element at that place.
    pub fn id_at(&self, place: u32) -> JobId {
        JobId(self.first.0 + u64::from(place))
    }

    /// An element has ended, with that state and code.
    pub fn count(&mut self, state: State, code: u8) {
        *self.counter(state) += 1;
        if !matches!(state, State::Succeeded | State::Canceled) {
            self.worst = self.worst.max(code);
        }
    }

    /// An element that ended in that state is run again.
    pub fn take_back(&mut self, state: State) {
        *self.counter(state) -= 1;
        if self.failed == 0 {
            self.worst = 0;
        }
    }

    fn counter(&mut self, state: State) -> &mut u32 {
        match state {
            State::Succeeded => &mut self.succeeded,
            State::Canceled => &mut self.canceled,
            _ => &mut self.failed,
        }
    }

    /// As the record of the array tells it.
    pub fn info(&self, indices: String) -> ArrayInfo {
        let unmade = if self.drops { self.elements - self.made } else { 0 };
        ArrayInfo {
            id: self.array.0,
            elements: self.elements,
            index: None,
            indices: Some(indices),
            first_id: Some(self.first.0),
            at_once: self.at_once,
            unfolded: Some(self.made),
            succeeded: Some(self.succeeded),
            failed: Some(self.failed),
            canceled: Some(self.canceled + unmade),
            held: None,
        }
    }
}

impl Element {
    /// As its record tells it.
    pub fn info(&self) -> ArrayInfo {
        ArrayInfo {
            id: self.array.0,
            elements: self.elements,
            index: Some(self.index),
            indices: None,
            first_id: None,
            at_once: None,
            unfolded: None,
            succeeded: None,
            failed: None,
            canceled: None,
            held: None,
        }
    }

    /// Whether the element may run after a job of a lower id. Its array ends with it, and so do those that
    /// were submitted in one message with the array, behind it, if they wait for it: what was there before
    /// the array does not, nor do the elements before this one. `first`: the id of the first element.
    pub fn may_follow(&self, prior: JobId, first: JobId) -> bool {
        prior < self.array || prior >= first
    }

    /// What of the array's tie is each element's, too: a drain must not wait for the elements either. By all
    /// other ties the array ends, and its elements with it.
    pub fn tie(of_array: Option<Tie>) -> Option<Tie> {
        of_array.filter(|tie| *tie == Tie::Pool)
    }
}

/// What begins the label that the elements of an array have which runs so many at a time. No other label
/// begins so.
const AT_ONCE: char = '%';

/// The label of the elements of that array.
pub fn array_label(array: JobId) -> Arc<str> {
    format!("{AT_ONCE}{array}").into()
}

/// The array whose elements have that label.
pub fn array_of_label(label: &str) -> Option<JobId> {
    label.strip_prefix(AT_ONCE)?.parse().ok().map(JobId)
}
