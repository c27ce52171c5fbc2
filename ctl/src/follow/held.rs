//! The signals that end poolctl from outside ([`HELD`]), between the submission of a job and its acceptance.
//! A poolctl that a signal ended there would leave a job behind whose id nobody knows. So the signals are
//! held back until poold has replied and the reply has been acted on, and take effect then.
//!
//! A poold that hangs, or a reader who does not read, must not make poolctl deaf: once a signal has come,
//! either has [`PATIENCE`] left.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pool_proto::{Client, ClientError, Method};

use super::interrupt::is_ignored;
use crate::link::connect::{Link, RECONNECT};
use crate::link::deadline::Deadline;
use crate::link::homecoming::Homecoming;
use crate::term::stream::{PIPE_BUF, Stream};
use crate::term::text::{CANNOT_WRITE, say};

/// How long poold may take for its reply, and a reader for what is printed, after a signal has come.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is held back: Ctrl-C, Ctrl-\, a terminal that goes away, and kill(1).
const HELD: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// See the module's description. Dropping it lets the signals take effect.
#[derive(Debug)]
pub struct HeldSignals {
    before: SigSet,
    /// Readable once a signal has come.
    pending: SignalFd,
    /// The first signal that has come.
    come: Cell<Option<Signal>>,
    /// When the patience is over: no deadline as long as no signal has come.
    give_up: Cell<Deadline>,
}

impl HeldSignals {
    /// Holds the signals back from now on. A signal that was ignored when poolctl started has no effect.
    ///
    /// # Errors
    /// Those of sigprocmask(2) and signalfd(2).
    pub fn hold() -> anyhow::Result<Self> {
        let signals = SigSet::from_iter(HELD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let pending = SignalFd::with_flags(&signals, flags).context("cannot hold signals")?;
        let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { before, pending, come: Cell::new(None), give_up: Cell::new(Deadline::NEVER) })
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
        if self.come.get().is_none()
            && let Some(signal) = self.take_first()
        {
            self.come.set(Some(signal));
            self.give_up.set(Deadline::after(PATIENCE));
        }
        self.come.get().is_some()
    }

    /// Whether a signal has come that ends poolctl alone: threads do not act on it (see
    /// [`interrupt`](super::interrupt)).
    pub fn ends_poolctl_alone(&self) -> bool {
        self.has_come() && matches!(self.come.get(), Some(Signal::SIGHUP | Signal::SIGQUIT))
    }

    /// The first signal that has come, which is held back further. A signal that is ignored comes here all
    /// the same while it is blocked, and is passed over. So nobody needs to ask for it before it comes.
    fn take_first(&self) -> Option<Signal> {
        // The descriptor does not block, and poolctl is its only reader: an error means that no signal is
        // there.
        while let Ok(Some(come)) = self.pending.read_signal() {
            let number = i32::try_from(come.ssi_signo).ok()?;
            if !is_ignored(number).unwrap_or(false) {
                let signal = Signal::try_from(number).ok()?;
                // Reading has taken the signal away. It is pending again, since it is blocked.
                raise(signal).ok()?;
                return Some(signal);
            }
        }
        None
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
