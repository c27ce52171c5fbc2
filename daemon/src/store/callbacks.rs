//! Callbacks: the outbox of what is to be run when a job has ended.
//!
//! ```text
//! waiting ── job ends ──▶ pending ◀──▶ running ──▶ delivered | failed
//!                └──▶ skipped
//! ```
//!
//! One that was running when the daemon died is run again: delivery is at least once.

use pool_proto::State;
use pool_proto::interface::On;
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::Columns;
use super::environments::Environments;
use super::records::{self, Layout};
use crate::job::{CallbackId, JobId};
use crate::scheduler::store_op::{CallbackEnd, CallbackRun};

/// Decides on the callbacks of a job that has ended: those that are pending now, in order.
pub fn release(connection: &Connection, job: JobId, state: State, ended_us: i64) -> Result<Vec<CallbackId>> {
    let mut select = connection
        .prepare_cached("SELECT id, kind FROM callbacks WHERE job = ?1 AND state = 'waiting' ORDER BY id")?;
    let waiting: Vec<(CallbackId, On)> = select.query_map([job], read_waiting)?.collect::<Result<_>>()?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let mut update = connection
        .prepare_cached("UPDATE callbacks SET state = ?2, due_us = ?3, ended_us = ?3 WHERE id = ?1")?;
    let mut pending = Vec::new();
    for (id, on) in waiting {
        let is_due = on.matches(state);
        update.execute((id, if is_due { "pending" } else { "skipped" }, ended_us))?;
        pending.extend(is_due.then_some(id));
    }
    Ok(pending)
}

fn read_waiting(row: &Row<'_>) -> Result<(CallbackId, On)> {
    let mut columns = Columns::new(row);
    Ok((columns.take()?, columns.parse(On::parse)?))
}

/// Marks a callback as running and reads what its attempt needs. It may be marked so already: by the last daemon, or for a worker that
/// died before it could begin.
pub fn claim(
    connection: &Connection,
    environments: &mut Environments,
    layout: &Layout,
    id: CallbackId,
) -> Result<Option<CallbackRun>> {
    let mut update = connection.prepare_cached(
        "UPDATE callbacks SET state = 'running', attempts = attempts + 1 WHERE id = ?1 AND state IN ('pending', 'running')
         RETURNING job, attempts, command",
    )?;
    let claimed = update.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let Some((job, attempt, command)): Option<(JobId, u32, String)> = claimed else {
        tracing::error!(callback = %id, "a callback that is not pending was to be run");
        return Ok(None);
    };
    let ready = records::ready(connection, environments, job)?;
    let record = records::record(connection, layout, job)?;
    let (Some(ready), Some(record)) = (ready, record) else {
        tracing::error!(callback = %id, %job, "a callback without its job was to be run");
        return Ok(None);
    };
    Ok(Some(CallbackRun { id, attempt, command, work: ready.work, record: Box::new(record) }))
}

/// How an attempt ended.
pub fn ended(
    connection: &Connection,
    id: CallbackId,
    end: CallbackEnd,
    exit_code: Option<i32>,
) -> Result<()> {
    let (state, due_us) = match end {
        CallbackEnd::Delivered => ("delivered", None),
        CallbackEnd::Again { due_us } => ("pending", Some(due_us)),
        CallbackEnd::Failed => ("failed", None),
    };
    let mut update = connection.prepare_cached(
        "UPDATE callbacks SET state = ?2, due_us = coalesce(?3, due_us), exit_code = ?4 WHERE id = ?1 AND state = 'running'",
    )?;
    if update.execute((id, state, due_us, exit_code))? == 0 {
        tracing::error!(callback = %id, state, "a callback that is not running was to be ended");
    }
    Ok(())
}
