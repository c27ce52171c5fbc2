//! What poolctl prints about schedules.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use pool_proto::nouns::{SCHEMA, Schedule, ScheduleState};
use pool_proto::text::about;

use super::shell::command_line;
use super::when::{local, until};
use crate::term::table;
use crate::term::text::{LONGEST, printable};

/// The document of `schedule ls --json`.
#[derive(Debug, serde::Serialize)]
pub struct SchedulesDocument<'a> {
    schema: u32,
    schedules: &'a [ScheduleState],
}

impl<'a> SchedulesDocument<'a> {
    /// The document of these schedules.
    pub fn of(schedules: &'a [ScheduleState]) -> Self {
        Self { schema: SCHEMA, schedules }
    }
}

/// The document of `schedule show --json`.
#[derive(Debug, serde::Serialize)]
pub struct ScheduleDocument<'a> {
    schema: u32,
    #[serde(flatten)]
    schedule: &'a ScheduleState,
}

impl<'a> ScheduleDocument<'a> {
    /// The document of this schedule.
    pub fn of(schedule: &'a ScheduleState) -> Self {
        Self { schema: SCHEMA, schedule }
    }
}

/// A table with a row for each schedule.
pub fn table_of(schedules: &[ScheduleState]) -> String {
    let mut table = table::empty();
    table.add_row(["NAME", "TIMES", "NEXT", "LAST JOB", "COMMAND", "REASON"]);
    for state in schedules {
        let schedule = &state.schedule;
        let next = match state.next.first() {
            _ if state.paused => "paused".to_owned(),
            Some(next) => local(next),
            None => "never".to_owned(),
        };
        let reason = printable(state.fault.as_deref().unwrap_or_default(), LONGEST);
        let command = printable(&command_of(schedule), LONGEST);
        table.add_row([schedule.name.clone(), times_of(schedule), next, last_of(state), command, reason]);
    }
    table::lines(&table)
}

/// All that there is to know of a schedule, a line each.
pub fn lines_of(state: &ScheduleState) -> String {
    let schedule = &state.schedule;
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(lines, "{name:<10}{}", printable(value, usize::MAX)).expect("a string takes everything");
    };
    line("name", &schedule.name);
    line("times", &times_of(schedule));
    for (place, next) in state.next.iter().enumerate() {
        let soon =
            until(next, SystemTime::now()).map(|left| format!(" (in {})", about(left))).unwrap_or_default();
        line(if place == 0 { "next" } else { "" }, &(local(next) + &soon));
    }
    if let (Some(since), Some(by)) = (&state.paused_since, state.paused_by) {
        line("paused", &format!("since {}, by user {by}", local(since)));
    }
    if let Some(last) = &state.last {
        let what = if last.skipped { "skipped: not over then was job" } else { "job" };
        line("last", &format!("{}, {what} {}", local(&last.at), last.id));
    }
    if let Some(fault) = &state.fault {
        line("reason", &format!("the latest time brought no job: {fault}"));
    }
    line("overlap", word_of(&schedule.overlap.unwrap_or_default()).as_str());
    line("missed", word_of(&schedule.missed.unwrap_or_default()).as_str());
    line("of", if state.configured { "the configuration" } else { "`poolctl schedule add`" });
    line("pool", schedule.job.pool.as_deref().unwrap_or(pool_proto::nouns::DEFAULT_POOL));
    line("command", &command_of(schedule));
    lines
}

/// A word of the protocol, as the command line has it.
fn word_of(word: &impl serde::Serialize) -> String {
    let text = serde_json::to_value(word).ok().and_then(|value| value.as_str().map(str::to_owned));
    text.unwrap_or_default().replace('_', "-")
}

fn times_of(schedule: &Schedule) -> String {
    match (&schedule.cron, schedule.every_s.and_then(|every| Duration::try_from_secs_f64(every).ok())) {
        (Some(cron), _) => {
            let zone = schedule.time_zone.as_ref().map(|zone| format!(" {zone}")).unwrap_or_default();
            printable(&format!("{cron}{zone}"), LONGEST)
        }
        (None, Some(every)) => format!("every {}", humantime::format_duration(every)),
        (None, None) => String::new(),
    }
}

fn command_of(schedule: &Schedule) -> String {
    match &schedule.job.method {
        Some(method) => format!("call of {method}"),
        None => command_line(&schedule.job.argv),
    }
}

fn last_of(state: &ScheduleState) -> String {
    match &state.last {
        Some(last) if last.skipped => format!("{} (skipped)", last.id),
        Some(last) => last.id.to_string(),
        None => String::new(),
    }
}
