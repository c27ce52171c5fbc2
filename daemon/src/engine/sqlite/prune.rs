//! Removing history beyond its limits, oldest end first, a few jobs at a time.
//!
//! How much of it there is, running totals say, so that nothing is counted anew. A job with callbacks that
//! are not delivered counts, but cannot go: it is not in the index of what can, so that however many of them
//! there are, no look at the oldest jobs passes them. Files are not touched: the answer names what can go.

use std::collections::BTreeSet;

use rusqlite::{Connection, Result, Row};

use super::columns::{Columns, columns};
use super::environments::Environments;
use crate::engine::Answer;
use crate::job::{CallbackId, JobId, Outcome};

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

columns! {
    SumColumn { jobs = "count(*)", output_bytes = "sum(ifnull(stdout_bytes, 0) + ifnull(stderr_bytes, 0))" }
    REMOVABLE: "FROM jobs INDEXED BY jobs_history WHERE ended_us IS NOT NULL AND undelivered = 0";
    UNDELIVERED: "FROM jobs INDEXED BY jobs_undelivered WHERE undelivered > 0";
}

columns! {
    VictimColumn {
        id,
        attempt,
        environment,
        ended_us,
        output_bytes = "ifnull(stdout_bytes, 0) + ifnull(stderr_bytes, 0)",
    }
    OLDEST_FIRST: "FROM jobs INDEXED BY jobs_history
                   WHERE ended_us IS NOT NULL AND undelivered = 0 ORDER BY ended_us";
}

impl History {
    pub fn read(connection: &Connection) -> Result<Self> {
        let mut history = Self::default();
        for sums in [SumColumn::REMOVABLE, SumColumn::UNDELIVERED] {
            connection.query_row(sums, [], |row| {
                let columns = Columns::of(row);
                history.jobs += columns.size(SumColumn::jobs)?.unwrap_or(0);
                history.output_bytes += columns.size(SumColumn::output_bytes)?.unwrap_or(0);
                Ok(())
            })?;
        }
        Ok(history)
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
) -> Result<Answer> {
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
    Ok(Answer::Pruned { jobs, callbacks, more })
}

/// The oldest jobs that are too much, taken off the totals; and whether more of them could go.
fn choose(
    connection: &Connection,
    history: &mut History,
    limits: Limits,
    batch: u32,
) -> Result<(Vec<Victim>, bool)> {
    let mut select = connection.prepare_cached(VictimColumn::OLDEST_FIRST)?;
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
    let columns = Columns::of(row);
    Ok(Victim {
        id: columns.get(VictimColumn::id)?,
        attempt: columns.get(VictimColumn::attempt)?,
        environment: columns.get(VictimColumn::environment)?,
        ended_us: columns.get(VictimColumn::ended_us)?,
        output_bytes: columns.size(VictimColumn::output_bytes)?.unwrap_or(0),
    })
}
