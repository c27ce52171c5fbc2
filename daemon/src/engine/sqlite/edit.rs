//! Jobs that have not begun, and are to be other ones in part; and what a job is to do, as it was submitted
//! and edited.

use std::cmp::Reverse;
use std::sync::Arc;

use pool_proto::nouns::{IfExists, On};
use pool_proto::{Json, OsText, State};
use rusqlite::{Connection, Error, OptionalExtension, Result, params};

use super::columns::{Columns, columns, signed};
use super::dependents::{self, Open};
use super::environments::Environments;
use super::insert::{has_ended, rank};
use super::values::{Part, Values};
use super::{arrays, meta, places, records, retry, waits};
use crate::engine::{
    Assigned, Definition, Dequeued, Edited, JobEdit, NotEdited, Released, Revised, deadline_us, due_us,
    start_by_us,
};
use crate::job::{
    ArrayPart, CallbackId, Conditions, Edit, JobId, JobKind, Needs, NewCallback, NotBefore, Position, Unique,
    Unit, Unmet, Until, Work, micros,
};

columns! {
    StandColumn {
        state, pool, labels, rank, waits, attempt, hold, others, follows, not_before_us, environment,
    }
    BY_ID: "FROM jobs WHERE id = ?1";
}

/// Where the job stands.
struct Stand {
    state: State,
    attempt: u32,
    unmet: Unmet,
    environment: i64,
    is_idle: bool,
    at: Assigned,
}

/// Changes a job that is in its line or waits.
pub fn edit(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    change: &JobEdit,
) -> Result<Edited> {
    let &JobEdit { id, ref edit, .. } = change;
    let Some(stand) = stand_of(connection, id)? else { return Ok(Edited::Not(NotEdited::Missing)) };
    if !stand.is_idle {
        return Ok(Edited::Not(NotEdited::Beyond(stand.state)));
    }
    let Some(ready) = records::ready(connection, environments, values, id)? else {
        return Ok(Edited::Not(NotEdited::Missing));
    };
    let work = match edit.apply(&ready.work) {
        Ok(work) => work,
        Err(unfit) => return Ok(Edited::Kept(stand.at, NotEdited::Unfit(unfit))),
    };
    if let Some(why_not) = why_not(connection, id, &ready.work, edit, &stand)? {
        return Ok(Edited::Kept(stand.at, why_not));
    }

    write(connection, environments, change, &work, stand.environment)?;
    if edit.params.is_some() {
        values.free(connection, id, Some(Part::Params))?;
    }
    write_terms(connection, id, change, &work)?;
    write_callbacks(connection, change)?;
    for label in edit.exclusive.iter() {
        meta::limit_to_one(connection, label)?;
    }
    let (unmet, failed) = write_conditions(connection, id, change, stand.unmet)?;
    let until = match stand.state {
        // It was tried: what it waits for is its next attempt.
        State::Retrying => waits::due_of(connection, id)?.map(|due_us| Until::Time { due_us }),
        _ => wait_for(connection, id, unmet, edit.has_conditions())?,
    };

    let position = Position { priority: Reverse(work.priority), id };
    let Assigned { from: pool, holdup, .. } = stand.at;
    Ok(Edited::Done(Box::new(Revised {
        from: holdup.map(|holdup| Dequeued { pool, holdup }),
        now: Released { position, line: work.line(), until },
        deadline_us: edit.deadline.map(|_| deadline_us(change.times.counted_from_us, &work)),
        start_by_us: edit.start_within.map(|_| start_by_us(change.times.counted_from_us, &work)),
        exclusive: edit.exclusive.clone(),
        failed,
    })))
}

fn stand_of(connection: &Connection, id: JobId) -> Result<Option<Stand>> {
    let mut select = connection.prepare_cached(StandColumn::BY_ID)?;
    let stand = select.query_row([id], |row| {
        use StandColumn as Of;

        let columns = Columns::of(row);
        let state = columns.parse(Of::state, State::parse)?;
        let follows: i64 = columns.get(Of::follows)?;
        let holdup = places::holdup(state, columns.get(Of::waits)?);
        let position = Position { priority: Reverse(records::priority(columns.get(Of::rank)?)?), id };
        let from = columns.parse(Of::pool, |name| Some(Arc::from(name)))?;
        let needs = columns.parse(Of::labels, Needs::parse)?;
        Ok(Stand {
            state,
            attempt: columns.get(Of::attempt)?,
            unmet: Unmet {
                hold: columns.get(Of::hold)?,
                others: columns.get(Of::others)?,
                follows: follows > 0,
                start_us: columns.get(Of::not_before_us)?,
            },
            environment: columns.get(Of::environment)?,
            is_idle: holdup.is_some() || state == State::Held,
            at: Assigned { position, needs, from, holdup },
        })
    });
    stand.optional()
}

