//! New jobs, with their callbacks: all are added, or none.

use std::borrow::Cow;

use pool_proto::OsText;
use pool_proto::nouns::Input;
use rusqlite::{Connection, Error, OptionalExtension, Result, params};

use super::columns::signed;
use super::dependents::{self, Open};
use super::environments::{self, Environments};
use super::keys::{self, Claims};
use super::turns::Follows;
use super::values::{Part, Values};
use super::{arrays, meta, retry, waits};
use crate::engine::{Conditional, Insertion, Turns, at_us, deadline_us, start_by_us, unmet};
use crate::job::{After, CallbackId, JobId, JobKind, Tie, Unit, micros};

/// Bytes that a job's row is given to grow: as many as what is known only later takes of a call that returns
/// a short value, or of a command. A call's is the most that takes one byte in the row's header.
const RESERVE_OF_CALL: i64 = 57;
const RESERVE_OF_COMMAND: i64 = 80;

/// What became of an insertion; but for the first, nothing was done.
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    /// `existing`: the places of those that are not added, and who has their keys or unique names.
    All { existing: Vec<(usize, JobId)>, turns: Turns, conditions: Conditional },
    /// One is tied to this job, or is to run after it, and it does not exist.
    HangsOnNothing(JobId),
    /// Such ids have been given out before.
    IdsGivenOut,
}

/// Adds jobs and their callbacks.
pub fn insert(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    insertion: &Insertion,
) -> Result<Inserted> {
    let &Insertion { first, first_callback, ref jobs, times, .. } = insertion;
    let Claims { existing, outgoing, follows, turns } = keys::look_up(connection, first, jobs)?;
    let is_new = |place: usize| existing.binary_search_by_key(&place, |&(place, _)| place).is_err();
    let new_places = || (first.0..).map(JobId).zip(jobs).enumerate().filter(|&(place, _)| is_new(place));
    let new = || new_places().map(|(_, job)| job);

    let mut conditions = Conditional::default();
    for (id, work) in new() {
        for After { id: other, .. } in work.after() {
            if has_ended(connection, *other)?.is_none() {
                return Ok(Inserted::HangsOnNothing(*other));
            }
        }
        let Some(Tie::Job(other)) = work.tie else { continue };
        match has_ended(connection, other)? {
            None => return Ok(Inserted::HangsOnNothing(other)),
            Some(has_ended) => conditions.untied.extend(has_ended.then_some(id)),
        }
    }

    let (ids, callbacks) = (insertion.count_ids(), insertion.count_callbacks());
    if !meta::take_ids(connection, first, ids, first_callback, callbacks)? {
        return Ok(Inserted::IdsGivenOut);
    }
    keys::release(connection, &outgoing)?;

    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (id, pool, name, argv, cwd, environment, stdin, timeout_us, kill_after_us,
                           submitted_us, tie, on_crash, key, round, method, params, rank, retries, backoff_us,
                           unique_name, follows, state, waits, within_us, deadline_us, hold, others,
                           not_before_us, at_us, depends_on, jitter, retry_on, memory_limit_bytes, start_within_us,
                           start_by_us, idle_timeout_us, labels, input, merge, reserve)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                 ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36,
                 ?37, ?38, ?39, zeroblob(?40))",
    )?;
    let mut insert_callback = connection
        .prepare_cached("INSERT INTO callbacks (id, job, kind, command) VALUES (?1, ?2, ?3, ?4)")?;

    let reserved = insertion.reserved();
    let mut callback_ids = (first_callback.0..).map(CallbackId);
    insertion.files.iter().filter(|&&(place, _)| !is_new(place)).for_each(|(_, file)| values.give_up(file));
    for (place, (id, work)) in new_places() {
        let environment = match &work.kind {
            JobKind::Call(_) if work.callbacks.is_empty() => environments::NONE,
            JobKind::Call(_) | JobKind::Exec(_) => environments.intern(connection, &work.environment)?,
        };
        let (argv, call) = match &work.kind {
            JobKind::Exec(argv) => (
                serde_json::to_string(argv).map_err(|error| Error::ToSqlConversionFailure(error.into()))?,
                None,
            ),
            JobKind::Call(call) => ("[]".to_owned(), Some(call)),
        };

        let follows = follows.get(&id).copied().unwrap_or(Follows::Nobody);
        let Open { others, failed } = dependents::add(connection, id, work.after())?;
        let unmet = unmet(&times, work, others, follows != Follows::Nobody);
        let until = unmet.first();
        let params = call.and_then(|call| call.params.as_ref());
        let params = match (params, insertion.file_of(place)) {
            (Some(params), Some(file)) => {
                Some(Cow::Owned(values.keep(connection, id, Part::Params, params, file)?))
            }
            (params, _) => params.map(|params| Cow::Borrowed(params.get())),
        };
        // Nothing is allocated where there is none.
        let needs = work.needs.to_string();
        conditions.failed.extend(failed.map(|prior| (id, prior)));
        insert.execute(params![
            id,
            work.pool,
            work.name.as_ref().map(OsText::as_escaped),
            argv,
            work.cwd.as_escaped(),
            environment,
            work.stdin,
            work.timeout.map(micros),
            micros(work.kill_after),
            times.submitted_us,
            work.tie.map(|tie| tie.to_string()),
            work.on_crash.as_str(),
            work.key.as_ref().map(|key| key.text.as_escaped()),
            work.key.as_ref().and_then(|key| key.round.as_ref()),
            call.map(|call| &call.method),
            params,
            rank(work.priority),
            work.retries.allowed,
            micros(work.retries.backoff),
            work.unique.as_ref().map(|unique| unique.name.as_escaped()),
            follows as i64,
            unmet.place().state().as_str(),
            until.is_some(),
            work.deadline.map(micros),
            deadline_us(times.counted_from_us, work),
            unmet.hold,
            unmet.others,
            unmet.start_us,
            at_us(work),
            retry::after_text(work.after()),
            work.retries.jitter,
            work.retries.on.as_text(),
            work.environment.limits.memory_bytes.map(signed),
            work.start_within.map(micros),
            start_by_us(times.counted_from_us, work),
            work.idle_timeout.map(micros),
            needs,
            work.input.map(Input::as_str),
            work.merge,
            if call.is_some() { RESERVE_OF_CALL } else { RESERVE_OF_COMMAND },
        ])?;
        for label in work.exclusive.iter() {
            meta::limit_to_one(connection, label)?;
        }
        if let Some(until) = until {
            waits::add(connection, Unit::Job(id), until)?;
            conditions.waiting.push((id, until));
        }

        if let (Some(plan), Some(&reserved)) = (work.plan(), reserved.get(&id)) {
            arrays::add(connection, id, plan, reserved, work.element_callbacks())?;
        }
        for (callback, callback_id) in work.own_callbacks().iter().zip(callback_ids.by_ref()) {
            insert_callback.execute(params![
                callback_id,
                id,
                callback.on.as_str(),
                callback.command.as_escaped()
            ])?;
        }
    }
    Ok(Inserted::All { existing, turns, conditions })
}

/// A queue goes by rank, the least first.
pub fn rank(priority: i32) -> i64 {
    -i64::from(priority)
}

/// None when there is no such job.
pub fn has_ended(connection: &Connection, id: JobId) -> Result<Option<bool>> {
    let mut select = connection.prepare_cached("SELECT ended_us IS NOT NULL FROM jobs WHERE id = ?1")?;
    match select.query_row([id], |row| row.get(0)).optional()? {
        None => arrays::is_over_unmade(connection, id),
        has_ended => Ok(has_ended),
    }
}
