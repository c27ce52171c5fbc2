//! What the guardian hands to the supervisor: descriptors, by their numbers on its command line.
//!
//! | descriptor | what it is for |
//! |---|---|
//! | listener | clients that connect while no supervisor lives wait in its queue for the next one |
//! | lifeline | its end tells the supervisor that the guardian is dead; a message on it is another listener, where the socket was lost; one in the other direction is the text of the configuration in force |
//! | locks | on the state directory; held by both, so that they last until both have ended |
//! | last good configuration | for a file that has become a bad one: the text that the last supervisor has sent |
//! | readiness | with `--daemonize`: who waits for the start is told there how it went |
//!
//! A supervisor that is started in the place of another (after a crash now; on an upgrade, one day) gets the
//! same.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::Context;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

use super::cli::SupervisorOptions;
use super::readiness::Readiness;
use crate::kernel;

/// What the guardian hands on. It keeps all of it.
#[derive(Debug)]
pub struct Handed<'a> {
    pub listener: &'a OwnedFd,
    pub lifeline: &'a OwnedFd,
    pub locks: &'a [OwnedFd],
    pub last_good: Option<&'a OwnedFd>,
    pub readiness: Option<&'a OwnedFd>,
}

/// What the supervisor has got.
#[derive(Debug)]
pub struct Handover {
    pub listener: OwnedFd,
    /// At its end the guardian is dead.
    pub lifeline: OwnedFd,
    /// Only to be kept open. The first is the state directory.
    pub locks: Vec<OwnedFd>,
    /// The last good configuration.
    pub last_good: Option<OwnedFd>,
    pub readiness: Readiness,
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
            .chain(handed.last_good.map(|file| ("--last-good-fd", file)))
            .chain(handed.readiness.map(|pipe| ("--readiness-fd", pipe)))
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
        last_good: options.last_good_fd.map(adopt).transpose()?,
        readiness: Readiness::new(options.readiness_fd.map(adopt).transpose()?),
    })
}

/// Makes a lifeline: the guardian's end, and the supervisor's.
///
/// # Errors
/// Those of socketpair(2).
pub fn lifeline() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = (AddressFamily::Unix, SockType::SeqPacket);
    Ok(socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Hands on a listener that takes the place of the last one.
///
/// # Errors
/// Those of sendmsg(2). A supervisor that does not read is not waited for.
pub fn send_listener(lifeline: &OwnedFd, listener: &OwnedFd, socket: &Path) -> io::Result<()> {
    send(lifeline, listener, socket.as_os_str().as_bytes())
}

/// What the lifeline has to say.
#[derive(Debug)]
pub enum Word {
    /// Nothing for now.
    None,
    /// The guardian is dead.
    Dead,
    /// Clients come to another listener from now on.
    Listener(OwnedFd, PathBuf),
}

/// Reads the lifeline, without waiting.
pub fn hear(lifeline: &OwnedFd) -> Word {
    match receive(lifeline) {
        Ok(Some((bytes, _))) if bytes.is_empty() => Word::Dead,
        Ok(Some((path, Some(listener)))) => Word::Listener(listener, PathBuf::from(OsStr::from_bytes(&path))),
        Ok(Some((_, None)) | None) => Word::None,
        Err(_) => Word::Dead,
    }
}

/// Gives the guardian the text of the configuration in force.
///
/// # Errors
/// Those of sendmsg(2). A guardian that does not read is not waited for.
pub fn send_config(lifeline: &OwnedFd, text: &OwnedFd) -> io::Result<()> {
    send(lifeline, text, b"config")
}

/// The last configuration that the supervisor has sent since the last time, be it dead by now.
pub fn last_config(lifeline: &OwnedFd) -> Option<OwnedFd> {
    let mut last = None;
    while let Ok(Some((bytes, file))) = receive(lifeline)
        && !bytes.is_empty()
    {
        last = file.or(last);
    }
    last
}

fn send(lifeline: &OwnedFd, descriptor: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&descriptors)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(lifeline.as_raw_fd(), &[IoSlice::new(bytes)], &message, flags, None)?;
    Ok(())
}

/// Reads a message, without waiting: none where there is none for now, an empty one at the end.
fn receive(lifeline: &OwnedFd) -> nix::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut buffer = [0; 4096];
    let mut control = cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (count, descriptor) =
        match recvmsg::<()>(lifeline.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Ok(message) => {
                let descriptors = message.cmsgs().into_iter().flatten().find_map(|item| match item {
                    ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
                    _ => None,
                });
                (message.bytes, descriptors)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error),
        };
    // SAFETY: the kernel has just made this descriptor for this process, so nothing else owns it.
    let descriptor = descriptor.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(Some((buffer[..count].to_vec(), descriptor)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_listener_goes_over_the_lifeline_and_its_end_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (ours, theirs) = lifeline().unwrap();
        assert!(matches!(hear(&theirs), Word::None));

        send_listener(&ours, &listener.into(), &path).unwrap();
        let Word::Listener(received, socket) = hear(&theirs) else { panic!("no listener has come") };
        assert_eq!(socket, path);
        UnixStream::connect(&path).unwrap();
        assert!(UnixListener::from(received).accept().is_ok());

        drop(ours);
        assert!(matches!(hear(&theirs), Word::Dead));
    }
}
