//! What is typed here goes to the job that is followed: a thread that ends with poolctl. Each attempt has an
//! input of its own, which is opened when the attempt has started.
//!
//! With a job at a terminal, ours gives each key as it is typed, but for the one that leaves the job; the
//! job's terminal gets the size of ours, and follows it.

use std::fs::File;
use std::io::{Read, Write, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use pool_proto::methods::{CloseInput, OpenInput, Resize};
use pool_proto::nouns::{Input, OnDisconnect};
use pool_proto::{Client, ClientError, Refusal};
use signal_hook::consts::{SIGHUP, SIGTERM, SIGWINCH};
use signal_hook::low_level::{emulate_default_handler, pipe};

use super::place::Place;
use crate::link::connect::Link;
use crate::term::raw;
use crate::term::text::say;

/// Ctrl-\ leaves the job, unless another key is to.
pub const DETACH: u8 = 0x1c;

/// The end of what is typed at a terminal: Ctrl-D.
pub const END: u8 = 0x04;

/// So much that the job has not read is kept, in bytes; what is typed beyond that is lost.
const KEPT: usize = 64 * 1024;

/// What a job prints is shown so much later at most, since its input is opened first.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug)]
pub struct Typist {
    started: Sender<u64>,
    wake: UnixStream,
    opened: Receiver<()>,
}

impl Typist {
    /// Starts the thread. `detach`: the key that leaves the job.
    ///
    /// # Errors
    /// Where there are no descriptors.
    pub fn start(link: &Link, detach: u8, place: Place) -> anyhow::Result<Self> {
        let none = "cannot pass on what is typed";
        let ((started, attempts), (open, opened)) = (channel(), channel());
        let (wake, woken) = UnixStream::pair().context(none)?;
        let (resized, resizing) = UnixStream::pair().context(none)?;
        let (ended, ending) = UnixStream::pair().context(none)?;
        pipe::register(SIGWINCH, resizing).context(none)?;
        // A job that was started here gets the signal; there it comes to an end that is waited for.
        if place == Place::Onlooker {
            for signal in [SIGTERM, SIGHUP] {
                pipe::register(signal, ending.try_clone().context(none)?).context(none)?;
            }
        }
        let (link, has_keys) = (link.clone(), raw::has_keys());
        let job = None;
        let signals = [resized, ended];
        let is_over = false;
        let typing = Typing { link, detach, place, has_keys, attempts, open, woken, signals, job, is_over };
        thread::spawn(move || {
            typing.pass_on();
            drop(ending);
        });
        Ok(Self { started, wake, opened })
    }

    /// An attempt of the job has started. What is typed from now on is the job's, unless poold lets us wait.
    pub fn started(&self, id: u64) {
        // The thread ends only with poolctl.
        let _ = self.started.send(id);
        let _ = (&self.wake).write(&[0]);
        let _ = self.opened.recv_timeout(PATIENCE);
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        raw::leave();
    }
}

/// The thread.
struct Typing {
    link: Link,
    detach: u8,
    place: Place,
    /// Keys are typed at a terminal.
    has_keys: bool,
    attempts: Receiver<u64>,
    /// Told when the input of an attempt was opened, or cannot be.
    open: Sender<()>,
    woken: UnixStream,
    /// Readable when the terminal has got another size, and when poolctl is to end.
    signals: [UnixStream; 2],
    job: Option<Job>,
    /// Nothing more is typed.
    is_over: bool,
}

/// The attempt that takes what is typed.
struct Job {
    id: u64,
    input: Input,
    pipe: File,
    pending: Vec<u8>,
}

impl Typing {
    fn pass_on(mut self) {
        loop {
            let Ok([woken, resized, ended, typed, taken]) = self.wait() else { return };
            if ended {
                raw::leave();
                // It does not come back.
                let _ = emulate_default_handler(SIGTERM);
            }
            if woken && !drain(&self.woken) {
                return; // The job has ended.
            }
            if woken {
                while let Ok(id) = self.attempts.try_recv() {
                    self.open_for(id);
                    let _ = self.open.send(());
                }
            }
            if resized {
                drain(&self.signals[0]);
                self.resize(false);
            }
            if typed {
                self.on_typed();
            }
            if (typed || taken) && self.job.as_mut().is_some_and(|job| !job.write()) {
                self.job = None;
            }
        }
    }

    fn wait(&self) -> nix::Result<[bool; 5]> {
        let stdin = stdin();
        let none = (self.woken.as_fd(), PollFlags::empty());
        let pending = self.job.as_ref().filter(|job| !job.pending.is_empty());
        // Keys are always looked at, for the one that leaves the job.
        let is_read = !self.is_over && self.job.is_some() && (self.has_keys || pending.is_none());
        let mut ready = [
            (self.woken.as_fd(), PollFlags::POLLIN),
            (self.signals[0].as_fd(), PollFlags::POLLIN),
            (self.signals[1].as_fd(), PollFlags::POLLIN),
            if is_read { (stdin.as_fd(), PollFlags::POLLIN) } else { none },
            pending.map_or(none, |job| (job.pipe.as_fd(), PollFlags::POLLOUT)),
        ]
        .map(|(fd, flags)| PollFd::new(fd, flags));
        loop {
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(ready.map(|fd| fd.any().unwrap_or(false))),
            }
        }
    }

    /// Opens the input of an attempt that has started.
    fn open_for(&mut self, id: u64) {
        self.job = None;
        let opened = self.link.reconnect().and_then(|mut client| Ok(open_input(&mut client, id)?));
        let (input, pipe) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // One that has ended already takes none, and its end is told.
                if matches!(error.downcast_ref(), Some(ClientError::Refused(Refusal::NoInput { .. }))) {
                    say(format_args!("{error:#}; here is what it prints"));
                }
                return;
            }
        };
        // What cannot be written at once is waited for beside the rest.
        let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        self.job = Some(Job { id, input, pipe: pipe.into(), pending: Vec::new() });
        if input == Input::Terminal {
            self.resize(self.place == Place::Onlooker);
            if self.has_keys
                && let Err(error) = raw::enter()
            {
                say(format_args!("{error:#}"));
            }
        }
        if self.is_over {
            self.end_input();
        }
    }

    /// The job's terminal gets the size of ours. `anew`: it is to draw its screen, even where the size is
    /// that already.
    fn resize(&mut self, anew: bool) {
        let Some(Job { id, input: Input::Terminal, .. }) = self.job else { return };
        let Some((rows, columns)) = raw::size() else { return };
        // Where poold is away, the next attempt gets its size.
        let Ok(mut client) = self.link.open() else { return };
        if anew {
            let _ = client.request(&Resize { id, rows: (rows - 1).max(1), columns });
        }
        let _ = client.request(&Resize { id, rows, columns });
    }

    fn on_typed(&mut self) {
        let mut typed = [0; 16 * 1024];
        let count = match read(stdin(), &mut typed) {
            Ok(0) => {
                self.is_over = true;
                return self.end_input();
            }
            Ok(count) => count,
            Err(Errno::EINTR | Errno::EAGAIN) => return,
            // A terminal that has gone types nothing more.
            Err(_) => {
                self.is_over = true;
                return;
            }
        };
        let typed = &typed[..count];
        let Some(job) = &mut self.job else { return };
        let is_raw = self.has_keys && job.input == Input::Terminal;
        let leaves = typed.iter().position(|&key| is_raw && key == self.detach);
        let typed = &typed[..leaves.unwrap_or(count)];
        if job.pending.len() + typed.len() <= KEPT {
            job.pending.extend_from_slice(typed);
        }
        if leaves.is_some() {
            job.write();
            self.leave(self.job.as_ref().map_or(0, |job| job.id));
        }
    }

    /// Nothing more is typed, and the job is to know; unless its terminal was ours, which has gone.
    fn end_input(&mut self) {
        let has_keys = self.has_keys;
        let Some(job) = &mut self.job else { return };
        match job.input {
            Input::Terminal if has_keys => {}
            Input::Terminal => job.pending.push(END),
            Input::Pipe => {
                // All of it is written first: there is nobody else to wait for.
                let _ = fcntl(&job.pipe, FcntlArg::F_SETFL(OFlag::empty()));
                job.write();
                let id = job.id;
                self.job = None;
                let _ = self.link.open().map(|mut client| client.request(&CloseInput { id }));
            }
        }
    }

    fn leave(&self, id: u64) -> ! {
        raw::leave();
        let fate = match self.place.on_disconnect() {
            OnDisconnect::Detach => format!("job {id} goes on: `poolctl attach {id}`"),
            OnDisconnect::Cancel => format!("job {id} is canceled"),
        };
        say(format_args!("left; {fate}"));
        exit(0);
    }
}

impl Job {
    /// Writes what is pending, as far as the job takes it. False where the job takes nothing any more.
    fn write(&mut self) -> bool {
        while !self.pending.is_empty() {
            match write(&self.pipe, &self.pending) {
                Ok(count) => _ = self.pending.drain(..count),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return false,
            }
        }
        true
    }
}

/// Opens the standard input of a running job.
///
/// # Errors
/// That the job does not run, or has no input that stays open.
pub fn open_input(client: &mut Client, id: u64) -> Result<(Input, OwnedFd), ClientError> {
    let opened = client.request(&OpenInput { id })?;
    Ok((opened.input, client.take_descriptor()?))
}

/// False at the end of the stream.
fn drain(mut stream: &UnixStream) -> bool {
    stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
}
