//! The guardian: the main process. It holds the listening socket and the locks, starts the supervisor, and
//! when that dies kills what is left and starts it anew. No store, no protocol, nothing that could fail.
//!
//! A pipe is the lifeline: the guardian holds its one writing end, so that the supervisor reads its end when
//! the guardian is dead, and ends with all that it runs.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::Context;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::handover::{self, Handed};
use crate::job::{Exit, ProcessId};
use crate::kernel::{self, PATIENCE, Sweeper};

/// The supervisor's exit code for an end that another start would only repeat (`EX_CONFIG` of sysexits.h).
pub const FATAL_EXIT: u8 = 78;

/// The supervisor's exit code for an end as it was told to, but for what could not be written (`EX_IOERR`):
/// what it could not write it knows no more after another start.
pub const UNWRITTEN_EXIT: u8 = 74;

/// Signals that are passed on to the supervisor, which is started with them blocked.
pub const PASSED_ON: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// A supervisor that dies so often within [`DEATHS_WITHIN`] is not started again.
const MAX_DEATHS: usize = 5;
const DEATHS_WITHIN: Duration = Duration::from_secs(60);

/// From the second death of late to the next start, four times as long after each further one.
const BACKOFF: Duration = Duration::from_millis(100);

/// What the guardian keeps for the supervisor.
#[derive(Debug)]
pub struct Guarded {
    pub program: PathBuf,
    /// The supervisor's command line, but for the numbers of its descriptors.
    pub arguments: Vec<OsString>,
    pub listener: OwnedFd,
    /// Held by both, so that they last until both have ended.
    pub locks: Vec<OwnedFd>,
    /// Removed at the end.
    pub on_exit: Vec<PathBuf>,
}

/// Guards until the supervisor has ended in order, or cannot be kept alive.
///
/// # Errors
/// What keeps it from guarding at all.
pub fn run(guarded: Guarded) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP]).context("cannot handle signals")?;
    kernel::set_child_subreaper().context("cannot become a subreaper")?;
    let (lifeline, _held) = pipe2(OFlag::O_CLOEXEC).context("cannot make the lifeline")?;
    let mut sweeper = Sweeper::new(PATIENCE);
    let result = guard(&guarded, &lifeline, &mut signals, &mut sweeper);

    // What does not end now is left to whoever adopts it: a service manager that waits for this process is
    // not to wait for a disk.
    sweeper.sweep();
    for path in &guarded.on_exit {
        // Somebody may have removed it already.
        let _ = fs::remove_file(path);
    }
    result
}

fn guard(
    guarded: &Guarded,
    lifeline: &OwnedFd,
    signals: &mut Signals,
    sweeper: &mut Sweeper,
) -> anyhow::Result<ExitCode> {
    let mut deaths: Vec<Instant> = Vec::with_capacity(MAX_DEATHS);
    let mut is_first = true;
    loop {
        let mut told_to_end = false;
        match start(guarded, lifeline) {
            Ok(supervisor) => match wait_for_end(supervisor, signals, &mut told_to_end) {
                Exit::Code(0) => return Ok(ExitCode::SUCCESS),
                Exit::Code(code) if code == i32::from(FATAL_EXIT) && is_first => {
                    return Ok(ExitCode::FAILURE);
                }
                Exit::Code(code) if code == i32::from(UNWRITTEN_EXIT) => return Ok(ExitCode::FAILURE),
                how => {
                    tracing::error!(pid = %supervisor, ?how, "the supervisor has died: what it ran is killed")
                }
            },
            Err(error) if is_first => return Err(error).context("cannot start the supervisor"),
            // What there was room for once there may be room for again.
            Err(error) => tracing::error!(%error, "the supervisor cannot be started"),
        }
        is_first = false;

        // Before the next start, so that no attempt runs beside its predecessor.
        sweeper.sweep();
        deaths.retain(|death| death.elapsed() < DEATHS_WITHIN);
        deaths.push(Instant::now());
        if deaths.len() >= MAX_DEATHS {
            tracing::error!(
                "the supervisor has died {MAX_DEATHS} times within {} s: giving up",
                DEATHS_WITHIN.as_secs()
            );
            return Ok(ExitCode::FAILURE);
        }
        if let Some(longer) = deaths.len().checked_sub(2) {
            std::thread::sleep(BACKOFF * 4u32.pow(longer as u32)); // The first death is made good at once.
        }
        if told_to_end || signals.pending().any(is_end) {
            tracing::info!("told to end: the supervisor is not started again");
            return Ok(ExitCode::FAILURE);
        }
    }
}

fn start(guarded: &Guarded, lifeline: &OwnedFd) -> io::Result<ProcessId> {
    let mut command = Command::new(&guarded.program);
    command.arg0("poold").args(&guarded.arguments);

    // What comes before it can handle it waits for it.
    kernel::block_signals_of_child(&mut command, &PASSED_ON);
    // A group of its own: what a terminal sends to ours reaches the supervisor once, through us.
    command.process_group(0);

    let handed = Handed { listener: &guarded.listener, lifeline, locks: &guarded.locks };
    let child = handover::spawn(&mut command, &handed)?;
    Ok(ProcessId::new(i32::try_from(child.id()).expect("pids are positive and fit pid_t")))
}

/// Passes signals on until the supervisor has ended. Orphans that fall to us meanwhile are reaped.
fn wait_for_end(supervisor: ProcessId, signals: &mut Signals, told_to_end: &mut bool) -> Exit {
    loop {
        let mut has_child_ended = false;
        for signal in signals.wait() {
            if signal == SIGCHLD {
                has_child_ended = true;
                continue;
            }
            *told_to_end |= is_end(signal);
            // Not reaped yet, so the pid is its own.
            let _ = kill(
                Pid::from_raw(supervisor.get()),
                Signal::try_from(signal).expect("one of those handled"),
            );
        }
        while has_child_ended && let Ok(Some(reaped)) = kernel::reap_one() {
            if reaped.pid == supervisor {
                return reaped.exit;
            }
        }
    }
}

fn is_end(signal: i32) -> bool {
    matches!(signal, SIGTERM | SIGINT)
}
