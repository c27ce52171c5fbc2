//! Our stdout and stderr, written no faster than they are read and without ever blocking, so that whoever does not read cannot make us
//! deaf to poold and to signals.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// Bytes that are made ready at once.
const CHUNK: usize = 64 * 1024;

/// So much a pipe takes without blocking when it is writable (PIPE_BUF).
const WRITE: usize = 4096;

/// What a piece costs in memory besides its bytes, roughly.
const OVERHEAD: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Stdout,
    Stderr,
}

impl Target {
    /// Calls `act` with its descriptor.
    pub fn with_fd<T>(self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Stdout => act(io::stdout().as_fd()),
            Self::Stderr => act(io::stderr().as_fd()),
        }
    }
}

#[derive(Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    File { file: File, offset: u64 },
}

/// Something that goes to one of them.
#[derive(Debug)]
pub struct Piece {
    target: Target,
    content: Content,
    /// What comes before each of its lines.
    tag: Option<String>,
}

impl Piece {
    pub fn new(target: Target, content: Content) -> Self {
        Self { target, content, tag: None }
    }

    pub fn tagged(self, tag: Option<String>) -> Self {
        Self { tag, ..self }
    }

    /// Bytes of memory, and descriptors.
    pub fn holds(&self) -> (usize, usize) {
        let tag = self.tag.as_ref().map_or(0, String::len);
        match &self.content {
            Content::Bytes(bytes) => (OVERHEAD + tag + bytes.len(), 0),
            Content::File { .. } => (OVERHEAD + tag, 1),
        }
    }

    /// The next bytes of it as they are; none at its end.
    fn take(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.content {
            Content::Bytes(bytes) => Ok(std::mem::take(bytes)),
            Content::File { file, offset } => {
                let mut bytes = vec![0; CHUNK];
                let count = file.read_at(&mut bytes, *offset)?;
                bytes.truncate(count);
                *offset += count as u64;
                Ok(bytes)
            }
        }
    }
}

/// How far printing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything is out.
    Done,
    /// Until that one can be written.
    Blocked(Target),
}

/// See the module's description.
#[derive(Debug)]
pub struct Printer {
    pieces: VecDeque<Piece>,
    /// Of all pieces.
    bytes: usize,
    files: usize,
    /// What is being written, from `written` on.
    buffer: Vec<u8>,
    written: usize,
    target: Target,
    /// The first piece is at the beginning of a line.
    at_line_start: bool,
    has_stderr: bool,
}

impl Default for Printer {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            files: 0,
            buffer: Vec::new(),
            written: 0,
            target: Target::Stdout,
            at_line_start: true,
            has_stderr: true,
        }
    }
}

impl Printer {
    pub fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let (bytes, files) = piece.holds();
            self.bytes += bytes;
            self.files += files;
            self.pieces.push_back(piece);
        }
    }

    /// Bytes of memory, and descriptors.
    pub fn holds(&self) -> (usize, usize) {
        (self.bytes, self.files)
    }

    pub fn has_work(&self) -> bool {
        self.written < self.buffer.len() || !self.pieces.is_empty()
    }

    /// Nobody reads us any more.
    pub fn clear(&mut self) {
        *self = Self { has_stderr: self.has_stderr, ..Self::default() };
    }

    /// Writes what can be written.
    ///
    /// # Errors
    /// Those of reading the output's files and of writing to stdout. A stderr that nobody reads is done without.
    pub fn print(&mut self) -> io::Result<State> {
        loop {
            if self.written == self.buffer.len() && !self.refill()? {
                return Ok(State::Done);
            }
            let end = self.buffer.len().min(self.written + WRITE);
            let bytes = &self.buffer[self.written..end];
            match self.target.with_fd(|fd| write_if_ready(fd, bytes)) {
                Ok(count) => self.written += count,
                Err(Errno::EAGAIN) => return Ok(State::Blocked(self.target)),
                Err(Errno::EINTR) => {}
                Err(_) if self.target == Target::Stderr => {
                    self.has_stderr = false;
                    self.written = self.buffer.len();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the next bytes ready, of as many pieces as go the same way; false when there are none.
    fn refill(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        self.written = 0;
        while let Some(piece) = self.pieces.front_mut() {
            if !self.buffer.is_empty() && (piece.target != self.target || self.buffer.len() >= CHUNK) {
                break;
            }
            self.target = piece.target;
            let (bytes, files) = piece.holds();
            let taken = piece.take()?;
            match &piece.tag {
                _ if piece.target == Target::Stderr && !self.has_stderr => {}
                Some(tag) => {
                    self.at_line_start = copy_tagged(&mut self.buffer, tag, &taken, self.at_line_start)
                }
                None => self.buffer.extend_from_slice(&taken),
            }
            let is_whole = taken.is_empty() || matches!(piece.content, Content::Bytes(_));
            if !is_whole {
                continue;
            }
            // Another item's line does not begin in the middle of this one's last.
            if piece.tag.is_some() && !self.at_line_start {
                self.buffer.push(b'\n');
            }
            self.at_line_start = true;
            // A piece of bytes is empty by now.
            self.bytes -= bytes;
            self.files -= files;
            self.pieces.pop_front();
        }
        Ok(!self.buffer.is_empty())
    }
}

/// Returns whether a line begins after that.
fn copy_tagged(buffer: &mut Vec<u8>, tag: &str, bytes: &[u8], mut at_line_start: bool) -> bool {
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if at_line_start {
            buffer.extend_from_slice(tag.as_bytes());
        }
        buffer.extend_from_slice(line);
        at_line_start = line.ends_with(b"\n");
    }
    at_line_start
}

fn write_if_ready(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    if poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO)? == 0 {
        return Err(Errno::EAGAIN);
    }
    write(fd, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_tag() {
        let mut printer = Printer::default();
        let piece = |text: &str, tag: Option<&str>| {
            Piece::new(Target::Stdout, Content::Bytes(text.into())).tagged(tag.map(ToOwned::to_owned))
        };
        printer.add(vec![
            piece("1\n\n2", Some("a ")),
            piece("3\n", Some("b ")),
            piece("4", None),
            piece("5\n", None),
        ]);
        assert!(printer.refill().unwrap());
        assert_eq!(String::from_utf8_lossy(&printer.buffer), "a 1\na \na 2\nb 3\n45\n");
        assert_eq!((printer.holds(), printer.pieces.len()), ((0, 0), 0));
    }

    #[test]
    fn one_stream_at_a_time() {
        let mut printer = Printer::default();
        for (target, text) in
            [(Target::Stdout, "1"), (Target::Stdout, "2"), (Target::Stderr, "3"), (Target::Stdout, "4")]
        {
            printer.add(vec![Piece::new(target, Content::Bytes(text.into()))]);
        }
        let mut seen = Vec::new();
        while printer.refill().unwrap() {
            seen.push((printer.target, String::from_utf8_lossy(&printer.buffer).into_owned()));
        }
        assert_eq!(
            seen,
            [(Target::Stdout, "12".into()), (Target::Stderr, "3".into()), (Target::Stdout, "4".into())]
        );
    }
}
