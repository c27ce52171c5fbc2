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
//! * Listening before Guarding: whoever waits for `--daemonize` to return may connect at once, and a start
//!   that fails must fail while somebody reads stderr.
//! * Guarding before the guardian: going into the background is a fork without exec, which is safe only
//!   while there is one thread.
//!
//! Whether another poold is alive is told by the locks; a socket without a locked owner is stale.

pub mod cli;
pub mod config;
pub mod guardian;
pub mod handover;
mod lock;
pub mod paths;
mod socket;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use daemonize::Daemonize;
use nix::fcntl::{Flock, FlockArg};
use pool_proto::location::named_socket;

use crate::kernel;
use cli::DaemonOptions;
use config::{Config, LogLevel};
use lock::Lock;
use paths::Paths;

/// Starts poold; returns when it has ended.
///
/// # Safety
/// To be called first in this process: nothing may have been opened, and there may be no other thread.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub unsafe fn run(options: DaemonOptions) -> anyhow::Result<ExitCode> {
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
    state_lock: Lock,
}

/// Clients can connect, and wait to be served.
#[derive(Debug)]
struct Listening {
    configured: Configured,
    state_lock: Lock,
    listener: UnixListener,
    /// None for a service manager's socket, which is not ours to lock or to remove.
    socket_lock: Option<Lock>,
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
            Some(path) => Config::read(path, options.config.is_none())?,
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
        let what = format!("the state directory {}", state_dir.display());
        let state_lock = Lock::take(&state_dir.join("lock"), &what, "--state-dir")?;
        Ok(Locked { configured: self, state_lock })
    }
}

impl Locked {
    fn listen(self) -> anyhow::Result<Listening> {
        let Self { mut configured, state_lock } = self;
        let (listener, socket_lock) = match configured.activated.take() {
            Some(listener) => (listener, None),
            None => {
                let is_default = configured.options.socket.is_none();
                let (listener, lock) = socket::bind(&configured.paths.socket, is_default)?;
                (listener, Some(lock))
            }
        };
        Ok(Listening { configured, state_lock, listener, socket_lock })
    }
}

impl Listening {
    /// Goes into the background, if that was asked for. The locks belong to open files, and so go along.
    fn detach(self) -> anyhow::Result<Guarding> {
        let Self { configured: Configured { options, paths, log, .. }, state_lock, listener, socket_lock } =
            self;
        if options.daemonize {
            daemonize(&paths.state_dir, paths.pid_file.as_deref())?;
        }
        log_to_stderr(log);

        // The locks name the pid of the process that stays, which is known only now.
        let mut locks: Vec<OwnedFd> = vec![state_lock.into_descriptor()?];
        let mut on_exit: Vec<PathBuf> = paths.pid_file.clone().into_iter().collect();
        if let Some(lock) = socket_lock {
            locks.push(lock.into_descriptor()?);
            on_exit.push(paths.socket.clone());
        }
        Ok(Guarding(guardian::Guarded {
            program: PathBuf::from("/proc/self/exe"),
            arguments: supervisor_arguments(&options, &paths),
            listener: listener.into(),
            locks,
            on_exit,
        }))
    }
}

impl Guarding {
    fn run(self) -> anyhow::Result<ExitCode> {
        guardian::run(self.0)
    }
}

fn supervisor_arguments(options: &DaemonOptions, paths: &Paths) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["supervisor".into()];
    arguments.extend(["--socket".into(), paths.socket.clone().into()]);
    arguments.extend(["--state-dir".into(), paths.state_dir.clone().into()]);
    if let Some(path) = &paths.config {
        arguments.extend(["--config".into(), path.into()]);
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

/// Logs go to stderr, one line a record.
pub fn log_to_stderr(level: LogLevel) {
    use std::io::IsTerminal;
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        // It would be told on stderr, which is what has failed, and take the process along.
        .log_internal_errors(false)
        .init();
}

fn daemonize(state_dir: &Path, pid_file: Option<&Path>) -> anyhow::Result<()> {
    let path = state_dir.join("poold.log");
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let log = open().with_context(|| format!("cannot write the log {}", path.display()))?;
    let mut daemon =
        Daemonize::new().working_directory("/").umask(0o022).stdout(log.try_clone()?).stderr(log);
    if let Some(path) = pid_file {
        // Tried beforehand: once in the background there is nobody left to tell.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write the pid file {}", path.display()))?;
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err() {
            bail!("another daemon uses the pid file {}: choose another with --pid-file", path.display());
        }
        daemon = daemon.pid_file(path);
    }
    daemon.start().context("cannot go into the background")
}
