//! From the command line to a running guardian: everything that can be wrong with a start is found here,
//! while somebody reads stderr.
//!
//! The order of the steps is held by types. Each phase is a value that the next one consumes, so that no step
//! can be left out or come too early: nothing is bound before the state directory is locked, and nothing goes
//! into the background after there may be threads.
//!
//! ```text
//!   Located ─────▶ Configured ─────▶ Locked ──────────▶ Listening ──────▶ Guarding ─────▶ the guardian
//!   the paths      configuration     state directory    socket bound,     in the
//!                  read              made and locked    its lock held     background
//! ```
//!
//! Each step comes before the next for a reason:
//!
//! * Configured before Locked: a configuration that cannot be read must not leave a state directory behind.
//! * Locked before Listening: only one daemon of a state directory may try to bind a socket. Whether a socket
//!   is stale is known only to the holder of its own lock.
//! * Listening before Guarding: a start that fails must fail while somebody reads stderr. What fails later,
//!   in the background, is told to who has stayed in the foreground to wait for it ([`readiness`]).
//! * Guarding before the guardian: going into the background is a fork without exec, which is safe only
//!   while there is one thread.
//!
//! Whether another poold is alive is told by the locks; a socket without a locked owner is stale.

pub mod cli;
pub mod config;
mod door;
pub mod guardian;
pub mod handover;
pub mod last_good;
mod lock;
pub mod paths;
pub mod readiness;
mod socket;
mod trace;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use anyhow::{Context, bail};
use daemonize::{Daemonize, Outcome};
use nix::fcntl::Flock;
use pool_proto::location::named_socket;
use pool_proto::own_file;
use pool_proto::terminal::printable;

use crate::files::log;
use crate::kernel;
use cli::DaemonOptions;
use config::{Config, LogLevel};
use door::{Door, Named};
use lock::StateLock;
use paths::Paths;
pub use readiness::Readiness;
use trace::Trace;

/// Starts poold; returns when it has ended.
///
/// # Safety
/// To be called first in this process: nothing may have been opened, and there may be no other thread.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub unsafe fn run(options: DaemonOptions) -> anyhow::Result<ExitCode> {
    if let Some(file) = &options.check_config {
        let (config, _) = Config::read(file, false)?;
        let doubts: String = config.doubts().into_iter().map(|doubt| doubt + "\n").collect();
        io::stdout().write_all(doubts.as_bytes()).context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    // SAFETY: as the caller promises, nothing has been opened.
    let located = unsafe { Located::find(options) }?;
    located.configure()?.lock()?.listen()?.detach()?.run()
}

/// All paths are known. Nothing has been read or changed.
#[derive(Debug)]
struct Located {
    options: DaemonOptions,
    paths: Paths,
    /// The service manager's socket.
    activated: Option<UnixListener>,
}

/// The configuration has been read. Nothing has been changed.
#[derive(Debug)]
struct Configured {
    options: DaemonOptions,
    paths: Paths,
    activated: Option<UnixListener>,
    log: LogLevel,
}

/// No other poold uses the state directory, as long as this one lives.
#[derive(Debug)]
struct Locked {
    configured: Configured,
    state_lock: StateLock,
    /// For the supervisor, too.
    locks: Vec<OwnedFd>,
}

/// Clients can connect, and wait to be served.
#[derive(Debug)]
struct Listening {
    configured: Configured,
    door: Door,
    locks: Vec<OwnedFd>,
}

/// This is the process that stays, and its log goes where it will go.
#[derive(Debug)]
struct Guarding(guardian::Guarded);

