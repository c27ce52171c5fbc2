//! Deadlines. A deadline holds for everything that poolctl waits for: a reply, a connection, a poold that is
//! starting or away.

use std::fmt;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// A point in time, or no deadline at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(None);

    /// The time this long from now. A deadline beyond the clock's range counts as no deadline.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// The deadline at this point in time.
    pub fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// The deadline at this point in time, if there is one.
    pub fn at_some(instant: Option<Instant>) -> Self {
        Self(instant)
    }

    /// The time until the deadline: none without a deadline, zero when it is over.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the deadline is over.
    pub fn is_over(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// The earlier of two deadlines.
    pub fn or(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(another)) => Self(Some(one.min(another))),
            (one, another) => Self(one.or(another)),
        }
    }

    /// The time until the deadline as poll(2) takes it, rounded up so that the deadline is over when poll
    /// returns. poll takes about 24 days at most; a caller that waits longer polls again.
    pub fn poll_timeout(self) -> PollTimeout {
        match self.left() {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) => PollTimeout::ZERO,
            Some(left) => PollTimeout::try_from(left.saturating_add(Duration::from_millis(1)))
                .unwrap_or(PollTimeout::MAX),
        }
    }

    /// Calls `act`, which may block, and waits for its result until the deadline only. After the deadline
    /// `act` goes on in a thread, which ends with poolctl.
    ///
    /// # Errors
    /// [`TimeUp`] when `act` has not returned by the deadline.
    pub fn bound<T: Send + 'static>(self, act: impl FnOnce() -> T + Send + 'static) -> Result<T, TimeUp> {
        // A call without a deadline needs no thread, which would cost short commands time.
        let Some(left) = self.left() else { return Ok(act()) };

        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(act()));
        receiver.recv_timeout(left).map_err(|_| TimeUp)
    }
}

/// The error of something that was not done by its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeUp;

impl fmt::Display for TimeUp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the time is up")
    }
}

impl std::error::Error for TimeUp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_one_holds() {
        let soon = Deadline::after(Duration::ZERO);
        let late = Deadline::after(Duration::from_secs(3600));
        assert!(soon.or(late).is_over() && late.or(soon).is_over() && soon.or(Deadline::NEVER).is_over());
        assert_eq!(Deadline::NEVER.or(late), late);
        assert_eq!(Deadline::NEVER.or(Deadline::NEVER).left(), None);
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
    }

    #[test]
    fn poll_is_not_woken_too_early() {
        assert_eq!(Deadline::NEVER.poll_timeout(), PollTimeout::NONE);
        assert_eq!(Deadline::after(Duration::ZERO).poll_timeout(), PollTimeout::ZERO);
        let left = Deadline::after(Duration::from_micros(300)).poll_timeout();
        assert!(left <= PollTimeout::from(1u8) && left >= PollTimeout::ZERO, "{left:?}");
        assert_eq!(Deadline::after(Duration::from_secs(1 << 40)).poll_timeout(), PollTimeout::MAX);
    }

    #[test]
    fn what_blocks_is_waited_for_no_longer_than_that() {
        let (sender, receiver) = mpsc::channel::<()>();
        let blocked = Deadline::after(Duration::from_millis(1)).bound(move || receiver.recv());
        assert_eq!(blocked.err(), Some(TimeUp));
        drop(sender);
        assert_eq!(Deadline::NEVER.bound(|| 7), Ok(7));
    }
}
