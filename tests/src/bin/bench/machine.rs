//! Which machine the figures are of, and when.

use std::fmt::{self, Display};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use nix::sys::statfs::{EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs};
use pool_proto::text;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub date: String,
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    /// Of the folder in which the daemons live.
    pub file_system: String,
    /// The load when the run began: what else the machine was doing.
    pub load: String,
}

impl Machine {
    pub fn here() -> Self {
        let first = |path: &str| fs::read_to_string(path).unwrap_or_default().trim_end().to_owned();
        let cpu = first("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        Self {
            date: date(),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            kernel: first("/proc/sys/kernel/osrelease"),
            file_system: file_system(),
            load: first("/proc/loadavg").split_whitespace().next().unwrap_or("unknown").to_owned(),
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, cpu, cpus, kernel, file_system, load } = self;
        write!(f, "{date}: {cpus} CPUs ({cpu}), Linux {kernel}, {file_system}, load {load}")
    }
}

fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    text::rfc3339(i64::try_from(since.as_micros()).unwrap_or(0))
}

fn file_system() -> String {
    let Ok(found) = statfs(&env::temp_dir()) else { return "an unknown file system".to_owned() };
    let known = [(EXT4_SUPER_MAGIC, "ext4"), (XFS_SUPER_MAGIC, "xfs"), (TMPFS_MAGIC, "tmpfs")];
    let FsType(magic) = found.filesystem_type();
    let name = known.iter().find(|(kind, _)| kind.0 == magic).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("file system {magic:#x}"))
}
