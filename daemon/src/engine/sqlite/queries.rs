//! What is read page by page: the queue of a pool, and listings. No page is long, and none looks at more than
//! a bounded number of rows, since commits wait for it.

use std::sync::Arc;

use pool_proto::{Record, State};
use rusqlite::{Connection, Result, params};

use super::columns::{Columns, columns, signed};
use super::environments::Environments;
use super::insert::rank;
use super::records::{self, Layout, ReadyColumn};
use crate::engine::{ANSWER_BYTES, FETCHED_BYTES, MAX_RECORDS, Page, large_bytes};
use crate::job::{JobId, Position, Ready};

/// Jobs on a page at most.
const MAX_PAGE: u32 = 1000;

/// Rows that one page may look at: some 10 ms. A filter that lets few jobs through makes pages short, even
/// empty, not long.
const LOOKED_AT: usize = 20_000;

columns! {
    ListedColumn { id, state, pool }
    ALL: "FROM jobs WHERE id > ?1 ORDER BY id";
    ACTIVE: "FROM jobs INDEXED BY jobs_active WHERE state IN ('running', 'stopping') AND id > ?1 ORDER BY id";
}

/// The next queued jobs of a pool, and whether there are none beyond them.
pub fn fetch(
    connection: &Connection,
    environments: &mut Environments,
    pool: &Arc<str>,
    after: Option<Position>,
    limit: u32,
) -> Result<(Vec<Ready>, bool)> {
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let (of_rank, id) = after.map_or((i64::MIN, JobId(0)), |after| (rank(after.priority.0), after.id));
    let (mut jobs, mut bytes) = (Vec::new(), 0);
    for select in [ReadyColumn::OF_RANK, ReadyColumn::OF_LATER_RANKS] {
        let mut select = connection.prepare_cached(select)?;
        let room = limit + 1 - jobs.len();
        let mut rows = select.query(params![pool, of_rank, id, i64::try_from(room).unwrap_or(i64::MAX)])?;
        while let Some(row) = rows.next()? {
            if jobs.len() == limit || bytes > FETCHED_BYTES {
                return Ok((jobs, false));
            }
            let ready = records::read_ready(row, connection, environments, Some(pool))?;
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
    let mut select = select_for(connection, query)?;
    // An id beyond SQLite's integers is after all jobs, and not before them as a negative one would be.
    let mut rows = select.query([signed(after.0)])?;
    let mut ids = Vec::new();
    let mut last = after;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let columns = Columns::of(row);
        let id: JobId = columns.get(ListedColumn::id)?;
        let state = columns.parse(ListedColumn::state, State::parse)?;
        let is_listed = (query.states.is_empty() || query.states.contains(&state))
            && match &query.pool {
                Some(pool) => columns.parse(ListedColumn::pool, |name| Some(name == pool))?,
                None => true,
            };
        if (is_listed && ids.len() == limit) || looked_at == LOOKED_AT {
            return Ok((ids, Some(last)));
        }
        ids.extend(is_listed.then_some(id));
        last = id;
        looked_at += 1;
    }
    Ok((ids, None))
}

/// The narrowest way to the jobs asked for: through an index where one fits, or else past all of them.
fn select_for<'c>(connection: &'c Connection, query: &Page) -> Result<rusqlite::CachedStatement<'c>> {
    let only = |wanted: [State; 2]| {
        !query.states.is_empty() && query.states.iter().all(|state| wanted.contains(state))
    };
    let is_active = only([State::Running, State::Stopping]);
    connection.prepare_cached(if is_active { ListedColumn::ACTIVE } else { ListedColumn::ALL })
}
