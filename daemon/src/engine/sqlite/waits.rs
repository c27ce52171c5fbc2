//! The table of waits: jobs and callbacks that are in no line, until a time comes, a person decides, or
//! another job has ended; and the triggers that end the waits for times and persons.
//!
//! A job that waits is marked so in its own row as well, which keeps it out of the index of its line. A job
//! that never waits is never looked for here.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::{Refusal, State};
use rusqlite::{Connection, OptionalExtension, Result};

use super::columns::{Columns, columns};
use super::environments::Environments;
use super::values::Values;
use super::{places, records};
use crate::engine::{Dequeued, FETCHED_BYTES, Released};
use crate::job::{
    CallbackId, IdSet, JobId, LineKey, MAX_BACKOFF, Needs, Position, Ready, Unit, Unmet, Until, micros,
};

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

/// Begins a wait. A job's own row is marked by whoever puts it there.
pub fn add(connection: &Connection, unit: Unit, until: Until) -> Result<()> {
    let (name, id) = key(unit);
    let (until, due_us) = match until {
        Until::Time { due_us } | Until::Start { due_us } => ("time", Some(due_us)),
        Until::Person => ("person", None),
        Until::Others => ("others", None),
        Until::Predecessor => ("predecessor", None),
    };
    let insert = "INSERT OR REPLACE INTO waits (unit, id, until, due_us) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(insert)?.execute((name, id, until, due_us))?;
    Ok(())
}

columns! {
    UnmetColumn { state, pool, labels, rank, hold, others, follows, not_before_us }
    OF_JOB: "FROM jobs WHERE id = ?1";
}

/// A job that was in this state waits for one thing less: what it waits for now. None where it is in another
/// state, or waits for the same as before.
pub fn go_on(connection: &Connection, id: JobId, from: State) -> Result<Option<Released>> {
    let (state, unmet, released) =
        connection.prepare_cached(UnmetColumn::OF_JOB)?.query_row([id], |row| {
            let columns = Columns::of(row);
            let follows: i64 = columns.get(UnmetColumn::follows)?;
            let unmet = Unmet {
                hold: columns.get(UnmetColumn::hold)?,
                others: columns.get(UnmetColumn::others)?,
                follows: follows > 0,
                start_us: columns.get(UnmetColumn::not_before_us)?,
            };
            let position =
                Position { priority: Reverse(records::priority(columns.get(UnmetColumn::rank)?)?), id };
            let pool = columns.parse(UnmetColumn::pool, |name| Some(Arc::from(name)))?;
            let needs = columns.parse(UnmetColumn::labels, Needs::parse)?;
            let released = Released { position, line: LineKey { pool, needs }, until: unmet.first() };
            Ok((columns.parse(UnmetColumn::state, State::parse)?, unmet, released))
        })?;
    let place = unmet.place();
    if state != from || (place.state() == from && released.until.is_some()) {
        return Ok(None);
    }
    match released.until {
        Some(until) => add(connection, Unit::Job(id), until)?,
        None => remove(connection, Unit::Job(id))?,
    }
    let update = "UPDATE jobs SET state = ?2, waits = ?3 WHERE id = ?1";
    let waits = released.until.is_some();
    connection.prepare_cached(update)?.execute((id, place.state().as_str(), waits))?;
    Ok(Some(released))
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
    // As `Retries::wait` has it; the wait under way is that of the retry before `retried`.
    let jobs = "WITH bounds AS (
            SELECT waits.id, ?1 + CAST(
                min(backoff_us * (1 << min(max(retried - 1, 0), 30)), max(backoff_us, ?2))
                    * (1000 + jitter) / 1000.0 AS INTEGER
            ) AS latest
            FROM waits INDEXED BY waits_due JOIN jobs ON jobs.id = waits.id
            WHERE until = 'time' AND waits.due_us > ?1 AND unit = 'job' AND state = 'retrying'
        )
        UPDATE waits SET due_us = bounds.latest FROM bounds
        WHERE waits.unit = 'job' AND waits.id = bounds.id AND waits.due_us > bounds.latest";
    connection.execute(jobs, (now_us, micros(MAX_BACKOFF)))?;

    // Their backoff is the configuration's, which the store does not know. One that comes early does no harm.
    let callbacks = "UPDATE waits SET due_us = ?1 WHERE until = 'time' AND due_us > ?1 AND unit = 'callback'";
    connection.execute(callbacks, [now_us.saturating_add(micros(CALLBACK_PATIENCE))])?;
    Ok(())
}

/// The trigger of [`Until::Time`] and [`Until::Start`]: what is due by then, so much at most, is in line or
/// pending again.
pub fn wake(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
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
                let update = "UPDATE jobs SET waits = 0, not_before_us = NULL,
                                  state = CASE state WHEN 'scheduled' THEN 'queued' ELSE state END
                              WHERE id = ?1";
                connection.prepare_cached(update)?.execute([id])?;
                let ready = records::ready(connection, environments, values, id)?;
                bytes += ready.as_ref().map_or(0, |ready| ready.work.own_bytes());
                woken.jobs.extend(ready);
            }
            Unit::Callback(id) => woken.callbacks.push(id),
        }
    }
    Ok(woken)
}

