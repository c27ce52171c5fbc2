//! From the command line to a running guardian: everything that can be wrong with a start is found here, while somebody reads stderr.
//!
//! In this order: paths, configuration, state directory and its lock, socket and its lock, background. Whether another poold is alive is
//! told by the locks, which the kernel drops with the last process that holds them; a socket without a locked owner is stale.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use anyhow::{Context, bail};
use daemonize::Daemonize;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use pool_proto::location;

use crate::cli::DaemonOptions;
use crate::config::{Config, LogLevel};
use crate::{guardian, process};

/// Starts poold; returns when it has ended.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub fn run(options: DaemonOptions) -> anyhow::Result<ExitCode> {
    // Who goes into the background by itself was not started by a service manager, whatever it has inherited from whom.
    if options.daemonize {
        process::close_inherited();
    }
    let activated = if options.daemonize { None } else { activation_socket()? };
    let socket = match &activated {
        Some(listener) => socket_of(listener)?,
        None => absolute(options.socket.clone().unwrap_or_else(location::default_socket))
            .context("cannot tell the socket's whole path")?,
    };
    location::check_socket_path(&socket).map_err(anyhow::Error::msg)?;
    let state_dir = match &options.state_dir {
        Some(dir) => absolute(dir).context("cannot tell the state directory's whole path")?,
        None => state_dir_of_service_manager()
            .filter(|_| !options.daemonize)
            .or_else(location::default_state_dir)
            .context("you have no home directory: name a state directory with --state-dir")?,
    };
    let config_path = match &options.config {
        Some(path) => Some(absolute(path).context("cannot tell the configuration's whole path")?),
        None => location::default_config(),
    };
    let config = match &config_path {
        Some(path) => Config::read(path, options.config.is_none())?,
        None => Config::default(),
    };
    let pid_file = options
        .pid_file
        .as_deref()
        .map(absolute)
        .transpose()
        .context("cannot tell the pid file's whole path")?;

    create_state_dir(&state_dir)?;
    let state_lock = lock(
        &state_dir.join("lock"),
        &format!("the state directory {}", state_dir.display()),
        "--state-dir",
    )?;
    let (listener, socket_lock) = match activated {
        Some(listener) => (listener, None),
        None => {
            let (listener, lock) = bind(&socket, options.socket.is_none())?;
            (listener, Some(lock))
        }
    };

    if options.daemonize {
        daemonize(&state_dir, pid_file.as_deref())?;
    }
    log_to_stderr(options.log.unwrap_or(config.log));
    let mut inherit = vec![OwnedFd::from(state_lock.unlocked_handle()?)];
    let mut on_exit: Vec<PathBuf> = pid_file.into_iter().collect();
    if let Some(lock) = socket_lock {
        inherit.push(OwnedFd::from(lock.unlocked_handle()?));
        on_exit.push(socket.clone());
    }
    guardian::run(guardian::Options {
        program: PathBuf::from("/proc/self/exe"),
        arguments: supervisor_arguments(&options, &socket, &state_dir, config_path.as_deref()),
        listener: listener.into(),
        locks: inherit,
        on_exit,
    })
}

