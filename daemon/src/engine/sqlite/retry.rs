//! Ended jobs that are run again, under their ids: each begins a new round. What a job was submitted with is
//! still in its row; what its last round has left there goes, but for the count of attempts.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use pool_proto::State;
use pool_proto::nouns::On;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::columns::{Columns, columns, signed};
use super::dependents::{self, Open};
use super::insert::has_ended;
use super::prune::{History, read_group};
use super::values::{Part, Values, may_have_files};
use super::{arrays, attempts, records, waits};
use crate::engine::retention::Group;
use crate::engine::{BegunArray, NotRetried, Released, Retried, Times};
use crate::job::{After, JobId, LineKey, Needs, Position, Tie, Unit, Unmet};

/// What became of the jobs of a request.
#[derive(Debug, Default)]
pub struct Round {
    pub jobs: Vec<Retried>,
    /// Those that cannot begin, each with the job that has not ended as it was to.
    pub failed: Vec<(JobId, JobId)>,
    pub others: Vec<(JobId, NotRetried)>,
    /// Arrays that go on, each once, as they are when all of the request is done.
    pub arrays: Vec<BegunArray>,
}

/// A job that has ended, as far as its next round needs that.
struct Past {
    state: State,
    line: LineKey,
    rank: i64,
    attempt: u32,
    is_undelivered: bool,
    has_input: bool,
    /// It is a call, and what has been taken away may have been its parameters.
    may_lack_params: bool,
    name: Option<String>,
    tie: Option<Tie>,
    within_us: Option<i64>,
    start_within_us: Option<i64>,
    after: Option<String>,
    group: Group,
    held_bytes: u64,
    array: Option<JobId>,
    is_element: bool,
}

columns! {
    PastColumn {
        state, pool, labels, rank, attempt, is_undelivered = "undelivered > 0",
        has_input = "stdin IS NOT NULL
                     AND (array_index IS NULL
                          OR NOT EXISTS (SELECT 1 FROM jobs AS whole
                                         WHERE whole.id = jobs.array AND whole.ended_us IS NULL))",
        may_lack_params = "stripped AND method IS NOT NULL AND params IS NULL", unique_name, tie, within_us,
        start_within_us, depends_on, keep, held_bytes, array, is_element = "array_index IS NOT NULL",
    }
    BY_ID: "FROM jobs WHERE id = ?1";
}

/// Begins a new round of each of these jobs that can have one.
pub fn retry(
    connection: &Connection,
    values: &Values,
    history: &mut History,
    ids: &[JobId],
    times: &Times,
    closed: &[Arc<str>],
) -> Result<Round> {
    let mut round = Round::default();
    let mut seen = BTreeSet::new();
    for &id in ids.iter().filter(|&&id| seen.insert(id)) {
        let mut select = connection.prepare_cached(PastColumn::BY_ID)?;
        let past = select.query_row([id], read_past).optional()?;
        match past {
            None => round.others.push((id, NotRetried::Missing)),
            Some(past) if past.state.is_terminal() && closed.contains(&past.line.pool) => {
                round.others.push((id, NotRetried::PoolClosed(past.line.pool)));
            }
            Some(past) => match begin(connection, values, history, id, &past, times, &mut round)? {
                Ok(retried) => round.jobs.push(retried),
                Err(why_not) => round.others.push((id, why_not)),
            },
        }
    }
    Ok(round)
}

fn read_past(row: &Row<'_>) -> Result<Past> {
    let columns = Columns::of(row);
    let pool: Arc<str> = columns.parse(PastColumn::pool, |name| Some(Arc::from(name)))?;
    let needs = columns.parse(PastColumn::labels, Needs::parse)?;
    Ok(Past {
        state: columns.parse(PastColumn::state, State::parse)?,
        rank: columns.get(PastColumn::rank)?,
        attempt: columns.get(PastColumn::attempt)?,
        is_undelivered: columns.get(PastColumn::is_undelivered)?,
        has_input: columns.get(PastColumn::has_input)?,
        may_lack_params: columns.get(PastColumn::may_lack_params)?,
        name: columns.get(PastColumn::unique_name)?,
        tie: columns.parse_optional(PastColumn::tie, |tie| tie.parse().ok())?,
        within_us: columns.get(PastColumn::within_us)?,
        start_within_us: columns.get(PastColumn::start_within_us)?,
        after: columns.get(PastColumn::depends_on)?,
        group: read_group(columns.get(PastColumn::keep)?, &pool),
        held_bytes: columns.size(PastColumn::held_bytes)?.unwrap_or(0),
        array: columns.get(PastColumn::array)?,
        is_element: columns.get(PastColumn::is_element)?,
        line: LineKey { pool, needs },
    })
}

