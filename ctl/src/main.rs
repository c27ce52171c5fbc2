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

use crate::cli::UsageError;
use crate::exit::ExitReason;
use crate::term::text::is_broken_pipe;
use crate::verbs::Cli;
use clap::Parser;
use pool_proto::ClientError;

fn main() -> ExitCode {
    Cli::parse().run().unwrap_or_else(|error| report(&error)).into()
}

/// Prints the error, once, and picks the exit code.
fn report(error: &anyhow::Error) -> ExitReason {
    // The reader of our output has gone. That is no error that a user needs to see.
    if is_broken_pipe(error) {
        return ExitReason::BrokenPipe;
    }

    eprintln!("poolctl: {error:#}");
    if error.is::<UsageError>() {
        return ExitReason::Usage;
    }
    match error.downcast_ref() {
        Some(ClientError::Refused(refusal)) if refusal.is_temporary() => ExitReason::RefusedForNow,
        Some(_) | None => ExitReason::Failed,
    }
}
