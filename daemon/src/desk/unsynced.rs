//! What is held back of jobs that are written and not synced: such a job may run already, but a power cut may
//! still take it. So nobody is told of it before the engine has synced it.
//!
//! ```text
//!   Inserted, not synced ──▶ replies and events are made as ever, and held back, in order
//!                                 │
//!   Synced ───────────────────────┴──▶ all of them are told
//! ```
//!
//! Held back are the replies to the submission, and what listeners are to be told of its jobs. The ends of
//! the jobs never come to be held: the engine tells them after the sync. Of how far a call has come, the
//! latest word is kept: each says all that the ones before it have said.

use std::collections::BTreeMap;
use std::sync::Arc;

use pool_proto::nouns::{CallProgress, Happening};

use super::event::Effect;
use crate::job::{IdMap, JobId, RequestId};

/// The submissions whose jobs are written and not synced.
#[derive(Debug, Default)]
pub struct Unsynced {
    submissions: IdMap<RequestId, Held>,
    /// By the first ids of their jobs.
    by_first: BTreeMap<JobId, RequestId>,
}

/// One of them, and what is held back until it is synced.
#[derive(Debug)]
pub struct Held {
    first: JobId,
    count: u64,
    /// In order.
    pub replies: Vec<Effect>,
    /// For those who listen, in order.
    pub happenings: Vec<Arc<Happening>>,
    /// How far the calls have come, each in this attempt.
    pub progress: BTreeMap<JobId, (u32, CallProgress)>,
}

impl Unsynced {
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.submissions.is_empty() && self.by_first.is_empty()
    }

    /// So many jobs from `first` on are written for this submission.
    pub fn begin(&mut self, request: RequestId, first: JobId, count: u64) {
        let (replies, happenings, progress) = (Vec::new(), Vec::new(), BTreeMap::new());
        let held = Held { first, count, replies, happenings, progress };
        self.submissions.insert(request, held);
        self.by_first.insert(first, request);
    }

    /// The jobs of the submission are synced: what was held back of them.
    pub fn end(&mut self, request: RequestId) -> Option<Held> {
        let held = self.submissions.remove(&request)?;
        self.by_first.remove(&held.first);
        Some(held)
    }

    /// The client of the submission has gone: nothing is left to be replied.
    pub fn forsake(&mut self, request: RequestId) {
        if let Some(held) = self.submissions.get_mut(&request) {
            held.replies.clear();
        }
    }

    /// Holds back how far a call has come that is not synced; otherwise it is returned.
    pub fn hold_progress(&mut self, id: JobId, attempt: u32, progress: CallProgress) -> Option<CallProgress> {
        match self.submission_of(id).and_then(|request| self.submissions.get_mut(&request)) {
            Some(held) => {
                held.progress.insert(id, (attempt, progress));
                None
            }
            None => Some(progress),
        }
    }

    fn submission_of(&self, id: JobId) -> Option<RequestId> {
        let (&first, &request) = self.by_first.range(..=id).next_back()?;
        let held = self.submissions.get(&request)?;
        (id.0 - first.0 < held.count).then_some(request)
    }

    /// Holds back what is told to these submissions; returns the rest.
    pub fn hold_replies(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        if self.submissions.is_empty() {
            return effects;
        }
        let mut rest = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect.replies_to().and_then(|request| self.submissions.get_mut(&request)) {
                Some(held) => held.replies.push(effect),
                None => rest.push(effect),
            }
        }
        rest
    }

    /// Holds back what has happened to a job that is not synced; otherwise it is returned.
    pub fn hold_happening(&mut self, happening: Arc<Happening>) -> Option<Arc<Happening>> {
        let submission = happening.id.and_then(|id| self.submission_of(JobId(id)));
        match submission.and_then(|request| self.submissions.get_mut(&request)) {
            Some(held) => {
                held.happenings.push(happening);
                None
            }
            None => Some(happening),
        }
    }
}