/// What waits for a time of the wall's clock waits for this time of the other one, which is so much ahead.
pub fn set_clock(connection: &Connection, ahead_us: i64) -> Result<()> {
    let jobs = "UPDATE jobs INDEXED BY jobs_at SET not_before_us = at_us + ?1
                WHERE at_us IS NOT NULL AND not_before_us IS NOT NULL AND ended_us IS NULL";
    connection.prepare_cached(jobs)?.execute([ahead_us])?;
    let waits = "UPDATE waits SET due_us = jobs.not_before_us FROM jobs INDEXED BY jobs_at
                 WHERE at_us IS NOT NULL AND not_before_us IS NOT NULL AND ended_us IS NULL
                     AND state = 'scheduled' AND waits.unit = 'job' AND waits.id = jobs.id";
    connection.prepare_cached(waits)?.execute([])?;
    Ok(())
}

/// Whether some job waits, or is going to wait, for a time of the wall's clock.
pub fn goes_by_wall(connection: &Connection) -> Result<bool> {
    let exists = "SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_at
                  WHERE at_us IS NOT NULL AND not_before_us IS NOT NULL AND ended_us IS NULL)";
    connection.query_row(exists, [], |row| row.get(0))
}

/// When the first of those is due that wait for a time.
pub fn next_due(connection: &Connection) -> Result<Option<i64>> {
    let first = "SELECT min(due_us) FROM waits INDEXED BY waits_due WHERE until = 'time'";
    connection.prepare_cached(first)?.query_row([], |row| row.get(0))
}

/// Jobs that wait for a person from now on, each with where it was queued; and those that are as they were.
pub type Withheld = (Vec<(JobId, Option<Dequeued>)>, Vec<(JobId, Option<State>)>);

columns! {
    HoldColumn { state, pool, waits }
    TO_HOLD: "FROM jobs WHERE id = ?1";
}

/// Has jobs wait for a person before all else. What else they wait for is in their rows.
pub fn hold(connection: &Connection, ids: &[JobId]) -> Result<Withheld> {
    let mut select = connection.prepare_cached(HoldColumn::TO_HOLD)?;
    let mut update =
        connection.prepare_cached("UPDATE jobs SET hold = 1, state = 'held', waits = 1 WHERE id = ?1")?;
    let (mut held, mut others) = (Vec::with_capacity(ids.len()), Vec::new());
    for &id in ids {
        let found = select.query_row([id], |row| {
            let columns = Columns::of(row);
            let state = columns.parse(HoldColumn::state, State::parse)?;
            let pool = columns.parse(HoldColumn::pool, |name| Some(Arc::from(name)))?;
            let holdup = places::holdup(state, columns.get(HoldColumn::waits)?);
            Ok((state, holdup.map(|holdup| Dequeued { pool, holdup })))
        });
        match found.optional()? {
            Some((State::Held, _)) => held.push((id, None)),
            Some((_, Some(line))) => {
                update.execute([id])?;
                add(connection, Unit::Job(id), Until::Person)?;
                held.push((id, Some(line)));
            }
            Some((state, None)) => others.push((id, Some(state))),
            None => others.push((id, None)),
        }
    }
    Ok((held, others))
}

/// The trigger of [`Until::Person`]: held jobs, all or none, are in their lines again; a job that is named
/// twice is one.
pub fn release(
    connection: &Connection,
    ids: &[JobId],
    closed: &[Arc<str>],
) -> Result<std::result::Result<Vec<Released>, Refusal>> {
    let mut select = connection.prepare_cached("SELECT pool FROM jobs WHERE id = ?1 AND state = 'held'")?;
    let mut seen = IdSet::default();
    let ids: Vec<JobId> = ids.iter().copied().filter(|&id| seen.insert(id)).collect();
    for id in &ids {
        let pool: Option<String> = select.query_row([id], |row| row.get(0)).optional()?;
        let Some(pool) = pool else {
            return Ok(Err(Refusal::NotHeld { id: id.0 }));
        };
        if closed.iter().any(|closed| **closed == *pool) {
            return Ok(Err(Refusal::PoolDraining { pool }));
        }
    }

    let update = "UPDATE jobs SET hold = 0, crashes = 0, reason = NULL, last_crash = NULL WHERE id = ?1";
    let mut update = connection.prepare_cached(update)?;
    let mut released = Vec::with_capacity(ids.len());
    for id in ids {
        update.execute([id])?;
        released.extend(go_on(connection, id, State::Held)?);
    }
    Ok(Ok(released))
}
