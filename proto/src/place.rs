//! What a state directory tells of its poold: whether one lives, which process guards it, and where it
//! listens. Whoever finds the directory finds the poold, whatever the environment says.
//!
//! | what | what it tells |
//! |---|---|
//! | flock(2) on the directory itself | a poold lives; nobody can take that away |
//! | the file `lock` | the guardian's pid, and the path of the socket, a line each |
//! | flock(2) on the file `lock` | the guardian lives, not only what it has left |
//!
//! The guardian watches the file: it comes back where it was removed, and a touch has the guardian look after
//! its socket ([`knock`]).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::own_file;

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "lock";

/// The file holds a number and a path.
const MAX_LENGTH: u64 = 8 << 10;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The guardian's pid.
    pub pid: i32,
    /// Where poold listens. None while poold is starting.
    pub socket: Option<PathBuf>,
}

impl Place {
    /// What the file of this state directory says. None where there is no such file, or one that this user's
    /// poold has not written.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let file = own_file::open(&state_dir.join(FILE_NAME), OpenOptions::new().read(true)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_LENGTH).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let pid = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
        // Anything but NUL may be in a path, a newline too: the path goes up to the last one.
        let socket = bytes[end + 1..].strip_suffix(b"\n").map(|path| PathBuf::from(OsStr::from_bytes(path)));
        Some(Self { pid, socket: socket.filter(|path| path.is_absolute()) })
    }

    /// The file's contents.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\n", self.pid).into_bytes();
        if let Some(socket) = &self.socket {
            bytes.extend_from_slice(socket.as_os_str().as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }
}

/// Whether a poold uses the state directory.
///
/// A look takes the lock for a moment. That keeps no poold from starting: a start that finds the directory
/// locked, and no living guardian, tries again.
pub fn is_held(state_dir: &Path) -> bool {
    match File::open(state_dir).map(|dir| Flock::lock(dir, FlockArg::LockSharedNonblock)) {
        Ok(Ok(_)) | Err(_) => false,
        Ok(Err((_, Errno::EWOULDBLOCK))) => true,
        // A file system that locks no directories.
        Ok(Err((_, _))) => {
            let file = File::open(state_dir.join(FILE_NAME));
            file.is_ok_and(|file| {
                matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
            })
        }
    }
}

/// Has the guardian look whether its socket is in its place, and put it there again. Some ways to lose a socket
/// nobody is told of: a file system that was unmounted lazily, say.
///
/// # Errors
/// Those of utimensat(2).
pub fn knock(state_dir: &Path) -> io::Result<()> {
    let file = state_dir.join(FILE_NAME);
    let now = TimeSpec::UTIME_NOW;
    Ok(utimensat(nix::fcntl::AT_FDCWD, &file, &now, &now, UtimensatFlags::NoFollowSymlink)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for socket in [None, Some("/run/poold/poold.sock"), Some("/tmp/a\nb/s")] {
            let place = Place { pid: 42, socket: socket.map(PathBuf::from) };
            assert_eq!(Place::parse(&place.to_bytes()), Some(place));
        }
    }

    #[test]
    fn what_nobody_has_written_so_says_nothing() {
        for bytes in [&b""[..], b"\n", b"x\n/s\n", b"42"] {
            assert_eq!(Place::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Place::parse(b"42\nrelative\n").unwrap().socket, None);
        assert_eq!(Place::parse(b"42\n/cut off").unwrap().socket, None);
    }
}
