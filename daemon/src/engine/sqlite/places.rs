//! Where jobs are: the one operation that changes it.
//!
//! `ended_us` is set with the final state and never cleared, so `ended_us IS NULL` guards each change: what
//! has ended stays as it is.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use pool_proto::State;
use pool_proto::nouns::MemoryLimiter;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::columns::{Columns, columns, signed};
use super::plain::Plain;
use super::values::{Part, Values};
use super::{arrays, attempts, records, values, waits};
use crate::engine::retention::{Group, Standing};
use crate::engine::{Assigned, Dequeued, Fence, Move, NotAssigned};
use crate::job::{Holdup, JobId, Needs, Outcome, Place, Position, Process, Start, StopReason, Tries, Unit};

/// What a job has left behind, of use to whoever ends it.
#[derive(Debug, Default)]
pub struct Left {
    /// Where it was queued; known under [`Fence::Idle`] alone.
    pub line: Option<Dequeued>,
    /// The token of its spooled input; read for an end alone.
    pub stdin: Option<String>,
    /// How the history counts it, and the bytes that it holds there; of an end alone.
    pub ended: Option<(Group, u64)>,
    /// The unique name that is another one's now; of an end alone.
    pub turn: Option<String>,
    /// It had others to wait for; of an end alone.
    pub had_others: bool,
    /// The array that it is, or is an element of; of an end alone.
    pub array: Option<JobId>,
}

/// What the row must satisfy to be changed.
#[derive(Clone, Copy)]
struct Guard {
    /// No attempt after this one was counted.
    attempt: u32,
    /// It may wait: what the table of waits has of it is removed.
    may_wait: bool,
}

/// Puts a job somewhere else; none where the fence does not hold, and then nothing is changed. `plain`: the
/// job is known by heart.
pub fn place(
    connection: &Connection,
    values: &Values,
    moved: &Move,
    plain: Option<Plain>,
) -> Result<Option<Left>> {
    let unit = Unit::Job(moved.id);
    let (left, changed) = match moved.fence {
        Fence::Attempt(attempt) => {
            let left = left_of(connection, moved, plain)?;
            let guard = Guard { attempt, may_wait: false };
            let mut changed = update(connection, moved, moved.tries, guard, &left)?;

            // Whoever has an attempt need not know that the job waits meanwhile; no machine of ours does
            // that, so it may cost more.
            if !changed && is_waiting(connection, moved.id, attempt)? {
                waits::remove(connection, unit)?;
                changed = update(connection, moved, moved.tries, Guard { attempt, may_wait: true }, &left)?;
            }
            (left, changed)
        }
        Fence::Idle => {
            let idle = match read_idle(connection, moved.id)? {
                Some(idle) => idle,
                None if matches!(moved.to, Place::Ended(_)) && arrays::make_one(connection, moved.id)? => {
                    // Nobody has counted it.
                    Idle { tries: Tries::default(), waits: false, line: None }
                }
                None => {
                    moved.file.iter().for_each(|file| values.give_up(file));
                    return Ok(None);
                }
            };
            if idle.waits {
                waits::remove(connection, unit)?;
            }
            let guard = Guard { attempt: u32::MAX, may_wait: true };
            let left = Left { line: idle.line, ..left_of(connection, moved, plain)? };
            let changed = update(connection, moved, idle.tries, guard, &left)?;
            (left, changed)
        }
    };
    if !changed {
        moved.file.iter().for_each(|file| values.give_up(file));
        return Ok(None);
    }
    if let (Some(file), Place::Ended(outcome)) = (&moved.file, &moved.to)
        && let Some(answer) = outcome.answer_json()
    {
        values.keep(connection, moved.id, Part::Answer, answer, file)?;
    }

    if let Some(past) = &moved.past {
        attempts::add(connection, moved.id, past)?;
    }
    if let Place::Waiting(until) = moved.to {
        waits::add(connection, unit, until)?;
    }
    Ok(Some(left))
}

