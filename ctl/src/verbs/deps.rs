//! `poolctl deps`: shows what a job waits for, and what waits for it, as trees.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::methods::{Dependents, Get};
use pool_proto::nouns::{Dependency, On, SCHEMA};
use pool_proto::{Client, ClientError, Record, State};
use serde::Serialize;

use super::Context;
use super::selection::{Scope, Selection, is_unknown};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::tell::record::{id_of, work_line};
use crate::term::json;
use crate::term::text::{self, LONGEST};
use crate::term::width::{Size, cell, columns};

/// Show what jobs wait for, and what waits for them, as trees
///
/// What waits by --after and by --unique. With --json as nested objects.
#[derive(Debug, Args)]
pub struct DepsOptions {
    /// Jobs by 12, 3-9, 12.4 (an element of array 12), last, all, @label, name:x, state:x or pool:x
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

/// So many jobs are looked at.
const MOST: usize = 1000;

/// So many jobs poold tells of those that a job still waits for.
const MOST_TOLD: usize = 100;

/// The columns that a name or a command line has at least, however deep in the tree.
const LEAST_WORK: usize = 8;

/// A job in a tree.
#[derive(Debug, Serialize)]
struct Node {
    id: u64,
    /// The id as people write it.
    #[serde(skip)]
    name: String,
    /// None for a job that has been pruned.
    state: Option<State>,
    /// What it is called, or what it does.
    #[serde(skip)]
    work: String,
    /// The kind of end that counts; none where it is the end before it of a unique name.
    on: Option<On>,
    /// Of a job that is to run after it: its end has counted for that, and another one does not.
    has_counted: bool,
    /// It stands elsewhere in the tree, with its own.
    is_above: bool,
    /// Of a tree of what is waited for, what this one waits for; of the other, what waits for this one.
    jobs: Vec<Node>,
    /// There are more of them than are shown.
    more: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    schema: u32,
    id: u64,
    state: State,
    waits_for: Vec<Node>,
    waited_for_by: Vec<Node>,
    /// Of either there are more than are shown.
    more: bool,
}

/// What has been read.
struct Reader {
    client: Client,
    records: HashMap<u64, Option<Record>>,
}

impl DepsOptions {
    /// Prints the trees of jobs. Those that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let selection = Selection::find_existing(&mut client, &self.jobs, Scope::ANY)?;
        let mut reader = Reader { client, records: HashMap::new() };
        for (place, &id) in selection.ids().iter().enumerate() {
            // It may have been pruned in this moment.
            let Some(record) = reader.record(id)? else { continue };
            if place > 0 && !context.as_json {
                text::print("\n")?;
            }
            reader.print(&record, context.as_json)?;
        }
        Ok(selection.exit())
    }
}

impl Reader {
    /// Prints the trees of a job.
    fn print(&mut self, record: &Record, as_json: bool) -> anyhow::Result<()> {
        let (id, state) = (record.id, record.state);
        let (waits_for, _) = self.prior(record, &mut HashSet::from([id]))?;
        let (waited_for_by, more) = self.dependents(id, &mut HashSet::from([id]))?;
        if as_json {
            return json::print(&Document { schema: SCHEMA, id, state, waits_for, waited_for_by, more });
        }

        let width = Size::of_stdout().map(|size| size.columns);
        let mut told = format!("{}\n", described(&id_of(record), Some(state), &work_of(record), 0, width));
        for (title, nodes, more) in
            [("waits for", &waits_for, false), ("is waited for by", &waited_for_by, more)]
        {
            if nodes.is_empty() {
                continue;
            }
            told += &format!("{title}\n");
            draw(nodes, more, "", width, &mut told);
        }
        text::print(&told)
    }

    /// The record of a job; none where it has been pruned.
    fn record(&mut self, id: u64) -> Result<Option<Record>, ClientError> {
        if let Some(record) = self.records.get(&id) {
            return Ok(record.clone());
        }
        let record = match self.client.request(&Get { id }) {
            Ok(got) => Some(*got.record),
            Err(error) if is_unknown(&error) => None,
            Err(error) => return Err(error),
        };
        self.records.insert(id, record.clone());
        Ok(record)
    }

    /// What a job was to run after, and what it waits for besides; and whether there is more.
    fn prior(&mut self, record: &Record, seen: &mut HashSet<u64>) -> Result<(Vec<Node>, bool), ClientError> {
        let after = record.depends_on.clone().or_else(|| record.after.clone()).unwrap_or_default();
        let turn = record.waits_for.map(|id| Dependency { id, on: None });
        let mut nodes = Vec::new();
        for Dependency { id, on } in after.into_iter().chain(turn) {
            let has_counted = self.has_counted(id, on, record)?;
            let node = self.node(id, on, seen, |reader, record, seen| reader.prior(record, seen))?;
            nodes.push(Node { has_counted, ..node });
        }
        Ok((nodes, false))
    }

