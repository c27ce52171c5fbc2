//! The listening socket: passed by a service manager, or bound in its place in the file system under a lock.

use std::env;
use std::fs;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::sys::stat::{Mode, umask};

use super::lock::Lock;
use super::trace::Trace;
use crate::job::UserId;
use crate::kernel;

/// The socket that systemd has opened for us (`sd_listen_fds(3)`), if it has.
///
/// # Safety
/// Nothing in this process may own a descriptor that a service manager has passed: to be called once, before
/// anything is opened.
pub unsafe fn activation_socket() -> anyhow::Result<Option<UnixListener>> {
    if env::var_os("LISTEN_FDS").is_none() {
        return Ok(None);
    }
    let mut sockets = sd_notify::listen_fds().context("cannot take over the service manager's sockets")?;
    let Some(fd) = sockets.next() else { return Ok(None) };
    if sockets.next().is_some() {
        bail!("the service manager passes several sockets: poold.socket should have one ListenStream=");
    }
    // SAFETY: the service manager has passed this descriptor to us, and, as the caller promises, nobody else
    // has taken it.
    let listener = unsafe { UnixListener::from_raw_fd(fd) };
    kernel::close_on_exec(&listener, true)?;
    Ok(Some(listener))
}

/// Where such a socket lies.
pub fn socket_of(listener: &UnixListener) -> anyhow::Result<PathBuf> {
    let address = listener.local_addr().context("the service manager's socket is no Unix socket")?;
    let path = address
        .as_pathname()
        .context("the service manager's socket has no path: use a path in ListenStream=")?;
    Ok(path.to_owned())
}

/// Takes the lock of a socket, whose directory is made where it is missing. `is_default`: nobody has named the
/// socket.
///
/// # Errors
/// That another poold has the socket, or that its directory cannot be used.
pub fn lock(socket: &Path, is_default: bool) -> anyhow::Result<Lock> {
    prepare_folder(socket, is_default)?;
    Lock::take(&lock_path(socket), &format!("the socket {}", socket.display()), "--socket")
}

/// Makes the socket's directory where it is missing.
///
/// # Errors
/// That it cannot be used.
pub fn prepare_folder(socket: &Path, is_default: bool) -> anyhow::Result<()> {
    let folder = socket.parent().context("the socket needs a directory: name one with --socket")?;
    create_socket_folder(folder, is_default)
}

pub fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Binds the socket, whose lock is held. Returns what tells our socket from another one at its path.
///
/// # Errors
/// That something is in its place, or what bind(2) and listen(2) say.
pub fn bind(socket: &Path) -> anyhow::Result<(UnixListener, Trace)> {
    remove_stale(socket)?;

    // No moment must pass in which others can connect. The mask is the process's, which has one thread.
    let old_umask = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(socket);
    umask(old_umask);

    let cannot = || format!("cannot listen on {}", socket.display());
    let listener = bound.with_context(cannot)?;
    let trace = Trace::of(socket).with_context(cannot)?;
    kernel::widen_backlog(&listener).with_context(cannot)?;
    Ok((listener, trace))
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
            && UserId::new(metadata.uid()) == kernel::own_user()
            && metadata.permissions().mode() & 0o022 == 0;
        if !ours {
            bail!(
                "{} is not a directory that only you can write to: remove it, or choose another socket \
                 with --socket",
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
