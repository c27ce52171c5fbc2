//! Starting a job's process from a worker, with the semantics of vfork(2): the child borrows the worker's
//! memory until it executes the command, so that nothing is copied and its failure can be told by writing it
//! down.
//!
//! All that the child needs is made beforehand. Between clone(2) and execve(2) it makes system calls and
//! nothing else: no allocation, no lock, no destructor. The worker has one thread, which waits meanwhile, and
//! all its signals are blocked.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use libc::{c_char, c_int, c_void};
use nix::errno::Errno;
use pool_proto::OsText;

use super::clone::clone_into;
use super::fit::{fit, room};
use super::limits::{JobLimits, limit_address_space};
use super::namespace::announce;
use super::stack::Stack;
use crate::job::{Environment, ITEMS_VARIABLE, ProcessId, SpawnFailure, Stage};
use crate::kernel::end::bury;
use crate::kernel::identity::own_user;

/// Where a command without a slash is looked for when its environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// An environment as execve(2) takes it, made once for many jobs.
#[derive(Debug, Default)]
pub struct EnvironmentBlock {
    variables: Vec<(OsText, CString)>,
    path: OsText,
    umask: u32,
    limits: JobLimits,
}

impl EnvironmentBlock {
    /// Variables with a NUL in them cannot be passed on; admission has refused such.
    pub fn new(environment: &Environment) -> Self {
        let entry = |(name, value): (&OsText, &OsText)| Some((name.clone(), assignment(name, value)?));
        // What the submitter's own attempt has is not this one's.
        let is_own = |(name, _): &(&OsText, &OsText)| !name.as_escaped().starts_with(ITEMS_VARIABLE);
        Self {
            variables: environment.variables.iter().filter(is_own).filter_map(entry).collect(),
            path: environment.variables.get("PATH").cloned().unwrap_or_else(|| DEFAULT_PATH.into()),
            umask: environment.umask,
            limits: JobLimits::new(&environment.limits),
        }
    }
}

fn assignment(name: &OsText, value: &OsText) -> Option<CString> {
    CString::new([&name.to_bytes(), b"=".as_slice(), &value.to_bytes()].concat()).ok()
}

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    pub argv: &'a [OsText],
    pub environment: &'a EnvironmentBlock,
    /// On top of the environment; they win.
    pub variables: &'a [(OsText, OsText)],
    pub cwd: &'a OsText,
    /// Where `cwd` cannot be entered, `/` will do, variables that cannot be passed are cut, and the
    /// environment's limits are left out.
    pub lenient: bool,
    pub stdio: [BorrowedFd<'a>; 3],
    /// Standard input is a terminal, which is to be the process's own.
    pub at_terminal: bool,
    /// The control group that it is started in.
    pub group: Option<SpawnGroup<'a>>,
    /// The most address space that it may have, in bytes.
    pub address_space: Option<u64>,
}

impl Launch<'_> {
    /// The memory that it may use, if that is limited, in bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.environment.limits.memory_bytes.filter(|_| !self.lenient)
    }
}

/// A control group to start a process in.
#[derive(Debug, Clone, Copy)]
pub struct SpawnGroup<'a> {
    pub folder: BorrowedFd<'a>,
    /// clone3(2) can start a process in the group. Otherwise the process moves into the group by itself,
    /// which takes longer.
    pub by_clone: bool,
}

/// Starts processes.
#[derive(Debug)]
pub struct Spawner {
    stack: Stack,
    /// Signals that this process ignores: the one disposition that execve(2) would hand on.
    ignored: Vec<c_int>,
    /// The `oom_score_adj` of a job, where the worker has changed its own.
    oom_score_adj: Option<CString>,
    /// In a pid namespace: where each child says that it is there.
    announcements: Option<OwnedFd>,
    /// What each child has to itself, as flags of clone(2).
    namespaces: c_int,
}

/// Signals are numbered from 1 to this, those that the C library keeps to itself included.
const SIGNALS: c_int = 64;

