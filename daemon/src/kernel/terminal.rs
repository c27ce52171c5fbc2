//! Terminals of our own (pty(7)): what a job takes for a terminal, and the side from which that is seen.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};

/// A terminal of 80 columns and 24 rows.
#[derive(Debug)]
pub struct Terminal {
    /// What is written here, the job reads; what the job writes is read here. Does not block.
    pub ours: OwnedFd,
    /// The job's side. As long as somebody has it open, reading at ours has no end.
    pub jobs: OwnedFd,
}

impl Terminal {
    /// # Errors
    /// Those of openpty(3): there may be too many terminals, or no devpts.
    pub fn open() -> io::Result<Self> {
        let pair = openpty(&size(24, 80), None)?;
        for side in [&pair.master, &pair.slave] {
            fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { ours: pair.master, jobs: pair.slave })
    }
}

/// Gives the terminal another size, in characters; its foreground processes are told.
///
/// # Errors
/// Those of TIOCSWINSZ, ioctl_tty(2).
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = size(rows, columns);
    // SAFETY: the call reads a `winsize`, which is there.
    let result =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size)) };
    Ok(Errno::result(result).map(drop)?)
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
