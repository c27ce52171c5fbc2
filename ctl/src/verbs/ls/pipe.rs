//! Listings for programs and files: in full, in a stable order.

use std::cmp::Ordering;
use std::time::SystemTime;

use pool_proto::methods::{List, ListOrder};
use pool_proto::terminal::printable;
use pool_proto::{Client, ClientError, Record, State};

use super::chosen::Chosen;
use super::format::parse_column;
use crate::tell::outcome;
use crate::tell::record::id_of;
use crate::tell::row::{Column, Row};
use crate::term::text::{self, LONGEST};

/// What a listing is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    column: Column,
    is_reversed: bool,
}

/// Reads a column, behind a - for the greatest first.
///
/// # Errors
/// When there is no such column.
pub fn parse_sort(text: &str) -> Result<Sort, String> {
    let is_reversed = text.starts_with('-');
    Ok(Sort { column: parse_column(text.trim_start_matches('-'))?, is_reversed })
}

impl Sort {
    fn compare(self, one: &Record, other: &Record) -> Ordering {
        let by = match self.column {
            Column::Id => one.id.cmp(&other.id),
            Column::State | Column::Result => one.state.as_str().cmp(other.state.as_str()),
            Column::ExitCode => one.exit_code.cmp(&other.exit_code),
            Column::Pool => one.pool.cmp(&other.pool),
            Column::Time => {
                let time = |job: &Record| job.wall_s.unwrap_or(f64::INFINITY);
                // What runs has run for longest if it has begun first.
                time(one).total_cmp(&time(other)).then_with(|| other.started_at.cmp(&one.started_at))
            }
            // The oldest has the greatest age.
            Column::Age => other.submitted_at.cmp(&one.submitted_at),
            Column::Submitted => one.submitted_at.cmp(&other.submitted_at),
            Column::Started => one.started_at.cmp(&other.started_at),
            Column::Ended => one.ended_at.cmp(&other.ended_at),
            Column::Priority => one.priority.cmp(&other.priority),
            Column::Attempt => one.attempt.cmp(&other.attempt),
            Column::Pid => one.pid.cmp(&other.pid),
            Column::Slot => one.slot.cmp(&other.slot),
            Column::Labels => one.labels.cmp(&other.labels),
            Column::Cwd => one.cwd.cmp(&other.cwd),
            Column::Name | Column::Command | Column::Work | Column::Notes => {
                let cell = |job: &Record| Row::of(job.clone()).cell(self.column, SystemTime::UNIX_EPOCH);
                cell(one).cmp(&cell(other))
            }
        };
        let by = if self.is_reversed { by.reverse() } else { by };
        by.then_with(|| one.id.cmp(&other.id))
    }
}

/// The first jobs by this order: so many, or all.
///
/// # Errors
/// When poold has gone, or cannot read its store.
pub fn sorted(
    client: &mut Client,
    chosen: &Chosen,
    sort: Sort,
    limit: Option<usize>,
) -> Result<Vec<Record>, ClientError> {
    let mut jobs: Vec<Record> = Vec::new();
    chosen.each_page(client, |page| {
        jobs.extend_from_slice(page);
        // Of a million jobs no more are kept than may be shown.
        if let Some(limit) = limit
            && jobs.len() > limit.saturating_mul(2).max(1000)
        {
            jobs.sort_by(|one, other| sort.compare(one, other));
            jobs.truncate(limit);
        }
        Ok::<(), ClientError>(())
    })?;
    jobs.sort_by(|one, other| sort.compare(one, other));
    jobs.truncate(limit.unwrap_or(usize::MAX));
    Ok(jobs)
}

/// The newest jobs of a listing, in the order of their ids.
///
/// # Errors
/// When poold has gone, or cannot read its store.
pub fn newest(client: &mut Client, chosen: &Chosen, most: usize) -> Result<Vec<Record>, ClientError> {
    let limit = u32::try_from(most).ok();
    let mut jobs = Vec::new();
    let list = List { order: Some(ListOrder::Newest), limit, ..chosen.list.clone() };
    chosen.with(list).each_page(client, |page| {
        jobs.extend_from_slice(page);
        Ok::<(), ClientError>(())
    })?;
    jobs.truncate(most);
    jobs.reverse();
    Ok(jobs)
}

/// Rows of columns below each other. Without columns, those that have always been here.
pub fn table_of(jobs: &[Record], columns: &[Column], with_heading: bool, now: SystemTime) -> String {
    if columns.is_empty() {
        let header = ["ID", "STATE", "RESULT", "POOL", "DURATION", "COMMAND"].map(ToOwned::to_owned);
        let rows = jobs.iter().map(usual_cells);
        let lines = with_heading.then_some(header).into_iter().chain(rows);
        return lines.map(|cells| line_of(&cells, &WIDTHS)).collect();
    }
    let widths: Vec<usize> = columns.iter().map(|&column| width_of(column)).collect();
    let heading = columns.iter().map(|column| column.heading()).collect::<Vec<String>>();
    let rows = jobs.iter().map(|job| {
        let row = Row::of(job.clone());
        let cell = |&column: &Column| match column {
            Column::State => state_of(job).to_owned(),
            column => printable(&row.cell(column, now)).into_owned(),
        };
        columns.iter().map(cell).collect()
    });
    with_heading.then_some(heading).into_iter().chain(rows).map(|cells| line_of(&cells, &widths)).collect()
}

/// The width of each column but the last. It is the same on all pages, since pages are printed as they come;
/// a cell that is wider moves the rest of its own line only.
const WIDTHS: [usize; 6] = [8, 10, 14, 10, 10, 0];

fn width_of(column: Column) -> usize {
    match column {
        Column::Id | Column::Age | Column::Pid => 8,
        Column::Submitted | Column::Started | Column::Ended => 19,
        Column::Slot | Column::Attempt | Column::Priority | Column::ExitCode => 9,
        Column::State | Column::Result | Column::Pool | Column::Time => 12,
        Column::Name | Column::Work | Column::Command | Column::Labels | Column::Notes | Column::Cwd => 20,
    }
}

fn line_of(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths);
    let line: Vec<String> = padded.map(|(cell, width)| crate::term::width::left(cell, *width)).collect();
    format!("{}\n", line.join("  ").trim_end())
}

fn usual_cells(job: &Record) -> [String; 6] {
    let duration = job.wall_s.map(|seconds| format!("{seconds:.3}s")).unwrap_or_default();
    let labels = job.labels.as_ref().map(|labels| format!("  [{}]", labels.join(", ")));
    let command = text::printable(&Row::of(job.clone()).work(), LONGEST) + &labels.unwrap_or_default();
    let state = state_of(job).to_owned();
    [id_of(job), state, outcome_of(job), job.pool.clone(), duration, command]
}

/// The word that `--state` takes, or `paused`.
fn state_of(job: &Record) -> &'static str {
    if job.frozen_since.is_some() { "paused" } else { job.state.as_str() }
}

/// How a job has ended, and whether one of its callbacks was given up.
fn outcome_of(job: &Record) -> String {
    let result = if job.state.is_terminal() { result_of(job) } else { String::new() };
    let is_given_up = job.callbacks.iter().any(|callback| callback.state == "failed");
    if is_given_up { format!("{result}, callback failed") } else { result }
}

fn result_of(job: &Record) -> String {
    if job.exit_code == Some(0) && job.signal.is_none() && job.state == State::Succeeded {
        return "success".to_owned();
    }
    match (job.exit_code, job.signal) {
        (Some(_), _) | (_, Some(_)) => outcome::summary(job),
        (None, None) => job.result.map_or("", |result| result.as_str()).to_owned(),
    }
}
