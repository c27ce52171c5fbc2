//! Warm pools: those that were added at run time, and what a worker needs to keep a resident program.
//!
//! A pool that was added is a member of the configuration like those of the file, which has the say where both name one.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use pool_proto::Refusal;
use pool_proto::events::Kind;
use pool_proto::interface::{AddPool, DEFAULT_POOL, Empty, RemovePool};
use pool_proto::location::SOCKET_VARIABLE;

use super::Supervisor;
use super::launch::DAEMON_VARIABLE;
use crate::config::{self, Config, MAX_WORKERS, Pool};
use crate::fleet::{LogPart, ResidentSeat, Seat, lane_name};
use crate::job::{Claim, RequestId};
use crate::output;
use crate::scheduler::store_op::StoreOp;
use crate::scheduler::{Event, SlotId};

/// The pools that were added, as they are stored.
#[derive(Debug, Default)]
pub struct AddedPools {
    pools: BTreeMap<String, AddPool>,
    /// Changes that the store has not confirmed.
    pending: HashMap<RequestId, Change>,
}

#[derive(Debug)]
enum Change {
    Add(Box<AddPool>),
    Remove(String),
}

impl AddedPools {
    /// Those that a start finds in the store.
    pub fn restored(stored: &BTreeMap<String, String>) -> Self {
        let read = |(name, value): (&String, &String)| match serde_json::from_str(value) {
            Ok(pool) => Some((name.clone(), pool)),
            Err(error) => {
                tracing::error!(pool = name, %error, "a pool that was added cannot be read; remove it and add it anew");
                None
            }
        };
        Self { pools: stored.iter().filter_map(read).collect(), pending: HashMap::new() }
    }

    /// Adds those that the configuration does not have.
    fn join_new(&self, config: &mut Config) {
        for (name, added) in &self.pools {
            if !config.pool.contains_key(name)
                && let Ok(pool) = to_pool(added)
            {
                config.pool.insert(name.clone(), pool);
            }
        }
    }

    /// Adds them to what the file says.
    pub fn join(&self, config: &mut Config) {
        for name in self.pools.keys().filter(|name| config.pool.contains_key(*name)) {
            tracing::warn!(
                pool = name,
                "the configuration has the say over a pool that was added with the same name"
            );
        }
        self.join_new(config);
    }

    fn is_pending(&self, name: &str) -> bool {
        self.pending.values().any(|change| match change {
            Change::Add(pool) => pool.name == name,
            Change::Remove(other) => other == name,
        })
    }
}

/// As the configuration would have it.
fn to_pool(added: &AddPool) -> Result<Pool, Refusal> {
    let invalid = |field: &str, reason: String| Refusal::InvalidPool { field: field.to_owned(), reason };
    let duration = |field: &str, seconds: Option<f64>| {
        seconds.map(pool_proto::text::seconds).transpose().map_err(|reason| invalid(field, reason))
    };
    if !config::is_pool_name(&added.name) {
        return Err(invalid("name", "use letters, digits, '-', '_' and '.', 128 at most".to_owned()));
    }
    let workers = NonZeroU32::new(added.workers).filter(|workers| workers.get() <= MAX_WORKERS);
    let workers = workers.ok_or_else(|| invalid("workers", format!("from 1 to {MAX_WORKERS}")))?;
    let pool = Pool {
        workers: Some(workers),
        timeout: duration("timeout_s", added.timeout_s)?,
        kill_after: duration("kill_after_s", added.kill_after_s)?,
        retries: added.retries,
        backoff: duration("backoff_s", added.backoff_s)?,
        command: Some(added.command.clone()),
        cwd: added.cwd.clone(),
        env: added.env.clone(),
        ready: added.ready,
        start_timeout: duration("start_timeout_s", added.start_timeout_s)?,
        max_calls: added.max_calls,
        max_age: duration("max_age_s", added.max_age_s)?,
        max_rss_bytes: added.max_rss_bytes,
        durability: added.durability,
        ..Pool::default()
    };
    if pool.timeout == Some(Duration::ZERO) {
        return Err(invalid("timeout_s", "must be greater than 0".to_owned()));
    }
    match pool.fault() {
        Some((field, reason)) => Err(invalid(field, reason)),
        None => Ok(pool),
    }
}

impl Supervisor {
    pub(super) fn on_add_pool(&mut self, call: RequestId, added: AddPool) {
        match self.check_pool(&added) {
            Ok(true) => self.server.reply(call, &Empty {}, Vec::new(), true),
            Ok(false) => {
                let value = serde_json::to_string(&added).expect("a pool has string keys only");
                self.change_pool(call, added.name.clone(), Some(value), Change::Add(Box::new(added)));
            }
            Err(refusal) => self.server.refuse(call, &refusal),
        }
    }

    /// Whether it is there already.
    fn check_pool(&self, added: &AddPool) -> Result<bool, Refusal> {
        let pool = added.name.clone();
        to_pool(added)?;
        if !self.scheduler.is_serving() {
            return Err(Refusal::Draining {});
        }
        let known = self.added_pools.pools.get(&pool);
        if pool == DEFAULT_POOL || known.is_none() && self.config.pool.contains_key(&pool) {
            return Err(Refusal::PoolConfigured { pool });
        }
        let is_other = known.is_some_and(|known| known != added);
        let runs_commands = self.scheduler.pool_kind(&pool).is_some_and(|(_, is_warm)| !is_warm);
        if is_other || runs_commands || self.added_pools.is_pending(&pool) {
            return Err(Refusal::PoolExists { pool });
        }
        Ok(known.is_some())
    }

