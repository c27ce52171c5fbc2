//! Signals to a poolctl that waits for a job:
//!
//! | poolctl gets | the job |
//! |---|---|
//! | SIGINT (Ctrl-C) | gets SIGINT; a job that still waits for a slot is canceled |
//! | a second SIGINT within two seconds | is canceled: SIGTERM, its grace, SIGKILL |
//! | SIGTERM | gets SIGTERM; a job that still waits for a slot is canceled |
//! | a third SIGINT, a second SIGTERM | goes on; poolctl ends at once |
//! | one of these while poold is away or does not answer | gets it when poold is back; a second one ends poolctl |
//! | the first SIGINT or SIGTERM, and the job is an array | is canceled as a whole, and poolctl exits with 128 + N |
//! | no more reader of its output | gets SIGPIPE; is canceled if it goes on writing all the same |
//! | SIGHUP, SIGQUIT, SIGKILL, any other end | goes on, or with `--on-disconnect cancel` is canceled |
//!
//! A job that poolctl has joined (`--if-exists join`) is somebody else's: any of these ends poolctl, and the
//! job goes on.
//!
//! Except for the last row, and where the table says that it ends, poolctl goes on waiting, and exits as the
//! job does. Between the submission and its acceptance signals are held back (see
//! [`HeldSignals`](super::held::HeldSignals)), and for some milliseconds more, so that a short job does not
//! pay for handlers and threads; one that comes before its end is too late for it. Then threads of their own
//! act on the signals, even if the rest of poolctl is blocked.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pool_proto::methods::{self, Cancel};
use pool_proto::{Client, ClientError, Refusal, State};
use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, pipe};

use crate::link::connect::{Link, RECONNECT};
use crate::link::deadline::Deadline;
use crate::link::homecoming::Homecoming;
use crate::term::text::say;

const TWICE_WITHIN: Duration = Duration::from_secs(2);

/// So many signals end poolctl, whatever becomes of the job: its end may never be told.
const MOST_INTERRUPTS: usize = 3;
const MOST_TERMINATIONS: usize = 2;

/// Signals before such a pause do not count: a job may take each as a command of its own.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// If poold has not taken a signal after this time, poolctl says so.
const UNANSWERED: Duration = Duration::from_secs(1);

/// The signal for which an array was canceled; 0 before.
static CANCELED_FOR: AtomicI32 = AtomicI32::new(0);

/// The signal for which the array was canceled that poolctl has submitted.
pub fn canceled_for() -> Option<i32> {
    Some(CANCELED_FOR.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// Acts on SIGINT and SIGTERM from now on, on threads that end with poolctl. A signal that was ignored when
/// poolctl started stays ignored. A guest leaves at the first signal: the job is somebody else's. An array is
/// canceled at the first one: the signal would reach those of its elements that run just now, and the next
/// ones would follow them.
///
/// # Errors
/// Those of sigaction(2) and socketpair(2).
pub fn attend(id: u64, is_guest: bool, is_array: bool, link: &Link) -> anyhow::Result<()> {
    for (signal, most) in [(SIGINT, MOST_INTERRUPTS), (SIGTERM, MOST_TERMINATIONS)] {
        let most = if is_guest { 1 } else { most };
        let noted = note(signal).with_context(|| format!("cannot handle signal {signal}"))?;
        let link = link.clone();
        thread::spawn(move || attend_to(signal, most, noted, id, is_array, &link));
    }
    Ok(())
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

/// Passes on each signal that comes. The deeds have threads of their own: poold may be stopped, or the job's
/// end may not be written, and the next signal is heard all the same.
fn attend_to(signal: i32, most: usize, mut noted: UnixStream, id: u64, is_array: bool, link: &Link) {
    let (mut last, mut count) = (None::<Instant>, 0);
    let unheard = Arc::new(AtomicBool::new(false));
    let mut buffer = [0; 64];
    while let Ok(come @ 1..) = noted.read(&mut buffer) {
        let since = last.replace(Instant::now()).map(|last| last.elapsed());
        if since.is_some_and(|since| since > FORGOTTEN_AFTER) {
            count = 0;
        }
        count += come;
        if count >= most || (count > 1 && unheard.load(Ordering::Relaxed)) {
            say(format_args!("poolctl leaves; job {id} goes on until it ends"));
            let _ = emulate_default_handler(signal);
        }

        let is_twice = come > 1 || since.is_some_and(|since| since < TWICE_WITHIN);
        let (link, unheard) = (link.clone(), unheard.clone());
        if is_array {
            CANCELED_FOR.store(signal, Ordering::Relaxed);
        }
        let cancels = is_array || is_twice && signal == SIGINT;
        thread::spawn(move || pass_on(signal, cancels, id, link, &unheard));
    }
}

/// Passes one signal on. Says so if that takes long.
fn pass_on(signal: i32, cancels: bool, id: u64, link: Link, unheard: &Arc<AtomicBool>) {
    let deed = {
        let unheard = unheard.clone();
        move || {
            let result = reach(id, &link, &unheard)
                .and_then(|client| if cancels { cancel(id, client) } else { forward(signal, id, client) });
            if let Err(error) = result {
                say(format_args!("the signal cannot be passed on to job {id}: {error:#}"));
            }
            unheard.store(false, Ordering::Relaxed);
        }
    };
    if Deadline::after(UNANSWERED).bound(deed).is_err() {
        say_unheard(id, "does not answer", unheard);
    }
}

/// Says once that poold has not taken the signal. The next signal then ends poolctl: the user does not want
/// to wait for poold.
fn say_unheard(id: u64, how: &str, unheard: &AtomicBool) {
    if !unheard.swap(true, Ordering::Relaxed) {
        say(format_args!(
            "poold {how}; job {id} is told when it is back; a second signal ends poolctl at once"
        ));
    }
}

/// Connects to poold, and waits while poold is away.
fn reach(id: u64, link: &Link, unheard: &AtomicBool) -> anyhow::Result<Client> {
    let mut homecoming = Homecoming::awaited(RECONNECT);
    loop {
        if let Some(client) = homecoming.look(link)? {
            return Ok(client);
        }
        say_unheard(id, "is away", unheard);
        thread::sleep(homecoming.due().left().unwrap_or_default());
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
