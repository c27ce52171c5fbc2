//! What a start needs to know, read once. Nothing is changed: what an interrupted job becomes is the
//! core's decision, and a start on a full disk must not fail.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use pool_proto::State;
use pool_proto::nouns::OnCrash;
use rusqlite::{Connection, Result};

use super::columns::{Columns, columns};
use super::records::exit_codes;
use super::{arrays, deadlines, dependents, insert, meta, places, records, schedules, turns, waits};
use crate::engine::{Interrupted, LastEnd, Restored, Tied};
use crate::job::{
    CallbackId, ExitCodes, Holdup, LineKey, Needs, Pause, Position, Process, ProcessId, Queued, Retries,
    Term, Tie, Tries, UserId,
};

/// How many jobs are queued, by pool.
type Counts = BTreeMap<String, Queued>;

columns! {
    MetaColumn { next_job = "max(next_job, volatile_below)", next_callback }
    META: "FROM meta";
}

columns! {
    TiedColumn { id, tie, pool, state, waits }
    TIED: "FROM jobs INDEXED BY jobs_tied WHERE tie IS NOT NULL AND ended_us IS NULL ORDER BY id";
}

columns! {
    /// A line has no job of a lesser rank, and none of a lesser id.
    LineColumn { pool, labels, jobs = "count(*)", rank = "min(rank)", id = "min(id)" }
    LINES: "FROM jobs INDEXED BY jobs_queue
            WHERE state IN ('queued', 'retrying') AND waits = 0 GROUP BY pool, labels";
}

columns! {
    CountColumn { pool, jobs = "count(*)" }
    // A cross join is carried out as it stands: it must not go through all jobs to find those that wait.
    WAITING: "FROM waits CROSS JOIN jobs ON jobs.id = waits.id
              WHERE waits.unit = 'job' AND waits.until = 'time' GROUP BY pool";
    BLOCKED: "FROM jobs INDEXED BY jobs_blocked WHERE state = 'blocked' GROUP BY pool";
    FOLLOWING: "FROM jobs INDEXED BY jobs_following
                WHERE follows > 0 AND ended_us IS NULL AND state = 'queued' GROUP BY pool";
}

columns! {
    InterruptedColumn {
        id, pool, labels, slot, attempt, crashes, on_crash, worker_pid, pid, start_ticks, started_us,
        started_since_boot_us, state, result, retries, backoff_us, jitter, retry_on, retried,
    }
    // An array has no attempt.
    ACTIVE: "FROM jobs INDEXED BY jobs_active
             WHERE state IN ('running', 'stopping') AND (array IS NULL OR array_index IS NOT NULL)
             ORDER BY id";
}

columns! {
    OutboxColumn {
        id,
        crashes = "CASE state WHEN 'running' THEN unended ELSE 0 END",
        waits = "EXISTS (SELECT 1 FROM waits WHERE unit = 'callback' AND waits.id = callbacks.id)",
    }
    OUTBOX: "FROM callbacks INDEXED BY callbacks_outbox
             WHERE state IN ('pending', 'running') ORDER BY ended_us, id";
}

columns! {
    PoolColumn { name, value }
    POOLS: "FROM pools";
}

columns! {
    LimitColumn { label, running }
    LIMITS: "FROM limits";
}

columns! {
    PauseColumn { pool, since_us, uid }
    PAUSES: "FROM pauses";
}

