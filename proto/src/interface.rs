//! The interface `io.poold`: its types and methods as Rust has them. The promise itself is [`DESCRIPTION`]; what a field means is
//! said there, once.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::json::Json;
pub use crate::pools::{AddPool, Pool, Pools, PoolsListed, ReadyWhen, RemovePool, Slot, SlotState, Tier};

/// The interface's name.
pub const INTERFACE: &str = "io.poold";

/// The interface's description in Varlink's language, as `org.varlink.service.GetInterfaceDescription` serves it.
pub const DESCRIPTION: &str = include_str!("io.poold.varlink");

/// The version of the record's shape.
pub const SCHEMA: u32 = 1;

/// The pool that runs a job which names none.
pub const DEFAULT_POOL: &str = "default";

/// The length of a job's [`key`](Job::key) or [`round`](Job::round) at most, in bytes.
pub const MAX_KEY: usize = 512;

/// The [`tie`](Job::tie) to the client that waits for the job.
pub const TIE_TO_CLIENT: &str = "client";

/// A method's parameters, tied to its name and its reply.
pub trait Method: Serialize {
    /// The full name.
    const NAME: &'static str;
    /// The reply's parameters.
    type Reply: DeserializeOwned;
}

macro_rules! method {
    ($parameters:ty, $name:literal, $reply:ty) => {
        impl Method for $parameters {
            const NAME: &'static str = concat!("io.poold.", $name);
            type Reply = $reply;
        }
    };
}

method!(Ping, "Ping", Pong);
method!(Submit, "Submit", Progress);
method!(SubmitMany, "SubmitMany", Submitted);
method!(Spool, "Spool", Spooled);
method!(Wait, "Wait", Progress);
method!(Get, "Get", Got);
method!(List, "List", Listed);
method!(Output, "Output", OutputOpened);
method!(Cancel, "Cancel", Canceled);
method!(Signal, "Signal", Empty);
method!(Release, "Release", Empty);
method!(Pools, "Pools", PoolsListed);
method!(AddPool, "AddPool", Empty);
method!(RemovePool, "RemovePool", Empty);
method!(Backup, "Backup", BackupBegun);
method!(EndBackup, "EndBackup", Empty);
method!(Shutdown, "Shutdown", ShuttingDown);

/// A job as a client submits it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Job {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<JobDurability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_after_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tie: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_crash: Option<OnCrash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_done: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Vec<String>>,
}

/// Where a job is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobDurability {
    /// On disk, as durable as the daemon's other jobs.
    Disk,
    /// In the daemon's memory alone.
    None,
}

/// Where a job stands; the last five are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Died with its worker or daemon, and waits for somebody to release or cancel it.
    Held,
    /// Accepted, waits for a slot.
    Queued,
    /// An attempt runs.
    Running,
    /// An attempt is being ended from outside.
    Stopping,
    /// An attempt has failed, or could not be started for now, and another follows.
    Retrying,
    /// Ended by itself with code 0.
    Succeeded,
    /// Ended by itself otherwise, or could not be started.
    Failed,
    /// Ended, or never started, because a client asked so.
    Canceled,
    /// Ended because its time was up.
    TimedOut,
    /// Given up: worker or daemon died under it too often.
    Lost,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Held,
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

    /// Nothing follows any more.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Held | Self::Queued | Self::Running | Self::Stopping | Self::Retrying => false,
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
    /// Another exit code; 126 and 127 where the command could not be executed or found.
    ExitCode,
    /// Ended by a signal.
    Signal,
    /// Ended by a signal, with a core dump.
    CoreDump,
    /// Its time was up.
    Timeout,
    /// It, or something that it had started, was killed because memory had run out.
    OomKill,
    /// A client asked so, or what it was tied to has ended.
    Canceled,
    /// Worker or daemon died under it too often, or once where it was not to be repeated.
    Lost,
    /// It could not be started, or broke a limit: its directory is gone, its output cannot be written, is too long.
    Error,
}

impl ResultKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::ExitCode,
        Self::Signal,
        Self::CoreDump,
        Self::Timeout,
        Self::OomKill,
        Self::Canceled,
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
            Self::Lost => "lost",
            Self::Error => "error",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A job's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Record {
    pub schema: u32,
    pub id: u64,
    pub state: State,
    pub result: Option<ResultKind>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub pool: String,
    pub slot: Option<u32>,
    pub name: Option<String>,
    pub argv: Option<Vec<String>>,
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub params: Option<Json>,
    #[serde(default)]
    pub value: Option<Json>,
    #[serde(default)]
    pub error: Option<Json>,
    #[serde(default)]
    pub progress: Option<CallProgress>,
    pub cwd: String,
    pub tie: Option<String>,
    pub on_crash: OnCrash,
    #[serde(default)]
    pub key: Option<String>,
    pub attempt: u32,
    pub crashes: u32,
    pub worker_pid: Option<i32>,
    pub pid: Option<i32>,
    pub submitted_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub wall_s: Option<f64>,
    pub usage: Option<Usage>,
    #[serde(default)]
    pub last_crash: Option<String>,
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub retries: u32,
    #[serde(default)]
    pub retried: u32,
    #[serde(default)]
    pub due_at: Option<String>,
    pub stdout: Option<OutputFile>,
    pub stderr: Option<OutputFile>,
    pub callbacks: Vec<Callback>,
}

/// How far a call has come, as its program tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct CallProgress {
    #[serde(default)]
    pub fraction: Option<f64>,
    #[serde(default)]
    pub text: Option<String>,
}

