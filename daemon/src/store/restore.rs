//! What a start needs to know, read once. Nothing is changed: what an interrupted job becomes is the scheduler's decision, and a start
//! on a full disk must not fail.

use std::collections::{BTreeMap, HashSet};

use pool_proto::interface::OnCrash;
use pool_proto::{ResultKind, State};
use rusqlite::{Connection, Result, Row};

use super::columns::Columns;
use super::{jobs, records};
use crate::job::{JobId, Process, Tie};
use crate::scheduler::store_op::{Interrupted, LastEnd, PendingCallback, Restored, Tied};

pub fn read(connection: &Connection) -> Result<Restored> {
    let (next_job, next_callback, boot_id) = connection.query_row(
        "SELECT max(next_job, volatile_below), next_callback, boot_id FROM meta",
        [],
        |row| {
            let mut columns = Columns::new(row);
            Ok((columns.size()?.unwrap_or(1), columns.size()?.unwrap_or(1), columns.take()?))
        },
    )?;
    Ok(Restored {
        next_job,
        next_callback,
        boot_id,
        last_end: LastEnd::Unknown,
        queued: count_queued(connection)?,
        interrupted: read_interrupted(connection)?,
        held: read_held(connection)?,
        tied: read_tied(connection)?,
        callbacks: read_outbox(connection)?,
        next_due_us: read_next_due(connection)?,
        stdin: read_stdin(connection)?,
        pools: read_pools(connection)?,
    })
}

fn read_pools(connection: &Connection) -> Result<BTreeMap<String, String>> {
    let mut select = connection.prepare("SELECT name, value FROM pools")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn read_held(connection: &Connection) -> Result<Vec<JobId>> {
    let mut select = connection.prepare("SELECT id FROM jobs INDEXED BY jobs_held WHERE state = 'held'")?;
    select.query_map([], |row| row.get(0))?.collect()
}

fn read_tied(connection: &Connection) -> Result<Vec<Tied>> {
    let mut select = connection
        .prepare("SELECT id, tie FROM jobs INDEXED BY jobs_tied WHERE tie IS NOT NULL AND ended_us IS NULL ORDER BY id")?;
    let tied = select.query_map([], |row| {
        let mut columns = Columns::new(row);
        let (id, tie) = (columns.take()?, columns.parse(|tie| tie.parse().ok())?);
        let untied = match tie {
            // One that has been pruned has ended.
            Tie::Job(other) => jobs::has_ended(connection, other)?.unwrap_or(true),
            Tie::Client | Tie::Pool => false,
        };
        Ok(Tied { id, tie, untied })
    })?;
    tied.collect()
}

fn read_stdin(connection: &Connection) -> Result<HashSet<String>> {
    let mut select = connection.prepare(
        "SELECT stdin FROM jobs INDEXED BY jobs_stdin WHERE stdin IS NOT NULL AND ended_us IS NULL",
    )?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// Counted in the index, which takes some 40 ms for a million jobs; a number kept beside the rows would have to be kept right.
fn count_queued(connection: &Connection) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for select in [
        "SELECT pool, count(*) FROM jobs INDEXED BY jobs_queue WHERE state IN ('queued', 'retrying') AND due_us IS NULL GROUP BY pool",
        "SELECT pool, count(*) FROM jobs INDEXED BY jobs_due WHERE due_us IS NOT NULL AND ended_us IS NULL GROUP BY pool",
    ] {
        let mut select = connection.prepare(select)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let mut columns = Columns::new(row);
            let pool = columns.take()?;
            *counts.entry(pool).or_default() += columns.size()?.unwrap_or(0);
        }
    }
    Ok(counts)
}

fn read_next_due(connection: &Connection) -> Result<Option<i64>> {
    let first =
        "SELECT min(due_us) FROM jobs INDEXED BY jobs_due WHERE due_us IS NOT NULL AND ended_us IS NULL";
    connection.query_row(first, [], |row| row.get(0))
}

fn read_interrupted(connection: &Connection) -> Result<Vec<Interrupted>> {
    let mut select = connection.prepare(
        "SELECT id, pool, attempt, crashes, on_crash, worker_pid, pid, start_ticks, state, result, retries, backoff_us, retried
         FROM jobs INDEXED BY jobs_active
         WHERE state IN ('running', 'stopping') ORDER BY id",
    )?;
    let interrupted = select.query_map([], |row| {
        let mut columns = Columns::new(row);
        let (id, pool, attempt, crashes) =
            (columns.take()?, columns.take()?, columns.take()?, columns.take()?);
        let on_crash = columns.parse(OnCrash::parse)?;
        let worker_pid = columns.take()?;
        let (pid, start_ticks): (Option<i32>, _) = (columns.take()?, columns.size()?);
        let process = pid.map(|pid| Process { pid, start_ticks });
        let is_stopping = columns.parse(State::parse)? == State::Stopping;
        let intent = columns.parse_optional(ResultKind::parse)?.filter(|_| is_stopping);
        let stopping = intent.and_then(jobs::stop_reason);
        let (retries, retried) = (records::read_retries(&mut columns)?, columns.take()?);
        Ok(Interrupted {
            id,
            pool,
            attempt,
            crashes,
            on_crash,
            retries,
            retried,
            worker_pid,
            process,
            stopping,
        })
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
