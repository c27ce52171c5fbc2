//! Where a daemon's socket, state and configuration live, for poold and poolctl alike.
//!
//! | | user | root |
//! |---|---|---|
//! | socket | `$XDG_RUNTIME_DIR/poold/poold.sock`, without it `/tmp/poold-UID/poold.sock` | `/run/poold/poold.sock` |
//! | state | `$XDG_STATE_HOME/poold`, without it `~/.local/state/poold` | `/var/lib/poold` |
//! | configuration | `$XDG_CONFIG_HOME/poold/config.toml`, without it `~/.config/poold/config.toml` | `/etc/poold/config.toml` |

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};

/// Names the socket for poold and poolctl; a job finds its own daemon's there.
pub const SOCKET_VARIABLE: &str = "POOL_SOCKET";

/// The longest path that a Unix socket can have, in bytes: `sun_path` is 108 with its NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// The variable that tells a job where it was submitted.
pub const SUBMIT_DIR_VARIABLE: &str = "POOL_SUBMIT_DIR";

/// So begins what poold says when its place is taken.
pub const PLACE_TAKEN: &str = "another poold";

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

/// The user's own state directory; none where the user has no home.
pub fn default_state_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/poold"));
    }
    let state = absolute("XDG_STATE_HOME").or_else(|| home().map(|home| home.join(".local/state")));
    state.map(|state| state.join("poold"))
}

/// The user's own configuration file, whether it exists or not; none where the user has no home.
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
/// What is wrong and what to do, as a sentence.
pub fn check_socket_path(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(format!(
            "the socket path is {length} bytes long, a Unix socket takes at most {MAX_SOCKET_PATH}: choose a shorter one with --socket"
        ));
    }
    Ok(())
}

fn home() -> Option<PathBuf> {
    absolute("HOME").or_else(|| User::from_uid(Uid::current()).ok().flatten().map(|user| user.dir))
}

/// The XDG specification has relative paths ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
