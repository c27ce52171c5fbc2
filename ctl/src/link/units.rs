//! Whether a service manager is to start poold here. Then poolctl does not: a poold of poolctl's would hold the
//! lock of the state directory, and the units would fail.

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use pool_proto::location;

const UNITS: [&str; 2] = ["poold.socket", "poold.service"];

/// Where systemd looks for units (systemd.unit(5)), for the system and for a user.
const OF_SYSTEM: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const OF_EVERY_USER: [&str; 5] = [
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/lib/systemd/user",
];

/// How this user's poold is started where systemd is to start it; none where no unit is installed.
pub fn start_command() -> Option<String> {
    let is_root = geteuid().is_root();
    let folders = if is_root { OF_SYSTEM.map(PathBuf::from).to_vec() } else { of_user() };
    let unit = UNITS.into_iter().find(|unit| folders.iter().any(|folder| is_there(&folder.join(unit))))?;
    let manager = if is_root { "systemctl" } else { "systemctl --user" };
    Some(format!("{manager} start {unit}"))
}

/// Whether systemd is the machine's service manager (sd_booted(3)).
pub fn is_systemd_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn of_user() -> Vec<PathBuf> {
    let config = location::default_config();
    // `.../poold/config.toml`
    let config = config.as_deref().and_then(Path::parent).and_then(Path::parent);
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let data = data.or_else(|| location::home().map(|home| home.join(".local/share")));
    [config, data.as_deref()]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("systemd/user"))
        .chain(OF_EVERY_USER.map(PathBuf::from))
        .collect()
}

/// A unit that is masked, a link to /dev/null, is not to be started at all, by poolctl neither.
fn is_there(unit: &Path) -> bool {
    unit.symlink_metadata().is_ok()
}
