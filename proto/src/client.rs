//! A blocking client. poolctl and the tests use this client, and no other way to the daemon.

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

use crate::methods::Method;
use crate::refusal::Refusal;
use crate::wire::frame::{Decoder, encode};
use crate::wire::message::{ReplyEnvelope, RequestEnvelope};

/// The greatest length of a reply, in bytes. This limit is far above that of a request, because a user trusts
/// the own daemon.
const MAX_REPLY: usize = 1 << 30;

/// Bytes that are read at once: at first, since most replies are short and memory has to be cleared, and from
/// the first reply on that is longer.
const FIRST_READ: usize = 4 * 1024;
const READ: usize = 64 * 1024;

/// The greatest number of descriptors that travel with one message.
const MAX_DESCRIPTORS: usize = 8;

/// Why a request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection broke. The request may or may not have been carried out.
    #[error("the connection to poold was lost")]
    Disconnected(#[source] Option<io::Error>),
    /// The daemon sent a reply that this client does not understand.
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
    /// What is read goes here first.
    buffer: Box<[u8]>,
    descriptors: VecDeque<OwnedFd>,
    vigil: Option<&'static Vigil>,
    /// The vigil has begun.
    is_watched: bool,
}

/// What is called while a reply is waited for, so that the user hears of a daemon that does not answer.
#[derive(Debug)]
pub struct Vigil {
    /// Called before a request is sent that has one reply.
    pub begin: fn(),
    /// Called when the next reply has come.
    pub end: fn(),
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let (decoder, buffer) = (Decoder::new(MAX_REPLY), vec![0; FIRST_READ].into());
        Ok(Self { stream, decoder, buffer, descriptors: VecDeque::new(), vigil: None, is_watched: false })
    }

    /// Has this called around each wait for the one reply to a request. `has_begun`: it lasts until the next
    /// reply to whatever request.
    pub fn set_vigil(&mut self, vigil: Option<&'static Vigil>, has_begun: bool) {
        self.vigil = vigil;
        self.is_watched = has_begun;
    }

    /// Sends a request and waits for its one reply.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn request<M: Method>(&mut self, parameters: &M) -> Result<M::Reply, ClientError> {
        if let Some(vigil) = self.vigil.filter(|_| !self.is_watched) {
            (vigil.begin)();
            self.is_watched = true;
        }
        self.send(parameters, false)?;
        Ok(self.receive::<M>()?.0)
    }

    /// Sends a request. With `more`, any number of replies may follow.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send<M: Method>(&mut self, parameters: &M, more: bool) -> io::Result<()> {
        let request = RequestEnvelope {
            method: M::NAME.to_owned(),
            parameters: Some(parameters),
            oneway: false,
            more,
            upgrade: false,
        };
        self.send_bytes(&encode(&request))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A daemon that refuses a request before it has read all bytes closes the connection. The client can
        // still read the refusal, so a failed write is no error here.
        match self.stream.write_all(bytes) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Waits for the next reply to a request of `M`. The flag says whether more replies follow.
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

    /// The next reply among the bytes that have been read already. Never blocks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn next_reply<M: Method>(&mut self) -> Result<Option<(M::Reply, bool)>, ClientError> {
        let Some(frame) = self.decoder.next_frame() else { return Ok(None) };
        if let Some(vigil) = self.vigil.filter(|_| self.is_watched) {
            (vigil.end)();
            self.is_watched = false;
        }
        let unexpected = |error: serde_json::Error| ClientError::Unexpected(error.to_string());

        let reply: ReplyEnvelope<&RawValue> = serde_json::from_slice(frame).map_err(unexpected)?;
        if reply.error.is_some() {
            let refusal = serde_json::from_slice::<Refusal>(frame).map_err(unexpected)?;
            return Err(refusal.into());
        }

        let parameters = reply.parameters.map_or("{}", RawValue::get);
        let parameters =
            M::Reply::deserialize(&mut serde_json::Deserializer::from_str(parameters)).map_err(unexpected)?;
        Ok(Some((parameters, reply.continues)))
    }

    /// Reads once, and blocks until there are bytes. False at the end of the stream.
    ///
    /// # Errors
    /// Those of recvmsg(2), or [`ClientError::Unexpected`] for a reply longer than the limit.
    pub fn fill(&mut self) -> Result<bool, ClientError> {
        let mut control = cmsg_space!([i32; MAX_DESCRIPTORS]);

        let count = loop {
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.stream.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Ok(message) => {
                    for item in message.cmsgs().map_err(io::Error::from)? {
                        if let ControlMessageOwned::ScmRights(received) = item {
                            // SAFETY: the kernel has just made these descriptors for this process, so nothing
                            // else owns them.
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

        // The descriptors are taken in before the bytes, so they are there when the reply that names them is
        // read.
        let taken = self.decoder.extend(&self.buffer[..count]);
        taken.map_err(|error| ClientError::Unexpected(error.to_string()))?;
        if count == self.buffer.len() && count < READ {
            self.buffer = vec![0; READ].into();
        }
        Ok(count > 0)
    }

    /// Takes the oldest descriptor that was received and not taken yet.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] when no descriptor is left.
    pub fn take_descriptor(&mut self) -> Result<OwnedFd, ClientError> {
        self.descriptors.pop_front().ok_or_else(|| ClientError::Unexpected("a descriptor is missing".into()))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