fn begin(
    connection: &Connection,
    values: &Values,
    history: &mut History,
    id: JobId,
    past: &Past,
    times: &Times,
    round: &mut Round,
) -> Result<std::result::Result<Retried, NotRetried>> {
    // One that has begun has waited for the others already.
    let after = past.after.as_deref().filter(|_| past.attempt == 0).map(read_after).unwrap_or_default();
    if let Some(why_not) = why_not(connection, past, &after)? {
        return Ok(Err(why_not));
    }
    let element_of = past.array.filter(|_| past.is_element);
    if let Some(array) = element_of
        && let Some(why_not) = why_not_revived(connection, array)?
    {
        return Ok(Err(why_not));
    }
    if past.array == Some(id) {
        match arrays::is_partial(connection, id)? {
            (false, _) if past.state == State::Succeeded => return Ok(Err(NotRetried::AllSucceeded)),
            (false, _) => return Ok(Err(NotRetried::Unfolded)),
            (true, true) => return make_more(connection, history, id, past, times, round).map(Ok),
            (true, false) => arrays::begin_anew(connection, id)?,
        }
    }

    // Dependents that nobody has looked at yet wait for the end of this round.
    connection.prepare_cached("DELETE FROM resolving WHERE prior = ?1")?.execute([id])?;
    let Open { others, failed: at_fault } = dependents::add(connection, id, &after)?;
    round.failed.extend(at_fault.map(|prior| (id, prior)));

    let tie = kept_tie(connection, past.tie)?;
    let from_now = |within_us| times.counted_from_us.saturating_add(within_us);
    let deadline_us = past.within_us.map(from_now);
    let start_by_us = past.start_within_us.map(from_now).filter(|_| past.attempt == 0);
    let unmet = Unmet { others, ..Unmet::default() };
    let until = unmet.first();
    if past.attempt > 0 {
        attempts::add_last(connection, id, past.attempt)?;
    }
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET state = ?2, waits = ?3, others = ?4, tie = ?5, deadline_us = ?6, start_by_us = ?7, reruns = reruns + 1,
             crashes = 0, retried = 0, last_crash = NULL, reason = NULL, result = NULL, exit_code = NULL,
             signal = NULL, slot = NULL, worker_pid = NULL, pid = NULL, start_ticks = NULL,
             started_us = NULL, started_since_boot_us = NULL, user_s = NULL, sys_s = NULL,
             max_rss_bytes = NULL, memory_peak_bytes = NULL, stdout_bytes = NULL, stderr_bytes = NULL,
             value = NULL, error = NULL, ended_us = NULL, keep = 1, held_bytes = 0, memory_limiter = NULL,
             hold = 0, not_before_us = NULL, at_us = NULL, follows = 0
         WHERE id = ?1",
    )?;
    update.execute(params![
        id,
        unmet.place().state().as_str(),
        until.is_some(),
        others,
        tie.map(|tie| tie.to_string()),
        deadline_us,
        start_by_us
    ])?;
    if let Some(until) = until {
        waits::add(connection, Unit::Job(id), until)?;
    }
    if may_have_files(past.held_bytes) {
        values.free(connection, id, Some(Part::Answer))?;
    }
    history.census.shift(past.group.clone(), -1, -signed(past.held_bytes));

    callbacks_wait(connection, id)?;

    let position = Position { priority: Reverse(records::priority(past.rank)?), id };
    let released = Released { position, line: past.line.clone(), until };
    if let Some(array) = element_of {
        round.note(arrays::take_back(connection, history, array, past.state, times)?);
    }
    Ok(Ok(Retried { released, has_begun: false, tie, deadline_us, start_by_us }))
}

/// The elements of an array that were never made are made after all.
fn make_more(
    connection: &Connection,
    history: &mut History,
    id: JobId,
    past: &Past,
    times: &Times,
    round: &mut Round,
) -> Result<Retried> {
    let begun = arrays::make_more(connection, history, id, times)?;
    let (tie, deadline_us) = begun.as_ref().map_or((None, None), |begun| (begun.tie, begun.deadline_us));
    round.note(begun);
    let position = Position { priority: Reverse(records::priority(past.rank)?), id };
    let released = Released { position, line: past.line.clone(), until: None };
    Ok(Retried { released, has_begun: true, tie, deadline_us, start_by_us: None })
}

impl Round {
    fn note(&mut self, begun: Option<BegunArray>) {
        let Some(begun) = begun else { return };
        self.arrays.retain(|other| other.tally.array != begun.tally.array);
        self.arrays.push(begun);
    }
}

