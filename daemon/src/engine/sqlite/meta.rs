//! What is of no job: ids, the boot of the machine, and pools that were added at run time.

use rusqlite::{Connection, Result};

use super::columns::signed;
use crate::job::{CallbackId, JobId};

/// In the jobs' own transaction, so that ids only ever grow, whatever is removed later. False where such ids
/// were given out before.
pub fn take_ids(
    connection: &Connection,
    first: JobId,
    jobs: usize,
    first_callback: CallbackId,
    callbacks: usize,
) -> Result<bool> {
    let next = JobId(first.0 + jobs as u64);
    let next_callback = CallbackId(first_callback.0 + callbacks as u64);
    let mut update = connection.prepare_cached(
        "UPDATE meta SET next_job = ?2, next_callback = ?4 WHERE next_job <= ?1 AND next_callback <= ?3",
    )?;
    Ok(update.execute((first, next, first_callback, next_callback))? > 0)
}

/// Ids below this one may have been given to jobs that are in no table.
pub fn reserve_ids(connection: &Connection, below: u64) -> Result<()> {
    connection
        .prepare_cached("UPDATE meta SET volatile_below = max(volatile_below, ?1)")?
        .execute([signed(below)])?;
    Ok(())
}

/// Processes are of this boot from now on.
pub fn booted(connection: &Connection, boot_id: &str) -> Result<()> {
    connection.prepare_cached("UPDATE meta SET boot_id = ?1 WHERE boot_id IS NOT ?1")?.execute([boot_id])?;
    Ok(())
}

/// Keeps a pool, or without a value forgets it.
pub fn set_pool(connection: &Connection, name: &str, value: Option<&str>) -> Result<()> {
    match value {
        Some(value) => connection
            .prepare_cached("INSERT OR REPLACE INTO pools (name, value) VALUES (?1, ?2)")?
            .execute((name, value))?,
        None => connection.prepare_cached("DELETE FROM pools WHERE name = ?1")?.execute([name])?,
    };
    Ok(())
}