pub fn read(connection: &Connection) -> Result<Restored> {
    let (lines, queued) = read_lines(connection)?;
    let mut restored = Restored {
        queued: count_waiting(connection, queued)?,
        lines,
        replaced: turns::read_replaced(connection)?,
        failed: dependents::read_failed(connection)?,
        has_unresolved: dependents::is_unresolved(connection)?,
        arrays: arrays::read_begun(connection)?,
        interrupted: read_interrupted(connection)?,
        last_end: LastEnd::Unknown,
        tied: read_tied(connection)?,
        next_due_us: waits::next_due(connection)?,
        goes_by_wall: waits::goes_by_wall(connection)?,
        next_deadline_us: deadlines::first(connection, Term::End)?,
        next_start_by_us: deadlines::first(connection, Term::Start)?,
        stdin: read_stdin(connection)?,
        pools: read_pools(connection)?,
        pauses: read_pauses(connection)?,
        workers: meta::workers(connection)?,
        schedules: schedules::read(connection)?,
        limits: read_limits(connection)?,
        boot: meta::last_boot(connection)?,
        ..Restored::default()
    };

    connection.query_row(MetaColumn::META, [], |row| {
        let columns = Columns::of(row);
        restored.next_job = columns.size(MetaColumn::next_job)?.unwrap_or(1);
        restored.next_callback = columns.size(MetaColumn::next_callback)?.unwrap_or(1);
        Ok(())
    })?;
    for (id, crashes, waits) in read_outbox(connection)? {
        if waits {
            restored.waiting_callbacks.push(id)
        } else {
            restored.callbacks.push(id)
        }
        if crashes > 0 {
            restored.crashed_callbacks.insert(id, crashes);
        }
    }
    Ok(restored)
}

fn read_pools(connection: &Connection) -> Result<BTreeMap<String, String>> {
    let mut select = connection.prepare(PoolColumn::POOLS)?;
    let pools = select.query_map([], |row| {
        let columns = Columns::of(row);
        Ok((columns.get(PoolColumn::name)?, columns.get(PoolColumn::value)?))
    })?;
    pools.collect()
}

fn read_pauses(connection: &Connection) -> Result<BTreeMap<String, Pause>> {
    let mut select = connection.prepare(PauseColumn::PAUSES)?;
    let pauses = select.query_map([], |row| {
        let columns = Columns::of(row);
        let by = UserId::new(columns.get(PauseColumn::uid)?);
        Ok((columns.get(PauseColumn::pool)?, Pause { since_us: columns.get(PauseColumn::since_us)?, by }))
    })?;
    pauses.collect()
}

fn read_limits(connection: &Connection) -> Result<BTreeMap<String, u32>> {
    let mut select = connection.prepare(LimitColumn::LIMITS)?;
    let limits = select.query_map([], |row| {
        let columns = Columns::of(row);
        Ok((columns.get(LimitColumn::label)?, columns.get(LimitColumn::running)?))
    })?;
    limits.collect()
}

fn read_tied(connection: &Connection) -> Result<Vec<Tied>> {
    let mut select = connection.prepare(TiedColumn::TIED)?;
    let tied = select.query_map([], |row| {
        let columns = Columns::of(row);
        let tie = columns.parse(TiedColumn::tie, |tie| tie.parse().ok())?;
        let untied = match tie {
            // A job that has been pruned has ended.
            Tie::Job(other) => insert::has_ended(connection, other)?.unwrap_or(true),
            Tie::Client | Tie::Pool => false,
        };
        let state = columns.parse(TiedColumn::state, State::parse)?;
        let pool = columns.parse(TiedColumn::pool, |name| Some(Arc::from(name)))?;
        let holdup = places::holdup(state, columns.get(TiedColumn::waits)?);
        let (queued_in, holdup) = (holdup.map(|_| pool), holdup.unwrap_or_default());
        Ok(Tied { id: columns.get(TiedColumn::id)?, tie, queued_in, holdup, untied })
    })?;
    tied.collect()
}

