//! What the supervisor and a worker say to each other: frames of JSON over a socketpair, cut by
//! [`pool_proto::wire::frame`].
//!
//! One attempt at a time: after `Run` the supervisor sends no other `Run` before it has got `Ended` or
//! `Failed`. The end of the stream means that the other side is gone.
//!
//! # Versions
//!
//! A worker's first report is `Hello`, with the version of this protocol that the worker speaks. The
//! supervisor does not wait for it: a command may be on its way before the greeting is read. But a worker
//! that greets with another version, or says anything else first, is killed and replaced, and its attempt
//! counts as crashed. Both sides are the same binary today, so that this happens only where the binary was
//! replaced while poold ran.
//!
//! # How a later supervisor would adopt living workers
//!
//! `Hello` says what a worker has in hand: the claim of its attempt, or the process of its resident program.
//! A fresh worker has nothing in hand. A supervisor that takes over living workers, after an upgrade in place
//! or after a crash, would do this:
//!
//! 1. The guardian keeps its end of each worker's socket, as it keeps the listener, and hands the sockets to
//!    the next supervisor in its handover (`start/handover.rs`). While no supervisor lives, the guardian
//!    holds the sockets open and does not sweep: a worker sees no end of its socket and works on; its reports
//!    wait in the socket.
//! 2. The new supervisor sends `Greet` on each socket: a new command, which a worker answers with `Hello` as
//!    at its start.
//! 3. A worker of another version is killed, as today. Its attempt is interrupted, as by a crash.
//! 4. Otherwise the supervisor compares the claim with what the store says. If the store has that job running
//!    with that attempt, the attempt goes on: the slot is taken, and the job is not requeued. If not (the job
//!    was canceled, or its end is stored already), the worker is told to kill the attempt, and its report is
//!    ignored, as each report with an old claim is.
//! 5. Reports that were sent before the greeting are read first, since the socket keeps the order. So an end
//!    that nobody has read yet arrives before the `Hello` that has nothing in hand.
//! 6. The process of a worker stays the guardian's grandchild or becomes its child: the supervisor learns of
//!    its death by the end of the socket and a pidfd, since it cannot wait for a process that is not its
//!    child. Orphans then fall to the guardian.
//!
//! What is in place for that: the version, the claim in each report, the fence against old claims, a worker
//! that needs nothing of its supervisor but the socket, and a handover that is one type. What is missing:
//! that the guardian holds the sockets, `Greet`, and a `restore` that takes living attempts.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::job::{Claim, Ended, Environment, Exit, Process, SpawnFailure};
use crate::kernel::Stuck;

/// The version of this protocol. It is raised with each change that a worker or a supervisor of before would
/// misunderstand.
pub const VERSION: u32 = 1;

/// From the supervisor.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCommand {
    /// The environment of the attempts that follow, until another comes: many jobs share one, so it travels
    /// once.
    Environment(Arc<Environment>),
    /// Start an attempt.
    Run(Box<Run>),
    /// Send a signal to the process group of the attempt's first process.
    Signal { claim: Claim, signal: i32 },
    /// Send SIGTERM to every process of the attempt.
    Terminate { claim: Claim },
    /// Send SIGKILL to every process of the attempt.
    Kill { claim: Claim },
    /// Start the resident program, once. The last three are then meant for it.
    Host(Box<Host>),
    /// The resident program has no more input: end when it ends, or soon.
    Retire,
}

/// A resident program to start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub command: Vec<String>,
    pub cwd: String,
    pub environment: Arc<Environment>,
    /// Variables on top of the environment; they win.
    pub variables: Vec<(String, String)>,
}

/// An attempt to start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub claim: Claim,
    pub argv: Vec<String>,
    pub cwd: String,
    /// Where the working directory is gone, `/` takes its place: a callback is delivered whatever the job has
    /// removed.
    pub cwd_optional: bool,
    /// Variables on top of the environment; they win.
    pub variables: Vec<(String, String)>,
    pub stdin: Stdin,
    /// Created anew by the worker, mode 0600.
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    /// Bytes that both may take together.
    pub max_output_bytes: Option<u64>,
}

/// An attempt's standard input.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null`
    Null,
    File(PathBuf),
    /// This text, from an unnamed file in memory.
    Text(String),
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
    /// The attempt's command has been executed.
    Started { claim: Claim, process: Process, started_us: i64 },
    /// The attempt is over, and nothing that it started is left, but for what was told as stuck.
    Ended { claim: Claim, ended: Ended },
    /// The attempt could not be started; nothing of it is left.
    Failed { claim: Claim, failure: SpawnFailure },
    /// The resident program has been executed.
    ProgramStarted { process: Process },
    /// The resident program could not be executed; the worker ends.
    ProgramFailed { failure: SpawnFailure },
    /// The resident program has ended, and nothing that it started is left, but for what was told as stuck;
    /// the worker ends.
    ProgramEnded { exit: Exit },
}
