//! Job arrays. What all elements have in common is in the row of the array's job, how far the array has come
//! in the table of arrays. An element gets a row when the array is unfolded up to it, or when somebody ends
//! it before; until then it is told from these two.
//!
//! Each end of an element is counted in its own transaction, so a start knows how far an array has come
//! without a look at its elements. That all have ended, the core is told with the last end; what follows is a
//! move as any other.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use pool_proto::nouns::{CallbackFor, Indices, On, State};
use pool_proto::{OsText, Record};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::columns::{Columns, columns};
use super::records::{self, Layout};
use super::{places, prune, retry};
use crate::engine::{BegunArray, Released, Reserved, Times, unmade_record};
use crate::job::{
    ArrayPart, ArrayPlan, ArrayTally, Element, JobId, LineKey, Needs, NewCallback, Outcome, Position,
    StopReason, Tie, array_label,
};

columns! {
    TallyColumn {
        id, first, elements, at_once, next, made, succeeded, failed, canceled, worst, drops, indices,
        callbacks, first_callback,
    }
    BY_ID: "FROM arrays WHERE id = ?1";
    BEFORE: "FROM arrays WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
    OPEN: "FROM arrays INDEXED BY arrays_open WHERE open = 1 ORDER BY id";
}

columns! {
    ArrayColumn { state, waits, pool, labels, rank, tie, deadline_us, result, ended_us }
    OF_ARRAY: "FROM jobs WHERE id = ?1";
}

/// An array as its own table has it.
struct Kept {
    tally: ArrayTally,
    indices: String,
    /// Those of each element.
    callbacks: Vec<(String, OsText)>,
    first_callback: u64,
}

/// The job of an array.
struct ArrayJob {
    state: State,
    waits: bool,
    line: LineKey,
    rank: i64,
    tie: Option<Tie>,
    deadline_us: Option<i64>,
    stopping: Option<StopReason>,
    has_ended: bool,
}

/// Notes that a new job is an array.
pub fn add(
    connection: &Connection,
    id: JobId,
    plan: &ArrayPlan,
    reserved: Reserved,
    of_elements: &[NewCallback],
) -> Result<()> {
    let pairs: Vec<(&str, &str)> =
        of_elements.iter().map(|callback| (callback.on.as_str(), callback.command.as_escaped())).collect();
    let callbacks = (!pairs.is_empty()).then(|| serde_json::to_string(&pairs).expect("texts are JSON"));
    let insert = "INSERT INTO arrays (id, first, elements, indices, at_once, callbacks, first_callback)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let elements = plan.indices.count();
    connection.prepare_cached(insert)?.execute(params![
        id,
        reserved.first,
        elements,
        plan.indices.to_string(),
        plan.at_once,
        callbacks,
        reserved.first_callback
    ])?;
    let update = "UPDATE jobs SET array = ?1, array_elements = ?2 WHERE id = ?1";
    connection.prepare_cached(update)?.execute((id, elements))?;
    Ok(())
}

fn read_kept(row: &rusqlite::Row<'_>) -> Result<Kept> {
    use TallyColumn as Of;
    let columns = Columns::of(row);
    let callbacks: Option<String> = columns.get(Of::callbacks)?;
    let pairs: Vec<(String, String)> =
        callbacks.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let tally = ArrayTally {
        array: columns.get(Of::id)?,
        first: columns.get(Of::first)?,
        elements: columns.get(Of::elements)?,
        at_once: columns.get(Of::at_once)?,
        next: columns.get(Of::next)?,
        made: columns.get(Of::made)?,
        succeeded: columns.get(Of::succeeded)?,
        failed: columns.get(Of::failed)?,
        canceled: columns.get(Of::canceled)?,
        worst: columns.get(Of::worst)?,
        drops: columns.get(Of::drops)?,
    };
    Ok(Kept {
        tally,
        indices: columns.get(Of::indices)?,
        callbacks: pairs.into_iter().map(|(on, text)| (on, OsText::from_escaped(text))).collect(),
        first_callback: columns.size(Of::first_callback)?.unwrap_or(0),
    })
}