/// A job that is in its line or waits.
struct Idle {
    tries: Tries,
    waits: bool,
    line: Option<Dequeued>,
}

columns! {
    IdleColumn { state, pool, attempt, crashes, retried, waits }
    IDLE: "FROM jobs WHERE id = ?1 AND state IN ('queued', 'retrying', 'held', 'scheduled', 'blocked')";
}

fn read_idle(connection: &Connection, id: JobId) -> Result<Option<Idle>> {
    let mut select = connection.prepare_cached(IdleColumn::IDLE)?;
    let idle = select.query_row([id], |row| {
        let columns = Columns::of(row);
        let tries = Tries {
            attempts: columns.get(IdleColumn::attempt)?,
            crashes: columns.get(IdleColumn::crashes)?,
            retried: columns.get(IdleColumn::retried)?,
        };
        let pool = columns.parse(IdleColumn::pool, |name| Some(Arc::from(name)))?;
        let waits = columns.get(IdleColumn::waits)?;
        let holdup = holdup(columns.parse(IdleColumn::state, State::parse)?, waits);
        let line = holdup.map(|holdup| Dequeued { pool, holdup });
        Ok(Idle { tries, waits, line })
    });
    idle.optional()
}

/// What keeps a job from its line, by what its row has; none where it is not queued.
pub fn holdup(state: State, waits: bool) -> Option<Holdup> {
    match (state, waits) {
        (State::Queued | State::Retrying, false) => Some(Holdup::None),
        (State::Queued, true) => Some(Holdup::Predecessor),
        (State::Retrying | State::Scheduled, _) => Some(Holdup::Time),
        (State::Blocked, _) => Some(Holdup::Others),
        (
            State::Held
            | State::Running
            | State::Stopping
            | State::Succeeded
            | State::Failed
            | State::Canceled
            | State::TimedOut
            | State::Lost,
            _,
        ) => None,
    }
}

/// See [`Answer::Assigned`](crate::engine::Answer::Assigned).
#[derive(Debug, Default)]
pub struct Moved {
    pub jobs: Vec<Assigned>,
    pub unfit: Vec<(Assigned, NotAssigned)>,
    pub others: Vec<(JobId, NotAssigned)>,
}

columns! {
    PoolColumn { state, pool, labels, rank, waits, is_call = "method IS NOT NULL" }
    TO_ASSIGN: "FROM jobs WHERE id = ?1";
}

/// Has idle jobs in another pool. What they wait for stays.
pub fn assign(connection: &Connection, ids: &[JobId], pool: &str, is_warm: bool) -> Result<Moved> {
    let mut select = connection.prepare_cached(PoolColumn::TO_ASSIGN)?;
    let mut update = connection.prepare_cached("UPDATE jobs SET pool = ?2 WHERE id = ?1")?;
    let mut moved = Moved::default();
    for &id in ids {
        let found = select.query_row([id], |row| {
            let columns = Columns::of(row);
            let state = columns.parse(PoolColumn::state, State::parse)?;
            let holdup = holdup(state, columns.get(PoolColumn::waits)?);
            let priority = Reverse(records::priority(columns.get(PoolColumn::rank)?)?);
            let from = columns.parse(PoolColumn::pool, |name| Some(Arc::from(name)))?;
            let is_call: bool = columns.get(PoolColumn::is_call)?;
            let needs = columns.parse(PoolColumn::labels, Needs::parse)?;
            let position = Position { priority, id };
            Ok((state, is_call, Assigned { position, needs, from, holdup }))
        });
        match found.optional()? {
            None => moved.others.push((id, NotAssigned::Missing)),
            Some((state, _, Assigned { holdup: None, .. })) if state != State::Held => {
                moved.others.push((id, NotAssigned::Beyond(state)));
            }
            Some((_, true, assigned)) if !is_warm => moved.unfit.push((assigned, NotAssigned::Call)),
            Some((_, false, assigned)) if is_warm => moved.unfit.push((assigned, NotAssigned::Command)),
            Some((_, _, assigned)) => {
                update.execute((id, pool))?;
                moved.jobs.push(assigned);
            }
        }
    }
    Ok(moved)
}

