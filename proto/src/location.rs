//! Where the socket, the state and the configuration of a daemon live, for poold and poolctl alike.
//!
//! | | user | user, without the variable | root |
//! |---|---|---|---|
//! | socket | `$XDG_RUNTIME_DIR/poold/poold.sock` | `/tmp/poold-UID/poold.sock` | `/run/poold/poold.sock` |
//! | state | `$XDG_STATE_HOME/poold` | `~/.local/state/poold` | `/var/lib/poold` |
//! | configuration | `$XDG_CONFIG_HOME/poold/config.toml` | `~/.config/poold/config.toml` | `/etc/poold/config.toml` |

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};

/// The variable that names the socket for poold and poolctl. A job finds the socket of its own daemon in it.
pub const SOCKET_VARIABLE: &str = "POOL_SOCKET";

/// The greatest length of the path of a Unix socket, in bytes: `sun_path` has 108 bytes with its NUL
/// (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// The variable that tells a job in which directory it was submitted.
pub const SUBMIT_DIR_VARIABLE: &str = "POOL_SUBMIT_DIR";

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

    match absolute("XDG_RUNTIME_DIR") {
        Some(runtime) => runtime.join("poold/poold.sock"),
        None => PathBuf::from(format!("/tmp/poold-{uid}/poold.sock")),
    }
}

/// The user's own state directory. None for a user without a home directory.
pub fn default_state_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/poold"));
    }

    let state = absolute("XDG_STATE_HOME").or_else(|| home().map(|home| home.join(".local/state")));
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

fn home() -> Option<PathBuf> {
    absolute("HOME").or_else(|| User::from_uid(Uid::current()).ok().flatten().map(|user| user.dir))
}

/// An absolute path from a variable. The XDG specification demands that relative paths are ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
