//! The descendants of this process, and signals to them.
//!
//! A bare pid is only ever signalled while it cannot have been reused: a child that has not been reaped.
//! Every other process is pinned by a pidfd first, and signalled through it after a second look at who its
//! parent is.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, getpid, sysconf};

use crate::job::ProcessId;
use crate::kernel::read_proc;

/// A process below this one, with its parent, as last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descendant {
    pub pid: ProcessId,
    pub parent: ProcessId,
}

/// Kills a child of ours that has not been reaped.
pub fn kill_child(pid: ProcessId) {
    // It may have ended already.
    let _ = kill(Pid::from_raw(pid.get()), Signal::SIGKILL);
}

/// Continues a child of ours that has not been reaped.
pub fn continue_child(pid: ProcessId) {
    // It may have ended already.
    let _ = kill(Pid::from_raw(pid.get()), Signal::SIGCONT);
}

/// Sends a signal to a process group whose leader is a child of ours that has not been reaped.
pub fn signal_group(leader: ProcessId, signal: i32) {
    // SAFETY: kill takes two integers. Not nix's, which knows no real-time signals.
    unsafe { libc::kill(-leader.get(), signal) };
}

/// Sends a signal to every descendant of this process.
pub fn signal_tree(signal: Signal) {
    for process in descendants(&[]) {
        signal_descendant(process, signal);
    }
}

/// Children of this process, but for those in `except`.
pub fn children(except: &[ProcessId]) -> Vec<ProcessId> {
    let mut children = children_of(own_pid());
    children.retain(|pid| !except.contains(pid));
    children
}

/// Descendants of this process, parents before children, without those in `except` and what is below them.
pub fn descendants(except: &[ProcessId]) -> Vec<Descendant> {
    let own = own_pid();
    let mut found: Vec<Descendant> =
        children(except).into_iter().map(|pid| Descendant { pid, parent: own }).collect();
    let mut next = 0;
    while let Some(&Descendant { pid: parent, .. }) = found.get(next) {
        found.extend(children_of(parent).into_iter().map(|pid| Descendant { pid, parent }));
        next += 1;
    }
    found
}

