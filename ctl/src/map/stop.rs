//! Ending a map early: who is told what. See the table in the [module above](super).

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use pool_proto::interface::{self, Cancel};
use pool_proto::{Client, ClientError, Refusal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use super::lane::Job;
use crate::connect::Link;
use crate::interrupt::note;

/// Where the map stands. It only ever goes further down this list.
#[derive(Debug, Default)]
pub struct Stop {
    are_calls: bool,
    stage: Stage,
    /// The first that came.
    signal: Option<i32>,
    is_unheard: bool,
    /// On which Cancel has been called: the reply comes with the ends, which are waited for anyway.
    calls: Vec<Client>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Going,
    /// Nothing more is submitted.
    Soon,
    /// Besides, what ran has got a signal, and what did not run is canceled.
    Interrupted,
    /// Everything is canceled.
    Canceling,
}

impl Stop {
    /// `are_calls`: what is in flight are no commands.
    pub fn of(are_calls: bool) -> Self {
        Self { are_calls, ..Self::default() }
    }

    pub fn is_stopping(&self) -> bool {
        self.stage > Stage::Going
    }

    /// A canceled job was canceled by us.
    pub fn is_canceling(&self) -> bool {
        self.stage >= Stage::Interrupted
    }

    pub fn is_unheard(&self) -> bool {
        self.is_unheard
    }

    /// Which we are to end by.
    pub fn signal(&self) -> Option<i32> {
        self.signal
    }

    pub fn soon(&mut self) {
        self.stage = self.stage.max(Stage::Soon);
    }

    /// `accepted`: the jobs in flight.
    ///
    /// # Errors
    /// When poold cannot be told.
    pub fn now(&mut self, accepted: &[Job], link: &Link) -> anyhow::Result<()> {
        if self.stage < Stage::Canceling {
            self.stage = Stage::Canceling;
            self.cancel(&ids(accepted), link)?;
        }
        Ok(())
    }

    /// Nobody reads our stdout.
    ///
    /// # Errors
    /// When poold cannot be told.
    pub fn unheard(&mut self, accepted: &[Job], link: &Link) -> anyhow::Result<()> {
        self.is_unheard = true;
        self.now(accepted, link)
    }

    /// The first one is passed on, the second one cancels, the third one does what it always does.
    ///
    /// # Errors
    /// When poold cannot be told.
    pub fn on_signal(&mut self, signal: i32, accepted: &[Job], link: &Link) -> anyhow::Result<()> {
        let is_first = self.signal.is_none();
        self.signal.get_or_insert(signal);
        match self.stage {
            // A call has no process of its own that could make something of it.
            Stage::Going | Stage::Soon if self.are_calls => self.now(accepted, link),
            Stage::Going | Stage::Soon => {
                self.stage = Stage::Interrupted;
                // What waits is canceled before anything ends by the signal and makes room for it. It may have started without our
                // knowing yet, the oldest first.
                let (running, mut waiting): (Vec<Job>, Vec<Job>) =
                    accepted.iter().copied().partition(|job| job.started);
                waiting.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
                let not_running = pass_on(signal, &ids(&waiting), link)?;
                self.cancel(&not_running, link)?;
                // Those that have ended meanwhile are none the worse for it.
                let not_running = pass_on(signal, &ids(&running), link)?;
                self.cancel(&not_running, link)
            }
            Stage::Interrupted => self.now(accepted, link),
            Stage::Canceling if is_first => Ok(()),
            Stage::Canceling => Ok(emulate_default_handler(signal)?),
        }
    }

    /// Jobs that were on their way when we stopped.
    ///
    /// # Errors
    /// When poold cannot be told.
    pub fn on_accepted(&mut self, ids: &[u64], link: &Link) -> anyhow::Result<()> {
        if self.is_canceling() { self.cancel(ids, link) } else { Ok(()) }
    }

    fn cancel(&mut self, ids: &[u64], link: &Link) -> anyhow::Result<()> {
        if !ids.is_empty() {
            let mut client = link.reconnect()?;
            client
                .send(&Cancel { ids: ids.to_vec() }, false)
                .context("the jobs in flight cannot be canceled")?;
            self.calls.push(client);
        }
        Ok(())
    }
}

fn ids(jobs: &[Job]) -> Vec<u64> {
    jobs.iter().map(|job| job.id).collect()
}

/// Returns the jobs that do not run.
fn pass_on(signal: i32, ids: &[u64], link: &Link) -> anyhow::Result<Vec<u64>> {
    let mut not_running = Vec::new();
    if ids.is_empty() {
        return Ok(not_running);
    }
    let mut client = link.reconnect()?;
    for &id in ids {
        match client.call(&interface::Signal { id, signal }) {
            Ok(_) => {}
            Err(ClientError::Refused(Refusal::NotRunning { .. })) => not_running.push(id),
            Err(error) => return Err(error).context("the signal cannot be passed on to the jobs in flight"),
        }
    }
    Ok(not_running)
}

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
        // One that is ignored goes at once.
        signals.taken();
        Ok(signals)
    }

    /// What becomes readable when one has come.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|(_, stream)| stream.as_fd())
    }

    /// Those that have come since, each as often as it came.
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
