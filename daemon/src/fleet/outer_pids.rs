//! The pids of a worker that is process 1 of a pid namespace, as they are outside: what its children have
//! said of themselves before they executed anything, and for all others what the process table says.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials, recvmsg, setsockopt,
    socketpair,
};

use crate::job::ProcessId;
use crate::kernel;

/// See the module's description.
#[derive(Debug)]
pub struct OuterPids {
    socket: OwnedFd,
    /// The child that has said last that it is there: inside, and outside. A worker starts one thing at a
    /// time.
    latest: Option<(ProcessId, ProcessId)>,
}

impl OuterPids {
    /// Returns also the end of the socket that the worker is to have.
    ///
    /// # Errors
    /// Those of socketpair(2) and setsockopt(2).
    pub fn new() -> nix::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags)?;
        setsockopt(&socket, PassCred, &true)?;
        Ok((Self { socket, latest: None }, theirs))
    }

    /// What a process below `worker` is called here, which the worker calls `inner`.
    pub fn of(&mut self, worker: ProcessId, inner: ProcessId) -> ProcessId {
        // What a child has sent before it executed its command is there when its worker tells of it.
        while let Some(said) = self.receive() {
            self.latest = Some(said);
        }
        match self.latest {
            Some((said, outer)) if said == inner => outer,
            _ => kernel::outer_pid(worker, inner).unwrap_or(inner),
        }
    }

    fn receive(&self) -> Option<(ProcessId, ProcessId)> {
        let mut pid = [0; size_of::<i32>()];
        let mut control = cmsg_space!(UnixCredentials);
        let mut slices = [IoSliceMut::new(&mut pid)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), flags).ok()?;
        let outer = message.cmsgs().ok()?.find_map(|item| match item {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
            _ => None,
        })?;
        Some((ProcessId::new(i32::from_ne_bytes(pid)), ProcessId::new(outer)))
    }
}
