//! What the kernel has counted of a process, through proc(5): no tracer, and nothing that slows the process.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All pages in memory, those that it shares with other processes included.
    pub resident: u64,
    /// The pages that no other process has.
    pub private: u64,
}

/// How a thread has given up its processor so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// The thread had to wait for something: each of these is followed by a wake-up.
    pub voluntary: u64,
    /// The kernel ran another thread.
    pub involuntary: u64,
}

/// The switches of all threads of a process; nothing for a process that is gone.
pub fn switches(pid: i32) -> Switches {
    let mut sum = Switches::default();
    for thread in threads(pid) {
        let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
        sum.voluntary += field(&status, "voluntary_ctxt_switches:");
        sum.involuntary += field(&status, "nonvoluntary_ctxt_switches:");
    }
    sum
}

/// The bytes that a process has given to write(2) and its like.
pub fn written_bytes(pid: i32) -> u64 {
    field(&fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default(), "wchar:")
}

/// The memory of a process.
pub fn memory(pid: i32) -> Memory {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |name| field(&rollup, name);
    let private = kib("Private_Clean:") + kib("Private_Dirty:");
    Memory { resident: kib("Rss:") * 1024, private: private * 1024 }
}

/// The name of a process's first thread in [`cpu_by_thread`].
pub const FIRST_THREAD: &str = "first";

/// The CPU time of each thread of a process, by the thread's name.
pub fn cpu_by_thread(pid: i32) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for thread in threads(pid) {
        let comm = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        let is_first = thread.ends_with(pid.to_string());
        let name = if is_first { FIRST_THREAD } else { comm.trim_end() };
        let schedule = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        let nanoseconds = schedule.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        *times.entry(name.to_owned()).or_default() += Duration::from_nanos(nanoseconds);
    }
    times
}

/// The CPU time of all children that a process has waited for, and of those that they have waited for.
pub fn cpu_of_children(pid: i32) -> Duration {
    // The state, which follows the name in parentheses, is field 3; cutime and cstime are fields 16 and 17.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(13).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Duration::from_secs_f64(ticks / a_second as f64)
}

fn threads(pid: i32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.map(|task| task.path()).collect()
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}
