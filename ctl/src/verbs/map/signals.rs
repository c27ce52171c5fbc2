//! The signals of a map, noted until its loop acts on them.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::follow::note;

/// SIGINT and SIGTERM, noted instead of obeyed.
#[derive(Debug)]
pub struct Signals {
    streams: Vec<(i32, UnixStream)>,
}

impl Signals {
    /// # Errors
    /// Those of sigaction(2) and socketpair(2).
    pub fn noted() -> anyhow::Result<Self> {
        let mut streams = Vec::new();
        for signal in [SIGINT, SIGTERM] {
            let stream = note(signal).with_context(|| format!("cannot handle signal {signal}"))?;
            stream.set_nonblocking(true)?;
            streams.push((signal, stream));
        }
        let mut signals = Self { streams };
        // The stream of an ignored signal is at its end, and is removed here.
        signals.taken();
        Ok(signals)
    }

    /// The descriptors that become readable when a signal has come.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|(_, stream)| stream.as_fd())
    }

    /// The signals that have come since the last call, each as often as it came.
    pub fn taken(&mut self) -> Vec<i32> {
        let mut taken = Vec::new();
        self.streams.retain_mut(|(signal, stream)| {
            let mut buffer = [0; 64];
            match stream.read(&mut buffer) {
                Ok(count) => {
                    taken.extend(std::iter::repeat_n(*signal, count));
                    count > 0
                }
                Err(error) => {
                    error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::Interrupted
                }
            }
        });
        taken
    }
}
