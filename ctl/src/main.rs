//! poolctl submits jobs to poold, waits for them and shows them. It is a client of the protocol like any
//! other.
//!
//! Each folder knows only folders before it; the test in `directions.rs` holds that:
//!
//! * [`exit`], [`term`]: how poolctl ends, and what reaches the terminal;
//! * [`cli`]: what the verbs' command lines share;
//! * [`tell`]: what is said of an outcome, a record, a pool, an event;
//! * [`compose`]: from options to a job of the protocol;
//! * [`link`]: the way to poold, over its restarts;
//! * [`follow`]: a job's output and end, as they come;
//! * [`verbs`]: one file for each verb.

/// Prints a line on stderr. The macro of the standard library panics if stderr takes nothing, because its disk
/// is full or its reader has gone; that must not keep poolctl from its work or change its exit code.
macro_rules! eprintln {
    ($($text:tt)*) => {
        _ = std::io::Write::write_all(&mut std::io::stderr(), (format!($($text)*) + "\n").as_bytes())
    };
}

mod exit;
mod term;

mod cli;

mod tell;

mod compose;

mod link;

mod follow;

mod verbs;

#[cfg(test)]
mod directions;

use std::process::ExitCode;

use crate::cli::{UsageError, fault};
use crate::exit::ExitReason;
use crate::term::text::{CANNOT_WRITE, Untold, is_broken_pipe, printable};
use crate::verbs::Cli;
use anyhow::Context;
use clap::Parser;
use pool_proto::ClientError;

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(fault) => explain(&fault),
    };
    done.unwrap_or_else(|error| report(&error)).into()
}

/// Prints what clap has to say: help, the version, or what is wrong with the command line.
fn explain(fault: &clap::Error) -> anyhow::Result<ExitReason> {
    if let Some(sentence) = fault::sentence(fault) {
        eprintln!("poolctl: {}", printable(&sentence, usize::MAX));
        return Ok(ExitReason::Usage);
    }

    let printed = fault.print();
    if fault.use_stderr() {
        return Ok(ExitReason::Usage);
    }
    printed.context(CANNOT_WRITE)?;
    Ok(ExitReason::Success)
}

/// Prints the error, once, and picks the exit code.
fn report(error: &anyhow::Error) -> ExitReason {
    // The reader of our output has gone. That is no error that a user needs to see, unless something was done
    // that only this output would have told.
    if is_broken_pipe(error) {
        return ExitReason::BrokenPipe;
    }

    eprintln!("poolctl: {error:#}");
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
