//! What a process hands on to the processes that it starts, besides its directory, variables and umask; and
//! the limits that a job or a pool sets.

use std::collections::BTreeMap;
use std::str::FromStr;

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
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<BTreeMap<String, Limit>>,
}

/// What holds an attempt to its limit of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryLimiter {
    /// The memory controller of a control group: all processes of the attempt together.
    Cgroup,
    /// RLIMIT_AS, for each process by itself.
    AddressSpace,
}

impl MemoryLimiter {
    /// The name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::AddressSpace => "address_space",
        }
    }

    /// The limiter of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Cgroup, Self::AddressSpace].into_iter().find(|limiter| limiter.as_str() == name)
    }
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

    /// These limits; where they say nothing, those of `others`.
    pub fn or(self, others: &Self) -> Self {
        let mut resources = others.resources.clone().unwrap_or_default();
        resources.extend(self.resources.into_iter().flatten());
        Self {
            nice: self.nice.or(others.nice),
            cpus: self.cpus.or_else(|| others.cpus.clone()),
            memory_bytes: self.memory_bytes.or(others.memory_bytes),
            resources: (!resources.is_empty()).then_some(resources),
        }
    }

    /// What is wrong with them, if anything, as a sentence.
    pub fn fault(&self) -> Option<String> {
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            return Some(format!("{nice} is no nice value: use -20 to 19"));
        }
        if let Some(Err(why)) = self.cpus.as_deref().map(cpus_from_text) {
            return Some(why);
        }
        if self.memory_bytes == Some(0) {
            return Some("a limit of memory must be greater than 0".to_owned());
        }
        self.resources.iter().flatten().find_map(|(name, limit)| {
            if !RESOURCES.iter().any(|(known, _)| known == name) {
                return Some(no_resource(name));
            }
            let why = || format!("the soft limit of {name:?} is above the hard one: lower it");
            (!limit.is_ordered()).then(why)
        })
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

/// A number is the soft and the hard limit; otherwise `SOFT:HARD`, each a number or `unlimited`, as in
/// prlimit(1).
impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| match word {
            "unlimited" | "infinity" => Some(None),
            // The protocol's numbers go no further.
            word if word.bytes().all(|byte| byte.is_ascii_digit()) => {
                word.parse().ok().filter(|&number: &u64| i64::try_from(number).is_ok()).map(Some)
            }
            _ => None,
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let limit = number(soft).zip(number(hard)).map(|(soft, hard)| Self { soft, hard });
        let limit = limit.ok_or_else(|| {
            format!("{text:?} is no limit: write a number, SOFT:HARD, or unlimited for either")
        })?;
        if limit.is_ordered() {
            Ok(limit)
        } else {
            Err(format!("{text}: the soft limit is above the hard one"))
        }
    }
}

/// Reads the limit of a resource by its name: `nofile=1024:2048`.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_resource(text: &str) -> Result<(String, Limit), String> {
    let (name, limit) =
        text.split_once('=').ok_or_else(|| format!("{text:?} names no limit: write nofile=1024"))?;
    if !RESOURCES.iter().any(|(known, _)| *known == name) {
        return Err(no_resource(name));
    }
    Ok((name.to_owned(), limit.parse()?))
}

fn no_resource(name: &str) -> String {
    format!("there is no resource {name:?}: use {}", RESOURCES.map(|(known, _)| known).join(", "))
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
    fn limits_as_text() {
        let limit = |soft, hard| Limit { soft, hard };
        assert_eq!("1024".parse(), Ok(limit(Some(1024), Some(1024))));
        assert_eq!("0:2048".parse(), Ok(limit(Some(0), Some(2048))));
        assert_eq!("7:unlimited".parse(), Ok(limit(Some(7), None)));
        assert_eq!("unlimited".parse(), Ok(Limit::default()));
        for text in ["", "x", "1:", ":1", "2:1", "unlimited:1", "-1", "1:2:3", "+1"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
        assert_eq!(parse_resource("nofile=1:2"), Ok(("nofile".to_owned(), limit(Some(1), Some(2)))));
        for text in ["nofile", "files=1", "nofile=", "NOFILE=1"] {
            assert!(parse_resource(text).is_err(), "{text}");
        }
    }

    #[test]
    fn some_limits_stand_before_others() {
        let limits = |nice, nofile: Option<u64>, core: Option<u64>| {
            let limit = |(name, soft): (&str, Option<u64>)| {
                Some((name.to_owned(), Limit { soft: Some(soft?), hard: None }))
            };
            let resources: BTreeMap<_, _> =
                [("nofile", nofile), ("core", core)].into_iter().filter_map(limit).collect();
            Limits { nice, resources: (!resources.is_empty()).then_some(resources), ..Limits::default() }
        };
        let (own, pool) = (limits(Some(1), Some(5), None), limits(Some(2), Some(6), Some(7)));
        assert_eq!(own.clone().or(&pool), limits(Some(1), Some(5), Some(7)));
        assert_eq!(Limits::default().or(&own), own);
        assert_eq!(Limits::default().or(&Limits::default()), Limits::default());
        assert_eq!(own.fault(), None);
        for faulty in [
            limits(Some(20), None, None),
            Limits { cpus: Some("x".to_owned()), ..Limits::default() },
            Limits { memory_bytes: Some(0), ..Limits::default() },
            Limits {
                resources: Some(BTreeMap::from([("x".to_owned(), Limit::default())])),
                ..Limits::default()
            },
        ] {
            assert!(faulty.fault().is_some(), "{faulty:?}");
        }
    }

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