fn kept(connection: &Connection, array: JobId) -> Result<Option<Kept>> {
    connection.prepare_cached(TallyColumn::BY_ID)?.query_row([array], read_kept).optional()
}

/// The id of the array's first element.
pub fn first_of(connection: &Connection, array: JobId) -> Result<Option<JobId>> {
    Ok(kept(connection, array)?.map(|kept| kept.tally.first))
}

fn write(connection: &Connection, tally: &ArrayTally, is_open: bool) -> Result<()> {
    let update =
        "UPDATE arrays SET next = ?2, made = ?3, succeeded = ?4, failed = ?5, canceled = ?6, worst = ?7,
                                    drops = ?8, open = ?9 WHERE id = ?1";
    let ArrayTally { array, next, made, succeeded, failed, canceled, worst, drops, .. } = tally;
    let values = params![array, next, made, succeeded, failed, canceled, worst, drops, is_open];
    connection.prepare_cached(update)?.execute(values)?;
    Ok(())
}

fn job_of(connection: &Connection, array: JobId) -> Result<Option<ArrayJob>> {
    let mut select = connection.prepare_cached(ArrayColumn::OF_ARRAY)?;
    let job = select.query_row([array], |row| {
        let columns = Columns::of(row);
        let pool: Arc<str> = columns.parse(ArrayColumn::pool, |name| Some(Arc::from(name)))?;
        let needs = columns.parse(ArrayColumn::labels, Needs::parse)?;
        let state = columns.parse(ArrayColumn::state, State::parse)?;
        let stopping = match state {
            State::Stopping => columns.parse_optional(ArrayColumn::result, places::stop_reason)?,
            _ => None,
        };
        Ok(ArrayJob {
            state,
            waits: columns.get(ArrayColumn::waits)?,
            line: LineKey { pool, needs },
            rank: columns.get(ArrayColumn::rank)?,
            tie: columns.parse_optional(ArrayColumn::tie, |tie| tie.parse().ok())?,
            deadline_us: columns.get(ArrayColumn::deadline_us)?,
            stopping,
            has_ended: columns.get::<Option<i64>>(ArrayColumn::ended_us)?.is_some(),
        })
    });
    job.optional()
}

/// The line of an array's elements.
fn line_of_elements(tally: &ArrayTally, of_array: &LineKey) -> LineKey {
    let own = tally.at_once.map(|_| array_label(tally.array));
    let labels = of_array.needs.labels.iter().cloned().chain(own).collect();
    LineKey { pool: of_array.pool.clone(), needs: Needs { labels, ..of_array.needs.clone() } }
}

/// Gives the element at that place a row, in its line.
fn make(connection: &Connection, kept: &Kept, indices: &Indices, line: &LineKey, place: u32) -> Result<()> {
    // What an attempt needs, and what bounds it. What the array has waited for is over.
    let insert = "INSERT INTO jobs (id, array_index, labels, array, array_elements, pool, name, argv, cwd,
                              environment, stdin, timeout_us, idle_timeout_us, kill_after_us, submitted_us,
                              on_crash, rank, retries, backoff_us, jitter, retry_on, within_us, deadline_us,
                              memory_limit_bytes, input, merge, tie)
                  SELECT ?1, ?3, ?4, id, array_elements, pool, name, argv, cwd, environment, stdin,
                         timeout_us, idle_timeout_us, kill_after_us, submitted_us, on_crash, rank, retries,
                         backoff_us, jitter, retry_on, within_us, deadline_us, memory_limit_bytes,
                         input, merge, CASE tie WHEN 'pool' THEN tie END
                  FROM jobs WHERE id = ?2";
    let id = kept.tally.id_at(place);
    let values = params![id, kept.tally.array, indices.at(place), line.needs.to_string()];
    connection.prepare_cached(insert)?.execute(values)?;

    let of_one = kept.callbacks.len() as u64;
    let first = kept.first_callback + u64::from(place) * of_one;
    let insert = "INSERT INTO callbacks (id, job, kind, command) VALUES (?1, ?2, ?3, ?4)";
    for (callback, (on, command)) in (first..).zip(&kept.callbacks) {
        let values = params![callback.cast_signed(), id, on, command.as_escaped()];
        connection.prepare_cached(insert)?.execute(values)?;
    }
    Ok(())
}

