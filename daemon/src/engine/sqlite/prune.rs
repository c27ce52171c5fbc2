//! Making room: ended jobs beyond the limits are removed, and output beyond its limit, a few at a time. Which
//! go first, [`retention`](crate::engine::retention) says.
//!
//! How much of it there is, running totals say, so that nothing is counted anew. A job with callbacks that
//! are not delivered counts, but cannot go: it is not in the index of what can, so that however many of them
//! there are, no look at the oldest jobs passes them. Files are not touched: the answer names what can go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pool_proto::State;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::columns::{Columns, columns, signed};
use super::environments::Environments;
use super::values::{Values, may_have_files};
use crate::engine::retention::{Census, Group, Standing};
use crate::engine::{Answer, NotRemoved, Room};
use crate::job::{CallbackId, JobId, RequestId};

/// A job whose output and result take more than this is found by its size.
const LARGE: u64 = 1 << 16;

/// Bytes that are freed at once, the last job's apart: others wait for the transaction.
const FREED_BYTES: u64 = 64 << 20;

/// All jobs that have ended.
#[derive(Debug, Default)]
pub struct History {
    /// Changed along with the rows, and set back when a transaction is rolled back.
    pub census: Census,
    /// Up to which end the output of a group has been looked through: what was stripped there is not passed
    /// again.
    looked_at: BTreeMap<Group, i64>,
}

/// What can go of a group, and what could but that somebody waits for it.
#[derive(Default)]
struct Victims {
    jobs: Vec<Victim>,
    spared: u64,
    spared_bytes: u64,
}

/// A job that goes, or whose output goes.
struct Victim {
    id: JobId,
    attempt: u32,
    environment: i64,
    ended_us: i64,
    held_bytes: u64,
}

columns! {
    SumColumn { keep, pool, jobs = "count(*)", held_bytes = "sum(held_bytes)" }
    REMOVABLE: "FROM jobs INDEXED BY jobs_history
                WHERE ended_us IS NOT NULL AND undelivered = 0 GROUP BY keep, pool";
    UNDELIVERED: "FROM jobs INDEXED BY jobs_undelivered WHERE undelivered > 0 GROUP BY keep, pool";
}

columns! {
    VictimColumn { id, attempt, environment, ended_us, held_bytes }
    OLDEST_FIRST: "FROM jobs INDEXED BY jobs_history
                   WHERE ended_us IS NOT NULL AND undelivered = 0 AND keep = ?1 AND pool = ?2
                   ORDER BY ended_us";
    WITH_OUTPUT: "FROM jobs INDEXED BY jobs_history
                  WHERE ended_us IS NOT NULL AND undelivered = 0 AND keep = ?1 AND pool = ?2
                    AND ended_us >= ?3 AND held_bytes > 0
                  ORDER BY ended_us";
}

columns! {
    LargeColumn { id, attempt, held_bytes, keep, pool }
    LARGER_THAN: "FROM jobs INDEXED BY jobs_large
                  WHERE held_bytes > 65536 AND held_bytes > ?1 AND ended_us IS NOT NULL AND undelivered = 0";
}

impl Victims {
    fn add(&mut self, room: &Room, victim: Victim) {
        if room.spares(victim.id) {
            self.spared += 1;
            self.spared_bytes += victim.held_bytes;
        } else {
            self.jobs.push(victim);
        }
    }
}

impl History {
    pub fn read(connection: &Connection) -> Result<Self> {
        let mut history = Self::default();
        for sums in [SumColumn::REMOVABLE, SumColumn::UNDELIVERED] {
            let mut select = connection.prepare(sums)?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let columns = Columns::of(row);
                let group =
                    read_group(columns.get(SumColumn::keep)?, &columns.get::<String>(SumColumn::pool)?);
                history.census.shift(
                    group,
                    columns.get(SumColumn::jobs)?,
                    columns.get(SumColumn::held_bytes)?,
                );
            }
        }
        history.census.commit();
        Ok(history)
    }
}

