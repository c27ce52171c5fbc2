//! What a process hands on to the processes that it starts, besides its directory, variables and umask.

use std::collections::BTreeMap;

use nix::sched::CpuSet;
use serde::{Deserialize, Serialize};

/// The names of the resources of getrlimit(2), and what /proc/PID/limits calls each of them.
pub const RESOURCES: [(&str, &str); 16] = [
    ("as", "Max address space"),
    ("core", "Max core file size"),
    ("cpu", "Max cpu time"),
    ("data", "Max data size"),
    ("fsize", "Max file size"),
    ("locks", "Max file locks"),
    ("memlock", "Max locked memory"),
    ("msgqueue", "Max msgqueue size"),
    ("nice", "Max nice priority"),
    ("nofile", "Max open files"),
    ("nproc", "Max processes"),
    ("rss", "Max resident set"),
    ("rtprio", "Max realtime priority"),
    ("rttime", "Max realtime timeout"),
    ("sigpending", "Max pending signals"),
    ("stack", "Max stack size"),
];

/// The nice value, the CPUs and the resource limits of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<BTreeMap<String, Limit>>,
}

/// The limit of a resource. Without a number the resource is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct Limit {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard: Option<u64>,
}

impl Limits {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What they take in memory, nearly.
    pub fn bytes(&self) -> usize {
        let resource = |(name, limit): (&String, &Limit)| name.len() + size_of_val(name) + size_of_val(limit);
        let resources = self.resources.iter().flatten().map(resource);
        self.cpus.as_ref().map_or(0, String::len) + resources.sum::<usize>()
    }
}

impl Limit {
    /// Whether the soft limit is within the hard one.
    pub fn is_ordered(&self) -> bool {
        self.soft.unwrap_or(u64::MAX) <= self.hard.unwrap_or(u64::MAX)
    }
}

/// CPUs as a list of numbers and ranges: `0-3,7`.
pub fn cpus_as_text(cpus: &CpuSet) -> String {
    let is_set = |cpu: usize| cpus.is_set(cpu).unwrap_or(false);
    let mut ranges = Vec::new();
    let mut cpu = 0;
    while cpu < CpuSet::count() {
        let first = cpu;
        while is_set(cpu) {
            cpu += 1;
        }
        match cpu - first {
            0 => {}
            1 => ranges.push(first.to_string()),
            _ => ranges.push(format!("{first}-{}", cpu - 1)),
        }
        cpu += 1;
    }
    ranges.join(",")
}

/// The same, read. CPUs that no machine has are left out.
///
/// # Errors
/// When the text is no such list; a sentence that says so.
pub fn cpus_from_text(text: &str) -> Result<CpuSet, String> {
    let number = |word: &str| {
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        // A number that is too large for us is beyond all CPUs.
        is_number.then(|| word.parse::<usize>().unwrap_or(usize::MAX))
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };

    let mut cpus = CpuSet::new();
    for part in text.split(',') {
        let (first, last) =
            range(part).ok_or_else(|| format!("{text:?} is no list of CPUs: write \"0-3,7\""))?;
        for cpu in first..=last.min(CpuSet::count() - 1) {
            let _ = cpus.set(cpu);
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_as_they_are_written() {
        for text in ["0", "0-3,7", "1,3,5", "1022-1023", "0-1023"] {
            assert_eq!(cpus_as_text(&cpus_from_text(text).unwrap()), text);
        }
        assert_eq!(cpus_as_text(&cpus_from_text("2,0,1,1-2").unwrap()), "0-2");
        assert_eq!(cpus_as_text(&cpus_from_text("3,5000,1000000000000000000000000").unwrap()), "3");
        for text in ["", ",", "0,", "-1", "3-1", "a", "+1", "0--3", "0-3-5", " 1"] {
            assert!(cpus_from_text(text).is_err(), "{text:?}");
        }
    }
}
