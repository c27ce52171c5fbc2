//! The core's deadlines, in order: what is due next, and what for.

use std::collections::BTreeSet;
use std::time::Duration;

use super::event::{PoolId, SlotId};
use crate::job::{JobId, ProcessId, Term, Unit};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// An attempt's timeout, or its SIGKILL.
    Attempt(Unit),
    /// A slot's next worker, or its worker's successor.
    Respawn(SlotId),
    /// A call has taken so long that its start is told by itself.
    Start(JobId),
    /// A resident program that is not ready has used up its time; by its worker.
    Ready(SlotId, ProcessId),
    /// A new resident program has stayed up for so long that it is taken for good; by its worker.
    Proven(SlotId, ProcessId),
    /// A resident program has lived long enough.
    Worn(SlotId),
    /// A pool that the machine had no room for goes on.
    BackedOff(PoolId),
    /// Jobs or callbacks that wait for a time.
    Due,
    /// Jobs whose time for that is over.
    Deadline(Term),
    /// The client of a job that is tied to it has not come back.
    Unattended(JobId),
}

/// All of them, by their times on the monotonic clock.
#[derive(Debug, Default)]
pub struct Timers(BTreeSet<(Duration, Timer)>);

impl Timers {
    pub fn set(&mut self, at: Duration, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// A timer that was set for that time is not wanted any more.
    pub fn clear(&mut self, at: Option<Duration>, timer: Timer) {
        if let Some(at) = at {
            self.0.remove(&(at, timer));
        }
    }

    /// The timer, which is set for `next` if at all, is wanted by that time.
    pub fn bring_forward(&mut self, next: &mut Option<Duration>, at: Duration, timer: Timer) {
        if next.is_none_or(|next| at < next) {
            self.clear(next.replace(at), timer);
            self.set(at, timer);
        }
    }

    pub fn next(&self) -> Option<Duration> {
        self.0.first().map(|&(at, _)| at)
    }

    /// The next one that is due by now.
    pub fn pop(&mut self, now: Duration) -> Option<Timer> {
        let &(at, _) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }

    /// All that are set.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = Timer> + '_ {
        self.0.iter().map(|&(_, timer)| timer)
    }
}
