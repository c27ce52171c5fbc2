//! The nice value, the CPUs and the resource limits of a job, set by the child itself. Whatever cannot be set
//! is set as far as it can.

use libc::{c_int, rlimit64};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use pool_proto::nouns::limits::cpus_from_text;
use pool_proto::nouns::{Limit, Limits};

/// Limits as the system calls take them.
#[derive(Debug, Default)]
pub struct JobLimits {
    /// For the control group of the attempt, or for [`limit_address_space`].
    pub memory_bytes: Option<u64>,
    nice: Option<c_int>,
    cpus: Option<CpuSet>,
    resources: Vec<(libc::__rlimit_resource_t, rlimit64)>,
}

impl JobLimits {
    /// What is misspelt is left out; admission has refused it.
    pub fn new(limits: &Limits) -> Self {
        let resource = |(name, limit): (&String, &Limit)| Some((number_of(name)?, as_rlimit(*limit)));
        Self {
            memory_bytes: limits.memory_bytes,
            nice: limits.nice,
            cpus: limits.cpus.as_deref().and_then(|cpus| cpus_from_text(cpus).ok()),
            resources: limits.resources.iter().flatten().filter_map(resource).collect(),
        }
    }

    /// Sets them for this process.
    ///
    /// Makes system calls and nothing else, so that a child may call it that has its parent's memory.
    pub fn set(&self) {
        // Before the resource limits, one of which is about nice values.
        if let Some(nice) = self.nice {
            set_nice(nice);
        }
        if let Some(cpus) = &self.cpus {
            // Where none of them is there, nothing changes.
            let _ = sched_setaffinity(Pid::from_raw(0), cpus);
        }
        for &(resource, wanted) in &self.resources {
            set_resource(resource, wanted);
        }
    }
}

fn set_nice(nice: c_int) {
    // SAFETY: the calls write to what they are given, which outlives them; 0 is this process.
    unsafe {
        if libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 {
            return;
        }
        // Lower than we may: see RLIMIT_NICE in getrlimit(2).
        let mut allowed = rlimit64 { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit64(libc::RLIMIT_NICE, &raw mut allowed);
        let lowest = 20 - allowed.rlim_cur.min(40) as c_int;
        if lowest < libc::getpriority(libc::PRIO_PROCESS, 0) {
            libc::setpriority(libc::PRIO_PROCESS, 0, lowest);
        }
    }
}

fn set_resource(resource: libc::__rlimit_resource_t, wanted: rlimit64) {
    // SAFETY: the calls read and write what they are given, which outlives them.
    unsafe {
        if libc::setrlimit64(resource, &raw const wanted) == 0 {
            return;
        }
        // The hard limit is above ours, and only a privileged process raises that.
        let mut own = rlimit64 { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit64(resource, &raw mut own) == 0 {
            let hard = wanted.rlim_max.min(own.rlim_max);
            let reachable = rlimit64 { rlim_cur: wanted.rlim_cur.min(hard), rlim_max: hard };
            libc::setrlimit64(resource, &raw const reachable);
        }
    }
}

/// Lowers both limits of this process's address space to so many bytes.
///
/// Makes system calls and nothing else, as [`JobLimits::set`] does.
pub fn limit_address_space(bytes: u64) {
    let mut own = rlimit64 { rlim_cur: libc::RLIM64_INFINITY, rlim_max: libc::RLIM64_INFINITY };
    // SAFETY: the call writes to what it is given, which outlives it.
    unsafe { libc::getrlimit64(libc::RLIMIT_AS, &raw mut own) };
    let lowered = rlimit64 { rlim_cur: own.rlim_cur.min(bytes), rlim_max: own.rlim_max.min(bytes) };
    set_resource(libc::RLIMIT_AS, lowered);
}

fn as_rlimit(limit: Limit) -> rlimit64 {
    let number = |limit: Option<u64>| limit.unwrap_or(libc::RLIM64_INFINITY);
    rlimit64 { rlim_cur: number(limit.soft), rlim_max: number(limit.hard) }
}

fn number_of(name: &str) -> Option<libc::__rlimit_resource_t> {
    Some(match name {
        "as" => libc::RLIMIT_AS,
        "core" => libc::RLIMIT_CORE,
        "cpu" => libc::RLIMIT_CPU,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "locks" => libc::RLIMIT_LOCKS,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        "rss" => libc::RLIMIT_RSS,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "stack" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use pool_proto::nouns::limits::RESOURCES;

    use super::*;

    #[test]
    fn each_resource_of_the_protocol_is_one_of_the_kernel() {
        let mut numbers: Vec<_> = RESOURCES.iter().filter_map(|(name, _)| number_of(name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), RESOURCES.len());
    }
}