/// In bytes.
const KERNEL_SIGSET_SIZE: usize = 8;

/// What the child reads, and where it writes its failure.
struct JobPlan<'a> {
    parent: libc::pid_t,
    candidates: &'a [*const c_char],
    argv: *const *const c_char,
    /// `/bin/sh`, the command, its arguments: for a script without an interpreter line. The second is filled
    /// in by the child.
    shell_argv: *mut *const c_char,
    environment: *const *const c_char,
    cwd: *const c_char,
    cwd_optional: bool,
    umask: libc::mode_t,
    limits: Option<&'a JobLimits>,
    address_space: Option<u64>,
    stdio: [c_int; 3],
    at_terminal: bool,
    ignored: &'a [c_int],
    oom_score_adj: Option<&'a CString>,
    announcements: Option<c_int>,
    /// A control group that the child has to move into by itself.
    group: Option<c_int>,
    /// The child has come to its first instruction. The kernel may kill it before that: see
    /// [`is_usable`](super::is_usable).
    has_begun: bool,
    failure: Option<(Stage, c_int)>,
}

impl Spawner {
    /// `oom_score_adj`: the value of a job, where this process has changed its own. `announcements`: see
    /// [`namespace`](super::namespace).
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(oom_score_adj: Option<String>, announcements: Option<OwnedFd>) -> io::Result<Self> {
        let ignored = (1..=SIGNALS).filter(|&signal| is_ignored(signal)).collect();
        let oom_score_adj = oom_score_adj.and_then(|value| CString::new(value).ok());
        // What root mounts and unmounts must not be there for the next one. Others may do neither.
        let is_root_of_its_own = announcements.is_some() && own_user().get() == 0;
        let namespaces = if is_root_of_its_own { libc::CLONE_NEWNS } else { 0 };
        Ok(Self { stack: Stack::new()?, ignored, oom_score_adj, announcements, namespaces })
    }

    /// Starts a process; returns its pid once the command has been executed.
    ///
    /// # Safety
    /// All signals must be blocked, and this process must have no other thread: the child has its memory, so
    /// that a handler that runs in the child, or a thread that goes on meanwhile, would change what the child
    /// reads.
    ///
    /// # Errors
    /// The step that failed. Nothing is left of the process then.
    pub unsafe fn spawn(&mut self, launch: &Launch<'_>) -> Result<ProcessId, SpawnFailure> {
        let invalid = |_| SpawnFailure { stage: Stage::Setup, errno: Errno::EINVAL as i32 };
        let argv: Vec<CString> = launch
            .argv
            .iter()
            .map(|argument| CString::new(argument.to_bytes()))
            .collect::<Result<_, _>>()
            .map_err(invalid)?;
        let cwd = CString::new(launch.cwd.to_bytes()).map_err(invalid)?;

        // The attempt's own variables come in the place of inherited ones of the same name.
        let own: Vec<CString> =
            launch.variables.iter().filter_map(|(name, value)| assignment(name, value)).collect();
        let inherited = launch.environment.variables.iter();
        let inherited =
            inherited.filter(|(name, _)| !launch.variables.iter().any(|(other, _)| other == name));
        let environment: Vec<&CString> = inherited.map(|(_, entry)| entry).chain(&own).collect();
        let arguments: usize = argv.iter().map(|argument| argument.count_bytes() + 1).sum();
        let fitted = if launch.lenient { fit(&environment, room().saturating_sub(arguments)) } else { None };
        let environment = match &fitted {
            Some(fitted) => pointers(fitted.iter()),
            None => pointers(environment.into_iter()),
        };

        let candidates =
            candidates(&launch.argv[0].to_bytes(), &launch.environment.path.to_bytes()).map_err(invalid)?;
        let candidates: Vec<*const c_char> = candidates.iter().map(|path| path.as_ptr()).collect();
        let mut shell_argv = vec![c"/bin/sh".as_ptr(), ptr::null()];
        shell_argv.extend(pointers(argv[1..].iter()));
        let argv = pointers(argv.iter());

        let mut plan = JobPlan {
            parent: std::process::id() as libc::pid_t,
            candidates: &candidates,
            argv: argv.as_ptr(),
            shell_argv: shell_argv.as_mut_ptr(),
            environment: environment.as_ptr(),
            cwd: cwd.as_ptr(),
            cwd_optional: launch.lenient,
            umask: launch.environment.umask as libc::mode_t,
            limits: (!launch.lenient).then_some(&launch.environment.limits),
            address_space: launch.address_space,
            stdio: launch.stdio.map(|descriptor| descriptor.as_raw_fd()),
            at_terminal: launch.at_terminal,
            ignored: &self.ignored,
            oom_score_adj: self.oom_score_adj.as_ref(),
            announcements: self.announcements.as_ref().map(AsRawFd::as_raw_fd),
            group: None,
            has_begun: false,
            failure: None,
        };

        // From here until the child has executed the command, this process waits in clone(2).
        let cloned = match launch.group {
            Some(home) => self.clone_into(home, &mut plan),
            None => self.clone(&mut plan),
        };
        let pid = cloned.map_err(|errno| SpawnFailure { stage: Stage::Fork, errno: errno as i32 })?;

        // SAFETY: the child wrote through a raw pointer, which the compiler cannot know of.
        let (has_begun, failure) = unsafe {
            (ptr::read_volatile(&raw const plan.has_begun), ptr::read_volatile(&raw const plan.failure))
        };
        match failure {
            None if has_begun => Ok(pid),
            None => {
                bury(pid);
                Err(SpawnFailure { stage: Stage::Killed, errno: Errno::EINTR as i32 })
            }
            Some((stage, errno)) => {
                bury(pid);
                Err(SpawnFailure { stage, errno })
            }
        }
    }
}

