//! poold's processes: which of them this one is.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use poold::cli::{Cli, Command, SupervisorOptions, WorkerOptions};
use poold::config::Config;
use poold::supervisor::{self, End, Failure};
use poold::{guardian, startup, worker};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => startup::run(cli.options),
        Some(Command::Supervisor(options)) => supervise(options),
        Some(Command::Worker(WorkerOptions { name: _, nofile, cgroup, program_stdio, outer_proc })) => {
            let program_stdio = program_stdio.and_then(|stdio| stdio.try_into().ok());
            worker::run(worker::Options { nofile, group: cgroup, outer_proc, program_stdio })
                .map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        // Where nobody can be told, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "poold: {error:#}");
        ExitCode::FAILURE
    })
}

fn supervise(options: SupervisorOptions) -> anyhow::Result<ExitCode> {
    let config = match &options.config {
        Some(path) => Config::read(path, options.config_optional)?,
        None => Config::default(),
    };
    startup::log_to_stderr(options.log.unwrap_or(config.log));
    let inherited = guardian::inherited(&options)?;
    match supervisor::run(options, config, inherited) {
        Ok(End::Orderly) => Ok(ExitCode::SUCCESS),
        Ok(End::Orphaned) => Ok(ExitCode::FAILURE),
        Err(Failure::Start(error)) => {
            tracing::error!("cannot start: {error:#}");
            Ok(ExitCode::from(guardian::FATAL_EXIT))
        }
        Err(Failure::Unwritten(error)) => {
            tracing::error!("{error:#}");
            Ok(ExitCode::from(guardian::UNWRITTEN_EXIT))
        }
        Err(Failure::Running(error)) => {
            tracing::error!("{error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}
