//! What a job is to do, as it was submitted and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{CallbackFor, IfExists, Input, Limits, On, OnCrash, ReadyWhen};
use pool_proto::{Json, OsText};
use serde::{Deserialize, Serialize};

use super::{ArrayPart, ArrayPlan, Element, JobId, Labels, LineKey, Needs, Retries};

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

/// The variables, the umask and the limits of a submitting shell: one value, shared by all jobs that came
/// with it.
#[derive(Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Environment {
    pub variables: BTreeMap<OsText, OsText>,
    pub umask: u32,
    /// Only what is not as poold's own: empty for most jobs.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

impl Environment {
    /// What it takes in memory, nearly.
    pub fn bytes(&self) -> usize {
        let variables = self.variables.iter();
        let variables = variables.map(|(name, value)| name.len() + value.len() + 2 * size_of::<String>());
        variables.sum::<usize>() + self.limits.bytes()
    }
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
    pub command: OsText,
}

/// What makes a submission that is repeated known as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// At most one job has it.
    pub text: OsText,
    /// A job of another round, or of none, loses the key to this one when it has ended without success.
    pub round: Option<String>,
}

/// A name of which one job at a time is not over; others wait for it, or are not submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    pub name: OsText,
    /// What becomes of the job while another one of the name has not ended.
    pub if_exists: IfExists,
}

/// What a job waits for before its first attempt, besides its turn in its line: all of it has to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Somebody releases it.
    pub hold: bool,
    pub start: Option<NotBefore>,
    /// Each job once.
    pub after: Vec<After>,
}

/// A time before which a job does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBefore {
    /// So long after its submission.
    Delay(Duration),
    /// In microseconds since 1970, by the wall's clock.
    At { us: i64 },
}

/// Another job that has to end, in this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    pub id: JobId,
    pub on: On,
}

impl After {
    /// Whether an end of that job is the one that is waited for.
    pub fn is_met_by(&self, succeeded: bool) -> bool {
        match self.on {
            On::Done => true,
            On::Success => succeeded,
            On::Failure => !succeeded,
        }
    }
}

/// What an attempt does.
#[derive(Debug, Clone, PartialEq)]
pub enum JobKind {
    /// Runs a command. Never empty, no NUL anywhere.
    Exec(Vec<OsText>),
    /// Calls the resident program of its pool.
    Call(Call),
}

/// A longer value has a file of its own where it is kept, in bytes: see [`Change`](crate::engine::Change).
pub const LARGE_VALUE: usize = if cfg!(test) { 1 << 10 } else { 256 << 10 };

/// A method and its parameters, on one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub method: String,
    pub params: Option<Json>,
    /// Why there are no parameters though some were submitted: a sentence for people. The call fails.
    pub lost: Option<String>,
}

impl Call {
    /// The parameters, where they are so long that they have a file.
    pub fn large_params(&self) -> Option<&Json> {
        self.params.as_ref().filter(|params| params.get().len() > LARGE_VALUE)
    }
}

/// The resident program of a warm pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Never empty, no NUL anywhere.
    pub command: Vec<OsText>,
    /// Absolute.
    pub cwd: OsText,
    pub environment: Arc<Environment>,
    pub ready: ReadyWhen,
    /// From its start until it is ready, at most.
    pub start_timeout: Duration,
    /// When it has died so often in a row in each slot before it had read a call, the pool's calls fail.
    pub start_attempts: u32,
    pub wear: Wear,
}

/// When a resident program is replaced by a fresh one: beyond any of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wear {
    pub max_calls: Option<u64>,
    pub max_age: Option<Duration>,
    pub max_rss_bytes: Option<u64>,
}

/// An environment that so few hold, the caches among them, belongs to its job alone.
const ITS_OWN: usize = 4;

