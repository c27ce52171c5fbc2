//! A job's life in its row: insertion, and every transition up to its final state.
//!
//! `ended_us` is set with the final state and never cleared, so `ended_us IS NULL` guards each change: what has ended stays as it is.

use std::sync::Arc;

use pool_proto::{Json, ResultKind};
use rusqlite::{Connection, Error, OptionalExtension, Result, params};

use super::columns::{micros, signed};
use super::environments::{self, Environments};
use super::keys::{self, Claims};
use super::records;
use crate::job::{CallbackId, JobId, JobKind, Outcome, Process, Ready, StopReason, Tie, Work};
use crate::scheduler::store_op::Start;

/// Where a job must stand to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    NotEnded,
    Queued,
}

/// What became of an insertion; but for the first, nothing was done.
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    /// `untied`: those that are tied to a job which has ended. `existing`: the places of those that are not added, and who has their keys.
    All { untied: Vec<JobId>, existing: Vec<(usize, JobId)> },
    /// One is tied to this job, which there is not.
    TiedToNothing(JobId),
    /// Such ids have been given out before.
    IdsGivenOut,
}

/// Adds jobs and their callbacks with ids from these on.
pub fn insert(
    connection: &Connection,
    environments: &mut Environments,
    first: JobId,
    first_callback: CallbackId,
    jobs: &[Arc<Work>],
    submitted_us: i64,
) -> Result<Inserted> {
    let Claims { existing, outgoing } = keys::look_up(connection, first, jobs)?;
    let is_new = |place: usize| existing.binary_search_by_key(&place, |&(place, _)| place).is_err();
    let new = || {
        (first.0..).map(JobId).zip(jobs).enumerate().filter(|&(place, _)| is_new(place)).map(|(_, job)| job)
    };
    let mut untied = Vec::new();
    for (id, work) in new() {
        let Some(Tie::Job(other)) = work.tie else { continue };
        match has_ended(connection, other)? {
            None => return Ok(Inserted::TiedToNothing(other)),
            Some(has_ended) => untied.extend(has_ended.then_some(id)),
        }
    }
    let callbacks: usize = jobs.iter().map(|work| work.callbacks.len()).sum();
    if !reserve_ids(connection, first, jobs.len(), first_callback, callbacks)? {
        return Ok(Inserted::IdsGivenOut);
    }
    keys::release(connection, &outgoing)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (id, pool, name, argv, cwd, environment, stdin, timeout_us, kill_after_us, submitted_us,
                           tie, on_crash, key, round, method, params, rank, retries, backoff_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
    )?;
    let mut insert_callback = connection
        .prepare_cached("INSERT INTO callbacks (id, job, kind, command) VALUES (?1, ?2, ?3, ?4)")?;
    let mut callback_ids = (first_callback.0..).map(CallbackId);
    for (id, work) in new() {
        let environment = match &work.kind {
            JobKind::Call(_) if work.callbacks.is_empty() => environments::NONE,
            JobKind::Call(_) | JobKind::Exec(_) => environments.intern(connection, &work.environment)?,
        };
        let (argv, call) = match &work.kind {
            JobKind::Exec(argv) => (
                serde_json::to_string(argv).map_err(|error| Error::ToSqlConversionFailure(error.into()))?,
                None,
            ),
            JobKind::Call(call) => ("[]".to_owned(), Some(call)),
        };
        insert.execute(params![
            id,
            work.pool,
            work.name,
            argv,
            work.cwd,
            environment,
            work.stdin,
            work.timeout.map(micros),
            micros(work.kill_after),
            submitted_us,
            work.tie.map(|tie| tie.to_string()),
            work.on_crash.as_str(),
            work.key.as_ref().map(|key| &key.text),
            work.key.as_ref().and_then(|key| key.round.as_ref()),
            call.map(|call| &call.method),
            call.and_then(|call| call.params.as_ref()).map(Json::get),
            rank(work.priority),
            work.retries.allowed,
            micros(work.retries.backoff),
        ])?;
        for (callback, callback_id) in work.callbacks.iter().zip(callback_ids.by_ref()) {
            insert_callback.execute(params![callback_id, id, callback.on.as_str(), callback.command])?;
        }
    }
    Ok(Inserted::All { untied, existing })
}

/// A queue goes by rank, the least first.
pub fn rank(priority: i32) -> i64 {
    -i64::from(priority)
}

/// None when there is no such job.
pub fn has_ended(connection: &Connection, id: JobId) -> Result<Option<bool>> {
    let mut select = connection.prepare_cached("SELECT ended_us IS NOT NULL FROM jobs WHERE id = ?1")?;
    select.query_row([id], |row| row.get(0)).optional()
}

/// In the jobs' own transaction, so that ids only ever grow, whatever is removed later.
fn reserve_ids(
    connection: &Connection,
    first: JobId,
    jobs: usize,
    first_callback: CallbackId,
    callbacks: usize,
) -> Result<bool> {
    let next = JobId(first.0 + jobs as u64);
    let next_callback = CallbackId(first_callback.0 + callbacks as u64);
    let mut update = connection.prepare_cached(
        "UPDATE meta SET next_job = ?2, next_callback = ?4 WHERE next_job <= ?1 AND next_callback <= ?3",
    )?;
    Ok(update.execute((first, next, first_callback, next_callback))? > 0)
}

