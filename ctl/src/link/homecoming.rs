//! Waiting for a poold that is away: it is being restarted, or is gone for good. This says when to look for
//! poold again, and when to give up.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use pool_proto::{Client, ClientError};

use super::connect::{Link, is_absent};
use super::deadline::Deadline;

/// The first pause between two looks, and the longest: each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a look may block. connect(2) takes some microseconds, unless so many clients have come at once
/// that the socket's backlog is full.
const LONGEST_LOOK: Duration = Duration::from_millis(20);

/// See the module's description.
#[derive(Debug)]
pub struct Homecoming {
    give_up: Deadline,
    next_look: Instant,
    pause: Duration,
    /// The look that has not come to its end yet, if there is one.
    look: Option<Receiver<io::Result<Client>>>,
}

impl Homecoming {
    /// Waits from now on, and looks for poold at once. After `patience` it gives up.
    pub fn awaited(patience: Duration) -> Self {
        Self { give_up: Deadline::after(patience), next_look: Instant::now(), pause: FIRST_PAUSE, look: None }
    }

    /// When the next look is due.
    pub fn due(&self) -> Deadline {
        Deadline::at(self.next_look)
    }

    /// Looks for poold, if it is time to. Returns none while poold is away.
    ///
    /// # Errors
    /// When poold has not come back within the patience, or another user's server has taken its place.
    pub fn look(&mut self, link: &Link) -> anyhow::Result<Option<Client>> {
        if !self.due().is_over() {
            return Ok(None);
        }

        // connect(2) may block, so a thread calls it. The caller keeps listening to signals and deadlines.
        let look = self.look.take().unwrap_or_else(|| begin(link));
        let outcome = match look.recv_timeout(LONGEST_LOOK) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                self.look = Some(look);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the look for poold was cut off")),
        };

        match outcome {
            Ok(client) => Ok(Some(client)),
            Err(error) if may_come(&error) && !self.give_up.is_over() => {
                self.next_look = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Ok(None)
            }
            Err(error) => Err(error).context(ClientError::Disconnected(None)),
        }
    }
}

fn begin(link: &Link) -> Receiver<io::Result<Client>> {
    let link = link.clone();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(link.open()));
    receiver
}

/// Whether a later look may find poold.
fn may_come(error: &io::Error) -> bool {
    is_absent(error) || error.kind() == io::ErrorKind::WouldBlock
}
