//! The jobs that have ended last, the latest first.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::job::{Job, micros};

/// No more jobs than that are kept.
pub const MOST: usize = 500;

/// See the module's description.
#[derive(Debug, Default)]
pub struct EndedJobs {
    pub jobs: VecDeque<Job>,
}

impl EndedJobs {
    /// A job has ended.
    pub fn add(&mut self, job: Job) {
        self.jobs.push_front(job);
        self.jobs.truncate(MOST);
    }

    /// Takes a reading of jobs that have ended.
    pub fn take(&mut self, jobs: impl IntoIterator<Item = Job>) {
        for job in jobs {
            match self.jobs.iter_mut().find(|known| known.id == job.id) {
                Some(known) => *known = job,
                None => self.jobs.push_back(job),
            }
        }
        let mut sorted: Vec<Job> = std::mem::take(&mut self.jobs).into();
        sorted.sort_by_cached_key(|job| Reverse((job.ended_at.as_deref().and_then(micros), job.id)));
        sorted.truncate(MOST);
        self.jobs = sorted.into();
    }

    /// The job is to run again.
    pub fn remove(&mut self, id: u64) -> Option<Job> {
        let place = self.jobs.iter().position(|job| job.id == id)?;
        self.jobs.remove(place)
    }

    /// The job, if it is here.
    pub fn find(&self, id: u64) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    /// The same, to be changed.
    pub fn find_mut(&mut self, id: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }
}