fn why_not(
    connection: &Connection,
    id: JobId,
    work: &Work,
    edit: &Edit,
    stand: &Stand,
) -> Result<Option<NotEdited>> {
    if edit.has_conditions() && (stand.attempt > 0 || stand.state == State::Retrying) {
        return Ok(Some(NotEdited::Tried));
    }
    for after in edit.after.iter().flatten() {
        // So there can be no circle of jobs.
        if after.id >= id {
            return Ok(Some(NotEdited::PriorLater(after.id)));
        }
        if let Some(ArrayPart::Element(element)) = work.array.as_deref()
            && let Some(first) = arrays::first_of(connection, element.array)?
            && !element.may_follow(after.id, first)
        {
            return Ok(Some(NotEdited::PriorWithArray(after.id)));
        }
        if has_ended(connection, after.id)?.is_none() {
            return Ok(Some(NotEdited::PriorGone(after.id)));
        }
    }
    Ok(None)
}

fn write(
    connection: &Connection,
    environments: &mut Environments,
    change: &JobEdit,
    work: &Work,
    old_environment: i64,
) -> Result<()> {
    let id = change.id;
    let environment = match environments.load(connection, old_environment)? {
        old if old == work.environment => old_environment,
        _ => environments.intern(connection, &work.environment)?,
    };
    let json =
        |argv| serde_json::to_string(argv).map_err(|error| Error::ToSqlConversionFailure(error.into()));
    let (argv, call) = match &work.kind {
        JobKind::Exec(argv) => (json(argv)?, None),
        JobKind::Call(call) => ("[]".to_owned(), Some(call)),
    };
    // Those that stay may be in a file.
    let new_params = call.filter(|_| change.edit.params.is_some());
    let update = "UPDATE jobs SET pool = ?2, name = ?3, argv = ?4, method = ?5,
                      params = iif(?22, ?6, params), cwd = ?7, environment = ?8, memory_limit_bytes = ?9,
                      timeout_us = ?10, idle_timeout_us = ?11,
                      kill_after_us = ?12, within_us = ?13, start_within_us = ?14, on_crash = ?15, rank = ?16,
                      labels = ?17, retries = ?18, backoff_us = ?19, jitter = ?20, retry_on = ?21
                  WHERE id = ?1";
    connection.prepare_cached(update)?.execute(params![
        id,
        work.pool,
        work.name.as_ref().map(OsText::as_escaped),
        argv,
        call.map(|call| &call.method),
        new_params.and_then(|call| call.params.as_ref()).map(Json::get),
        work.cwd.as_escaped(),
        environment,
        work.environment.limits.memory_bytes.map(signed),
        work.timeout.map(micros),
        work.idle_timeout.map(micros),
        micros(work.kill_after),
        work.deadline.map(micros),
        work.start_within.map(micros),
        work.on_crash.as_str(),
        rank(work.priority),
        work.needs.to_string(),
        work.retries.allowed,
        micros(work.retries.backoff),
        work.retries.jitter,
        work.retries.on.as_text(),
        change.edit.params.is_some(),
    ])?;
    if environment != old_environment {
        environments.remove_unused(connection, old_environment)?;
    }
    Ok(())
}

fn write_terms(connection: &Connection, id: JobId, change: &JobEdit, work: &Work) -> Result<()> {
    let from_us = change.times.counted_from_us;
    if change.edit.deadline.is_some() {
        let update = "UPDATE jobs SET deadline_us = ?2 WHERE id = ?1";
        connection.prepare_cached(update)?.execute((id, deadline_us(from_us, work)))?;
    }
    if change.edit.start_within.is_some() {
        let update = "UPDATE jobs SET start_by_us = ?2 WHERE id = ?1";
        connection.prepare_cached(update)?.execute((id, start_by_us(from_us, work)))?;
    }
    Ok(())
}

fn write_callbacks(connection: &Connection, change: &JobEdit) -> Result<()> {
    let &JobEdit { id, ref edit, next_job, first_callback, .. } = change;
    if edit.callbacks.is_empty() {
        return Ok(());
    }
    meta::take_ids(connection, next_job, 0, first_callback, edit.count_callbacks() as u64)?;
    let mut remove = connection.prepare_cached("DELETE FROM callbacks WHERE job = ?1 AND kind = ?2")?;
    let mut insert = connection
        .prepare_cached("INSERT INTO callbacks (id, job, kind, command) VALUES (?1, ?2, ?3, ?4)")?;
    let mut ids = (first_callback.0..).map(CallbackId);
    for (on, commands) in &edit.callbacks {
        remove.execute((id, on.as_str()))?;
        for (command, callback) in commands.iter().zip(ids.by_ref()) {
            insert.execute((callback, id, on.as_str(), command.as_escaped()))?;
        }
    }
    Ok(())
}

