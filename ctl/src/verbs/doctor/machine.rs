//! What poold needs from the machine: the kernel, its limits, and the user's session.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::utsname::uname;
use nix::unistd::geteuid;
use pool_proto::account::PasswdEntry;

use super::Check;
use super::daemon::Asked;
use crate::link::connect::Link;

/// The oldest kernel that has everything that poold needs, such as pidfds and close_range(2).
const OLDEST: (u32, u32) = (5, 9);

/// The checks of the machine and of the session.
pub fn look(link: &Link, answer: &Asked) -> Vec<Check> {
    let pid = match answer {
        Asked::Condition { condition, .. } => Some(condition.pid),
        Asked::Older { pong } => Some(pong.pid),
        Asked::None { .. } => None,
    };
    let mut checks = vec![kernel(), user_namespaces()];
    checks.extend(processes(pid));
    checks.extend(runtime_directory(link));
    checks.extend(pid.and_then(service));
    checks
}

fn kernel() -> Check {
    let release =
        uname().map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned());
    let text = format!("Linux {release}");
    match version_of(&release) {
        Some(version) if version < OLDEST => {
            Check::problem("kernel", text).advise(format!("poold needs {}.{} or later", OLDEST.0, OLDEST.1))
        }
        Some(_) => Check::ok("kernel", text),
        None => Check::note("kernel", format!("{text}; poolctl cannot read this version")),
    }
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Checks what `isolate = "pid"` needs in a poold that is not root's.
fn user_namespaces() -> Check {
    if geteuid().is_root() {
        return Check::ok("user-namespaces", "root needs no user namespaces for `isolate = \"pid\"`");
    }
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);

    let forbidden = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];

    match forbidden.into_iter().find(|&(path, value)| is(path, value)) {
        Some((path, value)) => Check::note(
            "user-namespaces",
            format!("{path} is {value}: pools with `isolate = \"pid\"` do not work"),
        )
        .advise("only root can change that"),
        None if Path::new("/proc/self/ns/user").exists() => {
            Check::ok("user-namespaces", "nothing forbids user namespaces")
        }
        None => Check::note(
            "user-namespaces",
            "the kernel has no user namespaces: pools with `isolate = \"pid\"` do not work",
        ),
    }
}

/// Checks the number of processes. A running poold may have another limit than ours, so its own limit counts.
fn processes(pid: Option<i32>) -> Option<Check> {
    const FEW: u64 = 50;
    let path = pid.map_or_else(|| "/proc/self/limits".to_owned(), |pid| format!("/proc/{pid}/limits"));
    let limits = fs::read_to_string(path).ok()?;

    let limit = limit_of(&limits, "Max processes")?;
    if geteuid().is_root() {
        return Some(Check::ok("processes", "the processes of root are not limited"));
    }

    let Some(limit) = limit else {
        return Some(Check::ok("processes", "the number of processes is not limited"));
    };
    let used = threads_of(geteuid().as_raw());
    let text = format!("{used} of at most {limit} processes and threads (RLIMIT_NPROC)");
    Some(match limit.saturating_sub(used) {
        ..FEW => Check::warning("processes", text)
            .advise("raise the limit (LimitNPROC=, ulimit -u); otherwise jobs have to wait"),
        _ => Check::ok("processes", text),
    })
}

/// The soft limit of that name in proc_pid_limits(5). `Some(None)` means no limit.
fn limit_of(limits: &str, name: &str) -> Option<Option<u64>> {
    let soft = limits.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?;
    Some(soft.parse().ok())
}

fn threads_of(uid: u32) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let theirs = processes.filter(|entry| {
        let is_process = entry.file_name().to_string_lossy().parse::<i32>().is_ok();
        is_process && entry.metadata().is_ok_and(|metadata| metadata.uid() == uid)
    });
    theirs
        .map(|entry| fs::read_dir(entry.path().join("task")).map_or(1, |threads| threads.count() as u64))
        .sum()
}

/// Checks the directory of the default socket of a user.
fn runtime_directory(link: &Link) -> Option<Check> {
    let us = geteuid();
    if us.is_root() || link.is_named() {
        return None;
    }
    let name = "runtime-directory";
    let found_anyway = "a poold that runs is found all the same, by its state directory";
    let Some(path) = std::env::var_os("XDG_RUNTIME_DIR") else {
        let text = format!("XDG_RUNTIME_DIR is not set, so the socket is {}", link.socket().display());
        return Some(Check::note(name, text).advise(found_anyway));
    };
    let shown = path.display().to_string();
    match fs::metadata(&path) {
        Err(error) => {
            let text = format!("XDG_RUNTIME_DIR is {shown}, which cannot be used: {error}");
            return Some(Check::note(name, text).advise(found_anyway));
        }
        Ok(metadata) if metadata.uid() != us.as_raw() => {
            let text = format!(
                "XDG_RUNTIME_DIR is {shown}, which belongs to uid {}, and is passed over",
                metadata.uid()
            );
            return Some(Check::note(name, text).advise(found_anyway));
        }
        Ok(_) => {}
    }
    let entry = PasswdEntry::of(us.as_raw());
    let lingers = entry.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user.name).exists());
    if shown.starts_with("/run/user/") && Path::new("/run/systemd/system").exists() && !lingers {
        let text = format!("{shown}, which is removed with the socket when you log out everywhere");
        return Some(Check::note(name, text).advise("`loginctl enable-linger` keeps it, and poold"));
    }
    Some(Check::ok(name, shown))
}

/// The unit of the service manager in which poold runs, if it runs in one.
fn service(pid: i32) -> Option<Check> {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let unit = unit_of(&membership)?;
    Some(Check::ok("service", format!("runs in {unit}")))
}

fn unit_of(membership: &str) -> Option<&str> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.rsplit('/').find(|name| [".service", ".scope"].iter().any(|kind| name.ends_with(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version_of("6.18.44"), Some((6, 18)));
        assert_eq!(version_of("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(version_of("5.9-rc1"), Some((5, 9)));
        assert_eq!(version_of("unknown"), None);
        assert!(version_of("5.10").unwrap() > OLDEST && version_of("5.8.18").unwrap() < OLDEST);
    }

    #[test]
    fn limits_and_units_are_read_as_the_kernel_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             95808                95808                processes \n\
                      Max open files            unlimited            unlimited            files     \n";
        assert_eq!(limit_of(limits, "Max processes"), Some(Some(95808)));
        assert_eq!(limit_of(limits, "Max open files"), Some(None));
        assert_eq!(limit_of(limits, "Max stack size"), None);
        assert_eq!(unit_of("0::/system.slice/poold.service/poold-801-2/main\n"), Some("poold.service"));
        assert_eq!(unit_of("1:name=x:/a.service\n0::/\n"), None);
    }
}
