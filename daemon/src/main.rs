//! poold's processes: which of them this one is.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use pool_proto::terminal::{printable_lines, shown_arguments};
use poold::kernel;
use poold::shell::{self, Failure, SupervisorEnd};
use poold::start::cli::{CommandLine, Role, SupervisorOptions, WorkerOptions};
use poold::start::{self, Readiness, guardian, handover, last_good};
use poold::worker;

fn main() -> ExitCode {
    let line = CommandLine::try_parse().unwrap_or_else(|error| {
        // A message about an argument repeats it.
        let shown = shown_arguments().and_then(|arguments| CommandLine::try_parse_from(arguments).err());
        shown.unwrap_or(error).exit()
    });
    kernel::ignore_file_size_signal();
    // SAFETY, of all three: this process has read its command line. It has one thread, has opened nothing,
    // and no descriptor that was passed to it has an owner yet.
    let result = match line.role {
        // SAFETY: see above.
        None => unsafe { start::run(line.options) },
        // SAFETY: see above.
        Some(Role::Supervisor(options)) => unsafe { supervise(options) },
        Some(Role::Worker(WorkerOptions {
            name: _,
            nofile,
            output,
            cgroup,
            program_stdio,
            announcements,
        })) => {
            let program_stdio = program_stdio.and_then(|stdio| stdio.try_into().ok());
            let options = worker::Equipment { nofile, group: cgroup, output, announcements, program_stdio };
            // SAFETY: see above.
            unsafe { worker::run(options) }.map(|()| ExitCode::SUCCESS)
        }
    };

    result.unwrap_or_else(|error| {
        // Where nobody can be told, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "poold: {}", printable_lines(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

/// # Safety
/// As of [`handover::adopt`].
unsafe fn supervise(options: SupervisorOptions) -> anyhow::Result<ExitCode> {
    // Before anything is opened that could get one of these numbers.
    // SAFETY: as the caller promises.
    let handover = unsafe { handover::adopt(&options) };

    let mut handover = handover?;
    let waiting = handover.readiness.second();
    let last_good = handover.last_good.take();
    let loaded = last_good::load(options.config.as_deref(), options.config_optional, last_good)?;
    start::log_to_stderr(options.log.unwrap_or(loaded.config.log));

    match shell::run(options, loaded, handover) {
        Ok(SupervisorEnd::Orderly) => Ok(ExitCode::SUCCESS),
        Ok(SupervisorEnd::Orphaned) => Ok(ExitCode::FAILURE),
        Err(Failure::Start(error)) => Ok(cannot_start(&error, waiting, guardian::FATAL_EXIT)),
        Err(Failure::FullDisk(error)) => Ok(cannot_start(&error, waiting, guardian::FULL_DISK_EXIT)),
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

/// Tells it in the log, and whoever waits for the start.
fn cannot_start(error: &anyhow::Error, waiting: Readiness, exit: u8) -> ExitCode {
    tracing::error!("cannot start: {error:#}");
    waiting.failed(&format!("cannot start: {error:#}"));
    ExitCode::from(exit)
}
