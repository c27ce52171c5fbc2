//! Which jobs are on a page of a listing: the narrowest ways to them, through the indexes that there are. No
//! page looks at more than a bounded number of rows, since commits wait for it.

use pool_proto::methods::ListOrder;
use pool_proto::{ResultKind, State};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, Row, Rows};

use super::columns::{Columns, columns, signed};
use super::queries::{MAX_PAGE, places};
use crate::engine::{MAX_ENTRIES, Page};
use crate::job::{JobId, Needs, Position, Traits};

/// Rows that one page may look at: some 10 ms. A filter that lets few jobs through makes pages short, even
/// empty, not long.
const LOOKED_AT: usize = 20_000;

/// So many jobs in lines are looked for in these. Beyond them, it is all jobs that are looked through.
const MAX_IN_LINES: usize = 10_000;

/// So many jobs that have ended since a time are looked for by their ends, which takes some 5 ms. That is
/// done for the first page alone. Beyond them, it is all jobs that are looked through.
const MAX_SINCE: usize = 50_000;

/// The greatest value of what jobs are kept for: see the schema.
pub(super) const MAX_KEEP: i64 = 2;

/// Lines of a pool of which the jobs are listed in the order of their lines.
const MAX_LINES: usize = 64;

columns! {
    /// What a listing goes by; its statements are the ways that it may take.
    ListedColumn { id, state, pool, labels, name, submitted_us, ended_us, result, exit_code, signal }
    ALL: "FROM jobs WHERE id > ?1 ORDER BY id";
    ALL_NEWEST: "FROM jobs WHERE id < ?1 ORDER BY id DESC";
    ACTIVE: "FROM jobs INDEXED BY jobs_active WHERE state IN ('running', 'stopping') AND id > ?1 ORDER BY id";
    ACTIVE_NEWEST: "FROM jobs INDEXED BY jobs_active
                    WHERE state IN ('running', 'stopping') AND id < ?1 ORDER BY id DESC";
    OF_STATE: "FROM jobs INDEXED BY jobs_notable
               WHERE (state = 'failed' OR state = 'canceled' OR state = 'timed_out' OR state = 'lost'
                      OR state = 'held' OR state = 'retrying'
                      OR state = 'scheduled' OR state = 'blocked')
                   AND state = ?2 AND id > ?1 ORDER BY id";
    OF_STATE_NEWEST: "FROM jobs INDEXED BY jobs_notable
                      WHERE (state = 'failed' OR state = 'canceled' OR state = 'timed_out' OR state = 'lost'
                             OR state = 'held' OR state = 'retrying'
                             OR state = 'scheduled' OR state = 'blocked')
                          AND state = ?2 AND id < ?1 ORDER BY id DESC";
    BY_ID: "FROM jobs WHERE id = ?1";
}

columns! {
    InLineColumn { id }
    IN_LINES: "FROM jobs INDEXED BY jobs_queue WHERE state IN ('queued', 'retrying') AND waits = 0 LIMIT ?1";
    // Of jobs that wait, those for a predecessor are queued.
    WAITING: "FROM waits WHERE unit = 'job' LIMIT ?1";
}

columns! {
    LineColumn { labels }
    NEXT_LINE: "FROM jobs INDEXED BY jobs_queue
                WHERE state IN ('queued', 'retrying') AND waits = 0 AND pool = ?1 AND labels > ?2
                ORDER BY labels LIMIT 1";
}

columns! {
    EndedColumn { id, ended_us }
    LATEST: "FROM jobs INDEXED BY jobs_history
             WHERE ended_us IS NOT NULL AND undelivered = 0 AND keep = ?1 AND pool = ?2
             ORDER BY ended_us DESC LIMIT ?3";
    SINCE: "FROM jobs INDEXED BY jobs_history
            WHERE ended_us IS NOT NULL AND undelivered = 0 AND keep = ?1 AND pool = ?2 AND ended_us >= ?4
            LIMIT ?3";
    // Those with a callback to deliver are in no such index, and few.
    UNDELIVERED: "FROM jobs INDEXED BY jobs_undelivered WHERE undelivered > 0 LIMIT ?1";
}

