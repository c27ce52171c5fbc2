//! What an engine is to do besides keeping jobs: upkeep, and backups.

use std::sync::Arc;

use super::Boot;
use crate::job::{JobId, RequestId};

/// What is to become of ended jobs: see [`Chore::Prune`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub max_jobs: u64,
    pub ended_before_us: i64,
    pub max_output_bytes: u64,
    pub batch: u32,
    /// Somebody waits for these, in order: they stay as they are.
    pub spared: Arc<[JobId]>,
}

impl Room {
    /// Whether somebody waits for the job.
    pub fn spares(&self, id: JobId) -> bool {
        self.spared.binary_search(&id).is_ok()
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chore {
    /// Processes that are named from here on are of this boot of the machine.
    Booted(Boot),
    /// Ids below this one may have been given to jobs that this backing has never heard of: no start gives
    /// them out again. Answered by [`Answer::IdsReserved`](super::Answer::IdsReserved).
    ReserveIds { below: u64 },
    /// Removes ended jobs that are too old or too many, and output that is too much, of so many jobs at most;
    /// what goes first, [`retention`](super::retention) says. Answered by
    /// [`Answer::Pruned`](super::Answer::Pruned).
    Prune(Room),
    /// Makes the database's file whole, and leaves it alone until [`LetGo`](Self::LetGo): a backup copies it,
    /// and commits go on into the log meanwhile. Carried out after everything that was asked before.
    /// `holder`: the client's connection.
    Hold { request: RequestId, holder: usize },
    /// Ends the hold of that holder, if it has one. Without a request nobody waits for the answer: the
    /// holder's connection is gone.
    LetGo { request: Option<RequestId>, holder: usize },
}

impl Chore {
    /// See [`Change::is_promise`](super::Change::is_promise).
    pub fn is_promise(&self) -> bool {
        match self {
            // What is pruned loses its files: they must not go before their job does.
            Self::ReserveIds { .. } | Self::Prune(_) => true,
            Self::Booted(_) | Self::Hold { .. } | Self::LetGo { .. } => false,
        }
    }
}
