//! Deadlines over a suspend of the machine. A poll's own timeout stands still while the machine sleeps, so
//! that what was due in the meantime would come late by the length of the sleep; a timer of CLOCK_BOOTTIME
//! does not, and rings when the machine is awake again.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// What is due sooner is left to the poll's timeout alone: it can come late by no more than that.
const SOON: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    set_for: Option<Duration>,
}

impl Alarm {
    pub fn new(registry: &Registry, token: Token) -> std::io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, set_for: None })
    }

    /// The poll returns by this time, on the clock of `now`. An alarm that is set for an earlier time stays:
    /// one turn too many now and then is cheaper than a system call in each.
    pub fn ring_by(&mut self, now: Duration, deadline: Duration) -> std::io::Result<()> {
        let left = deadline.saturating_sub(now);
        if left < SOON || self.set_for.is_some_and(|at| now < at && at <= deadline) {
            return Ok(());
        }
        self.timer.set(Expiration::OneShot(left.into()), TimerSetTimeFlags::empty())?;
        self.set_for = Some(deadline);
        Ok(())
    }

    /// It has rung, and is silent again until it is set.
    pub fn rang(&mut self) {
        self.set_for = None;
        // It may be set anew before this is seen: then there is nothing to read.
        let mut rings = [0; 8];
        let _ = nix::unistd::read(&self.timer, &mut rings);
    }
}

/// Tells when the wall's clock is set, and wakes for nothing else.
#[derive(Debug)]
pub struct WallWatch(TimerFd);

impl WallWatch {
    pub fn new(registry: &Registry, token: Token) -> std::io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let watch = Self(TimerFd::new(ClockId::CLOCK_REALTIME, flags)?);
        watch.arm()?;
        registry.register(&mut SourceFd(&watch.0.as_fd().as_raw_fd()), token, Interest::READABLE)?;
        Ok(watch)
    }

    /// A timer that rings in the year 2242, and that a change of the clock cancels (timerfd_create(2)).
    fn arm(&self) -> std::io::Result<()> {
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.0.set(Expiration::OneShot(TimeSpec::new(1 << 33, 0)), flags)?)
    }

    /// Whether it was set since this was last asked.
    pub fn was_set(&self) -> bool {
        let mut rings = [0; 8];
        let was_set = nix::unistd::read(&self.0, &mut rings) == Err(Errno::ECANCELED);
        if was_set && let Err(error) = self.arm() {
            tracing::warn!(%error, "from now on nobody notices when the clock is set");
        }
        was_set
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};

    use super::*;
    use crate::kernel::clock::since_boot;

    #[test]
    fn a_poll_without_a_timeout_ends_when_the_alarm_rings() {
        let mut poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry(), Token(7)).unwrap();
        let mut events = Events::with_capacity(4);
        let now = since_boot();
        alarm.ring_by(now, now + SOON / 2).unwrap();
        assert_eq!(alarm.set_for, None, "that is soon");

        let deadline = now + SOON + SOON / 100;
        alarm.ring_by(now, deadline).unwrap();
        alarm.ring_by(now, deadline + SOON).unwrap();
        assert_eq!(alarm.set_for, Some(deadline), "the earlier one stays");
        poll.poll(&mut events, None).unwrap();
        assert!(since_boot() >= deadline);
        assert!(events.iter().any(|event| event.token() == Token(7)));

        alarm.rang();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "it rings once");
        alarm.ring_by(deadline, deadline + 2 * SOON).unwrap();
        assert_eq!(alarm.set_for, Some(deadline + 2 * SOON));
    }

    #[test]
    fn a_watch_on_the_walls_clock_does_not_ring_by_itself() {
        let mut poll = Poll::new().unwrap();
        let watch = WallWatch::new(poll.registry(), Token(7)).unwrap();
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
        assert!(events.is_empty() && !watch.was_set());
    }
}