impl Spawner {
    fn clone(&self, plan: &mut JobPlan<'_>) -> nix::Result<ProcessId> {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | self.namespaces;
        // SAFETY: `run_child` runs on a stack of its own, big enough for it; `plan` and all that it points to
        // outlive the call, which with CLONE_VFORK returns only after the child has executed the command or
        // ended.
        let pid = unsafe { libc::clone(run_child, self.stack.top(), flags, ptr::from_mut(plan).cast()) };
        Errno::result(pid).map(ProcessId::new)
    }

    /// Where the group does not take it at all, it runs outside, with the subreaper alone to hold it.
    fn clone_into(&self, home: SpawnGroup<'_>, plan: &mut JobPlan<'_>) -> nix::Result<ProcessId> {
        let group = home.folder.as_raw_fd();
        if home.by_clone {
            let (stack, plan) = (self.stack.whole(), ptr::from_mut(plan).cast());
            // SAFETY: as in `clone`.
            match unsafe { clone_into(group, self.namespaces, stack, run_child, plan) } {
                Err(error) if !matches!(error, Errno::EAGAIN | Errno::ENOMEM) => {}
                result => return result,
            }
        }
        plan.group = Some(group);
        self.clone(plan)
    }
}

fn pointers<'a>(strings: impl Iterator<Item = &'a CString>) -> Vec<*const c_char> {
    strings.map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The paths to try in turn, as execvp(3) does.
fn candidates(program: &[u8], path: &[u8]) -> Result<Vec<CString>, std::ffi::NulError> {
    if program.contains(&b'/') {
        return Ok(vec![CString::new(program)?]);
    }
    let candidate = |folder: &[u8]| {
        let folder = if folder.is_empty() { b"." } else { folder };
        CString::new([folder, program].join(&b'/'))
    };
    path.split(|&byte| byte == b':').map(candidate).collect()
}

fn is_ignored(signal: c_int) -> bool {
    // Handler, flags, restorer and mask, as the kernel has them; the handler comes first.
    let mut action = [0_u64; 4];
    // SAFETY: with no new action the call only writes the old one, for which there is room.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            ptr::null::<c_void>(),
            action.as_mut_ptr(),
            KERNEL_SIGSET_SIZE,
        )
    };
    result == 0 && action[0] == libc::SIG_IGN as u64
}

