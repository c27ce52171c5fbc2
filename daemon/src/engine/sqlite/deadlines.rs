//! Deadlines of jobs, in an index by their time. Nothing is changed here but by a start: whoever asks which
//! are over has these jobs ended, and until then they are found.

use rusqlite::{Connection, Result};

use super::columns::{Columns, columns};
use crate::job::JobId;

columns! {
    DeadlineColumn { id, deadline_us }
    // First what remains of one time, then what is of later ones: in one condition, SQLite would search for
    // the place through all that is of that time.
    OF_TIME: "FROM jobs INDEXED BY jobs_deadline
              WHERE deadline_us IS NOT NULL AND ended_us IS NULL AND deadline_us = ?1 AND id > ?2
              ORDER BY deadline_us, id LIMIT ?3";
    OF_LATER_TIMES: "FROM jobs INDEXED BY jobs_deadline
                     WHERE deadline_us IS NOT NULL AND ended_us IS NULL AND deadline_us > ?1
                         AND ?2 IS NOT NULL
                     ORDER BY deadline_us, id LIMIT ?3";
}

/// A deadline and its job: the order in which they are told.
type Over = (i64, JobId);

/// Jobs whose deadline is over by then, after this one; and the first deadline beyond them.
pub fn overdue(
    connection: &Connection,
    after: Option<Over>,
    until_us: i64,
    limit: u32,
) -> Result<(Vec<Over>, Option<i64>)> {
    let (us, id) = after.unwrap_or((i64::MIN, JobId(0)));
    let mut jobs: Vec<Over> = Vec::new();
    for select in [DeadlineColumn::OF_TIME, DeadlineColumn::OF_LATER_TIMES] {
        let mut select = connection.prepare_cached(select)?;
        let mut rows = select.query((us, id, i64::from(limit) + 1))?;
        while let Some(row) = rows.next()? {
            let columns = Columns::of(row);
            let deadline_us = columns.get(DeadlineColumn::deadline_us)?;
            if deadline_us > until_us || jobs.len() == limit as usize {
                return Ok((jobs, Some(deadline_us)));
            }
            jobs.push((deadline_us, columns.get(DeadlineColumn::id)?));
        }
    }
    Ok((jobs, None))
}

/// The first deadline of all.
pub fn first(connection: &Connection) -> Result<Option<i64>> {
    let first = "SELECT min(deadline_us) FROM jobs INDEXED BY jobs_deadline
                 WHERE deadline_us IS NOT NULL AND ended_us IS NULL";
    connection.query_row(first, [], |row| row.get(0))
}

/// A start finds what was written by a clock that may have been set back since: nothing has longer from now
/// than it was given.
pub fn bound(connection: &Connection, now_us: i64) -> Result<()> {
    let update = "WITH late AS (
            SELECT id AS late_id, ?1 + within_us AS latest FROM jobs INDEXED BY jobs_deadline
            WHERE deadline_us IS NOT NULL AND ended_us IS NULL
                AND deadline_us > ?1 AND deadline_us - within_us > ?1
        )
        UPDATE jobs SET deadline_us = latest FROM late WHERE jobs.id = late_id";
    connection.execute(update, [now_us])?;
    Ok(())
}
