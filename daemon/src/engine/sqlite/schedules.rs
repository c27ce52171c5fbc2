//! Schedules, as the next start is to find them.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result};

use super::columns::{Columns, columns};
use crate::job::{JobId, KeptSchedule, LastFiring, Pause, UserId};

columns! {
    ScheduleColumn { name, definition, from_us, over_us, last_us, last_job, last_skipped, paused_us, paused_by }
    SCHEDULES: "FROM schedules";
}

/// Keeps a schedule, or without one forgets it.
pub fn set(connection: &Connection, name: &str, schedule: Option<&KeptSchedule>) -> Result<()> {
    let Some(KeptSchedule { definition, from_us, over_us, last, pause }) = schedule else {
        connection.prepare_cached("DELETE FROM schedules WHERE name = ?1")?.execute([name])?;
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO schedules
                 (name, definition, from_us, over_us, last_us, last_job, last_skipped, paused_us, paused_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            name,
            definition,
            from_us,
            over_us,
            last.map(|last| last.due_us),
            last.map(|last| last.job),
            last.map(|last| last.is_skipped),
            pause.map(|pause| pause.since_us),
            pause.map(|pause| pause.by.get()),
        ))?;
    Ok(())
}

/// All of them, by name.
pub fn read(connection: &Connection) -> Result<BTreeMap<String, KeptSchedule>> {
    let mut select = connection.prepare(ScheduleColumn::SCHEDULES)?;
    let schedules = select.query_map([], |row| {
        let columns = Columns::of(row);
        let last_us: Option<i64> = columns.get(ScheduleColumn::last_us)?;
        let job: Option<JobId> = columns.get(ScheduleColumn::last_job)?;
        let is_skipped = columns.get::<Option<bool>>(ScheduleColumn::last_skipped)? == Some(true);
        let last = last_us.zip(job).map(|(due_us, job)| LastFiring { due_us, job, is_skipped });
        let since_us: Option<i64> = columns.get(ScheduleColumn::paused_us)?;
        let by: Option<u32> = columns.get(ScheduleColumn::paused_by)?;
        let pause = since_us.zip(by).map(|(since_us, by)| Pause { since_us, by: UserId::new(by) });
        let kept = KeptSchedule {
            definition: columns.get(ScheduleColumn::definition)?,
            from_us: columns.get(ScheduleColumn::from_us)?,
            over_us: columns.get(ScheduleColumn::over_us)?,
            last,
            pause,
        };
        Ok((columns.get(ScheduleColumn::name)?, kept))
    })?;
    schedules.collect()
}
