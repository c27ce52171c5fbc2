//! Deadlines of jobs, and the times by which they are to have begun, each in an index by their time. Nothing
//! is changed here but by a start: whoever asks which are over has these jobs ended, and until then they are
//! found.

use rusqlite::{Connection, Result};

use super::columns::{Columns, columns};
use crate::job::{JobId, Term};

columns! {
    StartColumn { id, start_by_us }
    OF_TIME: "FROM jobs INDEXED BY jobs_start_by
              WHERE start_by_us IS NOT NULL AND attempt = 0 AND ended_us IS NULL AND start_by_us = ?1
                  AND id > ?2
              ORDER BY start_by_us, id LIMIT ?3";
    OF_LATER_TIMES: "FROM jobs INDEXED BY jobs_start_by
                     WHERE start_by_us IS NOT NULL AND attempt = 0 AND ended_us IS NULL AND start_by_us > ?1
                         AND ?2 IS NOT NULL
                     ORDER BY start_by_us, id LIMIT ?3";
}

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

/// Jobs whose time is over by then, after this one; and the first time beyond them.
pub fn overdue(
    connection: &Connection,
    term: Term,
    after: Option<Over>,
    until_us: i64,
    limit: u32,
) -> Result<(Vec<Over>, Option<i64>)> {
    let (us, id) = after.unwrap_or((i64::MIN, JobId(0)));
    let mut jobs: Vec<Over> = Vec::new();
    let selects = match term {
        Term::End => [DeadlineColumn::OF_TIME, DeadlineColumn::OF_LATER_TIMES],
        Term::Start => [StartColumn::OF_TIME, StartColumn::OF_LATER_TIMES],
    };
    for select in selects {
        let mut select = connection.prepare_cached(select)?;
        let mut rows = select.query((us, id, i64::from(limit) + 1))?;
        while let Some(row) = rows.next()? {
            let (id, us) = match term {
                Term::End => {
                    let columns = Columns::of(row);
                    (columns.get(DeadlineColumn::id)?, columns.get(DeadlineColumn::deadline_us)?)
                }
                Term::Start => {
                    let columns = Columns::of(row);
                    (columns.get(StartColumn::id)?, columns.get(StartColumn::start_by_us)?)
                }
            };
            if us > until_us || jobs.len() == limit as usize {
                return Ok((jobs, Some(us)));
            }
            jobs.push((us, id));
        }
    }
    Ok((jobs, None))
}

/// The first time of all.
pub fn first(connection: &Connection, term: Term) -> Result<Option<i64>> {
    let first = match term {
        Term::End => {
            "SELECT min(deadline_us) FROM jobs INDEXED BY jobs_deadline
             WHERE deadline_us IS NOT NULL AND ended_us IS NULL"
        }
        Term::Start => {
            "SELECT min(start_by_us) FROM jobs INDEXED BY jobs_start_by
             WHERE start_by_us IS NOT NULL AND attempt = 0 AND ended_us IS NULL"
        }
    };
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
    let update = "WITH late AS (
            SELECT id AS late_id, ?1 + start_within_us AS latest FROM jobs INDEXED BY jobs_start_by
            WHERE start_by_us IS NOT NULL AND attempt = 0 AND ended_us IS NULL
                AND start_by_us > ?1 AND start_by_us - start_within_us > ?1
        )
        UPDATE jobs SET start_by_us = latest FROM late WHERE jobs.id = late_id";
    connection.execute(update, [now_us])?;
    Ok(())
}
