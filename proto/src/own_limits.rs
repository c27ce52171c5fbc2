//! What this process would hand on to the processes that it starts: nice value, CPUs and resource limits.

use std::fs::File;
use std::io::Read;

use nix::libc;
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;

use crate::nouns::limits::{Limit, Limits, RESOURCES, cpus_as_text};

/// Reads all of them, in five system calls: a getrlimit(2) for each resource would be more than three times
/// as many. What cannot be read is left out.
pub fn own_limits() -> Limits {
    // SAFETY: the call has no pointers; 0 is this process.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let cpus = sched_getaffinity(Pid::from_raw(0)).ok();
    Limits {
        nice: Some(nice),
        cpus: cpus.map(|cpus| cpus_as_text(&cpus)),
        memory_bytes: None,
        resources: read_table().map(|table| resources(&table).collect()),
    }
}

fn read_table() -> Option<String> {
    /// The table takes a third of it, and comes in one piece.
    const ROOM: usize = 4096;

    let mut table = vec![0; ROOM];
    let count = File::open("/proc/self/limits").ok()?.read(&mut table).ok()?;
    table.truncate(count);
    String::from_utf8(table).ok()
}

/// The rows of the table that we know.
fn resources(table: &str) -> impl Iterator<Item = (String, Limit)> {
    let number = |word: &str| match word {
        "unlimited" => Some(None),
        // The protocol's numbers go as far as that; what is beyond is no limit.
        number => number.parse::<u64>().ok().map(|number| i64::try_from(number).is_ok().then_some(number)),
    };
    table.lines().filter_map(move |line| {
        let (name, label) = RESOURCES.iter().find(|(_, label)| line.starts_with(label))?;
        let mut words = line[label.len()..].split_ascii_whitespace();
        let limit = Limit { soft: number(words.next()?)?, hard: number(words.next()?)? };
        Some(((*name).to_owned(), limit))
    })
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit};

    use super::*;

    #[test]
    fn the_table_says_what_the_system_call_says() {
        let own = own_limits();
        let resources = own.resources.expect("/proc is there");
        assert_eq!(resources.len(), RESOURCES.len(), "{resources:?}");
        let known = [
            ("nofile", Resource::RLIMIT_NOFILE),
            ("stack", Resource::RLIMIT_STACK),
            ("core", Resource::RLIMIT_CORE),
            ("as", Resource::RLIMIT_AS),
            ("nproc", Resource::RLIMIT_NPROC),
            ("nice", Resource::RLIMIT_NICE),
        ];
        for (name, resource) in known {
            let told = |limit: u64| (limit != libc::RLIM_INFINITY).then_some(limit);
            let (soft, hard) = getrlimit(resource).unwrap();
            assert_eq!(resources[name], Limit { soft: told(soft), hard: told(hard) }, "{name}");
        }
        assert!(own.cpus.is_some_and(|cpus| !cpus.is_empty()));
    }
}
