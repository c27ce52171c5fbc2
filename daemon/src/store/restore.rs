//! What a start needs to know, read once. Nothing is changed: what an interrupted job becomes is the scheduler's decision, and a start
//! on a full disk must not fail.

use std::collections::{BTreeMap, HashSet};

use pool_proto::{ResultKind, State};
use rusqlite::{Connection, Result, Row};

use super::columns::Columns;
use super::jobs;
use crate::scheduler::store_op::{Interrupted, PendingCallback, Restored};

pub fn read(connection: &Connection) -> Result<Restored> {
    let (next_job, next_callback) = connection.query_row("SELECT next_job, next_callback FROM meta", [], |row| {
        let mut columns = Columns::new(row);
        Ok((columns.size()?.unwrap_or(1), columns.size()?.unwrap_or(1)))
    })?;
    let (queued, interrupted) = (count_queued(connection)?, read_interrupted(connection)?);
    let (callbacks, stdin) = (read_outbox(connection)?, read_stdin(connection)?);
    Ok(Restored { next_job, next_callback, queued, interrupted, callbacks, stdin })
}

fn read_stdin(connection: &Connection) -> Result<HashSet<String>> {
    let mut select =
        connection.prepare("SELECT stdin FROM jobs INDEXED BY jobs_stdin WHERE stdin IS NOT NULL AND ended_us IS NULL")?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// Counted in the index, which takes some 40 ms for a million jobs; a number kept beside the rows would have to be kept right.
fn count_queued(connection: &Connection) -> Result<BTreeMap<String, u64>> {
    let mut select = connection
        .prepare("SELECT pool, count(*) FROM jobs INDEXED BY jobs_queue WHERE state IN ('queued', 'retrying') GROUP BY pool")?;
    let counts = select.query_map([], |row| {
        let mut columns = Columns::new(row);
        Ok((columns.take()?, columns.size()?.unwrap_or(0)))
    })?;
    counts.collect()
}

fn read_interrupted(connection: &Connection) -> Result<Vec<Interrupted>> {
    let mut select = connection.prepare(
        "SELECT id, pool, attempt, crashes, state, result FROM jobs INDEXED BY jobs_active
         WHERE state IN ('running', 'stopping') ORDER BY id",
    )?;
    let interrupted = select.query_map([], |row| {
        let mut columns = Columns::new(row);
        let (id, pool, attempt, crashes) = (columns.take()?, columns.take()?, columns.take()?, columns.take()?);
        let is_stopping = columns.parse(State::parse)? == State::Stopping;
        let intent = columns.parse_optional(ResultKind::parse)?.filter(|_| is_stopping);
        Ok(Interrupted { id, pool, attempt, crashes, stopping: intent.and_then(jobs::stop_reason) })
    })?;
    interrupted.collect()
}

/// What is marked as running was interrupted and is due again.
fn read_outbox(connection: &Connection) -> Result<Vec<PendingCallback>> {
    let mut select = connection.prepare(
        "SELECT id, due_us FROM callbacks INDEXED BY callbacks_outbox WHERE state IN ('pending', 'running') ORDER BY ended_us, id",
    )?;
    let read = |row: &Row<'_>| Ok(PendingCallback { id: row.get(0)?, due_us: row.get(1)? });
    select.query_map([], read)?.collect()
}
