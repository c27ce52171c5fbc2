//! How this daemon is, for whoever looks for what is wrong: what only the daemon knows. What can be seen from outside is looked at from there
//! (`poolctl doctor`).

use std::num::NonZeroU64;

use pool_proto::Refusal;
use pool_proto::condition::{Absent, AbsentIds, Condition, MAX_ABSENT};
use pool_proto::text::rfc3339;

use super::Supervisor;
use super::requests::Query;
use crate::config::DurabilityName;
use crate::job::{JobId, RequestId};
use crate::process;
use crate::scheduler::store_op::StoreOp;

impl Supervisor {
    pub(super) fn on_status(&mut self, call: RequestId) {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let output_bytes = self.output_bytes();
        let condition = Condition {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.guardian_pid,
            supervisor_pid: i32::try_from(std::process::id()).expect("pids are positive and fit pid_t"),
            started_at: rfc3339(self.started_us),
            accepting: self.scheduler.is_serving(),
            state_dir: text(&self.place.state_dir),
            socket: self.place.socket.clone(),
            config: self.options.config.as_deref().map(text),
            config_error: self.config_error.clone(),
            durability: match self.config.durability {
                DurabilityName::Power => "power".to_owned(),
                DurabilityName::Crash => "crash".to_owned(),
            },
            store_failure: self.store_failure.clone(),
            clients: count(self.server.clients()),
            max_clients: count(self.config.max_clients),
            max_open_files: process::max_open_files(),
            max_queued: self.config.max_queued,
            output_bytes,
            max_total_output_bytes: self.config.max_total_output_bytes.map(NonZeroU64::get),
            swept: self.swept,
            pools: self.scheduler.pools(|pool| self.containment.describe(pool)),
        };
        self.server.reply(call, &condition, Vec::new(), true);
    }

    /// Looked up like records, a few at a time: nobody needs this to be quick.
    pub(super) fn on_absent(&mut self, call: RequestId, absent: Absent) {
        if absent.ids.len() > MAX_ABSENT {
            let parameter = format!("ids: at most {MAX_ABSENT}");
            return self.server.refuse(call, &Refusal::InvalidParameter { parameter });
        }
        let ids = absent.ids.into_iter().filter(|&id| id <= i64::MAX as u64).map(JobId);
        // Those that are kept in memory alone are there, and the store need not be asked.
        let ids = ids.filter(|&id| !self.volatile.has(id)).collect();
        self.queries.insert(call, Query::Absent);
        self.ops.push(StoreOp::Get { call, ids });
    }

    pub(super) fn reply_absent(&mut self, call: RequestId, missing: &[JobId]) {
        let ids = missing.iter().map(|id| id.0).collect();
        self.server.reply(call, &AbsentIds { ids }, Vec::new(), true);
    }
}
