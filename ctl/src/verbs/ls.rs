//! `poolctl ls`: lists jobs, as a table for people or a document for programs.

use std::num::NonZeroU32;

use clap::Args;
use pool_proto::methods::List;
use pool_proto::nouns::SCHEMA;
use pool_proto::{Record, State};

use super::Context;
use crate::cli::values::{parse_limit, parse_state};
use crate::exit::ExitReason;
use crate::tell::{outcome, record::work_line};
use crate::term::text::{self, LONGEST, printable};
use crate::term::{json, table};

/// List jobs, oldest first
#[derive(Debug, Args)]
pub struct ListOptions {
    /// List jobs in this state only; may be repeated
    #[arg(short, long, value_parser = parse_state)]
    state: Vec<State>,

    /// List jobs of this pool only
    #[arg(short, long)]
    pool: Option<String>,

    /// List at most this many jobs
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
        let limit = self.limit.map(NonZeroU32::get);
        let list = List { states, pool: self.pool, after: None, limit };

        let mut client = context.link.connect()?;
        client.send(&list, true)?;

        let mut listing = if context.as_json {
            ListPrinter::Json(json::Pages::begin(SCHEMA, "jobs")?)
        } else {
            ListPrinter::Table { with_header: true }
        };
        loop {
            let (page, more) = client.receive::<List>()?;
            listing.add(&page.jobs)?;
            if !more {
                listing.end()?;
                return Ok(ExitReason::Success);
            }
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
    let mut table = table::empty();

    let widths = [8, 10, 14, 10, 10];
    if with_header {
        table.add_row(pad(
            &["ID", "STATE", "RESULT", "POOL", "DURATION", "COMMAND"].map(ToOwned::to_owned),
            &widths,
        ));
    }
    for job in jobs {
        let result = if job.state.is_terminal() { outcome_of(job) } else { String::new() };
        let duration = job.wall_s.map(|seconds| format!("{seconds:.3}s")).unwrap_or_default();
        let command = printable(&job.name.clone().unwrap_or_else(|| work_line(job)), LONGEST);
        let cells =
            [job.id.to_string(), job.state.as_str().to_owned(), result, job.pool.clone(), duration, command];
        table.add_row(pad(&cells, &widths));
    }
    table::lines(&table)
}

/// Pads the columns. Pages are printed one by one, so each column has a fixed width.
fn pad(cells: &[String; 6], widths: &[usize; 5]) -> Vec<String> {
    let width = |index: usize| widths.get(index).copied().unwrap_or(0);
    cells.iter().enumerate().map(|(index, cell)| format!("{cell:<0$}", width(index))).collect()
}

fn outcome_of(job: &Record) -> String {
    if job.exit_code == Some(0) && job.signal.is_none() && job.state == State::Succeeded {
        return "success".to_owned();
    }
    match (job.exit_code, job.signal) {
        (Some(_), _) | (_, Some(_)) => outcome::summary(job),
        (None, None) => job.result.map_or("", |result| result.as_str()).to_owned(),
    }
}
