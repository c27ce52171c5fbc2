//! Workers that are process 1 of a pid namespace (pid_namespaces(7)): when one ends, by whatever, the kernel kills all that it has started.
//! Each has a mount namespace with a /proc of its own. Where the user may not make such namespaces, they come with a user namespace in which
//! he stays who he is (user_namespaces(7)).
//!
//! As in `spawn`, the child borrows our memory until it executes the program, and makes nothing but system calls.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use libc::{c_char, c_int, c_void};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid};

use super::spawn::Stack;
use super::tree::open_pidfd;

/// This program, as process 1 of a pid namespace.
#[derive(Debug)]
pub struct Isolated<'a> {
    pub arguments: &'a [OsString],
    /// Variables that it does not get.
    pub hidden: &'a [&'a str],
    pub stdin: &'a OwnedFd,
    /// The argument before the number of the descriptor from which it makes its [`OuterProc`].
    pub outer_proc: &'a str,
}

/// What the child does first, for the message when it fails.
#[derive(Debug, Clone, Copy)]
enum Step {
    Map,
    Mount,
    Exec,
}

/// What the child reads, and where it writes its failure.
struct Plan {
    /// The user namespace's maps of user and group.
    maps: Option<[CString; 2]>,
    argv: *const *const c_char,
    environment: *const *const c_char,
    stdio: [c_int; 2],
    outer_proc: c_int,
    failure: Option<(Step, c_int)>,
}

impl Isolated<'_> {
    /// Starts it; returns its pid.
    ///
    /// # Errors
    /// With what is missing, and what to do about it.
    pub fn spawn(&self) -> io::Result<i32> {
        let outer_proc =
            open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let null = File::options().write(true).open("/dev/null")?;
        let argv =
            [OsStr::new("poold")].into_iter().chain(self.arguments.iter().map(OsString::as_os_str)).map(to_c);
        let number = outer_proc.as_raw_fd().to_string();
        let argv: Vec<CString> =
            argv.chain([self.outer_proc, &number].map(|word| to_c(OsStr::new(word)))).collect();
        let environment =
            std::env::vars_os().filter(|(name, _)| !self.hidden.iter().any(|hidden| name == hidden));
        let environment =
            environment.map(|(name, value)| to_c(&[name.as_os_str(), &value].join(OsStr::new("="))));
        let environment: Vec<CString> = environment.collect();
        let (argv, environment) = (pointers(&argv), pointers(&environment));
        let mut plan = Plan {
            maps: None,
            argv: argv.as_ptr(),
            environment: environment.as_ptr(),
            stdio: [self.stdin.as_raw_fd(), null.as_raw_fd()],
            outer_proc: outer_proc.as_raw_fd(),
            failure: None,
        };
        // A handler of ours must not run in the child, which shares our memory.
        let mask = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
        let pid = start(&mut plan);
        mask.thread_set_mask()?;
        pid
    }
}

fn start(plan: &mut Plan) -> io::Result<i32> {
    let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let pid = match clone(plan, namespaces)? {
        Err(Errno::EPERM) => {
            let map = |id: u32| CString::new(format!("{id} {id} 1\n")).expect("digits only");
            plan.maps = Some([map(geteuid().as_raw()), map(getegid().as_raw())]);
            clone(plan, namespaces | libc::CLONE_NEWUSER)?
        }
        result => result,
    };
    let pid = pid.map_err(|errno| match errno {
        Errno::EAGAIN | Errno::ENOMEM => errno.into(),
        _ => explain("no pid namespace can be made", errno),
    })?;
    // SAFETY: the child wrote through a raw pointer, which the compiler cannot know of.
    let failure = unsafe { ptr::read_volatile(&raw const plan.failure) };
    let Some((step, errno)) = failure else { return Ok(pid) };
    super::reap::bury(pid);
    let what = match step {
        Step::Map => "the user cannot be mapped into a user namespace",
        Step::Mount => "no /proc of its own can be mounted in the namespace",
        Step::Exec => "poold cannot be executed in the namespace",
    };
    Err(explain(what, Errno::from_raw(errno)))
}