columns! {
    HistoryColumn { pool }
    NEXT_POOL: "FROM jobs INDEXED BY jobs_history
                WHERE ended_us IS NOT NULL AND undelivered = 0 AND keep = ?1 AND pool > ?2
                ORDER BY pool LIMIT 1";
}

/// So many jobs are on the page at most.
fn longest(query: &Page) -> usize {
    query.limit.clamp(1, if query.is_brief { MAX_ENTRIES } else { MAX_PAGE }) as usize
}

/// The ids of a page, and the id after which the listing goes on.
pub fn ids(connection: &Connection, query: &Page) -> Result<(Vec<JobId>, Option<JobId>)> {
    match query.order {
        ListOrder::Line => Ok((in_order_of_lines(connection, query)?, None)),
        ListOrder::Ended => Ok((latest_ends(connection, query)?, None)),
        ListOrder::Oldest | ListOrder::Newest => by_id(connection, query),
    }
}

fn by_id(connection: &Connection, query: &Page) -> Result<(Vec<JobId>, Option<JobId>)> {
    let limit = longest(query);
    let is_newest = query.order == ListOrder::Newest;
    let first = if is_newest { JobId(u64::MAX) } else { JobId(0) };
    let after = match query.after {
        Some(after) => after,
        None if is_newest => first,
        None => before_first(connection, query)?.unwrap_or(first),
    };
    let mut ways = ways_to(connection, query, after)?;
    let mut ways = ways.iter_mut().map(|way| way.begin(after)).collect::<Result<Vec<_>>>()?;

    let mut ids = Vec::new();
    let mut last = after;
    let mut looked_at = 0;
    while let Some(Candidate { id, fits: is_listed }) = next_of(&mut ways, query)? {
        if (is_listed && ids.len() == limit) || looked_at == LOOKED_AT {
            return Ok((ids, Some(last)));
        }
        ids.extend(is_listed.then_some(id));
        last = id;
        looked_at += 1;
    }
    Ok((ids, None))
}

fn in_order_of_lines(connection: &Connection, query: &Page) -> Result<Vec<JobId>> {
    let limit = longest(query);
    let Some(pool) = &query.pool else { return Ok(Vec::new()) };
    let mut heads: Vec<Position> = places(connection, pool, "", None, limit)?;
    let mut labels = String::new();
    for _ in 1..MAX_LINES {
        let Some(next) = next_line(connection, pool, &labels)? else { break };
        labels = next;
        heads.extend(places(connection, pool, &labels, None, limit)?);
    }
    heads.sort_unstable();
    listed_of(connection, query, limit, heads.into_iter().map(|position| position.id))
}

/// The line of the pool after the one of these labels.
pub(super) fn next_line(connection: &Connection, pool: &str, labels: &str) -> Result<Option<String>> {
    let mut select = connection.prepare_cached(LineColumn::NEXT_LINE)?;
    select.query_row((pool, labels), |row| Columns::of(row).get(LineColumn::labels)).optional()
}

/// The index of the history goes by what jobs are kept for, and by pool: each part of it has its latest ends
/// at its end.
fn latest_ends(connection: &Connection, query: &Page) -> Result<Vec<JobId>> {
    let limit = longest(query);
    // A filter may leave some out.
    let is_open = query.filter.is_open() && query.label.is_none() && query.states.is_empty();
    let each = if is_open { limit } else { LOOKED_AT };
    let mut ended = ended(connection, query, None, each, LOOKED_AT)?;
    ended.sort_unstable_by(|one, other| other.cmp(one));
    listed_of(connection, query, limit, ended.into_iter().map(|(_, id)| id))
}

