//! Attempts of jobs before their latest one: a row each, for jobs that were tried more than once. They go
//! with their job (a trigger).

use pool_proto::nouns::ResultKind;
use rusqlite::{Connection, Result, params};

use super::columns::{Columns, columns};
use super::insert::has_ended;
use crate::engine::MAX_ATTEMPTS;
use crate::job::{JobId, PastAttempt};

columns! {
    PastColumn { attempt, started_us, ended_us, result, exit_code, signal, reason }
    OF_JOB: "FROM attempts WHERE job = ?1 ORDER BY attempt";
}

/// Keeps an attempt that is over. An older one goes for it, where there are many.
pub fn add(connection: &Connection, id: JobId, past: &PastAttempt) -> Result<()> {
    // A worker's word may come twice.
    let insert = "INSERT OR REPLACE INTO attempts
                      (job, attempt, started_us, ended_us, result, exit_code, signal, reason)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection.prepare_cached(insert)?.execute(params![
        id,
        past.attempt,
        past.started_us,
        past.ended_us,
        past.result.as_str(),
        past.exit_code,
        past.signal,
        past.reason,
    ])?;
    drop_older(connection, id, past.attempt)
}

/// The last attempt of a job that has ended is one of several from now on: the job is to be run again.
pub fn add_last(connection: &Connection, id: JobId, attempt: u32) -> Result<()> {
    let insert = "INSERT OR REPLACE INTO attempts
                      (job, attempt, started_us, ended_us, result, exit_code, signal, reason)
                  SELECT id, attempt, started_us, ended_us, result, exit_code, signal, reason
                  FROM jobs WHERE id = ?1 AND started_us IS NOT NULL AND array IS NOT id";
    connection.prepare_cached(insert)?.execute([id])?;
    drop_older(connection, id, attempt)
}

fn drop_older(connection: &Connection, id: JobId, attempt: u32) -> Result<()> {
    if let Some(last) = attempt.checked_sub(MAX_ATTEMPTS).filter(|&last| last > 0) {
        let delete = "DELETE FROM attempts WHERE job = ?1 AND attempt <= ?2";
        connection.prepare_cached(delete)?.execute((id, last))?;
    }
    Ok(())
}

/// Those of a job, in order; none where it does not exist.
pub fn list(connection: &Connection, id: JobId) -> Result<Option<Vec<PastAttempt>>> {
    if has_ended(connection, id)?.is_none() {
        return Ok(None);
    }
    let mut select = connection.prepare_cached(PastColumn::OF_JOB)?;
    let attempts = select.query_map([id], |row| {
        let columns = Columns::of(row);
        Ok(PastAttempt {
            attempt: columns.get(PastColumn::attempt)?,
            started_us: columns.get(PastColumn::started_us)?,
            ended_us: columns.get(PastColumn::ended_us)?,
            result: columns.parse(PastColumn::result, ResultKind::parse)?,
            exit_code: columns.get(PastColumn::exit_code)?,
            signal: columns.get(PastColumn::signal)?,
            reason: columns.get(PastColumn::reason)?,
        })
    })?;
    attempts.collect::<Result<_>>().map(Some)
}
