//! Unique names: of the jobs of a name that have not ended, one at most is not waiting for another one.
//!
//! ```text
//! nobody has the name ───────────────────────▶ the new job is added
//! a job has it that has not ended ─┬─ skip ──▶ nothing is added
//!                                  ├─ join ──▶ nothing is added, that job is the answer
//!                                  └─ queue, replace ──▶ the new job is added, and waits for the last one
//! ```
//!
//! As keys are, names are looked up in the transaction that adds the jobs, and an index holds what is said
//! above. The end of a job is the trigger of [`Until::Predecessor`](crate::job::Until::Predecessor): in its
//! transaction the next one of its name is in its line. What is to be replaced is canceled by the core; until
//! that has happened, a start finds it here.

use std::collections::HashMap;

use pool_proto::nouns::IfExists;
use pool_proto::{OsText, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::{Columns, columns};
use super::environments::Environments;
use super::values::Values;
use super::{records, waits};
use crate::engine::{Released, Turns};
use crate::job::{JobId, Ready, Unique, Until};

/// How a new job follows others of its name, as its row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    Nobody = 0,
    Waits = 1,
    TakesTheirPlace = 2,
}

/// The names of an insertion, each as it is after the jobs that were looked at so far.
#[derive(Debug, Default)]
pub struct Names<'a> {
    names: HashMap<&'a OsText, Name>,
}

/// A name that somebody has.
#[derive(Debug, Clone)]
struct Name {
    /// The one of it that waits for nobody, and its state.
    first: (JobId, State),
    /// The last one that takes the place of all before it.
    heir: Option<JobId>,
    last: JobId,
    /// Those of it that this insertion has added.
    added: Vec<JobId>,
    /// Those that were there before are to be replaced.
    is_swept: bool,
}

columns! {
    FirstColumn { id, state }
    FIRST: "FROM jobs INDEXED BY jobs_unique
            WHERE unique_name = ?1 AND unique_name IS NOT NULL AND follows = 0 AND ended_us IS NULL";
}

const LAST: &str = "SELECT max(id) FROM jobs INDEXED BY jobs_following
                    WHERE unique_name = ?1 AND follows > 0 AND ended_us IS NULL AND id < ?2";
const HEIR: &str = "SELECT max(id) FROM jobs INDEXED BY jobs_following
                    WHERE unique_name = ?1 AND follows > 0 AND ended_us IS NULL AND follows = 2";
const NEXT: &str = "SELECT min(id) FROM jobs INDEXED BY jobs_following
                    WHERE unique_name = ?1 AND follows > 0 AND ended_us IS NULL";
const FOLLOWING: &str = "SELECT id FROM jobs INDEXED BY jobs_following
                         WHERE unique_name = ?1 AND follows > 0 AND ended_us IS NULL ORDER BY id DESC";

/// Of each name the last one that takes the place of others, and those that are before it.
const REPLACED: &str = "
    WITH latest AS (
        SELECT unique_name AS shared, max(id) AS id FROM jobs INDEXED BY jobs_following
        WHERE follows > 0 AND ended_us IS NULL AND follows = 2 GROUP BY unique_name
    )
    SELECT jobs.id, latest.id FROM latest CROSS JOIN jobs INDEXED BY jobs_following ON unique_name = shared
        WHERE follows > 0 AND ended_us IS NULL AND jobs.id < latest.id
    UNION ALL
    SELECT jobs.id, latest.id FROM latest CROSS JOIN jobs INDEXED BY jobs_unique ON unique_name = shared
        WHERE unique_name IS NOT NULL AND follows = 0 AND ended_us IS NULL
    ORDER BY 1 DESC";

