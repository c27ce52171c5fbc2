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

use pool_proto::{OsText, State};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::columns::{Columns, columns};
use crate::job::{JobId, Key, Work};

/// What is to become of jobs with keys.
#[derive(Debug, Default)]
pub struct Claims {
    /// The places of those that are not to be added, in order, and who has their keys.
    pub existing: Vec<(usize, JobId)>,
    /// Jobs that lose their keys.
    pub outgoing: Vec<JobId>,
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

/// Looks who has the keys of jobs with ids from `first` on; of several with the same key the first is the
/// one.
pub fn look_up(connection: &Connection, first: JobId, jobs: &[Arc<Work>]) -> Result<Claims> {
    let mut claims = Claims::default();
    let mut given: HashMap<&OsText, JobId> = HashMap::new();
    for (place, (id, work)) in (first.0..).map(JobId).zip(jobs).enumerate() {
        let Some(key) = &work.key else { continue };
        if let Some(&other) = given.get(&key.text) {
            claims.existing.push((place, other));
            continue;
        }
        let holder = match holder(connection, &key.text)? {
            None => id,
            Some(holder) if holder.gives_way_to(key) => {
                claims.outgoing.push(holder.id);
                id
            }
            Some(holder) => {
                claims.existing.push((place, holder.id));
                holder.id
            }
        };
        given.insert(&key.text, holder);
    }
    Ok(claims)
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
