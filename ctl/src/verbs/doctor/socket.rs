//! The file of the socket and its directory: whether they exist, who owns them, and who may use them.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;

use super::Check;
use super::daemon::Asked;
use crate::link::connect::Link;

/// The checks of the socket and of its directory.
pub fn look(link: &Link, answer: &Asked) -> Vec<Check> {
    let path = link.socket();
    let mut checks = vec![socket(&path, matches!(answer, Asked::None { .. }))];
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        checks.extend(directory(folder));
    }
    checks
}

fn socket(path: &Path, is_silent: bool) -> Check {
    let shown = path.display();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // Another check says that nobody listens, and what to do about it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Check::note("socket", format!("{shown} is not there"));
        }
        Err(error) => return Check::problem("socket", format!("{shown} cannot be checked: {error}")),
    };

    if !metadata.file_type().is_socket() {
        return Check::problem("socket", format!("{shown} is no socket"))
            .advise("choose another with --socket, or remove it");
    }

    if is_silent {
        return Check::note("socket", format!("{shown} is there, but poold is not behind it"))
            .advise("the next start replaces it");
    }

    let mode = mode(&metadata);
    if mode & 0o022 != 0 {
        return Check::note(
            "socket",
            format!("{shown} has mode {mode:03o}; poold turns other users away anyway"),
        )
        .advise(format!("`chmod 600 {shown}`"));
    }
    Check::ok("socket", format!("{shown}, mode {mode:03o}"))
}

/// A user who can write to the directory can put another socket in the place of poold's. In a sticky
/// directory only the owner of the socket can.
fn directory(folder: &Path) -> Option<Check> {
    const STICKY: u32 = 0o1000;
    let shown = folder.display();
    let metadata = fs::metadata(folder).ok()?;
    let (mode, owner, us) = (mode(&metadata), metadata.uid(), geteuid().as_raw());

    let check = if owner != us && owner != 0 {
        Check::problem(
            "socket-directory",
            format!("{shown} belongs to uid {owner}, who can put another socket in its place"),
        )
        .advise("choose another socket with --socket")
    } else if mode & 0o022 != 0 && mode & STICKY == 0 {
        Check::problem(
            "socket-directory",
            format!("{shown} has mode {mode:03o}: others can put another socket in its place"),
        )
        .advise(format!("`chmod go-w {shown}`"))
    } else {
        Check::ok("socket-directory", format!("{shown}, mode {mode:03o}"))
    };
    Some(check)
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}
