//! Limits of a process: how many files it may open, and how soon it is killed when memory runs out.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, for thousands of clients. Returns the old soft limit.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(soft)
}

/// The soft limit of open files; `u64::MAX` where the kernel does not say.
pub fn max_open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Sets the soft limit of open files.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn set_nofile(soft: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
}

/// Makes the kernel's out-of-memory killer prefer other processes. Returns the value that this process had,
/// where the change was allowed.
pub fn lower_oom_score() -> Option<String> {
    const PATH: &str = "/proc/self/oom_score_adj";
    const LOWERED: &str = "-900";

    let old = fs::read_to_string(PATH).ok()?.trim().to_owned();
    let already_lower = old.parse::<i32>().is_ok_and(|value| value <= -900);
    let mut file = OpenOptions::new().write(true).open(PATH).ok()?;
    (!already_lower && file.write_all(LOWERED.as_bytes()).is_ok()).then_some(old)
}
