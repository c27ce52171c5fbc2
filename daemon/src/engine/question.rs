//! What is asked of an engine: reads, which change nothing and never wait for a change that cannot be
//! written.

use pool_proto::nouns::State;

use crate::job::{JobId, LineKey, RequestId};

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Records by id. Answered by [`Answer::Got`](super::Answer::Got), in parts where several backings have
    /// them, or refused where they cannot be read. Without ids the answer is empty, and comes after the
    /// answers to all that was asked before.
    Records { request: RequestId, ids: Vec<JobId> },
    /// A part of a listing. Answered by [`Answer::Listed`](super::Answer::Listed), or refused.
    Page { request: RequestId, page: Page },
    /// The beginning of a line: [`LINE_HEAD`](super::LINE_HEAD) jobs at most. Answered by
    /// [`Answer::Line`](super::Answer::Line), or refused.
    Line { request: RequestId, line: LineKey },
    /// The jobs that are to run after this one has ended, so many at most. Answered by
    /// [`Answer::Dependents`](super::Answer::Dependents), or refused.
    Dependents { request: RequestId, id: JobId, limit: u32 },
}

/// Which part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Any state when empty.
    pub states: Vec<State>,
    pub pool: Option<String>,
    pub label: Option<String>,
    /// The part begins after this id.
    pub after: Option<JobId>,
    /// So many records at most.
    pub limit: u32,
}
