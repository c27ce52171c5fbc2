//! Environments, one row for all jobs that came with an equal one, found by the SHA-256 of its JSON.
//!
//! The cache is what makes that cheap, both ways: a batch of jobs from one shell names its environment a
//! thousand times, and a window of jobs read from the queue shares one value. It holds what the transaction
//! under way has made true, so a rollback clears it.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Error, OptionalExtension, Result};
use sha2::{Digest, Sha256};

use super::columns::{Columns, columns};
use crate::job::Environment;

/// Environments in the cache, some 10 KB each, and what they take together at most: it never knows more of
/// large ones than the latest.
const CAPACITY: usize = 128;
const CAPACITY_BYTES: usize = 16 << 20;

/// In place of a row, of jobs that need none.
pub const NONE: i64 = 0;

columns! {
    ValueColumn { value }
    BY_ID: "FROM environments WHERE id = ?1";
}

/// Environments by value and by id.
#[derive(Debug, Default)]
pub struct Environments {
    ids: HashMap<Arc<Environment>, i64>,
    values: HashMap<i64, Arc<Environment>>,
    none: Arc<Environment>,
    /// What those in the cache take.
    bytes: usize,
    /// The latest, found without hashing its value.
    recent: Option<(Arc<Environment>, i64)>,
}

impl Environments {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The row of an environment; makes one if there is none.
    pub fn intern(&mut self, connection: &Connection, environment: &Arc<Environment>) -> Result<i64> {
        if let Some((recent, id)) = &self.recent
            && Arc::ptr_eq(recent, environment)
        {
            return Ok(*id);
        }
        let id = match self.ids.get(environment) {
            Some(&id) => id,
            None => {
                let id = find_or_insert(connection, environment)?;
                self.remember(id, environment.clone());
                id
            }
        };
        self.recent = Some((environment.clone(), id));
        Ok(id)
    }

    /// The environment of a row.
    pub fn load(&mut self, connection: &Connection, id: i64) -> Result<Arc<Environment>> {
        if id == NONE {
            return Ok(self.none.clone());
        }
        if let Some(environment) = self.values.get(&id) {
            return Ok(environment.clone());
        }
        if let Some((recent, recent_id)) = &self.recent
            && *recent_id == id
        {
            return Ok(recent.clone());
        }
        let mut select = connection.prepare_cached(ValueColumn::BY_ID)?;
        let environment: Environment = select.query_row([id], |row| {
            Columns::of(row).parse(ValueColumn::value, |value| serde_json::from_str(value).ok())
        })?;
        let environment = Arc::new(environment);
        self.remember(id, environment.clone());
        self.recent = Some((environment.clone(), id));
        Ok(environment)
    }

    /// Removes an environment that no job uses.
    pub fn remove_unused(&mut self, connection: &Connection, id: i64) -> Result<()> {
        let unused = "DELETE FROM environments WHERE id = ?1 AND NOT EXISTS
                      (SELECT 1 FROM jobs INDEXED BY jobs_environment
                       WHERE environment = ?1 AND environment <> 0)";
        if connection.prepare_cached(unused)?.execute([id])? > 0 {
            self.clear();
        }
        Ok(())
    }

    fn remember(&mut self, id: i64, environment: Arc<Environment>) {
        let bytes = environment.bytes();
        if self.values.len() >= CAPACITY || self.bytes + bytes > CAPACITY_BYTES {
            self.clear();
        }
        if bytes > CAPACITY_BYTES / 16 {
            return;
        }
        self.bytes += bytes;
        self.ids.insert(environment.clone(), id);
        self.values.insert(id, environment);
    }
}

fn find_or_insert(connection: &Connection, environment: &Environment) -> Result<i64> {
    let value =
        serde_json::to_string(environment).map_err(|error| Error::ToSqlConversionFailure(error.into()))?;
    let hash: [u8; 32] = Sha256::digest(&value).into();
    let mut select = connection.prepare_cached("SELECT id FROM environments WHERE hash = ?1")?;
    if let Some(id) = select.query_row([&hash], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let mut insert =
        connection.prepare_cached("INSERT INTO environments (hash, value) VALUES (?1, ?2) RETURNING id")?;
    insert.query_row((&hash, &value), |row| row.get(0))
}