/// What [`unfold`] has made.
#[derive(Debug)]
pub struct Unfolded {
    pub tally: ArrayTally,
    pub jobs: Vec<Released>,
    pub tie: Option<Tie>,
}

/// Makes the next elements; none where the array makes no more.
pub fn unfold(connection: &Connection, array: JobId, limit: u32, now_us: i64) -> Result<Option<Unfolded>> {
    let (Some(mut kept), Some(job)) = (kept(connection, array)?, job_of(connection, array)?) else {
        return Ok(None);
    };
    let is_due = match job.state {
        State::Queued => !job.waits,
        State::Running => true,
        _ => false,
    };
    if !is_due || kept.tally.drops {
        return Ok(None);
    }

    let next = kept.tally.next;
    let until = next.saturating_add(limit).min(kept.tally.elements);
    let select = "SELECT id FROM early_elements WHERE id >= ?1 AND id < ?2";
    let mut select = connection.prepare_cached(select)?;
    let between = (kept.tally.id_at(next), kept.tally.id_at(until));
    let made_before: HashSet<JobId> = select.query_map(between, |row| row.get(0))?.collect::<Result<_>>()?;
    if !made_before.is_empty() {
        let delete = "DELETE FROM early_elements WHERE id >= ?1 AND id < ?2";
        connection.prepare_cached(delete)?.execute(between)?;
    }

    let indices = indices_of(&kept)?;
    let line = line_of_elements(&kept.tally, &job.line);
    let priority = Reverse(records::priority(job.rank)?);
    let mut jobs = Vec::new();
    for place in next..until {
        let id = kept.tally.id_at(place);
        if !made_before.contains(&id) {
            make(connection, &kept, &indices, &line, place)?;
            kept.tally.made += 1;
            jobs.push(Released { position: Position { priority, id }, line: line.clone(), until: None });
        }
    }
    kept.tally.next = until;
    write(connection, &kept.tally, true)?;
    if job.state == State::Queued {
        let begin = "UPDATE jobs SET state = 'running', started_us = ?2, start_by_us = NULL WHERE id = ?1";
        connection.prepare_cached(begin)?.execute((array, now_us))?;
    }
    Ok(Some(Unfolded { tally: kept.tally, jobs, tie: Element::tie(job.tie) }))
}

