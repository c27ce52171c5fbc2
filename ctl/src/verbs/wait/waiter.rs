//! Who waits for many jobs: which of them have ended, and how; and what is shown meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use pool_proto::methods::{Get, Wait};
use pool_proto::nouns::{Progress, ProgressEvent, SCHEMA};
use pool_proto::{Record, ResultKind, State};
use serde_json::json;

use super::LOOK;
use crate::exit::ExitReason;
use crate::link::deadline::{Deadline, TimeUp};
use crate::tell::outcome::{exit_of, pointer, sentence};
use crate::term::bar::Bar;
use crate::term::json;
use crate::term::obstacles::Obstacles;
use crate::term::progress::ProgressLines;
use crate::term::text::{hint, say};
use crate::verbs::Context;
use crate::verbs::selection::{Selection, is_unknown};

/// How often the bar shows the time that has passed.
const TICK: Duration = Duration::from_millis(500);

/// See the module's description.
pub struct Waiter {
    ids: Vec<u64>,
    /// A selector has named no job.
    is_short: bool,
    any: bool,
    as_json: bool,
    /// The records are told as they come, and not in the end.
    is_told: bool,
    ended: HashMap<u64, ExitReason>,
    /// The first job that has failed, by the order of their ends.
    first_failed: Option<u64>,
    failed: u64,
    lines: ProgressLines,
    bar: Bar,
    obstacles: Obstacles,
}

impl Waiter {
    /// Waits for these jobs, or for any of them.
    pub fn new(selection: &Selection, any: bool, as_json: bool, is_told: bool) -> Self {
        let ids = selection.ids().to_vec();
        let mut lines = match ids.len() {
            _ if as_json => ProgressLines::hidden(),
            1 => ProgressLines::of_one(),
            _ => ProgressLines::of_many(),
        };
        let obstacles = if ids.len() == 1 { Obstacles::of_one() } else { Obstacles::of_many() };
        let bar = if ids.len() > 1 && !any { lines.bar(ids.len() as u64) } else { Bar::hidden() };
        Self {
            is_short: !selection.exit().is_success(),
            ids,
            any,
            as_json,
            is_told,
            ended: HashMap::new(),
            first_failed: None,
            failed: 0,
            lines,
            bar,
            obstacles,
        }
    }

    /// What poold is asked for.
    pub fn request(&self, selection: &Selection) -> Wait {
        Wait {
            ids: selection.ids().to_vec(),
            any: Some(self.any),
            progress: Some(self.lines.are_seen()),
            obstacles: Some(true),
            ..Wait::default()
        }
    }

    /// Whether the end of this job is known.
    pub fn has_ended(&self, id: u64) -> bool {
        self.ended.contains_key(&id)
    }

    /// Calls `act`, which may write to the terminal, with nothing else shown there meanwhile.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.lines.aside(act)
    }

    /// poold has gone: the progress of calls that died with it would mislead.
    pub fn on_lost(&mut self) {
        self.lines.clear();
        self.obstacles.clear();
    }

    /// Leaves the last state of the bar, and says where more of a failure is told.
    pub fn finish(&self) {
        self.bar.update(self.ended.len() as u64, self.failed);
        self.bar.finish();
        if let Some(id) = self.first_failed.filter(|_| !self.as_json) {
            hint(pointer(id, self.failed));
        }
    }

    /// Looks once which jobs have ended.
    pub fn look(&mut self, context: &Context, selection: &mut Selection) -> anyhow::Result<ExitReason> {
        let mut client = match context.link.connect_before(Deadline::after(LOOK)) {
            Err(error) if error.is::<TimeUp>() => return self.give_up("poold could not be asked"),
            client => client?,
        };
        selection.leave_out_absent(&mut client)?;
        self.narrow(selection);
        for &id in selection.ids() {
            let record = match client.request(&Get { id }) {
                // It has just been removed.
                Err(error) if is_unknown(&error) => continue,
                got => *got?.record,
            };
            if !record.state.is_terminal() {
                continue;
            }
            let exit = exit_of(&record);
            self.ended.insert(id, exit);
            self.note_end(&record);
            tell(&record, self.as_json)?;
            if self.any {
                return Ok(exit);
            }
        }
        if self.ids.iter().all(|id| self.ended.contains_key(id)) {
            return Ok(self.exit());
        }
        self.give_up("")
    }

    /// Shows what is known before poolctl waits. Returns when to do so again.
    pub fn settle(&mut self) -> Deadline {
        self.lines.show();
        for line in self.obstacles.lines() {
            self.lines.aside(|| say(line));
        }
        self.bar.update(self.ended.len() as u64, self.failed);
        self.bar.tick();
        let tick = if self.bar.is_shown() { Deadline::after(TICK) } else { Deadline::NEVER };
        Deadline::at_some(self.obstacles.due()).or(tick)
    }

    /// Takes in a reply. Returns how to exit if nothing is left to wait for.
    pub fn on_progress(&mut self, told: Progress, is_last: bool) -> anyhow::Result<Option<ExitReason>> {
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
            self.note_end(&record);
            if self.is_told {
                self.lines.aside(|| tell(&record, self.as_json))?;
            }
        }

        if self.any {
            return Ok(Some(exit));
        }
        Ok(is_last.then(|| self.exit()))
    }

    /// What somebody has canceled needs no explanation.
    fn note_end(&mut self, record: &Record) {
        if record.state != State::Succeeded {
            self.failed += 1;
            let is_told = record.state == State::Canceled && record.result != Some(ResultKind::DepFailed);
            self.first_failed = self.first_failed.or((!is_told).then_some(record.id));
        }
    }

    /// Waits only for the jobs that are left. False if none is left.
    pub fn narrow(&mut self, selection: &Selection) -> bool {
        self.ended.extend(selection.in_vain().iter().map(|&id| (id, ExitReason::Failed)));
        let left: HashSet<u64> = selection.ids().iter().copied().collect();
        self.ids.retain(|id| left.contains(id) || self.ended.contains_key(id));
        selection.ids().iter().any(|id| !self.ended.contains_key(id))
    }

    /// The exit of the first job, in the order of the ids, that did not succeed.
    pub fn exit(&self) -> ExitReason {
        let mut exits = self.ids.iter().filter_map(|id| self.ended.get(id).copied());
        let otherwise = if self.is_short { ExitReason::Failed } else { ExitReason::Success };
        exits.find(|exit| !exit.is_success()).unwrap_or(otherwise)
    }

    /// Prints what is known when the deadline is over. With `--json` a document names the jobs that have not
    /// ended.
    pub fn give_up(&mut self, remark: &str) -> anyhow::Result<ExitReason> {
        self.lines.clear();
        let left: Vec<u64> = self.ids.iter().copied().filter(|id| !self.ended.contains_key(id)).collect();
        let what = match (left.as_slice(), self.ids.len()) {
            ([id], 1) => format!("job {id} has not ended"),
            ([], all) => format!("poold has not said that all of {all} jobs have ended"),
            ([first, ..], all) => format!("{} of {all} jobs have not ended, first {first}", left.len()),
        };

        let remark = if remark.is_empty() { String::new() } else { format!("; {remark}") };
        self.lines.aside(|| say(format_args!("the time is up: {what}{remark}")));
        if self.as_json && self.is_told {
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