fn supervisor_arguments(
    options: &DaemonOptions,
    socket: &Path,
    state_dir: &Path,
    config: Option<&Path>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        vec!["supervisor".into(), "--socket".into(), socket.into(), "--state-dir".into(), state_dir.into()];
    if let Some(path) = config {
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

// ---- the service manager ----

/// The socket that systemd has opened for us (`sd_listen_fds(3)`), if it has.
fn activation_socket() -> anyhow::Result<Option<UnixListener>> {
    if env::var_os("LISTEN_FDS").is_none() {
        return Ok(None);
    }
    let mut sockets = sd_notify::listen_fds().context("cannot take over the service manager's sockets")?;
    let Some(fd) = sockets.next() else { return Ok(None) };
    if sockets.next().is_some() {
        bail!("the service manager passes several sockets: poold.socket should have one ListenStream=");
    }
    // SAFETY: the service manager has passed this descriptor to us, and nobody else has taken it.
    let listener = unsafe { UnixListener::from_raw_fd(fd) };
    process::close_on_exec(&listener, true)?;
    Ok(Some(listener))
}

fn socket_of(listener: &UnixListener) -> anyhow::Result<PathBuf> {
    let address = listener.local_addr().context("the service manager's socket is no Unix socket")?;
    let path = address
        .as_pathname()
        .context("the service manager's socket has no path: use a path in ListenStream=")?;
    Ok(path.to_owned())
}

/// `StateDirectory=` of a unit, the first where there are several.
fn state_dir_of_service_manager() -> Option<PathBuf> {
    let directories = env::var("STATE_DIRECTORY").ok()?;
    directories.split(':').next().map(PathBuf::from).filter(|path| path.is_absolute())
}

// ---- files ----

fn create_state_dir(dir: &Path) -> anyhow::Result<()> {
    let hint = || {
        format!(
            "cannot use the state directory {}: choose one that you can write with --state-dir",
            dir.display()
        )
    };
    let is_new = !dir.exists();
    if let Some(parent) = dir.parent() {
        create_synced(parent).with_context(hint)?;
    }
    process::create_private_folder(dir).with_context(hint)?;
    if is_new {
        sync_parent(dir).with_context(hint)?;
    }
    let owner = fs::metadata(dir).with_context(hint)?.uid();
    if owner != geteuid().as_raw() {
        bail!(
            "the state directory {} belongs to uid {owner}: choose one of your own with --state-dir",
            dir.display()
        );
    }
    Ok(())
}

/// Creates a directory and those above it, so that a power cut does not take away what is put into them.
fn create_synced(dir: &Path) -> io::Result<()> {
    if dir.exists() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_synced(parent)?;
    }
    fs::create_dir_all(dir)?;
    sync_parent(dir)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A file that stays locked as long as any process of this daemon lives, and names the guardian's pid.
struct Lock(Flock<File>);

impl Lock {
    fn write_pid(&mut self) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        writeln!(self.0, "{}", std::process::id())
    }

    /// The lock belongs to the open file: handed on as a bare descriptor it lasts until the last copy is closed.
    fn unlocked_handle(mut self) -> io::Result<File> {
        self.write_pid()?;
        let copy = self.0.try_clone()?;
        // Dropping the guard would unlock the file for every copy.
        std::mem::forget(self.0);
        Ok(copy)
    }
}

fn lock(path: &Path, what: &str, flag: &str) -> anyhow::Result<Lock> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path);
    let file = file.with_context(|| format!("cannot use {what}: cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Lock(lock)),
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut pid);
            let pid = pid.trim();
            let taken = location::PLACE_TAKEN;
            let who = if pid.is_empty() { taken.to_owned() } else { format!("{taken} (pid {pid})") };
            let kill = if pid.is_empty() { String::new() } else { format!(" or `kill {pid}`") };
            bail!("{who} uses {what}: end it with `poolctl shutdown`{kill}, or choose another with {flag}");
        }
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn bind(socket: &Path, is_default: bool) -> anyhow::Result<(UnixListener, Lock)> {
    let folder = socket.parent().context("the socket needs a directory: name one with --socket")?;
    create_socket_folder(folder, is_default)?;
    let mut lock_path = socket.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = lock(Path::new(&lock_path), &format!("the socket {}", socket.display()), "--socket")?;
    remove_stale(socket)?;
    let old_umask = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(socket);
    umask(old_umask);
    let listener = bound.with_context(|| format!("cannot listen on {}", socket.display()))?;
    process::widen_backlog(&listener).with_context(|| format!("cannot listen on {}", socket.display()))?;
    Ok((listener, lock))
}

fn create_socket_folder(folder: &Path, is_default: bool) -> anyhow::Result<()> {
    let hint = || {
        format!("cannot use the socket's directory {}: choose another socket with --socket", folder.display())
    };
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(hint)?;
    }
    if is_default {
        // It may lie in a directory that everybody can write to, and so have been made by somebody else.
        let metadata = fs::symlink_metadata(folder).with_context(hint)?;
        let ours = metadata.is_dir()
            && metadata.uid() == geteuid().as_raw()
            && metadata.permissions().mode() & 0o022 == 0;
        if !ours {
            bail!(
                "{} is not a directory that only you can write to: remove it, or choose another socket with --socket",
                folder.display()
            );
        }
    }
    Ok(())
}

/// We hold the lock, so no poold is behind what is there; somebody else's server might be.
fn remove_stale(socket: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", socket.display())),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!("{} exists and is no socket: choose another with --socket", socket.display());
        }
        Ok(_) => {}
    }
    if UnixStream::connect(socket).is_ok() {
        bail!("something else listens on {}: choose another socket with --socket", socket.display());
    }
    fs::remove_file(socket).with_context(|| format!("cannot remove the stale socket {}", socket.display()))
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
