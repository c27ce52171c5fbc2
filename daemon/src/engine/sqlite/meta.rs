//! What is of no job: ids, the boot of the machine, pools that were added at run time, pools that are paused,
//! their numbers of workers, and limits of labels.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result};

use super::columns::signed;
use crate::engine::Boot;
use crate::job::{CallbackId, JobId, Pause};

/// In the jobs' own transaction, so that ids only ever grow, whatever is removed later. False where such ids
/// were given out before.
pub fn take_ids(
    connection: &Connection,
    first: JobId,
    jobs: u64,
    first_callback: CallbackId,
    callbacks: u64,
) -> Result<bool> {
    let next = JobId(first.0 + jobs);
    let next_callback = CallbackId(first_callback.0 + callbacks);
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

/// The boot that the last start was in.
pub fn last_boot(connection: &Connection) -> Result<Boot> {
    connection.query_row("SELECT boot_id, boot_began_us FROM meta", [], |row| {
        Ok(Boot { id: row.get(0)?, began_us: row.get(1)? })
    })
}

/// Processes are of this boot from now on, and what waits goes by its clock.
pub fn booted(connection: &Connection, boot: &Boot) -> Result<()> {
    let update = "UPDATE meta SET boot_id = ?1, boot_began_us = ?2
                  WHERE boot_id IS NOT ?1 OR boot_began_us IS NOT ?2";
    connection.prepare_cached(update)?.execute((&boot.id, boot.began_us))?;
    Ok(())
}

/// Keeps a pool, or without a value forgets it, with its pause and its number of workers.
pub fn set_pool(connection: &Connection, name: &str, value: Option<&str>) -> Result<()> {
    match value {
        Some(value) => connection
            .prepare_cached("INSERT OR REPLACE INTO pools (name, value) VALUES (?1, ?2)")?
            .execute((name, value))?,
        None => {
            resume(connection, name)?;
            set_workers(connection, name, None)?;
            connection.prepare_cached("DELETE FROM pools WHERE name = ?1")?.execute([name])?
        }
    };
    Ok(())
}

/// Pauses these pools, or without a pause resumes them.
pub fn set_pause(connection: &Connection, pools: &[String], pause: Option<&Pause>) -> Result<()> {
    for pool in pools {
        match pause {
            Some(pause) => start_pause(connection, pool, pause)?,
            None => resume(connection, pool)?,
        }
    }
    Ok(())
}

/// Keeps the number of a pool's workers, or without one forgets it.
pub fn set_workers(connection: &Connection, pool: &str, workers: Option<u32>) -> Result<()> {
    match workers {
        Some(workers) => connection
            .prepare_cached("INSERT OR REPLACE INTO pool_workers (pool, workers) VALUES (?1, ?2)")?
            .execute((pool, workers))?,
        None => connection.prepare_cached("DELETE FROM pool_workers WHERE pool = ?1")?.execute([pool])?,
    };
    Ok(())
}

/// The numbers that are kept, by the pools' names.
pub fn workers(connection: &Connection) -> Result<BTreeMap<String, u32>> {
    let mut select = connection.prepare("SELECT pool, workers FROM pool_workers")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn start_pause(connection: &Connection, pool: &str, pause: &Pause) -> Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO pauses (pool, since_us, uid) VALUES (?1, ?2, ?3)")?
        .execute((pool, pause.since_us, pause.by.get()))?;
    Ok(())
}

/// Keeps the limit of a label, or without one forgets it.
pub fn set_limit(connection: &Connection, label: &str, limit: Option<u32>) -> Result<()> {
    match limit {
        Some(limit) => connection
            .prepare_cached("INSERT OR REPLACE INTO limits (label, running) VALUES (?1, ?2)")?
            .execute((label, limit))?,
        None => connection.prepare_cached("DELETE FROM limits WHERE label = ?1")?.execute([label])?,
    };
    Ok(())
}

/// Keeps a limit of one, unless the label has a limit here.
pub fn limit_to_one(connection: &Connection, label: &str) -> Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO limits (label, running) VALUES (?1, 1)")?
        .execute([label])?;
    Ok(())
}

fn resume(connection: &Connection, pool: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM pauses WHERE pool = ?1")?.execute([pool])?;
    Ok(())
}
