//! Burying children: the one place that calls waitpid(2), so that no status is stolen from anybody.

use std::collections::HashSet;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use pool_proto::interface::Usage;

use super::tree::{Process, children, descendants, freeze, signal_descendant};
use crate::job::Exit;

/// A child that has been reaped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reaped {
    pub pid: i32,
    pub exit: Exit,
    /// Its own and that of the children that it had waited for.
    pub usage: Usage,
}

/// What [`collect`] has found.
#[derive(Debug)]
pub struct Collected {
    pub dead_workers: Vec<(i32, Exit)>,
    /// Something that a dead worker had started is still there.
    pub orphans_left: bool,
}

/// Reaps one child that has ended, if any has.
///
/// # Errors
/// `ECHILD`: there are no children at all, and so, for a subreaper, no descendants.
pub fn reap_one() -> nix::Result<Option<Reaped>> {
    wait4(-1, libc::WNOHANG)
}

/// Kills every descendant of this process, which is a subreaper, and reaps until there is none left. Returns what was reaped.
///
/// With nothing to kill this is a single system call. Otherwise all are stopped before any is killed, so that none can start others
/// faster than they are killed; each killed generation makes the next one our children, and the round begins again.
pub fn sweep() -> Vec<Reaped> {
    let mut reaped = Vec::new();
    loop {
        match reap_one() {
            Err(_) => return reaped,
            Ok(Some(child)) => reaped.push(child),
            Ok(None) => match kill_round() {
                Some(killed) => reaped.extend(killed),
                None => {
                    tracing::warn!("processes are left that belong to another user and cannot be killed");
                    return reaped;
                }
            },
        }
    }
}

/// None when nothing is left that can be killed.
fn kill_round() -> Option<Vec<Reaped>> {
    freeze(&[]);
    let ours = children(&[]);
    let (killed, spared): (Vec<Process>, Vec<Process>) =
        descendants(&[]).into_iter().partition(|&process| signal_descendant(process, Signal::SIGKILL));
    if killed.is_empty() && !spared.is_empty() {
        return None;
    }
    // Only those that are certain to end: a child that has come to us since is the next round's.
    let certain = ours.into_iter().filter(|&pid| !spared.iter().any(|process| process.pid == pid));
    Some(certain.filter_map(|pid| wait4(pid, 0).ok().flatten()).collect())
}

/// For the supervisor, at each SIGCHLD: reaps what has ended, and kills children that are no workers, with all below them: they are what
/// dead workers have left behind. Never blocks; each one killed brings the next SIGCHLD.
pub fn collect(workers: &HashSet<i32>) -> Collected {
    let mut dead_workers = Vec::new();
    let mut living = workers.clone();
    while let Ok(Some(child)) = reap_one() {
        if living.remove(&child.pid) {
            dead_workers.push((child.pid, child.exit));
        }
    }
    let living: Vec<i32> = living.into_iter().collect();
    let mut orphans_left = false;
    if !children(&living).is_empty() {
        freeze(&living);
        for process in descendants(&living) {
            // One that we may not kill is not waited for, or no worker could be replaced any more.
            orphans_left |= signal_descendant(process, Signal::SIGKILL);
        }
    }
    Collected { dead_workers, orphans_left }
}

fn wait4(pid: i32, options: i32) -> nix::Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: rusage is a plain C struct, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to locals of the right types.
        let result = unsafe { libc::wait4(pid, &raw mut status, options, &raw mut usage) };
        match Errno::result(result) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some(Reaped { pid, exit: exit_of(status), usage: usage_of(&usage) })),
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

/// Reaps a child that is known to have ended or to be about to, and has not been reaped.
pub(super) fn bury(pid: i32) -> Option<Exit> {
    wait4(pid, 0).ok().flatten().map(|reaped| reaped.exit)
}
