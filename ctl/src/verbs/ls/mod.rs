//! `poolctl ls`: lists jobs: as rows for people at a terminal, and in full, in a stable order, for everybody
//! else.

mod chosen;
mod filter;
mod format;
mod pipe;
mod watch;

use std::num::NonZeroU32;
use std::time::SystemTime;

use anyhow::bail;
use clap::Args;
use pool_proto::methods::{List, ListOrder};
use pool_proto::nouns::SCHEMA;
use pool_proto::{Client, Record};

use self::chosen::Chosen;
use self::filter::FilterOptions;
use self::format::Template;
use super::Context;
use super::board::{self, Board};
use super::selection::{check_pool, each_brief_page};
use crate::cli::UsageError;
use crate::cli::selector::{Selector, selector};
use crate::cli::values::parse_limit;
use crate::exit::ExitReason;
use crate::tell::row::{Column, Row};
use crate::tell::sheet::Sheet;
use crate::term::stream::Stream;
use crate::term::style::has_color;
use crate::term::width::Size;
use crate::term::{json, text};

/// List jobs
///
/// On a terminal: what runs, what waits, and what has ended last, as much as fits, one line a job. Elsewhere:
/// all jobs in full, the oldest first.
#[derive(Debug, Args)]
pub struct ListOptions {
    /// Only these jobs, and the elements of these arrays: 12, 3-9, last, @label and others
    #[arg(value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    #[command(flatten)]
    filter: FilterOptions,

    /// List only so many jobs, the newest ones
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_limit)]
    limit: Option<NonZeroU32>,

    /// List all jobs, also on a terminal
    #[arg(short, long, conflicts_with = "limit")]
    all: bool,

    /// Sort by a column, such as time, or -time for the greatest first
    #[arg(long, value_name = "COLUMN", value_parser = pipe::parse_sort, allow_hyphen_values = true)]
    sort: Option<pipe::Sort>,

    /// Show these columns, such as id,state,name,exit_code
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = format::parse_column)]
    columns: Vec<Column>,

    /// Print the ids alone, one on a line
    #[arg(short, long, conflicts_with_all = ["columns", "format"])]
    quiet: bool,

    /// Print each job in this form, such as '{id} {name}'; a column, or a member of --json
    #[arg(long, value_name = "TEMPLATE", value_parser = format::parse_template, conflicts_with = "columns")]
    format: Option<Template>,

    /// Stay, and show what changes as it does, until Ctrl-C
    #[arg(short, long, conflicts_with_all = ["quiet", "format", "all", "sort", "jobs"])]
    watch: bool,
}

/// So many rows are enough to know how wide the columns are.
const ENOUGH: usize = 500;

/// How jobs are printed.
enum Form<'a> {
    Json(json::Pages),
    Ids,
    Template(&'a Template),
    /// Rows of fixed columns, in full.
    Table {
        columns: &'a [Column],
        with_heading: bool,
    },
    /// Rows for a terminal; the layout is that of the first of them, which are kept until then.
    Sheet {
        columns: &'a [Column],
        size: Size,
        kept: Vec<Row>,
        sheet: Option<Sheet>,
    },
}

impl ListOptions {
    /// Lists jobs.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let size = Size::of_stdout();
        let list = self.filter.list()?;
        if self.watch {
            let Some(_) = size.filter(|_| !context.as_json) else {
                bail!(UsageError::new(
                    "--watch needs a terminal: `poolctl events` tells a program what happens"
                ));
            };
            return watch::run(context, &list, self.shown(), self.limit);
        }

        let mut client = context.link.connect()?;
        if let Some(pool) = &list.pool {
            check_pool(&mut client, pool)?;
        }
        let is_view = !context.as_json && !self.quiet && self.format.is_none();
        let is_board = is_view && self.sort.is_none() && !self.all && self.jobs.is_empty();
        if let Some(size) = size.filter(|_| is_board) {
            return self.print_board(&mut client, &list, size);
        }
        let chosen = Chosen::find(&mut client, list, &self.jobs)?;
        self.print_list(&mut client, &chosen, context.as_json, size.filter(|_| is_view))?;
        Ok(chosen.exit)
    }

    fn shown(&self) -> &[Column] {
        if self.columns.is_empty() { &Column::USUAL } else { &self.columns }
    }

    /// What fits on the terminal.
    fn print_board(&self, client: &mut Client, list: &List, size: Size) -> anyhow::Result<ExitReason> {
        let rows = self.limit.map_or(usable_rows(size), |limit| limit.get() as usize);
        let board = Board::read(client, list, rows)?;
        let text = draw(board, rows, self.shown(), size, self.filter.is_open());
        text::print(&text)?;
        Ok(ExitReason::Success)
    }

    fn print_list(
        &self,
        client: &mut Client,
        chosen: &Chosen,
        as_json: bool,
        size: Option<Size>,
    ) -> anyhow::Result<()> {
        if self.quiet && !as_json && self.sort.is_none() && self.limit.is_none() && chosen.is_open() {
            return each_brief_page(client, &chosen.list, |jobs| print_ids(jobs.iter().map(|job| job.id)));
        }
        let mut form = match (&self.format, size) {
            _ if as_json => Form::Json(json::Pages::begin(SCHEMA, "jobs")?),
            _ if self.quiet => Form::Ids,
            (Some(template), _) => Form::Template(template),
            (None, Some(size)) => Form::Sheet { columns: self.shown(), size, kept: Vec::new(), sheet: None },
            (None, None) => Form::Table { columns: &self.columns, with_heading: true },
        };

        // People who list all see the newest first, and what runs before it.
        if size.is_some() && self.sort.is_none() && self.limit.is_none() {
            for part in filter::split(&chosen.list) {
                let part = List { order: Some(ListOrder::Newest), ..part };
                chosen.with(part).each_page(client, |jobs| form.add(jobs))?;
            }
            return form.end(self.filter.is_open() && self.jobs.is_empty());
        }

        let limit = self.limit.map(|limit| limit.get() as usize);
        match (&self.sort, limit) {
            (Some(sort), limit) => form.add(&pipe::sorted(client, chosen, *sort, limit)?)?,
            (None, Some(limit)) => form.add(&pipe::newest(client, chosen, limit)?)?,
            (None, None) => chosen.each_page(client, |jobs| form.add(jobs))?,
        }
        form.end(self.filter.is_open() && self.jobs.is_empty())
    }
}

