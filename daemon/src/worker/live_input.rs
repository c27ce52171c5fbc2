//! Standard input that clients write while the attempt runs. They write into a pipe of which the worker keeps
//! the end for writing, so that it has no end between two clients: see
//! [`WorkerLink::open_input`](crate::fleet). The job reads the pipe, or has a terminal, into which the worker
//! passes on what comes by the pipe; what the job writes to the terminal, the worker writes to its output.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use nix::unistd::{pipe2, read, write};
use pool_proto::nouns::Input;

use crate::job::Steer;
use crate::kernel::{Terminal, resize};

/// So much is passed on at once, in bytes.
const AT_ONCE: usize = 16 * 1024;

/// See the module's description.
#[derive(Debug)]
pub struct LiveInput {
    /// The end for writing. None once the job's input has got its end.
    door: Option<OwnedFd>,
    shown: Option<Shown>,
}

/// What a job has that runs at a terminal.
#[derive(Debug)]
struct Shown {
    terminal: Terminal,
    /// The end for reading.
    typed: OwnedFd,
    /// What was read there and the terminal has not taken.
    pending: Vec<u8>,
    /// The output could not be written, which was told.
    is_lossy: bool,
}

impl LiveInput {
    /// With what the job reads.
    ///
    /// # Errors
    /// Those of pipe(2) and of [`Terminal::open`].
    pub fn open(input: Input) -> io::Result<(Self, File)> {
        let (read_end, door) = pipe2(OFlag::O_CLOEXEC)?;
        let door = Some(door);
        match input {
            Input::Pipe => Ok((Self { door, shown: None }, read_end.into())),
            Input::Terminal => {
                let terminal = Terminal::open()?;
                let stdin = terminal.jobs.try_clone()?;
                let shown = Shown { terminal, typed: read_end, pending: Vec::new(), is_lossy: false };
                Ok((Self { door, shown: Some(shown) }, stdin.into()))
            }
        }
    }

    /// The number of the descriptor by which clients reach it.
    pub fn door(&self) -> Option<RawFd> {
        self.door.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The job's side of its terminal.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.shown.as_ref().map(|shown| shown.terminal.jobs.as_fd())
    }

    /// Whether it is in the way of nobody who does not get it: a client's wish may come too late.
    pub fn steer(&mut self, steer: Steer) {
        match (steer, &self.shown) {
            (Steer::CloseInput, None) => self.door = None,
            (Steer::Resize { rows, columns }, Some(shown)) => {
                // The terminal is there, so that the call cannot fail.
                let _ = resize(shown.terminal.ours.as_fd(), rows, columns);
            }
            (Steer::CloseInput, Some(_)) | (Steer::Resize { .. }, None) => {}
        }
    }

    /// What to wait for: of the terminal, and of the pipe.
    pub fn awaited(&self) -> Option<[(BorrowedFd<'_>, PollFlags); 2]> {
        let shown = self.shown.as_ref()?;
        let (out, typed) = match shown.pending.is_empty() {
            true => (PollFlags::empty(), PollFlags::POLLIN),
            false => (PollFlags::POLLOUT, PollFlags::empty()),
        };
        let ours = (shown.terminal.ours.as_fd(), PollFlags::POLLIN | out);
        Some([ours, (shown.typed.as_fd(), typed)])
    }

    /// Passes on what is there. The first error of the output, once.
    pub fn pass_on(&mut self, output: BorrowedFd<'_>, is_typed: bool) -> Option<io::Error> {
        let shown = self.shown.as_mut()?;
        if is_typed && shown.pending.is_empty() {
            let mut typed = vec![0; AT_ONCE];
            // Where nothing is there after all, nothing is pending.
            let count = read(&shown.typed, &mut typed).unwrap_or(0);
            typed.truncate(count);
            shown.pending = typed;
        }
        if !shown.pending.is_empty() {
            match write(&shown.terminal.ours, &shown.pending) {
                Ok(count) => _ = shown.pending.drain(..count),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // A terminal that takes nothing more has lost its job.
                Err(_) => shown.pending.clear(),
            }
        }
        shown.show(output, AT_ONCE).err()
    }

    /// The attempt is over: what it has written last is passed on.
    pub fn end(mut self, output: BorrowedFd<'_>) -> Option<io::Error> {
        let shown = self.shown.as_mut()?;
        shown.show(output, usize::MAX).err()
    }
}

impl Shown {
    /// Writes to the output what the job has written, up to about so many bytes. What the output does not
    /// take is lost: the job must not stand still where a disk is full.
    fn show(&mut self, output: BorrowedFd<'_>, most: usize) -> io::Result<()> {
        let mut buffer = vec![0; AT_ONCE];
        let mut output = File::from(output.try_clone_to_owned()?);
        let (mut count, mut told) = (0, Ok(()));
        while count < most {
            match read(&self.terminal.ours, &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN | Errno::EIO) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(bytes) => {
                    count += bytes;
                    if let Err(error) = output.write_all(&buffer[..bytes])
                        && !std::mem::replace(&mut self.is_lossy, true)
                    {
                        told = Err(error);
                    }
                }
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    fn type_into(input: &LiveInput, text: &str) {
        let door = input.door.as_ref().unwrap().try_clone().unwrap();
        File::from(door).write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_pipe_has_an_end_when_a_client_wants_that() {
        let (mut input, mut stdin) = LiveInput::open(Input::Pipe).unwrap();
        type_into(&input, "a");
        type_into(&input, "b");
        input.steer(Steer::CloseInput);
        assert_eq!((input.door(), input.terminal().is_none()), (None, true));
        let mut text = String::new();
        stdin.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ab");
    }

    #[test]
    fn a_terminal_echoes_what_is_typed_and_shows_what_is_written() {
        let mut output = File::from(memfd_create("output", MFdFlags::MFD_CLOEXEC).unwrap());
        let (mut input, mut job) = LiveInput::open(Input::Terminal).unwrap();
        type_into(&input, "typed\n");
        assert!(input.pass_on(output.as_fd(), true).is_none());
        let mut line = [0; 6];
        job.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"typed\n");
        job.write_all(b"written\n").unwrap();
        assert!(input.end(output.as_fd()).is_none());
        output.rewind().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "typed\r\nwritten\r\n");
    }
}
