//! Rows to values: the record that clients see, and the work that an attempt needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pool_proto::nouns::{
    Callback, Dependency, MemoryLimit, MemoryLimiter, On, OnCrash, OutputFile, SCHEMA, Usage,
};
use pool_proto::text::rfc3339;
use pool_proto::{Json, Record, ResultKind, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::{Columns, columns};
use super::environments::Environments;
use super::{dependents, places, retry, turns, waits};
use crate::job::{
    Call, CallbackId, ExitCodes, Holdup, JobId, JobKind, Labels, LineKey, Ready, Retries, Tries, Work,
};

/// Where the output of attempts is.
#[derive(Debug)]
pub struct Layout {
    pub state_dir: PathBuf,
    pub output_paths: fn(&Path, JobId, u32) -> (PathBuf, PathBuf),
    pub sync_stdin: fn(&Path, &str) -> std::io::Result<()>,
}

columns! {
    RecordColumn {
        state, attempt, stdout_bytes, stderr_bytes, started_us, ended_us, submitted_us, result, exit_code,
        signal, reason, pool, slot, name, argv, method, params, value, error, cwd, tie, on_crash, key, crashes,
        worker_pid, pid, user_s, sys_s, max_rss_bytes, memory_peak_bytes, last_crash, rank, retries, retried,
        waits, stripped, unique_name, deadline_us, start_by_us, reruns, retry_on, depends_on, memory_limit_bytes,
        memory_limiter, labels,
    }
    BY_ID: "FROM jobs WHERE id = ?1";
}

columns! {
    ReadyColumn {
        id, attempt, crashes, retried, pool, name, argv, method, params, cwd, environment, stdin, timeout_us,
        kill_after_us, tie, on_crash, rank, retries, backoff_us, jitter, retry_on, within_us, start_within_us,
        idle_timeout_us, labels,
    }
    BY_ID: "FROM jobs WHERE id = ?1";
    // What is in a line, first what remains of one rank, then what is of the next ones. In one
    // condition, SQLite would search for the place through all that is of that rank.
    OF_RANK: "FROM jobs INDEXED BY jobs_queue
              WHERE state IN ('queued', 'retrying') AND waits = 0 AND pool = ?1 AND labels = ?2 AND rank = ?3
                AND id > ?4
              ORDER BY id LIMIT ?5";
    OF_LATER_RANKS: "FROM jobs INDEXED BY jobs_queue
                     WHERE state IN ('queued', 'retrying') AND waits = 0 AND pool = ?1 AND labels = ?2 AND rank > ?3
                       AND ?4 IS NOT NULL
                     ORDER BY rank, id LIMIT ?5";
}

columns! {
    CallbackColumn { id, kind, state, attempts, exit_code }
    OF_JOB: "FROM callbacks WHERE job = ?1 ORDER BY id";
}

/// A job's record, if there is such a job.
pub fn record(connection: &Connection, layout: &Layout, id: JobId) -> Result<Option<Record>> {
    let mut select = connection.prepare_cached(RecordColumn::BY_ID)?;
    let record = select.query_row([id], |row| {
        let columns = Columns::of(row);
        let record = read_record(&columns, layout, id)?;
        let holdup = places::holdup(record.state, columns.get(RecordColumn::waits)?);
        Ok((record, holdup))
    });
    let Some((mut record, holdup)) = record.optional()? else { return Ok(None) };

    match (holdup, &record.unique) {
        (None | Some(Holdup::None), _) | (Some(Holdup::Predecessor), None) => {}
        (Some(Holdup::Others), _) => record.after = Some(dependents::of(connection, id)?),
        (Some(Holdup::Time), _) => record.due_at = waits::due_of(connection, id)?.map(rfc3339),
        (Some(Holdup::Predecessor), Some(name)) => {
            let before = turns::predecessor(connection, name.as_escaped(), id)?;
            record.waits_for = before.map(|before| before.0);
        }
    }
    record.callbacks = callbacks_of(connection, id)?;
    Ok(Some(record))
}

/// All but what other tables have: when the job is due, and its callbacks.
fn read_record(columns: &Columns<'_, RecordColumn>, layout: &Layout, id: JobId) -> Result<Record> {
    use RecordColumn as Of;

    let state = columns.parse(Of::state, State::parse)?;
    let attempt = columns.get(Of::attempt)?;
    let started_us: Option<i64> = columns.get(Of::started_us)?;
    let ended_us: Option<i64> = columns.get(Of::ended_us)?;
    let json = |text: &str| Json::parse(text).ok();
    let mut record = Record {
        schema: SCHEMA,
        id: id.0,
        state,
        submitted_at: rfc3339(columns.get(Of::submitted_us)?),
        started_at: started_us.map(rfc3339),
        ended_at: ended_us.map(rfc3339),
        wall_s: started_us
            .zip(ended_us)
            .map(|(started_us, ended_us)| (ended_us - started_us).max(0) as f64 / 1e6),
        // Why a stopping job is being ended is an intent, not yet a result.
        result: if state.is_terminal() {
            columns.parse_optional(Of::result, ResultKind::parse)?
        } else {
            None
        },
        exit_code: columns.get(Of::exit_code)?,
        signal: columns.get(Of::signal)?,
        reason: columns.get(Of::reason)?,
        pool: columns.get(Of::pool)?,
        slot: columns.get(Of::slot)?,
        name: columns.optional_os_text(Of::name)?,
        argv: columns.parse(Of::argv, |argv| serde_json::from_str(argv).ok())?,
        method: columns.get(Of::method)?,
        params: columns.parse_optional(Of::params, json)?,
        value: columns.parse_optional(Of::value, json)?,
        error: columns.parse_optional(Of::error, json)?,
        progress: None,
        cwd: columns.os_text(Of::cwd)?,
        tie: columns.get(Of::tie)?,
        on_crash: columns.parse(Of::on_crash, OnCrash::parse)?,
        key: columns.optional_os_text(Of::key)?,
        unique: columns.optional_os_text(Of::unique_name)?,
        labels: columns.parse(Of::labels, |labels| Some(Labels::parse(labels).to_names()))?,
        waits_for: None,
        after: None,
        depends_on: columns.get::<Option<String>>(Of::depends_on)?.as_deref().map(named_dependencies),
        attempt,
        crashes: columns.get(Of::crashes)?,
        worker_pid: columns.get(Of::worker_pid)?,
        pid: columns.get(Of::pid)?,
        usage: read_usage(columns)?,
        last_crash: columns.get(Of::last_crash)?,
        reruns: columns.get(Of::reruns)?,
        priority: priority(columns.get(Of::rank)?)?,
        retries: columns.get(Of::retries)?,
        retried: columns.get(Of::retried)?,
        retry_on_exit: columns.get(Of::retry_on)?,
        due_at: None,
        deadline_at: columns.get::<Option<i64>>(Of::deadline_us)?.map(rfc3339),
        start_by: columns.get::<Option<i64>>(Of::start_by_us)?.map(rfc3339),
        memory_limit: read_memory_limit(columns)?,
        frozen_since: None,
        stdout: None,
        stderr: None,
        output_pruned: columns.get(Of::stripped)?,
        callbacks: Vec::new(),
    };

    if record.method.is_some() {
        record.argv = None;
    }
    let bytes = (columns.size(Of::stdout_bytes)?, columns.size(Of::stderr_bytes)?);
    let (stdout, stderr) = output_files(layout, id, attempt, bytes);
    if record.output_pruned {
        // There are no files any more.
    } else if record.method.is_some() {
        // Its standard output is its program's answer; of its standard error there is a file if anything was
        // written.
        record.stderr = stderr.filter(|file| file.bytes.is_some_and(|bytes| bytes > 0));
    } else {
        (record.stdout, record.stderr) = (stdout, stderr);
    }
    Ok(record)
}

/// What a job was submitted to run after, the first ones.
fn named_dependencies(written: &str) -> Vec<Dependency> {
    let after = retry::read_after(written).into_iter().take(dependents::NAMED as usize);
    after.map(|after| Dependency { id: after.id.0, on: Some(after.on) }).collect()
}

fn callbacks_of(connection: &Connection, job: JobId) -> Result<Vec<Callback>> {
    let mut select = connection.prepare_cached(CallbackColumn::OF_JOB)?;
    let callbacks = select.query_map([job], |row| {
        let columns = Columns::of(row);
        Ok(Callback {
            id: columns.get::<CallbackId>(CallbackColumn::id)?.0,
            on: columns.parse(CallbackColumn::kind, On::parse)?,
            state: columns.get(CallbackColumn::state)?,
            attempts: columns.get(CallbackColumn::attempts)?,
            exit_code: columns.get(CallbackColumn::exit_code)?,
        })
    })?;
    callbacks.collect()
}

/// The files of the latest attempt, once there was one.
fn output_files(
    layout: &Layout,
    id: JobId,
    attempt: u32,
    (stdout_bytes, stderr_bytes): (Option<u64>, Option<u64>),
) -> (Option<OutputFile>, Option<OutputFile>) {
    if attempt == 0 {
        return (None, None);
    }
    let (stdout, stderr) = (layout.output_paths)(&layout.state_dir, id, attempt);
    let file = |path: &Path, bytes| Some(OutputFile { path: path.into(), bytes });
    (file(&stdout, stdout_bytes), file(&stderr, stderr_bytes))
}

fn read_usage(columns: &Columns<'_, RecordColumn>) -> Result<Option<Usage>> {
    let user_s: Option<f64> = columns.get(RecordColumn::user_s)?;
    let sys_s: Option<f64> = columns.get(RecordColumn::sys_s)?;
    let max_rss_bytes = columns.size(RecordColumn::max_rss_bytes)?;
    let memory_peak_bytes = columns.size(RecordColumn::memory_peak_bytes)?;
    let all = user_s.zip(sys_s).zip(max_rss_bytes);
    Ok(all.map(|((user_s, sys_s), max_rss_bytes)| Usage { user_s, sys_s, max_rss_bytes, memory_peak_bytes }))
}

fn read_memory_limit(columns: &Columns<'_, RecordColumn>) -> Result<Option<MemoryLimit>> {
    let by = columns.parse_optional(RecordColumn::memory_limiter, MemoryLimiter::parse)?;
    Ok(columns.size(RecordColumn::memory_limit_bytes)?.map(|bytes| MemoryLimit { bytes, by }))
}

/// A job with its work, as a slot would get it, if there is such a job.
pub fn ready(connection: &Connection, environments: &mut Environments, id: JobId) -> Result<Option<Ready>> {
    let mut select = connection.prepare_cached(ReadyColumn::BY_ID)?;
    select.query_row([id], |row| read_ready(row, connection, environments, None)).optional()
}

/// Reads [`ReadyColumn`]s. `line`: the job's, whose names are shared instead of made anew.
pub fn read_ready(
    row: &Row<'_>,
    connection: &Connection,
    environments: &mut Environments,
    line: Option<&LineKey>,
) -> Result<Ready> {
    use ReadyColumn as Of;

    let columns = Columns::of(row);
    let (pool, labels) = line.cloned().map(|line| (line.pool, line.labels)).unzip();
    let work = Work {
        pool: columns.parse(Of::pool, |name| Some(pool.unwrap_or_else(|| Arc::from(name))))?,
        name: columns.optional_os_text(Of::name)?,
        kind: read_kind(&columns)?,
        volatile: false,
        cwd: columns.os_text(Of::cwd)?,
        environment: environments.load(connection, columns.get(Of::environment)?)?,
        stdin: columns.get(Of::stdin)?,
        timeout: columns.duration(Of::timeout_us)?,
        idle_timeout: columns.duration(Of::idle_timeout_us)?,
        kill_after: columns.duration(Of::kill_after_us)?.unwrap_or_default(),
        deadline: columns.duration(Of::within_us)?,
        start_within: columns.duration(Of::start_within_us)?,
        tie: columns.parse_optional(Of::tie, |tie| tie.parse().ok())?,
        on_crash: columns.parse(Of::on_crash, OnCrash::parse)?,
        priority: priority(columns.get(Of::rank)?)?,
        labels: columns.parse(Of::labels, |text| Some(labels.unwrap_or_else(|| Labels::parse(text))))?,
        exclusive: Labels::NONE,
        retries: Retries {
            allowed: columns.get(Of::retries)?,
            backoff: columns.duration(Of::backoff_us)?.unwrap_or_default(),
            jitter: columns.get(Of::jitter)?,
            on: exit_codes(columns.parse_optional(Of::retry_on, |codes| ExitCodes::parse(codes).ok())?),
        },
        key: None,
        unique: None,
        conditions: None,
        callbacks: Vec::new(),
    };
    let tries = Tries {
        attempts: columns.get(Of::attempt)?,
        crashes: columns.get(Of::crashes)?,
        retried: columns.get(Of::retried)?,
    };
    Ok(Ready { id: columns.get(Of::id)?, tries, work: Arc::new(work) })
}

/// The codes that are followed by another attempt, as they are written.
pub fn exit_codes(written: Option<ExitCodes>) -> ExitCodes {
    written.unwrap_or(ExitCodes::ALL)
}

/// Of a rank: see [`insert::rank`](super::insert::rank).
pub fn priority(rank: i64) -> Result<i32> {
    i32::try_from(-rank).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, rank))
}

fn read_kind(columns: &Columns<'_, ReadyColumn>) -> Result<JobKind> {
    let method: Option<String> = columns.get(ReadyColumn::method)?;
    Ok(match method {
        Some(method) => {
            let params = columns.parse_optional(ReadyColumn::params, |params| Json::parse(params).ok())?;
            JobKind::Call(Call { method, params })
        }
        None => JobKind::Exec(columns.parse(ReadyColumn::argv, |argv| serde_json::from_str(argv).ok())?),
    })
}