impl Form<'_> {
    fn add(&mut self, jobs: &[Record]) -> anyhow::Result<()> {
        let now = SystemTime::now();
        match self {
            Self::Json(pages) => pages.add(jobs),
            Self::Ids => print_ids(jobs.iter().map(|job| job.id)),
            Self::Template(template) => {
                let lines = jobs.iter().map(|job| template.line(&Row::of(job.clone()), now));
                text::print(&lines.collect::<Result<String, _>>()?)
            }
            // The last page may be empty, and then there is no line to print.
            Self::Table { with_heading: false, .. } if jobs.is_empty() => Ok(()),
            Self::Table { columns, with_heading } => {
                text::print(&pipe::table_of(jobs, columns, std::mem::take(with_heading), now))
            }
            Self::Sheet { kept, sheet, .. } => {
                kept.extend(jobs.iter().cloned().map(Row::of));
                if sheet.is_none() && kept.len() < ENOUGH { Ok(()) } else { self.print_rows(now) }
            }
        }
    }

    /// Prints the rows that were kept, and first the heading.
    fn print_rows(&mut self, now: SystemTime) -> anyhow::Result<()> {
        let Self::Sheet { columns, size, kept, sheet } = self else { return Ok(()) };
        let rows = std::mem::take(kept);
        let mut printed = String::new();
        let sheet = sheet.get_or_insert_with(|| {
            let sheet = Sheet::of(columns, &rows, size.columns, has_color(Stream::Stdout), now);
            printed = sheet.heading();
            sheet
        });
        printed.extend(rows.iter().map(|row| sheet.line(row)));
        text::print(&printed)
    }

    /// `is_all`: it was asked for all jobs.
    fn end(mut self, is_all: bool) -> anyhow::Result<()> {
        match &self {
            Self::Sheet { kept, sheet: None, .. } if kept.is_empty() => {
                text::print(if is_all { "no jobs\n" } else { "no such jobs\n" })?;
            }
            _ => self.print_rows(SystemTime::now())?,
        }
        match self {
            Self::Json(pages) => pages.end(),
            Self::Ids | Self::Template(_) | Self::Table { .. } | Self::Sheet { .. } => Ok(()),
        }
    }
}

fn print_ids(ids: impl Iterator<Item = u64>) -> anyhow::Result<()> {
    text::print(&ids.map(|id| format!("{id}\n")).collect::<String>())
}

/// The rows of jobs that fit below the command that asked for them: without the heading, the counts, and the
/// next prompt.
fn usable_rows(size: Size) -> usize {
    size.rows.saturating_sub(4).max(5)
}

/// The lines of the view. `is_all`: the view is of all jobs, so that their counts tell of it.
fn draw(mut board: Board, rows: usize, shown: &[Column], size: Size, is_all: bool) -> String {
    board.fit(rows);
    let (has_more, counts) = (board.has_more, std::mem::take(&mut board.counts));
    let paused: Vec<String> =
        board.pools.iter().filter(|pool| pool.paused).map(|pool| pool.name.clone()).collect();
    let rows = board.rows();
    let with_color = has_color(Stream::Stdout);
    let sheet = Sheet::of(shown, &rows, size.columns, with_color, SystemTime::now());

    let mut text = String::new();
    if !rows.is_empty() {
        text += &sheet.heading();
        text.extend(rows.iter().map(|row| sheet.line(row)));
    }
    let more = if has_more { " (poolctl ls --all)" } else { "" };
    let mut last = match is_all {
        true => format!("{}{more}", board::counts_line(&counts)),
        false if rows.is_empty() => "no such jobs".to_owned(),
        false if rows.len() == 1 => format!("1 job{more}"),
        false => format!("{} jobs{more}", rows.len()),
    };
    if !paused.is_empty() {
        last += &format!("; paused: {}", paused.join(", "));
    }
    if let Some(failed) = board::callbacks_line(&counts) {
        last += &format!("; {failed}");
    }
    text += &crate::term::width::wrap(&last, 0, size.columns);
    text.push('\n');
    text
}
