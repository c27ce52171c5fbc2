//! Callbacks: the outbox of what is to be run when a job has ended.
//!
//! ```text
//! waiting ── job ends ──▶ pending ◀──▶ running ──▶ delivered | failed
//!                └──▶ skipped
//! ```
//!
//! A callback that was running when the daemon died is run again: delivery is at least once. A pending one
//! may wait for the time of its next attempt, in the table of [`waits`].

use pool_proto::nouns::On;
use pool_proto::{OsText, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::{Columns, columns};
use super::environments::Environments;
use super::records::{self, Layout};
use super::waits;
use crate::engine::{CallbackEnd, CallbackRun};
use crate::job::{CallbackId, JobId, Unit, Until};

columns! {
    WaitingColumn { id, kind }
    OF_JOB: "FROM callbacks WHERE job = ?1 AND state = 'waiting' ORDER BY id";
}

columns! {
    RunColumn { job, attempts, earlier, command }
    TO_RUN: "FROM callbacks WHERE id = ?1 AND state IN ('pending', 'running')";
}

/// Decides on the callbacks of a job that has ended: those that are pending now, in order.
pub fn release(connection: &Connection, job: JobId, state: State, ended_us: i64) -> Result<Vec<CallbackId>> {
    let mut select = connection.prepare_cached(WaitingColumn::OF_JOB)?;
    let waiting: Vec<(CallbackId, On)> = select.query_map([job], read_waiting)?.collect::<Result<_>>()?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }

    let mut update =
        connection.prepare_cached("UPDATE callbacks SET state = ?2, ended_us = ?3 WHERE id = ?1")?;
    let mut pending = Vec::new();
    for (id, on) in waiting {
        let is_due = on.matches(state);
        update.execute((id, if is_due { "pending" } else { "skipped" }, ended_us))?;
        pending.extend(is_due.then_some(id));
    }

    if !pending.is_empty() {
        // Not before they are delivered can the job go.
        let mut update = connection.prepare_cached("UPDATE jobs SET undelivered = ?2 WHERE id = ?1")?;
        update.execute((job, i64::try_from(pending.len()).unwrap_or(i64::MAX)))?;
    }
    Ok(pending)
}

fn read_waiting(row: &Row<'_>) -> Result<(CallbackId, On)> {
    let columns = Columns::of(row);
    Ok((columns.get(WaitingColumn::id)?, columns.parse(WaitingColumn::kind, On::parse)?))
}

/// Marks a callback as running and reads what its attempt needs. It may be marked so already: by the last
/// daemon, or for a worker that died before it could begin.
pub fn begin(
    connection: &Connection,
    environments: &mut Environments,
    layout: &Layout,
    id: CallbackId,
) -> Result<Option<CallbackRun>> {
    let mut select = connection.prepare_cached(RunColumn::TO_RUN)?;
    let pending = select.query_row([id], |row| {
        let columns = Columns::of(row);
        let attempts: u32 = columns.get(RunColumn::attempts)?;
        let earlier: u32 = columns.get(RunColumn::earlier)?;
        Ok((columns.get(RunColumn::job)?, attempts, earlier, columns.os_text(RunColumn::command)?))
    });
    let Some((job, attempts, earlier, command)): Option<(JobId, u32, u32, OsText)> = pending.optional()?
    else {
        tracing::error!(callback = %id, "bug: begin of a callback that is not pending; ignored");
        return Ok(None);
    };

    let attempt = attempts + 1;
    let update = "UPDATE callbacks SET state = 'running', attempts = ?2, unended = unended + 1 WHERE id = ?1";
    connection.prepare_cached(update)?.execute((id, attempt))?;
    if attempts > 0 {
        waits::remove(connection, Unit::Callback(id))?;
    }

    let ready = records::ready(connection, environments, job)?;
    let record = records::record(connection, layout, job)?;
    let (Some(ready), Some(record)) = (ready, record) else {
        tracing::error!(callback = %id, %job, "bug: begin of a callback whose job does not exist; ignored");
        return Ok(None);
    };
    Ok(Some(CallbackRun { id, attempt, earlier, command, work: ready.work, record: Box::new(record) }))
}

/// How an attempt has ended.
pub fn end(connection: &Connection, id: CallbackId, end: CallbackEnd, exit_code: Option<i32>) -> Result<()> {
    let state = match end {
        CallbackEnd::Delivered => "delivered",
        CallbackEnd::Again { .. } => "pending",
        CallbackEnd::Failed => "failed",
    };
    let mut update = connection.prepare_cached(
        "UPDATE callbacks SET state = ?2, exit_code = ?3, unended = 0 WHERE id = ?1 AND state = 'running'",
    )?;
    if update.execute((id, state, exit_code))? == 0 {
        tracing::error!(callback = %id, state, "bug: end of a callback that is not running; ignored");
        return Ok(());
    }

    match end {
        CallbackEnd::Again { due_us } => {
            waits::add(connection, Unit::Callback(id), Until::Time { due_us })?;
        }
        CallbackEnd::Delivered | CallbackEnd::Failed => {
            let update = "UPDATE jobs SET undelivered = undelivered - 1
                          WHERE id = (SELECT job FROM callbacks WHERE id = ?1) AND undelivered > 0";
            connection.prepare_cached(update)?.execute([id])?;
        }
    }
    Ok(())
}