fn indices_of(kept: &Kept) -> Result<Indices> {
    kept.indices.parse().map_err(|error: String| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

/// What [`fold`] has found.
#[derive(Debug)]
pub struct Folded {
    pub tally: ArrayTally,
    pub living: Vec<JobId>,
    pub more: bool,
}

/// Has an array that has begun make no more elements: those that have not ended, after that one. None where
/// it has not begun, or has ended.
pub fn fold(
    connection: &Connection,
    array: JobId,
    reason: StopReason,
    after: JobId,
    limit: u32,
) -> Result<Option<Folded>> {
    let (Some(Kept { mut tally, .. }), Some(job)) = (kept(connection, array)?, job_of(connection, array)?)
    else {
        return Ok(None);
    };
    if !matches!(job.state, State::Running | State::Stopping) {
        return Ok(None);
    }
    if job.state == State::Running {
        let stop = "UPDATE jobs SET state = 'stopping', result = ?2 WHERE id = ?1";
        connection.prepare_cached(stop)?.execute(params![array, places::stop_word(reason)])?;
    }
    if !tally.drops {
        tally.drops = true;
        write(connection, &tally, true)?;
    }

    let living = "SELECT id FROM jobs INDEXED BY jobs_elements
                  WHERE array = ?1 AND array_index IS NOT NULL AND ended_us IS NULL AND id > ?2
                  ORDER BY id LIMIT ?3";
    let mut select = connection.prepare_cached(living)?;
    let rows = select.query_map(params![array, after, i64::from(limit) + 1], |row| row.get(0))?;
    let mut living: Vec<JobId> = rows.collect::<Result<_>>()?;
    let more = living.len() > limit as usize;
    living.truncate(limit as usize);
    Ok(Some(Folded { tally, living, more }))
}

/// An element has ended; how far its array has come, where that is kept.
pub fn count_end(connection: &Connection, array: JobId, outcome: &Outcome) -> Result<Option<ArrayTally>> {
    let Some(Kept { mut tally, .. }) = kept(connection, array)? else { return Ok(None) };
    tally.count(outcome.state, outcome.code());
    write(connection, &tally, true)?;
    Ok(Some(tally))
}

/// An array has ended: those of its elements that were not made never are. Whether others were to run after
/// one of these, which [`resolve`](super::dependents::resolve) sees to.
pub fn close(connection: &Connection, array: JobId) -> Result<Option<(ArrayTally, bool)>> {
    let Some(Kept { mut tally, .. }) = kept(connection, array)? else { return Ok(None) };
    tally.drops |= tally.made < tally.elements;
    write(connection, &tally, false)?;
    if !tally.drops {
        return Ok(Some((tally, false)));
    }
    let note = "INSERT OR IGNORE INTO resolving (prior, succeeded)
                SELECT DISTINCT prior, 0 FROM dependencies
                WHERE prior BETWEEN ?1 AND ?2 AND settled = 0
                  AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = prior)";
    let noted = connection.prepare_cached(note)?.execute((tally.ids().start(), tally.ids().end()))?;
    Ok(Some((tally, noted > 0)))
}

/// An element of which no row is kept, since its array has not been unfolded up to it.
fn unmade(connection: &Connection, id: JobId) -> Result<Option<(Kept, u32)>> {
    let mut select = connection.prepare_cached(TallyColumn::BEFORE)?;
    let Some(kept) = select.query_row([id], read_kept).optional()? else { return Ok(None) };
    let Some(place) = kept.tally.place_of(id).filter(|&place| place >= kept.tally.next) else {
        return Ok(None);
    };
    let mut early = connection.prepare_cached("SELECT 1 FROM early_elements WHERE id = ?1")?;
    Ok((!early.exists([id])?).then_some((kept, place)))
}

/// Whether an element without a row is over; none where that is no element.
pub fn is_over_unmade(connection: &Connection, id: JobId) -> Result<Option<bool>> {
    let Some((kept, _)) = unmade(connection, id)? else { return Ok(None) };
    Ok(Some(kept.tally.drops))
}

/// Gives an element a row that had none, since it is to be ended; whether there is such an element.
pub fn make_one(connection: &Connection, id: JobId) -> Result<bool> {
    let Some((mut kept, place)) = unmade(connection, id)? else { return Ok(false) };
    let Some(job) = job_of(connection, kept.tally.array)? else { return Ok(false) };
    if job.has_ended || kept.tally.drops {
        return Ok(false);
    }
    let line = line_of_elements(&kept.tally, &job.line);
    make(connection, &kept, &indices_of(&kept)?, &line, place)?;
    connection.prepare_cached("INSERT INTO early_elements (id) VALUES (?1)")?.execute([id])?;
    kept.tally.made += 1;
    write(connection, &kept.tally, true)?;
    Ok(true)
}

/// The record of an element that has no row: it waits as its array does, or for that to be unfolded up to it,
/// or was given up with it.
pub fn record_of_unmade(connection: &Connection, layout: &Layout, id: JobId) -> Result<Option<Record>> {
    let Some((kept, place)) = unmade(connection, id)? else { return Ok(None) };
    let Some(of_array) = records::record(connection, layout, kept.tally.array)? else { return Ok(None) };
    let index = indices_of(&kept)?.at(place).unwrap_or_default();
    let element = Element { array: kept.tally.array, index, elements: kept.tally.elements };
    Ok(Some(unmade_record(of_array, id, &element, kept.tally.drops)))
}

/// What the record of an array tells of it.
pub fn info(connection: &Connection, array: JobId) -> Result<Option<Box<pool_proto::nouns::ArrayInfo>>> {
    Ok(kept(connection, array)?.map(|kept| Box::new(kept.tally.info(kept.indices))))
}

/// How many elements of an array are held, where some are.
pub fn count_held(connection: &Connection, array: JobId) -> Result<Option<u32>> {
    let select = "SELECT count(*) FROM jobs INDEXED BY jobs_elements
                  WHERE array = ?1 AND array_index IS NOT NULL AND ended_us IS NULL AND state = 'held'";
    let held: u32 = connection.prepare_cached(select)?.query_row([array], |row| row.get(0))?;
    Ok(Some(held).filter(|&held| held > 0))
}

/// What the job of an array is to do.
pub fn part(connection: &Connection, array: JobId) -> Result<Option<Box<ArrayPart>>> {
    let Some(kept) = kept(connection, array)? else { return Ok(None) };
    let (indices, at_once) = (indices_of(&kept)?, kept.tally.at_once);
    let callback_for = if kept.callbacks.is_empty() { CallbackFor::Array } else { CallbackFor::Element };
    Ok(Some(Box::new(ArrayPart::Whole(ArrayPlan { indices, at_once, callback_for }))))
}

/// The callbacks of each element of an array.
pub fn element_callbacks(connection: &Connection, array: JobId) -> Result<Vec<NewCallback>> {
    let callbacks = kept(connection, array)?.map(|kept| kept.callbacks).unwrap_or_default();
    let read = |(on, command): (String, OsText)| Some(NewCallback { on: On::parse(&on)?, command });
    Ok(callbacks.into_iter().filter_map(read).collect())
}

/// What a start finds: arrays that have begun, or all of whose elements have ended.
pub fn read_begun(connection: &Connection) -> Result<Vec<BegunArray>> {
    let mut select = connection.prepare(TallyColumn::OPEN)?;
    let open: Vec<Kept> = select.query_map([], read_kept)?.collect::<Result<_>>()?;
    let mut begun = Vec::new();
    for Kept { tally, .. } in open {
        let Some(job) = job_of(connection, tally.array)? else { continue };
        if matches!(job.state, State::Running | State::Stopping) || tally.is_over() {
            begun.push(begun_array(tally, job));
        }
    }
    Ok(begun)
}

fn begun_array(tally: ArrayTally, job: ArrayJob) -> BegunArray {
    let ArrayJob { line, tie, deadline_us, stopping, state, .. } = job;
    let has_begun = matches!(state, State::Running | State::Stopping);
    BegunArray { tally, pool: line.pool, tie, deadline_us, stopping, has_begun }
}

/// An element that ended in that state begins a new round: the array, which goes on where it has ended. None
/// where it is not kept.
pub fn take_back(
    connection: &Connection,
    history: &mut prune::History,
    array: JobId,
    state: State,
    times: &Times,
) -> Result<Option<BegunArray>> {
    let Some(Kept { mut tally, .. }) = kept(connection, array)? else { return Ok(None) };
    tally.take_back(state);
    write(connection, &tally, true)?;
    go_on(connection, history, tally, times)
}

/// The elements that were given up with the array's end are made after all.
pub fn make_more(
    connection: &Connection,
    history: &mut prune::History,
    array: JobId,
    times: &Times,
) -> Result<Option<BegunArray>> {
    let Some(Kept { mut tally, .. }) = kept(connection, array)? else { return Ok(None) };
    tally.drops = false;
    write(connection, &tally, true)?;
    go_on(connection, history, tally, times)
}

/// Whether the array could be run again by itself: some of its elements were never made. And whether one was.
pub fn is_partial(connection: &Connection, array: JobId) -> Result<(bool, bool)> {
    let Some(Kept { tally, .. }) = kept(connection, array)? else { return Ok((false, false)) };
    Ok((tally.made < tally.elements, tally.made > 0))
}

/// An array that is run again from its beginning.
pub fn begin_anew(connection: &Connection, array: JobId) -> Result<()> {
    let update = "UPDATE arrays SET drops = 0, open = 0 WHERE id = ?1";
    connection.prepare_cached(update)?.execute([array])?;
    Ok(())
}

fn go_on(
    connection: &Connection,
    history: &mut prune::History,
    tally: ArrayTally,
    times: &Times,
) -> Result<Option<BegunArray>> {
    retry::revive(connection, history, tally.array, times)?;
    let Some(job) = job_of(connection, tally.array)? else { return Ok(None) };
    Ok(Some(begun_array(tally, job)))
}
