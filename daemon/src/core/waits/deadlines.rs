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
use crate::job::{JobId, StopReason, Term};

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
    fn deadlines_of(&mut self, term: Term) -> &mut Deadlines {
        match term {
            Term::End => &mut self.deadlines,
            Term::Start => &mut self.starts,
        }
    }

    /// A job has until that time, in microseconds since 1970.
    pub(in crate::core) fn watch(&mut self, term: Term, until_us: i64) {
        let at = self.due.moment_of(self.now, until_us);
        let deadlines = match term {
            Term::End => &mut self.deadlines,
            Term::Start => &mut self.starts,
        };
        self.timers.bring_forward(&mut deadlines.next, at, Timer::Deadline(term));
    }

    pub(in crate::core) fn ask_overdue(&mut self, term: Term) {
        let until_us = self.due.now_us(self.now);
        let deadlines = self.deadlines_of(term);
        let (next, after) = (deadlines.next.take(), deadlines.told);
        self.timers.clear(next, Timer::Deadline(term));
        self.effects.push(Effect::AskOverdue { term, after, until_us, limit: AT_ONCE });
    }

    /// `last`: where the engine goes on next time. `next_us`: the first time beyond these jobs.
    pub(in crate::core) fn on_overdue(
        &mut self,
        term: Term,
        jobs: Vec<JobId>,
        last: Option<(i64, JobId)>,
        next_us: Option<i64>,
    ) {
        let deadlines = self.deadlines_of(term);
        deadlines.told = last.or(deadlines.told);
        for id in jobs {
            self.out_of_time(term, id);
        }
        match next_us {
            // There were more than are told at once.
            Some(next_us) if next_us <= self.due.now_us(self.now) => self.ask_overdue(term),
            Some(next_us) => self.watch(term, next_us),
            None => {}
        }
    }

    /// A job has come into the engine, and has until these times.
    pub(in crate::core) fn give_time(&mut self, id: JobId, terms: [(Term, Option<i64>); 2]) {
        let now_us = self.due.now_us(self.now);
        for (term, until_us) in terms {
            match until_us {
                // The look at others that are over may have been beyond it already.
                Some(us) if us <= now_us => self.out_of_time(term, id),
                Some(us) => self.watch(term, us),
                None => {}
            }
        }
    }

    pub(in crate::core) fn out_of_time(&mut self, term: Term, id: JobId) {
        if term == Term::Start && self.is_begun_array(id) || self.postpone_end(term, id) {
            return;
        }
        match (term, self.active.get_mut(&id)) {
            (Term::End, _) => self.end(id, StopReason::Deadline),
            (Term::Start, None) => self.end(id, StopReason::Late),
            (Term::Start, Some(active)) if !active.handed => self.stop(id, StopReason::Late),
            // A worker has it: it begins, or has begun. It is ended where it comes back without having begun.
            (Term::Start, Some(active)) => active.is_late = true,
        }
    }
}