fn explain(what: &str, errno: Errno) -> io::Error {
    let advice = if geteuid().is_root() {
        "the container or service that poold runs in must allow it"
    } else {
        "allow user namespaces (user.max_user_namespaces and the like, see sysctl), or run poold as root"
    };
    io::Error::other(format!("{what}: {}; {advice}, or set isolate = \"none\" for the pool", errno.desc()))
}

fn clone(plan: &mut Plan, namespaces: c_int) -> io::Result<nix::Result<i32>> {
    let stack = Stack::new()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | namespaces;
    // SAFETY: `run_child` runs on a stack of its own, big enough for it; `plan` and all that it points to outlive the call, which with
    // CLONE_VFORK returns only after the child has executed the program or ended.
    Ok(Errno::result(unsafe { libc::clone(run_child, stack.top(), flags, ptr::from_mut(plan).cast()) }))
}

/// The child, from clone(2) to execve(2).
extern "C" fn run_child(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the plan that `clone` passed, and `clone` is suspended. Only system calls are made, on pointers that have been
    // prepared.
    unsafe {
        let plan = &mut *argument.cast::<Plan>();
        let step = set_up(plan);
        plan.failure = Some((step, Errno::last_raw()));
        libc::_exit(127)
    }
}

/// Returns only when something has failed, with the step; errno tells why.
unsafe fn set_up(plan: &Plan) -> Step {
    // SAFETY: see `run_child`.
    unsafe {
        if let Some([user, group]) = &plan.maps {
            // Without this the group could not be mapped: groups may also take rights away.
            let files = [
                (c"/proc/self/setgroups", c"deny"),
                (c"/proc/self/uid_map", user),
                (c"/proc/self/gid_map", group),
            ];
            if !files.into_iter().all(|(path, text)| write(path, text)) {
                return Step::Map;
            }
        }
        // Mounts come in from outside, and so do their ends, which would otherwise be held up; none goes out.
        let propagation = libc::MS_REC | libc::MS_SLAVE;
        let proc_flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), propagation, ptr::null()) != 0
            || libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), proc_flags, ptr::null())
                != 0
        {
            return Step::Mount;
        }
        libc::setpgid(0, 0);
        libc::fcntl(plan.outer_proc, libc::F_SETFD, 0);
        if (0..).zip(plan.stdio).all(|(number, descriptor)| libc::dup2(descriptor, number) >= 0) {
            libc::execve(c"/proc/self/exe".as_ptr(), plan.argv, plan.environment);
        }
        Step::Exec
    }
}

unsafe fn write(path: &CStr, text: &CStr) -> bool {
    // SAFETY: see `run_child`.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        fd >= 0 && libc::write(fd, text.as_ptr().cast(), text.count_bytes()) >= 0 && libc::close(fd) == 0
    }
}

/// The kernel hands out variables without a NUL, and our arguments have none.
fn to_c(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).unwrap_or_default()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The /proc of those outside, for process 1 of a pid namespace: by which numbers others know its children.
#[derive(Debug)]
pub struct OuterProc(OwnedFd);

impl OuterProc {
    /// Takes over the descriptor. From here on this process is killed when its parent dies.
    ///
    /// # Errors
    /// When it was not passed, or those of prctl(2).
    pub fn adopt(number: RawFd) -> io::Result<Self> {
        let folder = super::adopt(number)?;
        // One that has died already is noticed by the end of the socket.
        // SAFETY: this prctl takes an integer and touches no memory of ours.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        Ok(Self(folder))
    }

    /// The number by which a child of ours that has not been reaped is known outside. What is known of a pidfd is told as whoever has mounted
    /// /proc sees it (proc_pid_fdinfo(5)).
    pub fn pid_of(&self, pid: i32) -> Option<i32> {
        let pidfd = open_pidfd(pid)?;
        let path = format!("self/fdinfo/{}", pidfd.as_raw_fd());
        let file =
            openat(self.0.as_fd(), path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let info = io::read_to_string(File::from(file)).ok()?;
        info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
    }
}