/// Jobs that have ended, in no order, each with its end: of each part of the history so many, those that have
/// ended `since`, or the latest ones; and `undelivered` of those with a callback to deliver.
fn ended(
    connection: &Connection,
    query: &Page,
    since: Option<i64>,
    each: usize,
    undelivered: usize,
) -> Result<Vec<(i64, JobId)>> {
    let mut ended: Vec<(i64, JobId)> = Vec::new();
    let mut take = |select: &str, values: &[&dyn rusqlite::ToSql]| -> Result<()> {
        let mut select = connection.prepare_cached(select)?;
        let found = select.query_map(values, |row| {
            let columns = Columns::of(row);
            Ok((columns.get(EndedColumn::ended_us)?, columns.get(EndedColumn::id)?))
        })?;
        for job in found {
            ended.push(job?);
        }
        Ok(())
    };
    let each = signed(each as u64);
    for keep in 0..=MAX_KEEP {
        let mut pool = String::new();
        loop {
            let mut select = connection.prepare_cached(HistoryColumn::NEXT_POOL)?;
            let next = select.query_row((keep, &pool), |row| Columns::of(row).get(HistoryColumn::pool));
            let Some(next) = next.optional()? else { break };
            pool = next;
            if query.pool.as_ref().is_none_or(|wanted| *wanted == pool) {
                match since {
                    Some(since) => take(EndedColumn::SINCE, &[&keep, &pool, &each, &since])?,
                    None => take(EndedColumn::LATEST, &[&keep, &pool, &each])?,
                }
            }
        }
    }
    take(EndedColumn::UNDELIVERED, &[&signed(undelivered as u64)])?;
    Ok(ended)
}

/// The first of these jobs that are asked for.
fn listed_of(
    connection: &Connection,
    query: &Page,
    limit: usize,
    jobs: impl Iterator<Item = JobId>,
) -> Result<Vec<JobId>> {
    let mut ids = Vec::new();
    let mut select = connection.prepare_cached(ListedColumn::BY_ID)?;
    for id in jobs.take(LOOKED_AT) {
        let candidate = select.query_row([id], |row| candidate(row, query)).optional()?;
        if candidate.is_some_and(|it| it.fits) {
            ids.push(id);
        }
        if ids.len() == limit {
            break;
        }
    }
    Ok(ids)
}

/// A job that may be listed.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: JobId,
    /// It is asked for: by its state, its pool, its labels, and all else that the filter looks at.
    fits: bool,
}

/// A way to some of the jobs asked for, which it comes to in the order of the listing.
enum Way<'c> {
    Select {
        select: CachedStatement<'c>,
        state: Option<State>,
    },
    /// These jobs, of which those in such a state are taken: the others have ways of their own.
    Named {
        connection: &'c Connection,
        ids: Vec<JobId>,
        takes: fn(State) -> bool,
    },
}

/// A way that is being gone.
enum Steps<'s> {
    Rows(Rows<'s>),
    Ids { connection: &'s Connection, ids: std::slice::Iter<'s, JobId>, takes: fn(State) -> bool },
}

/// A way that is being gone, and the next job on it.
struct Going<'s> {
    steps: Steps<'s>,
    next: Option<Candidate>,
}

