//! `poolctl wait`: waits for jobs that were submitted before.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use clap::Args;
use pool_proto::Record;
use pool_proto::methods::Wait;
use pool_proto::nouns::{Progress, ProgressEvent, SCHEMA};
use pool_proto::text::parse_duration;
use serde_json::json;

use super::Context;
use super::selection::{Selection, is_unknown};
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;
use crate::link::deadline::{Deadline, TimeUp};
use crate::link::session::{News, Subscription};
use crate::tell::outcome::{exit_of, sentence};
use crate::term::json;
use crate::term::obstacles::Obstacles;
use crate::term::progress::ProgressLines;
use crate::term::text::say;

/// Wait until jobs have ended; exit with 0 if all succeeded, else with the code of the first that did not
#[derive(Debug, Args)]
pub struct WaitOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that exist
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,

    /// Wait until one of the jobs has ended, and exit with its code
    #[arg(long)]
    any: bool,

    /// Stop waiting after this time, with code 124
    #[arg(short, long, value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl WaitOptions {
    /// Waits for all jobs, or for any of them. Prints each record as it comes with `--json`; otherwise prints
    /// a line on stderr for each job that failed, and at a terminal the progress of calls.
    ///
    /// # Errors
    /// When poold has gone for good. A job that does not exist is named, and counts as failed.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let deadline = self.timeout.map_or(Deadline::NEVER, Deadline::after);
        let mut selection = Selection::of(&self.ids);
        let lines = match selection.ids().len() {
            _ if context.as_json => ProgressLines::hidden(),
            1 => ProgressLines::of_one(),
            _ => ProgressLines::of_many(),
        };
        let wait = |selection: &Selection, waiter: &Waiter| Wait {
            ids: selection.ids().to_vec(),
            any: Some(self.any),
            progress: Some(waiter.lines.are_seen()),
            obstacles: Some(true),
            ..Wait::default()
        };

        let ids: Vec<u64> = self.ids.iter().flat_map(IdRange::ids).collect();
        let obstacles = if ids.len() == 1 { Obstacles::of_one() } else { Obstacles::of_many() };
        let as_json = context.as_json;
        let mut waiter = Waiter { ids, any: self.any, as_json, ended: HashMap::new(), lines, obstacles };
        if selection.are_many() {
            match context.link.connect_before(deadline) {
                Err(error) if error.is::<TimeUp>() => return waiter.give_up("poold could not be asked"),
                client => selection.leave_out_if_many(&mut client?)?,
            }
            if !waiter.narrow(&selection) {
                return Ok(waiter.exit());
            }
        }
        let opened = Subscription::open(&context.link, wait(&selection, &waiter), deadline);
        let mut subscription = match opened {
            Err(error) if error.is::<TimeUp>() => return waiter.give_up("poold could not be asked"),
            other => other?,
        };
        loop {
            match subscription.next(|| waiter.settle()) {
                // The others are waited for without the jobs that do not exist.
                Err(error) if error.downcast_ref().is_some_and(is_unknown) => {
                    let mut client = context.link.connect_before(deadline)?;
                    waiter.lines.aside(|| selection.leave_out_unknown(&mut client, error.downcast()?))?;
                    if !waiter.narrow(&selection) {
                        return Ok(waiter.exit());
                    }
                    subscription.ask(wait(&selection, &waiter));
                }
                Ok(News::Reply(progress, more)) => {
                    if let Some(exit) = waiter.on_progress(progress, !more)? {
                        return Ok(exit);
                    }
                }
                // The progress of calls that died with their poold would mislead.
                Ok(News::Lost) => {
                    waiter.lines.clear();
                    waiter.obstacles.clear();
                }
                // What is known is not asked for again: a long wait comes to its end.
                Ok(News::Back) => {
                    let ended = &waiter.ended;
                    subscription.request_mut().ids.retain(|id| !ended.contains_key(id));
                    if subscription.request_mut().ids.is_empty() {
                        return Ok(waiter.exit());
                    }
                }
                Err(error) if error.is::<TimeUp>() => {
                    let remark = if subscription.is_away() { "poold is away" } else { "" };
                    return waiter.give_up(remark);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

struct Waiter {
    ids: Vec<u64>,
    any: bool,
    as_json: bool,
    ended: HashMap<u64, ExitReason>,
    lines: ProgressLines,
    obstacles: Obstacles,
}

impl Waiter {
    /// Shows what is known before poolctl waits. Returns when to do so again.
    fn settle(&mut self) -> Deadline {
        self.lines.show();
        for line in self.obstacles.lines() {
            self.lines.aside(|| say(line));
        }
        Deadline::at_some(self.obstacles.due())
    }

    /// Takes in a reply. Returns how to exit if nothing is left to wait for.
    fn on_progress(&mut self, told: Progress, is_last: bool) -> anyhow::Result<Option<ExitReason>> {
        if let Some(progress) = &told.progress {
            self.lines.note(told.id, progress);
        }
        if let Some(obstacle) = told.obstacle {
            self.obstacles.note(obstacle);
        }
        let Some(record) = told.record.filter(|_| told.event == ProgressEvent::Ended) else {
            return Ok(None);
        };

        let exit = exit_of(&record);
        self.lines.end(record.id);
        self.obstacles.forget(record.id);
        // After a restart poold repeats the jobs that had ended before.
        if self.ended.insert(record.id, exit).is_none() {
            self.lines.aside(|| tell(&record, self.as_json))?;
        }

        if self.any {
            return Ok(Some(exit));
        }
        Ok(is_last.then(|| self.exit()))
    }

    /// Waits only for the jobs that are left. False if none is left.
    fn narrow(&mut self, selection: &Selection) -> bool {
        self.ended.extend(selection.in_vain().iter().map(|&id| (id, ExitReason::Failed)));
        let left: HashSet<u64> = selection.ids().iter().copied().collect();
        self.ids.retain(|id| left.contains(id) || self.ended.contains_key(id));
        selection.ids().iter().any(|id| !self.ended.contains_key(id))
    }

    /// The exit of the first job, in the order of the ids, that did not succeed.
    fn exit(&self) -> ExitReason {
        let mut exits = self.ids.iter().filter_map(|id| self.ended.get(id).copied());
        exits.find(|exit| !exit.is_success()).unwrap_or(ExitReason::Success)
    }

    /// Prints what is known when the deadline is over. With `--json` a document names the jobs that have not
    /// ended.
    fn give_up(&mut self, remark: &str) -> anyhow::Result<ExitReason> {
        self.lines.clear();
        let left: Vec<u64> = self.ids.iter().copied().filter(|id| !self.ended.contains_key(id)).collect();
        let what = match (left.as_slice(), self.ids.len()) {
            ([id], 1) => format!("job {id} has not ended"),
            ([], all) => format!("poold has not said that all of {all} jobs have ended"),
            ([first, ..], all) => format!("{} of {all} jobs have not ended, first {first}", left.len()),
        };

        let remark = if remark.is_empty() { String::new() } else { format!("; {remark}") };
        say(format_args!("the time is up: {what}{remark}"));
        if self.as_json {
            json::print(&json!({ "schema": SCHEMA, "timed_out": true, "ids": left }))?;
        }
        Ok(ExitReason::TimedOut)
    }
}

fn tell(record: &Record, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json::print(record);
    }
    if !exit_of(record).is_success() {
        say(sentence(record));
    }
    Ok(())
}
