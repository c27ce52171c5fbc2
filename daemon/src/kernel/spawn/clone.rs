//! clone3(2) with the semantics of vfork(2), straight into a control group: the C library has no wrapper for
//! it.
//!
//! The child comes back from the system call on a stack of its own, on which there is no frame to return to.
//! So a few instructions call its function from there, and never go on.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use libc::{c_int, c_void};
use nix::errno::Errno;

use super::stack::Stack;
use crate::job::{Exit, ProcessId};
use crate::kernel::end::bury;

/// What runs in the child; does not return.
pub type Child = extern "C" fn(*mut c_void) -> c_int;

/// Starts `child` in the group, with all memory shared, in namespaces of its own as the flags of clone(2)
/// say; returns its pid when it has executed a program or ended.
///
/// # Safety
/// `child` must not return and must only make system calls, which `stack` must be big enough for; nobody else
/// must use the stack.
///
/// # Errors
/// Those of clone3(2); `ENOSYS` where the kernel, or this program for the architecture, does not have it.
pub unsafe fn clone_into(
    group: RawFd,
    namespaces: c_int,
    stack: (*mut c_void, usize),
    child: Child,
    argument: *mut c_void,
) -> nix::Result<ProcessId> {
    let arguments = Arguments {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK | namespaces) as u64 | CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.0 as u64,
        stack_size: stack.1 as u64,
        cgroup: group as u64,
        ..Arguments::default()
    };
    // SAFETY: as the caller promises.
    let result = unsafe { clone3(&raw const arguments, child, argument) };
    if result < 0 { Err(Errno::from_raw(-result as i32)) } else { Ok(ProcessId::new(result as i32)) }
}

/// Whether a process that is started in the group lives. Linux 6.14 and later take it for one that was forked
/// while the group was being killed, and kill it, unless its group and its parent's have been killed equally
/// often; sandboxes forbid the call.
pub fn is_usable(group: BorrowedFd<'_>) -> bool {
    extern "C" fn end(_: *mut c_void) -> c_int {
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) }
    }
    let Ok(stack) = Stack::new() else { return false };
    // SAFETY: `end` makes one system call, on a stack that nobody else has.
    let cloned = unsafe { clone_into(group.as_raw_fd(), 0, stack.whole(), end, std::ptr::null_mut()) };
    cloned.is_ok_and(|pid| bury(pid) == Some(Exit::Code(0)))
}

/// Of linux/sched.h: more than the flags of clone(2) have room for.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// `struct clone_args` of linux/sched.h. Zeroes mean "none".
#[derive(Debug, Default)]
#[repr(C, align(8))]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    /// Its lowest address.
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A pid, or a negative error number.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(arguments: *const Arguments, child: Child, argument: *mut c_void) -> isize {
    let result: isize;
    // SAFETY: to the parent this is a system call that changes the registers named; all others are as before.
    // The child has the parent's registers but for `rax` and the stack pointer, which is aligned as a call
    // wants it, and stays within `child`.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {child}",
            "ud2",
            "2:",
            argument = in(reg) argument,
            child = in(reg) child,
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") arguments,
            in("rsi") size_of::<Arguments>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// A pid, or a negative error number.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(arguments: *const Arguments, child: Child, argument: *mut c_void) -> isize {
    let result: isize;
    // SAFETY: to the parent this is a system call that changes `x0` alone. The child has the parent's
    // registers but for `x0` and the stack pointer, which is aligned as it must be, and stays within `child`.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, {argument}",
            "blr {child}",
            "brk #1",
            "2:",
            argument = in(reg) argument,
            child = in(reg) child,
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments => result,
            in("x1") size_of::<Arguments>(),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: *const Arguments, _: Child, _: *mut c_void) -> isize {
    -(libc::ENOSYS as isize)
}
