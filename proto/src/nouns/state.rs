//! Where a job stands, and how it ended.

use serde::{Deserialize, Serialize};

/// Where a job stands; the last five are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// An attempt died with its worker or daemon; the job waits until a client releases or cancels it.
    Held,
    /// The job is accepted and waits for the time that it was submitted for.
    Scheduled,
    /// The job is accepted and waits for the ends of other jobs.
    Blocked,
    /// The job is accepted and waits for a slot.
    Queued,
    /// An attempt runs.
    Running,
    /// An attempt is being ended from outside.
    Stopping,
    /// An attempt has failed or could not be started for now; another attempt follows.
    Retrying,
    /// The job ended by itself with code 0.
    Succeeded,
    /// The job ended by itself in another way, or could not be started.
    Failed,
    /// A client asked for the end, before the job started or while the job ran.
    Canceled,
    /// The job ran longer than its timeout and was ended.
    TimedOut,
    /// poold has given the job up: its worker or the daemon died too often while the job ran.
    Lost,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 12] = [
        Self::Held,
        Self::Scheduled,
        Self::Blocked,
        Self::Queued,
        Self::Running,
        Self::Stopping,
        Self::Retrying,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::TimedOut,
        Self::Lost,
    ];

    /// The name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the job has ended: no other state follows.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Held
            | Self::Scheduled
            | Self::Blocked
            | Self::Queued
            | Self::Running
            | Self::Stopping
            | Self::Retrying => false,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::TimedOut | Self::Lost => true,
        }
    }
}

/// How a job ended, after systemd's `$SERVICE_RESULT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultKind {
    /// Exit code 0.
    Success,
    /// Another exit code: 126 if the command could not be executed, 127 if there is no such command.
    ExitCode,
    /// A signal ended the job.
    Signal,
    /// A signal ended the job, with a core dump.
    CoreDump,
    /// The job timed out.
    Timeout,
    /// A process of the job was killed because memory had run out.
    OomKill,
    /// A client asked for the end, or what the job was tied to has ended.
    Canceled,
    /// A job that this one was to run after has ended in another way than it was to.
    DepFailed,
    /// The worker or the daemon died too often while the job ran, or once if the job must not be repeated.
    Lost,
    /// The job could not be started or broke a limit: its directory is gone, or its output cannot be written
    /// or is too long.
    Error,
}

impl ResultKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Success,
        Self::ExitCode,
        Self::Signal,
        Self::CoreDump,
        Self::Timeout,
        Self::OomKill,
        Self::Canceled,
        Self::DepFailed,
        Self::Lost,
        Self::Error,
    ];

    /// The name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ExitCode => "exit-code",
            Self::Signal => "signal",
            Self::CoreDump => "core-dump",
            Self::Timeout => "timeout",
            Self::OomKill => "oom-kill",
            Self::Canceled => "canceled",
            Self::DepFailed => "dep-failed",
            Self::Lost => "lost",
            Self::Error => "error",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::DESCRIPTION;

    #[test]
    fn names_agree_with_the_wire() {
        for state in State::ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("{:?}", state.as_str()));
            assert_eq!(State::parse(state.as_str()), Some(state));
            assert!(DESCRIPTION.contains(state.as_str()), "{state:?} is not described");
        }
        for kind in ResultKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.as_str()));
            assert_eq!(ResultKind::parse(kind.as_str()), Some(kind));
            assert!(DESCRIPTION.contains(kind.as_str()), "{kind:?} is not described");
        }
    }
}
