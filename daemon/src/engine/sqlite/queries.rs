//! What is read page by page: the queue of a pool, and listings; and where jobs are in a line. No page is
//! long, and none looks at more than a bounded number of rows, since commits wait for it.

use std::cmp::Reverse;

use pool_proto::methods::ListOrder;
use pool_proto::nouns::Entry;
use pool_proto::{Record, State};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::arrays;
use super::columns::{Columns, columns};
use super::environments::Environments;
use super::insert::rank;
use super::listed;
use super::records::{self, EntryColumn, Layout, ReadyColumn};
use super::values::Values;
use crate::engine::{ANSWER_BYTES, FETCHED_BYTES, LINE_HEAD, MAX_COUNTED, MAX_RECORDS, Page, large_bytes};
use crate::job::{JobId, LineKey, Position, Ready};

/// Jobs on a page at most.
pub(super) const MAX_PAGE: u32 = 1000;

columns! {
    /// A job's place in its line.
    PlaceColumn { rank, id }
    OF_LINE: "FROM jobs INDEXED BY jobs_queue
              WHERE state IN ('queued', 'retrying') AND waits = 0 AND pool = ?1 AND labels = ?2
                  AND (rank, id) > (?3, ?4)
              ORDER BY rank, id LIMIT ?5";
}

/// The places of the first jobs in a line, which the index alone has.
pub fn line_head(connection: &Connection, line: &LineKey) -> Result<Vec<Position>> {
    places(connection, &line.pool, &line.needs.to_string(), None, LINE_HEAD)
}

