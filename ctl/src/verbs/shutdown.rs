//! `poolctl shutdown`: ends poold.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use anyhow::Context as _;
use clap::Args;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_proto::ClientError;
use pool_proto::methods::{Ping, Shutdown, ShutdownMode};

use super::Context;
use crate::exit::ExitReason;

/// End poold
#[derive(Debug, Args)]
pub struct ShutdownOptions {
    /// Accept nothing more, finish all jobs, deliver all callbacks, then end [default]
    #[arg(long, conflicts_with = "now")]
    drain: bool,

    /// End running jobs now (SIGTERM, then SIGKILL). They and all queued jobs run after the next start of
    /// poold
    #[arg(long)]
    now: bool,
}

impl ShutdownOptions {
    /// Ends poold, and returns when its main process has ended.
    ///
    /// # Errors
    /// When no poold is running.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect_only()?;
        let pid = client.request(&Ping {})?.pid;

        // The process is opened before it is told to end. Afterwards its pid could name another process.
        let main_process = open_pidfd(pid).with_context(|| format!("cannot watch poold, pid {pid}"))?;

        let mode = if self.now { ShutdownMode::Now } else { ShutdownMode::Drain };
        match client.request(&Shutdown { mode }) {
            Ok(_) | Err(ClientError::Disconnected(_)) => {}
            Err(error) => return Err(error.into()),
        }

        loop {
            match poll(&mut [PollFd::new(main_process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                result => {
                    result.context("cannot wait for the end of poold")?;
                    return Ok(ExitReason::Success);
                }
            }
        }
    }
}

fn open_pidfd(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers and returns a new descriptor, which nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd as i32))
    }
}
