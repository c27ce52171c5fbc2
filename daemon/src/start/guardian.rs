//! The guardian: the main process. It holds the door (the listening socket) and the locks, starts the
//! supervisor, and when that dies kills what is left and starts it anew. No store, no protocol, nothing that
//! could fail.
//!
//! A socket pair is the lifeline: the guardian holds its one end, so that the supervisor reads the end of its
//! own when the guardian is dead, and ends with all that it runs. Where the listening socket was lost, the
//! next one is handed over it; the supervisor hands over it the text of the configuration in force.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, alarm};
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::door::Door;
use super::handover::{self, Handed};
use super::trace::Trace;
use crate::files::log;
use crate::job::{Exit, ProcessId};
use crate::kernel::{self, PATIENCE, Sweeper};

const SIGNALS: Token = Token(0);
const DOOR: Token = Token(1);
const SUPERVISOR: Token = Token(2);

/// Whoever removes the socket may be about to remove its directory, too, and is left the time to.
const MEND_AFTER: Duration = Duration::from_millis(100);

/// The supervisor's exit code for an end that another start would only repeat (`EX_CONFIG` of sysexits.h).
pub const FATAL_EXIT: u8 = 78;

/// The supervisor's exit code where it cannot start since the disk is full (`EX_TEMPFAIL`): another start may
/// help when there is room.
pub const FULL_DISK_EXIT: u8 = 75;

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

/// From one start to the next while the disk is full.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(5);

/// A supervisor that has not ended so many seconds after it was told to for the second time is killed. It
/// takes less to kill its attempts and their workers.
const HURRY_S: u32 = 10;

/// What the guardian keeps for the supervisor.
#[derive(Debug)]
pub struct Guarded {
    pub program: PathBuf,
    /// The supervisor's command line, but for the socket and the numbers of its descriptors.
    pub arguments: Vec<OsString>,
    pub door: Door,
    /// Held by both, so that they last until both have ended.
    pub locks: Vec<OwnedFd>,
    /// The text of the last configuration that was in force, for the next supervisor.
    pub last_good: Option<OwnedFd>,
    /// Where somebody waits for the start.
    pub readiness: Option<OwnedFd>,
    /// What our standard error is, where we are in the background.
    pub log_file: Option<PathBuf>,
    /// Removed at the end.
    pub pid_file: Option<Trace>,
}

impl Guarded {
    /// Takes what the supervisor has sent.
    fn hear(&mut self, lifeline: &OwnedFd) {
        if let Some(config) = handover::last_config(lifeline) {
            self.last_good = Some(config);
        }
    }
}

/// What the guardian waits for besides the end of the supervisor.
struct Ears {
    poll: Poll,
    signals: Signals,
    /// Tells when the socket may be lost.
    inotify: Inotify,
}

impl Ears {
    fn open() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGALRM])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;

        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let descriptor = inotify.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), DOOR, Interest::READABLE)?;
        Ok(Self { poll, signals, inotify })
    }

    /// Waits for so long; whether poold is told to end meanwhile.
    fn hear_end(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut events = Events::with_capacity(4);
        loop {
            if self.signals.pending().any(is_end) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // It may be interrupted; then this goes on.
            let _ = self.poll.poll(&mut events, Some(left));
        }
    }

    /// Whether anything has happened to what is watched. All that has is one.
    fn take_moves(&self) -> bool {
        let mut has_moved = false;
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {
            has_moved = true;
        }
        has_moved
    }
}

/// Guards until the supervisor has ended in order, or cannot be kept alive.
///
/// # Errors
/// What keeps it from guarding at all.
pub fn run(mut guarded: Guarded) -> anyhow::Result<ExitCode> {
    let mut ears = Ears::open().context("cannot handle signals")?;
    kernel::set_child_subreaper().context("cannot become a subreaper")?;
    let mut sweeper = Sweeper::new(PATIENCE);
    let result = guard(&mut guarded, &mut ears, &mut sweeper);

    // What does not end now is left to whoever adopts it: a service manager that waits for this process is
    // not to wait for a disk.
    sweeper.sweep();
    guarded.door.close();
    if let Some(pid_file) = &guarded.pid_file {
        pid_file.remove();
    }
    result
}

fn guard(guarded: &mut Guarded, ears: &mut Ears, sweeper: &mut Sweeper) -> anyhow::Result<ExitCode> {
    let mut deaths: Vec<Instant> = Vec::with_capacity(MAX_DEATHS);
    let mut is_first = true;
    loop {
        let (mut told_to_end, mut is_disk_full) = (false, false);
        // What was lost while no supervisor lived: the next one is to get what is there.
        ears.take_moves();
        guarded.door.mend();
        guarded.door.watch(&ears.inotify);
        match start(guarded) {
            Ok((supervisor, lifeline)) => {
                let end = wait_for_end(supervisor, &lifeline, guarded, ears, &mut told_to_end);
                guarded.hear(&lifeline);
                match end {
                    Exit::Code(0) => return Ok(ExitCode::SUCCESS),
                    Exit::Code(code)
                        if is_first && [FATAL_EXIT, FULL_DISK_EXIT].map(i32::from).contains(&code) =>
                    {
                        return Ok(ExitCode::FAILURE);
                    }
                    Exit::Code(code) if code == i32::from(UNWRITTEN_EXIT) => return Ok(ExitCode::FAILURE),
                    Exit::Code(code) if code == i32::from(FULL_DISK_EXIT) => is_disk_full = true,
                    how => {
                        tracing::error!(pid = %supervisor, ?how, "the supervisor has died: what it ran is killed")
                    }
                }
            }
            Err(error) if is_first => return Err(error).context("cannot start the supervisor"),
            // What there was room for once there may be room for again.
            Err(error) => tracing::error!(%error, "the supervisor cannot be started"),
        }
        is_first = false;

        // Before the next start, so that no attempt runs beside its predecessor.
        sweeper.sweep();
        let pause = if is_disk_full { Some(LOOK_FOR_ROOM) } else { pause_after_death(&mut deaths) };
        let Some(pause) = pause else {
            tracing::error!(
                "the supervisor has died {MAX_DEATHS} times within {} s: giving up",
                DEATHS_WITHIN.as_secs()
            );
            return Ok(ExitCode::FAILURE);
        };
        if told_to_end || ears.hear_end(pause) {
            tracing::info!("told to end: the supervisor is not started again");
            return Ok(ExitCode::FAILURE);
        }
    }
}

