//! A blocking client: what poolctl and the tests use, and all that they use.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::frame::{Decoder, encode};
use crate::interface::Method;
use crate::message::{Call, Reply};
use crate::refusal::Refusal;

/// Replies are not capped as calls are: the daemon is trusted by its own user.
const MAX_REPLY: usize = 1 << 30;

/// Descriptors that travel with one message at most.
const MAX_DESCRIPTORS: usize = 8;

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection broke; the call may or may not have been carried out.
    #[error("the connection to poold was lost")]
    Disconnected(#[source] Option<io::Error>),
    /// The daemon replied what this client does not understand.
    #[error("poold replied something unexpected ({0}); poolctl and poold may be of different versions")]
    Unexpected(String),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Disconnected(Some(error))
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    descriptors: VecDeque<OwnedFd>,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        Ok(Self { stream, decoder: Decoder::new(MAX_REPLY), descriptors: VecDeque::new() })
    }

    /// Calls a method and waits for its one reply.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<M: Method>(&mut self, parameters: &M) -> Result<M::Reply, ClientError> {
        self.send(parameters, false)?;
        Ok(self.receive::<M>()?.0)
    }

    /// Sends a call; with `more`, any number of replies may follow.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send<M: Method>(&mut self, parameters: &M, more: bool) -> io::Result<()> {
        let call = Call {
            method: M::NAME.to_owned(),
            parameters: Some(parameters),
            oneway: false,
            more,
            upgrade: false,
        };
        self.send_bytes(&encode(&call))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A daemon that refuses before it has read everything closes; its reply is still there to be read.
        match self.stream.write_all(bytes) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Waits for the next reply to a call of `M`; the flag says whether more follow.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn receive<M: Method>(&mut self) -> Result<(M::Reply, bool), ClientError> {
        loop {
            if let Some(reply) = self.next_reply::<M>()? {
                return Ok(reply);
            }
            if !self.fill()? {
                return Err(ClientError::Disconnected(None));
            }
        }
    }

    /// The next reply among what has been read already; never blocks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn next_reply<M: Method>(&mut self) -> Result<Option<(M::Reply, bool)>, ClientError> {
        let Some(frame) = self.decoder.next_frame() else { return Ok(None) };
        let unexpected = |error: serde_json::Error| ClientError::Unexpected(error.to_string());
        let reply: Reply<&RawValue> = serde_json::from_slice(frame).map_err(unexpected)?;
        if reply.error.is_some() {
            let refusal = serde_json::from_slice::<Refusal>(frame).map_err(unexpected)?;
            return Err(refusal.into());
        }
        let parameters = reply.parameters.map_or("{}", RawValue::get);
        let parameters =
            M::Reply::deserialize(&mut serde_json::Deserializer::from_str(parameters)).map_err(unexpected)?;
        Ok(Some((parameters, reply.continues)))
    }

    /// Reads once, blocking; false at the end of the stream.
    ///
    /// # Errors
    /// Those of recvmsg(2), or a reply beyond all measure.
    pub fn fill(&mut self) -> Result<bool, ClientError> {
        let mut buffer = [0; 64 * 1024];
        let mut control = cmsg_space!([i32; MAX_DESCRIPTORS]);
        let count = loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.stream.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Ok(message) => {
                    for item in message.cmsgs().map_err(io::Error::from)? {
                        if let ControlMessageOwned::ScmRights(received) = item {
                            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
                            self.descriptors
                                .extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                    }
                    break message.bytes;
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        };
        self.decoder.extend(&buffer[..count]).map_err(|error| ClientError::Unexpected(error.to_string()))?;
        Ok(count > 0)
    }

    /// Takes the oldest descriptor received and not yet taken.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] when there is none.
    pub fn take_descriptor(&mut self) -> Result<OwnedFd, ClientError> {
        self.descriptors.pop_front().ok_or_else(|| ClientError::Unexpected("a descriptor is missing".into()))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
