//! A connection that goes on over restarts of poold. This is the one place that knows how to reconnect.
//!
//! ```text
//!              the connection is lost
//!   connected ────────────────────────▶ away ──▶ given up (an error)
//!       ▲         Turn::Lost             │
//!       └────────────────────────────────┘
//!          Turn::Back: whoever waits for something has to ask again
//! ```
//!
//! A [`Session`] never blocks its owner, who polls the descriptor of the session beside others. A
//! [`Subscription`] is for owners that wait for nothing else: it sends one request, sends it again after each
//! restart, and has a deadline that holds also while poold is away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{setsockopt, sockopt::SendTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use pool_proto::{Client, ClientError, Method};

use super::connect::{Link, RECONNECT, is_absent};
use super::deadline::{Deadline, TimeUp};
use super::homecoming::Homecoming;

/// How often poold may go before it has replied to anything. One that is being restarted goes once.
const MAX_LOSSES: u32 = 20;

/// See the module's description.
#[derive(Debug)]
pub struct Session<'a> {
    link: &'a Link,
    standing: Standing,
    /// How often poold has gone since its last reply.
    losses: u32,
    /// Bounds the time that a write may block, because poold does not read.
    deadline: Deadline,
}

#[derive(Debug)]
enum Standing {
    Connected(Client),
    Away(Homecoming),
}

/// What a turn has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing has changed.
    Idle,
    /// Bytes have come, so there may be replies.
    Read,
    /// poold has gone. All replies that poold had sent have been read.
    Lost,
    /// poold is back, on a new connection. The owner has to send its request again.
    Back,
}

impl<'a> Session<'a> {
    /// A session that begins with this connection.
    pub fn new(link: &'a Link, client: Client) -> Self {
        Self { link, standing: Standing::Connected(client), losses: 0, deadline: Deadline::NEVER }
    }

    /// Connects to a poold that was there before. If poold is away just now, the session goes on when poold
    /// is back.
    ///
    /// # Errors
    /// When poold is there but does not let us connect.
    pub fn open(link: &'a Link) -> anyhow::Result<Self> {
        let standing = match link.open() {
            Ok(client) => Standing::Connected(client),
            Err(error) if is_absent(&error) => Standing::Away(Homecoming::awaited(RECONNECT)),
            Err(error) => return Err(error).context(ClientError::Disconnected(None)),
        };
        Ok(Self { link, standing, losses: 0, deadline: Deadline::NEVER })
    }

    /// Whether poold is away, as far as this session knows.
    pub fn is_away(&self) -> bool {
        matches!(self.standing, Standing::Away(_))
    }

    /// Sends a request that may have many replies. Errors are not returned: a lost connection shows when it
    /// is read, and while poold is away nothing is sent. In both cases [`Turn::Back`] comes, and then the
    /// owner asks again.
    pub fn ask<M: Method>(&mut self, request: &M) {
        if let Standing::Connected(client) = &mut self.standing {
            bound_writes(client, self.deadline);
            // An error here shows once more when the connection is read.
            let _ = client.send(request, true);
        }
    }

    /// The next reply among the bytes that have been read. Never blocks.
    ///
    /// # Errors
    /// When poold refuses, or its reply cannot be read.
    pub fn next_reply<M: Method>(&mut self) -> Result<Option<(M::Reply, bool)>, ClientError> {
        match &mut self.standing {
            Standing::Connected(client) => {
                let reply = client.next_reply::<M>();
                if !matches!(reply, Ok(None)) {
                    self.losses = 0;
                }
                reply
            }
            Standing::Away(_) => Ok(None),
        }
    }

    /// Takes the oldest descriptor that has come and was not taken yet.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_descriptor(&mut self) -> Result<OwnedFd, ClientError> {
        match &mut self.standing {
            Standing::Connected(client) => client.take_descriptor(),
            Standing::Away(_) => Err(ClientError::Disconnected(None)),
        }
    }

    /// The descriptor that becomes readable when a turn is due. None while poold is away.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.standing {
            Standing::Connected(client) => Some(client.as_fd()),
            Standing::Away(_) => None,
        }
    }

    /// When a turn is due although nothing has become readable.
    pub fn due(&self) -> Deadline {
        match &self.standing {
            Standing::Connected(_) => Deadline::NEVER,
            Standing::Away(homecoming) => homecoming.due(),
        }
    }

    /// Looks for poold at once, since another session has seen that poold is back.
    pub fn hurry(&mut self) {
        if self.is_away() {
            self.standing = Standing::Away(Homecoming::awaited(RECONNECT));
        }
    }

    /// Reads once; this blocks unless [`fd`](Self::fd) is readable. While poold is away, looks whether poold
    /// is back.
    ///
    /// # Errors
    /// When poold does not come back, or its bytes cannot be read.
    pub fn turn(&mut self) -> anyhow::Result<Turn> {
        match &mut self.standing {
            Standing::Connected(client) => match client.fill() {
                Ok(true) => Ok(Turn::Read),
                // The first look is due at once: a poold that is restarted quickly is found quickly.
                Ok(false) | Err(ClientError::Disconnected(_)) => {
                    self.losses += 1;
                    if self.losses > MAX_LOSSES {
                        return Err(ClientError::Disconnected(None)).context(format!(
                            "poold has closed the connection {MAX_LOSSES} times without a reply; its log says why"
                        ));
                    }
                    self.standing = Standing::Away(Homecoming::awaited(RECONNECT));
                    Ok(Turn::Lost)
                }
                Err(error) => Err(error.into()),
            },
            Standing::Away(homecoming) => match homecoming.look(self.link)? {
                Some(client) => {
                    self.standing = Standing::Connected(client);
                    Ok(Turn::Back)
                }
                None => Ok(Turn::Idle),
            },
        }
    }
}

