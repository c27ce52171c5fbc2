//! Our stdout and stderr as descriptors. The output of jobs is passed on through them as it is, without the
//! buffers of the standard library.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// The number of bytes that a pipe takes at once when it is writable. A longer write may have to wait for the
/// reader (pipe(7)).
pub const PIPE_BUF: usize = 4096;

/// Whether stdout was closed when poolctl was started.
static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Looks at stdout before main. Before it calls main, the runtime of Rust opens /dev/null in the place of a
/// closed stdout, where every result would get lost without an error.
#[used]
// SAFETY: the C library calls each function of this section once, before main and with a valid stack. The
// function needs nothing that the runtime of Rust sets up.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = {
    extern "C" fn look() {
        // SAFETY: the call takes integers, and changes nothing.
        let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
        WAS_CLOSED.store(flags == -1, Ordering::Relaxed);
    }
    look
};

/// Fails if stdout was closed when poolctl was started.
///
/// # Errors
/// `EBADF`, as a write to a closed descriptor has it.
pub fn open_at_start() -> nix::Result<()> {
    if WAS_CLOSED.load(Ordering::Relaxed) { Err(Errno::EBADF) } else { Ok(()) }
}

/// One of our two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Fails if the stream takes nothing: see [`open_at_start`].
    fn check(self) -> nix::Result<()> {
        match self {
            Self::Stdout => open_at_start(),
            Self::Stderr => Ok(()),
        }
    }

    /// Calls `act` with the stream's descriptor.
    pub fn with_fd<T>(self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Stdout => act(io::stdout().as_fd()),
            Self::Stderr => act(io::stderr().as_fd()),
        }
    }

    /// Whether a person reads the stream.
    pub fn is_terminal(self) -> bool {
        self.with_fd(|fd| fd.is_terminal())
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
        self.check()?;
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
        self.check()?;
        if !self.is_ready(PollTimeout::ZERO)? {
            return Err(Errno::EAGAIN);
        }
        self.with_fd(|fd| write(fd, bytes))
    }
}
