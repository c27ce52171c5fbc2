//! poolctl submits jobs to poold, waits for them and shows them. It is a client of the protocol like any
//! other.
//!
//! Each folder knows only folders before it; the test in `directions.rs` holds that:
//!
//! * [`entry`]: how the process begins and ends;
//! * [`exit`], [`term`]: how poolctl ends, and what reaches the terminal;
//! * [`help`]: what poolctl says about itself;
//! * [`cli`]: what the verbs' command lines share;
//! * [`tell`]: what is said of an outcome, a record, a pool, an event;
//! * [`compose`]: from options to a job of the protocol;
//! * [`link`]: the way to poold, over its restarts;
//! * [`follow`]: a job's output and end, as they come;
//! * [`verbs`]: one file for each verb.

#![cfg_attr(not(test), no_main)]

#[cfg(not(test))]
mod entry;

mod exit;
mod term;

mod cli;

mod help;

mod tell;

mod compose;

mod link;

mod follow;

mod verbs;

#[cfg(test)]
mod directions;

use std::ffi::OsString;
use std::thread;

use crate::cli::{UsageError, fault};
use crate::exit::ExitReason;
use crate::term::text::{CANNOT_WRITE, Untold, is_broken_pipe, say};
use crate::verbs::Cli;
use anyhow::Context;
#[cfg(not(test))]
use nix::libc::{c_char, c_int};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, SigmaskHow};
use pool_proto::ClientError;
use pool_proto::terminal::shown_arguments;

/// The stack that poolctl needs, with a margin: to read a command line takes most of it.
const STACK: u64 = 1 << 20;

/// The C library calls this. The standard library has the arguments from elsewhere.
// SAFETY: no other function of this program has this name, and it is called as C's `main`.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    entry::enter(|| run().code())
}

/// Does what the command line says.
#[cfg_attr(test, expect(dead_code, reason = "the tests have an entry of their own"))]
fn run() -> ExitReason {
    // Nearly always the limit is well above that (`ulimit -s`), and no thread is needed.
    match getrlimit(Resource::RLIMIT_STACK) {
        Ok((soft, _)) if soft < STACK => on_a_large_stack(),
        Ok(_) | Err(_) => act(),
    }
}

/// Does all on a thread with a stack of its own size. Signals are for that thread: this one takes none.
fn on_a_large_stack() -> ExitReason {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let thread = thread::Builder::new().stack_size(STACK as usize).spawn(move || {
        // The mask is that from before, so the call cannot fail.
        _ = before.map(|before| before.thread_set_mask());
        act()
    });
    match thread {
        // A panic has been told by the thread.
        Ok(thread) => thread.join().unwrap_or(ExitReason::Failed),
        Err(error) => {
            say(format_args!(
                "the limit of the stack is too small, and no other can be had: {error}; \
                 `ulimit -s 1024` raises it"
            ));
            ExitReason::Failed
        }
    }
}

fn act() -> ExitReason {
    let done = match Cli::read() {
        Ok(cli) => cli.run(),
        Err(fault) => explain(&fault),
    };
    done.unwrap_or_else(|error| report(&error))
}

/// Prints what clap has to say: help, the version, or what is wrong with the command line.
fn explain(fault: &clap::Error) -> anyhow::Result<ExitReason> {
    if let Some(sentence) = fault::sentence(fault) {
        say(sentence);
        return Ok(ExitReason::Usage);
    }

    if fault.use_stderr() {
        print_shown(fault);
        return Ok(ExitReason::Usage);
    }
    fault.print().context(CANNOT_WRITE)?;
    Ok(ExitReason::Success)
}

/// A message about an argument repeats it, and it may hold what a terminal is not to get.
fn print_shown(fault: &clap::Error) {
    let shown = shown_arguments().map(|words| words.into_iter().map(OsString::from).collect::<Vec<_>>());
    let printed = match shown.map(|words| Cli::read_among_all(&words)) {
        None => fault.print(),
        Some(Err(shown)) => shown.print(),
        // The escaped form is right where the argument itself is wrong.
        Some(Ok(_)) => {
            say(fault.to_string().trim_end());
            Ok(())
        }
    };
    // Without a stderr there is nobody to tell.
    _ = printed;
}

/// Prints the error, once, and picks the exit code.
fn report(error: &anyhow::Error) -> ExitReason {
    // The reader of our output has gone. That is no error that a user needs to see, unless something was done
    // that only this output would have told.
    if is_broken_pipe(error) {
        return ExitReason::BrokenPipe;
    }

    say(format_args!("{error:#}"));
    if error.is::<UsageError>() {
        return ExitReason::Usage;
    }
    if error.is::<Untold>() {
        return ExitReason::Untold;
    }
    match error.downcast_ref() {
        Some(ClientError::Refused(refusal)) if refusal.is_temporary() => ExitReason::RefusedForNow,
        Some(_) | None => ExitReason::Failed,
    }
}
