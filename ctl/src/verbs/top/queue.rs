//! The jobs that have not started, by id. There may be a million of them, so only the first are here.

use std::collections::BTreeMap;

use pool_proto::{Record, State};

use super::job::{Job, Micros};

/// The states of these jobs.
pub const QUEUED: [State; 5] =
    [State::Queued, State::Retrying, State::Scheduled, State::Blocked, State::Held];

/// Jobs that one reading brings.
pub const PAGE: u32 = 200;

/// No more jobs than that are kept.
const MOST: usize = 2000;

/// Fewer jobs than that are too few, if there are more.
const FEW: usize = 100;

/// Readings are at least that far apart, if jobs start faster than anybody can read.
const PAUSE_US: Micros = 1_000_000;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Queue {
    pub jobs: BTreeMap<u64, Job>,
    /// There are more jobs after this id. None if all jobs are here.
    pub rest: Option<u64>,
    /// A reading is under way, or was last at that time.
    is_reading: bool,
    read_us: Micros,
    /// Nothing has been read yet.
    is_unread: bool,
}

impl Queue {
    /// Everything is to be read anew, when somebody looks.
    pub fn forget(&mut self) {
        *self = Self { is_unread: true, ..Self::default() };
    }

    /// From after which id on to read now. `last`: how far down somebody looks.
    pub fn wanted(&mut self, last: usize, now: Micros) -> Option<u64> {
        let is_short = self.jobs.len() < FEW.max(last.saturating_add(FEW)) && self.jobs.len() < MOST;
        let after = match self.rest {
            _ if self.is_reading => None,
            _ if self.is_unread => Some(0),
            Some(rest) if is_short && now >= self.read_us + PAUSE_US => Some(rest),
            _ => None,
        }?;
        self.is_reading = true;
        self.read_us = now;
        Some(after)
    }

    /// When [`wanted`](Self::wanted) will want something that it did not want before.
    pub fn due(&self, last: usize) -> Option<Micros> {
        let is_short = self.jobs.len() < FEW.max(last.saturating_add(FEW)) && self.jobs.len() < MOST;
        (self.rest.is_some() && is_short && !self.is_reading).then_some(self.read_us + PAUSE_US)
    }

    /// The time of the last reading says nothing any more.
    pub fn on_clock_set_back(&mut self) {
        self.read_us = 0;
    }

    /// Takes a reading.
    pub fn take(&mut self, after: u64, jobs: &[Record], next: Option<u64>) {
        if after == 0 {
            self.jobs.clear();
        }
        (self.is_reading, self.is_unread) = (false, false);
        self.rest = next;
        self.jobs.extend(jobs.iter().map(|record| (record.id, Job::of(record))));
    }

    /// The reading has failed.
    pub fn give_up(&mut self) {
        self.is_reading = false;
    }

    /// A job has come, or has come back.
    pub fn add(&mut self, job: Job) {
        if self.is_unread || self.rest.is_some_and(|rest| job.id > rest) {
            return;
        }
        self.jobs.insert(job.id, job);
        if self.jobs.len() > MOST {
            self.jobs.pop_last();
            self.rest = self.jobs.last_key_value().map(|(id, _)| *id);
        }
    }

    /// A job has started or ended.
    pub fn remove(&mut self, id: u64) -> Option<Job> {
        self.jobs.remove(&id)
    }
}
