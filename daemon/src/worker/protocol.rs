//! What the supervisor and a worker say to each other: frames of JSON over a socketpair, cut by
//! [`pool_proto::wire::frame`].
//!
//! One attempt at a time, and one ahead of its turn: a `Run` that comes while an attempt runs is begun with
//! when that is over, after its `Ended` or `Failed` has been sent. A worker gives it back (`GivenBack`) where
//! the attempt before it takes its time, and when it is told to. The end of the stream means that the other
//! side is gone.
//!
//! A worker tells pids as it sees them itself; one of a pid namespace has a supervisor that knows them by
//! other numbers, and translates them (`fleet/outer_pids.rs`).
//!
//! # Versions
//!
//! A worker's first report is `Hello`, with the version of this protocol that the worker speaks. The
//! supervisor does not wait for it: a command may be on its way before the greeting is read. But a worker
//! that greets with another version, or says anything else first, is killed and replaced, and its attempt
//! counts as crashed. Both sides are the same binary today, so that this happens only where the binary was
//! replaced while poold ran.
//!
//! `Hello` also says what a worker has in hand, which is nothing for a fresh one: so a later supervisor can
//! adopt living workers. ARCHITECTURE.md says how that would go.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::OsText;
use pool_proto::nouns::{Input, MemoryLimiter};
use serde::{Deserialize, Serialize};

use crate::job::{Claim, Ended, Environment, Exit, Process, SpawnFailure, Steer};
use crate::kernel::Stuck;

/// The version of this protocol. It is raised with each change that a worker or a supervisor of before would
/// misunderstand.
pub const VERSION: u32 = 7;

/// From the supervisor.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCommand {
    /// The environment of the attempts that follow, until another comes: many jobs share one, so it travels
    /// once.
    Environment(Arc<Environment>),
    /// Start an attempt: the end of the one before has been heard of.
    Run(Box<Run>),
    /// Start an attempt after the one before, whose end has not been heard of.
    RunAhead(Box<Run>),
    /// Give back the attempt that has not been begun with. Without an answer where it has.
    GiveBack { claim: Claim },
    /// Send a signal to the process group of the attempt's first process.
    Signal { claim: Claim, signal: i32 },
    /// Do to the attempt's input what a client wants.
    Steer { claim: Claim, steer: Steer },
    /// All that belongs to the attempt stands still from now on, or goes on.
    SetFrozen { claim: Claim, frozen: bool },
    /// Send SIGTERM to every process of the attempt, which goes on if it is frozen.
    Terminate { claim: Claim },
    /// Give the attempt's output its names, if it has none: somebody looks at it, whose start was told by itself.
    NameOutput { claim: Claim },
    /// Send SIGKILL to every process of the attempt.
    Kill { claim: Claim },
    /// Start the resident program, once. The last three are then meant for it.
    Host(Box<Host>),
    /// The resident program has no more input: end when it ends, or soon; at once where nobody will hear what
    /// it still has to say.
    Retire { unheard: bool },
    /// Standard error goes on in the file at this path: poold's log, of which the old file was moved away.
    ReopenLog { path: PathBuf },
}

/// A resident program to start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub command: Vec<OsText>,
    pub cwd: OsText,
    pub environment: Arc<Environment>,
    /// Variables on top of the environment; they win.
    pub variables: Vec<(OsText, OsText)>,
}

/// An attempt to start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub claim: Claim,
    pub argv: Vec<OsText>,
    pub cwd: OsText,
    /// Where the working directory is gone, `/` takes its place, and variables that cannot be passed are cut:
    /// a callback is delivered whatever the job has removed or was given.
    pub lenient: bool,
    /// Variables on top of the environment; they win.
    pub variables: Vec<(OsText, OsText)>,
    pub stdin: Stdin,
    /// The names that the output gets, where it needs one: see
    /// [`SlotOutput`](crate::files::slot_output::SlotOutput).
    pub stdout: OsText,
    pub stderr: OsText,
    /// Standard error goes where standard output goes.
    pub merge: bool,
    /// Files that are made, empty, where they are missing: a callback is told the names of its job's output.
    pub present: Vec<OsText>,
    /// Bytes that both may take together.
    pub max_output_bytes: Option<u64>,
    /// The attempt is told of as idle when it has done nothing for so long.
    pub idle_timeout: Option<Duration>,
}

/// An attempt's standard input.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null`
    Null,
    File(OsText),
    /// This text, from an unnamed file in memory.
    Text(String),
    /// What clients write while the attempt runs.
    Live(Input),
}

/// What a worker says first: its version, and what it has in hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    /// The attempt that it runs.
    pub claim: Option<Claim>,
    /// The resident program that it keeps.
    pub program: Option<Process>,
}

/// From a worker.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerReport {
    /// The first report.
    Hello(Hello),
    /// These processes, which attempts have left, do not end though they were killed. Replaces what was told
    /// before.
    Stuck { processes: Vec<Stuck> },
    /// Somebody has done harm to the slot from outside, and what the worker has done about it, as a sentence.
    Noticed { what: String },
    /// The attempt's command has been executed.
    Started {
        claim: Claim,
        process: Process,
        started_us: i64,
        /// What holds it to its limit of memory, if it has one.
        memory_limiter: Option<MemoryLimiter>,
        /// The number of the descriptor that the worker keeps of the standard input, where clients write it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<RawFd>,
        /// It is told before the end is known, so that somebody may look at the output meanwhile.
        alone: bool,
    },
    /// The attempt has lasted for a second, and its output has its names.
    Lasting { claim: Claim },
    /// The attempt has written nothing and used no CPU for as long as its idle timeout.
    Idle { claim: Claim },
    /// The attempt is over, and nothing that it started is left, but for what was told as stuck.
    Ended { claim: Claim, ended: Ended },
    /// The attempt was not begun with, and is not in this worker's hands any more.
    GivenBack { claim: Claim },
    /// The attempt could not be started; nothing of it is left.
    Failed { claim: Claim, failure: SpawnFailure },
    /// The resident program has been executed.
    ProgramStarted { process: Process },
    /// The resident program could not be executed; the worker ends.
    ProgramFailed { failure: SpawnFailure },
    /// The resident program was let go, since it can answer its call no more, and has not ended by itself; it
    /// is killed, and the worker ends.
    ProgramUnheard,
    /// The resident program has ended, and nothing that it started is left, but for what was told as stuck;
    /// the worker ends.
    ProgramEnded { exit: Exit },
}