impl Located {
    /// # Safety
    /// Nothing may have been opened in this process.
    unsafe fn find(options: DaemonOptions) -> anyhow::Result<Self> {
        let options = DaemonOptions { socket: options.socket.or_else(named_socket), ..options };
        let activated = if options.daemonize {
            // Who goes into the background by itself was not started by a service manager, whatever it has
            // inherited from whom. SAFETY: as the caller promises, nobody owns what is closed.
            unsafe { kernel::close_inherited() };
            None
        } else {
            // SAFETY: as the caller promises, nobody owns what the service manager has passed.
            unsafe { socket::activation_socket() }?
        };
        let path = activated.as_ref().map(socket::socket_of).transpose()?;
        Ok(Self { paths: Paths::find(&options, path)?, options, activated })
    }

    fn configure(self) -> anyhow::Result<Configured> {
        let Self { options, paths, activated } = self;
        let config = match &paths.config {
            Some(path) => Config::read(path, options.config.is_none())?.0,
            None => Config::default(),
        };
        // The rest of it the supervisor reads for itself.
        Ok(Configured { log: options.log.unwrap_or(config.log), options, paths, activated })
    }
}

impl Configured {
    fn lock(self) -> anyhow::Result<Locked> {
        let state_dir = &self.paths.state_dir;
        paths::create_state_dir(state_dir)?;
        let (state_lock, locks) = StateLock::take(state_dir)?;
        Ok(Locked { configured: self, state_lock, locks })
    }
}

impl Locked {
    fn listen(self) -> anyhow::Result<Listening> {
        let Self { mut configured, state_lock, locks } = self;
        let Paths { socket, state_dir, .. } = &configured.paths;
        let door = match configured.activated.take() {
            Some(listener) => Door::of_service_manager(listener, socket.clone(), state_dir, state_lock),
            None => {
                let named =
                    if configured.options.socket.is_none() { Named::ByDefault } else { Named::ByUser };
                Door::open(socket.clone(), named, state_dir, state_lock)?
            }
        };
        Ok(Listening { configured, door, locks })
    }
}

impl Listening {
    /// Goes into the background, if that was asked for. The locks belong to open files, and so go along.
    fn detach(self) -> anyhow::Result<Guarding> {
        let Self { configured: Configured { options, paths, log: level, .. }, mut door, locks } = self;
        let (pid_file, readiness) = if options.daemonize {
            let (trace, pipe) = daemonize(&paths.state_dir, paths.pid_file.as_deref())?;
            (trace, Some(pipe))
        } else {
            (None, None)
        };
        let log_file = options.daemonize.then(|| log::path(&paths.state_dir));
        log_to_stderr(level);

        // The locks name the pid of the process that stays, which is known only now.
        door.announce()?;
        if door.is_spare() {
            tracing::warn!(
                socket = %door.at().display(), instead_of = %paths.socket.display(),
                "the socket's own directory cannot be used: poold listens in its state directory"
            );
        }
        Ok(Guarding(guardian::Guarded {
            program: PathBuf::from("/proc/self/exe"),
            arguments: supervisor_arguments(&options, &paths, log_file.as_deref()),
            log_file,
            door,
            locks,
            last_good: None,
            readiness,
            pid_file,
        }))
    }
}

impl Guarding {
    fn run(self) -> anyhow::Result<ExitCode> {
        let told = self.0.readiness.as_ref().map(OwnedFd::try_clone).transpose()?;
        let told = Readiness::new(told);
        guardian::run(self.0).inspect_err(|error| told.failed(&format!("{error:#}")))
    }
}

fn supervisor_arguments(options: &DaemonOptions, paths: &Paths, log_file: Option<&Path>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["supervisor".into()];
    arguments.extend(["--state-dir".into(), paths.state_dir.clone().into()]);
    if let Some(path) = &paths.config {
        arguments.extend(["--config".into(), path.into()]);
    }
    if let Some(path) = log_file {
        arguments.extend(["--log-file".into(), path.into()]);
    }
    if options.config.is_none() {
        arguments.push("--config-optional".into());
    }
    if let Some(workers) = options.workers {
        arguments.extend(["--workers".into(), workers.to_string().into()]);
    }
    if let Some(level) = options.log {
        let name =
            clap::ValueEnum::to_possible_value(&level).expect("no level is hidden").get_name().to_owned();
        arguments.extend(["--log".into(), name.into()]);
    }
    arguments
}

