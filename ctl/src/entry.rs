//! How the process begins and ends, in place of the standard library's own entry: that one prepares for what
//! poolctl does not need, and looks at the process's memory map on the way. For a short job it was a tenth of
//! what poolctl does.

use std::fs::OpenOptions;
use std::mem;
use std::os::fd::BorrowedFd;
use std::process::exit;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};

/// Does what the standard library's entry does that poolctl needs, then `run`, and ends with its code.
pub fn enter(run: fn() -> u8) -> ! {
    open_closed_streams();
    // SAFETY: no handler of ours is involved.
    let ignored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    debug_assert!(ignored.is_ok(), "SIGPIPE can be ignored");

    // This writes what is still in the buffer of stdout, and drops nothing: the kernel is faster at that.
    exit(run().into())
}

/// Where poolctl was started without stdin, stdout or stderr, the next file that it opens would be taken for
/// it. So /dev/null takes its place.
fn open_closed_streams() {
    // SAFETY: poll(2) says of a descriptor that is not open that it is not.
    let streams = [0, 1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
    let mut asked = streams.map(|stream| PollFd::new(stream, PollFlags::empty()));
    while poll(&mut asked, PollTimeout::ZERO) == Err(Errno::EINTR) {}
    let closed =
        asked.iter().filter(|fd| fd.revents().is_some_and(|said| said.contains(PollFlags::POLLNVAL)));
    for _ in closed {
        // The lowest free number is the one that is missing. It stays open for as long as poolctl runs.
        mem::forget(OpenOptions::new().read(true).write(true).open("/dev/null"));
    }
}