/// Makes writes that block give up at the deadline.
fn bound_writes(client: &Client, deadline: Deadline) {
    let Some(left) = deadline.left() else { return };
    // Zero would mean no limit.
    let micros = left.max(Duration::from_millis(1)).as_micros();
    let limit = TimeVal::microseconds(i64::try_from(micros).unwrap_or(i64::MAX));

    // Without the limit a write still blocks only if poold does not read at all.
    let _ = setsockopt(client, SendTimeout, &limit);
}

/// One request and its replies, over restarts of poold, until the deadline.
#[derive(Debug)]
pub struct Subscription<'a, M: Method> {
    session: Session<'a>,
    request: M,
    /// poold is back, and has not been asked yet.
    is_to_ask: bool,
}

/// What a subscription tells its owner.
#[derive(Debug)]
pub enum News<R> {
    /// A reply, and whether more replies follow.
    Reply(R, bool),
    /// poold has gone.
    Lost,
    /// poold is back, and is asked again next. poold may repeat earlier replies.
    Back,
}

impl<'a, M: Method> Subscription<'a, M> {
    /// Connects to poold, or starts poold, and sends the request.
    ///
    /// # Errors
    /// When there is no poold, or [`TimeUp`] at the deadline.
    pub fn open(link: &'a Link, request: M, deadline: Deadline) -> anyhow::Result<Self> {
        let client = link.connect_before(deadline)?;
        let mut session = Session { deadline, ..Session::new(link, client) };
        session.ask(&request);
        Ok(Self { session, request, is_to_ask: false })
    }

    /// The request, as it is sent after the next restart of poold; after [`News::Back`], as it is sent now.
    pub fn request_mut(&mut self) -> &mut M {
        &mut self.request
    }

    /// Whether poold is away, as far as this session knows.
    pub fn is_away(&self) -> bool {
        self.session.is_away()
    }

    /// Sends another request in place of the one that poold has refused.
    pub fn ask(&mut self, request: M) {
        self.request = request;
        self.session.ask(&self.request);
    }

    /// Waits for the next thing to tell. `settle` is called each time before it waits, and again at the time
    /// that it returns.
    ///
    /// # Errors
    /// When poold refuses or does not come back; [`TimeUp`] at the deadline.
    pub fn next(&mut self, mut settle: impl FnMut() -> Deadline) -> anyhow::Result<News<M::Reply>> {
        if std::mem::take(&mut self.is_to_ask) {
            self.session.ask(&self.request);
        }
        loop {
            // Replies that have been read are told also after the deadline: they came in time.
            if let Some((reply, more)) = self.session.next_reply::<M>()? {
                return Ok(News::Reply(reply, more));
            }

            let again = settle();
            if !self.wait(again)? {
                continue;
            }
            match self.session.turn()? {
                Turn::Idle | Turn::Read => {}
                Turn::Lost => return Ok(News::Lost),
                Turn::Back => {
                    self.is_to_ask = true;
                    return Ok(News::Back);
                }
            }
        }
    }

    /// Waits until the session has something to do. False at the time `again`.
    fn wait(&self, again: Deadline) -> anyhow::Result<bool> {
        loop {
            // The deadline is checked in each round, so that bytes without a pause cannot hide it.
            if self.session.deadline.is_over() {
                return Err(TimeUp.into());
            }

            let due = self.session.due();
            let mut fds: Vec<PollFd<'_>> =
                self.session.fd().iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, due.or(self.session.deadline).or(again).poll_timeout()) {
                Ok(0) if due.is_over() => return Ok(true),
                Ok(0) if again.is_over() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(io::Error::from(error)).context("cannot wait for poold"),
            }
        }
    }
}
