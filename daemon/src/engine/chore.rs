//! What an engine is to do besides keeping jobs: upkeep, and backups.

use crate::job::RequestId;

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chore {
    /// Processes that are named from here on are of this boot of the machine.
    Booted { boot_id: String },
    /// Ids below this one may have been given to jobs that this backing has never heard of: no start gives
    /// them out again. Answered by [`Answer::IdsReserved`](super::Answer::IdsReserved).
    ReserveIds { below: u64 },
    /// Removes ended jobs beyond these limits, oldest end first, so many at most. Answered by
    /// [`Answer::Pruned`](super::Answer::Pruned).
    Prune { max_jobs: u64, ended_before_us: i64, max_output_bytes: u64, batch: u32 },
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
            Self::ReserveIds { .. } | Self::Prune { .. } => true,
            Self::Booted { .. } | Self::Hold { .. } | Self::LetGo { .. } => false,
        }
    }
}