/// The child, from clone(2) to execve(2).
extern "C" fn run_child(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the plan that `spawn` passed, and `spawn` is suspended. Only system calls are
    // made, on pointers that `spawn` has prepared.
    unsafe {
        let plan = &mut *argument.cast::<JobPlan<'_>>();
        ptr::write_volatile(&raw mut plan.has_begun, true);
        let stage = set_up(plan);
        plan.failure = Some((stage, Errno::last_raw()));
        libc::_exit(127)
    }
}

/// Returns only when something has failed, with the step; errno tells why.
unsafe fn set_up(plan: &mut JobPlan<'_>) -> Stage {
    // SAFETY: see `run_child`.
    unsafe {
        // Dies with the worker; which may have died already.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
            || libc::getppid() != plan.parent
            || libc::setsid() < 0
        {
            return Stage::Setup;
        }
        if plan.at_terminal && libc::ioctl(plan.stdio[0], libc::TIOCSCTTY, 0) != 0 {
            return Stage::Setup;
        }
        if let Some(socket) = plan.announcements {
            announce(socket);
        }
        if let Some(group) = plan.group {
            write_into(group, c"cgroup.procs", c"0");
        }
        // The system call itself: the library keeps two of the signals to itself. All zeroes is SIG_DFL,
        // without flags.
        let default = [0_u64; 4];
        for &signal in plan.ignored {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<c_void>(),
                KERNEL_SIGSET_SIZE,
            );
        }
        if let Some(value) = plan.oom_score_adj {
            write_into(libc::AT_FDCWD, c"/proc/self/oom_score_adj", value);
        }
        if libc::chdir(plan.cwd) != 0 && !(plan.cwd_optional && libc::chdir(c"/".as_ptr()) == 0) {
            return Stage::Cwd;
        }
        libc::umask(plan.umask);
        for (number, &descriptor) in (0..).zip(&plan.stdio) {
            if libc::dup2(descriptor, number) < 0 {
                return Stage::Setup;
            }
        }
        // All of ours are close-on-exec anyway; this is for those that somebody else's code has opened. Older
        // kernels lack it.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        // The last but one: with fewer open files than we have, or less memory, we could do nothing more.
        if let Some(limits) = plan.limits {
            limits.set();
        }
        if let Some(bytes) = plan.address_space {
            limit_address_space(bytes);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        execute(plan);
        Stage::Exec
    }
}

/// Writes to a file; best effort. Of `oom_score_adj`: the job is as likely to be killed when memory runs out
/// as it would be without us.
unsafe fn write_into(folder: c_int, path: &CStr, value: &CStr) {
    // SAFETY: see `run_child`.
    unsafe {
        let fd = libc::openat(folder, path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, value.as_ptr().cast(), value.count_bytes());
            libc::close(fd);
        }
    }
}

/// As execvp(3): the first candidate that can be executed; a file that may not be executed is reported if
/// there is no better one.
unsafe fn execute(plan: &mut JobPlan<'_>) {
    // SAFETY: see `run_child`.
    unsafe {
        let mut denied = false;
        for &candidate in plan.candidates {
            libc::execve(candidate, plan.argv, plan.environment);
            match Errno::last() {
                Errno::ENOEXEC => {
                    *plan.shell_argv.add(1) = candidate;
                    libc::execve(c"/bin/sh".as_ptr(), plan.shell_argv, plan.environment);
                    return;
                }
                Errno::EACCES => denied = true,
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                _ => return,
            }
        }
        if denied {
            Errno::EACCES.set();
        } else if plan.candidates.len() > 1 {
            // The last folder of PATH may not be one at all; what matters is that the command was nowhere.
            Errno::ENOENT.set();
        }
    }
}