    pub(super) fn on_remove_pool(&mut self, call: RequestId, remove: RemovePool) {
        let pool = remove.name;
        if self.added_pools.pools.contains_key(&pool) && !self.added_pools.is_pending(&pool) {
            self.change_pool(call, pool.clone(), None, Change::Remove(pool));
        } else if pool == DEFAULT_POOL || self.config.pool.contains_key(&pool) {
            self.server.refuse(call, &Refusal::PoolConfigured { pool });
        } else {
            self.server.refuse(call, &Refusal::NoSuchPool { pool });
        }
    }

    fn change_pool(&mut self, call: RequestId, name: String, value: Option<String>, change: Change) {
        self.added_pools.pending.insert(call, change);
        self.ops.push(StoreOp::SetPool { call, name, value });
    }

    /// A change is on disk.
    pub(super) fn on_pool_changed(&mut self, call: RequestId) {
        match self.added_pools.pending.remove(&call) {
            Some(Change::Add(added)) => _ = self.added_pools.pools.insert(added.name.clone(), *added),
            Some(Change::Remove(name)) => {
                self.added_pools.pools.remove(&name);
                self.config.pool.remove(&name);
            }
            None => return,
        }
        let mut config = self.config.clone();
        self.added_pools.join_new(&mut config);
        self.configure(config);
        self.server.reply(call, &Empty {}, Vec::new(), true);
    }

    /// A change could not be written; false when the call was none.
    pub(super) fn refuse_pool(&mut self, call: RequestId, refusal: &Refusal) -> bool {
        let is_ours = self.added_pools.pending.remove(&call).is_some();
        if is_ours {
            self.server.refuse(call, refusal);
        }
        is_ours
    }

    /// The configuration is this from now on.
    pub(super) fn configure(&mut self, config: Config) {
        let settings = config.settings(self.options.workers, &self.minimal);
        self.containment.configure(&config);
        self.config = config;
        for pool in &settings.pools {
            if !self.pool_names.contains(&pool.name) {
                self.pool_names.push(pool.name.clone());
            }
        }
        self.handle(Event::Configure(settings));
    }

    // ---- workers ----

    pub(super) fn spawn_worker(&mut self, slot: SlotId) {
        match self.seat_worker(slot, false) {
            Ok(pid) => {
                tracing::debug!(worker = %self.slot_name(slot), pid, "worker started");
                self.hear_of_worker(Kind::WorkerUp, slot, pid, None);
                self.handle(Event::WorkerUp { slot, pid });
            }
            Err(error) => {
                tracing::warn!(worker = %self.slot_name(slot), %error, "cannot start a worker for now");
                self.handle(Event::WorkerFailed {
                    slot,
                    reason: format!("its worker cannot be started: {error}"),
                });
            }
        }
    }

    pub(super) fn spawn_successor(&mut self, slot: SlotId) {
        match self.seat_worker(slot, true) {
            Ok(pid) => {
                tracing::debug!(worker = %self.slot_name(slot), pid, "a worker's successor started");
                self.hear_of_worker(Kind::WorkerUp, slot, pid, None);
                self.handle(Event::SuccessorUp { slot, pid });
            }
            Err(error) => {
                tracing::warn!(worker = %self.slot_name(slot), %error, "cannot start a worker's successor for now");
                self.handle(Event::SuccessorFailed {
                    slot,
                    reason: format!("its successor cannot be started: {error}"),
                });
            }
        }
    }

    fn seat_worker(&mut self, slot: SlotId, is_successor: bool) -> std::io::Result<i32> {
        let lane = lane_name(slot.lane, &self.pool_names);
        let isolate = self.containment.isolate_of(slot, lane);
        let program = self.scheduler.program_of(slot);
        let group = self.containment.group_of(slot, lane, program.is_some());
        let seat = program.map(|program| {
            let log = output::create_unnamed(&self.place.state_dir)?;
            let variables = [
                ("POOL_POOL", lane.to_owned()),
                ("POOL_SLOT", slot.index.to_string()),
                (SOCKET_VARIABLE, self.place.socket.clone()),
                (DAEMON_VARIABLE, self.place.daemon.clone()),
            ];
            let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
            Ok::<_, std::io::Error>(ResidentSeat { program, variables, log, is_successor })
        });
        self.fleet.spawn(Seat { slot, pool: lane, group, isolate, resident: seat.transpose()? })
    }

    /// Keeps what a program has written to its standard error during a call; its length in bytes.
    pub(super) fn keep_log(&mut self, slot: SlotId, claim: Claim, part: LogPart) -> u64 {
        if part.bytes == 0 {
            return 0;
        }
        let (_, path) = output::paths(&self.place.state_dir, claim);
        let kept = output::create(&path).and_then(|mut file| self.fleet.copy_log(slot, part, &mut file));
        // At once: there may be no next call as long as it fills the disk.
        self.fleet.trim_log(slot);
        kept.unwrap_or_else(|error| {
            tracing::warn!(%claim, %error, "what a program wrote to its standard error cannot be kept");
            0
        })
    }
}
