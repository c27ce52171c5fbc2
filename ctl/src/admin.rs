//! Verbs about poold itself, and the end of jobs.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_proto::ClientError;
use pool_proto::interface::{Cancel, Ping, Release, SCHEMA, Shutdown, ShutdownMode};

use crate::cli::{IdRange, ids_of};
use crate::connect::Link;
use crate::list::JobsDocument;
use crate::print;

/// Ends jobs; returns when they are over.
///
/// # Errors
/// When one of them does not exist: then none is ended.
pub fn cancel(link: &Link, ids: &[IdRange], as_json: bool) -> anyhow::Result<u8> {
    let canceled = link.connect()?.call(&Cancel { ids: ids_of(ids) })?;
    if as_json {
        print::json(&JobsDocument { schema: SCHEMA, jobs: &canceled.jobs })?;
    }
    Ok(0)
}

/// Queues held jobs again.
///
/// # Errors
/// When one of them is not held: then none is released.
pub fn release(link: &Link, ids: &[IdRange]) -> anyhow::Result<u8> {
    link.connect()?.call(&Release { ids: ids_of(ids) })?;
    Ok(0)
}

/// Tells whether poold is there; never starts one.
///
/// # Errors
/// When it is not.
pub fn ping(link: &Link, as_json: bool) -> anyhow::Result<u8> {
    let pong = link.connect_only()?.call(&Ping {})?;
    let socket = link.socket().display().to_string();
    if as_json {
        let answer = serde_json::json!({ "version": pong.version, "pid": pong.pid, "socket": socket, "state_dir": pong.state_dir });
        print::json(&answer)?;
    } else {
        print::text(&format!("poold {}, pid {}, {socket}\n", pong.version, pong.pid))?;
    }
    Ok(0)
}

/// Ends poold, and returns when its main process is gone.
///
/// # Errors
/// When none is running.
pub fn shutdown(link: &Link, now: bool) -> anyhow::Result<u8> {
    let mut client = link.connect_only()?;
    let pid = client.call(&Ping {})?.pid;
    let main_process = open_pidfd(pid).with_context(|| format!("cannot watch poold, pid {pid}"))?;
    let mode = if now { ShutdownMode::Now } else { ShutdownMode::Drain };
    match client.call(&Shutdown { mode }) {
        Ok(_) | Err(ClientError::Disconnected(_)) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        match poll(&mut [PollFd::new(main_process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            result => {
                result.context("cannot wait for the end of poold")?;
                return Ok(0);
            }
        }
    }
}

fn open_pidfd(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers and returns a new descriptor, which nobody else owns.
    unsafe {
        let fd = nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0);
        nix::errno::Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd as i32))
    }
}
