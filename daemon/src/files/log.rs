//! The log of a daemon in the background: a file in the state directory, which every process of it has as its
//! standard error.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{dup2_stderr, dup2_stdout};

/// Where the log of a daemon in the background is.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("poold.log")
}

/// Opens the log, or begins it. A link in its place is not followed.
///
/// # Errors
/// Those of open(2).
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW.bits();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

/// Goes on in the file that is at that path now, or in a new one: what was there has been moved away, by
/// logrotate(8), say.
pub fn reopen(path: &Path) {
    let reopened = open(path).and_then(|log| {
        dup2_stdout(&log)?;
        dup2_stderr(&log)?;
        Ok(())
    });
    match reopened {
        Ok(()) => tracing::info!("the log goes on here"),
        Err(error) => tracing::warn!(%error, path = %path.display(), "the log cannot be opened anew"),
    }
}
