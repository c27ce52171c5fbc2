//! Signals to a poolctl that waits for a job:
//!
//! | poolctl gets | the job |
//! |---|---|
//! | SIGINT (Ctrl-C) | gets SIGINT; a job that still waits for a slot is canceled |
//! | a second SIGINT within two seconds | is canceled: SIGTERM, its grace, SIGKILL |
//! | SIGTERM | gets SIGTERM; a job that still waits for a slot is canceled |
//! | one of these while poold is away | gets it when poold is back; a second signal ends poolctl at once |
//! | no more reader of its output | gets SIGPIPE; is canceled if it goes on writing all the same |
//! | SIGHUP, SIGKILL, any other end | goes on, or with `--on-disconnect cancel` is canceled |
//!
//! Except for the last row, and for a second signal while poold is away, poolctl goes on waiting, and exits
//! as the job does. Between the submission and its acceptance signals are held back (see
//! [`HeldSignals`](super::held::HeldSignals)). After the job has ended they have their default effect.
//!
//! poolctl takes over the signals in two steps, so that a short job does not pay for a thread. First the
//! signals are only noted. Later, threads of their own act on them, even if the rest of poolctl is blocked.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pool_proto::methods::{self, Cancel};
use pool_proto::{Client, ClientError, Refusal, State};
use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, pipe};

use crate::link::connect::{Link, RECONNECT};
use crate::link::homecoming::Homecoming;
use crate::term::text::say;

const TWICE_WITHIN: Duration = Duration::from_secs(2);

/// The signals of one job's waiter.
#[derive(Debug)]
pub struct Interrupts {
    /// What is noted, until the threads take it.
    noted: Option<Noted>,
}

#[derive(Debug)]
struct Noted {
    id: u64,
    link: Link,
    /// One stream for each signal: it gets one byte each time the signal comes.
    streams: [(i32, UnixStream); 2],
}

impl Interrupts {
    /// Notes SIGINT and SIGTERM from now on. A signal that was ignored when poolctl started stays ignored.
    ///
    /// # Errors
    /// Those of sigaction(2) and socketpair(2).
    pub fn of_job(id: u64, link: &Link) -> anyhow::Result<Self> {
        let note = |signal| note(signal).with_context(|| format!("cannot handle signal {signal}"));
        let streams = [(SIGINT, note(SIGINT)?), (SIGTERM, note(SIGTERM)?)];
        Ok(Self { noted: Some(Noted { id, link: link.clone(), streams }) })
    }

    /// Whether the signals are noted, and no thread acts on them yet.
    pub fn are_only_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// Acts on the signals from now on, on threads that end with poolctl.
    pub fn attend(&mut self) {
        let Some(Noted { id, link, streams }) = self.noted.take() else { return };
        for (signal, noted) in streams {
            let link = link.clone();
            thread::spawn(move || attend(signal, noted, id, &link));
        }
    }
}

/// Notes a signal from now on: the stream gets one byte each time the signal comes. A signal that was ignored
/// when poolctl started stays ignored, and then the stream is at its end.
///
/// # Errors
/// Those of sigaction(2) and socketpair(2).
pub fn note(signal: i32) -> anyhow::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    // A signal that comes after the handler is set and before its action is registered would be lost. So the
    // signal is blocked until both are in place.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::try_from(signal)?);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;

    let registered = is_ignored(signal)
        .and_then(|ignored| if ignored { Ok(()) } else { Ok(_ = pipe::register(signal, write)?) });

    before.thread_set_mask()?;
    registered?;
    Ok(read)
}

/// Whether the signal is ignored. A shell does that for commands in the background.
///
/// # Errors
/// Those of sigaction(2).
pub fn is_ignored(signal: i32) -> anyhow::Result<bool> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is changed without a new action, and the old one has room.
    Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, so it is written.
    Ok(unsafe { old.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

/// Passes on each signal that comes.
fn attend(signal: i32, mut noted: UnixStream, id: u64, link: &Link) {
    let mut last: Option<Instant> = None;
    let mut buffer = [0; 64];
    while noted.read(&mut buffer).is_ok_and(|count| count > 0) {
        let twice = last.replace(Instant::now()).is_some_and(|last| last.elapsed() < TWICE_WITHIN);
        let result = reach(signal, &noted, id, link).and_then(|client| {
            if twice && signal == SIGINT { cancel(id, client) } else { forward(signal, id, client) }
        });
        if let Err(error) = result {
            say(format_args!("the signal cannot be passed on to job {id}: {error:#}"));
        }
    }
}

/// Connects to poold, and waits while poold is away. A second signal then has its default effect: the user
/// does not want to wait for poold.
fn reach(signal: i32, noted: &UnixStream, id: u64, link: &Link) -> anyhow::Result<Client> {
    let mut homecoming = Homecoming::awaited(RECONNECT);
    let mut is_told = false;
    loop {
        if let Some(client) = homecoming.look(link)? {
            return Ok(client);
        }

        if !std::mem::replace(&mut is_told, true) {
            say(format_args!(
                "poold is away; job {id} is told when it is back; a second signal ends \
                 poolctl at once"
            ));
        }
        let timeout = homecoming.due().poll_timeout();
        match poll(&mut [PollFd::new(noted.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => emulate_default_handler(signal)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn forward(signal: i32, id: u64, mut client: Client) -> anyhow::Result<()> {
    match client.request(&methods::Signal { id, signal }) {
        Ok(_) => Ok(()),
        // The job has ended, and only poolctl is left: nobody reads its output. The signal ends poolctl.
        Err(ClientError::Refused(Refusal::NotRunning { state, .. }))
            if State::parse(&state).is_some_and(State::is_terminal) =>
        {
            Ok(emulate_default_handler(signal)?)
        }
        Err(ClientError::Refused(Refusal::NotRunning { .. })) => cancel(id, client),
        Err(error) => Err(error.into()),
    }
}

/// Sends the job SIGPIPE, on a thread that ends with poolctl.
pub fn break_pipe(id: u64, link: &Link) {
    let link = link.clone();
    thread::spawn(move || {
        // The job or poold may have ended meanwhile. Then nobody needs the signal.
        let _ = link.reconnect().map(|mut client| client.request(&methods::Signal { id, signal: SIGPIPE }));
    });
}

/// Cancels the job, on a thread that ends with poolctl.
pub fn cancel_unheard(id: u64, link: &Link) {
    let link = link.clone();
    thread::spawn(move || {
        // As above.
        let _ = link.reconnect().map(|client| cancel(id, client));
    });
}

/// Cancels the job. The reply comes when the job has ended, which poolctl waits for anyway.
fn cancel(id: u64, mut client: Client) -> anyhow::Result<()> {
    client.send(&Cancel { ids: vec![id], ..Cancel::default() }, false)?;
    thread::spawn(move || client.receive::<Cancel>());
    Ok(())
}
