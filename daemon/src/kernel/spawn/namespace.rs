//! Workers that are process 1 of a pid namespace (pid_namespaces(7)): when one ends, by whatever, the kernel
//! kills all that it has started. Each has a mount namespace with a /proc of its own, and without any other.
//! Where the user may not make such namespaces, they come with a user namespace in which he stays who he is
//! (user_namespaces(7)).
//!
//! Nothing in the namespace leads to a table of the processes outside: the worker has no descriptor of one.
//! It tells the pids of its children as it sees them; what they are outside the supervisor learns from the
//! children themselves, each of which sends a message before it executes its command ([`announce`]): the
//! kernel adds to it who has sent it, by the number that the receiver knows him by (unix(7),
//! SCM_CREDENTIALS).

use std::ffi::{CStr, CString};
use std::io;
use std::ptr;

use libc::{c_char, c_int};
use nix::errno::Errno;

use super::own::OwnStep;
use crate::kernel::identity::{own_group, own_user};

/// What an isolated worker has to itself, as flags of clone(2).
pub const NAMESPACES: c_int = libc::CLONE_NEWPID | libc::CLONE_NEWNS;

/// A user namespace's maps of user and group.
#[derive(Debug)]
pub struct Maps {
    user: CString,
    group: CString,
}

impl Maps {
    /// A process in the namespace has the same user and group as this process.
    pub fn of_this_user() -> Self {
        let map = |id: u32| CString::new(format!("{id} {id} 1\n")).expect("digits only");
        Self { user: map(own_user().get()), group: map(own_group().get()) }
    }
}

/// Where process tables are mounted, as a child in a new mount namespace finds them: the last one first.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn process_tables() -> io::Result<Vec<CString>> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    Ok(tables_among(&mounts))
}

/// See proc_pid_mountinfo(5).
fn tables_among(mounts: &[u8]) -> Vec<CString> {
    let table = |line: &[u8]| {
        let separator = line.windows(3).position(|part| part == b" - ")?;
        let kind = line[separator + 3..].split(|&byte| byte == b' ').next()?;
        let path = line.split(|&byte| byte == b' ').nth(4).filter(|_| kind == b"proc")?;
        CString::new(unescape(path)).ok()
    };
    mounts.split(|&byte| byte == b'\n').rev().filter_map(table).collect()
}

/// Blanks and the like are written as a backslash and three octal digits.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                plain.push(escaped);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

/// The child's first steps in its namespaces. `tables`: pointers to [`process_tables`]. On failure, the step,
/// and errno tells why.
///
/// # Safety
/// To be called by a child between clone(2) and execve(2); it makes nothing but system calls.
pub unsafe fn enter(maps: Option<&Maps>, tables: &[*const c_char]) -> Result<(), OwnStep> {
    // SAFETY: system calls, on pointers that have been prepared.
    unsafe {
        if let Some(Maps { user, group }) = maps {
            // Without "deny" the group could not be mapped: groups may also take rights away.
            let files = [
                (c"/proc/self/setgroups", c"deny"),
                (c"/proc/self/uid_map", user),
                (c"/proc/self/gid_map", group),
            ];
            if !files.into_iter().all(|(path, text)| write(path, text)) {
                return Err(OwnStep::Map);
            }
        }

        // Mounts come in from outside, and so do their ends, which would otherwise be held up; none goes out.
        let propagation = libc::MS_REC | libc::MS_SLAVE;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let own_table = |path| libc::mount(c"proc".as_ptr(), path, c"proc".as_ptr(), flags, ptr::null()) == 0;
        if libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), propagation, ptr::null()) != 0 {
            return Err(OwnStep::Mount);
        }

        // Whoever may unmount would otherwise find the table of those outside below our own. In a user
        // namespace nobody may, not even we, and our own covers it for good.
        for &path in tables {
            libc::umount2(path, libc::MNT_DETACH);
        }
        if !own_table(c"/proc".as_ptr()) {
            return Err(OwnStep::Mount);
        }
        // Elsewhere, as in folders that are roots of other systems, it is as there. One that cannot be
        // reached by its path, since it is covered, is reached by nobody.
        for &path in tables {
            if CStr::from_ptr(path) != c"/proc" {
                own_table(path);
            }
        }
    }
    Ok(())
}

unsafe fn write(path: &CStr, text: &CStr) -> bool {
    // SAFETY: see `enter`.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        fd >= 0 && libc::write(fd, text.as_ptr().cast(), text.count_bytes()) >= 0 && libc::close(fd) == 0
    }
}

/// Why clone(2) has made no child in namespaces of its own.
pub fn explain_clone(errno: Errno) -> io::Error {
    match errno {
        Errno::EAGAIN | Errno::ENOMEM => errno.into(),
        _ => explain("no pid namespace can be made", errno),
    }
}

/// Why a child in namespaces of its own has not executed the program.
pub fn explain_step(step: OwnStep, errno: Errno) -> io::Error {
    let what = match step {
        OwnStep::Map => "the user cannot be mapped into a user namespace",
        OwnStep::Mount => "no /proc of its own can be mounted in the namespace",
        OwnStep::Exec => "poold cannot be executed in the namespace",
    };
    explain(what, errno)
}

fn explain(what: &str, errno: Errno) -> io::Error {
    let advice = if own_user().get() == 0 {
        "the container or service that poold runs in must allow it"
    } else {
        "allow user namespaces (user.max_user_namespaces and the like, see sysctl), or run poold as root"
    };
    io::Error::other(format!("{what}: {}; {advice}, or set isolate = \"none\" for the pool", errno.desc()))
}

/// This process is killed when its parent dies: process 1 of a pid namespace, which the end of its socket
/// alone would not end if it were stopped.
///
/// # Errors
/// Those of prctl(2).
pub fn die_with_parent() -> io::Result<()> {
    // A parent that has died before this call is noticed by the end of the socket.
    // SAFETY: this prctl takes an integer and touches no memory of ours.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    Ok(())
}

/// Tells the supervisor that this child is there: its pid as it sees it, to which the kernel adds the other.
///
/// # Safety
/// To be called by a child between clone(2) and execve(2); it makes nothing but system calls.
pub unsafe fn announce(socket: c_int) {
    // SAFETY: the message outlives the call.
    unsafe {
        let pid = libc::getpid().to_ne_bytes();
        // Where there is no room, the supervisor has to look.
        libc::send(socket, pid.as_ptr().cast(), pid.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_tables_are_found_wherever_they_are() {
        let mounts = b"22 28 0:20 / /proc rw,nosuid shared:12 - proc proc rw\n\
            23 28 0:21 / /sys rw - sysfs sysfs rw\n\
            24 22 0:22 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
            90 28 0:20 / /srv/a\\040root\\134/proc rw - proc proc rw\n\
            91 28 0:20 /sys /srv/sys ro master:3 - proc proc rw\n\
            92 28 0:33 / /srv/- rw - proc proc rw";
        let found: Vec<Vec<u8>> = tables_among(mounts).into_iter().map(CString::into_bytes).collect();
        assert_eq!(found, [&b"/srv/-"[..], b"/srv/sys", b"/srv/a root\\/proc", b"/proc"]);
    }
}