/// What the job has to wait for now, and the job that has ended otherwise than it was to.
fn write_conditions(
    connection: &Connection,
    id: JobId,
    change: &JobEdit,
    mut unmet: Unmet,
) -> Result<(Unmet, Option<JobId>)> {
    let mut failed = None;
    if let Some(after) = &change.edit.after {
        dependents::forget(connection, id)?;
        let Open { others, failed: at_fault } = dependents::add(connection, id, after)?;
        (unmet.others, failed) = (others, at_fault);
        let update = "UPDATE jobs SET others = ?2, depends_on = ?3 WHERE id = ?1";
        connection.prepare_cached(update)?.execute((id, others, retry::after_text(after)))?;
    }
    if let Some(start) = change.edit.start {
        unmet.start_us = start.map(|start| due_us(&change.times, start));
        let at_us = match start {
            Some(NotBefore::At { us }) => Some(us),
            Some(NotBefore::Delay(_)) | None => None,
        };
        let update = "UPDATE jobs SET not_before_us = ?2, at_us = ?3 WHERE id = ?1";
        connection.prepare_cached(update)?.execute((id, unmet.start_us, at_us))?;
    }
    Ok((unmet, failed))
}

/// Has the job wait for what comes first. `is_new`: that may be something else than before.
fn wait_for(connection: &Connection, id: JobId, unmet: Unmet, is_new: bool) -> Result<Option<Until>> {
    let until = unmet.first();
    if is_new {
        let update = "UPDATE jobs SET state = ?2, waits = ?3 WHERE id = ?1";
        let state = unmet.place().state().as_str();
        connection.prepare_cached(update)?.execute((id, state, until.is_some()))?;
        match until {
            Some(until) => waits::add(connection, Unit::Job(id), until)?,
            None => waits::remove(connection, Unit::Job(id))?,
        }
    }
    Ok(until)
}

columns! {
    DefinedColumn {
        state, attempt, unique_name, hold, not_before_us, at_us, depends_on,
        may_lack_params = "stripped AND method IS NOT NULL AND params IS NULL",
    }
    DEFINED: "FROM jobs WHERE id = ?1";
}

columns! {
    CommandColumn { kind, command }
    OF_JOB: "FROM callbacks WHERE job = ?1 ORDER BY id";
}

/// What a job is to do.
pub fn definition(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    id: JobId,
) -> Result<Option<Definition>> {
    let Some(ready) = records::ready(connection, environments, values, id)? else { return Ok(None) };
    let mut work = Work::clone(&ready.work);
    let is_lost = work.call().is_some_and(|call| call.lost.is_some());

    let mut select = connection.prepare_cached(CommandColumn::OF_JOB)?;
    let callbacks = select.query_map([id], |row| {
        let columns = Columns::of(row);
        let on = columns.parse(CommandColumn::kind, On::parse)?;
        Ok(NewCallback { on, command: columns.os_text(CommandColumn::command)? })
    })?;
    work.callbacks = callbacks.collect::<Result<_>>()?;
    if work.plan().is_some() {
        work.callbacks.extend(arrays::element_callbacks(connection, id)?);
    }

    let mut select = connection.prepare_cached(DefinedColumn::DEFINED)?;
    let definition = select.query_row([id], |row| {
        use DefinedColumn as Of;

        let columns = Columns::of(row);
        let name = columns.optional_os_text(Of::unique_name)?;
        work.unique = name.map(|name| Unique { name, if_exists: IfExists::default() });
        let start_us: Option<i64> = columns.get(Of::not_before_us)?;
        let at_us: Option<i64> = columns.get(Of::at_us)?;
        let written: Option<String> = columns.get(Of::depends_on)?;
        let conditions = Conditions {
            hold: columns.get(Of::hold)?,
            start: start_us.map(|us| NotBefore::At { us: at_us.unwrap_or(us) }),
            after: written.as_deref().map(retry::read_after).unwrap_or_default(),
        };
        work.conditions = (conditions != Conditions::default()).then(|| Box::new(conditions));
        Ok(Definition {
            work,
            state: columns.parse(Of::state, State::parse)?,
            attempts: columns.get(Of::attempt)?,
            may_lack_params: is_lost || columns.get(Of::may_lack_params)?,
        })
    })?;
    Ok(Some(definition))
}