/// Stops every descendant outside `except`, until a pass finds none that has not been told to stop: what is
/// stopped cannot start others while the rest is being dealt with. A process that forks is found by its next
/// pass, or is dealt with in the caller's next round.
pub fn freeze(except: &[ProcessId]) {
    const PASSES: usize = 64;
    let mut told: Vec<ProcessId> = Vec::new();
    for _ in 0..PASSES {
        let fresh: Vec<Descendant> =
            descendants(except).into_iter().filter(|process| !told.contains(&process.pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for process in fresh {
            signal_descendant(process, Signal::SIGSTOP);
            told.push(process.pid);
        }
    }
}

/// Sends a signal to a descendant, unless the pid has come to mean another process meanwhile. False when that
/// is not allowed: it has become somebody else's, by a set-uid program such as sudo.
pub fn signal_descendant(process: Descendant, signal: Signal) -> bool {
    let own = own_pid();
    if process.parent == own {
        // Our own child: the pid is its own until we reap it.
        return kill(Pid::from_raw(process.pid.get()), signal) != Err(Errno::EPERM);
    }
    let Some(pidfd) = open_pidfd(process.pid) else { return true };
    // Its parent may have died since, which makes it our child.
    let is_ours = parent_of(process.pid).is_some_and(|parent| parent == process.parent || parent == own);
    if !is_ours {
        return true;
    }
    send_signal(&pidfd, signal)
}

/// Sends a signal to the process that the descriptor pins; false when that is not allowed.
pub fn send_signal(pidfd: &OwnedFd, signal: Signal) -> bool {
    // SAFETY: the descriptor is a pidfd of ours; no siginfo is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as i32,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result) != Err(Errno::EPERM)
}

pub fn open_pidfd(pid: ProcessId) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes integers and returns a new descriptor, which nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid.get(), 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

/// From proc(5): the fourth field, after the command's name in parentheses, which may hold anything.
pub(super) fn parent_of(pid: ProcessId) -> Option<ProcessId> {
    let stat = read_proc(&format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().map(ProcessId::new)
}

/// The CPU time that all descendants of this process have used, with what they have reaped, in clock ticks.
pub fn cpu_ticks_of_tree() -> u64 {
    descendants(&[]).iter().filter_map(|process| cpu_ticks_of(process.pid)).sum()
}

/// From proc(5): fields 14 to 17.
fn cpu_ticks_of(pid: ProcessId) -> Option<u64> {
    let stat = read_proc(&format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    Some(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// From proc(5): the twenty-second field.
pub fn start_ticks_of(pid: ProcessId) -> Option<u64> {
    let stat = read_proc(&format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The number here of a process below `root`, which calls itself `inner` in its own pid namespace.
pub fn outer_pid(root: ProcessId, inner: ProcessId) -> Option<ProcessId> {
    const MOST: usize = 4096;

    below(root).take(MOST).find(|&pid| innermost_pid_of(pid) == Some(inner))
}

/// All that descends from a process, parents before children.
fn below(root: ProcessId) -> impl Iterator<Item = ProcessId> {
    let (mut latest, mut found) = (root, VecDeque::new());
    std::iter::from_fn(move || {
        found.extend(children_of(latest));
        latest = found.pop_front()?;
        Some(latest)
    })
}

/// From proc_pid_status(5).
fn innermost_pid_of(pid: ProcessId) -> Option<ProcessId> {
    status_line(pid, "NSpid:")?.split_ascii_whitespace().next_back()?.parse().ok().map(ProcessId::new)
}

/// Whether somebody has stopped a process, by a signal or by tracing it.
pub fn is_stopped(pid: ProcessId) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    String::from_utf8_lossy(&stat).rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// Whether a process has been killed or exits: it is there, and has what it had, but not for long.
pub fn is_ending(pid: ProcessId) -> bool {
    /// `PF_EXITING` of linux/sched.h.
    const EXITING: u64 = 0x4;

    flags_of(pid).is_some_and(|flags| flags & EXITING != 0) || is_to_be_killed(pid)
}

/// From proc_pid_status(5): a SIGKILL for all of a process stays among the pending signals until it is gone.
fn is_to_be_killed(pid: ProcessId) -> bool {
    const KILL: u64 = 1 << (Signal::SIGKILL as u64 - 1);

    let pending = status_line(pid, "ShdPnd:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    pending.is_some_and(|mask| mask & KILL != 0)
}

/// From proc_pid_status(5): what follows that word.
pub(super) fn status_line(pid: ProcessId, word: &str) -> Option<String> {
    let status = read_proc(&format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(word))?.trim().to_owned())
}

/// From proc(5): the ninth field. A process has it until it has been reaped.
pub(super) fn flags_of(pid: ProcessId) -> Option<u64> {
    // Not text: a name may be cut in the middle of a character.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    String::from_utf8_lossy(&stat).rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()
}

/// The memory of all that descends from a process, without its own, in bytes. What several of them share
/// counts for each. Of very many it looks at some: whoever asks does not wait for them all.
pub fn resident_bytes_below(root: ProcessId) -> u64 {
    const MOST: usize = 256;

    below(root).take(MOST).filter_map(resident_bytes).sum()
}

/// The memory of a process, as in proc(5), statm, the second field; in bytes.
fn resident_bytes(pid: ProcessId) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page.unsigned_abs())
}

fn children_of(pid: ProcessId) -> Vec<ProcessId> {
    let mut children = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return children };
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(
                list.split_ascii_whitespace().filter_map(|word| word.parse().ok()).map(ProcessId::new),
            ),
            // The thread has ended; or the kernel lacks CONFIG_PROC_CHILDREN.
            Err(_) if thread.path().exists() => return children_by_scan(pid),
            Err(_) => {}
        }
    }
    children
}

fn children_by_scan(parent: ProcessId) -> Vec<ProcessId> {
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(ProcessId::new);
    pids.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

/// This process.
pub(super) fn own_pid() -> ProcessId {
    ProcessId::new(getpid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(OsStr::from_bytes(b"caf\xe9) S 1"));
        fs::copy("/bin/sleep", &program).unwrap();

        let mut child = Command::new(&program).arg("60").spawn().unwrap();
        let pid = ProcessId::new(child.id().cast_signed());
        let known = (parent_of(pid), start_ticks_of(pid).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(known, (Some(own_pid()), true));
    }
}
