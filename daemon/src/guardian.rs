//! The guardian: the main process. It holds the listening socket and the locks, starts the supervisor, and when that dies kills what is left
//! and starts it anew. No store, no protocol, nothing that could fail.
//!
//! A pipe is the lifeline: the guardian holds its one writing end, so that the supervisor reads its end when the guardian is dead, and
//! ends with all that it runs.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
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

use crate::cli::SupervisorOptions;
use crate::job::Exit;
use crate::process;

/// The supervisor's exit code for an end that another start would only repeat (`EX_CONFIG` of sysexits.h).
pub const FATAL_EXIT: u8 = 78;

/// The supervisor's exit code for an end as it was told to, but for what could not be written (`EX_IOERR`): what it could not write it
/// knows no more after another start.
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
pub struct Options {
    pub program: PathBuf,
    /// The supervisor's command line, but for the numbers of its descriptors.
    pub arguments: Vec<OsString>,
    pub listener: OwnedFd,
    /// Held by both, so that they last until both have ended.
    pub locks: Vec<OwnedFd>,
    /// Removed at the end.
    pub on_exit: Vec<PathBuf>,
}

/// What the supervisor gets from the guardian.
#[derive(Debug)]
pub struct Inherited {
    pub listener: OwnedFd,
    /// At its end the guardian is dead.
    pub lifeline: OwnedFd,
    /// Only to be kept open.
    pub locks: Vec<OwnedFd>,
}

/// Takes over the descriptors that the command line names.
///
/// # Errors
/// When one of them is not there.
pub fn inherited(options: &SupervisorOptions) -> anyhow::Result<Inherited> {
    let adopt = |number| {
        process::adopt(number)
            .with_context(|| format!("descriptor {number} was not passed on by the guardian"))
    };
    Ok(Inherited {
        listener: adopt(options.listener_fd)?,
        lifeline: adopt(options.lifeline_fd)?,
        locks: options.lock_fd.iter().map(|&number| adopt(number)).collect::<Result<_, _>>()?,
    })
}

/// Guards until the supervisor has ended in order, or cannot be kept alive.
///
/// # Errors
/// What keeps it from guarding at all.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP]).context("cannot handle signals")?;
    process::set_child_subreaper().context("cannot become a subreaper")?;
    let (lifeline, _held) = pipe2(OFlag::O_CLOEXEC).context("cannot make the lifeline")?;
    let result = guard(&options, &lifeline, &mut signals);
    process::sweep();
    for path in &options.on_exit {
        // Somebody may have removed it already.
        let _ = fs::remove_file(path);
    }
    result
}

fn guard(options: &Options, lifeline: &OwnedFd, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let mut deaths: Vec<Instant> = Vec::with_capacity(MAX_DEATHS);
    let mut is_first = true;
    loop {
        let mut told_to_end = false;
        match start(options, lifeline) {
            Ok(supervisor) => match wait_for_end(supervisor, signals, &mut told_to_end) {
                Exit::Code(0) => return Ok(ExitCode::SUCCESS),
                Exit::Code(code) if code == i32::from(FATAL_EXIT) && is_first => {
                    return Ok(ExitCode::FAILURE);
                }
                Exit::Code(code) if code == i32::from(UNWRITTEN_EXIT) => return Ok(ExitCode::FAILURE),
                how => {
                    tracing::error!(pid = supervisor, ?how, "the supervisor has died: what it ran is killed")
                }
            },
            Err(error) if is_first => return Err(error).context("cannot start the supervisor"),
            // What there was room for once there may be room for again.
            Err(error) => tracing::error!(%error, "the supervisor cannot be started"),
        }
        is_first = false;
        process::sweep();
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

fn start(options: &Options, lifeline: &OwnedFd) -> io::Result<i32> {
    let passed: Vec<(&str, &OwnedFd)> = [("--listener-fd", &options.listener), ("--lifeline-fd", lifeline)]
        .into_iter()
        .chain(options.locks.iter().map(|lock| ("--lock-fd", lock)))
        .collect();
    let mut command = Command::new(&options.program);
    command.arg0("poold").args(&options.arguments);
    for (flag, descriptor) in &passed {
        command.arg(flag).arg(descriptor.as_raw_fd().to_string());
        process::close_on_exec(descriptor, false)?;
    }
    // What comes before it can handle it waits for it.
    process::block_signals_of_child(&mut command, &PASSED_ON);
    // A group of its own: what a terminal sends to ours reaches the supervisor once, through us.
    let child = command.process_group(0).spawn();
    for (_, descriptor) in &passed {
        process::close_on_exec(descriptor, true)?;
    }
    Ok(i32::try_from(child?.id()).expect("pids are positive and fit pid_t"))
}

/// Passes signals on until the supervisor has ended. Orphans that fall to us meanwhile are reaped.
fn wait_for_end(supervisor: i32, signals: &mut Signals, told_to_end: &mut bool) -> Exit {
    loop {
        let mut has_child_ended = false;
        for signal in signals.wait() {
            if signal == SIGCHLD {
                has_child_ended = true;
                continue;
            }
            *told_to_end |= is_end(signal);
            // Not reaped yet, so the pid is its own.
            let _ = kill(Pid::from_raw(supervisor), Signal::try_from(signal).expect("one of those handled"));
        }
        while has_child_ended && let Ok(Some(reaped)) = process::reap_one() {
            if reaped.pid == supervisor {
                return reaped.exit;
            }
        }
    }
}

fn is_end(signal: i32) -> bool {
    matches!(signal, SIGTERM | SIGINT)
}
