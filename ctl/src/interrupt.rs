//! Signals to a poolctl that waits for a job:
//!
//! | poolctl gets | the job |
//! |---|---|
//! | SIGINT (Ctrl-C) | gets SIGINT; one that still waits for a slot is canceled |
//! | a second SIGINT within two seconds | is canceled: SIGTERM, its grace, SIGKILL |
//! | SIGTERM | gets SIGTERM; one that still waits for a slot is canceled |
//! | SIGHUP, SIGKILL, any other end | goes on, or with `--on-disconnect cancel` is canceled |
//!
//! In all but the last case poolctl goes on waiting, and exits as the job does. Before the job has been accepted, signals do what they
//! always do.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags};
use pool_proto::interface::{Cancel, Signal};
use pool_proto::{Client, ClientError, Refusal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

const TWICE_WITHIN: Duration = Duration::from_secs(2);

/// Signals turned into something to poll, and what they mean for one job.
#[derive(Debug)]
pub struct Interrupts {
    id: u64,
    socket: PathBuf,
    int: UnixStream,
    term: UnixStream,
    last_int: Option<Instant>,
    /// A cancel under way; its reply is not waited for, since the job's end is.
    canceling: Option<Client>,
}

impl Interrupts {
    /// Takes over SIGINT and SIGTERM.
    ///
    /// # Errors
    /// Those of sigaction(2) and socketpair(2).
    pub fn of_job(id: u64, socket: &std::path::Path) -> anyhow::Result<Self> {
        let int = handle(SIGINT).context("cannot handle SIGINT")?;
        let term = handle(SIGTERM).context("cannot handle SIGTERM")?;
        Ok(Self { id, socket: socket.to_owned(), int, term, last_int: None, canceling: None })
    }

    /// What becomes readable when a signal has come.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        [&self.int, &self.term].into_iter().map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN))
    }

    /// Does what the signals that have come mean.
    ///
    /// # Errors
    /// When poold cannot be told.
    pub fn handle(&mut self) -> anyhow::Result<()> {
        if has_come(&mut self.int) {
            let twice = self.last_int.replace(Instant::now()).is_some_and(|last| last.elapsed() < TWICE_WITHIN);
            if twice { self.cancel()? } else { self.forward(SIGINT)? }
        }
        if has_come(&mut self.term) {
            self.forward(SIGTERM)?;
        }
        Ok(())
    }

    fn forward(&mut self, signal: i32) -> anyhow::Result<()> {
        let mut client = self.connect()?;
        match client.call(&Signal { id: self.id, signal }) {
            Ok(_) => Ok(()),
            Err(ClientError::Refused(Refusal::NotRunning { .. })) => self.cancel(),
            Err(error) => Err(error).with_context(|| format!("cannot pass the signal on to job {}", self.id)),
        }
    }

    fn cancel(&mut self) -> anyhow::Result<()> {
        let mut client = self.connect()?;
        client.send(&Cancel { ids: vec![self.id] }, false).with_context(|| format!("cannot cancel job {}", self.id))?;
        self.canceling = Some(client);
        Ok(())
    }

    fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(&self.socket).with_context(|| format!("cannot reach poold; job {} goes on", self.id))
    }
}

fn handle(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    pipe::register(signal, write)?;
    Ok(read)
}

fn has_come(stream: &mut UnixStream) -> bool {
    let mut buffer = [0; 64];
    stream.read(&mut buffer).is_ok_and(|count| count > 0)
}
