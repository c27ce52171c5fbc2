//! Our stdout and stderr as descriptors. The output of jobs is passed on through them as it is, without the
//! buffers of the standard library.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// The number of bytes that a pipe takes at once when it is writable. A longer write may have to wait for the
/// reader (pipe(7)).
pub const PIPE_BUF: usize = 4096;

/// One of our two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Calls `act` with the stream's descriptor.
    pub fn with_fd<T>(self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Stdout => act(io::stdout().as_fd()),
            Self::Stderr => act(io::stderr().as_fd()),
        }
    }

    /// Waits until a write would not block. False if the timeout ends first.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn is_ready(self, timeout: PollTimeout) -> nix::Result<bool> {
        match self.with_fd(|fd| poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes all bytes, and waits for the reader if necessary.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn write_all(self, mut bytes: &[u8]) -> nix::Result<()> {
        while !bytes.is_empty() {
            match self.with_fd(|fd| write(fd, bytes)) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EINTR) => {}
                // Another process has made the stream non-blocking, so poolctl waits here.
                Err(Errno::EAGAIN) => _ = self.is_ready(PollTimeout::NONE)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes once if the write does not block. `bytes` has at most [`PIPE_BUF`] bytes.
    ///
    /// # Errors
    /// Those of write(2), `EAGAIN` when it would block.
    pub fn write_if_ready(self, bytes: &[u8]) -> nix::Result<usize> {
        if !self.is_ready(PollTimeout::ZERO)? {
            return Err(Errno::EAGAIN);
        }
        self.with_fd(|fd| write(fd, bytes))
    }
}
