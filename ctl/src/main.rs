//! poolctl: submits jobs to poold, waits for them, shows them. A client of the protocol like any other.
//!
//! Exit codes: the job's own where there is one to pass on (see [`outcome`]); 124 when a time was up; 125 when poolctl or poold failed;
//! 75 when poold refuses for now; 2 for a wrong command line.

mod admin;
mod backup;
mod bulk;
mod call;
mod cli;
mod connect;
mod doctor;
mod events;
mod follow;
mod interrupt;
mod list;
mod map;
mod outcome;
mod pool;
mod print;
mod progress_lines;
mod show;
mod submit;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, PoolVerb, Verb};
use connect::Link;
use pool_proto::ClientError;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let link = Link::new(cli.socket, cli.no_start);
    let json = cli.json;
    let result = match cli.verb {
        Verb::Submit(options) => submit::run(&link, options, json),
        Verb::Run(mut options) => {
            options.wait = true;
            submit::run(&link, options, json)
        }
        Verb::Map(options) => map::run(&link, options, json),
        Verb::Call(options) => call::run(&link, &options, json),
        Verb::Wait(options) => wait::run(&link, &options, json),
        Verb::Show { id } => show::run(&link, id, json),
        Verb::Ls(options) => list::run(&link, options, json),
        Verb::Logs(options) => show::logs(&link, &options),
        Verb::Cancel { ids } => admin::cancel(&link, &ids, json),
        Verb::Release { ids } => admin::release(&link, &ids),
        Verb::Pool { verb: PoolVerb::Ls } => pool::list(&link, json),
        Verb::Pool { verb: PoolVerb::Add(options) } => pool::add(&link, options),
        Verb::Pool { verb: PoolVerb::Rm { name } } => pool::remove(&link, name),
        Verb::Backup { file } => backup::run(&link, &file, json),
        Verb::Events(options) => events::run(&link, &options, json),
        Verb::Doctor(options) => doctor::run(&link, &options, json),
        Verb::Ping => admin::ping(&link, json),
        Verb::Shutdown { drain: _, now } => admin::shutdown(&link, now),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => report(&error),
    }
}

/// Says what went wrong, once, and picks the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(usage) = error.downcast_ref::<cli::UsageError>() {
        eprintln!("poolctl: {usage}");
        return ExitCode::from(outcome::USAGE);
    }
    if print::is_broken_pipe(error) {
        // Whoever read our output has had enough of it.
        return ExitCode::from(outcome::BROKEN_PIPE);
    }
    eprintln!("poolctl: {error:#}");
    let temporary =
        matches!(error.downcast_ref(), Some(ClientError::Refused(refusal)) if refusal.is_temporary());
    ExitCode::from(if temporary { outcome::REFUSED_FOR_NOW } else { outcome::FAILED })
}