/// The narrowest ways to the jobs asked for: through indexes where these lead to all of them, or else past
/// all jobs.
fn ways_to<'c>(connection: &'c Connection, query: &Page, after: JobId) -> Result<Vec<Way<'c>>> {
    let is_newest = query.order == ListOrder::Newest;
    let select = |oldest, newest| connection.prepare_cached(if is_newest { newest } else { oldest });
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
    let all = || {
        Ok(vec![Way::Select { select: select(ListedColumn::ALL, ListedColumn::ALL_NEWEST)?, state: None }])
    };
    let mut ways = Vec::new();
    let mut states = query.states.clone();
    if query.states.is_empty() || query.states.contains(&State::Succeeded) {
        if query.after.is_some() {
            return all();
        }
        let Some(ids) = ended_since(connection, query)? else { return all() };
        if ids.len() > longest(query) {
            return all();
        }
        ways.push(Way::Named { connection, ids, takes: |state| state.is_terminal() });
        states = State::ALL.iter().copied().filter(|state| !state.is_terminal()).collect();
    }

    if states.contains(&State::Queued) {
        let Some(ids) = queued(connection, after, is_newest)? else { return all() };
        ways.push(Way::Named { connection, ids, takes: |state| state == State::Queued });
    }
    if states.iter().any(is_active) {
        let select = select(ListedColumn::ACTIVE, ListedColumn::ACTIVE_NEWEST)?;
        ways.push(Way::Select { select, state: None });
    }
    for state in State::ALL.iter().filter(|state| is_notable(state) && states.contains(state)) {
        let select = select(ListedColumn::OF_STATE, ListedColumn::OF_STATE_NEWEST)?;
        ways.push(Way::Select { select, state: Some(*state) });
    }
    Ok(ways)
}

/// The id before the first job that had not ended by the time from which on jobs are asked for: those before
/// it need not be looked at. None where it is not found quickly, or all jobs are asked for.
fn before_first(connection: &Connection, query: &Page) -> Result<Option<JobId>> {
    let Some(ended) = ended_since(connection, query)? else { return Ok(None) };
    let Some(queued) = queued(connection, JobId(0), false)? else { return Ok(None) };
    let mut first = ended.iter().copied().min().into_iter().chain(queued.first().copied()).min();
    let mut take = |select: &str, values: &[&dyn rusqlite::ToSql]| -> Result<()> {
        let mut select = connection.prepare_cached(select)?;
        let found = select.query_row(values, |row| Columns::of(row).get(ListedColumn::id));
        let id: Option<JobId> = found.optional()?;
        first = first.into_iter().chain(id).min();
        Ok(())
    };
    take(ListedColumn::ACTIVE, &[&0])?;
    for state in [State::Held, State::Scheduled, State::Blocked, State::Retrying] {
        take(ListedColumn::OF_STATE, &[&0, &state.as_str()])?;
    }
    Ok(Some(first.map_or(JobId(u64::MAX), |JobId(first)| JobId(first.saturating_sub(1)))))
}

/// The jobs that have ended since the time that is asked for, in the order of the listing. None if they are
/// many, or no time is asked for.
fn ended_since(connection: &Connection, query: &Page) -> Result<Option<Vec<JobId>>> {
    let Some(since_us) = query.filter.since_us else { return Ok(None) };
    let ended = ended(connection, query, Some(since_us), MAX_SINCE + 1, MAX_SINCE + 1)?;
    if ended.len() > MAX_SINCE {
        return Ok(None);
    }
    let ids = ended.into_iter().map(|(_, id)| id).collect();
    let is_newest = query.order == ListOrder::Newest;
    Ok(Some(from(if is_newest { JobId(u64::MAX) } else { JobId(0) }, is_newest, ids)))
}

/// Those of these jobs that come after that one, in the order of a listing.
fn from(after: JobId, is_newest: bool, mut ids: Vec<JobId>) -> Vec<JobId> {
    ids.retain(|&id| if is_newest { id < after } else { id > after });
    ids.sort_unstable();
    if is_newest {
        ids.reverse();
    }
    ids
}

/// The jobs in lines, and those that wait, in the order of the listing; none if they are many.
fn queued(connection: &Connection, after: JobId, is_newest: bool) -> Result<Option<Vec<JobId>>> {
    let mut ids = Vec::new();
    for select in [InLineColumn::IN_LINES, InLineColumn::WAITING] {
        let mut select = connection.prepare_cached(select)?;
        let found = select
            .query_map([signed(MAX_IN_LINES as u64 + 1)], |row| Columns::of(row).get(InLineColumn::id))?;
        for id in found {
            ids.push(id?);
        }
        if ids.len() > MAX_IN_LINES {
            return Ok(None);
        }
    }
    Ok(Some(from(after, is_newest, ids)))
}

