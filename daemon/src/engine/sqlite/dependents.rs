//! Jobs that are to run after others.
//!
//! A row for each pair, for as long as it is open. The end of a job that others are to run after is noted in
//! its own transaction, and nothing else: there may be any number of them, so they are looked at later, some
//! at a time ([`resolve`]). One that waits for nothing else any more goes on; one that can never run stays
//! here, settled, until the core has canceled it: a start finds it.

use pool_proto::nouns::{Dependency, On};
use rusqlite::{Connection, OptionalExtension, Result};

use super::columns::{Columns, columns};
use super::insert::has_ended;
use super::waits;
use crate::engine::Released;
use crate::job::{After, JobId};

/// So many are named in a record.
pub const NAMED: u32 = 100;

/// What has become of some of them.
#[derive(Debug, Default)]
pub struct Resolved {
    pub jobs: Vec<Released>,
    pub failed: Vec<(JobId, JobId)>,
    pub more: bool,
}

/// What a new job has to wait for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub others: u32,
    /// One that has ended as it was not to.
    pub failed: Option<JobId>,
}

columns! {
    PriorColumn { succeeded = "state = 'succeeded'", has_ended = "ended_us IS NOT NULL" }
    BY_ID: "FROM jobs WHERE id = ?1";
}

columns! {
    DependentColumn { job, needs }
    NEXT: "FROM dependencies WHERE prior = ?1 AND settled = 0 ORDER BY job LIMIT ?2";
}

/// Notes what a new job is to run after: jobs that exist.
pub fn add(connection: &Connection, id: JobId, after: &[After]) -> Result<Open> {
    if after.is_empty() {
        return Ok(Open::default());
    }
    let mut select = connection.prepare_cached(PriorColumn::BY_ID)?;
    let mut insert = connection
        .prepare_cached("INSERT INTO dependencies (prior, settled, job, needs) VALUES (?1, ?2, ?3, ?4)")?;
    let mut open = Open::default();
    for after in after {
        let prior = select.query_row([after.id], |row| {
            let columns = Columns::of(row);
            Ok((columns.get(PriorColumn::succeeded)?, columns.get(PriorColumn::has_ended)?))
        });
        // An element that its array has not been unfolded up to has no row.
        let (succeeded, has_ended): (bool, bool) = match prior.optional()? {
            Some(prior) => prior,
            None => (false, has_ended(connection, after.id)?.unwrap_or(true)),
        };
        let fails = has_ended && !after.is_met_by(succeeded);
        if has_ended && !fails {
            continue;
        }
        insert.execute((after.id, fails, id, after.on.as_str()))?;
        open.others += 1;
        if fails {
            open.failed.get_or_insert(after.id);
        }
    }
    Ok(open)
}

/// A job has ended: whether others were to run after it.
pub fn ended(connection: &Connection, id: JobId, succeeded: bool) -> Result<bool> {
    let exists = "SELECT EXISTS (SELECT 1 FROM dependencies WHERE prior = ?1)";
    let has_dependents = connection.prepare_cached(exists)?.query_row([id], |row| row.get(0))?;
    if has_dependents {
        let insert = "INSERT INTO resolving (prior, succeeded) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.execute((id, succeeded))?;
    }
    Ok(has_dependents)
}

/// A job has ended that had others to wait for.
pub fn forget(connection: &Connection, id: JobId) -> Result<()> {
    connection.prepare_cached("DELETE FROM dependencies WHERE job = ?1")?.execute([id])?;
    Ok(())
}

/// The trigger of [`Until::Others`](crate::job::Until::Others): looks at so many of those that were to run
/// after jobs which have ended, and of those that are therefore never to run, in their turn.
pub fn resolve(connection: &Connection, limit: u32) -> Result<Resolved> {
    let mut resolved = Resolved::default();
    let mut left = limit;
    let mut first =
        connection.prepare_cached("SELECT prior, succeeded FROM resolving ORDER BY prior LIMIT 1")?;
    while let Some((prior, succeeded)) =
        first.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?
    {
        let dependents = next(connection, prior, left)?;
        for &after in &dependents {
            settle(connection, prior, succeeded, after, &mut resolved)?;
        }
        let looked_at = u32::try_from(dependents.len()).unwrap_or(u32::MAX);
        if looked_at == left {
            resolved.more = true;
            return Ok(resolved);
        }
        left -= looked_at;
        connection.prepare_cached("DELETE FROM resolving WHERE prior = ?1")?.execute([prior])?;
    }
    fail_those_after(connection, left, &mut resolved)?;
    Ok(resolved)
}

