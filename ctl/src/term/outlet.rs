//! Where the output of a job goes: one of our streams, as it is, or line by line with a prefix that says
//! whose it is. Lines of several jobs that are followed at the same time do not mix.

use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::PollTimeout;

use super::stream::{PIPE_BUF, Stream};

/// A line that is longer is broken.
const LONGEST: usize = 64 * 1024;

/// Held while lines are written.
static WRITING: Mutex<()> = Mutex::new(());

/// See the module's description.
#[derive(Debug, Clone)]
pub struct Outlet {
    stream: Stream,
    prefix: Option<String>,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Outlet {
    /// An outlet into this stream.
    pub fn new(stream: Stream, prefix: Option<String>) -> Self {
        Self { stream, prefix, begun: Vec::new() }
    }

    /// Whether a write of so many bytes may have to wait for the reader.
    pub fn may_block(&self, count: usize) -> bool {
        count > PIPE_BUF || !self.stream.is_ready(PollTimeout::ZERO).unwrap_or(false)
    }

    /// Writes what has come.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let Some(prefix) = &self.prefix else { return self.stream.write_all(bytes) };
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.begun.extend_from_slice(part);
            if !self.begun.ends_with(b"\n") {
                if self.begun.len() < LONGEST {
                    continue;
                }
                self.begun.push(b'\n');
            }
            lines.extend_from_slice(prefix.as_bytes());
            lines.append(&mut self.begun);
        }
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.write_all(&lines)
    }

    /// Writes a last line that has no end.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn finish(&mut self) -> Result<(), Errno> {
        if self.begun.is_empty() { Ok(()) } else { self.write(b"\n") }
    }
}