fn read_stdin(connection: &Connection) -> Result<HashSet<String>> {
    let mut select = connection.prepare(
        "SELECT stdin FROM jobs INDEXED BY jobs_stdin WHERE stdin IS NOT NULL AND ended_us IS NULL",
    )?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// The lines, and how many jobs of each pool are in them. Counted in the index, which takes some 40 ms for a
/// million jobs; a number kept beside the rows would have to be kept right.
fn read_lines(connection: &Connection) -> Result<(Vec<(LineKey, Position)>, Counts)> {
    let (mut lines, mut queued) = (Vec::new(), Counts::new());
    let mut select = connection.prepare(LineColumn::LINES)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let columns = Columns::of(row);
        let pool: Arc<str> = columns.parse(LineColumn::pool, |name| Some(Arc::from(name)))?;
        let needs = columns.parse(LineColumn::labels, Needs::parse)?;
        let priority = Reverse(records::priority(columns.get(LineColumn::rank)?)?);
        let first = Position { priority, id: columns.get(LineColumn::id)? };
        let jobs = columns.size(LineColumn::jobs)?.unwrap_or(0);
        queued.entry(pool.to_string()).or_default().add(Holdup::None, jobs);
        lines.push((LineKey { pool, needs }, first));
    }
    Ok((lines, queued))
}

/// Adds the jobs that wait, counted likewise.
fn count_waiting(connection: &Connection, mut queued: Counts) -> Result<Counts> {
    for (holdup, select) in [
        (Holdup::Time, CountColumn::WAITING),
        (Holdup::Others, CountColumn::BLOCKED),
        (Holdup::Predecessor, CountColumn::FOLLOWING),
    ] {
        let mut select = connection.prepare(select)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let columns = Columns::of(row);
            let pool: String = columns.get(CountColumn::pool)?;
            let jobs = columns.size(CountColumn::jobs)?.unwrap_or(0);
            queued.entry(pool).or_default().add(holdup, jobs);
        }
    }
    Ok(queued)
}

fn read_interrupted(connection: &Connection) -> Result<Vec<Interrupted>> {
    use InterruptedColumn as Of;

    let mut select = connection.prepare(Of::ACTIVE)?;
    let interrupted = select.query_map([], |row| {
        let columns = Columns::of(row);
        let pid: Option<ProcessId> = columns.get(Of::pid)?;
        let start_ticks = columns.size(Of::start_ticks)?;
        let is_stopping = columns.parse(Of::state, State::parse)? == State::Stopping;
        let stopping =
            if is_stopping { columns.parse_optional(Of::result, places::stop_reason)? } else { None };
        Ok(Interrupted {
            id: columns.get(Of::id)?,
            pool: columns.get(Of::pool)?,
            needs: columns.parse(Of::labels, Needs::parse)?,
            tries: Tries {
                attempts: columns.get(Of::attempt)?,
                crashes: columns.get(Of::crashes)?,
                retried: columns.get(Of::retried)?,
            },
            on_crash: columns.parse(Of::on_crash, OnCrash::parse)?,
            retries: Retries {
                allowed: columns.get(Of::retries)?,
                backoff: columns.duration(Of::backoff_us)?.unwrap_or_default(),
                jitter: columns.get(Of::jitter)?,
                on: exit_codes(columns.parse_optional(Of::retry_on, |codes| ExitCodes::parse(codes).ok())?),
            },
            slot: columns.get(Of::slot)?,
            started_us: columns.get(Of::started_us)?,
            since_boot_us: columns.get(Of::started_since_boot_us)?,
            lasted: None,
            worker: columns.get(Of::worker_pid)?,
            process: pid.map(|pid| Process { pid, start_ticks }),
            stopping,
        })
    })?;
    interrupted.collect()
}

/// What is marked as running was interrupted and is due again.
fn read_outbox(connection: &Connection) -> Result<Vec<(CallbackId, u32, bool)>> {
    let mut select = connection.prepare(OutboxColumn::OUTBOX)?;
    let outbox = select.query_map([], |row| {
        let columns = Columns::of(row);
        Ok((
            columns.get(OutboxColumn::id)?,
            columns.get(OutboxColumn::crashes)?,
            columns.get(OutboxColumn::waits)?,
        ))
    })?;
    outbox.collect()
}