/// Ids below this one may have been given to jobs that are in no table.
pub fn reserve_volatile_ids(connection: &Connection, below: u64) -> Result<()> {
    connection
        .prepare_cached("UPDATE meta SET volatile_below = max(volatile_below, ?1)")?
        .execute([signed(below)])?;
    Ok(())
}

/// Processes are of this boot from now on.
pub fn booted(connection: &Connection, boot_id: &str) -> Result<()> {
    connection.prepare_cached("UPDATE meta SET boot_id = ?1 WHERE boot_id IS NOT ?1")?.execute([boot_id])?;
    Ok(())
}

/// An attempt runs, in a slot by its worker.
pub fn start(
    connection: &Connection,
    id: JobId,
    attempt: u32,
    (slot, worker_pid): (u32, i32),
    process: Option<Process>,
    started_us: i64,
) -> Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'running', attempt = ?2, slot = ?3, worker_pid = ?4, pid = ?5, start_ticks = ?6, started_us = ?7,
                         result = NULL, exit_code = NULL, signal = NULL, reason = NULL, due_us = NULL
         WHERE id = ?1 AND ended_us IS NULL",
    )?;
    let (pid, start_ticks) = process_columns(process);
    let changed = update.execute((id, attempt, slot, worker_pid, pid, start_ticks, started_us))?;
    expect_one(changed, id, "start");
    Ok(())
}

/// An attempt is being ended; why is kept for the next start, should this one not live to see the end.
pub fn stopping(connection: &Connection, id: JobId, reason: StopReason) -> Result<()> {
    let Some(result) = stop_result(reason) else {
        tracing::error!(job = %id, "the end of the daemon is no state of a job");
        return Ok(());
    };
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'stopping', result = ?2 WHERE id = ?1 AND ended_us IS NULL",
    )?;
    expect_one(update.execute((id, result.as_str()))?, id, "stop");
    Ok(())
}

fn stop_result(reason: StopReason) -> Option<ResultKind> {
    match reason {
        StopReason::Canceled | StopReason::Untied(_) => Some(ResultKind::Canceled),
        StopReason::TimedOut => Some(ResultKind::Timeout),
        StopReason::Shutdown => None,
    }
}

/// The reason that [`stopping`] has written.
pub fn stop_reason(result: ResultKind) -> Option<StopReason> {
    [StopReason::Canceled, StopReason::TimedOut]
        .into_iter()
        .find(|&reason| stop_result(reason) == Some(result))
}

/// An attempt could not be started for now.
pub fn retrying(connection: &Connection, id: JobId, reason: &str) -> Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'retrying', reason = ?2, slot = NULL, worker_pid = NULL, pid = NULL, started_us = NULL, result = NULL
         WHERE id = ?1 AND ended_us IS NULL",
    )?;
    expect_one(update.execute((id, reason))?, id, "retry");
    Ok(())
}

/// Back into the queue, `reason` being how the attempt died, where it did. When the attempt started is forgotten, or an end without another one would seem to have run for hours.
pub fn requeue(connection: &Connection, id: JobId, crashes: u32, reason: Option<&str>) -> Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'queued', crashes = ?2, reason = ?3,
                         last_crash = coalesce('attempt ' || attempt || ': ' || ?3, last_crash),
                         slot = NULL, worker_pid = NULL, pid = NULL, started_us = NULL, result = NULL
         WHERE id = ?1 AND ended_us IS NULL",
    )?;
    expect_one(update.execute((id, crashes, reason))?, id, "requeue");
    Ok(())
}

/// Out of the queue, until the next attempt is due. `start`: of the one that has failed, which nobody has written down before.
pub fn attempt_failed(
    connection: &Connection,
    id: JobId,
    retried: u32,
    reason: &str,
    start_of_attempt: Option<Start>,
    due_us: i64,
) -> Result<()> {
    if let Some(Start { attempt, slot, worker_pid, process, started_us }) = start_of_attempt {
        start(connection, id, attempt, (slot, worker_pid), process, started_us)?;
    }
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'retrying', retried = ?2, reason = ?3, due_us = ?4,
                         slot = NULL, worker_pid = NULL, pid = NULL, started_us = NULL, result = NULL
         WHERE id = ?1 AND ended_us IS NULL",
    )?;
    expect_one(update.execute((id, retried, reason, due_us))?, id, "fail an attempt");
    Ok(())
}

