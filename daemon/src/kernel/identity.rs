//! What tells this boot of the machine, this daemon and this process's role from all others.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use nix::unistd::{getegid, geteuid};

use crate::job::{GroupId, UserId};

/// What tells this boot of the machine from all others; none where the kernel does not say.
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim_end().to_owned()).filter(|id| !id.is_empty())
}

/// The name of the daemon of a state directory: `poold-DEV-INODE`. No two living daemons have the same name.
///
/// # Errors
/// Those of stat(2).
pub fn daemon_name(state_dir: &Path) -> io::Result<String> {
    let directory = fs::metadata(state_dir)?;
    Ok(format!("poold-{:x}-{:x}", directory.dev(), directory.ino()))
}

/// The user that this process acts as.
pub fn own_user() -> UserId {
    UserId::new(geteuid().as_raw())
}

/// The group that this process acts as.
pub fn own_group() -> GroupId {
    GroupId::new(getegid().as_raw())
}

/// Makes this process a subreaper: descendants that lose their parent become its children instead of init's.
///
/// # Errors
/// Those of prctl(2).
pub fn set_child_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes an integer and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
