//! Burying children: the one place that calls waitpid(2), so that no status is stolen from anybody.
//!
//! No call here blocks: a child may have been killed and still never be there to be reaped (see
//! [`stuck`](super::stuck)). The end of a child is awaited through a pidfd, with a limit.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_proto::nouns::Usage;

use super::stuck::PATIENCE;
use super::tree::{flags_of, open_pidfd};
use crate::job::{Exit, ProcessId};

/// A child that has been reaped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reaped {
    pub pid: ProcessId,
    pub exit: Exit,
    /// Its own and that of the children that it had waited for.
    pub usage: Usage,
}

/// Reaps one child that has ended, if any has.
///
/// # Errors
/// `ECHILD`: there are no children at all, and so, for a subreaper, no descendants.
pub fn reap_one() -> nix::Result<Option<Reaped>> {
    wait4(-1)
}

/// Reaps a child that is known to have ended or to be about to, and has not been reaped. None where its end
/// is not told within [`PATIENCE`]: then it is reaped later, with all others.
pub fn bury(pid: ProcessId) -> Option<Exit> {
    let until = Instant::now() + PATIENCE;
    loop {
        match wait4(pid.get()) {
            Ok(Some(reaped)) => return Some(reaped.exit),
            Ok(None) if Instant::now() < until => wait_for_end(pid, until),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Waits until a child has ended, `until` at the latest. It may have ended without there being anything to
/// reap: then this returns after a moment, so that whoever asks again does so a hundred times a second at
/// most.
pub(super) fn wait_for_end(pid: ProcessId, until: Instant) {
    const MOMENT: Duration = Duration::from_millis(10);

    let left = until.saturating_duration_since(Instant::now());
    let has_ended = open_pidfd(pid).is_none_or(|pidfd| {
        // Rounded up, since a poll that ends a little early would only be done again.
        let timeout = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        // Readable when the process has ended (pidfd_open(2)), be it the parent or a tracer that is told.
        matches!(poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout), Ok(1..))
    });

    // The kernel tells a child's end to its parent after it has woken those who poll; and to the tracer's
    // parent later still.
    if has_ended && !is_waitable(pid) {
        std::thread::sleep(MOMENT.min(left));
    }
}

/// Whether a child has been killed by SIGKILL, has not been reaped, and had not executed any program: then
/// nothing of the program that it was meant for has run.
pub fn was_killed_unexecuted(pid: ProcessId) -> bool {
    /// `PF_FORKNOEXEC` of linux/sched.h.
    const FORKED_ONLY: u64 = 0x40;

    let killed = look_at_end(pid).is_some_and(|info| {
        // SAFETY: waitid(2) has filled the struct in.
        info.si_code == libc::CLD_KILLED && unsafe { info.si_status() } == libc::SIGKILL
    });
    killed && flags_of(pid).is_some_and(|flags| flags & FORKED_ONLY != 0)
}

/// Takes note of a child that somebody has stopped, once for each time.
pub fn stopped_one() -> Option<ProcessId> {
    // SAFETY: siginfo_t is a plain C struct, for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local of the right type.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WSTOPPED | libc::WNOHANG) };
    // SAFETY: waitid(2) has filled the struct in, or left it zero where no child has been stopped.
    let pid = unsafe { info.si_pid() };
    (result == 0 && pid != 0).then(|| ProcessId::new(pid))
}

/// Whether a child has ended and can be reaped.
fn is_waitable(pid: ProcessId) -> bool {
    look_at_end(pid).is_some()
}

/// How a child has ended that has not been reaped.
fn look_at_end(pid: ProcessId) -> Option<libc::siginfo_t> {
    // SAFETY: siginfo_t is a plain C struct, for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to a local of the right type.
    let result = unsafe { libc::waitid(libc::P_PID, pid.get().unsigned_abs(), &raw mut info, flags) };
    // SAFETY: waitid(2) has filled the struct in, or left it zero where no child was waitable.
    (result == 0 && unsafe { info.si_pid() } != 0).then_some(info)
}

fn wait4(pid: i32) -> nix::Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: rusage is a plain C struct, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to locals of the right types.
        let result = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        match Errno::result(result) {
            Ok(0) => return Ok(None),
            Ok(pid) => {
                let (exit, usage) = (exit_of(status), usage_of(&usage));
                return Ok(Some(Reaped { pid: ProcessId::new(pid), exit, usage }));
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn exit_of(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) }
    }
}

fn usage_of(usage: &libc::rusage) -> Usage {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Usage {
        user_s: seconds(usage.ru_utime),
        sys_s: seconds(usage.ru_stime),
        // In KiB, see getrusage(2).
        max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        memory_peak_bytes: None,
    }
}
