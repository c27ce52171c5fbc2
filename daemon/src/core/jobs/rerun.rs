//! Jobs that have ended and are run again under their ids, since a client wants that: to the core they are as
//! jobs that come into their lines.

use std::sync::Arc;

use crate::core::event::{Denial, Fact};
use crate::core::{Core, Mode};
use crate::engine::{Change, NotRetried, Retried};
use crate::job::{JobId, RequestId, StopReason, Term};

impl Core {
    /// `ids`: each once.
    pub(in crate::core) fn on_retry(&mut self, request: RequestId, ids: Vec<JobId>) {
        if self.mode != Mode::Serving {
            return self.tell(Fact::Denied { request, denial: Denial::Draining, jobs: Vec::new() });
        }
        let times = self.times();
        let closed = self.closed_pools();
        self.change(Change::Retry { request, ids, times, closed });
    }

    pub(in crate::core) fn on_retried(
        &mut self,
        request: RequestId,
        jobs: Vec<Retried>,
        failed: &[(JobId, JobId)],
        others: Vec<(JobId, NotRetried)>,
    ) {
        let mut terms = Vec::new();
        let mut told: Vec<(JobId, Arc<str>)> = Vec::with_capacity(jobs.len());
        for Retried { released, has_begun, tie, deadline_us, start_by_us } in jobs {
            let id = released.position.id;
            if has_begun {
                // It is in no line, and has been seen to.
                told.push((id, released.line.pool));
                continue;
            }
            if let Some(tie) = tie {
                self.ties.add(id, tie);
            }
            if deadline_us.or(start_by_us).is_some() {
                terms.push((id, [(Term::End, deadline_us), (Term::Start, start_by_us)]));
            }
            self.waits_now(id, &released.line.pool, released.until);
            told.push((id, released.line.pool));
        }
        self.tell(Fact::Retried { request, jobs: told, others });
        self.end_each(failed, StopReason::Dependency);
        for (id, terms) in terms {
            self.give_time(id, terms);
        }
    }
}
