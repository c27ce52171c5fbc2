//! Choices that the command line takes by name. Each has its counterpart in the protocol; the help text of
//! each name is poolctl's own.

use clap::{Args, ValueEnum};
use pool_proto::nouns::{
    CallbackFor, IfExists, JobDurability, Missed, OnCrash, OnDisconnect, Overlap, ReadyWhen,
};

/// That nobody is asked.
#[derive(Debug, Args)]
pub struct YesOption {
    /// Do not ask
    ///
    /// On a terminal, poolctl asks before it does this with several jobs that are not named by their ids.
    #[arg(short, long)]
    pub yes: bool,
}

/// Which variables of our environment a job gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnvMode {
    /// All variables
    All,
    /// Only those that --env names
    Clean,
}

/// See [`JobDurability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DurabilityChoice {
    /// On disk, like all other jobs of poold
    Disk,
    /// In the memory of poold only: a call is lost when poold dies, and is forgotten some time after its end
    None,
}

impl From<DurabilityChoice> for JobDurability {
    fn from(choice: DurabilityChoice) -> Self {
        match choice {
            DurabilityChoice::Disk => Self::Disk,
            DurabilityChoice::None => Self::None,
        }
    }
}

/// See [`ReadyWhen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadyChoice {
    /// As soon as the program has started
    Started,
    /// After the program has sent the notification `ready`
    Notify,
}

impl From<ReadyChoice> for ReadyWhen {
    fn from(choice: ReadyChoice) -> Self {
        match choice {
            ReadyChoice::Started => Self::Started,
            ReadyChoice::Notify => Self::Notify,
        }
    }
}

/// See [`OnDisconnect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DisconnectChoice {
    /// The job goes on
    Detach,
    /// The job is canceled
    Cancel,
}

impl From<DisconnectChoice> for OnDisconnect {
    fn from(choice: DisconnectChoice) -> Self {
        match choice {
            DisconnectChoice::Detach => Self::Detach,
            DisconnectChoice::Cancel => Self::Cancel,
        }
    }
}

/// See [`IfExists`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExistsChoice {
    /// Submit nothing, say so on stderr, and exit with 0
    Skip,
    /// Take the job that is there for this one: its output, its end and its code
    Join,
    /// Wait until the jobs before have ended, in the order of submission
    Queue,
    /// Cancel the jobs before, and wait until they have ended
    Replace,
}

impl From<ExistsChoice> for IfExists {
    fn from(choice: ExistsChoice) -> Self {
        match choice {
            ExistsChoice::Skip => Self::Skip,
            ExistsChoice::Join => Self::Join,
            ExistsChoice::Queue => Self::Queue,
            ExistsChoice::Replace => Self::Replace,
        }
    }
}

/// See [`OnCrash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CrashChoice {
    /// The job runs again, until poold's crash limit is reached
    Requeue,
    /// The job has failed
    Fail,
    /// The job waits for `poolctl release` or `poolctl cancel`
    Hold,
}

impl From<CrashChoice> for OnCrash {
    fn from(choice: CrashChoice) -> Self {
        match choice {
            CrashChoice::Requeue => Self::Requeue,
            CrashChoice::Fail => Self::Fail,
            CrashChoice::Hold => Self::Hold,
        }
    }
}

/// See [`CallbackFor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CallbackChoice {
    /// That of the whole array, once
    Array,
    /// That of each element
    Element,
}

impl From<CallbackChoice> for CallbackFor {
    fn from(choice: CallbackChoice) -> Self {
        match choice {
            CallbackChoice::Array => Self::Array,
            CallbackChoice::Element => Self::Element,
        }
    }
}

/// See [`Overlap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverlapChoice {
    /// Nothing is submitted
    Skip,
    /// The job waits until the earlier ones have ended
    Queue,
    /// The jobs run beside each other
    Allow,
}

impl From<OverlapChoice> for Overlap {
    fn from(choice: OverlapChoice) -> Self {
        match choice {
            OverlapChoice::Skip => Self::Skip,
            OverlapChoice::Queue => Self::Queue,
            OverlapChoice::Allow => Self::Allow,
        }
    }
}

/// See [`Missed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MissedChoice {
    /// The latest of them is made up for
    RunOnce,
    /// All of them are left out
    Skip,
    /// Each of them is made up for, from the earliest on
    RunAll,
}

impl From<MissedChoice> for Missed {
    fn from(choice: MissedChoice) -> Self {
        match choice {
            MissedChoice::RunOnce => Self::RunOnce,
            MissedChoice::Skip => Self::Skip,
            MissedChoice::RunAll => Self::RunAll,
        }
    }
}
