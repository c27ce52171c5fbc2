//! What is read page by page: the queue of a pool, and listings; and where jobs are in a line. No page is
//! long, and none looks at more than a bounded number of rows, since commits wait for it.

use std::cmp::Reverse;

use pool_proto::{Record, State};
use rusqlite::{CachedStatement, Connection, Result, Rows, params};

use super::columns::{Columns, columns, signed};
use super::environments::Environments;
use super::insert::rank;
use super::records::{self, Layout, ReadyColumn};
use crate::engine::{ANSWER_BYTES, FETCHED_BYTES, LINE_HEAD, MAX_RECORDS, Page, large_bytes};
use crate::job::{JobId, Labels, LineKey, Position, Ready};

/// Jobs on a page at most.
const MAX_PAGE: u32 = 1000;

/// Rows that one page may look at: some 10 ms. A filter that lets few jobs through makes pages short, even
/// empty, not long.
const LOOKED_AT: usize = 20_000;

columns! {
    /// What a listing goes by; its statements are the ways that it may take.
    ListedColumn { id, state, pool, labels }
    ALL: "FROM jobs WHERE id > ?1 ORDER BY id";
    ACTIVE: "FROM jobs INDEXED BY jobs_active WHERE state IN ('running', 'stopping') AND id > ?1 ORDER BY id";
    OF_STATE: "FROM jobs INDEXED BY jobs_notable
               WHERE (state = 'failed' OR state = 'canceled' OR state = 'timed_out' OR state = 'lost'
                      OR state = 'held' OR state = 'retrying'
                      OR state = 'scheduled' OR state = 'blocked')
                   AND state = ?2 AND id > ?1 ORDER BY id";
}

columns! {
    /// A job's place in its line.
    PlaceColumn { rank, id }
    OF_LINE: "FROM jobs INDEXED BY jobs_queue
              WHERE state IN ('queued', 'retrying') AND waits = 0 AND pool = ?1 AND labels = ?2
              ORDER BY rank, id LIMIT ?3";
}

/// The places of the first jobs in a line, which the index alone has.
pub fn line_head(connection: &Connection, line: &LineKey) -> Result<Vec<Position>> {
    let mut select = connection.prepare_cached(PlaceColumn::OF_LINE)?;
    let of_line = params![line.pool, line.labels.to_string(), LINE_HEAD as i64];
    let places = select.query_map(of_line, |row| {
        let columns = Columns::of(row);
        let priority = records::priority(columns.get(PlaceColumn::rank)?)?;
        Ok(Position { priority: Reverse(priority), id: columns.get(PlaceColumn::id)? })
    })?;
    places.collect()
}

/// The next jobs in a line, and whether there are none beyond them.
pub fn fetch(
    connection: &Connection,
    environments: &mut Environments,
    line: &LineKey,
    after: Option<Position>,
    limit: u32,
) -> Result<(Vec<Ready>, bool)> {
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let (of_rank, id) = after.map_or((i64::MIN, JobId(0)), |after| (rank(after.priority.0), after.id));
    let labels = line.labels.to_string();
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
            let ready = records::read_ready(row, connection, environments, Some(line))?;
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
            if exists.exists([id])? {
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
    let (ids, next) = list_ids(connection, query)?;
    let mut records = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    for id in ids {
        if bytes > ANSWER_BYTES {
            let next = records.last().map(|record: &Record| JobId(record.id));
            return Ok((records, next));
        }
        let Some(record) = records::record(connection, layout, id)? else { continue };
        bytes += large_bytes(&record);
        records.push(record);
    }
    Ok((records, next))
}

fn list_ids(connection: &Connection, query: &Page) -> Result<(Vec<JobId>, Option<JobId>)> {
    let limit = query.limit.clamp(1, MAX_PAGE) as usize;
    let after = query.after.unwrap_or(JobId(0));
    let mut ways = ways_to(connection, query)?;
    let mut ways = ways.iter_mut().map(|way| way.begin(after)).collect::<Result<Vec<_>>>()?;

    let mut ids = Vec::new();
    let mut last = after;
    let mut looked_at = 0;
    while let Some(Candidate { id, state, fits }) = next_of(&mut ways, query)? {
        let is_listed = fits && (query.states.is_empty() || query.states.contains(&state));
        if (is_listed && ids.len() == limit) || looked_at == LOOKED_AT {
            return Ok((ids, Some(last)));
        }
        ids.extend(is_listed.then_some(id));
        last = id;
        looked_at += 1;
    }
    Ok((ids, None))
}

/// A job that may be listed.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: JobId,
    state: State,
    /// It has the pool and the label that are asked for.
    fits: bool,
}

