//! What is asked of an engine: reads, which change nothing and never wait for a change that cannot be
//! written.

use std::sync::Arc;

use pool_proto::methods::ListOrder;
use pool_proto::nouns::State;

use super::CallbackPage;
use crate::job::{Filter, JobId, Key, LineKey, RequestId};

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Records by id. Answered by [`Answer::Got`](super::Answer::Got), in parts where several backings have
    /// them, or refused where they cannot be read. Without ids the answer is empty, and comes after the
    /// answers to all that was asked before.
    Records { request: RequestId, ids: Vec<JobId> },
    /// What a job is to do. Answered by [`Answer::Defined`](super::Answer::Defined), or refused.
    Definition { request: RequestId, id: JobId },
    /// A part of a listing. Answered by [`Answer::Listed`](super::Answer::Listed), or refused.
    Page { request: RequestId, page: Page },
    /// How many jobs are in each state, and how many callbacks have failed, of
    /// [`MAX_COUNTED`](super::MAX_COUNTED) at most. Answered by [`Answer::Tallied`](super::Answer::Tallied),
    /// or refused.
    Counts { request: RequestId },
    /// The beginning of a line: [`LINE_HEAD`](super::LINE_HEAD) jobs at most. Answered by
    /// [`Answer::Line`](super::Answer::Line), or refused.
    Line { request: RequestId, line: LineKey },
    /// In which order the jobs in the lines of a pool stand, as far as that is known at little cost, and how
    /// long those ran that have ended there last. Answered by [`Answer::Pace`](super::Answer::Pace), or
    /// refused.
    Pace { request: RequestId, pool: Arc<str> },
    /// The jobs that are to run after this one has ended, so many at most. Answered by
    /// [`Answer::Dependents`](super::Answer::Dependents), or refused.
    Dependents { request: RequestId, id: JobId, limit: u32 },
    /// The attempts of a job before its latest one. Answered by
    /// [`Answer::Attempts`](super::Answer::Attempts), or refused.
    Attempts { request: RequestId, id: JobId },
    /// Who has these keys, and would have them though a job with the same key were submitted. Answered by
    /// [`Answer::Keepers`](super::Answer::Keepers), or refused.
    Keepers { request: RequestId, keys: Vec<Key> },
    /// Callbacks by themselves. Answered by [`Answer::Callbacks`](super::Answer::Callbacks), or refused.
    Callbacks { request: RequestId, page: CallbackPage },
    /// How many jobs wait for a person. Answered by [`Answer::Counted`](super::Answer::Counted), or refused.
    /// It takes some 50 ms for each million of them.
    CountHeld { request: RequestId },
}

/// The greatest length of a brief part of a listing.
pub const MAX_ENTRIES: u32 = 2000;

/// Which part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Any state when empty.
    pub states: Vec<State>,
    pub pool: Option<String>,
    pub label: Option<String>,
    pub filter: Filter,
    /// The part begins after this id, in the order of the listing.
    pub after: Option<JobId>,
    /// By line: of this pool. By line or by end there is no next part.
    pub order: ListOrder,
    /// So many records at most.
    pub limit: u32,
    /// Entries instead of records.
    pub is_brief: bool,
}

impl Page {
    /// Whether a job's place is one that is asked for.
    pub fn wants(&self, state: State, pool: &str, has_label: impl FnOnce(&str) -> bool) -> bool {
        (self.states.is_empty() || self.states.contains(&state))
            && self.pool.as_ref().is_none_or(|wanted| wanted == pool)
            && self.label.as_ref().is_none_or(|label| has_label(label))
    }
}