fn is_waiting(connection: &Connection, id: JobId, attempt: u32) -> Result<bool> {
    let mut select = connection
        .prepare_cached("SELECT waits FROM jobs WHERE id = ?1 AND ended_us IS NULL AND attempt <= ?2")?;
    Ok(select.query_row((id, attempt), |row| row.get(0)).optional()?.unwrap_or(false))
}

columns! {
    LeftColumn {
        stdin = "CASE WHEN array_index IS NULL THEN stdin END", pool, has_key = "key IS NOT NULL",
        is_told = "tie IS 'client'", is_call = "method IS NOT NULL",
        params_bytes = "iif(octet_length(params) < 64 AND params >= '@' AND params < 'A',
                            CAST(substr(params, 2) AS INTEGER), octet_length(params))",
        others, turn = "CASE follows WHEN 0 THEN unique_name END",
        array,
    }
    BY_ID: "FROM jobs WHERE id = ?1";
}

// Read by itself: for a RETURNING clause SQLite makes a table of its own and keeps a journal of the
// statement.
fn left_of(connection: &Connection, moved: &Move, plain: Option<Plain>) -> Result<Left> {
    let Place::Ended(outcome) = &moved.to else { return Ok(Left::default()) };
    if let Some(plain) = plain {
        return Ok(Left { ended: Some(plain.ended(outcome)), ..Left::default() });
    }
    let mut select = connection.prepare_cached(LeftColumn::BY_ID)?;
    let left = select.query_row([moved.id], |row| {
        let columns = Columns::of(row);
        let has_key = columns.get(LeftColumn::has_key)?;
        let is_told = columns.get(LeftColumn::is_told)?;
        let is_call = columns.get(LeftColumn::is_call)?;
        let standing = Standing::of(outcome.state, has_key, is_told, is_call);
        let pool = columns.parse(LeftColumn::pool, |name| Some(Arc::from(name)))?;
        let params_bytes = columns.size(LeftColumn::params_bytes)?.unwrap_or(0);
        let ended = (Group { standing, pool }, outcome.held_bytes().saturating_add(params_bytes));
        let (stdin, turn) = (columns.get(LeftColumn::stdin)?, columns.get(LeftColumn::turn)?);
        let had_others = columns.get(LeftColumn::others)?;
        let array = columns.get(LeftColumn::array)?;
        Ok(Left { line: None, stdin, ended: Some(ended), turn, had_others, array })
    });
    Ok(left.optional()?.unwrap_or_default())
}

/// An UPDATE of a job that sets what every place sets, `?1` to `?8`, and what only this place does, from `?9`
/// on.
macro_rules! update {
    ($set:literal) => {
        update!($set, "")
    };
    ($set:literal, $start:literal) => {
        concat!(
            "UPDATE jobs SET attempt = ?4, crashes = ?5, retried = ?6, state = ?7, reason = ?8, ",
            $set,
            $start,
            " WHERE id = ?1 AND ended_us IS NULL AND attempt <= ?2 AND waits <= ?3"
        )
    };
}

