//! Writing to our stdout and stderr without ever blocking. A reader that does not read cannot make poolctl
//! deaf to poold and to signals.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use super::stream::{PIPE_BUF, Stream};

/// The number of bytes that are made ready at once.
const CHUNK: usize = 64 * 1024;

/// Roughly the memory that a piece takes besides its bytes.
const OVERHEAD: usize = 256;

/// The content of a piece.
#[derive(Debug)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// A file, from an offset to its end.
    File { file: File, offset: u64 },
}

/// A piece of output for one of the two streams.
#[derive(Debug)]
pub struct Piece {
    target: Stream,
    content: Content,
    /// The text before each line of the piece.
    tag: Option<Vec<u8>>,
}

impl Piece {
    /// A piece with this content, for this stream.
    pub fn new(target: Stream, content: Content) -> Self {
        Self { target, content, tag: None }
    }

    /// The same piece with a tag before each of its lines.
    pub fn tagged(self, tag: Option<Vec<u8>>) -> Self {
        Self { tag, ..self }
    }

    /// Bytes of memory, and descriptors.
    pub fn holds(&self) -> (usize, usize) {
        let tag = self.tag.as_ref().map_or(0, Vec::len);
        match &self.content {
            Content::Bytes(bytes) => (OVERHEAD + tag + bytes.len(), 0),
            Content::File { .. } => (OVERHEAD + tag, 1),
        }
    }

    /// The next bytes of the content. No bytes at its end.
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
pub enum Printing {
    /// Everything is written.
    Done,
    /// This stream takes no more bytes at the moment.
    Blocked(Stream),
}

/// See the module's description.
#[derive(Debug)]
pub struct Printer {
    pieces: VecDeque<Piece>,
    /// The bytes of all pieces.
    bytes: usize,
    files: usize,
    /// The bytes that are ready. Those before `written` are written.
    buffer: Vec<u8>,
    written: usize,
    target: Stream,
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
            target: Stream::Stdout,
            at_line_start: true,
            has_stderr: true,
        }
    }
}

impl Printer {
    /// Adds pieces after those that wait already.
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

    /// Whether something is not written yet.
    pub fn has_work(&self) -> bool {
        self.written < self.buffer.len() || !self.pieces.is_empty()
    }

    /// Forgets all pieces: nobody reads them any more.
    pub fn clear(&mut self) {
        *self = Self { has_stderr: self.has_stderr, ..Self::default() };
    }

    /// Writes as much as the streams take.
    ///
    /// # Errors
    /// Those of reading the output's files and of writing to stdout. Errors of stderr are ignored: poolctl
    /// goes on without stderr.
    pub fn print(&mut self) -> io::Result<Printing> {
        loop {
            if self.written == self.buffer.len() && !self.refill()? {
                return Ok(Printing::Done);
            }

            let end = self.buffer.len().min(self.written + PIPE_BUF);
            let bytes = &self.buffer[self.written..end];
            match self.target.write_if_ready(bytes) {
                Ok(count) => self.written += count,
                Err(Errno::EAGAIN) => return Ok(Printing::Blocked(self.target)),
                Err(Errno::EINTR) => {}
                Err(_) if self.target == Stream::Stderr => {
                    self.has_stderr = false;
                    self.written = self.buffer.len();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the next bytes ready, from as many pieces as go to the same stream. False if no bytes are left.
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
                _ if piece.target == Stream::Stderr && !self.has_stderr => {}
                Some(tag) => {
                    self.at_line_start = copy_tagged(&mut self.buffer, tag, &taken, self.at_line_start)
                }
                None => self.buffer.extend_from_slice(&taken),
            }

            let is_whole = taken.is_empty() || matches!(piece.content, Content::Bytes(_));
            if !is_whole {
                continue;
            }

            // The next item must begin on a line of its own.
            if piece.tag.is_some() && !self.at_line_start {
                self.buffer.push(b'\n');
            }
            self.at_line_start = true;
            // The bytes of the piece are taken by now, so its size is that from before.
            self.bytes -= bytes;
            self.files -= files;
            self.pieces.pop_front();
        }
        Ok(!self.buffer.is_empty())
    }
}

/// Copies lines with the tag before each. Returns whether a new line begins afterwards.
fn copy_tagged(buffer: &mut Vec<u8>, tag: &[u8], bytes: &[u8], mut at_line_start: bool) -> bool {
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if at_line_start {
            buffer.extend_from_slice(tag);
        }
        buffer.extend_from_slice(line);
        at_line_start = line.ends_with(b"\n");
    }
    at_line_start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_tag() {
        let mut printer = Printer::default();
        let piece = |text: &str, tag: Option<&str>| {
            Piece::new(Stream::Stdout, Content::Bytes(text.into())).tagged(tag.map(Into::into))
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
            [(Stream::Stdout, "1"), (Stream::Stdout, "2"), (Stream::Stderr, "3"), (Stream::Stdout, "4")]
        {
            printer.add(vec![Piece::new(target, Content::Bytes(text.into()))]);
        }
        let mut seen = Vec::new();
        while printer.refill().unwrap() {
            seen.push((printer.target, String::from_utf8_lossy(&printer.buffer).into_owned()));
        }
        assert_eq!(
            seen,
            [(Stream::Stdout, "12".into()), (Stream::Stderr, "3".into()), (Stream::Stdout, "4".into())]
        );
    }
}