impl Way<'_> {
    fn begin(&mut self, after: JobId) -> Result<Going<'_>> {
        // An id beyond SQLite's integers is after all jobs, and not before them as a negative one would be.
        let after = signed(after.0);
        let steps = match self {
            Self::Select { select, state: Some(state) } => {
                Steps::Rows(select.query((after, state.as_str()))?)
            }
            Self::Select { select, state: None } => Steps::Rows(select.query([after])?),
            Self::Named { connection, ids, takes } => {
                Steps::Ids { connection, ids: ids.iter(), takes: *takes }
            }
        };
        Ok(Going { steps, next: None })
    }
}

impl Going<'_> {
    fn step(&mut self, query: &Page) -> Result<Option<Candidate>> {
        match &mut self.steps {
            Steps::Rows(rows) => rows.next()?.map(|row| candidate(row, query)).transpose(),
            Steps::Ids { connection, ids, takes } => {
                let mut select = connection.prepare_cached(ListedColumn::BY_ID)?;
                for &id in ids {
                    let found = |row: &Row<'_>| {
                        let state = Columns::of(row).parse(ListedColumn::state, State::parse)?;
                        Ok((candidate(row, query)?, takes(state)))
                    };
                    if let Some((candidate, true)) = select.query_row([id], found).optional()? {
                        return Ok(Some(candidate));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// The next job of the listing on any of the ways.
fn next_of(ways: &mut [Going<'_>], query: &Page) -> Result<Option<Candidate>> {
    for way in ways.iter_mut().filter(|way| way.next.is_none()) {
        way.next = way.step(query)?;
    }
    let left = ways.iter_mut().filter_map(|way| Some((way.next?.id, way)));
    let next = match query.order {
        ListOrder::Newest => left.max_by_key(|&(id, _)| id),
        ListOrder::Oldest | ListOrder::Ended | ListOrder::Line => left.min_by_key(|&(id, _)| id),
    };
    Ok(next.and_then(|(_, way)| way.next.take()))
}

fn candidate(row: &Row<'_>, query: &Page) -> Result<Candidate> {
    let columns = Columns::of(row);
    let id = columns.get(ListedColumn::id)?;
    let state = columns.parse(ListedColumn::state, State::parse)?;
    let is_wanted = match query.pool.is_none() && query.label.is_none() {
        true => query.wants(state, "", |_| true),
        false => {
            let needs: Option<Needs> = query
                .label
                .is_some()
                .then(|| columns.parse(ListedColumn::labels, Needs::parse))
                .transpose()?;
            let has_label = |label: &str| needs.as_ref().is_some_and(|needs| needs.labels.has(label));
            columns.parse(ListedColumn::pool, |pool| Some(query.wants(state, pool, has_label)))?
        }
    };
    Ok(Candidate { id, fits: is_wanted && passes(&columns, query)? })
}

/// Whether the filter lets the job through.
fn passes(columns: &Columns<'_, ListedColumn>, query: &Page) -> Result<bool> {
    if query.filter.is_open() {
        return Ok(true);
    }
    let name: Option<String> = match query.filter.name {
        Some(_) => columns.get(ListedColumn::name)?,
        None => None,
    };
    let ended_us: Option<i64> = columns.get(ListedColumn::ended_us)?;
    Ok(query.filter.fits(&Traits {
        name: name.as_deref(),
        submitted_us: columns.get(ListedColumn::submitted_us)?,
        ended_us,
        // Before the end it says what is going to be.
        result: match ended_us {
            Some(_) => columns.parse_optional(ListedColumn::result, ResultKind::parse)?,
            None => None,
        },
        exit_code: columns.get(ListedColumn::exit_code)?,
        signal: columns.get(ListedColumn::signal)?,
    }))
}
