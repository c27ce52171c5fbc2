//! The workers as the supervisor sees them: starts them, talks to them, buries them.
//!
//! * [`roster`]: all workers;
//! * [`link`]: one of them, and what it says;
//! * [`resident`]: the resident program of a worker, and [`rpc`]: what is said to it;
//! * [`outer_pids`]: what processes are called that a worker in a pid namespace tells of;
//! * [`outgoing`]: bytes on their way to either.
//!
//! ```text
//!            spawn                it is dead: `Dying`           nothing that it ran is left, or ends: `Lost`
//!   (none) ────────▶ a WorkerLink ──────────────────▶ Dying ─────────────────────────────▶ (none)
//! ```
//!
//! A worker is lost when it is dead *and* nothing that it ran is left: what it leaves behind falls to the
//! supervisor, which is a subreaper, and is killed before anybody is told; and so is all that is in the
//! slot's control group, where there is one. Each dying worker waits for its own, and for no longer than
//! [`PATIENCE`](crate::kernel::PATIENCE): a process that does not end holds up nobody for good.

mod link;
mod outer_pids;
pub mod outgoing;
mod resident;
mod roster;
pub mod rpc;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use pool_proto::nouns::CallProgress;
use pool_proto::{Json, OsText};

use crate::core::SlotId;
use crate::job::{Claim, Exit, Isolate, Process, ProcessId, Program};
use crate::worker::protocol::WorkerReport;
pub use resident::LogPart;
pub use roster::Fleet;

/// What a worker, or its end, has to say.
#[derive(Debug)]
pub enum FleetEvent {
    Report {
        slot: SlotId,
        report: WorkerReport,
    },
    /// Somebody has done harm to the slot from outside, and what has been done about it, as a sentence.
    Noticed {
        slot: SlotId,
        what: String,
    },
    /// The worker, or the slot's successor, is dead. What it ran may still be there, so that its end is told
    /// later; but it must be handed nothing.
    Dying {
        slot: SlotId,
        pid: ProcessId,
    },
    /// The worker is dead, and nothing that it ran is left, or nothing that ends. `unsent`: it never got the
    /// attempt that it was handed last. `left`: the attempt of a command that it had in hand.
    Lost {
        slot: SlotId,
        pid: ProcessId,
        how: String,
        unsent: bool,
        left: Option<Claim>,
    },
    /// A resident program takes calls from now on.
    ProgramReady {
        slot: SlotId,
        worker: ProcessId,
        process: Process,
    },
    /// A resident program has answered a call.
    Answered {
        slot: SlotId,
        claim: Claim,
        result: Result<Json, Json>,
        log: LogPart,
        rss_bytes: Option<u64>,
    },
    Progressed {
        slot: SlotId,
        claim: Claim,
        progress: CallProgress,
    },
    /// A resident program has broken the protocol. `during`: the call whose fault that may be.
    Misbehaved {
        slot: SlotId,
        worker: ProcessId,
        during: Option<Claim>,
        how: String,
    },
}

/// What a worker is started for.
#[derive(Debug)]
pub struct Seat<'a> {
    pub slot: SlotId,
    /// The name of its pool.
    pub pool: &'a str,
    /// What the paths of its blank output files begin with.
    pub output: PathBuf,
    /// The control group that its attempts, or its program, are to run in.
    pub group: Option<PathBuf>,
    pub isolate: Isolate,
    pub resident: Option<ResidentSeat>,
}

/// The resident program that a worker is started for.
#[derive(Debug)]
pub struct ResidentSeat {
    pub program: Arc<Program>,
    /// On top of its environment; they win.
    pub variables: Vec<(OsText, OsText)>,
    /// Its standard error, readable and for appending.
    pub log: File,
    /// The worker takes the place of the slot's present worker later.
    pub is_successor: bool,
}

/// How a process has ended, as the end of a sentence.
fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal { signal, .. } => format!("was killed by signal {signal}"),
    }
}