/// In no slot. The start of the last attempt is forgotten, or an end without another one would seem to have
/// run for hours.
const OUT: &str = update!(
    "waits = ?9, last_crash = coalesce(?10, last_crash),
     slot = NULL, worker_pid = NULL, pid = NULL, started_us = NULL, result = NULL,
     memory_limiter = NULL"
);
const RUNNING: &str = update!(
    "waits = 0, result = NULL, exit_code = NULL, signal = NULL, stripped = 0,
     reserve = CASE WHEN reserve IS NOT NULL THEN zeroblob(48) END",
    ", slot = ?9, worker_pid = ?10, pid = ?11, start_ticks = ?12, started_us = ?13,
       started_since_boot_us = ?14, memory_limiter = ?15"
);
const STOPPING: [&str; 2] = [
    update!("waits = 0, result = ?9"),
    update!(
        "waits = 0, result = ?9",
        ", slot = ?10, worker_pid = ?11, pid = ?12, start_ticks = ?13, started_us = ?14,
           started_since_boot_us = ?15, memory_limiter = ?16"
    ),
];
const ENDED: [&str; 2] = [
    update!(
        "waits = 0, result = ?9, exit_code = ?10, signal = ?11, user_s = ?12, sys_s = ?13,
         max_rss_bytes = ?14, memory_peak_bytes = ?15, stdout_bytes = ?16, stderr_bytes = ?17,
         value = ?18, error = ?19, ended_us = ?20, keep = ?21, held_bytes = ?22,
         reserve = NULL"
    ),
    update!(
        "waits = 0, result = ?9, exit_code = ?10, signal = ?11, user_s = ?12, sys_s = ?13,
         max_rss_bytes = ?14, memory_peak_bytes = ?15, stdout_bytes = ?16, stderr_bytes = ?17,
         value = ?18, error = ?19, ended_us = ?20, keep = ?21, held_bytes = ?22, stripped = 0,
         reserve = NULL",
        ", slot = ?23, worker_pid = ?24, pid = ?25, start_ticks = ?26, started_us = ?27,
           started_since_boot_us = ?28, memory_limiter = ?29"
    ),
];

/// Writes the row; whether it satisfied the guard.
fn update(connection: &Connection, moved: &Move, tries: Tries, guard: Guard, left: &Left) -> Result<bool> {
    let state = moved.to.state().as_str();
    let reason = match &moved.to {
        Place::Ended(outcome) => &outcome.reason,
        Place::Queued { .. } | Place::Waiting(_) | Place::Begun | Place::Running(_) | Place::Stopping(_) => {
            &moved.reason
        }
    };
    let all = params![
        moved.id,
        guard.attempt,
        guard.may_wait,
        tries.attempts,
        tries.crashes,
        tries.retried,
        state,
        reason
    ];

    let changed = match &moved.to {
        Place::Queued { .. } | Place::Waiting(_) => {
            let waits = matches!(moved.to, Place::Waiting(_));
            let crash = moved.reason.as_ref().filter(|_| moved.crashed);
            let crash = crash.map(|reason| format!("attempt {}: {reason}", tries.attempts));
            connection.prepare_cached(OUT)?.execute(&*[all, params![waits, crash]].concat())?
        }
        // Only unfolding puts an array there.
        Place::Begun => 0,
        Place::Running(start) => {
            let start = StartColumns::of(start);
            connection.prepare_cached(RUNNING)?.execute(&*[all, &start.params()].concat())?
        }
        Place::Stopping(reason) => {
            let Some(result) = stop_word(*reason) else {
                tracing::error!(job = %moved.id, "bug: the end of the daemon is no state of a job; ignored");
                return Ok(true);
            };
            let result = params![result];
            execute(connection, STOPPING, all, result, moved.start)?
        }
        Place::Ended(outcome) => {
            let mark = moved.file.as_ref().zip(outcome.answer_json());
            let mark = mark.map(|(file, answer)| values::mark(answer, file));
            write_end(connection, all, outcome, mark.as_deref(), left, moved.start)?
        }
    };
    Ok(changed > 0)
}

fn write_end(
    connection: &Connection,
    all: &[&dyn rusqlite::ToSql],
    outcome: &Outcome,
    mark: Option<&str>,
    left: &Left,
    start: Option<Start>,
) -> Result<usize> {
    let (keep, held_bytes) =
        left.ended.as_ref().map_or((Standing::Ordinary, 0), |(group, bytes)| (group.standing, *bytes));
    let (value, error) = match &outcome.answer {
        Some(Ok(value)) => (Some(mark.unwrap_or(value.get())), None),
        Some(Err(error)) => (None, Some(mark.unwrap_or(error.get()))),
        None => (None, None),
    };
    let end = params![
        outcome.result.as_str(),
        outcome.exit_code,
        outcome.signal,
        outcome.usage.map(|usage| usage.user_s),
        outcome.usage.map(|usage| usage.sys_s),
        outcome.usage.map(|usage| signed(usage.max_rss_bytes)),
        outcome.usage.and_then(|usage| usage.memory_peak_bytes).map(signed),
        outcome.stdout_bytes.map(signed),
        outcome.stderr_bytes.map(signed),
        value,
        error,
        outcome.ended_us,
        keep.rank(),
        signed(held_bytes),
    ];
    execute(connection, ENDED, all, end, start)
}

