//! How attempts end, and what a job's end is made of.

use pool_proto::Json;
use pool_proto::nouns::{ResultKind, State, Usage};
use serde::{Deserialize, Serialize};

use super::{JobId, Tie};

/// How a process ended, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal { signal: i32, core: bool },
}

/// What a worker reports of a finished attempt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub exit: Exit,
    /// Summed over the job and every orphan of it.
    pub usage: Usage,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// What both take on the disk: less than their lengths where they have holes.
    #[serde(default)]
    pub disk_bytes: u64,
    /// When its first process was found to have ended, in microseconds since 1970.
    pub ended_us: i64,
    /// The same, in microseconds since the boot.
    pub ended_since_boot_us: u64,
    /// Killed by whom besides those who were asked to.
    pub verdict: Option<Verdict>,
}

/// An attempt that another one follows, or may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAttempt {
    pub attempt: u32,
    /// In microseconds since 1970; none where nobody has told of it.
    pub started_us: Option<i64>,
    pub ended_us: i64,
    pub result: ResultKind,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
}

/// How a resident program has answered a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What it returned, or the error.
    pub result: Result<Json, Json>,
    /// What it wrote to its standard error meanwhile, in bytes.
    pub stderr_bytes: u64,
    /// The program's memory, where that was looked at.
    pub rss_bytes: Option<u64>,
}

/// Why an attempt was ended from outside though nobody had asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The kernel has killed something of it because memory had run out.
    OomKill,
    /// The kernel has killed it because it needed more memory than it may use, in bytes.
    TooMuchMemory { limit: u64 },
    /// It has written more output than it may, in bytes; it was ended, unless it had ended by itself before
    /// that was noticed.
    TooMuchOutput { limit: u64 },
}

/// The step at which an attempt could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// No new process.
    Fork,
    /// The process was killed before it could execute the command, by nobody who was asked to: nothing of the
    /// attempt has run.
    Killed,
    /// The control group that it is to run in stands still, and so would it.
    Frozen,
    /// The file that is its standard input.
    Stdin,
    /// Its files for standard output and error, which poold has to provide.
    Output,
    /// Session, limits, descriptors.
    Setup,
    /// Its working directory.
    Cwd,
    /// The command itself.
    Exec,
}

/// Why an attempt could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFailure {
    pub stage: Stage,
    pub errno: i32,
}

/// Why an attempt is being ended from outside. Its result, whatever the process makes of its last moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Canceled,
    TimedOut,
    /// It has done nothing for as long as its idle timeout.
    Idle,
    /// Its deadline is over: no other attempt follows.
    Deadline,
    /// It has not begun within the time that it had for that.
    Late,
    /// What it was tied to has ended.
    Untied(Tie),
    /// That job takes its place, and has its unique name.
    Replaced(JobId),
    /// A job that it was to run after has not ended as it was to.
    Dependency(JobId),
    /// The daemon ends; the job stays queued, unless it is not to be repeated.
    Shutdown,
}

impl StopReason {
    /// Whether it takes the place of the reason for which the attempt is being ended already. `is_last`: no
    /// attempt would follow. A client's wish outranks the daemon's end, and an end for good one that another
    /// attempt follows.
    pub fn outranks(self, earlier: Self, is_last: bool) -> bool {
        match earlier {
            Self::Shutdown => self != Self::Shutdown,
            Self::TimedOut | Self::Idle => {
                !is_last && !matches!(self, Self::TimedOut | Self::Idle | Self::Shutdown)
            }
            Self::Canceled
            | Self::Deadline
            | Self::Late
            | Self::Untied(_)
            | Self::Replaced(_)
            | Self::Dependency(_) => false,
        }
    }
}

/// What a job is to have done by a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// To have ended: its deadline.
    End,
    /// To have begun.
    Start,
}

/// A job's final state, with all that is known about its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub state: State,
    pub result: ResultKind,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub usage: Option<Usage>,
    pub stdout_bytes: Option<u64>,
    pub stderr_bytes: Option<u64>,
    /// What both take on the disk.
    pub disk_bytes: u64,
    /// What a call has returned, or its error.
    pub answer: Option<Result<Json, Json>>,
    pub ended_us: i64,
}

/// The code of an attempt that has timed out: that of timeout(1).
pub const TIMED_OUT: u8 = 124;

/// The code of an attempt that has failed without one.
const FAILED: u8 = 125;

impl Outcome {
    /// Of an attempt after which the job goes on.
    pub fn as_past(&self, attempt: u32, started_us: Option<i64>) -> PastAttempt {
        let Self { ended_us, result, exit_code, signal, .. } = *self;
        PastAttempt { attempt, started_us, ended_us, result, exit_code, signal, reason: self.reason.clone() }
    }

    /// The code with which poolctl ends after a job with that outcome, if that is not success.
    pub fn code(&self) -> u8 {
        match self {
            Self { state: State::TimedOut, .. } => TIMED_OUT,
            Self { signal: Some(signal), .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self { exit_code: Some(code @ 1..=255), .. } => *code as u8,
            Self { .. } => FAILED,
        }
    }

    /// What a call has returned, or its error.
    pub fn answer_json(&self) -> Option<&Json> {
        self.answer.as_ref().map(|answer| match answer {
            Ok(value) => value,
            Err(error) => error,
        })
    }

    /// The bytes that the answer of a call takes.
    pub fn answer_bytes(&self) -> u64 {
        self.answer_json().map_or(0, |json| json.get().len() as u64)
    }

    /// What the job's output and result take for as long as they are kept.
    pub fn held_bytes(&self) -> u64 {
        self.disk_bytes.saturating_add(self.answer_bytes())
    }
}
