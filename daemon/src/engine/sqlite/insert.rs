//! New jobs, with their callbacks: all are added, or none.

use pool_proto::{Json, OsText};
use rusqlite::{Connection, Error, OptionalExtension, Result, params};

use super::environments::{self, Environments};
use super::keys::{self, Claims};
use super::turns::Follows;
use super::{meta, waits};
use crate::engine::{Insertion, Turns, deadline_us};
use crate::job::{CallbackId, JobId, JobKind, Tie, Unit, Until, micros};

/// What became of an insertion; but for the first, nothing was done.
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    /// `untied`: those that are tied to a job which has ended. `existing`: the places of those that are not
    /// added, and who has their keys or unique names.
    All { untied: Vec<JobId>, existing: Vec<(usize, JobId)>, turns: Turns },
    /// One is tied to this job, which does not exist.
    TiedToNothing(JobId),
    /// Such ids have been given out before.
    IdsGivenOut,
}

/// Adds jobs and their callbacks.
pub fn insert(
    connection: &Connection,
    environments: &mut Environments,
    insertion: &Insertion,
) -> Result<Inserted> {
    let &Insertion { first, first_callback, ref jobs, submitted_us, .. } = insertion;
    let Claims { existing, outgoing, follows, turns } = keys::look_up(connection, first, jobs)?;
    let is_new = |place: usize| existing.binary_search_by_key(&place, |&(place, _)| place).is_err();
    let new = || {
        (first.0..).map(JobId).zip(jobs).enumerate().filter(|&(place, _)| is_new(place)).map(|(_, job)| job)
    };

    let mut untied = Vec::new();
    for (id, work) in new() {
        let Some(Tie::Job(other)) = work.tie else { continue };
        match has_ended(connection, other)? {
            None => return Ok(Inserted::TiedToNothing(other)),
            Some(has_ended) => untied.extend(has_ended.then_some(id)),
        }
    }

    let callbacks: usize = jobs.iter().map(|work| work.callbacks.len()).sum();
    if !meta::take_ids(connection, first, jobs.len(), first_callback, callbacks)? {
        return Ok(Inserted::IdsGivenOut);
    }
    keys::release(connection, &outgoing)?;

    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (id, pool, name, argv, cwd, environment, stdin, timeout_us, kill_after_us,
                           submitted_us, tie, on_crash, key, round, method, params, rank, retries, backoff_us,
                           unique_name, follows, waits, within_us, deadline_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                 ?21, ?22, ?23, ?24)",
    )?;
    let mut insert_callback = connection
        .prepare_cached("INSERT INTO callbacks (id, job, kind, command) VALUES (?1, ?2, ?3, ?4)")?;

    let mut callback_ids = (first_callback.0..).map(CallbackId);
    for (id, work) in new() {
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
        let waits = follows != Follows::Nobody;
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
            submitted_us,
            work.tie.map(|tie| tie.to_string()),
            work.on_crash.as_str(),
            work.key.as_ref().map(|key| key.text.as_escaped()),
            work.key.as_ref().and_then(|key| key.round.as_ref()),
            call.map(|call| &call.method),
            call.and_then(|call| call.params.as_ref()).map(Json::get),
            rank(work.priority),
            work.retries.allowed,
            micros(work.retries.backoff),
            work.unique.as_ref().map(|unique| unique.name.as_escaped()),
            follows as i64,
            waits,
            work.deadline.map(micros),
            deadline_us(insertion.deadlines_from_us, work),
        ])?;
        if waits {
            waits::add(connection, Unit::Job(id), Until::Predecessor)?;
        }

        for (callback, callback_id) in work.callbacks.iter().zip(callback_ids.by_ref()) {
            insert_callback.execute(params![
                callback_id,
                id,
                callback.on.as_str(),
                callback.command.as_escaped()
            ])?;
        }
    }
    Ok(Inserted::All { untied, existing, turns })
}

/// A queue goes by rank, the least first.
pub fn rank(priority: i32) -> i64 {
    -i64::from(priority)
}

/// None when there is no such job.
pub fn has_ended(connection: &Connection, id: JobId) -> Result<Option<bool>> {
    let mut select = connection.prepare_cached("SELECT ended_us IS NOT NULL FROM jobs WHERE id = ?1")?;
    select.query_row([id], |row| row.get(0)).optional()
}