/// The log on stderr: each record is one line, in which what cannot be seen is escaped. Names and the last
/// words of programs are foreign text, and somebody reads the log at a terminal.
struct Log;

impl Write for Log {
    /// Takes a whole record, as [`tracing_subscriber::fmt`] writes it.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let line = format!("{}\n", printable(text.trim_end_matches('\n')));
        io::stderr().write_all(line.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Logs go to stderr, one line a record.
pub fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_writer(|| Log)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        // It would be told on stderr, which is what has failed, and take the process along.
        .log_internal_errors(false)
        .init();
}

/// Goes into the background. The process that stays in the foreground waits until poold serves or does not,
/// and never returns from here.
///
/// Returns what there is of a pid file, and where to say that poold serves.
fn daemonize(state_dir: &Path, pid_file: Option<&Path>) -> anyhow::Result<(Option<Trace>, OwnedFd)> {
    let path = log::path(state_dir);
    let log = own_file::open(&path, OpenOptions::new().append(true).create(true));
    let log = log.with_context(|| format!("cannot write the log {}", path.display()))?;
    // Tried beforehand: it is written once the pid is known.
    let pid_file = pid_file.map(|path| Ok::<_, anyhow::Error>((path, open_pid_file(path)?))).transpose()?;
    let (reader, writer) = io::pipe().context("cannot wait for the start")?;

    let daemon = Daemonize::new().working_directory("/").umask(0o022).stdout(log.try_clone()?).stderr(log);
    match daemon.execute() {
        Outcome::Parent(forked) => {
            drop(writer);
            let said = forked.map_err(|error| Some(error.to_string())).and_then(|_| readiness::wait(reader));
            if let Err(why) = &said {
                let unsaid = || format!("poold has ended before it served; {} may say why", path.display());
                // Nobody may be reading.
                let _ = writeln!(io::stderr(), "poold: {}", why.clone().unwrap_or_else(unsaid));
            }
            // Without any destructor: the locks and the socket are the other process's by now.
            process::exit(i32::from(said.is_err()));
        }
        Outcome::Child(Err(error)) => {
            Readiness::new(Some(writer.into())).failed(&format!("cannot go into the background: {error}"));
            Err(error).context("cannot go into the background")
        }
        Outcome::Child(Ok(_)) => {
            drop(reader);
            let trace = pid_file.map(|(path, file)| write_pid_file(path, file));
            match trace.transpose() {
                Ok(trace) => Ok((trace, writer.into())),
                Err(error) => {
                    Readiness::new(Some(writer.into())).failed(&format!("{error:#}"));
                    Err(error)
                }
            }
        }
    }
}

/// Opens and locks a pid file; what others have written there is left alone.
fn open_pid_file(path: &Path) -> anyhow::Result<Flock<File>> {
    let shown = path.display();
    let file = own_file::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false));
    let mut file = file.with_context(|| format!("cannot write the pid file {shown}"))?;
    let mut text = Vec::new();
    Read::by_ref(&mut file).take(64).read_to_end(&mut text)?;
    if !text.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace()) {
        bail!("{shown} holds something else than a pid: choose another file with --pid-file");
    }

    lock::lock_soon(file).map_err(|_| {
        anyhow::anyhow!("another daemon uses the pid file {shown}: choose another with --pid-file")
    })
}

fn write_pid_file(path: &Path, mut file: Flock<File>) -> anyhow::Result<Trace> {
    let cannot = || format!("cannot write the pid file {}", path.display());
    file.rewind().and_then(|()| file.set_len(0)).with_context(cannot)?;
    writeln!(file, "{}", process::id()).with_context(cannot)?;
    // Locked as long as this process lives: dropping the guard would unlock it.
    std::mem::forget(file);
    Trace::of(path).with_context(cannot)
}
