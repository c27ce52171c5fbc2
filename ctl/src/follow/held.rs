//! SIGINT and SIGTERM between the submission of a job and its acceptance. A poolctl that a signal ended there
//! would leave a job behind whose id nobody knows. So the signals are held back until poold has replied and
//! the reply has been acted on, and take effect then.
//!
//! A poold that hangs, or a reader who does not read, must not make poolctl deaf: once a signal has come,
//! either has [`PATIENCE`] left.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pool_proto::{Client, ClientError, Method};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::interrupt::is_ignored;
use crate::link::connect::{Link, RECONNECT};
use crate::link::deadline::Deadline;
use crate::link::homecoming::Homecoming;
use crate::term::stream::{PIPE_BUF, Stream};
use crate::term::text::{CANNOT_WRITE, say};

/// How long poold may take for its reply, and a reader for what is printed, after a signal has come.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module's description. Dropping it lets the signals take effect.
#[derive(Debug)]
pub struct HeldSignals {
    before: SigSet,
    /// Readable once a signal has come.
    pending: SignalFd,
    /// When the patience is over: no deadline as long as no signal has come.
    give_up: Cell<Deadline>,
}

impl HeldSignals {
    /// Holds the signals back from now on. A signal that was ignored when poolctl started stays ignored.
    ///
    /// # Errors
    /// Those of sigaction(2), sigprocmask(2) and signalfd(2).
    pub fn hold() -> anyhow::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [SIGINT, SIGTERM] {
            if !is_ignored(signal)? {
                signals.add(Signal::try_from(signal)?);
            }
        }

        let pending = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("cannot hold signals")?;
        let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { before, pending, give_up: Cell::new(Deadline::NEVER) })
    }

    /// The descriptor that becomes readable with a signal. None once a signal has been noticed: from then on
    /// [`due`](Self::due) counts.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        (self.give_up.get() == Deadline::NEVER).then(|| self.pending.as_fd())
    }

    /// When the patience is over.
    pub fn due(&self) -> Deadline {
        self.give_up.get()
    }

    /// Looks whether a signal has come. Does not return if the patience is over: `waited_for` says for what
    /// poolctl has waited in vain, and the signal ends poolctl.
    pub fn look(&self, waited_for: &str) {
        if self.has_come() && self.due().is_over() {
            self.end(waited_for);
        }
    }

    /// Whether a signal has come. From then on the patience runs.
    pub fn has_come(&self) -> bool {
        if let Some(fd) = self.fd()
            && poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 0_u8).is_ok_and(|count| count > 0)
        {
            self.give_up.set(Deadline::after(PATIENCE));
        }
        self.due() != Deadline::NEVER
    }

    /// Says what poolctl has waited for, and lets the signal end poolctl.
    fn end(&self, waited_for: &str) {
        say(waited_for);
        self.let_go();
    }

    /// Holds the signals back until poolctl ends, which is soon: what they were meant for is over.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    fn let_go(&self) {
        // The mask is that from before, so the call cannot fail.
        let _ = self.before.thread_set_mask();
    }

    /// Sends a request, and waits for its one reply.
    ///
    /// # Errors
    /// Those of [`Client::request`].
    pub fn request<M: Method>(&self, client: &mut Client, request: &M) -> Result<M::Reply, ClientError> {
        client.send(request, false)?;
        loop {
            if let Some((reply, _)) = client.next_reply::<M>()? {
                return Ok(reply);
            }

            self.wait(Some((client.as_fd(), PollFlags::POLLIN)), Deadline::NEVER, UNANSWERED);
            if !client.fill()? {
                return Err(ClientError::Disconnected(None));
            }
        }
    }

    /// Connects again after the connection was lost before the reply came.
    ///
    /// # Errors
    /// When poold has not come back in time.
    pub fn reconnect(&self, link: &Link) -> anyhow::Result<Client> {
        let mut homecoming = Homecoming::awaited(RECONNECT);
        loop {
            if let Some(client) = homecoming.look(link)? {
                return Ok(client);
            }
            self.wait(None, homecoming.due(), UNANSWERED);
        }
    }

    /// Prints a text. `otherwise` is printed on stderr in its place if a signal has come and nobody reads our
    /// stdout.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn print(&self, text: &str, otherwise: &str) -> anyhow::Result<()> {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            let end = bytes.len().min(PIPE_BUF);
            match Stream::Stdout.write_if_ready(&bytes[..end]) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EAGAIN) => Stream::Stdout.with_fd(|fd| {
                    self.wait(Some((fd, PollFlags::POLLOUT)), Deadline::NEVER, otherwise);
                }),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(std::io::Error::from(error)).context(CANNOT_WRITE),
            }
        }
        Ok(())
    }

    /// Waits until the descriptor is ready or the time has come. Does not return if the patience is over.
    fn wait(&self, awaited: Option<(BorrowedFd<'_>, PollFlags)>, until: Deadline, waited_for: &str) {
        loop {
            let mut fds: Vec<PollFd<'_>> =
                awaited.iter().map(|&(fd, flags)| PollFd::new(fd, flags)).collect();
            fds.extend(self.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));

            // An error of poll(2) shows again where the descriptor is used.
            let polled = poll(&mut fds, until.or(self.due()).poll_timeout());
            let is_ready = awaited.is_some() && fds[0].any().unwrap_or(false);
            if is_ready || until.is_over() || polled.is_err_and(|error| error != Errno::EINTR) {
                return;
            }
            self.look(waited_for);
        }
    }
}

/// What is printed when poold has not replied to a submission.
pub const UNANSWERED: &str =
    "poold does not answer: it is not known whether the job was accepted; `poolctl ls` tells";

impl Drop for HeldSignals {
    fn drop(&mut self) {
        self.let_go();
    }
}
