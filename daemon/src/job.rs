//! The nouns that every layer of the daemon shares, as plain data: jobs, attempts, claims, outcomes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::Json;
use pool_proto::interface::{On, OnCrash, ReadyWhen, ResultKind, State, Usage};
use serde::{Deserialize, Serialize};

/// Maps and sets by id. Several are looked at for every call, so their hash is a quick one; seeded, since a client may name any id.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
pub type IdSet<K> = HashSet<K, foldhash::fast::RandomState>;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

id!(
    /// A job's id; only ever grows, for the life of the state directory.
    JobId
);
id!(
    /// A callback's id; only ever grows, for the life of the state directory.
    CallbackId
);
id!(
    /// A client's call that has not been replied to in full; unique for the life of the supervisor.
    CallId
);

/// What a job's life hangs on besides the daemon; as text `client`, `job:7`, `pool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tie {
    /// The connection of the client that waits for it.
    Client,
    /// Another job: it ends when that one has ended.
    Job(JobId),
    /// All other work: a drain does not wait for it, and ends it when nothing else is left.
    Pool,
}

impl Work {
    /// The call, where it is one.
    pub fn call(&self) -> Option<&Call> {
        match &self.task {
            Task::Call(call) => Some(call),
            Task::Exec(_) => None,
        }
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => formatter.write_str("client"),
            Self::Job(id) => write!(formatter, "job:{id}"),
            Self::Pool => formatter.write_str("pool"),
        }
    }
}

impl FromStr for Tie {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "client" => Ok(Self::Client),
            "pool" => Ok(Self::Pool),
            _ => match text.strip_prefix("job:").and_then(|id| id.parse().ok()) {
                Some(id) => Ok(Self::Job(JobId(id))),
                None => {
                    Err(format!("{text:?} is nothing to be tied to: use \"client\", \"job:ID\" or \"pool\""))
                }
            },
        }
    }
}

/// What a worker can be given an attempt of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Job(JobId),
    Callback(CallbackId),
}

/// One attempt, the fence that every report of a worker carries: a report with an old one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    pub unit: Unit,
    /// Counted from 1.
    pub attempt: u32,
}

impl fmt::Display for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Job(id) => write!(formatter, "job {id} attempt {}", self.attempt),
            Unit::Callback(id) => write!(formatter, "callback {id} attempt {}", self.attempt),
        }
    }
}

/// The variables and the umask of a submitting shell: one value, shared by all jobs that came with it.
#[derive(Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Environment {
    pub variables: BTreeMap<String, String>,
    pub umask: u32,
}

/// Without the values, which are nobody's business: what is logged is logged through this.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} variables, umask {:03o}", self.variables.len(), self.umask)
    }
}

/// A callback as submitted: a command for `/bin/sh -c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCallback {
    pub on: On,
    pub command: String,
}

/// What makes a submission that is repeated known as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// At most one job has it.
    pub text: String,
    /// A job of another round, or of none, loses the key to this one when it has ended without success.
    pub round: Option<String>,
}

/// What an attempt does.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Runs a command. Never empty, no NUL anywhere.
    Exec(Vec<String>),
    /// Calls the resident program of its pool.
    Call(Call),
}

/// A method and its parameters, on one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub method: String,
    pub params: Option<Json>,
}

/// The resident program of a warm pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Never empty, no NUL anywhere.
    pub command: Vec<String>,
    /// Absolute.
    pub cwd: String,
    pub environment: Arc<Environment>,
    pub ready: ReadyWhen,
    /// From its start until it is ready, at most.
    pub start_timeout: Duration,
    pub wear: Wear,
}

/// When a resident program is replaced by a fresh one: beyond any of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wear {
    pub max_calls: Option<u64>,
    pub max_age: Option<Duration>,
    pub max_rss_bytes: Option<u64>,
}

