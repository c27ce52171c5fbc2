//! Keys: a submission that is repeated is recognised by its key, which at most one job has.
//!
//! ```text
//! nobody has the key ─────────────────────────────────────────▶ the new job gets it
//! a job has it that ended without success, of another round ──▶ the new job gets it, the old one loses it
//! any other job has it ───────────────────────────────────────▶ nothing is added, that job is the answer
//! ```
//!
//! All of it happens in the transaction that adds the jobs, so that no two submissions can both find a key
//! free.

use std::collections::HashMap;
use std::sync::Arc;

use pool_proto::nouns::IfExists;
use pool_proto::{OsText, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::{Columns, columns};
use super::turns::{Follows, Names};
use crate::engine::Turns;
use crate::job::{IdMap, JobId, Key, Work};

/// What is to become of jobs with keys and unique names.
#[derive(Debug, Default)]
pub struct Claims {
    /// The places of those that are not to be added, in order, and who has their keys or names.
    pub existing: Vec<(usize, JobId)>,
    /// Jobs that lose their keys.
    pub outgoing: Vec<JobId>,
    /// Those that are to be added and follow others.
    pub follows: IdMap<JobId, Follows>,
    pub turns: Turns,
}

struct Holder {
    id: JobId,
    state: State,
    round: Option<String>,
}

columns! {
    HolderColumn { id, state, round }
    BY_KEY: "FROM jobs WHERE key = ?1";
}

/// Looks who has the keys and the unique names of jobs with ids from `first` on; of several with the same key
/// the first is the one. A key decides before a name does.
pub fn look_up(connection: &Connection, first: JobId, jobs: &[Arc<Work>]) -> Result<Claims> {
    let mut claims = Claims::default();
    let mut given: HashMap<&OsText, JobId> = HashMap::new();
    let mut names = Names::default();
    for (place, (id, work)) in (first.0..).map(JobId).zip(jobs).enumerate() {
        let mut outgoing = None;
        if let Some(key) = &work.key {
            let holder = match given.get(&key.text) {
                Some(&other) => Some(other),
                None => match holder(connection, &key.text)? {
                    Some(holder) if holder.gives_way_to(key) => {
                        outgoing = Some(holder.id);
                        None
                    }
                    holder => holder.map(|holder| holder.id),
                },
            };
            if let Some(holder) = holder {
                claims.existing.push((place, holder));
                given.insert(&key.text, holder);
                continue;
            }
        }

        let mut one = id;
        if let Some(unique) = &work.unique {
            match names.claim(connection, id, unique, &mut claims.turns)? {
                Ok(Follows::Nobody) => {}
                Ok(follows) => _ = claims.follows.insert(id, follows),
                Err((other, state)) => {
                    claims.existing.push((place, other));
                    if unique.if_exists == IfExists::Skip {
                        claims.turns.skipped.push((place, state));
                    }
                    one = other;
                }
            }
        }
        if let Some(key) = &work.key {
            given.insert(&key.text, one);
        }
        claims.outgoing.extend(outgoing.filter(|_| one == id));
    }
    Ok(claims)
}

/// The job that has a key, and does not lose it to a job with this one.
pub fn keeper(connection: &Connection, key: &Key) -> Result<Option<JobId>> {
    let holder = holder(connection, &key.text)?;
    Ok(holder.filter(|holder| !holder.gives_way_to(key)).map(|holder| holder.id))
}

/// Takes the keys of these jobs from them.
pub fn release(connection: &Connection, outgoing: &[JobId]) -> Result<()> {
    let mut update = connection.prepare_cached("UPDATE jobs SET key = NULL WHERE id = ?1")?;
    outgoing.iter().try_for_each(|id| update.execute([id]).map(|_| ()))
}

fn holder(connection: &Connection, key: &OsText) -> Result<Option<Holder>> {
    let mut select = connection.prepare_cached(HolderColumn::BY_KEY)?;
    let read = |row: &Row<'_>| {
        let columns = Columns::of(row);
        Ok(Holder {
            id: columns.get(HolderColumn::id)?,
            state: columns.parse(HolderColumn::state, State::parse)?,
            round: columns.get(HolderColumn::round)?,
        })
    };
    select.query_row([key.as_escaped()], read).optional()
}

impl Holder {
    fn gives_way_to(&self, key: &Key) -> bool {
        let has_failed = self.state.is_terminal() && self.state != State::Succeeded;
        has_failed && key.round.is_some() && key.round != self.round
    }
}
