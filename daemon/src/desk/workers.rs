//! The number of a pool's workers, set at run time. It outranks the command line and the configuration, and
//! is in force once it is kept. A pool with fewer workers ends nothing: a slot too many goes when it is free.

use std::num::NonZeroU32;

use pool_proto::Refusal;
use pool_proto::methods::{Empty, SetWorkers};

use super::request::Open;
use super::{Desk, Effect};
use crate::core::Core;
use crate::engine::Change;
use crate::job::RequestId;
use crate::start::config;

/// A number of workers on its way into the engine.
#[derive(Debug)]
pub struct WorkersChange {
    pool: String,
    workers: Option<NonZeroU32>,
    /// Its client has gone. The change is made all the same.
    pub is_forsaken: bool,
}

impl Desk {
    pub(super) fn on_set_workers(&mut self, request: RequestId, asked: SetWorkers, core: &Core) {
        let SetWorkers { pool, workers } = asked;
        let workers = match workers.map(config::workers).transpose() {
            Ok(workers) => workers,
            Err(reason) => {
                return self.refuse(request, Refusal::InvalidPool { field: "workers".to_owned(), reason });
            }
        };
        let is_known = core.open_pool(&pool).is_some() || self.config.set_workers.contains_key(&pool);
        if !is_known || self.is_changing(&pool) {
            return self.refuse(request, Refusal::NoSuchPool { pool });
        }

        let change = WorkersChange { pool: pool.clone(), workers, is_forsaken: false };
        self.requests.insert(request, Open::SettingWorkers(change));
        let workers = workers.map(NonZeroU32::get);
        self.effects.push(Effect::Change(Change::SetWorkers { request, pool, workers }));
    }

    /// The number is kept.
    pub(super) fn on_workers_kept(&mut self, request: RequestId) {
        let Some(Open::SettingWorkers(change)) = self.requests.remove(request) else { return };
        let mut config = self.config.clone();
        match change.workers {
            Some(workers) => _ = config.set_workers.insert(change.pool, workers),
            None => _ = config.set_workers.remove(&change.pool),
        }
        self.configure(config);
        if !change.is_forsaken {
            self.reply(request, Empty {}, true);
        }
    }
}
