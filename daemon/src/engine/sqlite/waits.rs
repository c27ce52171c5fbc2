//! The table of waits: jobs and callbacks that are in no line, until a time comes, a person decides, or
//! another job has ended; and the triggers that end the waits for times and persons.
//!
//! A job that waits is marked so in its own row as well, which keeps it out of the index of its line. A job
//! that never waits is never looked for here.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::Refusal;
use rusqlite::{Connection, OptionalExtension, Result};

use super::columns::{Columns, columns};
use super::environments::Environments;
use super::records;
use crate::engine::{FETCHED_BYTES, Released};
use crate::job::{CallbackId, IdSet, JobId, MAX_BACKOFF, Position, Ready, Unit, Until, micros};

/// How long after a start a callback waits at most.
const CALLBACK_PATIENCE: Duration = Duration::from_secs(60);

/// Units as the table names them.
pub const JOB: &str = "job";
pub const CALLBACK: &str = "callback";

/// What waits no more.
#[derive(Debug, Default)]
pub struct Woken {
    pub jobs: Vec<Ready>,
    pub callbacks: Vec<CallbackId>,
    /// When others are due.
    pub next_us: Option<i64>,
}

columns! {
    DueColumn { unit, id, due_us }
    FIRST: "FROM waits INDEXED BY waits_due WHERE until = 'time' ORDER BY due_us LIMIT ?1";
}

columns! {
    HeldColumn { pool, rank }
    BY_ID: "FROM jobs WHERE id = ?1 AND state = 'held'";
}

/// Begins a wait. A job's own row is marked by whoever puts it there.
pub fn add(connection: &Connection, unit: Unit, until: Until) -> Result<()> {
    let (name, id) = key(unit);
    let (until, due_us) = match until {
        Until::Time { due_us } => ("time", Some(due_us)),
        Until::Person => ("person", None),
        Until::Predecessor => ("predecessor", None),
    };
    let insert = "INSERT OR REPLACE INTO waits (unit, id, until, due_us) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(insert)?.execute((name, id, until, due_us))?;
    Ok(())
}

/// Ends a wait, if there is one.
pub fn remove(connection: &Connection, unit: Unit) -> Result<()> {
    let (name, id) = key(unit);
    connection.prepare_cached("DELETE FROM waits WHERE unit = ?1 AND id = ?2")?.execute((name, id))?;
    Ok(())
}

fn key(unit: Unit) -> (&'static str, i64) {
    match unit {
        Unit::Job(id) => (JOB, id.0.cast_signed()),
        Unit::Callback(id) => (CALLBACK, id.0.cast_signed()),
    }
}

/// Until when a job waits, if it waits for a time.
pub fn due_of(connection: &Connection, id: JobId) -> Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT due_us FROM waits WHERE unit = 'job' AND id = ?1")?;
    Ok(select.query_row([id], |row| row.get(0)).optional()?.flatten())
}

/// A start finds what was written by a clock that may have been set back since: nothing waits longer from now
/// than its backoff.
pub fn bound(connection: &Connection, now_us: i64) -> Result<()> {
    // As `Retries::after` has it; the wait under way is that of the retry before `retried`.
    let jobs = "WITH bounds AS (
            SELECT waits.id, ?1 + CAST(
                min(backoff_us * (1 << min(max(retried - 1, 0), 30)), max(backoff_us, ?2)) AS INTEGER
            ) AS latest
            FROM waits INDEXED BY waits_due JOIN jobs ON jobs.id = waits.id
            WHERE until = 'time' AND waits.due_us > ?1 AND unit = 'job'
        )
        UPDATE waits SET due_us = bounds.latest FROM bounds
        WHERE waits.unit = 'job' AND waits.id = bounds.id AND waits.due_us > bounds.latest";
    connection.execute(jobs, (now_us, micros(MAX_BACKOFF)))?;

    // Their backoff is the configuration's, which the store does not know. One that comes early does no harm.
    let callbacks = "UPDATE waits SET due_us = ?1 WHERE until = 'time' AND due_us > ?1 AND unit = 'callback'";
    connection.execute(callbacks, [now_us.saturating_add(micros(CALLBACK_PATIENCE))])?;
    Ok(())
}

/// The trigger of [`Until::Time`]: what is due by then, so much at most, is in line or pending again.
pub fn wake(
    connection: &Connection,
    environments: &mut Environments,
    until_us: i64,
    limit: u32,
) -> Result<Woken> {
    let mut select = connection.prepare_cached(DueColumn::FIRST)?;
    let first: Vec<(Unit, i64)> = select
        .query_map([i64::from(limit) + 1], |row| {
            let columns = Columns::of(row);
            let id: i64 = columns.get(DueColumn::id)?;
            let unit = columns.parse(DueColumn::unit, |unit| match unit {
                JOB => Some(Unit::Job(JobId(id.unsigned_abs()))),
                CALLBACK => Some(Unit::Callback(CallbackId(id.unsigned_abs()))),
                _ => None,
            })?;
            Ok((unit, columns.get(DueColumn::due_us)?))
        })?
        .collect::<Result<_>>()?;

    let (mut woken, mut bytes) = (Woken::default(), 0);
    for (unit, due_us) in first {
        let is_enough = woken.jobs.len() + woken.callbacks.len() == limit as usize || bytes > FETCHED_BYTES;
        if due_us > until_us || is_enough {
            woken.next_us = Some(due_us);
            break;
        }
        remove(connection, unit)?;
        match unit {
            Unit::Job(id) => {
                connection.prepare_cached("UPDATE jobs SET waits = 0 WHERE id = ?1")?.execute([id])?;
                let ready = records::ready(connection, environments, id)?;
                bytes += ready.as_ref().map_or(0, |ready| ready.work.own_bytes());
                woken.jobs.extend(ready);
            }
            Unit::Callback(id) => woken.callbacks.push(id),
        }
    }
    Ok(woken)
}

/// The trigger of [`Until::Person`]: held jobs, all or none, are in their lines again; a job that is named
/// twice is one.
pub fn release(
    connection: &Connection,
    ids: &[JobId],
) -> Result<std::result::Result<Vec<Released>, Refusal>> {
    let mut select = connection.prepare_cached(HeldColumn::BY_ID)?;
    let mut seen = IdSet::default();
    let mut held = Vec::with_capacity(ids.len());
    for &id in ids.iter().filter(|&&id| seen.insert(id)) {
        let released = select.query_row([id], |row| {
            let columns = Columns::of(row);
            let position =
                Position { priority: Reverse(records::priority(columns.get(HeldColumn::rank)?)?), id };
            Ok(Released { position, pool: Arc::from(columns.get::<String>(HeldColumn::pool)?) })
        });
        let Some(released) = released.optional()? else {
            return Ok(Err(Refusal::NotHeld { id: id.0 }));
        };
        held.push(released);
    }

    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'queued', waits = 0, crashes = 0, reason = NULL, last_crash = NULL
         WHERE id = ?1",
    )?;
    for Released { position, .. } in &held {
        remove(connection, Unit::Job(position.id))?;
        update.execute([position.id])?;
    }
    Ok(Ok(held))
}
