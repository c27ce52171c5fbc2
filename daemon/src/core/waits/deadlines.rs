//! Deadlines: bounds on a job's whole life, from its acceptance on, wherever the job is then.
//!
//! As with waits ([`due`](super::due)), the engine knows whose they are, and here is only when to ask for
//! those whose deadline is over: however many jobs have one, they take no memory and one timer. The clock is
//! the same. The answer is a list of jobs to be ended; each is found until it has ended, so a start that
//! comes in between asks for it again. While poold runs it asks for what comes after the last one that it was
//! told.

use std::time::Duration;

use crate::core::event::Effect;
use crate::core::{Core, Timer};
use crate::job::{JobId, StopReason};

/// So many are asked for at once, lest others wait long for the engine.
const AT_ONCE: u32 = if cfg!(test) { 100 } else { 2048 };

/// See the module's description.
#[derive(Debug, Default)]
pub struct Deadlines {
    /// When to ask next.
    next: Option<Duration>,
    /// The last one that the engine's durable half has told, with its deadline.
    told: Option<(i64, JobId)>,
}

impl Core {
    /// A job has that deadline, in microseconds since 1970.
    pub(in crate::core) fn watch_deadline(&mut self, deadline_us: i64) {
        let at = self.due.moment_of(self.now, deadline_us);
        self.timers.bring_forward(&mut self.deadlines.next, at, Timer::Deadline);
    }

    pub(in crate::core) fn ask_overdue(&mut self) {
        self.timers.clear(self.deadlines.next.take(), Timer::Deadline);
        let (after, until_us) = (self.deadlines.told, self.due.now_us(self.now));
        self.effects.push(Effect::AskOverdue { after, until_us, limit: AT_ONCE });
    }

    /// `last`: where the engine goes on next time. `next_us`: the first deadline beyond these jobs.
    pub(in crate::core) fn on_overdue(
        &mut self,
        jobs: Vec<JobId>,
        last: Option<(i64, JobId)>,
        next_us: Option<i64>,
    ) {
        self.deadlines.told = last.or(self.deadlines.told);
        for id in jobs {
            self.end(id, StopReason::Deadline);
        }
        match next_us {
            // There were more than are told at once.
            Some(next_us) if next_us <= self.due.now_us(self.now) => self.ask_overdue(),
            Some(next_us) => self.watch_deadline(next_us),
            None => {}
        }
    }
}