/// A way to some of the jobs asked for, which it comes to in the order of their ids.
struct Way<'c> {
    select: CachedStatement<'c>,
    state: Option<State>,
}

/// A way that is being gone, and the next job on it.
struct Going<'s> {
    rows: Rows<'s>,
    next: Option<Candidate>,
}

/// The narrowest ways to the jobs asked for: through indexes where these lead to all of them, or else past
/// all jobs.
fn ways_to<'c>(connection: &'c Connection, query: &Page) -> Result<Vec<Way<'c>>> {
    let way = |select, state| connection.prepare_cached(select).map(|select| Way { select, state });
    let is_active = |state: &State| matches!(state, State::Running | State::Stopping);
    let is_notable = |state: &State| match state {
        State::Held
        | State::Scheduled
        | State::Blocked
        | State::Retrying
        | State::Failed
        | State::Canceled
        | State::TimedOut
        | State::Lost => true,
        State::Queued | State::Running | State::Stopping | State::Succeeded => false,
    };
    if query.states.is_empty() || !query.states.iter().all(|state| is_active(state) || is_notable(state)) {
        return Ok(vec![way(ListedColumn::ALL, None)?]);
    }

    let mut ways = Vec::new();
    if query.states.iter().any(is_active) {
        ways.push(way(ListedColumn::ACTIVE, None)?);
    }
    for state in State::ALL.iter().filter(|state| is_notable(state) && query.states.contains(state)) {
        ways.push(way(ListedColumn::OF_STATE, Some(*state))?);
    }
    Ok(ways)
}

impl Way<'_> {
    fn begin(&mut self, after: JobId) -> Result<Going<'_>> {
        // An id beyond SQLite's integers is after all jobs, and not before them as a negative one would be.
        let after = signed(after.0);
        let rows = match self.state {
            Some(state) => self.select.query((after, state.as_str()))?,
            None => self.select.query([after])?,
        };
        Ok(Going { rows, next: None })
    }
}

/// The job with the least id on any of the ways.
fn next_of(ways: &mut [Going<'_>], query: &Page) -> Result<Option<Candidate>> {
    for way in ways.iter_mut().filter(|way| way.next.is_none()) {
        way.next = read_listed(&mut way.rows, query)?;
    }
    let left = ways.iter_mut().filter_map(|way| Some((way.next?.id, way)));
    Ok(left.min_by_key(|&(id, _)| id).and_then(|(_, way)| way.next.take()))
}

fn read_listed(rows: &mut Rows<'_>, query: &Page) -> Result<Option<Candidate>> {
    let Some(row) = rows.next()? else { return Ok(None) };
    let columns = Columns::of(row);
    let id = columns.get(ListedColumn::id)?;
    let state = columns.parse(ListedColumn::state, State::parse)?;
    let is_of_pool = match &query.pool {
        Some(pool) => columns.parse(ListedColumn::pool, |name| Some(name == pool))?,
        None => true,
    };
    let has_label = match &query.label {
        Some(label) => {
            columns.parse(ListedColumn::labels, |labels| Some(Labels::parse(labels).has(label)))?
        }
        None => true,
    };
    Ok(Some(Candidate { id, state, fits: is_of_pool && has_label }))
}
