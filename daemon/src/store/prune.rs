//! Removing history beyond its limits, oldest end first, a few jobs at a time.
//!
//! What there is of it is known from running totals, so that nothing is counted anew. Files are not touched: the answer names what can go.

use std::collections::BTreeSet;

use rusqlite::{Connection, Result, Row};

use super::columns::Columns;
use super::environments::Environments;
use crate::job::{CallbackId, JobId, Outcome};
use crate::scheduler::store_op::StoreAnswer;

/// All jobs that have ended. Changed along with the rows, and set back when a transaction is rolled back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    pub jobs: u64,
    pub output_bytes: u64,
}

/// How much of it may stay.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_jobs: u64,
    pub ended_before_us: i64,
    pub max_output_bytes: u64,
}

/// A job that goes.
struct Victim {
    id: JobId,
    attempt: u32,
    environment: i64,
    ended_us: i64,
    output_bytes: u64,
}

impl History {
    pub fn read(connection: &Connection) -> Result<Self> {
        let sums = "SELECT count(*), sum(ifnull(stdout_bytes, 0) + ifnull(stderr_bytes, 0))
                    FROM jobs INDEXED BY jobs_history WHERE ended_us IS NOT NULL";
        connection.query_row(sums, [], |row| {
            let mut columns = Columns::new(row);
            Ok(Self { jobs: columns.size()?.unwrap_or(0), output_bytes: columns.size()?.unwrap_or(0) })
        })
    }

    pub fn add(&mut self, outcome: &Outcome) {
        self.jobs += 1;
        self.output_bytes += outcome.stdout_bytes.unwrap_or(0) + outcome.stderr_bytes.unwrap_or(0);
    }

    fn remove(&mut self, output_bytes: u64) {
        self.jobs = self.jobs.saturating_sub(1);
        self.output_bytes = self.output_bytes.saturating_sub(output_bytes);
    }

    /// Whether the oldest job, which ended then, is too much.
    fn exceeds(&self, limits: Limits, oldest_us: i64) -> bool {
        self.jobs > limits.max_jobs
            || self.output_bytes > limits.max_output_bytes
            || oldest_us < limits.ended_before_us
    }
}

/// Removes at most `batch` jobs.
pub fn prune(
    connection: &Connection,
    environments: &mut Environments,
    history: &mut History,
    limits: Limits,
    batch: u32,
) -> Result<StoreAnswer> {
    let (victims, more) = choose(connection, history, limits, batch)?;
    let mut delete = connection.prepare_cached("DELETE FROM jobs WHERE id = ?1")?;
    // Not by a RETURNING clause, for which SQLite makes a table each time: most jobs have none.
    let mut select_callbacks =
        connection.prepare_cached("SELECT id, attempts FROM callbacks WHERE job = ?1")?;
    let mut delete_callback = connection.prepare_cached("DELETE FROM callbacks WHERE id = ?1")?;
    let mut callbacks: Vec<(CallbackId, u32)> = Vec::new();
    for victim in &victims {
        for callback in select_callbacks.query_map([victim.id], |row| Ok((row.get(0)?, row.get(1)?)))? {
            callbacks.push(callback?);
        }
        delete.execute([victim.id])?;
    }
    for (callback, _) in &callbacks {
        delete_callback.execute([callback])?;
    }
    callbacks.sort_unstable();
    for environment in victims.iter().map(|victim| victim.environment).collect::<BTreeSet<_>>() {
        environments.remove_unused(connection, environment)?;
    }
    let jobs = victims.iter().map(|victim| (victim.id, victim.attempt)).collect();
    Ok(StoreAnswer::Pruned { jobs, callbacks, more })
}

/// The oldest jobs that are too much, taken off the totals; and whether more of them could go.
fn choose(
    connection: &Connection,
    history: &mut History,
    limits: Limits,
    batch: u32,
) -> Result<(Vec<Victim>, bool)> {
    let mut select = connection.prepare_cached(
        "SELECT id, attempt, environment, ended_us, ifnull(stdout_bytes, 0) + ifnull(stderr_bytes, 0)
         FROM jobs INDEXED BY jobs_history
         WHERE ended_us IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM callbacks WHERE job = jobs.id AND callbacks.state IN ('pending', 'running'))
         ORDER BY ended_us",
    )?;
    let mut rows = select.query([])?;
    let mut victims = Vec::new();
    while let Some(row) = rows.next()? {
        let victim = read_victim(row)?;
        if !history.exceeds(limits, victim.ended_us) {
            break;
        }
        if victims.len() == batch as usize {
            return Ok((victims, true));
        }
        history.remove(victim.output_bytes);
        victims.push(victim);
    }
    Ok((victims, false))
}

fn read_victim(row: &Row<'_>) -> Result<Victim> {
    let mut columns = Columns::new(row);
    Ok(Victim {
        id: columns.take()?,
        attempt: columns.take()?,
        environment: columns.take()?,
        ended_us: columns.take()?,
        output_bytes: columns.size()?.unwrap_or(0),
    })
}
