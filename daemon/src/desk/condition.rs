//! How this daemon is, for whoever looks for what is wrong: what only the daemon knows. What can be seen from
//! outside is looked at from there (`poolctl doctor`). And its end, when a client asks for that.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use pool_proto::OsText;
use pool_proto::methods::{Pong, PoolsListed, ShutdownMode, ShuttingDown};
use pool_proto::nouns::{Condition, Ending, Incident, Pool, Swept, Tier};
use pool_proto::text::rfc3339;

use super::request::Open;
use super::{Desk, Effect};
use crate::core::{self, Core, Holds, SlotId};
use crate::job::{ProcessId, RequestId};
use crate::start::config::DurabilityName;

/// What is the same for the life of the daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// The process whose end is the daemon's end.
    pub guardian: ProcessId,
    pub supervisor: ProcessId,
    /// When this supervisor started, in microseconds since 1970; no earlier one has started at the same time.
    pub started_us: i64,
    pub state_dir: OsText,
    /// The database's file.
    pub database: OsText,
    pub socket: OsText,
    /// The configuration's file, where there is to be one.
    pub config: Option<OsText>,
    pub max_open_files: u64,
    /// What the start has killed.
    pub swept: Swept,
}

/// What changes.
#[derive(Debug, Default)]
pub struct Changing {
    /// Why the engine cannot be written, for as long as it cannot.
    pub store_failure: Option<String>,
    /// Why the configuration that was to be read anew is not in force.
    pub config_error: Option<String>,
    /// Harm that was done to slots: the last ones.
    pub incidents: VecDeque<Incident>,
    /// How the attempts of each pool are contained, and why no better.
    pub containment: BTreeMap<String, (Tier, Option<String>)>,
}

/// So many are kept to be told.
const MAX_INCIDENTS: usize = 16;

impl Desk {
    pub(super) fn on_ping(&mut self, request: RequestId) {
        let pong = Pong {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.daemon.guardian.get(),
            state_dir: self.daemon.state_dir.clone(),
        };
        self.reply(request, pong, true);
    }

    pub(super) fn on_pools(&mut self, request: RequestId, core: &Core) {
        let pools = self.pools(core);
        self.reply(request, PoolsListed { pools }, true);
    }

    pub(super) fn on_status(&mut self, request: RequestId, core: &Core) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let durability = match self.config.durability {
            DurabilityName::Power => "power",
            DurabilityName::Crash => "crash",
        };
        let condition = Condition {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.daemon.guardian.get(),
            supervisor_pid: self.daemon.supervisor.get(),
            started_at: rfc3339(self.daemon.started_us),
            accepting: core.is_serving(),
            state_dir: self.daemon.state_dir.clone(),
            socket: self.daemon.socket.clone(),
            config: self.daemon.config.clone(),
            config_error: self.changing.config_error.clone(),
            durability: durability.to_owned(),
            store_failure: self.changing.store_failure.clone(),
            clients: count(self.clients.len()),
            max_clients: count(self.config.max_clients),
            max_open_files: self.daemon.max_open_files,
            max_queued: self.config.max_queued,
            output_bytes: self.room.bytes(),
            max_total_output_bytes: self.config.max_total_output_bytes.map(NonZeroU64::get),
            swept: self.daemon.swept,
            incidents: self.changing.incidents.iter().cloned().collect(),
            stuck: Vec::new(),
            pools: self.pools(core),
            ending: core.holds().map(ending),
        };
        self.close(request);
        self.effects.push(Effect::ReplyCondition { request, condition: Box::new(condition) });
    }

    pub(super) fn on_incident(&mut self, slot: SlotId, pool: Option<Arc<str>>, what: String) {
        let incidents = &mut self.changing.incidents;
        if incidents.len() == MAX_INCIDENTS {
            incidents.pop_front();
        }
        let pool = pool.map(|name| name.to_string());
        incidents.push_back(Incident { at: rfc3339(self.now.wall_us), pool, slot: slot.index, what });
    }

    fn pools(&self, core: &Core) -> Vec<Pool> {
        // A pool that has just come runs nothing yet.
        let unknown = (Tier::Subreaper, None);
        core.pools(|pool| self.changing.containment.get(pool).cloned().unwrap_or_else(|| unknown.clone()))
    }

    pub(super) fn on_shutdown(&mut self, request: RequestId, mode: ShutdownMode, more: bool) {
        tracing::info!(?mode, "told to end by a client");
        if more {
            self.requests.insert(request, Open::ShuttingDown);
        }
        self.reply(request, ShuttingDown { pid: self.daemon.guardian.get(), kept: None }, !more);
        let (soon, command) = match mode {
            ShutdownMode::Drain => (false, core::Event::Drain),
            ShutdownMode::Now => (true, core::Event::Stop),
        };
        self.effects.push(Effect::Ending { soon });
        self.effects.push(Effect::Command(command));
    }

    /// All is done that was waited for.
    pub(super) fn reply_shut_down(&mut self, request: RequestId, core: &Core) {
        let kept = core.holds().map_or(0, |holds| holds.kept);
        self.reply(request, ShuttingDown { pid: self.daemon.guardian.get(), kept: Some(kept) }, true);
    }
}

fn ending(holds: Holds) -> Ending {
    let Holds { running, queued, callbacks, unwritten, kept } = holds;
    let running = running.into_iter().map(|id| id.0).collect();
    Ending { running, queued, callbacks, unwritten, kept }
}
