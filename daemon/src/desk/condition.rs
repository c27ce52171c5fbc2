//! How this daemon is, for whoever looks for what is wrong: what only the daemon knows. What can be seen from
//! outside is looked at from there (`poolctl doctor`). And its end, when a client asks for that.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use pool_proto::OsText;
use pool_proto::methods::{Pong, PoolsListed, SettingsListed, ShutdownMode, ShuttingDown};
use pool_proto::nouns::{Condition, Ending, Incident, Pool, Swept, Tier};
use pool_proto::text::rfc3339;

use super::request::Open;
use super::{Desk, Effect};
use crate::core::{self, Core, Holds, SlotId};
use crate::engine::Question;
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
    /// The settings of the command line, by their names in the configuration's file.
    pub given: Vec<(&'static str, String)>,
    pub max_open_files: u64,
    /// What the start has killed.
    pub swept: Swept,
}

/// A drain that begins when the engine has counted what is held.
#[derive(Debug)]
pub struct Countdown {
    more: bool,
    /// Its client has gone. poold ends all the same.
    pub is_forsaken: bool,
}

/// What changes.
#[derive(Debug, Default)]
pub struct Changing {
    /// Why the engine cannot be written, for as long as it cannot.
    pub store_failure: Option<String>,
    /// Why the configuration that was to be read anew is not in force.
    pub config_error: Option<String>,
    /// How many jobs are held, once the daemon is to come to its end.
    pub held: Option<u64>,
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

    pub(super) fn on_settings(&mut self, request: RequestId, core: &Core) {
        let limits = core.limits().into_iter().filter(|limit| limit.is_set);
        let limits: Vec<(String, u32)> = limits.map(|limit| (limit.label.to_string(), limit.limit)).collect();
        let settings = self.config.in_force(&self.daemon.given, &limits);
        let config = self.daemon.config.clone();
        self.reply(request, SettingsListed { config, settings }, true);
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
            ending: core.holds().map(|holds| self.ending(holds)),
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

    /// A drain begins when the engine has counted what is held, which nobody counts otherwise: it may be over
    /// at once.
    pub(super) fn on_shutdown(&mut self, request: RequestId, mode: ShutdownMode, more: bool) {
        tracing::info!(?mode, "told to end by a client");
        match mode {
            ShutdownMode::Drain => {
                let countdown = Countdown { more, is_forsaken: false };
                self.requests.insert(request, Open::Counting(countdown));
                self.ask(Question::CountHeld { request });
            }
            ShutdownMode::Now => self.begin_end(request, mode, more),
        }
    }

    /// So many jobs are held. Without an open request, they are counted anew.
    pub(super) fn on_counted(&mut self, request: RequestId, held: u64) {
        self.changing.held = Some(held);
        let Some(Open::Counting(Countdown { more, is_forsaken })) = self.requests.get(request) else {
            return;
        };
        let (more, is_forsaken) = (*more, *is_forsaken);
        self.requests.remove(request);
        if is_forsaken {
            self.end(ShutdownMode::Drain)
        } else {
            self.begin_end(request, ShutdownMode::Drain, more)
        }
    }

    fn begin_end(&mut self, request: RequestId, mode: ShutdownMode, more: bool) {
        if more {
            self.requests.insert(request, Open::ShuttingDown);
        }
        self.reply(request, ShuttingDown { pid: self.daemon.guardian.get(), kept: None }, !more);
        self.end(mode);
    }

    fn end(&mut self, mode: ShutdownMode) {
        let (soon, command) = match mode {
            ShutdownMode::Drain => (false, core::Event::Drain),
            ShutdownMode::Now => (true, core::Event::Stop),
        };
        self.effects.push(Effect::Ending { soon });
        self.effects.push(Effect::Command(command));
    }

    /// Jobs are held, or not held any more: who waits for the end of the daemon is to be told how many are.
    pub(super) fn count_held_anew(&mut self) {
        if self.changing.held.is_some() {
            let request = self.schedules.take_request();
            self.ask(Question::CountHeld { request });
        }
    }

    /// All is done that was waited for.
    pub(super) fn reply_shut_down(&mut self, request: RequestId, core: &Core) {
        let kept = core.holds().map_or(0, |holds| holds.kept) + self.changing.held.unwrap_or(0);
        self.reply(request, ShuttingDown { pid: self.daemon.guardian.get(), kept: Some(kept) }, true);
    }

    fn ending(&self, holds: Holds) -> Ending {
        let Holds { running, queued, callbacks, unwritten, kept } = holds;
        let running = running.into_iter().map(|id| id.0).collect();
        let kept = kept + self.changing.held.unwrap_or(0);
        Ending { running, queued, callbacks, unwritten, kept }
    }
}
