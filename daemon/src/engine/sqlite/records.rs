//! Rows to values: the record that clients see, and the work that an attempt needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pool_proto::nouns::{
    ArrayInfo, Callback, Dependency, Entry, Input, MemoryLimit, MemoryLimiter, On, OnCrash, OutputFile,
    SCHEMA, Usage,
};
use pool_proto::text::rfc3339;
use pool_proto::{Json, Record, ResultKind, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::{Column, Columns, columns};
use super::environments::Environments;
use super::values::Values;
use super::{arrays, dependents, places, retry, turns, waits};
use crate::job::{
    ArrayPart, Call, CallbackId, Element, ExitCodes, Holdup, JobId, JobKind, Labels, LineKey, Needs, Ready,
    Retries, Tries, Work,
};

/// Where the output of attempts is.
#[derive(Debug)]
pub struct Layout {
    pub state_dir: PathBuf,
    pub output_paths: fn(&Path, JobId, u32) -> (PathBuf, PathBuf),
    pub callback_paths: fn(&Path, CallbackId, u32) -> (PathBuf, PathBuf),
    pub sync_stdin: fn(&Path, &str) -> std::io::Result<()>,
    pub values: Values,
}

columns! {
    RecordColumn {
        state, attempt, stdout_bytes, stderr_bytes, started_us, ended_us, submitted_us, result, exit_code,
        signal, reason, pool, slot, name, argv, method, params, value, error, cwd, tie, on_crash, key, crashes,
        worker_pid, pid, user_s, sys_s, max_rss_bytes, memory_peak_bytes, last_crash, rank, retries, retried,
        waits, stripped, unique_name, deadline_us, start_by_us, reruns, retry_on, depends_on, memory_limit_bytes,
        memory_limiter, labels, array, array_index, array_elements, merge,
    }
    BY_ID: "FROM jobs WHERE id = ?1";
}

columns! {
    EntryColumn {
        state, pool, name, labels, array, array_index, array_elements, submitted_us, started_us, ended_us, result,
        exit_code, signal,
    }
    BY_ID: "FROM jobs WHERE id = ?1";
}

columns! {
    ReadyColumn {
        id, attempt, crashes, retried, pool, name, argv, method, params, cwd, environment, stdin, timeout_us,
        kill_after_us, tie, on_crash, rank, retries, backoff_us, jitter, retry_on, within_us, start_within_us,
        idle_timeout_us, labels, array, array_index, array_elements, input, merge,
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
    let Some((mut record, holdup)) = record.optional()? else {
        return arrays::record_of_unmade(connection, layout, id);
    };
    if record.array.as_ref().is_some_and(|array| array.index.is_none()) {
        let held = arrays::count_held(connection, id)?;
        record.array = arrays::info(connection, id)?.map(|array| Box::new(ArrayInfo { held, ..*array }));
    }

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
    let mut lost = Vec::new();
    let mut value = |column, what: &str| {
        read_value(columns, column, &layout.values, |reason| lost.push(format!("{what} is lost: {reason}")))
    };
    let params = value(Of::params, "what was passed to the call")?;
    let answer = value(Of::value, "what the call returned")?;
    let error = value(Of::error, "the error of the call")?;
    let needs = columns.parse(Of::labels, Needs::parse)?;
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
        params,
        value: answer,
        error,
        progress: None,
        cwd: columns.os_text(Of::cwd)?,
        tie: columns.get(Of::tie)?,
        on_crash: columns.parse(Of::on_crash, OnCrash::parse)?,
        key: columns.optional_os_text(Of::key)?,
        unique: columns.optional_os_text(Of::unique_name)?,
        labels: needs.labels.to_names(),
        slots: needs.slots,
        resources: needs.resources.to_counts(),
        array: read_array(columns, Of::array, Of::array_index, Of::array_elements)?,
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
        items: None,
        stdout: None,
        stderr: None,
        output_pruned: columns.get(Of::stripped)?,
        callbacks: Vec::new(),
    };

    if record.method.is_some() {
        record.argv = None;
    }
    if !lost.is_empty() {
        let known = record.reason.take();
        record.reason = Some(known.into_iter().chain(lost).collect::<Vec<_>>().join("; "));
    }
    let bytes = (columns.size(Of::stdout_bytes)?, columns.size(Of::stderr_bytes)?);
    let (stdout, stderr) = output_files(layout, id, attempt, bytes, columns.get(Of::merge)?);
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

/// What a brief listing tells of a job; of an array only that it is one.
pub(super) fn read_entry(columns: &Columns<'_, EntryColumn>, id: JobId) -> Result<Entry> {
    use EntryColumn as Of;

    let state = columns.parse(Of::state, State::parse)?;
    let needs = columns.parse(Of::labels, Needs::parse)?;
    Ok(Entry {
        id: id.0,
        state,
        pool: columns.get(Of::pool)?,
        name: columns.optional_os_text(Of::name)?,
        labels: needs.labels.to_names(),
        slots: needs.slots,
        array: read_array(columns, Of::array, Of::array_index, Of::array_elements)?,
        submitted_at: rfc3339(columns.get(Of::submitted_us)?),
        started_at: columns.get::<Option<i64>>(Of::started_us)?.map(rfc3339),
        ended_at: columns.get::<Option<i64>>(Of::ended_us)?.map(rfc3339),
        // As in the record.
        result: match state.is_terminal() {
            true => columns.parse_optional(Of::result, ResultKind::parse)?,
            false => None,
        },
        exit_code: columns.get(Of::exit_code)?,
        signal: columns.get(Of::signal)?,
    })
}

/// The array that it is, or is an element of. Of the former only that it is one.
fn read_array<C: Column>(
    columns: &Columns<'_, C>,
    array: C,
    index: C,
    elements: C,
) -> Result<Option<Box<ArrayInfo>>> {
    let Some(array) = columns.get(array)? else { return Ok(None) };
    let index: Option<u32> = columns.get(index)?;
    let elements = columns.get(elements)?;
    let element = Element { array, index: index.unwrap_or_default(), elements };
    Ok(Some(Box::new(ArrayInfo { index, ..element.info() })))
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
    are_merged: bool,
) -> (Option<OutputFile>, Option<OutputFile>) {
    if attempt == 0 {
        return (None, None);
    }
    let (stdout, stderr) = (layout.output_paths)(&layout.state_dir, id, attempt);
    let file = |path: &Path, bytes| Some(OutputFile { path: path.into(), bytes });
    (file(&stdout, stdout_bytes), file(if are_merged { &stdout } else { &stderr }, stderr_bytes))
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
pub fn ready(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    id: JobId,
) -> Result<Option<Ready>> {
    let mut select = connection.prepare_cached(ReadyColumn::BY_ID)?;
    select.query_row([id], |row| read_ready(row, connection, environments, values, None)).optional()
}

/// Reads [`ReadyColumn`]s. `line`: the job's, whose names are shared instead of made anew.
pub fn read_ready(
    row: &Row<'_>,
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    line: Option<&LineKey>,
) -> Result<Ready> {
    use ReadyColumn as Of;

    let columns = Columns::of(row);
    let (pool, needs) = line.cloned().map(|line| (line.pool, line.needs)).unzip();
    let work = Work {
        pool: columns.parse(Of::pool, |name| Some(pool.unwrap_or_else(|| Arc::from(name))))?,
        name: columns.optional_os_text(Of::name)?,
        kind: read_kind(&columns, values)?,
        volatile: false,
        cwd: columns.os_text(Of::cwd)?,
        environment: environments.load(connection, columns.get(Of::environment)?)?,
        stdin: columns.get(Of::stdin)?,
        input: columns.parse_optional(Of::input, Input::parse)?,
        merge: columns.get(Of::merge)?,
        timeout: columns.duration(Of::timeout_us)?,
        idle_timeout: columns.duration(Of::idle_timeout_us)?,
        kill_after: columns.duration(Of::kill_after_us)?.unwrap_or_default(),
        deadline: columns.duration(Of::within_us)?,
        start_within: columns.duration(Of::start_within_us)?,
        tie: columns.parse_optional(Of::tie, |tie| tie.parse().ok())?,
        on_crash: columns.parse(Of::on_crash, OnCrash::parse)?,
        priority: priority(columns.get(Of::rank)?)?,
        needs: columns.parse(Of::labels, |text| needs.or_else(|| Needs::parse(text)))?,
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
        array: read_part(&columns, connection)?,
    };
    let tries = Tries {
        attempts: columns.get(Of::attempt)?,
        crashes: columns.get(Of::crashes)?,
        retried: columns.get(Of::retried)?,
    };
    Ok(Ready { id: columns.get(Of::id)?, tries, work: Arc::new(work) })
}

/// What the job has to do with an array.
fn read_part(columns: &Columns<'_, ReadyColumn>, connection: &Connection) -> Result<Option<Box<ArrayPart>>> {
    let Some(array) = columns.get(ReadyColumn::array)? else { return Ok(None) };
    let Some(index) = columns.get(ReadyColumn::array_index)? else {
        return arrays::part(connection, array);
    };
    let elements = columns.get(ReadyColumn::array_elements)?;
    Ok(Some(Box::new(ArrayPart::Element(Element { array, index, elements }))))
}

/// The codes that are followed by another attempt, as they are written.
pub fn exit_codes(written: Option<ExitCodes>) -> ExitCodes {
    written.unwrap_or(ExitCodes::ALL)
}

/// Of a rank: see [`insert::rank`](super::insert::rank).
pub fn priority(rank: i64) -> Result<i32> {
    i32::try_from(-rank).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, rank))
}

/// A value, wherever it is. `lose` is told why there is none though there was one.
fn read_value<C: Column>(
    columns: &Columns<'_, C>,
    column: C,
    values: &Values,
    lose: impl FnOnce(String),
) -> Result<Option<Json>> {
    let read = columns.parse_optional(column, |text| match values.read(text) {
        Ok(value) => Some(Ok(value)),
        Err(reason) => reason.map(Err),
    })?;
    match read {
        Some(Err(reason)) => {
            lose(reason);
            Ok(None)
        }
        read => Ok(read.and_then(std::result::Result::ok)),
    }
}

fn read_kind(columns: &Columns<'_, ReadyColumn>, values: &Values) -> Result<JobKind> {
    let method: Option<String> = columns.get(ReadyColumn::method)?;
    Ok(match method {
        Some(method) => {
            let mut lost = None;
            let params = read_value(columns, ReadyColumn::params, values, |reason| lost = Some(reason))?;
            JobKind::Call(Call { method, params, lost })
        }
        None => JobKind::Exec(columns.parse(ReadyColumn::argv, |argv| serde_json::from_str(argv).ok())?),
    })
}