impl<'a> Names<'a> {
    /// The next job of the insertion: whom it follows, or the one in whose stead it is not added, with its
    /// state.
    pub fn claim(
        &mut self,
        connection: &Connection,
        id: JobId,
        unique: &'a Unique,
        turns: &mut Turns,
    ) -> Result<std::result::Result<Follows, (JobId, State)>> {
        let Unique { name: text, if_exists } = unique;
        if !self.names.contains_key(text)
            && let Some(name) = read_name(connection, text)?
        {
            self.names.insert(text, name);
        }
        let Some(name) = self.names.get_mut(text) else {
            let first = (id, State::Queued);
            self.names.insert(text, Name { first, heir: None, last: id, added: vec![id], is_swept: true });
            return Ok(Ok(Follows::Nobody));
        };

        let follows = match if_exists {
            // What is about to be replaced is nobody's to wait for.
            IfExists::Skip | IfExists::Join => {
                return Ok(Err(name.heir.map_or(name.first, |heir| (heir, State::Queued))));
            }
            IfExists::Queue => Follows::Waits,
            IfExists::Replace => {
                let before = name.added.drain(..).rev();
                turns.replaced.extend(before.map(|before| (before, id)));
                if !std::mem::replace(&mut name.is_swept, true) {
                    let before = read_following(connection, text)?.into_iter().chain([name.first.0]);
                    turns.replaced.extend(before.map(|before| (before, id)));
                }
                name.heir = Some(id);
                Follows::TakesTheirPlace
            }
        };
        turns.waiting.push((id, name.last));
        name.last = id;
        name.added.push(id);
        Ok(Ok(follows))
    }
}

fn read_name(connection: &Connection, text: &OsText) -> Result<Option<Name>> {
    let mut select = connection.prepare_cached(FirstColumn::FIRST)?;
    let read = |row: &Row<'_>| {
        let columns = Columns::of(row);
        Ok((columns.get(FirstColumn::id)?, columns.parse(FirstColumn::state, State::parse)?))
    };
    let Some(first) = select.query_row([text.as_escaped()], read).optional()? else { return Ok(None) };
    let last = last_before(connection, text.as_escaped(), i64::MAX)?.unwrap_or(first.0);
    let heir = connection.prepare_cached(HEIR)?.query_row([text.as_escaped()], |row| row.get(0))?;
    Ok(Some(Name { first, heir, last, added: Vec::new(), is_swept: false }))
}

fn last_before(connection: &Connection, name: &str, id: i64) -> Result<Option<JobId>> {
    connection.prepare_cached(LAST)?.query_row((name, id), |row| row.get(0))
}

fn read_following(connection: &Connection, text: &OsText) -> Result<Vec<JobId>> {
    let mut select = connection.prepare_cached(FOLLOWING)?;
    select.query_map([text.as_escaped()], |row| row.get(0))?.collect()
}

/// The job that this one waits for, which follows others of that name.
pub fn predecessor(connection: &Connection, name: &str, id: JobId) -> Result<Option<JobId>> {
    if let Some(last) = last_before(connection, name, id.0.cast_signed())? {
        return Ok(Some(last));
    }
    let mut select = connection.prepare_cached(FirstColumn::FIRST)?;
    select.query_row([name], |row| Columns::of(row).get(FirstColumn::id)).optional()
}

/// The trigger of [`Until::Predecessor`](crate::job::Until::Predecessor): the job that has had the turn of
/// that name has ended, and the next one has it.
pub fn pass_on(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    name: &str,
) -> Result<Option<(Ready, Option<Until>)>> {
    let next: Option<JobId> = connection.prepare_cached(NEXT)?.query_row([name], |row| row.get(0))?;
    let Some(id) = next else { return Ok(None) };
    connection.prepare_cached("UPDATE jobs SET follows = 0 WHERE id = ?1")?.execute([id])?;
    // What waits for something else as well goes on waiting, with the turn.
    let Some(Released { until, .. }) = waits::go_on(connection, id, State::Queued)? else { return Ok(None) };
    Ok(records::ready(connection, environments, values, id)?.map(|ready| (ready, until)))
}

/// What a start finds: jobs that are still to be canceled, the latest first, each with the one that takes its
/// place.
pub fn read_replaced(connection: &Connection) -> Result<Vec<(JobId, JobId)>> {
    let mut select = connection.prepare(REPLACED)?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
