//! The trigger of what waits for the ends of other jobs. Who waits for whom is the engine's; here is only
//! when to have it look: some at a time, lest others wait long for the engine.

use crate::core::Core;
use crate::engine::{Change, Released};
use crate::job::{Holdup, JobId, StopReason};

/// So many are looked at in one transaction, and end in another: others wait for a millisecond behind each.
const AT_ONCE: u32 = 32;

/// Whether the engine looks at dependents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resolving {
    #[default]
    Not,
    /// It has been asked, and has not answered.
    Asked,
    /// More jobs have ended since.
    AskedAndMore,
}

impl Core {
    /// A job has ended, and others were to run after it.
    pub(in crate::core) fn resolve(&mut self) {
        if self.resolving == Resolving::Not {
            self.change(Change::Resolve { limit: AT_ONCE });
            self.resolving = Resolving::Asked;
        } else {
            self.resolving = Resolving::AskedAndMore;
        }
    }

    pub(in crate::core) fn on_resolved(&mut self, jobs: &[Released], failed: &[(JobId, JobId)], more: bool) {
        for Released { position, line, until } in jobs {
            self.goes_on(position.id, &line.pool, Holdup::Others, *until);
        }
        self.end_each(failed, StopReason::Dependency);
        let more = more || self.resolving == Resolving::AskedAndMore;
        self.resolving = Resolving::Not;
        if more {
            self.resolve();
        }
    }
}
