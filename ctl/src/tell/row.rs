//! What a listing says of a job: one short cell for each column.

use std::time::SystemTime;

use pool_proto::{Record, ResultKind, State};

use super::record::{id_of, work_line};
use super::{outcome, when};
use crate::term::style::Tone;

/// A column of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Id,
    State,
    Result,
    ExitCode,
    Pool,
    Time,
    Age,
    /// The name, or else the command, and notes.
    Work,
    Name,
    Command,
    Labels,
    Priority,
    Attempt,
    Submitted,
    Started,
    Ended,
    Notes,
    Pid,
    Slot,
    Cwd,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 20] = [
        Self::Id,
        Self::State,
        Self::Result,
        Self::ExitCode,
        Self::Pool,
        Self::Time,
        Self::Age,
        Self::Work,
        Self::Name,
        Self::Command,
        Self::Labels,
        Self::Priority,
        Self::Attempt,
        Self::Submitted,
        Self::Started,
        Self::Ended,
        Self::Notes,
        Self::Pid,
        Self::Slot,
        Self::Cwd,
    ];

    /// The columns of a listing on a terminal.
    pub const USUAL: [Self; 6] = [Self::Id, Self::State, Self::Pool, Self::Time, Self::Age, Self::Work];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::State => "state",
            Self::Result => "result",
            Self::ExitCode => "exit_code",
            Self::Pool => "pool",
            Self::Time => "time",
            Self::Age => "age",
            Self::Work => "work",
            Self::Name => "name",
            Self::Command => "command",
            Self::Labels => "labels",
            Self::Priority => "priority",
            Self::Attempt => "attempt",
            Self::Submitted => "submitted",
            Self::Started => "started",
            Self::Ended => "ended",
            Self::Notes => "notes",
            Self::Pid => "pid",
            Self::Slot => "slot",
            Self::Cwd => "cwd",
        }
    }

    /// The heading.
    pub fn heading(self) -> String {
        match self {
            Self::Work => "NAME / COMMAND".to_owned(),
            other => other.name().replace('_', " ").to_ascii_uppercase(),
        }
    }

    /// Whether the cells are numbers and durations, which stand at the right.
    pub fn is_right(self) -> bool {
        matches!(
            self,
            Self::Id
                | Self::ExitCode
                | Self::Time
                | Self::Age
                | Self::Priority
                | Self::Attempt
                | Self::Pid
                | Self::Slot
        )
    }

    /// Whether the cells may be of any length.
    pub fn is_long(self) -> bool {
        matches!(self, Self::Work | Self::Name | Self::Command | Self::Labels | Self::Notes | Self::Cwd)
    }
}

/// So many of the jobs that a job waits for are named.
const MOST_AFTER: usize = 3;

/// A job of a listing.
#[derive(Debug, Clone)]
pub struct Row {
    /// What poold knows of the job.
    pub record: Record,
    /// Its place in its line, if it is known.
    pub place: Option<u32>,
}

impl Row {
    /// A row without a place in a line.
    pub fn of(record: Record) -> Self {
        Self { record, place: None }
    }

    /// What stands in a column, as it is: foreign text may be in it.
    pub fn cell(&self, column: Column, now: SystemTime) -> String {
        let record = &self.record;
        let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
        let local = |time: Option<&String>| time.map(|time| when::local(time)).unwrap_or_default();
        match column {
            Column::Id => id_of(record),
            Column::State => self.state(),
            Column::Result => record.result.map(|result| result.as_str().to_owned()).unwrap_or_default(),
            Column::ExitCode => match record.state.is_terminal() {
                true => outcome::exit_of(record).code().to_string(),
                false => String::new(),
            },
            Column::Pool => record.pool.clone(),
            Column::Time => self.time(now),
            Column::Age => when::since(&record.submitted_at, now).map(when::age).unwrap_or_default(),
            Column::Work => self.work(),
            Column::Name => record.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            Column::Command => work_line(record),
            Column::Labels => record.labels.as_ref().map(|labels| labels.join(",")).unwrap_or_default(),
            Column::Priority => record.priority.to_string(),
            Column::Attempt => record.attempt.to_string(),
            Column::Submitted => when::local(&record.submitted_at),
            Column::Started => local(record.started_at.as_ref()),
            Column::Ended => local(record.ended_at.as_ref()),
            Column::Notes => self.notes(now),
            Column::Pid => number(record.pid.map(i64::from)),
            Column::Slot => number(record.slot.map(i64::from)),
            Column::Cwd => record.cwd.to_string(),
        }
    }

    /// The mark of the state, how the job has ended, and its place in the line.
    pub fn state(&self) -> String {
        let record = &self.record;
        match record.state {
            State::Running if record.frozen_since.is_some() => "= paused".to_owned(),
            State::Running => "> running".to_owned(),
            State::Stopping => "> stopping".to_owned(),
            State::Queued => match (self.place, record.waits_for) {
                (Some(place), _) => format!("- queued {place}"),
                (None, Some(before)) => format!("- after {before}"),
                (None, None) => "- queued".to_owned(),
            },
            State::Scheduled | State::Blocked | State::Retrying => format!("- {}", record.state.as_str()),
            State::Held => "= held".to_owned(),
            State::Succeeded => "+ succeeded".to_owned(),
            State::Canceled if record.result == Some(ResultKind::DepFailed) => "/ dep failed".to_owned(),
            State::Canceled => "/ canceled".to_owned(),
            State::TimedOut => "x timeout".to_owned(),
            State::Lost => "x lost".to_owned(),
            State::Failed => match (record.result, record.exit_code, record.signal) {
                (Some(ResultKind::OomKill), ..) => "x oom".to_owned(),
                (Some(ResultKind::Error), ..) => "x error".to_owned(),
                (_, Some(code), _) => format!("x exit {code}"),
                (_, None, Some(signal)) => format!("x signal {signal}"),
                (_, None, None) => "x failed".to_owned(),
            },
        }
    }