/// What a job is to do: checked when it was submitted; changed by an [`Edit`](super::Edit) alone, and only
/// before it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    pub pool: Arc<str>,
    pub name: Option<OsText>,
    pub kind: JobKind,
    /// Kept in memory alone, and gone with the supervisor.
    pub volatile: bool,
    /// Absolute.
    pub cwd: OsText,
    pub environment: Arc<Environment>,
    /// The token of a spooled standard input.
    pub stdin: Option<String>,
    /// Its standard input comes from clients while it runs.
    pub input: Option<Input>,
    /// Standard error goes where standard output goes.
    pub merge: bool,
    pub timeout: Option<Duration>,
    /// An attempt that does nothing for so long is ended.
    pub idle_timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL when the attempt is ended from outside.
    pub kill_after: Duration,
    /// From its submission to its end, at most.
    pub deadline: Option<Duration>,
    /// From its submission to the start of its first attempt, at most.
    pub start_within: Option<Duration>,
    pub tie: Option<Tie>,
    pub on_crash: OnCrash,
    /// The higher, the sooner.
    pub priority: i32,
    /// What it needs besides its turn.
    pub needs: Needs,
    /// Those of the labels that get a limit of one with the job, where they have none. None of them once the
    /// job is kept: the engine has the limits.
    pub exclusive: Labels,
    pub retries: Retries,
    /// None once the job is kept: the engine has it.
    pub key: Option<Key>,
    /// None once the job is kept: the engine has it.
    pub unique: Option<Unique>,
    /// None once the job is kept: the engine has them.
    pub conditions: Option<Box<Conditions>>,
    /// Empty once the job is kept: the engine has them.
    pub callbacks: Vec<NewCallback>,
    /// That it is an array, or an element of one.
    pub array: Option<Box<ArrayPart>>,
}

impl Work {
    /// What it takes in memory by itself, nearly: with its environment, unless many jobs share that.
    pub fn own_bytes(&self) -> usize {
        let work = match &self.kind {
            JobKind::Exec(argv) => argv.iter().map(|argument| argument.len() + size_of::<String>()).sum(),
            JobKind::Call(call) => {
                call.method.len() + call.params.as_ref().map_or(0, |params| params.get().len())
            }
        };
        let callbacks = self.callbacks.iter().map(|callback| callback.command.len()).sum::<usize>();
        let is_its_own = Arc::strong_count(&self.environment) <= ITS_OWN;
        let environment = if is_its_own { self.environment.bytes() } else { 0 };
        size_of::<Self>() + work + callbacks + self.cwd.len() + self.needs.bytes() + environment
    }

    /// The line that it waits in.
    pub fn line(&self) -> LineKey {
        LineKey { pool: self.pool.clone(), needs: self.needs.clone() }
    }

    /// What it is to run after.
    pub fn after(&self) -> &[After] {
        self.conditions.as_ref().map_or(&[], |conditions| &conditions.after)
    }

    /// What it consists of, where it is an array.
    pub fn plan(&self) -> Option<&ArrayPlan> {
        match self.array.as_deref()? {
            ArrayPart::Whole(plan) => Some(plan),
            ArrayPart::Element(_) => None,
        }
    }

    /// Which element it is, where it is one.
    pub fn element(&self) -> Option<&Element> {
        match self.array.as_deref()? {
            ArrayPart::Whole(_) => None,
            ArrayPart::Element(element) => Some(element),
        }
    }

    /// How many elements it has, each with an id of its own.
    pub fn elements(&self) -> u64 {
        self.plan().map_or(0, |plan| plan.indices.count().into())
    }

    /// Whether its callbacks are those of each of its elements, and not its own.
    pub fn calls_back_by_element(&self) -> bool {
        self.plan().is_some_and(|plan| plan.callback_for == CallbackFor::Element)
    }

    /// The callbacks that tell its own end.
    pub fn own_callbacks(&self) -> &[NewCallback] {
        if self.calls_back_by_element() { &[] } else { &self.callbacks }
    }

    /// The callbacks that each of its elements has.
    pub fn element_callbacks(&self) -> &[NewCallback] {
        if self.calls_back_by_element() { &self.callbacks } else { &[] }
    }

    /// The call, where it is one.
    pub fn call(&self) -> Option<&Call> {
        match &self.kind {
            JobKind::Call(call) => Some(call),
            JobKind::Exec(_) => None,
        }
    }
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
