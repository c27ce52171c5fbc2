//! `poolctl show`: prints what became of jobs, and their records.

use std::time::SystemTime;

use clap::Args;
use pool_proto::methods::{Attempts, Get, GetCallback, Why};
use pool_proto::nouns::{Attempt, Callback};
use pool_proto::{Client, ClientError, Record, State};

use super::Context;
use super::ending::{Ending, last, open};
use super::selection::{Scope, Selection, is_unknown};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::tell::attempt::describe_attempts;
use crate::tell::postmortem::{CallbackEnd, OutputEnd, PostMortem};
use crate::tell::record::describe;
use crate::term::stream::Stream;
use crate::term::style::has_color;
use crate::term::width::Size;
use crate::term::{json, text};

/// So many lines of the output of a job that has failed are shown.
const LINES: usize = 10;

/// So many of the jobs that it was to run after are looked up.
const MOST_AFTER: usize = 20;

/// So many of its callbacks are looked up.
const MOST_CALLBACKS: usize = 20;

/// Show what became of jobs, and all that is known of them
///
/// On a terminal: how a job ended and why, what it used, the end of its output where it has failed, what its
/// callbacks have written, and the commands that may come next. Elsewhere: a line for each member of its
/// record.
#[derive(Debug, Args)]
pub struct ShowOptions {
    /// Jobs by 12, 3-9, 12.4 (an element of array 12), last, all, @label, name:x, state:x or pool:x
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

impl ShowOptions {
    /// Prints the records of jobs. Those that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let is_at_terminal = Stream::Stdout.is_terminal();
        let selection = Selection::find_existing(&mut client, &self.jobs, Scope::ANY)?;
        for (place, &id) in selection.ids().iter().enumerate() {
            // It may have been pruned in this moment.
            let Some(record) = record_of(&mut client, id)? else { continue };
            if context.as_json {
                json::print(&record)?;
                continue;
            }
            let why = why(&mut client, &record)?;
            let earlier = earlier(&mut client, &record)?;
            let told = match is_at_terminal {
                true => {
                    let told = dissect(&mut client, record, why, earlier)?;
                    let width = Size::of_stdout().unwrap_or(Size::USUAL).columns;
                    told.text(SystemTime::now(), has_color(Stream::Stdout), width)
                }
                false => describe(&record, why) + &describe_attempts(&earlier),
            };
            let gap = if place > 0 { "\n" } else { "" };
            text::print(&format!("{gap}{told}"))?;
        }
        Ok(selection.exit())
    }
}

fn record_of(client: &mut Client, id: u64) -> Result<Option<Record>, ClientError> {
    match client.request(&Get { id }) {
        Ok(got) => Ok(Some(*got.record)),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks up what belongs to a job.
fn dissect(
    client: &mut Client,
    record: Record,
    why: Option<String>,
    earlier: Vec<Attempt>,
) -> Result<PostMortem, ClientError> {
    let mut after = Vec::new();
    let all = record.depends_on.clone().or_else(|| record.after.clone()).unwrap_or_default();
    for dependency in all.into_iter().take(MOST_AFTER) {
        after.push((dependency, record_of(client, dependency.id)?));
    }
    let has_failed = record.state.is_terminal() && record.state != State::Succeeded;
    let output = match has_failed && record.attempt > 0 {
        true => end_of_output(client, record.id)?,
        false => None,
    };
    let callbacks = ends_of_callbacks(client, &record)?;
    Ok(PostMortem { record, why, earlier, after, output, callbacks })
}

/// What the callbacks of a job ran, and the last lines of each stream that they have written to. Nothing of
/// those that have not run, or of which poold does not say more.
fn ends_of_callbacks(client: &mut Client, record: &Record) -> Result<Vec<CallbackEnd>, ClientError> {
    let mut ends = Vec::new();
    let with_attempts = record.callbacks.iter().filter(|callback| callback.attempts > 0);
    for Callback { id, .. } in with_attempts.take(MOST_CALLBACKS) {
        let callback = match client.request(&GetCallback { id: *id }) {
            Ok(got) => *got.callback,
            Err(ClientError::Refused(_)) => continue,
            Err(error) => return Err(error),
        };
        let streams = [("stderr", &callback.stderr), ("stdout", &callback.stdout)];
        let output = streams.into_iter().filter_map(|(stream, named)| {
            let lines = last(&open(named.as_ref()?)?, Some(LINES))?;
            (!lines.trim().is_empty()).then_some(OutputEnd { stream, lines })
        });
        ends.push(CallbackEnd { id: *id, output: output.collect(), command: callback.command });
    }
    Ok(ends)
}

/// The last lines of stderr, or of stdout where nothing was written to that.
fn end_of_output(client: &mut Client, id: u64) -> Result<Option<OutputEnd>, ClientError> {
    let ending = match Ending::read(client, id, Some(LINES)) {
        Err(error) if is_unknown(&error) => return Ok(None),
        ending => ending?,
    };
    let streams = [("stderr", ending.stderr), ("stdout", ending.stdout)];
    let written = streams.into_iter().find_map(|(stream, lines)| {
        let lines = lines.filter(|lines| !lines.trim().is_empty())?;
        Some(OutputEnd { stream, lines })
    });
    Ok(written)
}

/// The attempts before the one that the record tells of. Nothing where poold does not say: it is older than
/// that method, or the job has been pruned in this moment.
fn earlier(client: &mut Client, record: &Record) -> Result<Vec<Attempt>, ClientError> {
    if record.attempt == 0 {
        return Ok(Vec::new());
    }
    match client.request(&Attempts { id: record.id }) {
        Ok(told) => Ok(told.attempts),
        Err(ClientError::Refused(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What a job waits for that has not ended. Nothing where poold does not say: it is older than that method,
/// or the job has been pruned in this moment.
fn why(client: &mut Client, record: &Record) -> Result<Option<String>, ClientError> {
    if record.state.is_terminal() {
        return Ok(None);
    }
    match client.request(&Why { ids: vec![record.id] }) {
        Ok(told) => Ok(told.jobs.into_iter().next().map(|explanation| explanation.reason)),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