    /// What the state says.
    pub fn tone(&self) -> Tone {
        match self.record.state {
            State::Running if self.record.frozen_since.is_some() => Tone::Attention,
            State::Running | State::Stopping => Tone::Running,
            State::Queued | State::Scheduled | State::Blocked => Tone::Waiting,
            State::Retrying | State::Held => Tone::Attention,
            State::Succeeded => Tone::Good,
            State::Canceled => Tone::Faint,
            State::Failed | State::TimedOut | State::Lost => Tone::Bad,
        }
    }

    /// How long it has run, or runs.
    fn time(&self, now: SystemTime) -> String {
        let record = &self.record;
        let so_far = || when::since(record.started_at.as_deref()?, now);
        let time = match record.state {
            State::Running | State::Stopping => so_far(),
            _ if record.state.is_terminal() => record.wall_s.map(when::of_seconds),
            _ => None,
        };
        time.map(when::short).unwrap_or_default()
    }

    /// The name, or else the command.
    pub fn work(&self) -> String {
        self.record.name.as_ref().map_or_else(|| work_line(&self.record), ToString::to_string)
    }

    /// What is special about it.
    pub fn notes(&self, now: SystemTime) -> String {
        let record = &self.record;
        let mut notes = Vec::new();
        if record.callbacks.iter().any(|callback| callback.state == "failed") {
            notes.push("callback failed".to_owned());
        }
        if let Some(left) = record.due_at.as_deref().and_then(|due| when::until(due, now)) {
            notes.push(format!("in {}", when::age(left)));
        }
        if record.state == State::Blocked {
            let ids: Vec<String> = record.after.iter().flatten().map(|on| on.id.to_string()).collect();
            let more = if ids.len() > MOST_AFTER { " ..." } else { "" };
            notes.push(format!("after {}{more}", ids[..ids.len().min(MOST_AFTER)].join(" ")));
        }
        if record.priority != 0 && !record.state.is_terminal() {
            notes.push(format!("priority {}", record.priority));
        }
        if record.attempt > 1 {
            notes.push(format!("attempt {}", record.attempt));
        }
        // That of an array which runs so many at a time (%12) says nothing new beside its elements' ids.
        let labels = record.labels.iter().flatten().filter(|label| !label.starts_with('%'));
        notes.extend(labels.map(|label| format!("@{label}")));
        notes.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(members: serde_json::Value) -> Row {
        let mut value = serde_json::json!({
            "schema": 1, "id": 7, "state": "running", "pool": "default", "argv": ["sleep", "9"], "cwd": "/",
            "attempt": 1, "crashes": 0, "on_crash": "requeue",
            "submitted_at": "2026-11-26T20:30:00.000000Z", "callbacks": [],
        });
        let members = members.as_object().expect("members").clone();
        value.as_object_mut().expect("it is one").extend(members);
        Row::of(serde_json::from_value(value).expect("it is a record"))
    }

    #[test]
    fn a_state_says_how_it_ended_and_what_comes_next() {
        let place = |place| Row { place: Some(place), ..row(serde_json::json!({ "state": "queued" })) };
        for (row, wanted) in [
            (row(serde_json::json!({})), "> running"),
            (row(serde_json::json!({ "frozen_since": "x" })), "= paused"),
            (place(3), "- queued 3"),
            (row(serde_json::json!({ "state": "queued", "waits_for": 5 })), "- after 5"),
            (
                row(serde_json::json!({ "state": "failed", "result": "exit-code", "exit_code": 101 })),
                "x exit 101",
            ),
            (row(serde_json::json!({ "state": "failed", "result": "signal", "signal": 9 })), "x signal 9"),
            (row(serde_json::json!({ "state": "timed_out", "result": "timeout" })), "x timeout"),
            (row(serde_json::json!({ "state": "canceled", "result": "dep-failed" })), "/ dep failed"),
        ] {
            assert_eq!(row.state(), wanted);
        }
    }

    #[test]
    fn a_cell_is_seen_from_now() {
        let now = when::parse("2026-11-26T20:30:12Z").unwrap();
        let running = row(
            serde_json::json!({ "started_at": "2026-11-26T20:30:02Z", "priority": 5, "labels": ["gpu"] }),
        );
        let cells = Column::USUAL.map(|column| running.cell(column, now));
        assert_eq!(cells, ["7", "> running", "default", "10s", "12s", "sleep 9"]);
        assert_eq!(running.notes(now), "priority 5 @gpu");
        let after = serde_json::json!([{ "id": 1 }, { "id": 2 }, { "id": 3 }, { "id": 4 }]);
        let blocked = row(serde_json::json!({ "state": "blocked", "after": after }));
        assert_eq!(blocked.notes(now), "after 1 2 3 ...");
        let ended = row(serde_json::json!({
            "state": "succeeded", "result": "success", "exit_code": 0, "wall_s": 0.0071, "name": "x",
            "priority": 5,
        }));
        assert_eq!(ended.cell(Column::Time, now), "7 ms");
        assert_eq!(ended.cell(Column::Work, now), "x");
        assert_eq!(ended.cell(Column::ExitCode, now), "0");
        assert_eq!(ended.notes(now), "");
    }

    #[test]
    fn columns_have_names_of_their_own() {
        let names: std::collections::HashSet<&str> = Column::ALL.iter().map(|column| column.name()).collect();
        assert_eq!(names.len(), Column::ALL.len());
    }
}