/// What is unknown counts as ordinary, so that it can go.
pub fn read_group(keep: u8, pool: &str) -> Group {
    Group { standing: Standing::of_rank(keep).unwrap_or(Standing::Ordinary), pool: Arc::from(pool) }
}

columns! {
    NamedColumn {
        id, attempt, environment, ended_us, held_bytes, state, keep, pool,
        is_undelivered = "undelivered > 0",
    }
    BY_ID: "FROM jobs WHERE id = ?1";
}

/// Removes those of these jobs that can go.
pub fn remove(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    history: &mut History,
    request: RequestId,
    ids: &[JobId],
) -> Result<Answer> {
    let mut select = connection.prepare_cached(NamedColumn::BY_ID)?;
    let mut delete = connection.prepare_cached("DELETE FROM jobs WHERE id = ?1")?;
    let (mut jobs, mut others, mut freed) = (Vec::new(), Vec::new(), BTreeSet::new());
    for &id in ids {
        let found = select.query_row([id], |row| {
            let columns = Columns::of(row);
            let pool: String = columns.get(NamedColumn::pool)?;
            let victim = Victim {
                id: columns.get(NamedColumn::id)?,
                attempt: columns.get(NamedColumn::attempt)?,
                environment: columns.get(NamedColumn::environment)?,
                ended_us: columns.get::<Option<i64>>(NamedColumn::ended_us)?.unwrap_or_default(),
                held_bytes: columns.size(NamedColumn::held_bytes)?.unwrap_or(0),
            };
            let group = read_group(columns.get(NamedColumn::keep)?, &pool);
            let state = columns.parse(NamedColumn::state, State::parse)?;
            Ok((victim, group, state, columns.get(NamedColumn::is_undelivered)?))
        });
        let Some((victim, group, state, is_undelivered)) = found.optional()? else {
            others.push((id, NotRemoved::Missing));
            continue;
        };
        if !state.is_terminal() || is_undelivered {
            let why_not = if is_undelivered { NotRemoved::Undelivered } else { NotRemoved::Living(state) };
            others.push((id, why_not));
            continue;
        }
        delete.execute([id])?;
        if may_have_files(victim.held_bytes) {
            values.free(connection, id, None)?;
        }
        history.census.shift(group, -1, -signed(victim.held_bytes));
        freed.insert(victim.environment);
        jobs.push((id, victim.attempt));
    }

    let callbacks = remove_callbacks(connection, &jobs)?;
    for environment in freed {
        environments.remove_unused(connection, environment)?;
    }
    Ok(Answer::Removed { request, jobs, callbacks, others })
}

/// Removes at most `room.batch` jobs, and the output of as many.
pub fn prune(
    connection: &Connection,
    environments: &mut Environments,
    values: &Values,
    history: &mut History,
    room: &Room,
) -> Result<Answer> {
    let (jobs, freed) = (Vec::new(), BTreeSet::new());
    let mut pruning = Pruning { connection, values, history, room, jobs, freed, freed_bytes: 0 };
    let may_be_more = pruning.forget_what_is_too_old()? | pruning.forget_what_is_too_much()?;
    let (outputs, more_output) = pruning.strip()?;
    let Pruning { jobs, freed, .. } = pruning;

    let callbacks = remove_callbacks(connection, &jobs)?;
    for environment in freed {
        environments.remove_unused(connection, environment)?;
    }
    Ok(Answer::Pruned { jobs, callbacks, outputs, more: may_be_more || more_output })
}

struct Pruning<'a> {
    connection: &'a Connection,
    values: &'a Values,
    history: &'a mut History,
    room: &'a Room,
    /// Those that were removed, with their attempts.
    jobs: Vec<(JobId, u32)>,
    /// Environments that nobody may use any more.
    freed: BTreeSet<i64>,
    freed_bytes: u64,
}