/// What fails will be canceled, so what needs its success fails as well: a chain is given up in few
/// transactions, not in two for each of its jobs. The others are looked at when it has ended, and so are
/// those that there is no room for.
fn fail_those_after(connection: &Connection, mut left: u32, resolved: &mut Resolved) -> Result<()> {
    let mut at = 0;
    while left > 0
        && let Some(&(prior, _)) = resolved.failed.get(at)
    {
        at += 1;
        let dependents = next(connection, prior, left)?;
        left -= u32::try_from(dependents.len()).unwrap_or(left);
        for after in dependents.into_iter().filter(|after| !after.is_met_by(false)) {
            settle(connection, prior, false, after, resolved)?;
        }
    }
    Ok(())
}

/// Those of that job which nobody has looked at, each as what it needs of it.
fn next(connection: &Connection, prior: JobId, limit: u32) -> Result<Vec<After>> {
    let mut select = connection.prepare_cached(DependentColumn::NEXT)?;
    let dependents = select.query_map((prior, limit), |row| {
        let columns = Columns::of(row);
        Ok(After {
            id: columns.get(DependentColumn::job)?,
            on: columns.parse(DependentColumn::needs, On::parse)?,
        })
    })?;
    dependents.collect()
}

fn settle(
    connection: &Connection,
    prior: JobId,
    succeeded: bool,
    dependent: After,
    resolved: &mut Resolved,
) -> Result<()> {
    let id = dependent.id;
    if !dependent.is_met_by(succeeded) {
        let settle = "UPDATE dependencies SET settled = 1 WHERE prior = ?1 AND settled = 0 AND job = ?2";
        connection.prepare_cached(settle)?.execute((prior, id))?;
        resolved.failed.push((id, prior));
        return Ok(());
    }
    let remove = "DELETE FROM dependencies WHERE prior = ?1 AND settled = 0 AND job = ?2";
    connection.prepare_cached(remove)?.execute((prior, id))?;
    connection.prepare_cached("UPDATE jobs SET others = others - 1 WHERE id = ?1")?.execute([id])?;
    resolved.jobs.extend(waits::go_on(connection, id, pool_proto::State::Blocked)?);
    Ok(())
}

/// What a job is still to run after.
pub fn of(connection: &Connection, id: JobId) -> Result<Vec<Dependency>> {
    let select = "SELECT prior, needs FROM dependencies WHERE job = ?1 ORDER BY prior LIMIT ?2";
    let mut select = connection.prepare_cached(select)?;
    let mut rows = select.query((id, NAMED))?;
    let mut dependencies = Vec::new();
    while let Some(row) = rows.next()? {
        let (JobId(id), needs): (JobId, String) = (row.get(0)?, row.get(1)?);
        dependencies.push(Dependency { id, on: On::parse(&needs) });
    }
    Ok(dependencies)
}

columns! {
    DependentsColumn { job, needs }
    OF_PRIOR: "FROM dependencies WHERE prior = ?1 ORDER BY job LIMIT ?2";
}

/// The jobs that are to run after this one, so many at most, and whether there are more; none where it does
/// not exist.
pub fn list(connection: &Connection, id: JobId, limit: u32) -> Result<(Option<Vec<After>>, bool)> {
    if has_ended(connection, id)?.is_none() {
        return Ok((None, false));
    }
    let mut select = connection.prepare_cached(DependentsColumn::OF_PRIOR)?;
    let dependents = select.query_map((id, i64::from(limit) + 1), |row| {
        let columns = Columns::of(row);
        Ok(After {
            id: columns.get(DependentsColumn::job)?,
            on: columns.parse(DependentsColumn::needs, On::parse)?,
        })
    })?;
    let mut dependents: Vec<After> = dependents.collect::<Result<_>>()?;
    let more = dependents.len() > limit as usize;
    dependents.truncate(limit as usize);
    Ok((Some(dependents), more))
}

/// What was to fail because of a job that has not ended yet, before a start, is looked at again when that has
/// ended: somebody may have changed what that one waits for.
pub fn look_again(connection: &Connection) -> Result<()> {
    let unsettle = "UPDATE dependencies INDEXED BY dependencies_settled SET settled = 0
                    WHERE settled = 1
                        AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = prior AND jobs.ended_us IS NULL)";
    connection.execute(unsettle, []).map(drop)
}

/// What a start finds: jobs that are still to be canceled, each with one that it was to run after.
pub fn read_failed(connection: &Connection) -> Result<Vec<(JobId, JobId)>> {
    let select = "SELECT job, min(prior) FROM dependencies WHERE settled = 1 GROUP BY job";
    let mut select = connection.prepare(select)?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Whether jobs have ended whose dependents have not all been looked at.
pub fn is_unresolved(connection: &Connection) -> Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM resolving)", [], |row| row.get(0))
}
