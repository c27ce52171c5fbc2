//! Signals that wait until the process can handle them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};

/// Has a child start with signals blocked, so that a signal which comes before the child can handle it waits
/// for the child.
pub fn block_signals_of_child(command: &mut Command, signals: &[Signal]) {
    let set: SigSet = signals.iter().copied().collect();
    // SAFETY: what runs between fork and exec is one system call.
    unsafe { command.pre_exec(move || Ok(set.thread_block()?)) };
}

/// A write beyond the limit of a file's size (`ulimit -f`) fails, as one on a full disk does, and does not kill
/// this process. The processes of jobs get the default back.
pub fn ignore_file_size_signal() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Handles signals that were blocked until now.
///
/// # Errors
/// Those of sigprocmask(2).
pub fn unblock_signals(signals: &[Signal]) -> io::Result<()> {
    Ok(signals.iter().copied().collect::<SigSet>().thread_unblock()?)
}
