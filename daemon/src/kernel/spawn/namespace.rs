//! Workers that are process 1 of a pid namespace (pid_namespaces(7)): when one ends, by whatever, the kernel
//! kills all that it has started. Each has a mount namespace with a /proc of its own. Where the user may not
//! make such namespaces, they come with a user namespace in which he stays who he is (user_namespaces(7)).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::c_int;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::own::OwnStep;
use crate::job::ProcessId;
use crate::kernel::descriptors::adopt;
use crate::kernel::end::open_pidfd;
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

/// The child's first steps in its namespaces. On failure, the step, and errno tells why.
///
/// # Safety
/// To be called by a child between clone(2) and execve(2); it makes nothing but system calls.
pub unsafe fn enter(maps: Option<&Maps>) -> Result<(), OwnStep> {
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
        let proc_flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), propagation, ptr::null()) != 0
            || libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), proc_flags, ptr::null())
                != 0
        {
            return Err(OwnStep::Mount);
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

/// The /proc of those outside, for process 1 of a pid namespace: by which numbers others know its children.
#[derive(Debug)]
pub struct OuterProc(OwnedFd);

impl OuterProc {
    /// Takes over the descriptor. From here on this process is killed when its parent dies.
    ///
    /// # Safety
    /// As of [`adopt`].
    ///
    /// # Errors
    /// When it was not passed, or those of prctl(2).
    pub unsafe fn adopt(number: RawFd) -> io::Result<Self> {
        // SAFETY: as the caller promises.
        let folder = unsafe { adopt(number) }?;
        // A parent that has died before this call is noticed by the end of the socket.
        // SAFETY: this prctl takes an integer and touches no memory of ours.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        Ok(Self(folder))
    }

    /// The number by which a child of ours that has not been reaped is known outside. What is known of a
    /// pidfd is told as whoever has mounted /proc sees it (proc_pid_fdinfo(5)).
    pub fn pid_of(&self, pid: ProcessId) -> Option<ProcessId> {
        let pidfd = open_pidfd(pid)?;
        let path = format!("self/fdinfo/{}", pidfd.as_raw_fd());
        let file =
            openat(self.0.as_fd(), path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let info = io::read_to_string(File::from(file)).ok()?;
        info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()).map(ProcessId::new)
    }
}
