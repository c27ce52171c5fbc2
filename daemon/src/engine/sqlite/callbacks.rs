//! Callbacks: the outbox of what is to be run when a job has ended.
//!
//! ```text
//! waiting ── job ends ──▶ pending ◀──▶ running ──▶ delivered | failed
//!                └──▶ skipped
//! ```
//!
//! What clients may change about that, [`Delivery::altered`] says.
//!
//! A callback that was running when the daemon died is run again: delivery is at least once. A pending one
//! may wait for the time of its next attempt, in the table of [`waits`].

use pool_proto::nouns::{CallbackRecord, On, OutputFile, ResultKind};
use pool_proto::text::rfc3339;
use pool_proto::{OsText, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::{Columns, columns};
use super::environments::Environments;
use super::records::{self, Layout};
use super::waits;
use crate::engine::{
    ANSWER_BYTES, CallbackEnd, CallbackPage, CallbackRun, CallbackWish, Delivery, MAX_COUNTED,
};
use crate::job::{CallbackId, JobId, Unit, Until};

columns! {
    WaitingColumn { id, kind }
    OF_JOB: "FROM callbacks WHERE job = ?1 AND state = 'waiting' ORDER BY id";
}

columns! {
    RunColumn { job, attempts, earlier, command }
    TO_RUN: "FROM callbacks WHERE id = ?1 AND state IN ('pending', 'running')";
}

columns! {
    DeliveryColumn { state }
    BY_ID: "FROM callbacks WHERE id = ?1";
}

columns! {
    TellColumn {
        id = "callbacks.id", kind, state = "callbacks.state", attempts,
        exit_code = "callbacks.exit_code", command, job, name, job_state = "jobs.state", result, pool,
        ended_us = "jobs.ended_us",
        due_us = "(SELECT due_us FROM waits WHERE unit = 'callback' AND waits.id = callbacks.id)",
    }
    BY_ID: "FROM callbacks JOIN jobs ON jobs.id = callbacks.job WHERE callbacks.id = ?1";
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
        if delivery(connection, id)? == Some(Delivery::Dropped) {
            return Ok(None); // Just now: the core has been told, and has given the slot to another.
        }
        tracing::error!(callback = %id, "bug: begin of a callback that is not pending; ignored");
        return Ok(None);
    };

    let attempt = attempts + 1;
    let update = "UPDATE callbacks SET state = 'running', attempts = ?2, unended = unended + 1 WHERE id = ?1";
    connection.prepare_cached(update)?.execute((id, attempt))?;
    if attempts > 0 {
        waits::remove(connection, Unit::Callback(id))?;
    }

    let ready = records::ready(connection, environments, &layout.values, job)?;
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

/// Callbacks that are as a client wants them now, and those that are as they were.
type Altered = (Vec<CallbackId>, Vec<(CallbackId, Option<Delivery>)>);

/// What a client wants of these callbacks: those that are so now, and those that are as they were.
pub fn alter(connection: &Connection, ids: &[CallbackId], wish: CallbackWish) -> Result<Altered> {
    let (mut altered, mut others) = (Vec::new(), Vec::new());
    for &id in ids {
        let before = delivery(connection, id)?;
        match before.and_then(|before| Some((before, before.altered(wish)?))) {
            None => others.push((id, before)),
            Some((before, after)) => {
                set_delivery(connection, id, before, after)?;
                altered.push(id);
            }
        }
    }
    Ok((altered, others))
}

fn delivery(connection: &Connection, id: CallbackId) -> Result<Option<Delivery>> {
    let mut select = connection.prepare_cached(DeliveryColumn::BY_ID)?;
    let found = select.query_row([id], |row| Columns::of(row).parse(DeliveryColumn::state, Delivery::parse));
    found.optional()
}

fn set_delivery(connection: &Connection, id: CallbackId, before: Delivery, after: Delivery) -> Result<()> {
    // The attempts that it has had are over, and so are the crashes that it may have brought about.
    let update = "UPDATE callbacks SET state = ?2, earlier = attempts, unended = 0 WHERE id = ?1";
    connection.prepare_cached(update)?.execute((id, after.as_str()))?;
    waits::remove(connection, Unit::Callback(id))?;

    let more = i64::from(after.is_undelivered()) - i64::from(before.is_undelivered());
    if more != 0 {
        let update = "UPDATE jobs SET undelivered = undelivered + ?2
                      WHERE id = (SELECT job FROM callbacks WHERE id = ?1)";
        connection.prepare_cached(update)?.execute((id, more))?;
    }
    Ok(())
}

/// How many have failed, so far as that is counted.
pub fn count_failed(connection: &Connection) -> Result<u64> {
    let select = format!("SELECT count(*) FROM (SELECT 1 FROM {OPEN} LIMIT {MAX_COUNTED})");
    let count = connection.prepare_cached(&select)?.query_row(["failed"], |row| row.get::<_, i64>(0))?;
    Ok(count.unsigned_abs())
}

/// Those in one state, from the index alone.
const OPEN: &str = "callbacks INDEXED BY callbacks_open
                    WHERE (state = 'pending' OR state = 'running' OR state = 'failed') AND state = ?1";

/// Callbacks in order, and the id after which there are others.
pub fn read(
    connection: &Connection,
    layout: &Layout,
    page: &CallbackPage,
) -> Result<(Vec<CallbackRecord>, Option<CallbackId>)> {
    let (ids, limit) = match *page {
        CallbackPage::One(id) => (vec![id], 1),
        CallbackPage::Open { failed, after, limit } => {
            let states = if failed { &[Delivery::Failed][..] } else { &Delivery::OPEN[..] };
            (open_after(connection, states, after, limit + 1)?, limit as usize)
        }
    };

    let mut select = connection.prepare_cached(TellColumn::BY_ID)?;
    let (mut told, mut bytes) = (Vec::new(), 0);
    for &id in &ids {
        if told.len() == limit || bytes > ANSWER_BYTES {
            let last = told.last().map(|last: &CallbackRecord| CallbackId(last.id));
            return Ok((told, last));
        }
        let callback = select.query_row([id], |row| read_callback(row, layout)).optional()?;
        bytes += callback.as_ref().map_or(0, |callback| callback.command.len());
        told.extend(callback);
    }
    Ok((told, None))
}

/// Ids after this one, so many at most, in order.
fn open_after(
    connection: &Connection,
    states: &[Delivery],
    after: CallbackId,
    limit: u32,
) -> Result<Vec<CallbackId>> {
    let mut select =
        connection.prepare_cached(&format!("SELECT id FROM {OPEN} AND id > ?2 ORDER BY id LIMIT ?3"))?;
    let mut ids: Vec<CallbackId> = Vec::new();
    for state in states {
        for id in select.query_map((state.as_str(), after, limit), |row| row.get(0))? {
            ids.push(id?);
        }
    }
    ids.sort_unstable();
    ids.truncate(limit as usize);
    Ok(ids)
}

fn read_callback(row: &Row<'_>, layout: &Layout) -> Result<CallbackRecord> {
    use TellColumn as Of;

    let columns = Columns::of(row);
    let (id, attempts) = (columns.get::<CallbackId>(Of::id)?, columns.get(Of::attempts)?);
    let (stdout, stderr) = (layout.callback_paths)(&layout.state_dir, id, attempts);
    let file = |path: std::path::PathBuf| {
        (attempts > 0).then(|| OutputFile { path: path.as_path().into(), bytes: None })
    };
    Ok(CallbackRecord {
        id: id.0,
        on: columns.parse(Of::kind, On::parse)?,
        state: columns.get(Of::state)?,
        attempts,
        exit_code: columns.get(Of::exit_code)?,
        command: columns.os_text(Of::command)?,
        due_at: columns.get::<Option<i64>>(Of::due_us)?.map(rfc3339),
        job: columns.get::<JobId>(Of::job)?.0,
        job_name: columns.optional_os_text(Of::name)?,
        job_state: columns.parse(Of::job_state, State::parse)?,
        job_result: columns.parse_optional(Of::result, ResultKind::parse)?,
        pool: columns.get(Of::pool)?,
        ended_at: columns.get::<Option<i64>>(Of::ended_us)?.map(rfc3339),
        stdout: file(stdout),
        stderr: file(stderr),
    })
}