/// What becomes of a job whose attempt has failed or timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// So many attempts may fail and be followed by another.
    pub allowed: u32,
    /// From the first failure to the next attempt; doubled after each.
    pub backoff: Duration,
}

/// No backoff grows longer, unless it was given so.
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

impl Retries {
    pub const NONE: Self = Self { allowed: 0, backoff: Duration::ZERO };

    /// How long the next attempt waits, where there is one. `retried`: failed attempts that were followed by another before.
    pub fn after(&self, retried: u32) -> Option<Duration> {
        let doubled = self.backoff.saturating_mul(1 << retried.min(30));
        (retried < self.allowed).then(|| doubled.min(MAX_BACKOFF.max(self.backoff)))
    }
}

/// A job's place in its pool's queue: by priority, the highest first, then in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub priority: Reverse<i32>,
    pub id: JobId,
}

/// What a job is to do: checked when it was submitted, never changed afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    pub pool: Arc<str>,
    pub name: Option<String>,
    pub task: Task,
    /// Kept in memory alone, and gone with the supervisor.
    pub volatile: bool,
    /// Absolute.
    pub cwd: String,
    pub environment: Arc<Environment>,
    /// The token of a spooled standard input.
    pub stdin: Option<String>,
    pub timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL when the attempt is ended from outside.
    pub kill_after: Duration,
    pub tie: Option<Tie>,
    pub on_crash: OnCrash,
    /// The higher, the sooner.
    pub priority: i32,
    pub retries: Retries,
    /// None once the job is stored: the store has it.
    pub key: Option<Key>,
    /// Empty once the job is stored: the outbox has them.
    pub callbacks: Vec<NewCallback>,
}

/// A job that waits for a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    pub id: JobId,
    /// Attempts made so far.
    pub attempts: u32,
    /// Attempts that a dying worker, daemon or machine has taken along.
    pub crashes: u32,
    /// Failed attempts that were followed by another.
    pub retried: u32,
    /// Attempts that died with a resident program which had never answered anything: put down to the program.
    pub start_deaths: u32,
    pub work: Arc<Work>,
}

impl Ready {
    pub fn position(&self) -> Position {
        Position { priority: Reverse(self.work.priority), id: self.id }
    }
}

/// How a process ended, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal { signal: i32, core: bool },
}

/// A process, told from all others of this boot of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Its start, in clock ticks since the boot (proc(5)); none where it had ended before anybody looked.
    pub start_ticks: Option<u64>,
}

/// What a worker reports of a finished attempt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub exit: Exit,
    /// Summed over the job and every orphan of it.
    pub usage: Usage,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// When its first process was found to have ended, in microseconds since 1970.
    pub ended_us: i64,
    /// Killed by whom besides those who were asked to.
    pub verdict: Option<Verdict>,
}

/// How a resident program has answered a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it returned, or the error.
    pub result: Result<Json, Json>,
    /// What it wrote to its standard error meanwhile, in bytes.
    pub stderr_bytes: u64,
    /// In microseconds since 1970.
    pub ended_us: i64,
    /// The program's memory, where that was looked at.
    pub rss_bytes: Option<u64>,
}

/// Why an attempt was ended from outside though nobody had asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The kernel has killed something of it because memory had run out.
    OomKill,
    /// It has written more output than it may, in bytes; it was ended, unless it had ended by itself before that was noticed.
    TooMuchOutput { limit: u64 },
}

/// What a pool's workers have to themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolate {
    #[default]
    None,
    /// A pid namespace, with a /proc of its own.
    Pid,
}

/// The step at which an attempt could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// No new process.
    Fork,
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
    /// What it was tied to has ended.
    Untied(Tie),
    /// The daemon ends; the job stays queued, unless it is not to be repeated.
    Shutdown,
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
    /// What a call has returned, or its error.
    pub answer: Option<Result<Json, Json>>,
    /// The last attempt has died with its worker or daemon, which is counted with the end.
    pub crashed: bool,
    pub ended_us: i64,
}
