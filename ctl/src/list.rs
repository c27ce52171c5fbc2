//! Many jobs, or the pools, as tables for people and documents for programs.

use std::io::{self, Write};
use std::num::NonZeroU32;

use comfy_table::{ContentArrangement, Table, presets};
use pool_proto::Record;
use pool_proto::interface::{List, SCHEMA};

use crate::cli::ListOptions;
use crate::connect::Link;
use crate::{outcome, print};

/// Lists jobs, page by page as they come.
///
/// # Errors
/// When poold or stdout is gone.
pub fn run(link: &Link, options: ListOptions, as_json: bool) -> anyhow::Result<u8> {
    let mut client = link.connect()?;
    let states = (!options.state.is_empty()).then_some(options.state);
    client.send(
        &List { states, pool: options.pool, after: None, limit: options.limit.map(NonZeroU32::get) },
        true,
    )?;
    let mut listing = if as_json { Listing::json()? } else { Listing::Table { first: true } };
    loop {
        let (page, more) = client.receive::<List>()?;
        listing.page(&page.jobs)?;
        if !more {
            listing.end()?;
            return Ok(0);
        }
    }
}

/// Jobs in one document.
#[derive(serde::Serialize)]
pub struct JobsDocument<'a> {
    pub schema: u32,
    pub jobs: &'a [Record],
}

/// A listing under way.
enum Listing {
    Table { first: bool },
    Json { first: bool },
}

impl Listing {
    fn json() -> io::Result<Self> {
        write!(io::stdout(), "{{\"schema\":{SCHEMA},\"jobs\":[")?;
        Ok(Self::Json { first: true })
    }

    fn page(&mut self, jobs: &[Record]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match self {
            Self::Table { first } => {
                if *first || !jobs.is_empty() {
                    write!(stdout, "{}", table_of(jobs, std::mem::take(first)))?;
                }
            }
            Self::Json { first } => {
                for job in jobs {
                    let separator = if std::mem::take(first) { "" } else { "," };
                    write!(stdout, "{separator}{}", serde_json::to_string(job)?)?;
                }
            }
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        if let Self::Json { .. } = self {
            print::text("]}\n")?;
        }
        Ok(io::stdout().flush()?)
    }
}

/// Longer commands and names are cut, here and nowhere else.
pub const LONGEST: usize = 500;

/// Text of somebody else's making, so that it can neither leave its line nor tell the terminal what to do.
pub fn printable(text: &str, longest: usize) -> String {
    let escaped = text.chars().take(longest).flat_map(|c| {
        let escaped = if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        escaped.chars().collect::<Vec<char>>()
    });
    let cut = if text.chars().nth(longest).is_some() { "..." } else { "" };
    escaped.collect::<String>() + cut
}

fn table_of(jobs: &[Record], with_header: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
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
    lines(&table)
}

/// Pages are printed one by one, and their columns should be below each other all the same.
fn pad(cells: &[String; 6], widths: &[usize; 5]) -> Vec<String> {
    let width = |index: usize| widths.get(index).copied().unwrap_or(0);
    cells.iter().enumerate().map(|(index, cell)| format!("{cell:<0$}", width(index))).collect()
}

fn outcome_of(job: &Record) -> String {
    if job.exit_code == Some(0) && job.signal.is_none() && job.state == pool_proto::State::Succeeded {
        return "success".to_owned();
    }
    match (job.exit_code, job.signal) {
        (Some(_), _) | (_, Some(_)) => outcome::summary(job),
        (None, None) => job.result.map_or("", |result| result.as_str()).to_owned(),
    }
}

/// A table's lines, each without the padding at its end.
pub fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// What a job does, on a line: its command, or its call.
pub fn work_line(job: &Record) -> String {
    match (&job.argv, &job.method) {
        (Some(argv), _) => command_line(argv),
        (None, Some(method)) => {
            format!(
                "{method}{}",
                job.params.as_ref().map(|params| format!(" {}", params.get())).unwrap_or_default()
            )
        }
        (None, None) => String::new(),
    }
}

/// A command as a shell would read it, more or less: for people, not for shells.
pub fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    let quote = |argument: &String| {
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("{argument:?}")
        }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}