    /// Whether a job has done with one of those that it was to run after, which may be run again since.
    fn has_counted(&mut self, prior: u64, on: Option<On>, record: &Record) -> Result<bool, ClientError> {
        let is_among = |jobs: &[Dependency]| jobs.iter().any(|other| other.id == prior);
        match record.state {
            _ if on.is_none() => Ok(false),
            State::Blocked => {
                let left = record.after.as_deref().unwrap_or_default();
                Ok(left.len() < MOST_TOLD && !is_among(left))
            }
            // What a held job waits for besides, its record does not tell.
            State::Held => match self.client.request(&Dependents { id: prior }) {
                Err(error) if is_unknown(&error) => Ok(true),
                listed => {
                    let listed = listed?;
                    Ok(!listed.more && listed.dependents.iter().all(|other| other.id != record.id))
                }
            },
            _ => Ok(true),
        }
    }

    /// The jobs that are to run after this one, and whether there are more.
    fn dependents(&mut self, id: u64, seen: &mut HashSet<u64>) -> Result<(Vec<Node>, bool), ClientError> {
        let listed = match self.client.request(&Dependents { id }) {
            Err(error) if is_unknown(&error) => return Ok((Vec::new(), false)),
            listed => listed?,
        };
        let mut nodes = Vec::new();
        for Dependency { id, on } in listed.dependents {
            nodes.push(self.node(id, on, seen, |reader, record, seen| reader.dependents(record.id, seen))?);
        }
        Ok((nodes, listed.more))
    }

    /// `below`: what stands below a job, which is looked at once.
    fn node(
        &mut self,
        id: u64,
        on: Option<On>,
        seen: &mut HashSet<u64>,
        below: impl Fn(&mut Self, &Record, &mut HashSet<u64>) -> Result<(Vec<Node>, bool), ClientError>,
    ) -> Result<Node, ClientError> {
        let record = self.record(id)?;
        let is_above = !seen.insert(id);
        let (jobs, more) = match &record {
            Some(_) if is_above => (Vec::new(), false),
            Some(_) if seen.len() > MOST => (Vec::new(), true),
            Some(record) => below(self, record, seen)?,
            None => (Vec::new(), false),
        };
        let state = record.as_ref().map(|record| record.state);
        let work = record.as_ref().map(work_of).unwrap_or_default();
        let name = record.as_ref().map_or_else(|| id.to_string(), id_of);
        Ok(Node { id, name, state, work, on, has_counted: false, is_above, jobs, more })
    }
}

fn work_of(record: &Record) -> String {
    record.name.as_ref().map_or_else(|| work_line(record), ToString::to_string)
}

/// `beside`: the columns of what else is on the line. On a terminal of that width the work is cut, so that a
/// job takes one line.
fn described(name: &str, state: Option<State>, work: &str, beside: usize, width: Option<usize>) -> String {
    let Some(state) = state else { return format!("{name} pruned") };
    let before = format!("{name} {} ", state.as_str());
    let room = width.map(|width| width.saturating_sub(beside + before.len()).max(LEAST_WORK));
    before + &cell(work, room.unwrap_or(LONGEST))
}

/// A line for each job, and what stands below it. `more`: there are more than these.
fn draw(nodes: &[Node], more: bool, indent: &str, width: Option<usize>, told: &mut String) {
    for (place, node) in nodes.iter().enumerate() {
        let is_last = place + 1 == nodes.len() && !more;
        let (branch, stem) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let how = match node.on {
            Some(On::Success) => "",
            Some(On::Failure) => " (if it does not succeed)",
            Some(On::Done) => " (however it ends)",
            None => " (same unique name)",
        };
        let lives = node.state.is_some_and(|state| !state.is_terminal());
        let counted = if node.has_counted && lives { ", run again; its first end has counted" } else { "" };
        let above = if node.is_above { ", see above" } else { "" };
        let beside = columns(indent) + columns(branch) + how.len() + counted.len() + above.len();
        let line = described(&node.name, node.state, &node.work, beside, width);
        *told += &format!("{indent}{branch}{line}{how}{counted}{above}\n");
        draw(&node.jobs, node.more, &format!("{indent}{stem}"), width, told);
    }
    if more {
        *told += &format!("{indent}└─ and more\n");
    }
}
