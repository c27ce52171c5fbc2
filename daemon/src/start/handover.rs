//! What the guardian hands to the supervisor: descriptors, by their numbers on its command line.
//!
//! | descriptor | what it is for |
//! |---|---|
//! | listener | clients that connect while no supervisor lives wait in its queue for the next one |
//! | lifeline | a pipe that nobody writes to; its end tells the supervisor that the guardian is dead |
//! | locks | on the state directory and the socket; held by both, so that they last until both have ended |
//!
//! A supervisor that is started in the place of another (after a crash now; on an upgrade, one day) gets the
//! same three.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command};

use anyhow::Context;

use super::cli::SupervisorOptions;
use crate::kernel;

/// What the guardian hands on. It keeps all of it.
#[derive(Debug)]
pub struct Handed<'a> {
    pub listener: &'a OwnedFd,
    pub lifeline: &'a OwnedFd,
    pub locks: &'a [OwnedFd],
}

/// What the supervisor has got.
#[derive(Debug)]
pub struct Handover {
    pub listener: OwnedFd,
    /// At its end the guardian is dead.
    pub lifeline: OwnedFd,
    /// Only to be kept open. The first is that of the state directory.
    pub locks: Vec<OwnedFd>,
}

/// Starts the supervisor with what is handed on.
///
/// # Errors
/// Those of fcntl(2), fork(2) and execve(2).
pub fn spawn(command: &mut Command, handed: &Handed<'_>) -> io::Result<Child> {
    let passed: Vec<(&str, &OwnedFd)> =
        [("--listener-fd", handed.listener), ("--lifeline-fd", handed.lifeline)]
            .into_iter()
            .chain(handed.locks.iter().map(|lock| ("--lock-fd", lock)))
            .collect();
    for (flag, descriptor) in &passed {
        command.arg(flag).arg(descriptor.as_raw_fd().to_string());
    }

    // Inheritable for this one child alone: the guardian has one thread, so that nothing else is started
    // meanwhile.
    passed.iter().try_for_each(|(_, descriptor)| kernel::close_on_exec(descriptor, false))?;
    let child = command.spawn();
    passed.iter().try_for_each(|(_, descriptor)| kernel::close_on_exec(descriptor, true))?;
    child
}

/// Takes over what the command line names.
///
/// # Safety
/// The guardian must have passed these descriptors to this process, and nothing in it may own one of them: to
/// be called once, before anything is opened.
///
/// # Errors
/// When one of them is not there.
pub unsafe fn adopt(options: &SupervisorOptions) -> anyhow::Result<Handover> {
    let adopt = |number| {
        // SAFETY: as the caller promises; each number is adopted once, since the guardian names each once.
        unsafe { kernel::adopt(number) }
            .with_context(|| format!("descriptor {number} was not passed on by the guardian"))
    };
    Ok(Handover {
        listener: adopt(options.listener_fd)?,
        lifeline: adopt(options.lifeline_fd)?,
        locks: options.lock_fd.iter().map(|&number| adopt(number)).collect::<Result<_, _>>()?,
    })
}
