//! Rows to values: the record that clients see, and the work that an attempt needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pool_proto::interface::{Callback, On, OnCrash, OutputFile, SCHEMA, Usage};
use pool_proto::text::rfc3339;
use pool_proto::{Json, Record, ResultKind, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::Columns;
use super::environments::Environments;
use crate::job::{Call, CallbackId, JobId, JobKind, Ready, Retries, Work};

/// Where the output of attempts is.
#[derive(Debug)]
pub struct Layout {
    pub state_dir: PathBuf,
    pub output_paths: fn(&Path, JobId, u32) -> (PathBuf, PathBuf),
    pub sync_stdin: fn(&Path, &str) -> std::io::Result<()>,
}

/// The columns that [`read_ready`] takes, in its order.
macro_rules! ready_columns {
    () => {
        "id, attempt, crashes, pool, name, argv, method, params, cwd, environment, stdin, timeout_us, kill_after_us, tie, on_crash, rank, retries, backoff_us, retried"
    };
}
pub(super) use ready_columns;

/// A job's record, if there is such a job.
pub fn record(connection: &Connection, layout: &Layout, id: JobId) -> Result<Option<Record>> {
    let mut select = connection.prepare_cached(
        "SELECT state, attempt, stdout_bytes, stderr_bytes, started_us, ended_us, submitted_us, result, exit_code, signal, reason,
                pool, slot, name, argv, method, params, value, error, cwd, tie, on_crash, key, crashes, worker_pid, pid, user_s, sys_s,
                max_rss_bytes, memory_peak_bytes, last_crash, rank, retries, retried, due_us
         FROM jobs WHERE id = ?1",
    )?;
    let record = select.query_row([id], |row| read_record(row, layout, id)).optional()?;
    let Some(mut record) = record else { return Ok(None) };
    record.callbacks = callbacks_of(connection, id)?;
    Ok(Some(record))
}

fn read_record(row: &Row<'_>, layout: &Layout, id: JobId) -> Result<Record> {
    let mut columns = Columns::new(row);
    let state = columns.parse(State::parse)?;
    let attempt = columns.take()?;
    let (stdout_bytes, stderr_bytes) = (columns.size()?, columns.size()?);
    let started_us: Option<i64> = columns.take()?;
    let ended_us: Option<i64> = columns.take()?;
    let mut record = Record {
        schema: SCHEMA,
        id: id.0,
        state,
        submitted_at: rfc3339(columns.take()?),
        started_at: started_us.map(rfc3339),
        ended_at: ended_us.map(rfc3339),
        wall_s: started_us
            .zip(ended_us)
            .map(|(started_us, ended_us)| (ended_us - started_us).max(0) as f64 / 1e6),
        // What a stopping job is going to become is an intent, not yet a result.
        result: columns.parse_optional(ResultKind::parse)?.filter(|_| state.is_terminal()),
        exit_code: columns.take()?,
        signal: columns.take()?,
        reason: columns.take()?,
        pool: columns.take()?,
        slot: columns.take()?,
        name: columns.take()?,
        argv: columns.parse(|argv| serde_json::from_str(argv).ok())?,
        method: columns.take()?,
        params: columns.parse_optional(|params| Json::parse(params).ok())?,
        value: columns.parse_optional(|value| Json::parse(value).ok())?,
        error: columns.parse_optional(|error| Json::parse(error).ok())?,
        progress: None,
        cwd: columns.take()?,
        tie: columns.take()?,
        on_crash: columns.parse(OnCrash::parse)?,
        key: columns.take()?,
        attempt,
        crashes: columns.take()?,
        worker_pid: columns.take()?,
        pid: columns.take()?,
        usage: read_usage(&mut columns)?,
        last_crash: columns.take()?,
        priority: read_priority(&mut columns)?,
        retries: columns.take()?,
        retried: columns.take()?,
        due_at: columns.take::<Option<i64>>()?.filter(|_| !state.is_terminal()).map(rfc3339),
        stdout: None,
        stderr: None,
        callbacks: Vec::new(),
    };
    let (stdout, stderr) = output_files(layout, id, attempt, stdout_bytes, stderr_bytes);
    if record.method.is_some() {
        // Its standard output is its program's answer; of its standard error there is a file if anything was written.
        record.argv = None;
        record.stderr = stderr.filter(|file| file.bytes.is_some_and(|bytes| bytes > 0));
    } else {
        (record.stdout, record.stderr) = (stdout, stderr);
    }
    Ok(record)
}

fn callbacks_of(connection: &Connection, job: JobId) -> Result<Vec<Callback>> {
    let mut select = connection.prepare_cached(
        "SELECT id, kind, state, attempts, exit_code FROM callbacks WHERE job = ?1 ORDER BY id",
    )?;
    let callbacks = select.query_map([job], |row| {
        let mut columns = Columns::new(row);
        Ok(Callback {
            id: columns.take::<CallbackId>()?.0,
            on: columns.parse(On::parse)?,
            state: columns.take()?,
            attempts: columns.take()?,
            exit_code: columns.take()?,
        })
    })?;
    callbacks.collect()
}

/// The files of the latest attempt, once there was one.
fn output_files(
    layout: &Layout,
    id: JobId,
    attempt: u32,
    stdout_bytes: Option<u64>,
    stderr_bytes: Option<u64>,
) -> (Option<OutputFile>, Option<OutputFile>) {
    if attempt == 0 {
        return (None, None);
    }
    let (stdout, stderr) = (layout.output_paths)(&layout.state_dir, id, attempt);
    let file = |path: &Path, bytes| Some(OutputFile { path: path.to_string_lossy().into_owned(), bytes });
    (file(&stdout, stdout_bytes), file(&stderr, stderr_bytes))
}

fn read_usage(columns: &mut Columns<'_>) -> Result<Option<Usage>> {
    let user_s: Option<f64> = columns.take()?;
    let sys_s: Option<f64> = columns.take()?;
    let max_rss_bytes = columns.size()?;
    let memory_peak_bytes = columns.size()?;
    let all = user_s.zip(sys_s).zip(max_rss_bytes);
    Ok(all.map(|((user_s, sys_s), max_rss_bytes)| Usage { user_s, sys_s, max_rss_bytes, memory_peak_bytes }))
}

/// A job with its work, as a slot would get it, if there is such a job.
pub fn ready(connection: &Connection, environments: &mut Environments, id: JobId) -> Result<Option<Ready>> {
    let mut select =
        connection.prepare_cached(concat!("SELECT ", ready_columns!(), " FROM jobs WHERE id = ?1"))?;
    select.query_row([id], |row| read_ready(row, connection, environments, None)).optional()
}

/// Reads [`ready_columns`]. `pool`: its name, to be shared instead of made anew.
pub fn read_ready(
    row: &Row<'_>,
    connection: &Connection,
    environments: &mut Environments,
    pool: Option<&Arc<str>>,
) -> Result<Ready> {
    let mut columns = Columns::new(row);
    let (id, attempts, crashes) = (columns.take()?, columns.take()?, columns.take()?);
    let work = Work {
        pool: columns.parse(|name| Some(pool.cloned().unwrap_or_else(|| Arc::from(name))))?,
        name: columns.take()?,
        kind: read_kind(&mut columns)?,
        volatile: false,
        cwd: columns.take()?,
        environment: environments.load(connection, columns.take()?)?,
        stdin: columns.take()?,
        timeout: columns.duration()?,
        kill_after: columns.duration()?.unwrap_or_default(),
        tie: columns.parse_optional(|tie| tie.parse().ok())?,
        on_crash: columns.parse(OnCrash::parse)?,
        priority: read_priority(&mut columns)?,
        retries: read_retries(&mut columns)?,
        key: None,
        callbacks: Vec::new(),
    };
    let retried = columns.take()?;
    Ok(Ready { id, attempts, crashes, retried, start_deaths: 0, work: Arc::new(work) })
}

/// See [`jobs::rank`](super::jobs::rank).
fn read_priority(columns: &mut Columns<'_>) -> Result<i32> {
    let rank: i64 = columns.take()?;
    i32::try_from(-rank).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, rank))
}

pub(super) fn read_retries(columns: &mut Columns<'_>) -> Result<Retries> {
    Ok(Retries { allowed: columns.take()?, backoff: columns.duration()?.unwrap_or_default() })
}

fn read_kind(columns: &mut Columns<'_>) -> Result<JobKind> {
    let argv = columns.parse(|argv| serde_json::from_str(argv).ok())?;
    let method: Option<String> = columns.take()?;
    let params = columns.parse_optional(|params| Json::parse(params).ok())?;
    Ok(match method {
        Some(method) => JobKind::Call(Call { method, params }),
        None => JobKind::Exec(argv),
    })
}
