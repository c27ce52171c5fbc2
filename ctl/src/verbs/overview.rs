//! `poolctl` alone: what runs, what waits, what has just failed, and what to type next. It starts nothing.

use std::time::{Duration, SystemTime};

use pool_proto::methods::List;
use pool_proto::nouns::SCHEMA;
use pool_proto::{Client, Record};
use serde::Serialize;

use super::Context;
use super::board::{Board, callbacks_line, counts_line};
use crate::cli::states::{ACTIVE, FAILED, WAITING};
use crate::exit::ExitReason;
use crate::link::connect::is_absent;
use crate::tell::row::{Column, Row};
use crate::tell::sheet::Sheet;
use crate::tell::when;
use crate::term::stream::Stream;
use crate::term::style::{Tone, has_color};
use crate::term::width::{Size, wrap};
use crate::term::{json, text};

/// Jobs of each part.
const MOST: usize = 5;

/// What failed longer ago is no news.
const NEWS: Duration = Duration::from_secs(24 * 3600);

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: u32,
    /// Whether a poold was there to ask.
    is_up: bool,
    counts: &'a [pool_proto::methods::StateCount],
    running: Vec<&'a Record>,
    waiting: Vec<&'a Record>,
    failed: Vec<&'a Record>,
    failed_callbacks: u64,
    /// Commands that come next.
    next: Vec<String>,
}

/// Prints the overview.
///
/// # Errors
/// When poold is there and cannot be asked, or stdout takes nothing.
pub fn run(context: &Context) -> anyhow::Result<ExitReason> {
    let client = match context.link.find() {
        Ok(client) => Some(client),
        Err(error) if is_absent(&error) => None,
        Err(_) => Some(context.link.connect_only()?),
    };
    let board = client.map(|mut client| read(&mut client)).transpose()?;
    let next = next(board.as_ref());

    if context.as_json {
        let rows = |part: Option<&'_ Vec<Row>>| -> Vec<Record> {
            part.into_iter().flatten().map(|row| row.record.clone()).collect()
        };
        let running = rows(board.as_ref().map(|board| &board.active));
        let waiting = rows(board.as_ref().map(|board| &board.waiting));
        let failed = rows(board.as_ref().map(|board| &board.ended));
        json::print(&Document {
            schema: SCHEMA,
            is_up: board.is_some(),
            counts: board.as_ref().map_or(&[], |board| &board.counts.states),
            running: running.iter().collect(),
            waiting: waiting.iter().collect(),
            failed: failed.iter().collect(),
            failed_callbacks: board.as_ref().and_then(|board| board.counts.failed_callbacks).unwrap_or(0),
            next,
        })?;
        return Ok(ExitReason::Success);
    }

    let size = Size::of_stdout().unwrap_or(Size::USUAL);
    let with_color = has_color(Stream::Stdout);
    let mut told = match &board {
        Some(board) => describe(board, size, with_color),
        None => "No poold is running; the first job starts one.\n".to_owned(),
    };
    told += "\n";
    for (place, command) in next.iter().enumerate() {
        let before = if place == 0 { "next:" } else { "" };
        told += &format!("{before:<6}{command}\n");
    }
    text::print(&told)?;
    Ok(ExitReason::Success)
}

fn read(client: &mut Client) -> anyhow::Result<Board> {
    let states = [ACTIVE.as_slice(), &WAITING, &FAILED].concat();
    let mut board = Board::read(client, &List { states: Some(states), ..List::default() }, MOST)?;
    let now = SystemTime::now();
    let is_news = |row: &Row| {
        let ended = row.record.ended_at.as_deref().and_then(|ended| when::since(ended, now));
        ended.is_some_and(|ended| ended < NEWS)
    };
    board.ended.retain(is_news);
    Ok(board)
}

fn describe(board: &Board, size: Size, with_color: bool) -> String {
    let mut told = String::new();
    let now = SystemTime::now();
    let all: Vec<Row> =
        [&board.active, &board.waiting, &board.ended].into_iter().flatten().cloned().collect();
    let sheet = Sheet::of(&Column::USUAL, &all, size.columns, with_color, now);
    for (title, rows) in [("Running", &board.active), ("Waiting", &board.waiting), ("Failed", &board.ended)] {
        if !rows.is_empty() {
            told += &format!("{}\n", Tone::Heading.paint(title, with_color));
            told.extend(rows.iter().map(|row| sheet.line(row)));
        }
    }
    let workers: u32 = board.pools.iter().map(|pool| pool.workers).sum();
    let busy: u32 = board.pools.iter().map(|pool| pool.running).sum();
    let counts = format!("{}; {busy} of {workers} workers busy", counts_line(&board.counts));
    told += &format!("{}\n", wrap(&counts, 0, size.columns));
    for pool in board.pools.iter().filter(|pool| pool.paused) {
        let line = format!("pool {} is paused: `poolctl pool resume {}` lets it go on", pool.name, pool.name);
        told += &format!("{}\n", Tone::Attention.paint(&wrap(&line, 0, size.columns), with_color));
    }
    if let Some(failed) = callbacks_line(&board.counts) {
        told += &format!("{}\n", Tone::Bad.paint(&wrap(&failed, 0, size.columns), with_color));
    }
    told
}

/// The commands that come next: about what has failed, or else about what runs or waits, or else the first
/// ones.
fn next(board: Option<&Board>) -> Vec<String> {
    let id = |rows: &[Row]| rows.first().map(|row| row.record.id);
    let failed = board.and_then(|board| id(&board.ended));
    let running = board.and_then(|board| id(&board.active));
    let waiting = board.and_then(|board| id(&board.waiting));
    let commands: [String; 3] = match (failed, running, waiting) {
        (Some(id), ..) => [
            format!("poolctl show {id}"),
            format!("poolctl logs --stderr {id}"),
            format!("poolctl retry {id}"),
        ],
        (None, Some(id), _) => {
            [format!("poolctl logs -f {id}"), format!("poolctl wait {id}"), "poolctl ls --watch".to_owned()]
        }
        (None, None, Some(id)) => {
            [format!("poolctl why {id}"), "poolctl pool ls".to_owned(), "poolctl doctor".to_owned()]
        }
        (None, None, None) => [
            "poolctl run -- make".to_owned(),
            "poolctl submit -- make".to_owned(),
            "poolctl --help".to_owned(),
        ],
    };
    commands.into()
}
