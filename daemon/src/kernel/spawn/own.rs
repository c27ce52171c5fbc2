//! This program, started as a child: a worker of the supervisor's.
//!
//! The supervisor may be large, and fork(2) would copy its page tables, for as long as nothing else is done.
//! So its children, too, borrow its memory until they execute the program. Its other threads go on meanwhile:
//! the child makes nothing but system calls, on a stack and on data that no other thread has.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use libc::{c_char, c_int, c_void};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};

use super::namespace::{self, Maps, NAMESPACES};
use super::stack::Stack;
use crate::job::ProcessId;
use crate::kernel::end::bury;

/// This program, to be started as a child. All its signals are blocked, and it leads a process group.
#[derive(Debug)]
pub struct OwnProgram<'a> {
    pub arguments: &'a [OsString],
    /// Variables that it does not get.
    pub hidden: &'a [&'a str],
    pub stdin: &'a OwnedFd,
    /// The child becomes process 1 of a pid namespace.
    pub isolated: bool,
}

/// What the child does first, for the message when it fails.
#[derive(Debug, Clone, Copy)]
pub enum OwnStep {
    Map,
    Mount,
    Exec,
}

/// What the child reads, and where it writes its failure.
struct OwnPlan {
    argv: *const *const c_char,
    environment: *const *const c_char,
    stdio: [c_int; 2],
    /// For a child in namespaces of its own.
    isolated: Option<Isolation>,
    failure: Option<(OwnStep, c_int)>,
}

/// What a child in namespaces of its own needs.
struct Isolation {
    /// The maps of a user namespace, where there is one.
    maps: Option<Maps>,
    /// Where the process tables of those outside are mounted.
    tables: Vec<*const c_char>,
}

impl OwnProgram<'_> {
    /// Starts it; returns its pid once the program has been executed.
    ///
    /// # Errors
    /// Those of clone(2) and execve(2); for an isolated child what is missing, and what to do about it.
    pub fn spawn(&self) -> io::Result<ProcessId> {
        let null = File::options().write(true).open("/dev/null")?;
        let tables = if self.isolated { namespace::process_tables()? } else { Vec::new() };

        let mut argv: Vec<CString> = vec![c"poold".to_owned()];
        argv.extend(self.arguments.iter().map(|argument| to_c(argument)));
        let environment =
            std::env::vars_os().filter(|(name, _)| !self.hidden.iter().any(|hidden| name == hidden));
        let environment: Vec<CString> = environment
            .map(|(name, value)| to_c(&[name.as_os_str(), &value].join(OsStr::new("="))))
            .collect();
        let (argv, environment) = (pointers(&argv), pointers(&environment));

        let mut plan = OwnPlan {
            argv: argv.as_ptr(),
            environment: environment.as_ptr(),
            stdio: [self.stdin.as_raw_fd(), null.as_raw_fd()],
            isolated: self.isolated.then(|| {
                let tables = tables.iter().map(|path| path.as_ptr()).collect();
                Isolation { maps: None, tables }
            }),
            failure: None,
        };
        // A handler of ours must not run in the child, which shares our memory.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let pid = start(&mut plan);
        mask.thread_set_mask()?;
        pid
    }
}

fn start(plan: &mut OwnPlan) -> io::Result<ProcessId> {
    let pid = if plan.isolated.is_none() {
        clone(plan, 0)?.map_err(io::Error::from)?
    } else {
        let cloned = match clone(plan, NAMESPACES)? {
            Err(Errno::EPERM) => {
                plan.isolated.iter_mut().for_each(|isolation| isolation.maps = Some(Maps::of_this_user()));
                clone(plan, NAMESPACES | libc::CLONE_NEWUSER)?
            }
            result => result,
        };
        cloned.map_err(namespace::explain_clone)?
    };

    // SAFETY: the child wrote through a raw pointer, which the compiler cannot know of.
    let failure = unsafe { ptr::read_volatile(&raw const plan.failure) };
    let Some((step, errno)) = failure else { return Ok(pid) };
    bury(pid);
    let errno = Errno::from_raw(errno);
    Err(if plan.isolated.is_some() { namespace::explain_step(step, errno) } else { errno.into() })
}

fn clone(plan: &mut OwnPlan, namespaces: c_int) -> io::Result<nix::Result<ProcessId>> {
    let stack = Stack::new()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | namespaces;
    // SAFETY: `run_child` runs on a stack of its own, big enough for it; `plan` and all that it points to
    // outlive the call, which with CLONE_VFORK returns only after the child has executed the program or
    // ended.
    let pid = unsafe { libc::clone(run_child, stack.top(), flags, ptr::from_mut(plan).cast()) };
    Ok(Errno::result(pid).map(ProcessId::new))
}

/// The child, from clone(2) to execve(2).
extern "C" fn run_child(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the plan that `clone` passed, and `clone` is suspended. Only system calls are
    // made, on pointers that have been prepared.
    unsafe {
        let plan = &mut *argument.cast::<OwnPlan>();
        let step = set_up(plan);
        plan.failure = Some((step, Errno::last_raw()));
        libc::_exit(127)
    }
}

/// Returns only when something has failed, with the step; errno tells why.
unsafe fn set_up(plan: &OwnPlan) -> OwnStep {
    // SAFETY: see `run_child`.
    unsafe {
        match &plan.isolated {
            Some(Isolation { maps, tables }) => {
                if let Err(step) = namespace::enter(maps.as_ref(), tables) {
                    return step;
                }
            }
            // It goes on when its parent dies: a child that was being stopped, to be killed next, by somebody
            // who was killed before he could, would not notice anything any more. It holds for whoever
            // becomes its parent later. Process 1 of a pid namespace is killed instead (see
            // `namespace::die_with_parent`).
            None => _ = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGCONT),
        }
        libc::setpgid(0, 0);
        if (0..).zip(plan.stdio).all(|(number, descriptor)| libc::dup2(descriptor, number) >= 0) {
            libc::execve(c"/proc/self/exe".as_ptr(), plan.argv, plan.environment);
        }
        OwnStep::Exec
    }
}

/// The kernel hands out variables without a NUL, and our arguments have none.
fn to_c(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).unwrap_or_default()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Exit;

    fn run(arguments: &[&str]) -> Option<Exit> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let stdin = OwnedFd::from(File::open("/dev/null").unwrap());
        let program = OwnProgram { arguments: &arguments, hidden: &[], stdin: &stdin, isolated: false };
        bury(program.spawn().unwrap())
    }

    #[test]
    fn this_program_is_started_with_its_arguments() {
        // The program is the test harness, which knows its own flags and no others.
        assert_eq!(run(&["--list"]), Some(Exit::Code(0)));
        assert_ne!(run(&["--no-such-flag"]), Some(Exit::Code(0)));
    }
}