/// Takes note of a death; how long the next start waits after it, if there is to be one. The first death is
/// made good at once.
fn pause_after_death(deaths: &mut Vec<Instant>) -> Option<Duration> {
    deaths.retain(|death| death.elapsed() < DEATHS_WITHIN);
    deaths.push(Instant::now());
    if deaths.len() >= MAX_DEATHS {
        return None;
    }
    Some(deaths.len().checked_sub(2).map_or(Duration::ZERO, |longer| BACKOFF * 4u32.pow(longer as u32)))
}

/// Starts the supervisor; returns our end of its lifeline, too.
fn start(guarded: &Guarded) -> io::Result<(ProcessId, OwnedFd)> {
    let Guarded { program, arguments, door, locks, last_good, readiness, pid_file: _, log_file: _ } = guarded;
    let mut command = Command::new(program);
    command.arg0("poold").args(arguments).arg("--socket").arg(door.at());

    // What comes before it can handle it waits for it.
    kernel::block_signals_of_child(&mut command, &PASSED_ON);
    // A group of its own: what a terminal sends to ours reaches the supervisor once, through us.
    command.process_group(0);

    let (ours, theirs) = handover::lifeline()?;
    let handed = Handed {
        listener: door.listener(),
        lifeline: &theirs,
        locks,
        last_good: last_good.as_ref(),
        readiness: readiness.as_ref(),
    };
    let child = handover::spawn(&mut command, &handed)?;
    Ok((ProcessId::new(i32::try_from(child.id()).expect("pids are positive and fit pid_t")), ours))
}

/// Passes signals on, and listeners, until the supervisor has ended. Orphans that fall to us meanwhile are
/// reaped.
///
/// A supervisor that is stopped hears nothing: it is continued when it is told to end. One that does not end
/// though it was told twice is killed, after a while or at the third time.
fn wait_for_end(
    supervisor: ProcessId,
    lifeline: &OwnedFd,
    guarded: &mut Guarded,
    ears: &mut Ears,
    told_to_end: &mut bool,
) -> Exit {
    let mut events = Events::with_capacity(4);
    let mut mend_at: Option<Instant> = None;
    let mut ends = 0;
    // It goes with the lifeline. What cannot be heard at once is heard at the supervisor's end.
    let source = lifeline.as_raw_fd();
    if let Err(error) = ears.poll.registry().register(&mut SourceFd(&source), SUPERVISOR, Interest::READABLE)
    {
        tracing::warn!(
            %error,
            "the guardian hears of another configuration only when the supervisor has ended"
        );
    }
    loop {
        let patience = mend_at.map(|at| at.saturating_duration_since(Instant::now()));
        // It is interrupted by the signals that it waits for; anything else is a bug, and is not to keep the
        // processor busy.
        if let Err(error) = ears.poll.poll(&mut events, patience)
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "the guardian cannot wait for events");
            std::thread::sleep(BACKOFF);
        }

        if events.iter().any(|event| event.token() == SUPERVISOR) {
            guarded.hear(lifeline);
        }

        let mut has_child_ended = false;
        for signal in ears.signals.pending() {
            if signal == SIGCHLD {
                has_child_ended = true;
                continue;
            }
            if signal == SIGHUP {
                guarded.log_file.iter().for_each(|path| log::reopen(path));
            }
            // Not reaped yet, so the pid is its own.
            let send = |signal| _ = kill(Pid::from_raw(supervisor.get()), signal);
            if signal == SIGALRM {
                tracing::error!(pid = %supervisor, "the supervisor does not end: it is killed");
                send(Signal::SIGKILL);
                continue;
            }
            send(Signal::try_from(signal).expect("one of those handled"));
            if is_end(signal) {
                *told_to_end = true;
                ends += 1;
                send(Signal::SIGCONT);
                match ends {
                    ..=1 => {}
                    2 => _ = alarm::set(HURRY_S),
                    3.. => send(Signal::SIGKILL),
                }
            }
        }
        while has_child_ended && let Ok(Some(reaped)) = kernel::reap_one() {
            if reaped.pid == supervisor {
                return reaped.exit;
            }
        }

        if ears.take_moves() {
            mend_at.get_or_insert_with(|| Instant::now() + MEND_AFTER);
        }
        if mend_at.take_if(|at| *at <= Instant::now()).is_some() {
            mend(guarded, lifeline, ears);
        }
    }
}

fn mend(guarded: &mut Guarded, lifeline: &OwnedFd, ears: &Ears) {
    let door = &mut guarded.door;
    if door.mend()
        && let Err(error) = handover::send_listener(lifeline, door.listener(), door.at())
    {
        tracing::error!(%error, "the supervisor cannot be given the new socket");
    }
    door.watch(&ears.inotify);
}

fn is_end(signal: i32) -> bool {
    matches!(signal, SIGTERM | SIGINT)
}
