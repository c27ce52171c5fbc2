//! What poolctl prints about callbacks.

use std::fmt::Write;
use std::time::SystemTime;

use pool_proto::nouns::{Callback, CallbackRecord, OutputFile, SCHEMA};

use super::when::{age, local, short, since, until};
use crate::term::table;
use crate::term::text::{LONGEST, printable};

/// The document of `callbacks show --json`.
#[derive(Debug, serde::Serialize)]
pub struct CallbackDocument<'a> {
    schema: u32,
    #[serde(flatten)]
    callback: &'a CallbackRecord,
}

impl<'a> CallbackDocument<'a> {
    /// The document of this callback.
    pub fn of(callback: &'a CallbackRecord) -> Self {
        Self { schema: SCHEMA, callback }
    }
}

/// What has come of a callback of a job, in a few words.
pub fn line_of(callback: &Callback) -> String {
    let state = match callback.state.as_str() {
        "failed" => "given up",
        "skipped" => "not for this end",
        other => other,
    };
    let attempts = match callback.attempts {
        0 => String::new(),
        1 => ", 1 attempt".to_owned(),
        attempts => format!(", {attempts} attempts"),
    };
    let code = callback.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    format!("{} on {}: {state}{attempts}{code}", callback.id, callback.on.as_str())
}

/// A table with a row for each callback. AGE counts from the end of the job.
pub fn table_of(callbacks: &[CallbackRecord]) -> String {
    let now = SystemTime::now();
    let mut table = table::empty();
    table.add_row(["ID", "STATE", "ON", "JOB", "ATTEMPTS", "CODE", "AGE", "COMMAND"]);
    for callback in callbacks {
        let ended = callback.ended_at.as_deref().and_then(|ended| since(ended, now));
        table.add_row([
            callback.id.to_string(),
            state_of(callback, now),
            callback.on.as_str().to_owned(),
            callback.job.to_string(),
            callback.attempts.to_string(),
            callback.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            ended.map(age).unwrap_or_default(),
            printable(&callback.command.to_string(), LONGEST),
        ]);
    }
    table::lines(&table)
}

fn state_of(callback: &CallbackRecord, now: SystemTime) -> String {
    let left = callback.due_at.as_deref().and_then(|due| until(due, now));
    let next = left.map(|left| format!(", next in {}", short(left)));
    callback.state.clone() + &next.unwrap_or_default()
}

/// All that there is to know of a callback, a line each.
pub fn lines_of(callback: &CallbackRecord) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            writeln!(lines, "{name:<10}{}", printable(&value, usize::MAX))
                .expect("a string takes everything");
        }
    };
    line("callback", Some(callback.id.to_string()));
    line("on", Some(callback.on.as_str().to_owned()));
    line("state", Some(state_of(callback, SystemTime::now())));
    line("command", Some(callback.command.to_string()));
    line("attempts", Some(callback.attempts.to_string()));
    line("exit code", callback.exit_code.map(|code| code.to_string()));

    let name = callback.job_name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let result = callback.job_result.map_or(callback.job_state.as_str(), |result| result.as_str());
    line("job", Some(format!("{}{name}, {result}, pool {}", callback.job, callback.pool)));
    line("ended", callback.ended_at.as_deref().map(local));
    let file = |file: &OutputFile| match file.bytes {
        Some(bytes) => format!("{} ({bytes} bytes)", file.path),
        None => file.path.to_string(),
    };
    line("stdout", callback.stdout.as_ref().map(file));
    line("stderr", callback.stderr.as_ref().map(file));
    lines
}

/// The last lines of a stream, under its name; nothing where it is empty.
pub fn lines_of_output(name: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let lines = text.lines().map(|line| format!("  {}\n", printable(line, usize::MAX)));
    format!("last lines of {name}:\n{}", lines.collect::<String>())
}
