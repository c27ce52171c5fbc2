//! How a pool works off its jobs, for an estimate of when one starts: looked up when somebody asks, in
//! bounded parts of two indexes, so that it costs a job nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pool_proto::State;
use rusqlite::{Connection, Result, params};

use super::columns::{Columns, columns};
use super::listed::{MAX_KEEP, next_line};
use super::queries::places;
use crate::engine::{LINE_HEAD, MAX_PACED_LINES, PACED, Pace, Ran};
use crate::job::{Needs, Position};

columns! {
    RanColumn {
        state, started_us, ended_us, labels, is_array = "array IS NOT NULL AND array_index IS NULL",
    }
    LATEST: "FROM jobs INDEXED BY jobs_history
             WHERE ended_us IS NOT NULL AND undelivered = 0 AND keep = ?1 AND pool = ?2
             ORDER BY ended_us DESC LIMIT ?3";
}

/// See [`Question::Pace`](crate::engine::Question::Pace). Where the order is not known, what has ended is not
/// looked for either: without the order it says nothing.
pub fn pace(connection: &Connection, pool: &str) -> Result<Pace> {
    match order(connection, pool)? {
        Some(order) => Ok(Pace { order: Some(order), ran: ran(connection, pool)? }),
        None => Ok(Pace { order: None, ran: Vec::new() }),
    }
}

/// Merges the lines piece by piece, so that little more is read of all of them than is told.
fn order(connection: &Connection, pool: &str) -> Result<Option<Vec<Position>>> {
    let Some(lines) = lines(connection, pool)? else { return Ok(None) };
    let mut next_size = vec![LINE_HEAD / lines.len(); lines.len()];
    // Each piece of a line is twice as long as the one before, since a read goes over those before it again.
    let mut read = |line: usize, after| {
        let size = next_size[line];
        next_size[line] *= 2;
        places(connection, pool, &lines[line], after, size).map(Vec::into_iter)
    };

    let mut pieces = (0..lines.len()).map(|line| read(line, None)).collect::<Result<Vec<_>>>()?;
    let mut firsts: BinaryHeap<Reverse<(Position, usize)>> = BinaryHeap::new();
    for (line, piece) in pieces.iter_mut().enumerate() {
        firsts.extend(piece.next().map(|first| Reverse((first, line))));
    }

    let mut order = Vec::new();
    while order.len() < LINE_HEAD
        && let Some(Reverse((first, line))) = firsts.pop()
    {
        order.push(first);
        if pieces[line].len() == 0 {
            pieces[line] = read(line, Some(first))?;
        }
        firsts.extend(pieces[line].next().map(|next| Reverse((next, line))));
    }
    Ok(Some(order))
}

/// The lines of a pool by what their jobs need. None where there are too many of them.
fn lines(connection: &Connection, pool: &str) -> Result<Option<Vec<String>>> {
    let mut lines = vec![String::new()];
    while let Some(next) = next_line(connection, pool, &lines[lines.len() - 1])? {
        if lines.len() == MAX_PACED_LINES {
            return Ok(None);
        }
        lines.push(next);
    }
    Ok(Some(lines))
}

/// An array lasts as long as its elements do, which count themselves; and what was canceled says nothing.
fn ran(connection: &Connection, pool: &str) -> Result<Vec<Ran>> {
    let mut all = Vec::new();
    for keep in 0..=MAX_KEEP {
        let mut select = connection.prepare_cached(RanColumn::LATEST)?;
        let mut rows = select.query(params![keep, pool, i64::try_from(PACED).unwrap_or(i64::MAX)])?;
        while let Some(row) = rows.next()? {
            let columns = Columns::of(row);
            let state = columns.parse(RanColumn::state, State::parse)?;
            let started_us: Option<i64> = columns.get(RanColumn::started_us)?;
            let Some(started_us) = started_us.filter(|_| Ran::tells(state)) else { continue };
            if columns.get(RanColumn::is_array)? {
                continue;
            }
            let ended_us: i64 = columns.get(RanColumn::ended_us)?;
            let slots = columns.parse(RanColumn::labels, Needs::parse)?.slots;
            all.push(Ran { ended_us, lasted_us: (ended_us - started_us).max(0).unsigned_abs(), slots });
        }
    }
    Ok(Ran::latest(all))
}
