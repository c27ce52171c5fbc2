//! What the model wants done, and what comes of it.

use pool_proto::Record;
use pool_proto::nouns::{Condition, Pool};

/// What the model wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Read everything: at the start, and when events were missed.
    ReadAll { changes: u64 },
    /// Read the pools: events do not tell all counts.
    ReadPools { changes: u64 },
    /// Read queued jobs from after that id on.
    ReadQueue { after: u64 },
    /// Read the records of these jobs.
    ReadJobs(Vec<u64>),
    /// Read all that is known of a job.
    ReadStory(u64),
    /// Open the output of the job's latest attempt, and tell what is written to it.
    OpenLog(u64),
    /// Nobody looks at the output any more.
    CloseLog,
    /// Have something done.
    Act(Act),
    /// Have the user edit a job.
    Edit(u64),
    /// Take the mouse, or leave it to the terminal.
    SetMouse(bool),
    /// Draw everything anew.
    Redraw,
    /// Stop this process as a shell does.
    Suspend,
    /// End.
    Quit,
}

/// What is done to jobs and pools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Cancel(u64),
    Hold(u64),
    Release(u64),
    Retry(u64),
    Freeze(u64, bool),
    Pause(String, bool),
}

impl Act {
    /// The job that it is done to.
    pub fn job(&self) -> Option<u64> {
        match self {
            Self::Cancel(id) | Self::Hold(id) | Self::Release(id) | Self::Retry(id) | Self::Freeze(id, _) => {
                Some(*id)
            }
            Self::Pause(..) => None,
        }
    }
}

/// What has come of a wish.
#[derive(Debug)]
pub enum Reading {
    Condition {
        condition: Box<Condition>,
        changes: u64,
    },
    Pools {
        pools: Vec<Pool>,
        changes: u64,
    },
    Running(Vec<Record>),
    Queue {
        after: u64,
        jobs: Vec<Record>,
        next: Option<u64>,
    },
    Ended(Vec<Record>),
    Jobs(Vec<Record>),
    Story {
        record: Box<Record>,
        why: Option<String>,
    },
    /// The job does not exist any more.
    NoStory {
        id: u64,
        reason: String,
    },
    /// The output of an attempt was opened. None: why it cannot be.
    Opened {
        id: u64,
        attempt: Result<u32, String>,
    },
    /// What an attempt has written to its stdout (0) or its stderr (1).
    Written {
        stream: usize,
        bytes: Vec<u8>,
    },
    /// The stream begins anew: it was emptied, or so much was written that some of it is left out.
    Cleared {
        stream: usize,
    },
    /// A reading has failed, because poold has gone.
    Failed,
    /// Something was done; what is said of it.
    Done(Act, String),
    /// Something was not done.
    Refused(String),
}