/// The places of so many jobs of a line, from its beginning or after that place.
pub(super) fn places(
    connection: &Connection,
    pool: &str,
    labels: &str,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<Position>> {
    let mut select = connection.prepare_cached(PlaceColumn::OF_LINE)?;
    let (of_rank, id) = after.map_or((i64::MIN, JobId(0)), |after| (rank(after.priority.0), after.id));
    let of_line = params![pool, labels, of_rank, id, i64::try_from(limit).unwrap_or(i64::MAX)];
    let places = select.query_map(of_line, |row| {
        let columns = Columns::of(row);
        let priority = records::priority(columns.get(PlaceColumn::rank)?)?;
        Ok(Position { priority: Reverse(priority), id: columns.get(PlaceColumn::id)? })
    })?;
    places.collect()
}

/// How many jobs wait for a person, which the index alone tells.
pub fn count_held(connection: &Connection) -> Result<u64> {
    let mut select = connection.prepare_cached(
        "SELECT count(*) FROM jobs INDEXED BY jobs_notable
         WHERE (state = 'failed' OR state = 'canceled' OR state = 'timed_out' OR state = 'lost'
                OR state = 'held' OR state = 'retrying'
                OR state = 'scheduled' OR state = 'blocked')
             AND state = 'held'",
    )?;
    select.query_row([], |row| row.get(0).map(i64::cast_unsigned))
}

/// The next jobs in a line, and whether there are none beyond them.
pub fn fetch(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    line: &LineKey,
    after: Option<Position>,
    limit: u32,
) -> Result<(Vec<Ready>, bool)> {
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let (of_rank, id) = after.map_or((i64::MIN, JobId(0)), |after| (rank(after.priority.0), after.id));
    let labels = line.needs.to_string();
    let (mut jobs, mut bytes) = (Vec::new(), 0);
    for select in [ReadyColumn::OF_RANK, ReadyColumn::OF_LATER_RANKS] {
        let mut select = connection.prepare_cached(select)?;
        let room = limit + 1 - jobs.len();
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        let mut rows = select.query(params![line.pool, labels, of_rank, id, room])?;
        while let Some(row) = rows.next()? {
            if jobs.len() == limit || bytes > FETCHED_BYTES {
                return Ok((jobs, false));
            }
            let ready = records::read_ready(row, connection, environments, values, Some(line))?;
            bytes += ready.work.own_bytes();
            jobs.push(ready);
        }
    }
    Ok((jobs, true))
}

/// Records in the order of the ids, the ids for which no job exists, and those of jobs that were not read,
/// since the records before them take as much as an answer may.
pub fn get(
    connection: &Connection,
    layout: &Layout,
    ids: &[JobId],
) -> Result<(Vec<Record>, Vec<JobId>, Vec<JobId>)> {
    let (mut found, mut missing, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut exists = connection.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?;
    let mut bytes = 0;
    for &id in ids {
        if bytes > ANSWER_BYTES || found.len() >= MAX_RECORDS {
            if exists.exists([id])? || arrays::is_over_unmade(connection, id)?.is_some() {
                rest.push(id)
            } else {
                missing.push(id)
            }
            continue;
        }
        match records::record(connection, layout, id)? {
            Some(record) => {
                bytes += large_bytes(&record);
                found.push(record);
            }
            None => missing.push(id),
        }
    }
    Ok((found, missing, rest))
}

/// One page of records, and where the listing goes on.
pub fn list(connection: &Connection, layout: &Layout, query: &Page) -> Result<(Vec<Record>, Option<JobId>)> {
    let (ids, next) = listed::ids(connection, query)?;
    let mut records = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    for id in ids {
        if bytes > ANSWER_BYTES {
            let last = records.last().map(|record: &Record| JobId(record.id));
            return Ok((
                records,
                last.filter(|_| matches!(query.order, ListOrder::Oldest | ListOrder::Newest)),
            ));
        }
        let Some(record) = records::record(connection, layout, id)? else { continue };
        bytes += large_bytes(&record);
        records.push(record);
    }
    Ok((records, next))
}

/// One page of entries, and where the listing goes on.
pub fn list_in_brief(connection: &Connection, query: &Page) -> Result<(Vec<Entry>, Option<JobId>)> {
    let (ids, next) = listed::ids(connection, query)?;
    let mut select = connection.prepare_cached(EntryColumn::BY_ID)?;
    let mut entries = Vec::with_capacity(ids.len());
    for id in ids {
        let entry = select.query_row([id], |row| records::read_entry(&Columns::of(row), id));
        let Some(mut entry) = entry.optional()? else { continue };
        if entry.array.as_ref().is_some_and(|array| array.index.is_none()) {
            entry.array = arrays::info(connection, id)?;
        }
        entries.push(entry);
    }
    Ok((entries, next))
}

/// How many jobs are in each state, but for what is queued, from the indexes alone. What is counted twice
/// where jobs in a state have an index of their own is taken off again.
pub fn count(connection: &Connection) -> Result<Vec<(State, u64, bool)>> {
    let of_index = |rows: &str, state: &str| {
        let select =
            format!("SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY {rows} LIMIT {})", MAX_COUNTED + 1);
        let count = connection.prepare_cached(&select)?.query_row([state], |row| row.get::<_, i64>(0))?;
        Ok::<u64, rusqlite::Error>(count.unsigned_abs())
    };
    let mut counts = Vec::new();
    let (mut unsuccessful, mut is_exact) = (0, true);
    for &state in State::ALL.iter().filter(|state| !matches!(state, State::Queued | State::Succeeded)) {
        let rows =
            if matches!(state, State::Running | State::Stopping) { COUNT_ACTIVE } else { COUNT_NOTABLE };
        let jobs = of_index(rows, state.as_str())?;
        counts.push((state, jobs.min(MAX_COUNTED), jobs > MAX_COUNTED));
        if state.is_terminal() {
            unsuccessful += jobs;
            is_exact &= jobs <= MAX_COUNTED;
        }
    }

    // What has ended is in one of two indexes, and only what has succeeded is in none of those above.
    let ended = of_index(COUNT_HISTORY, "")? + of_index(COUNT_UNDELIVERED, "")?;
    let succeeded = ended.saturating_sub(unsuccessful);
    counts.push((State::Succeeded, succeeded.min(MAX_COUNTED), ended > MAX_COUNTED || !is_exact));
    counts.retain(|&(_, jobs, more)| jobs > 0 || more);
    counts.sort_unstable_by_key(|&(state, ..)| State::ALL.iter().position(|&other| other == state));
    Ok(counts)
}

/// The indexes that counts are read from, each with what makes it fit.
pub(super) const COUNT_ACTIVE: &str = "jobs_active WHERE state IN ('running', 'stopping') AND state = ?1";
pub(super) const COUNT_NOTABLE: &str =
    "jobs_notable WHERE (state = 'failed' OR state = 'canceled' OR state = 'timed_out' OR state = 'lost'
                         OR state = 'held' OR state = 'retrying' OR state = 'scheduled' OR state = 'blocked')
     AND state = ?1";
pub(super) const COUNT_HISTORY: &str =
    "jobs_history WHERE ended_us IS NOT NULL AND undelivered = 0 AND ?1 = ''";
pub(super) const COUNT_UNDELIVERED: &str = "jobs_undelivered WHERE undelivered > 0 AND ?1 = ''";
