//! What waits for its large values to be kept in files: new calls with long parameters, and ends of calls
//! with long answers. The backing is asked for them when the files are there, so whatever was asked meanwhile
//! is not held up, and what is asked then is a small change like any other.
//!
//! The core knows nothing of it: a submission takes longer to be accepted, an end longer to be kept. New jobs
//! get their ids when they are asked for. Where a value cannot have a file, the disk is full, say, it goes
//! with its change as a small one does, and what is true of that on a full disk is true of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pool_proto::Json;

use super::{Move, Times, ValueFile};
use crate::job::{Call, LARGE_VALUE, Place, RequestId, Work};

/// Jobs that are to be inserted: see [`Insertion`](super::Insertion).
#[derive(Debug)]
pub struct New {
    pub request: RequestId,
    pub jobs: Vec<Arc<Work>>,
    pub times: Times,
    pub is_urgent: bool,
}

/// What waits.
#[derive(Debug)]
pub enum Waiting {
    New(New),
    End(Box<Move>),
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Keeping {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

impl Keeping {
    /// The ticket under which the values are to be kept.
    pub fn wait(&mut self, waiting: Waiting) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, waiting);
        self.next
    }

    pub fn take(&mut self, ticket: u64) -> Option<Waiting> {
        self.waiting.remove(&ticket)
    }

    /// All that waits, in the order in which it came.
    pub fn give_up(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The large values of jobs that are to last, in order.
pub fn values_of(new: &New) -> Vec<Json> {
    large_params(new).map(|(_, params)| params.clone()).collect()
}

/// The files of these values, each with the place of its job.
pub fn places_of(new: &New, files: Vec<Option<ValueFile>>) -> Vec<(usize, ValueFile)> {
    let places = large_params(new).map(|(place, _)| place);
    places.zip(files).filter_map(|(place, file)| Some((place, file?))).collect()
}

fn large_params(new: &New) -> impl Iterator<Item = (usize, &Json)> {
    let jobs = new.jobs.iter().enumerate().filter(|(_, work)| !work.volatile);
    jobs.filter_map(|(place, work)| Some((place, work.call().and_then(Call::large_params)?)))
}

/// The answer of a call that ends with this move, where it is large.
pub fn answer_of(moved: &Move) -> Option<&Json> {
    let Place::Ended(outcome) = &moved.to else { return None };
    outcome.answer_json().filter(|answer| answer.get().len() > LARGE_VALUE)
}
