//! The pools that were added at run time, and the configuration that they are joined with: a pool that was
//! added is a member of it like those of the file, which has the say where both name one.

use std::collections::BTreeMap;
use std::time::Duration;

use pool_proto::Refusal;
use pool_proto::methods::{AddPool, Empty, PoolRestarting, RemovePool, RestartPool};
use pool_proto::nouns::DEFAULT_POOL;

use super::request::Open;
use super::{Desk, Effect};
use crate::core::{self, Core};
use crate::engine::Change;
use crate::job::RequestId;
use crate::start::config::{self, Config, PoolConfig};

/// The pools that were added, as they are kept.
#[derive(Debug, Default)]
pub struct AddedPools {
    pools: BTreeMap<String, AddPool>,
}

/// A change that the engine has not confirmed.
#[derive(Debug)]
pub struct PoolChange {
    to: Wish,
    /// Its client has gone. The change is made all the same.
    pub is_forsaken: bool,
}

#[derive(Debug)]
enum Wish {
    Added(Box<AddPool>),
    Removed(String),
}

impl PoolChange {
    fn pool(&self) -> &str {
        match &self.to {
            Wish::Added(pool) => &pool.name,
            Wish::Removed(name) => name,
        }
    }
}

impl AddedPools {
    /// Those that a start finds in the engine: their values by name.
    pub fn restored(stored: &BTreeMap<String, String>) -> Self {
        let read = |(name, value): (&String, &String)| match serde_json::from_str(value) {
            Ok(pool) => Some((name.clone(), pool)),
            Err(error) => {
                tracing::error!(pool = name, %error, "a pool that was added cannot be read; \
                     remove it and add it anew");
                None
            }
        };
        Self { pools: stored.iter().filter_map(read).collect() }
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
}

/// As the configuration would have it.
fn to_pool(added: &AddPool) -> Result<PoolConfig, Refusal> {
    let invalid = |field: &str, reason: String| Refusal::InvalidPool { field: field.to_owned(), reason };
    let duration = |field: &str, seconds: Option<f64>| {
        seconds.map(pool_proto::text::seconds).transpose().map_err(|reason| invalid(field, reason))
    };
    if let Some(why) = config::name_fault(&added.name) {
        return Err(invalid("name", why));
    }
    let workers = config::workers(added.workers).map_err(|reason| invalid("workers", reason))?;

    let pool = PoolConfig {
        workers: Some(workers),
        timeout: duration("timeout_s", added.timeout_s)?,
        kill_after: duration("kill_after_s", added.kill_after_s)?,
        retries: added.retries,
        backoff: duration("backoff_s", added.backoff_s)?,
        jitter: added.jitter.map(config::permille).transpose().map_err(|why| invalid("jitter", why))?,
        retry_on_exit: added.retry_on_exit.clone(),
        no_retry_on_exit: added.no_retry_on_exit.clone(),
        start_within: duration("start_within_s", added.start_within_s)?,
        command: Some(added.command.clone()),
        cwd: added.cwd.clone(),
        env: added.env.clone(),
        ready: added.ready,
        start_timeout: duration("start_timeout_s", added.start_timeout_s)?,
        start_attempts: added.start_attempts,
        max_calls: added.max_calls,
        max_age: duration("max_age_s", added.max_age_s)?,
        max_rss_bytes: added.max_rss_bytes,
        durability: added.durability,
        ..PoolConfig::default()
    };
    for (field, duration) in [("timeout_s", pool.timeout), ("start_within_s", pool.start_within)] {
        if duration == Some(Duration::ZERO) {
            return Err(invalid(field, "must be greater than 0".to_owned()));
        }
    }
    let codes = config::retry_on(pool.retry_on_exit.as_deref(), pool.no_retry_on_exit.as_deref());
    if let Err((field, why)) = codes {
        return Err(invalid(field, why));
    }
    match pool.fault() {
        Some((field, reason)) => Err(invalid(field, reason)),
        None => Ok(pool),
    }
}

impl Desk {
    pub(super) fn on_add_pool(&mut self, request: RequestId, added: Box<AddPool>, core: &Core) {
        match self.check_pool(&added, core) {
            Ok(true) => self.reply(request, Empty {}, true),
            Ok(false) => {
                let value = serde_json::to_string(&added).expect("a pool has string keys only");
                self.change_pool(request, Some(value), Wish::Added(added));
            }
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    /// Whether it is there already.
    fn check_pool(&self, added: &AddPool, core: &Core) -> Result<bool, Refusal> {
        let pool = added.name.clone();
        to_pool(added)?;
        if !core.is_serving() {
            return Err(Refusal::Draining {});
        }
        let known = self.added.pools.get(&pool);
        if pool == DEFAULT_POOL || known.is_none() && self.config.pool.contains_key(&pool) {
            return Err(Refusal::PoolConfigured { pool });
        }
        let is_other = known.is_some_and(|known| known != added);
        let runs_commands = core.pool_kind(&pool).is_some_and(|(_, is_warm)| !is_warm);
        if is_other || runs_commands || self.is_changing(&pool) {
            return Err(Refusal::PoolExists { pool });
        }
        Ok(known.is_some())
    }

    pub(super) fn on_remove_pool(&mut self, request: RequestId, remove: RemovePool) {
        let pool = remove.name;
        if self.added.pools.contains_key(&pool) && !self.is_changing(&pool) {
            self.change_pool(request, None, Wish::Removed(pool));
        } else if pool == DEFAULT_POOL || self.config.pool.contains_key(&pool) {
            self.refuse(request, Refusal::PoolConfigured { pool });
        } else {
            self.refuse(request, Refusal::NoSuchPool { pool });
        }
    }

    pub(super) fn on_restart_pool(
        &mut self,
        request: RequestId,
        restart: RestartPool,
        more: bool,
        core: &Core,
    ) {
        if !core.is_serving() {
            return self.refuse(request, Refusal::Draining {});
        }
        let pool = match core.open_pool(&restart.name) {
            None => return self.refuse(request, Refusal::NoSuchPool { pool: restart.name }),
            Some((pool, false)) => {
                let reason =
                    format!("the pool {pool:?} has no resident program: nothing is there to restart");
                return self.refuse(request, Refusal::InvalidPool { field: "name".to_owned(), reason });
            }
            Some((pool, true)) => pool,
        };

        let calls = core.calls_in(&pool).into_iter().map(|id| id.0).collect();
        if more {
            self.requests.insert(request, Open::RestartingPool(pool.clone()));
        }
        self.reply(request, PoolRestarting { calls }, !more);
        self.command(core::Event::Restart { request, pool });
    }

    /// All programs of a pool are new ones, or one could not be started.
    pub(super) fn on_restarted(&mut self, request: RequestId, result: Result<(), String>) {
        // Otherwise nobody waits for this.
        let Some(Open::RestartingPool(pool)) = self.requests.get(request) else { return };
        let pool = pool.to_string();
        match result {
            Ok(()) => self.reply(request, PoolRestarting { calls: Vec::new() }, true),
            Err(reason) => self.refuse(request, Refusal::NotRestarted { pool, reason }),
        }
    }

    /// Whether a change of that pool is on its way.
    pub(super) fn is_changing(&self, pool: &str) -> bool {
        self.requests.any(|open| matches!(open, Open::ChangingPool(change) if change.pool() == pool))
    }

    fn change_pool(&mut self, request: RequestId, value: Option<String>, to: Wish) {
        let change = PoolChange { to, is_forsaken: false };
        let name = change.pool().to_owned();
        self.requests.insert(request, Open::ChangingPool(change));
        self.effects.push(Effect::Change(Change::SetPool { request, name, value }));
    }

    /// A change is kept.
    pub(super) fn on_pool_set(&mut self, request: RequestId) {
        let Some(Open::ChangingPool(change)) = self.requests.remove(request) else { return };
        let PoolChange { to, is_forsaken } = change;
        match to {
            Wish::Added(added) => _ = self.added.pools.insert(added.name.clone(), *added),
            Wish::Removed(name) => {
                self.added.pools.remove(&name);
                self.config.pool.remove(&name);
                self.config.set_workers.remove(&name);
                self.forget_pause(&name);
            }
        }

        let mut config = self.config.clone();
        self.added.join_new(&mut config);
        self.configure(config);
        if !is_forsaken {
            self.reply(request, Empty {}, true);
        }
    }

    /// The configuration file was read anew. Where it could not be, the old configuration stays in force.
    pub(super) fn on_reread(&mut self, read: Result<Box<Config>, String>, core: &Core) {
        let mut config = match read {
            Ok(config) => *config,
            Err(error) => {
                self.changing.config_error = Some(error);
                return;
            }
        };
        self.added.join(&mut config);
        config.set_workers = self.config.set_workers.clone();

        for (name, pool) in &config.pool {
            let kind = core.pool_kind(name);
            if kind.is_some_and(|(_, is_warm)| is_warm != pool.command.is_some()) {
                tracing::warn!(pool = name, "`command` comes or goes with the next start");
            }
        }

        self.changing.config_error = None;
        self.configure(config);
    }

    /// The configuration is this from now on.
    pub(super) fn configure(&mut self, config: Config) {
        self.effects.push(Effect::Configure(Box::new(config.clone())));
        self.config = config;
        self.configure_schedules();
    }
}
