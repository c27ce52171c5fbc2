//! Looking at processes from outside, through proc(5).

use std::fs;

use nix::sys::signal::Signal;

/// Whether the process exists and is more than a zombie.
pub fn alive(pid: i32) -> bool {
    // The state follows the command's name, which is in parentheses and may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether the process handles a signal itself.
pub fn handles(pid: i32, signal: Signal) -> bool {
    has_signal(pid, "SigCgt:", signal)
}

/// Whether the process blocks a signal, and is that program already: whoever starts a process blocks all of
/// its signals for a moment.
pub fn blocks(pid: i32, program: &str, signal: Signal) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end() == program && has_signal(pid, "SigBlk:", signal)
}

fn has_signal(pid: i32, mask: &str, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let signals = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap_or("0");
    u64::from_str_radix(signals.trim(), 16).is_ok_and(|signals| signals & (1 << (signal as i32 - 1)) != 0)
}

/// The children of all threads of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>())
        .collect()
}

/// All living processes whose environment holds the mark, whoever their parent is.
pub fn marked(mark: &str) -> Vec<i32> {
    let wanted = format!("{}={mark}", crate::MARK);
    let is_marked = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(is_marked).filter(|&pid| alive(pid)).collect()
}
