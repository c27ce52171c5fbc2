//! Everything that concerns processes as the kernel has them: starting them, signalling whole trees of them, burying them. The only
//! module with raw system calls and with `unsafe`, and the only one that calls waitpid(2).

mod cgroup;
mod clone;
mod group;
mod leftovers;
mod namespace;
mod reap;
mod slot_group;
mod spawn;
mod tree;

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{Backlog, listen};

pub use cgroup::{Groups, Place};
pub use group::{Group, remove as remove_group};
pub use leftovers::{Evidence, Leftover, Recorded, kill_leftovers};
pub use namespace::{Isolated, OuterProc};
pub use reap::{Collected, Reaped, collect, reap_one, sweep};
pub use slot_group::SlotGroup;
pub use spawn::{EnvironmentBlock, Launch, Spawner};
pub use tree::{kill_child, resident_bytes, signal_group, signal_tree, start_ticks_of};

/// Orphaned descendants become this process's children instead of init's.
///
/// # Errors
/// Those of prctl(2).
pub fn set_child_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes an integer and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the soft limit of open files to the hard one, for thousands of clients; returns the old one.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(soft)
}

/// Whether nobody has the other end of that pipe, which we write, open any more.
pub fn is_unread_for_good(pipe: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// What is in a pipe, in bytes.
pub fn unread_bytes(pipe: &impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int, to where there is one.
    let result = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// The soft limit of open files; all there can be where the kernel does not say.
pub fn max_open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Sets the soft limit of open files.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn set_nofile(soft: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
}

/// Makes the kernel's out-of-memory killer prefer others; returns the value that this process had, where that was allowed.
pub fn lower_oom_score() -> Option<String> {
    const PATH: &str = "/proc/self/oom_score_adj";
    const LOWERED: &str = "-900";
    let old = fs::read_to_string(PATH).ok()?.trim().to_owned();
    let already_lower = old.parse::<i32>().is_ok_and(|value| value <= -900);
    let mut file = OpenOptions::new().write(true).open(PATH).ok()?;
    (!already_lower && file.write_all(LOWERED.as_bytes()).is_ok()).then_some(old)
}

/// Whether a descriptor is closed by execve(2).
///
/// # Errors
/// Those of fcntl(2).
pub fn close_on_exec(descriptor: &impl AsFd, close: bool) -> io::Result<()> {
    let flags = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Takes over a descriptor that the parent process has passed by its number; no child of ours inherits it.
///
/// # Errors
/// When there is none of that number.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the parent passes each number once, on the command line, for us to own; nothing else in this process has it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(error) = close_on_exec(&descriptor, true) {
        // Dropping it would close what is not there, which the standard library takes for a bug.
        std::mem::forget(descriptor);
        return Err(error);
    }
    Ok(descriptor)
}

/// Closes every descriptor but the standard streams. To be called before anything is opened.
pub fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor yet. It cannot fail with these arguments.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Has a child start with signals blocked, so that one that comes before it can handle them waits for it.
pub fn block_signals_of_child(command: &mut Command, signals: &[Signal]) {
    let set: SigSet = signals.iter().copied().collect();
    // SAFETY: what runs between fork and exec is one system call.
    unsafe { command.pre_exec(move || Ok(set.thread_block()?)) };
}

/// Has a child go on when its parent dies: one that was being stopped, to be killed next, by somebody who was killed before he could, would
/// not notice anything any more. It holds for whoever becomes its parent later.
pub fn continue_with_parents_end(command: &mut Command) {
    // SAFETY: what runs between fork and exec is one system call.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGCONT)?)) };
}

/// Handles signals that were blocked until now.
///
/// # Errors
/// Those of sigprocmask(2).
pub fn unblock_signals(signals: &[Signal]) -> io::Result<()> {
    Ok(signals.iter().copied().collect::<SigSet>().thread_unblock()?)
}

/// A longer queue of connections than the standard library asks for.
///
/// # Errors
/// Those of listen(2).
pub fn widen_backlog(listener: &impl AsFd) -> io::Result<()> {
    Ok(listen(listener, Backlog::new(4096).expect("the kernel caps it to net.core.somaxconn"))?)
}

/// Puts a copy of `descriptor` in the place of `number`, which is closed first.
///
/// # Errors
/// Those of dup2(2).
pub fn replace(number: RawFd, descriptor: &impl AsFd) -> io::Result<()> {
    // SAFETY: only called for the standard streams, which no object of ours owns.
    let result = unsafe { libc::dup2(descriptor.as_fd().as_raw_fd(), number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What tells this boot of the machine from all others; none where the kernel does not say.
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim_end().to_owned()).filter(|id| !id.is_empty())
}

/// The name of the daemon of a state directory: `poold-DEV-INODE`, by which no two living ones are known.
///
/// # Errors
/// Those of stat(2).
pub fn daemon_name(state_dir: &Path) -> io::Result<String> {
    let directory = fs::metadata(state_dir)?;
    Ok(format!("poold-{:x}-{:x}", directory.dev(), directory.ino()))
}

/// A folder that only we can enter; one that is there already is made so.
///
/// # Errors
/// Those of mkdir(2) and chmod(2).
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if metadata.permissions().mode() & 0o777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}
