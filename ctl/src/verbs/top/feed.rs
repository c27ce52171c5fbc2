//! poold's events, over its restarts, for as long as the screen is open.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_proto::methods::Events;
use pool_proto::nouns::Happening;
use pool_proto::{Client, ClientError, Refusal};

use crate::link::connect::Link;
use crate::link::deadline::Deadline;
use crate::link::session::{Session, Turn};

/// Reads in one turn. More events than that wait: the screen has its turn.
const READS: usize = 64;

/// After a refusal the next poold is looked for after that time.
const REST: Duration = Duration::from_millis(500);

/// What the feed tells.
#[derive(Debug)]
pub enum FeedNews {
    /// Something has happened.
    Heard(Box<Happening>),
    /// Some of what has happened was not told. All that happens from the next `listening` on is told.
    Missed,
    /// poold has gone.
    Lost,
}

/// See the module's description.
pub struct Feed<'a> {
    link: &'a Link,
    /// None until the next poold is looked for.
    session: Option<Session<'a>>,
    rest: Deadline,
}

impl<'a> Feed<'a> {
    /// The events that this connection tells.
    pub fn open(link: &'a Link, client: Client) -> Self {
        let mut session = Session::new(link, client);
        session.ask(&Events::default());
        Self { link, session: Some(session), rest: Deadline::NEVER }
    }

    /// Becomes readable when a turn is due.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.session.as_ref()?.fd()
    }

    /// When a turn is due although nothing is readable.
    pub fn due(&self) -> Deadline {
        self.session.as_ref().map_or(self.rest, Session::due)
    }

    /// Reads what has come. While poold is away, looks whether it is back.
    ///
    /// # Errors
    /// When poold refuses to tell anything.
    pub fn turn(&mut self, mut take: impl FnMut(FeedNews)) -> anyhow::Result<()> {
        for _ in 0..READS {
            let is_readable = self.fd().is_some_and(is_readable);
            if !is_readable && !self.due().is_over() {
                return Ok(());
            }
            self.read(&mut take)?;
        }
        Ok(())
    }

    fn read(&mut self, take: &mut impl FnMut(FeedNews)) -> anyhow::Result<()> {
        let Some(session) = &mut self.session else {
            // A poold that cannot be connected to may be one that is about to end.
            match Session::open(self.link) {
                Ok(mut session) => {
                    session.ask(&Events::default());
                    self.session = Some(session);
                }
                Err(_) => self.rest = Deadline::after(REST),
            }
            return Ok(());
        };
        match session.turn() {
            Ok(Turn::Idle) => return Ok(()),
            Ok(Turn::Read) => {}
            Ok(Turn::Lost) => {
                take(FeedNews::Lost);
                return Ok(());
            }
            Ok(Turn::Back) => {
                session.ask(&Events::default());
                return Ok(());
            }
            // It gives up after some time; the screen does not.
            Err(_) => return self.lose(Deadline::after(REST), FeedNews::Lost, take),
        }
        loop {
            match session.next_reply::<Events>() {
                Ok(Some((happening, _))) => take(FeedNews::Heard(Box::new(happening))),
                Ok(None) => return Ok(()),
                Err(ClientError::Refused(Refusal::EventsMissed { .. })) => {
                    return self.lose(Deadline::after(Duration::ZERO), FeedNews::Missed, take);
                }
                Err(ClientError::Refused(refusal)) if !is_of_an_end(&refusal) => return Err(refusal.into()),
                Err(error @ ClientError::Unexpected(_)) => return Err(error.into()),
                Err(_) => return self.lose(Deadline::after(REST), FeedNews::Lost, take),
            }
        }
    }

    fn lose(
        &mut self,
        rest: Deadline,
        news: FeedNews,
        take: &mut impl FnMut(FeedNews),
    ) -> anyhow::Result<()> {
        (self.session, self.rest) = (None, rest);
        take(news);
        Ok(())
    }
}

/// Whether another poold will not refuse that.
fn is_of_an_end(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::ShuttingDown {} | Refusal::Overloaded { .. })
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