/// A job's end in few words: what a client that waits for many wants to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Brief {
    pub id: u64,
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the job and all that it started used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Usage {
    pub user_s: f64,
    pub sys_s: f64,
    pub max_rss_bytes: u64,
    #[serde(default)]
    pub memory_peak_bytes: Option<u64>,
}

/// Where the latest attempt's output went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct OutputFile {
    pub path: String,
    pub bytes: Option<u64>,
}

/// What becomes of a job whose attempt died with its worker or daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// It is queued again, up to a limit.
    #[default]
    Requeue,
    /// It has failed.
    Fail,
    /// It is held until somebody decides.
    Hold,
}

impl OnCrash {
    /// The name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requeue => "requeue",
            Self::Fail => "fail",
            Self::Hold => "hold",
        }
    }

    /// The policy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Requeue, Self::Fail, Self::Hold].into_iter().find(|policy| policy.as_str() == name)
    }
}

/// Which ends a callback is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Every end.
    Done,
    /// A succeeded one.
    Success,
    /// Every other one.
    Failure,
}

impl On {
    /// The name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Done, Self::Success, Self::Failure].into_iter().find(|on| on.as_str() == name)
    }

    /// Whether a callback of this kind runs after an end in `state`.
    pub fn matches(self, state: State) -> bool {
        match self {
            Self::Done => true,
            Self::Success => state == State::Succeeded,
            Self::Failure => state != State::Succeeded,
        }
    }
}

/// A callback as the record shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Callback {
    pub id: u64,
    pub on: On,
    pub state: String,
    pub attempts: u32,
    pub exit_code: Option<i32>,
}

/// Parameters of `Ping`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

/// Reply of `Ping`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Pong {
    pub version: String,
    pub pid: i32,
    pub state_dir: String,
}

/// What becomes of a job whose waiting client goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It goes on.
    #[default]
    Detach,
    /// It is canceled.
    Cancel,
}

/// Parameters of `Submit`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Submit {
    pub job: Job,
    #[serde(default)]
    pub on_disconnect: Option<OnDisconnect>,
}

/// Replies of `Submit` and `Wait`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Progress {
    pub event: ProgressEvent,
    pub id: u64,
    #[serde(default)]
    pub attempt: Option<u32>,
    #[serde(default)]
    pub descriptors: Option<u32>,
    #[serde(default)]
    pub record: Option<Box<Record>>,
    #[serde(default)]
    pub existing: Option<bool>,
    #[serde(default)]
    pub progress: Option<CallProgress>,
}

/// What a [`Progress`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressEvent {
    /// The job is on disk.
    Accepted,
    /// An attempt has started; two descriptors come along.
    Started,
    /// A call has come further.
    Progress,
    /// The job is over; the record comes along.
    Ended,
}

/// Parameters of `SubmitMany`; each job is an object with the members of [`Job`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct SubmitMany {
    pub jobs: Vec<Job>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Job>,
}

/// Replies of `SubmitMany`: first the ids, in the order of the jobs, and the places of those that existed; with `more`, then the ends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Submitted {
    pub ids: Vec<u64>,
    #[serde(default)]
    pub existing: Vec<usize>,
    #[serde(default)]
    pub results: Vec<Brief>,
}

/// Parameters of `Spool`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {}

/// Reply of `Spool`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Spooled {
    pub token: String,
    pub descriptors: u32,
}

/// Parameters of `Wait`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Wait {
    pub ids: Vec<u64>,
    #[serde(default)]
    pub any: Option<bool>,
    #[serde(default)]
    pub output: Option<bool>,
    #[serde(default)]
    pub progress: Option<bool>,
    #[serde(default)]
    pub on_disconnect: Option<OnDisconnect>,
}

/// Parameters of `Get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Get {
    pub id: u64,
}

/// Reply of `Get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Got {
    pub record: Box<Record>,
}

/// Parameters of `List`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct List {
    #[serde(default)]
    pub states: Option<Vec<State>>,
    #[serde(default)]
    pub pool: Option<String>,
    #[serde(default)]
    pub after: Option<u64>,
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Reply of `List`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Listed {
    pub jobs: Vec<Record>,
    #[serde(default)]
    pub next: Option<u64>,
}

/// Parameters of `Output`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Output {
    pub id: u64,
}

/// Reply of `Output`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct OutputOpened {
    pub attempt: u32,
    pub descriptors: u32,
}

/// Parameters of `Cancel`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Cancel {
    pub ids: Vec<u64>,
}

/// Reply of `Cancel`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Canceled {
    pub jobs: Vec<Record>,
}

/// Parameters of `Signal`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Signal {
    pub id: u64,
    pub signal: i32,
}

/// Parameters of `Release`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Release {
    pub ids: Vec<u64>,
}

/// A reply without parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Empty {}

/// Parameters of `Backup`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {}

/// Reply of `Backup`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct BackupBegun {
    pub path: String,
    pub bytes: u64,
}

/// Parameters of `EndBackup`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndBackup {}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownMode {
    /// When all jobs have ended and all callbacks are delivered.
    Drain,
    /// As soon as the running attempts are ended; they stay queued for the next start.
    Now,
}

/// Parameters of `Shutdown`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Shutdown {
    pub mode: ShutdownMode,
}

/// Reply of `Shutdown`: the pid whose end is the daemon's end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct ShuttingDown {
    pub pid: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for state in SlotState::ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("{:?}", state.as_str()));
            assert!(DESCRIPTION.contains(state.as_str()), "{state:?} is not described");
        }
    }

    #[test]
    fn a_jobs_misspelt_member_is_an_error() {
        let error = serde_json::from_str::<Job>(r#"{"argv":["true"],"tiemout_s":1}"#).unwrap_err();
        assert!(error.to_string().contains("tiemout_s"), "{error}");
    }
}