/// The first statement, or with the start of an attempt, which nobody has told before, the second.
fn execute(
    connection: &Connection,
    [without, with]: [&str; 2],
    all: &[&dyn rusqlite::ToSql],
    own: &[&dyn rusqlite::ToSql],
    start: Option<Start>,
) -> Result<usize> {
    match start {
        None => connection.prepare_cached(without)?.execute(&*[all, own].concat()),
        Some(start) => {
            let start = StartColumns::of(&start);
            connection.prepare_cached(with)?.execute(&*[all, own, &start.params()].concat())
        }
    }
}

/// The start of an attempt, as it is written.
struct StartColumns {
    start: Start,
    pid: Option<crate::job::ProcessId>,
    start_ticks: Option<i64>,
    memory_limiter: Option<&'static str>,
}

impl StartColumns {
    fn of(start: &Start) -> Self {
        let pid = start.process.map(|process: Process| process.pid);
        let start_ticks = start.process.and_then(|process| process.start_ticks).map(signed);
        let memory_limiter = start.memory_limiter.map(MemoryLimiter::as_str);
        Self { start: *start, pid, start_ticks, memory_limiter }
    }

    fn params(&self) -> [&dyn rusqlite::ToSql; 7] {
        let Start { slot, worker, started_us, since_boot_us, .. } = &self.start;
        [slot, worker, &self.pid, &self.start_ticks, started_us, since_boot_us, &self.memory_limiter]
    }
}

/// Why a job is being ended, as its row has it in place of a result; none where that is no fate of a job.
pub fn stop_word(reason: StopReason) -> Option<Cow<'static, str>> {
    Some(match reason {
        StopReason::Canceled => "canceled".into(),
        StopReason::Untied(tie) => format!("untied {tie}").into(),
        StopReason::Replaced(by) => format!("replaced {by}").into(),
        StopReason::TimedOut => "timeout".into(),
        StopReason::Idle => "idle".into(),
        StopReason::Deadline => "deadline".into(),
        StopReason::Late => "late".into(),
        StopReason::Dependency(on) => format!("dependency {on}").into(),
        StopReason::Shutdown => return None,
    })
}

/// Why a job was being ended, from what is written while it is.
pub fn stop_reason(word: &str) -> Option<StopReason> {
    Some(match word.split_once(' ').unwrap_or((word, "")) {
        ("canceled", "") => StopReason::Canceled,
        ("untied", tie) => StopReason::Untied(tie.parse().ok()?),
        ("replaced", by) => StopReason::Replaced(JobId(by.parse().ok()?)),
        ("dependency", on) => StopReason::Dependency(JobId(on.parse().ok()?)),
        ("timeout", "") => StopReason::TimedOut,
        ("idle", "") => StopReason::Idle,
        ("deadline", "") => StopReason::Deadline,
        ("late", "") => StopReason::Late,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Tie;

    #[test]
    fn why_a_job_was_being_ended_is_known_after_a_restart() {
        let reasons = [
            StopReason::Canceled,
            StopReason::Untied(Tie::Job(JobId(7))),
            StopReason::Untied(Tie::Pool),
            StopReason::Replaced(JobId(12)),
            StopReason::Dependency(JobId(12)),
            StopReason::TimedOut,
            StopReason::Idle,
            StopReason::Deadline,
            StopReason::Late,
        ];
        for reason in reasons {
            assert_eq!(stop_word(reason).and_then(|word| stop_reason(&word)), Some(reason));
        }
        assert_eq!(stop_reason("untied nobody"), None);
    }
}
