//! The standard input of a job. poold gets the input before the job is submitted.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::Context;
use nix::libc;
use pool_proto::Client;
use pool_proto::methods::Spool;

/// Whether our own stdin holds input that nobody has read: a pipe with bytes in it, or a file that goes on. What
/// is typed at a terminal is meant for the shell.
pub fn has_unread_input() -> bool {
    let stdin = io::stdin();
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `stdin` lives, and the call writes one integer to `count`.
    let asked = unsafe { libc::ioctl(stdin.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    asked == 0 && count > 0 && !stdin.is_terminal()
}

/// Where the standard input of a job comes from. The input is opened before poolctl connects to poold, so an
/// input that cannot be read costs nothing.
#[derive(Debug)]
pub struct JobInput {
    source: File,
    name: String,
}

impl JobInput {
    /// Opens the file; `-` stands for our own stdin.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let source = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned().context("there is no stdin")?)
        } else {
            File::open(path).with_context(|| format!("cannot read {name}"))?
        };
        Ok(Self { source, name })
    }

    /// Copies the input to poold, which keeps it until the job has run. Returns the token of the input.
    ///
    /// # Errors
    /// When the input cannot be read, or poold cannot take it.
    pub fn spool(mut self, client: &mut Client) -> anyhow::Result<String> {
        let spooled = client.request(&Spool {})?;
        let mut target = File::from(client.take_descriptor()?);

        // The input must be on disk before the job is submitted, so that an accepted job does not lose its
        // input in a power cut.
        io::copy(&mut self.source, &mut target)
            .and_then(|_| target.sync_data())
            .with_context(|| format!("cannot hand over the standard input from {}", self.name))?;
        Ok(spooled.token)
    }
}
