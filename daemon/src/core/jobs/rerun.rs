//! Jobs that have ended and are run again under their ids, since a client wants that: to the core they are as
//! jobs that come into their lines.

use std::sync::Arc;

use crate::core::event::{Denial, Fact};
use crate::core::{Core, Mode};
use crate::engine::{Change, NotRetried, Retried};
use crate::job::{JobId, RequestId, StopReason};

impl Core {
    /// `ids`: each once.
    pub(in crate::core) fn on_retry(&mut self, request: RequestId, ids: Vec<JobId>) {
        if self.mode != Mode::Serving {
            return self.tell(Fact::Denied { request, denial: Denial::Draining });
        }
        let times = self.times();
        self.change(Change::Retry { request, ids, times });
    }

    pub(in crate::core) fn on_retried(
        &mut self,
        request: RequestId,
        jobs: Vec<Retried>,
        failed: &[(JobId, JobId)],
        others: Vec<(JobId, NotRetried)>,
    ) {
        let (now_us, mut overdue) = (self.due.now_us(self.now), Vec::new());
        let mut told: Vec<(JobId, Arc<str>)> = Vec::with_capacity(jobs.len());
        for Retried { released, tie, deadline_us } in jobs {
            let id = released.position.id;
            if let Some(tie) = tie {
                self.ties.add(id, tie);
            }
            match deadline_us {
                // The look at others that are over may have been beyond it already.
                Some(us) if us <= now_us => overdue.push(id),
                Some(us) => self.watch_deadline(us),
                None => {}
            }
            self.waits_now(id, &released.line.pool, released.until);
            told.push((id, released.line.pool));
        }
        self.tell(Fact::Retried { request, jobs: told, others });
        self.end_each(failed, StopReason::Dependency);
        for id in overdue {
            self.end(id, StopReason::Deadline);
        }
    }
}
