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

/// A supervisor that dies so often within [`DEATHS_WITHIN`] is not started again.
const MAX_DEATHS: usize = 5;
const DEATHS_WITHIN: Duration = Duration::from_secs(60);

/// From a death to the next start, times the deaths of late.
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
    let adopt = |number| process::adopt(number).with_context(|| format!("descriptor {number} was not passed on by the guardian"));
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
    loop {
        let supervisor = start(options, lifeline).context("cannot start the supervisor")?;
        match wait_for_end(supervisor, signals) {
            Exit::Code(0) => return Ok(ExitCode::SUCCESS),
            Exit::Code(code) if code == i32::from(FATAL_EXIT) => return Ok(ExitCode::FAILURE),
            how => {
                tracing::error!(pid = supervisor, ?how, "the supervisor has died: what it ran is killed, and it is started anew")
            }
        }
        process::sweep();
        deaths.retain(|death| death.elapsed() < DEATHS_WITHIN);
        deaths.push(Instant::now());
        if deaths.len() >= MAX_DEATHS {
            tracing::error!("the supervisor has died {MAX_DEATHS} times within {} s: giving up", DEATHS_WITHIN.as_secs());
            return Ok(ExitCode::FAILURE);
        }
        // The first death is made good at once; a signal that comes meanwhile is taken up with the next supervisor.
        std::thread::sleep(BACKOFF * (deaths.len() - 1) as u32);
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
    // A group of its own: what a terminal sends to ours reaches the supervisor once, through us.
    let child = command.process_group(0).spawn();
    for (_, descriptor) in &passed {
        process::close_on_exec(descriptor, true)?;
    }
    Ok(i32::try_from(child?.id()).expect("pids are positive and fit pid_t"))
}

/// Passes signals on until the supervisor has ended. Orphans that fall to us meanwhile are reaped.
fn wait_for_end(supervisor: i32, signals: &mut Signals) -> Exit {
    loop {
        for signal in signals.wait() {
            match signal {
                SIGCHLD => {
                    while let Ok(Some(reaped)) = process::reap_one() {
                        if reaped.pid == supervisor {
                            return reaped.exit;
                        }
                    }
                }
                // Not reaped yet, so the pid is its own.
                other => _ = kill(Pid::from_raw(supervisor), Signal::try_from(other).expect("one of those handled")),
            }
        }
    }
}
