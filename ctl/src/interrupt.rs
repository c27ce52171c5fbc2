//! Signals to a poolctl that waits for a job:
//!
//! | poolctl gets | the job |
//! |---|---|
//! | SIGINT (Ctrl-C) | gets SIGINT; one that still waits for a slot is canceled |
//! | a second SIGINT within two seconds | is canceled: SIGTERM, its grace, SIGKILL |
//! | SIGTERM | gets SIGTERM; one that still waits for a slot is canceled |
//! | no more reader of its output | gets SIGPIPE |
//! | SIGHUP, SIGKILL, any other end | goes on, or with `--on-disconnect cancel` is canceled |
//!
//! In all but the last case poolctl goes on waiting, and exits as the job does. Before the job has been accepted, and once it has ended,
//! signals do what they always do.
//!
//! They are taken over in two steps, so that a short job does not pay for a thread: first they are only noted, then threads of their own
//! act on them, whatever the rest of poolctl is blocked by.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pool_proto::interface::{self, Cancel};
use pool_proto::{ClientError, Refusal, State};
use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, pipe};

use crate::connect::Link;

const TWICE_WITHIN: Duration = Duration::from_secs(2);

/// The signals of one job's waiter.
#[derive(Debug)]
pub struct Interrupts {
    /// Until threads read it.
    noted: Option<Noted>,
}

#[derive(Debug)]
struct Noted {
    id: u64,
    link: Link,
    /// Of each signal, a byte each time it comes.
    streams: [(i32, UnixStream); 2],
}

impl Interrupts {
    /// Notes SIGINT and SIGTERM from now on, but for one that whoever started us has had ignored.
    ///
    /// # Errors
    /// Those of sigaction(2) and socketpair(2).
    pub fn of_job(id: u64, link: &Link) -> anyhow::Result<Self> {
        let note = |signal| note(signal).with_context(|| format!("cannot handle signal {signal}"));
        let streams = [(SIGINT, note(SIGINT)?), (SIGTERM, note(SIGTERM)?)];
        Ok(Self { noted: Some(Noted { id, link: link.clone(), streams }) })
    }

    /// Whether nobody acts on them yet.
    pub fn are_only_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// Acts on them from now on, on threads that end with poolctl.
    pub fn attend(&mut self) {
        let Some(Noted { id, link, streams }) = self.noted.take() else { return };
        for (signal, noted) in streams {
            let link = link.clone();
            thread::spawn(move || attend(signal, noted, id, &link));
        }
    }
}

/// Notes a signal from now on, a byte each time it comes. One that whoever started us has had ignored stays so: then the stream is at its end.
///
/// # Errors
/// Those of sigaction(2) and socketpair(2).
pub fn note(signal: i32) -> anyhow::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    // One that comes between the handler and what it is to do would be lost: it waits until both are there.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::try_from(signal)?);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let registered = is_ignored(signal)
        .and_then(|ignored| if ignored { Ok(()) } else { Ok(_ = pipe::register(signal, write)?) });
    before.thread_set_mask()?;
    registered?;
    Ok(read)
}

/// As a shell does for what it runs in the background.
fn is_ignored(signal: i32) -> anyhow::Result<bool> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is changed without a new action, and the old one has room.
    Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, so it is written.
    Ok(unsafe { old.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

/// Passes signals on for as long as there are any to come.
fn attend(signal: i32, mut noted: UnixStream, id: u64, link: &Link) {
    let mut last: Option<Instant> = None;
    let mut buffer = [0; 64];
    while noted.read(&mut buffer).is_ok_and(|count| count > 0) {
        let twice = last.replace(Instant::now()).is_some_and(|last| last.elapsed() < TWICE_WITHIN);
        let result = if twice && signal == SIGINT { cancel(id, link) } else { forward(signal, id, link) };
        if let Err(error) = result {
            eprintln!("poolctl: the signal cannot be passed on to job {id}: {error:#}");
        }
    }
}

fn forward(signal: i32, id: u64, link: &Link) -> anyhow::Result<()> {
    match link.reconnect()?.call(&interface::Signal { id, signal }) {
        Ok(_) => Ok(()),
        // What is left is our own: output that nobody takes.
        Err(ClientError::Refused(Refusal::NotRunning { state, .. }))
            if State::parse(&state).is_some_and(State::is_terminal) =>
        {
            Ok(emulate_default_handler(signal)?)
        }
        Err(ClientError::Refused(Refusal::NotRunning { .. })) => cancel(id, link),
        Err(error) => Err(error.into()),
    }
}

/// Sends the job SIGPIPE, on a thread that ends with poolctl.
pub fn break_pipe(id: u64, link: &Link) {
    let link = link.clone();
    thread::spawn(move || {
        // It may have ended meanwhile, or poold; then there is nobody left to tell.
        let _ = link.reconnect().map(|mut client| client.call(&interface::Signal { id, signal: SIGPIPE }));
    });
}

/// Its reply comes when the job has ended, which is waited for anyway.
fn cancel(id: u64, link: &Link) -> anyhow::Result<()> {
    let mut client = link.reconnect()?;
    client.send(&Cancel { ids: vec![id] }, false)?;
    thread::spawn(move || client.receive::<Cancel>());
    Ok(())
}