/// Jobs that are due go into their queues; they are returned, and when others are due.
pub fn take_due(
    connection: &Connection,
    environments: &mut Environments,
    until_us: i64,
    limit: u32,
) -> Result<(Vec<Ready>, Option<i64>)> {
    let mut select = connection.prepare_cached(
        "SELECT id, due_us FROM jobs INDEXED BY jobs_due WHERE due_us IS NOT NULL AND ended_us IS NULL ORDER BY due_us LIMIT ?1",
    )?;
    let first: Vec<(JobId, i64)> = select
        .query_map([i64::from(limit) + 1], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    let mut update = connection.prepare_cached("UPDATE jobs SET due_us = NULL WHERE id = ?1")?;
    let mut due = Vec::new();
    for (id, due_us) in first {
        if due_us > until_us || due.len() == limit as usize {
            return Ok((due, Some(due_us)));
        }
        update.execute([id])?;
        due.extend(records::ready(connection, environments, id)?);
    }
    Ok((due, None))
}

/// Out of the queue, until somebody decides.
pub fn hold(connection: &Connection, id: JobId, crashes: u32, reason: &str) -> Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'held', crashes = ?2, reason = ?3,
                         slot = NULL, worker_pid = NULL, pid = NULL, started_us = NULL, result = NULL
         WHERE id = ?1 AND ended_us IS NULL",
    )?;
    expect_one(update.execute((id, crashes, reason))?, id, "hold");
    Ok(())
}

/// Held jobs go back into the queue; they are returned.
pub fn release(
    connection: &Connection,
    environments: &mut Environments,
    ids: &[JobId],
) -> Result<Vec<Ready>> {
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = 'queued', crashes = 0, reason = NULL, last_crash = NULL WHERE id = ?1 AND state = 'held'",
    )?;
    let mut released = Vec::new();
    for &id in ids {
        let changed = update.execute([id])?;
        expect_one(changed, id, "release");
        if changed > 0 {
            released.extend(records::ready(connection, environments, id)?);
        }
    }
    Ok(released)
}

/// `start`: with the start of the attempt, which nobody has written down before.
macro_rules! finish {
    (start $provided:literal) => {
        finish!(", attempt = ?17, slot = ?18, worker_pid = ?19, pid = ?20, start_ticks = ?21, started_us = ?22", $provided)
    };
    ($start:literal, $provided:literal) => {
        concat!(
            "UPDATE jobs SET state = ?2, result = ?3, exit_code = ?4, signal = ?5, reason = ?6,
                             user_s = ?7, sys_s = ?8, max_rss_bytes = ?9, memory_peak_bytes = ?10,
                             stdout_bytes = ?11, stderr_bytes = ?12, value = ?13, error = ?14, ended_us = ?15,
                             crashes = crashes + ?16",
            $start,
            " WHERE id = ?1 AND ",
            $provided
        )
    };
}

/// A final state. None when the job does not stand where it must; otherwise the token of its spooled input, if it had one.
pub fn finish(
    connection: &Connection,
    id: JobId,
    outcome: &Outcome,
    start: Option<Start>,
    provided: Provided,
) -> Result<Option<Option<String>>> {
    // Read by itself: for a RETURNING clause SQLite makes a table of its own and keeps a journal of the statement. Calls, of which there
    // may be many, have none.
    let stdin = if start.is_some() { None } else { stdin_of(connection, id)? };
    let mut update = connection.prepare_cached(match (provided, start) {
        (Provided::NotEnded, None) => finish!("", "ended_us IS NULL"),
        (Provided::NotEnded, Some(_)) => finish!(start "ended_us IS NULL"),
        (Provided::Queued, None) => finish!("", "state IN ('queued', 'retrying')"),
        (Provided::Queued, Some(_)) => finish!(start "state IN ('queued', 'retrying')"),
    })?;
    let (value, error) = match &outcome.answer {
        Some(Ok(value)) => (Some(value.get()), None),
        Some(Err(error)) => (None, Some(error.get())),
        None => (None, None),
    };
    let end = params![
        id,
        outcome.state.as_str(),
        outcome.result.as_str(),
        outcome.exit_code,
        outcome.signal,
        outcome.reason,
        outcome.usage.map(|usage| usage.user_s),
        outcome.usage.map(|usage| usage.sys_s),
        outcome.usage.map(|usage| signed(usage.max_rss_bytes)),
        outcome.usage.and_then(|usage| usage.memory_peak_bytes).map(signed),
        outcome.stdout_bytes.map(signed),
        outcome.stderr_bytes.map(signed),
        value,
        error,
        outcome.ended_us,
        outcome.crashed,
    ];
    let changed = match start {
        None => update.execute(end)?,
        Some(Start { attempt, slot, worker_pid, process, started_us }) => {
            let (pid, start_ticks) = process_columns(process);
            let start = params![attempt, slot, worker_pid, pid, start_ticks, started_us];
            update.execute(&*[end, start].concat())?
        }
    };
    Ok((changed > 0).then_some(stdin))
}

fn stdin_of(connection: &Connection, id: JobId) -> Result<Option<String>> {
    let mut select = connection.prepare_cached("SELECT stdin FROM jobs WHERE id = ?1")?;
    Ok(select.query_row([id], |row| row.get(0)).optional()?.flatten())
}

fn process_columns(process: Option<Process>) -> (Option<i32>, Option<i64>) {
    (process.map(|process| process.pid), process.and_then(|process| process.start_ticks).map(signed))
}

fn expect_one(changed: usize, id: JobId, change: &str) {
    if changed == 0 {
        tracing::error!(job = %id, change, "a job that has ended, or that there is not, was to be changed; it stays as it is");
    }
}
