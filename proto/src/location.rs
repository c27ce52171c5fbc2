//! Where the socket, the state and the configuration of a daemon live, for poold and poolctl alike.
//!
//! | | user | user, without the variable | root |
//! |---|---|---|---|
//! | socket | `$XDG_RUNTIME_DIR/poold/poold.sock` | `/tmp/poold-UID/poold.sock` | `/run/poold/poold.sock` |
//! | state | `$XDG_STATE_HOME/poold` | `~/.local/state/poold` | `/var/lib/poold` |
//! | configuration | `$XDG_CONFIG_HOME/poold/config.toml` | `~/.config/poold/config.toml` | `/etc/poold/config.toml` |
//!
//! These are where a poold begins to listen. Where a living one listens its state directory says
//! ([`crate::place`]).
//!
//! What su(1) and sudo(8) leave of another user's environment counts for nothing: a runtime directory or a
//! home that belongs to somebody else.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::account::PasswdEntry;

/// The variable that names the socket for poold and poolctl. A job finds the socket of its own daemon in it.
pub const SOCKET_VARIABLE: &str = "POOL_SOCKET";

/// The greatest length of the path of a Unix socket, in bytes: `sun_path` has 108 bytes with its NUL
/// (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// The variable that tells a job in which directory it was submitted.
pub const SUBMIT_DIR_VARIABLE: &str = "POOL_SUBMIT_DIR";

/// The name of the socket in the state directory, where poold listens while it cannot listen at its own place.
pub const SPARE_SOCKET: &str = "poold.sock";

/// The beginning of the message of poold when another poold has the same socket or state directory.
pub const PLACE_TAKEN: &str = "another poold";

/// The socket that the variable names. An empty variable names none.
pub fn named_socket() -> Option<PathBuf> {
    env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The user's own socket.
pub fn default_socket() -> PathBuf {
    let uid = geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/poold/poold.sock");
    }

    match absolute("XDG_RUNTIME_DIR").filter(|dir| !is_foreign(dir)) {
        Some(runtime) => runtime.join("poold/poold.sock"),
        None => PathBuf::from(format!("/tmp/poold-{uid}/poold.sock")),
    }
}

/// The user's own state directory. None for a user without a home directory.
pub fn default_state_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/poold"));
    }

    let state = absolute("XDG_STATE_HOME")
        .filter(|dir| !is_foreign(dir))
        .or_else(|| home().map(|home| home.join(".local/state")));
    state.map(|state| state.join("poold"))
}

/// The user's own configuration file, whether the file exists or not. None for a user without a home
/// directory.
pub fn default_config() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from("/etc/poold/config.toml"));
    }

    let config = absolute("XDG_CONFIG_HOME").or_else(|| home().map(|home| home.join(".config")));
    config.map(|config| config.join("poold/config.toml"))
}

/// Checks that `path` fits into a socket address.
///
/// # Errors
/// A sentence that says what is wrong and what to do.
pub fn check_socket_path(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(format!(
            "the socket path is {length} bytes long, a Unix socket takes at most {MAX_SOCKET_PATH}: choose a \
             shorter one with --socket"
        ));
    }
    Ok(())
}

/// The user's home directory: as the environment says, unless that is somebody else's.
pub fn home() -> Option<PathBuf> {
    let named = absolute("HOME");
    if let Some(home) = &named
        && is_own(home)
    {
        return named;
    }

    let known = PasswdEntry::of(geteuid().as_raw()).map(|entry| entry.home);
    match known {
        Some(known) if named.is_none() || is_own(&known) => Some(known),
        Some(_) | None => named,
    }
}

/// Why the user has no home directory, and what to do, as a sentence.
pub fn homeless() -> String {
    let what = "name a state directory with --state-dir";
    match env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => {
            format!("HOME is {home:?}, which is no absolute path: set HOME to a whole path, or {what}")
        }
        None => format!("you have no home directory: set HOME, or {what}"),
    }
}

/// Whether a directory is known to be somebody else's. One that does not exist may still be made.
fn is_foreign(dir: &Path) -> bool {
    match fs::metadata(dir) {
        Ok(dir) => dir.uid() != geteuid().as_raw(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn is_own(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|dir| dir.uid() == geteuid().as_raw())
}

/// An absolute path from a variable. The XDG specification demands that relative paths are ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
