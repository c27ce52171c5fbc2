//! `poolctl ls`: lists jobs, as a table for people or a document for programs.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use clap::Args;
use pool_proto::methods::List;
use pool_proto::nouns::SCHEMA;
use pool_proto::{Client, ClientError, OsText, Record, State};

use super::Context;
use super::selection::each_page;
use crate::cli::values::{parse_label, parse_limit, parse_state};
use crate::exit::ExitReason;
use crate::tell::{outcome, record::work_line};
use crate::term::json;
use crate::term::text::{self, LONGEST, printable};

/// List jobs, oldest first
#[derive(Debug, Args)]
pub struct ListOptions {
    /// List jobs in this state only; may be repeated
    #[arg(short, long, value_parser = parse_state)]
    state: Vec<State>,

    /// List jobs of this pool only
    #[arg(short, long)]
    pool: Option<String>,

    /// List jobs with this label only
    #[arg(long, value_parser = parse_label)]
    label: Option<String>,

    /// List only the newest jobs, this many
    #[arg(short, long, value_name = "N", value_parser = parse_limit)]
    limit: Option<NonZeroU32>,
}

impl ListOptions {
    /// Lists jobs page by page, as the pages come.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let states = (!self.state.is_empty()).then_some(self.state);
        let list = List { states, pool: self.pool, label: self.label, ..List::default() };

        let mut client = context.link.connect()?;
        let newest = self.limit.map(|count| newest(&mut client, &list, count)).transpose()?;

        let mut listing = if context.as_json {
            ListPrinter::Json(json::Pages::begin(SCHEMA, "jobs")?)
        } else {
            ListPrinter::Table { with_header: true }
        };
        match newest {
            Some(jobs) => listing.add(&jobs)?,
            None => each_page(&mut client, &list, |jobs| listing.add(jobs))?,
        }
        listing.end()?;
        Ok(ExitReason::Success)
    }
}

/// The newest jobs of a listing, in the order of their ids. poold lists the oldest first, so poolctl looks at
/// ever more of the latest ids until there are enough jobs among them.
fn newest(client: &mut Client, list: &List, count: NonZeroU32) -> anyhow::Result<Vec<Record>> {
    let count = count.get() as usize;
    let last = last_id(client)?;
    let mut width = (count as u64).max(64);
    loop {
        let after = last.saturating_sub(width);
        let mut jobs = VecDeque::new();
        each_page(client, &List { after: Some(after), ..list.clone() }, |page| {
            jobs.extend(page.iter().cloned());
            jobs.drain(..jobs.len().saturating_sub(count));
            Ok::<(), ClientError>(())
        })?;

        if jobs.len() == count || after == 0 {
            return Ok(jobs.into());
        }
        width = width.saturating_mul(8);
    }
}

/// The greatest id of all jobs, found by halving: one look costs poold one step in an index.
fn last_id(client: &mut Client) -> anyhow::Result<u64> {
    let (mut low, mut high) = (0, None);
    loop {
        // From the middle of what is known on, or far beyond what is known to exist.
        let middle = high.map_or(low * 2 + 64, |high: u64| low + (high - low) / 2);
        let look = List { after: Some(middle), limit: Some(1), ..List::default() };
        match client.request(&look)?.jobs.first() {
            Some(job) => low = job.id,
            None => high = Some(middle),
        }
        if high.is_some_and(|high| high <= low + 1) {
            return Ok(high.unwrap_or(low).max(low));
        }
    }
}

/// A listing that is being printed.
enum ListPrinter {
    Table { with_header: bool },
    Json(json::Pages),
}

impl ListPrinter {
    fn add(&mut self, jobs: &[Record]) -> anyhow::Result<()> {
        match self {
            // The last page may be empty, and then there is no line to print.
            Self::Table { with_header: false } if jobs.is_empty() => Ok(()),
            Self::Table { with_header } => text::print(&table_of(jobs, std::mem::take(with_header))),
            Self::Json(pages) => pages.add(jobs),
        }
    }

    fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Table { .. } => Ok(()),
            Self::Json(pages) => pages.end(),
        }
    }
}

fn table_of(jobs: &[Record], with_header: bool) -> String {
    let header = ["ID", "STATE", "RESULT", "POOL", "DURATION", "COMMAND"].map(ToOwned::to_owned);
    let rows = jobs.iter().map(|job| {
        let duration = job.wall_s.map(|seconds| format!("{seconds:.3}s")).unwrap_or_default();
        let named = job.name.as_ref().map_or_else(|| work_line(job), OsText::to_string);
        let labels = job.labels.as_ref().map(|labels| format!("  [{}]", labels.join(", ")));
        let command = printable(&named, LONGEST) + &labels.unwrap_or_default();
        let state = if job.frozen_since.is_some() { "paused" } else { job.state.as_str() }.to_owned();
        [job.id.to_string(), state, outcome_of(job), job.pool.clone(), duration, command]
    });
    with_header.then_some(header).into_iter().chain(rows).map(|cells| line_of(&cells)).collect()
}

/// The width of each column but the last. It is the same on all pages, since pages are printed as they come; a
/// cell that is wider moves the rest of its own line only.
const WIDTHS: [usize; 5] = [8, 10, 14, 10, 10];

fn line_of(cells: &[String; 6]) -> String {
    let padded = cells.iter().zip(WIDTHS.into_iter().chain([0]));
    let line: Vec<String> = padded.map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("{}\n", line.join("  ").trim_end())
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