/// Why an array that may have ended cannot go on, since an element of it is to be run again.
fn why_not_revived(connection: &Connection, array: JobId) -> Result<Option<NotRetried>> {
    let mut select = connection.prepare_cached(PastColumn::BY_ID)?;
    let Some(past) = select.query_row([array], read_past).optional()? else { return Ok(None) };
    if !past.state.is_terminal() {
        return Ok(None);
    }
    if past.is_undelivered {
        return Ok(Some(NotRetried::ArrayUndelivered(array)));
    }
    Ok(holder_of(connection, past.name.as_ref())?.map(NotRetried::NameTaken))
}

/// An array goes on, if it has ended: its elements run again.
pub fn revive(connection: &Connection, history: &mut History, array: JobId, times: &Times) -> Result<()> {
    let mut select = connection.prepare_cached(PastColumn::BY_ID)?;
    let Some(past) = select.query_row([array], read_past).optional()? else { return Ok(()) };
    if !past.state.is_terminal() {
        return Ok(());
    }
    connection.prepare_cached("DELETE FROM resolving WHERE prior = ?1")?.execute([array])?;
    let tie = kept_tie(connection, past.tie)?.map(|tie| tie.to_string());
    let deadline_us = past.within_us.map(|within_us| times.counted_from_us.saturating_add(within_us));
    let update =
        "UPDATE jobs SET state = 'running', reruns = reruns + 1, tie = ?2, deadline_us = ?3, reason = NULL,
                      result = NULL, exit_code = NULL, ended_us = NULL, keep = 1, held_bytes = 0,
                      started_us = ifnull(started_us, ?4)
                  WHERE id = ?1";
    connection.prepare_cached(update)?.execute(params![array, tie, deadline_us, times.submitted_us])?;
    history.census.shift(past.group.clone(), -1, -signed(past.held_bytes));
    callbacks_wait(connection, array)
}

/// The callbacks of a job wait for its next end.
fn callbacks_wait(connection: &Connection, id: JobId) -> Result<()> {
    let callbacks =
        "UPDATE callbacks SET state = 'waiting', earlier = attempts, exit_code = NULL, due_us = NULL,
                         ended_us = NULL WHERE job = ?1";
    connection.prepare_cached(callbacks)?.execute([id])?;
    Ok(())
}

fn why_not(connection: &Connection, past: &Past, after: &[After]) -> Result<Option<NotRetried>> {
    if !past.state.is_terminal() {
        return Ok(Some(NotRetried::Living(past.state)));
    }
    if past.is_undelivered {
        return Ok(Some(NotRetried::Undelivered));
    }
    if past.has_input {
        return Ok(Some(NotRetried::InputGone));
    }
    if past.may_lack_params {
        return Ok(Some(NotRetried::ParamsGone));
    }
    for &After { id: prior, .. } in after {
        if has_ended(connection, prior)?.is_none() {
            return Ok(Some(NotRetried::PriorGone(prior)));
        }
    }
    Ok(holder_of(connection, past.name.as_ref())?.map(NotRetried::NameTaken))
}

/// The job that has a unique name.
fn holder_of(connection: &Connection, name: Option<&String>) -> Result<Option<JobId>> {
    let Some(name) = name else { return Ok(None) };
    let select = "SELECT id FROM jobs INDEXED BY jobs_unique
                  WHERE unique_name = ?1 AND unique_name IS NOT NULL AND follows = 0 AND ended_us IS NULL";
    connection.prepare_cached(select)?.query_row([name], |row| row.get(0)).optional()
}

/// What a job is still tied to: a client is not there any more, and another job only until it has ended.
fn kept_tie(connection: &Connection, tie: Option<Tie>) -> Result<Option<Tie>> {
    Ok(match tie {
        Some(Tie::Job(other)) if has_ended(connection, other)? == Some(false) => tie,
        Some(Tie::Pool) => tie,
        Some(Tie::Job(_) | Tie::Client) | None => None,
    })
}

/// What a job is to run after, as its row has it: JSON, an id and the kind of end for each.
pub fn after_text(after: &[After]) -> Option<String> {
    let pairs: Vec<(u64, &str)> = after.iter().map(|after| (after.id.0, after.on.as_str())).collect();
    (!pairs.is_empty()).then(|| serde_json::to_string(&pairs).expect("numbers and words are JSON"))
}

/// The same, read.
pub fn read_after(text: &str) -> Vec<After> {
    let pairs: Vec<(u64, String)> = serde_json::from_str(text).unwrap_or_default();
    let after = pairs.into_iter().map(|(id, on)| Some(After { id: JobId(id), on: On::parse(&on)? }));
    after.collect::<Option<_>>().unwrap_or_default()
}