impl Pruning<'_> {
    /// How many more may go now.
    fn left(&self, gone: usize) -> usize {
        if self.freed_bytes > FREED_BYTES { 0 } else { (self.room.batch as usize).saturating_sub(gone) }
    }

    /// Whether there may be more.
    fn forget_what_is_too_old(&mut self) -> Result<bool> {
        for group in self.history.census.groups() {
            let before_us = self.room.ended_before_us;
            let left = self.left(self.jobs.len());
            let old = self.oldest(&group, left + 1, |victim| victim.ended_us < before_us)?.jobs;
            let more = old.len() > left;
            self.remove(&group, old.into_iter().take(left).collect())?;
            if more {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn forget_what_is_too_much(&mut self) -> Result<bool> {
        let (mut spent, mut max) = (BTreeSet::new(), self.room.max_jobs);
        while let Some((group, count)) = self.history.census.to_forget(max, &spent) {
            let left = self.left(self.jobs.len());
            if left == 0 {
                // Whether any of them can go, is seen by the next look.
                return Ok(!self.oldest(&group, 1, |_| true)?.jobs.is_empty());
            }
            let wanted = left.min(usize::try_from(count).unwrap_or(usize::MAX));
            let found = self.oldest(&group, wanted, |_| true)?;
            if found.jobs.len() < wanted {
                spent.insert(group.clone());
                // What goes as soon as nobody waits for it is no reason for others to go instead.
                max += found.spared;
            }
            self.remove(&group, found.jobs)?;
        }
        Ok(false)
    }

    /// The oldest jobs of a group that can go, up to the first that is not to go.
    fn oldest(&self, group: &Group, limit: usize, is_one: impl Fn(&Victim) -> bool) -> Result<Victims> {
        let mut select = self.connection.prepare_cached(VictimColumn::OLDEST_FIRST)?;
        let mut rows = select.query(params![group.standing.rank(), group.pool])?;
        let mut found = Victims::default();
        while found.jobs.len() < limit
            && let Some(row) = rows.next()?
        {
            let victim = read_victim(row)?;
            if !is_one(&victim) {
                break;
            }
            found.add(self.room, victim);
        }
        Ok(found)
    }

    fn remove(&mut self, group: &Group, victims: Vec<Victim>) -> Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM jobs WHERE id = ?1")?;
        for Victim { id, attempt, environment, held_bytes, .. } in victims {
            if self.freed_bytes > FREED_BYTES {
                break;
            }
            self.freed_bytes += held_bytes;
            delete.execute([id])?;
            if may_have_files(held_bytes) {
                self.values.free(self.connection, id, None)?;
            }
            self.history.census.shift(group.clone(), -1, -signed(held_bytes));
            self.jobs.push((id, attempt));
            self.freed.insert(environment);
        }
        Ok(())
    }

    /// Takes output and results away, and leaves the records; whether there may be more to take.
    fn strip(&mut self) -> Result<(Vec<(JobId, u32)>, bool)> {
        let mut stripped = Vec::new();
        self.strip_what_is_too_large(&mut stripped)?;

        let (mut spent, mut max) = (BTreeSet::new(), self.room.max_output_bytes);
        while let Some((group, bytes)) = self.history.census.to_strip(max, &spent) {
            let left = self.left(stripped.len());
            if left == 0 {
                return Ok((stripped, true));
            }
            let found = self.with_output(&group, left, bytes)?;
            if found.jobs.is_empty() && self.history.looked_at.remove(&group).is_none() {
                spent.insert(group.clone());
                max += found.spared_bytes;
            }
            for victim in found.jobs {
                if self.freed_bytes > FREED_BYTES {
                    break;
                }
                self.freed_bytes += victim.held_bytes;
                self.history.looked_at.insert(group.clone(), victim.ended_us);
                self.take_output(&group, &victim)?;
                stripped.push((victim.id, victim.attempt));
            }
        }
        Ok((stripped, false))
    }

    /// One that exceeds the limit alone goes before all others: theirs would make no room.
    fn strip_what_is_too_large(&mut self, stripped: &mut Vec<(JobId, u32)>) -> Result<()> {
        let max = self.room.max_output_bytes;
        if max < LARGE || self.history.census.all().bytes <= max {
            return Ok(());
        }
        let mut select = self.connection.prepare_cached(LargeColumn::LARGER_THAN)?;
        let mut rows = select.query([signed(max)])?;
        let mut victims = Vec::new();
        while victims.len() < self.room.batch as usize
            && let Some(row) = rows.next()?
        {
            let columns = Columns::of(row);
            let victim = Victim {
                id: columns.get(LargeColumn::id)?,
                attempt: columns.get(LargeColumn::attempt)?,
                environment: 0,
                ended_us: 0,
                held_bytes: columns.size(LargeColumn::held_bytes)?.unwrap_or(0),
            };
            if !self.room.spares(victim.id) {
                let pool: String = columns.get(LargeColumn::pool)?;
                victims.push((read_group(columns.get(LargeColumn::keep)?, &pool), victim));
            }
        }
        for (group, victim) in victims {
            self.take_output(&group, &victim)?;
            stripped.push((victim.id, victim.attempt));
        }
        Ok(())
    }

    fn with_output(&self, group: &Group, limit: usize, bytes: u64) -> Result<Victims> {
        let from_us = self.history.looked_at.get(group).copied().unwrap_or(i64::MIN);
        let mut select = self.connection.prepare_cached(VictimColumn::WITH_OUTPUT)?;
        let mut rows = select.query(params![group.standing.rank(), group.pool, from_us])?;
        let (mut found, mut looked_at) = (Victims::default(), 0);
        while found.jobs.len() < limit
            && looked_at < bytes + found.spared_bytes
            && let Some(row) = rows.next()?
        {
            let victim = read_victim(row)?;
            looked_at += victim.held_bytes;
            found.add(self.room, victim);
        }
        Ok(found)
    }

    /// What is short stays: it says what the job was, and makes no room.
    fn take_output(&mut self, group: &Group, victim: &Victim) -> Result<()> {
        let mut update = self.connection.prepare_cached(
            "UPDATE jobs SET held_bytes = 0, stripped = 1, value = NULL,
                             error = CASE WHEN octet_length(error) <= 1024 THEN error END,
                             params = CASE WHEN octet_length(params) <= 1024 THEN params END
             WHERE id = ?1",
        )?;
        update.execute([victim.id])?;
        if may_have_files(victim.held_bytes) && self.values.free(self.connection, victim.id, None)? {
            // What is short of it may stand for a file that goes.
            let update = "UPDATE jobs SET error = iif(error LIKE '@%', NULL, error),
                                          params = iif(params LIKE '@%', NULL, params) WHERE id = ?1";
            self.connection.prepare_cached(update)?.execute([victim.id])?;
        }
        self.history.census.shift(group.clone(), 0, -signed(victim.held_bytes));
        Ok(())
    }
}

/// Not by a RETURNING clause, for which SQLite makes a table each time: most jobs have none.
fn remove_callbacks(connection: &Connection, jobs: &[(JobId, u32)]) -> Result<Vec<(CallbackId, u32)>> {
    let mut select = connection.prepare_cached("SELECT id, attempts FROM callbacks WHERE job = ?1")?;
    let mut delete = connection.prepare_cached("DELETE FROM callbacks WHERE id = ?1")?;
    let mut callbacks: Vec<(CallbackId, u32)> = Vec::new();
    for (job, _) in jobs {
        for callback in select.query_map([job], |row| Ok((row.get(0)?, row.get(1)?)))? {
            callbacks.push(callback?);
        }
    }
    for (callback, _) in &callbacks {
        delete.execute([callback])?;
    }
    callbacks.sort_unstable();
    Ok(callbacks)
}

fn read_victim(row: &Row<'_>) -> Result<Victim> {
    let columns = Columns::of(row);
    Ok(Victim {
        id: columns.get(VictimColumn::id)?,
        attempt: columns.get(VictimColumn::attempt)?,
        environment: columns.get(VictimColumn::environment)?,
        ended_us: columns.get(VictimColumn::ended_us)?,
        held_bytes: columns.size(VictimColumn::held_bytes)?.unwrap_or(0),
    })
}
