//! Descriptors: which of them a child inherits, which of them this process has inherited, and what a pipe or
//! a socket tells of itself.
//!
//! Every descriptor of poold's is close-on-exec from its birth. A descriptor that a child is to have is
//! passed by its number on the child's command line, and the child adopts it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, Inotify, WatchDescriptor};
use nix::sys::socket::{Backlog, listen};

/// Sets whether a descriptor is closed by execve(2).
///
/// # Errors
/// Those of fcntl(2).
pub fn close_on_exec(descriptor: &impl AsFd, close: bool) -> io::Result<()> {
    let flags = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Takes over a descriptor that the parent process has passed by its number. No child of this process
/// inherits it.
///
/// # Safety
/// Nothing else in this process may own the descriptor of that number, now or later: it must have been passed
/// for this process to own, and each number may be adopted once.
///
/// # Errors
/// When there is no descriptor of that number.
pub unsafe fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // Asked before anything owns it: an owner of a number that is not open would close it, which the standard
    // library takes for a bug. SAFETY: fcntl(2) takes integers here and touches no memory of ours.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }

    // SAFETY: the descriptor is open, and the caller promises that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether nobody but the owner of this description of a file can write to the file. False where the file
/// system does not tell.
pub fn is_only_writer(file: &impl AsRawFd) -> bool {
    let lease = |kind: libc::c_int| {
        // SAFETY: fcntl(2) takes integers here and touches no memory of ours.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
    };
    // The kernel grants this lease only while nobody else has the file open for writing.
    lease(libc::F_WRLCK) && lease(libc::F_UNLCK)
}

/// Has the next write to a file told, once.
///
/// # Errors
/// Those of inotify_add_watch(2).
pub fn watch_next_write(inotify: &Inotify, file: &impl AsRawFd) -> nix::Result<WatchDescriptor> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT)
}

/// Closes every descriptor but the standard streams.
///
/// # Safety
/// Nothing in this process may own a descriptor beyond the standard streams: to be called before anything is
/// opened.
pub unsafe fn close_inherited() {
    // SAFETY: as the caller promises, no owner is left behind. The call cannot fail with these arguments.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Puts a copy of `descriptor` in the place of `number`, which is closed first.
///
/// # Safety
/// Nothing in this process may own the descriptor `number`, as nothing owns the standard streams: an owner
/// would go on with another file.
///
/// # Errors
/// Those of dup2(2).
pub unsafe fn replace(number: RawFd, descriptor: &impl AsFd) -> io::Result<()> {
    // SAFETY: as the caller promises, nobody owns the descriptor that is closed.
    let result = unsafe { libc::dup2(descriptor.as_fd().as_raw_fd(), number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether no process has the other end of that pipe open any more. `pipe` is its writing end.
pub fn is_unread_for_good(pipe: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// How much a pipe holds, in bytes.
pub fn unread_bytes(pipe: &impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int, to where there is one.
    let result = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Gives a listening socket a longer queue of connections than the standard library asks for.
///
/// # Errors
/// Those of listen(2).
pub fn widen_backlog(listener: &impl AsFd) -> io::Result<()> {
    Ok(listen(listener, Backlog::new(4096).expect("the kernel caps it to net.core.somaxconn"))?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn a_number_without_a_descriptor_is_an_error_and_a_descriptor_is_adopted_close_on_exec() {
        // SAFETY: no descriptor has that number, so that nobody owns it.
        assert_eq!(unsafe { adopt(1 << 20) }.unwrap_err().raw_os_error(), Some(libc::EBADF));

        let (reader, writer) = io::pipe().unwrap();
        close_on_exec(&writer, false).unwrap();
        // SAFETY: the number has just been given up by its owner.
        let adopted = unsafe { adopt(OwnedFd::from(writer).into_raw_fd()) }.unwrap();
        assert_eq!(fcntl(&adopted, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        assert!(!is_unread_for_good(&adopted));
        drop(reader);
        assert!(is_unread_for_good(&adopted));
    }
}
