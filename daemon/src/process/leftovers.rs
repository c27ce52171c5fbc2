//! What a daemon that died with all of its processes at once has left behind: double-forked ones that nobody was left to kill. Told by their
//! environment, which every job is given and which its children inherit.

use std::fs;

use nix::sys::signal::Signal;

use super::tree::{open_pidfd, parent_of, send_signal};

/// Kills every process whose variables, each as `NAME=value`, `is_ours` recognises, but for this process and its ancestors. Returns how
/// many there were.
pub fn kill_leftovers(is_ours: impl Fn(&[&[u8]]) -> bool) -> usize {
    /// What is found in one pass may have started others before it was killed.
    const PASSES: usize = 16;
    let own = ancestors();
    let mut killed = Vec::new();
    for _ in 0..PASSES {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let fresh: Vec<i32> = pids.filter(|pid| !own.contains(pid) && !killed.contains(pid) && matches(*pid, &is_ours)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            // Looked at once more when the descriptor holds it, lest the pid has come to mean another.
            if let Some(pidfd) = open_pidfd(pid)
                && matches(pid, &is_ours)
            {
                send_signal(&pidfd, Signal::SIGKILL);
            }
            killed.push(pid);
        }
    }
    killed.len()
}

fn matches(pid: i32, is_ours: &impl Fn(&[&[u8]]) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables: Vec<&[u8]> = environment.split(|&byte| byte == 0).collect();
    is_ours(&variables)
}

/// This process, its parent, and so on.
fn ancestors() -> Vec<i32> {
    let mut found = vec![std::process::id() as i32];
    while let Some(parent) = found.last().and_then(|&pid| parent_of(pid)).filter(|&pid| pid > 0) {
        found.push(parent);
    }
    found
}
