//! Where this daemon is: the paths that the command line, the environment and the defaults come to, all of
//! them absolute; and the state directory itself.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, bail};
use pool_proto::location;

use super::cli::DaemonOptions;
use crate::files::layout::create_private_folder;
use crate::job::UserId;
use crate::kernel::own_user;

/// By this file a state directory is known.
const DATABASE: &str = "poold.db";

/// All paths of a daemon.
#[derive(Debug)]
pub struct Paths {
    pub socket: PathBuf,
    pub state_dir: PathBuf,
    /// None where there is not even a place to look for one.
    pub config: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
}

impl Paths {
    /// `socket`: that of a service manager, if it has passed one.
    ///
    /// # Errors
    /// A path that cannot be told or used.
    pub fn find(options: &DaemonOptions, socket: Option<PathBuf>) -> anyhow::Result<Self> {
        let socket = match socket {
            Some(path) => path,
            None => absolute(options.socket.clone().unwrap_or_else(location::default_socket))
                .context("cannot tell the socket's whole path")?,
        };
        location::check_socket_path(&socket).map_err(anyhow::Error::msg)?;

        let state_dir = match &options.state_dir {
            Some(dir) => absolute(dir).context("cannot tell the state directory's whole path")?,
            None => state_dir_of_service_manager()
                .filter(|_| !options.daemonize)
                .or_else(location::default_state_dir)
                .ok_or_else(|| anyhow::Error::msg(location::homeless()))?,
        };
        let config = match &options.config {
            Some(path) => Some(absolute(path).context("cannot tell the configuration's whole path")?),
            None => location::default_config(),
        };
        let pid_file = options.pid_file.as_deref().map(absolute).transpose();
        let pid_file = pid_file.context("cannot tell the pid file's whole path")?;
        Ok(Self { socket, state_dir, config, pid_file })
    }
}

/// `StateDirectory=` of a unit, the first where there are several.
fn state_dir_of_service_manager() -> Option<PathBuf> {
    let directories = env::var_os("STATE_DIRECTORY")?;
    let first = directories.as_bytes().split(|&byte| byte == b':').next()?;
    Some(PathBuf::from(OsStr::from_bytes(first))).filter(|path| path.is_absolute())
}

/// Creates the state directory, and syncs its name to the disk; or takes the directory that is there.
///
/// # Errors
/// That it cannot be used, and what to do about it.
pub fn create_state_dir(dir: &Path) -> anyhow::Result<()> {
    let hint = || {
        format!(
            "cannot use the state directory {}: choose one that you can write with --state-dir",
            dir.display()
        )
    };
    match fs::symlink_metadata(dir) {
        Ok(found) => check_state_dir(dir, &found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = dir.parent() {
                create_synced(parent).with_context(hint)?;
            }
            fs::DirBuilder::new().mode(0o700).create(dir).with_context(hint)?;
            sync_parent(dir).with_context(hint)?;
        }
        Err(error) => return Err(error).with_context(hint),
    }
    // From 755 that somebody's mkdir(1) has made it.
    create_private_folder(dir).with_context(hint)
}

/// Whether a directory that is there may become a state directory, before anything in it or of it is changed.
fn check_state_dir(dir: &Path, found: &Metadata) -> anyhow::Result<()> {
    let shown = dir.display();
    if !found.is_dir() {
        bail!("{shown} is no directory, or a link to one: choose another with --state-dir");
    }
    let owner = UserId::new(found.uid());
    if owner != own_user() {
        bail!("the state directory {shown} belongs to uid {owner}: choose one of your own with --state-dir");
    }

    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        bail!(
            "the state directory {shown} has mode {mode:o}: others may have put files there.              Look into it, then `chmod 700 {shown}`, or choose another with --state-dir"
        );
    }
    // It would be closed to others, who may need what is in it: / or a home directory.
    let is_open = mode & 0o077 != 0;
    let mut entries =
        fs::read_dir(dir).with_context(|| format!("cannot read the state directory {shown}"))?;
    if is_open && !dir.join(DATABASE).exists() && entries.next().is_some() {
        bail!(
            "{shown} is open to others (mode {mode:o}) and holds files that are not poold's: \
             choose a directory of poold's own with --state-dir"
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
