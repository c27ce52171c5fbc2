//! What poolctl prints about a job: its record in full, its line in a listing, and the documents that hold
//! records.

use std::collections::BTreeMap;

use pool_proto::nouns::{ArrayInfo, Dependency, MemoryLimit, MemoryLimiter, On, OnCrash, OutputFile, SCHEMA};
use pool_proto::{OsText, Record};

use super::error::describe_error;
use super::shell::command_line;
use super::{callback, outcome};
use crate::term::{progress, text::printable};

/// A document that holds records.
#[derive(Debug, serde::Serialize)]
pub struct JobsDocument<'a> {
    schema: u32,
    jobs: &'a [Record],
}

impl<'a> JobsDocument<'a> {
    /// The document of these jobs.
    pub fn of(jobs: &'a [Record]) -> Self {
        Self { schema: SCHEMA, jobs }
    }
}

/// Whether the job writes both streams to one file, in the order of time.
pub fn are_merged(record: &Record) -> bool {
    let path = |file: &Option<OutputFile>| file.as_ref().map(|file| file.path.clone());
    path(&record.stdout).is_some_and(|stdout| path(&record.stderr) == Some(stdout))
}

/// The id of a job as people write it: of an element its array's, and its index.
pub fn id_of(record: &Record) -> String {
    let element = record.array.as_ref().and_then(|array| Some((array.id, array.index?)));
    element.map_or_else(|| record.id.to_string(), |(array, index)| format!("{array}.{index}"))
}

/// How far an array has come.
fn elements(array: &ArrayInfo) -> Option<String> {
    let indices = array.indices.as_ref()?;
    let at_once = array.at_once.map(|at_once| format!(", {at_once} at a time")).unwrap_or_default();
    let counts = [(array.succeeded, "succeeded"), (array.failed, "failed"), (array.canceled, "canceled")];
    let counts =
        counts.into_iter().filter_map(|(count, what)| Some((count.filter(|&count| count > 0)?, what)));
    let counts: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    let ended = if counts.is_empty() { "none has ended".to_owned() } else { counts.join(", ") };
    let held = array.held.map(|held| format!(", {held} held")).unwrap_or_default();
    Some(format!("{} ({indices}{at_once}): {ended}{held}", array.elements))
}

/// The whole record as text, one line for each member. `why`: what the job waits for.
pub fn describe(record: &Record, why: Option<String>) -> String {
    let line = |(name, value): (&str, String)| format!("{name:<10} {}\n", printable(&value, usize::MAX));
    members(record, why).into_iter().map(line).collect()
}

/// The members of a record, each with its name.
pub fn members(record: &Record, why: Option<String>) -> Vec<(&'static str, String)> {
    let mut members = Vec::new();
    let mut line =
        |name: &'static str, value: Option<String>| members.extend(value.map(|value| (name, value)));

    line("id", Some(record.id.to_string()));
    let array = record.array.as_deref();
    let element = array
        .and_then(|array| Some(format!("{} of {}", id_of(record), array.index.map(|_| array.elements)?)));
    line("element", element);
    line("elements", array.and_then(elements));
    line("name", record.name.as_ref().map(OsText::to_string));
    line("key", record.key.as_ref().map(OsText::to_string));
    line("unique", record.unique.as_ref().map(OsText::to_string));
    line("labels", record.labels.as_ref().map(|labels| labels.join(", ")));
    line("slots", (record.slots > 1).then(|| record.slots.to_string()));
    line("resources", record.resources.as_ref().map(|all| resources(all, record.items.as_ref())));
    let paused = record.frozen_since.as_ref().map(|since| format!(", paused since {since}"));
    line("state", Some(format!("{}{}", record.state.as_str(), paused.unwrap_or_default())));
    line("result", record.result.map(|result| format!("{} ({})", result.as_str(), outcome::summary(record))));
    line("reason", record.reason.clone());
    line("why", why);
    line("command", record.argv.as_deref().map(command_line));
    line("call", record.method.as_ref().map(|_| work_line(record)));
    line("progress", record.progress.as_ref().map(progress::describe));
    line("value", record.value.as_ref().map(|value| value.get().to_owned()));
    line("error", record.error.as_ref().map(describe_error));

    line("directory", Some(record.cwd.to_string()));
    line(
        "pool",
        Some(record.slot.map_or(record.pool.clone(), |slot| format!("{}, slot {slot}", record.pool))),
    );

    line("attempt", Some(record.attempt.to_string()));
    line("run again", (record.reruns > 0).then(|| times(record.reruns)));
    line("retries", (record.retries > 0).then(|| format!("{} of {}", record.retried, record.retries)));
    line("retry on", record.retry_on_exit.clone());
    line("due", record.due_at.clone());
    line("start by", record.start_by.clone());
    line("deadline", record.deadline_at.clone());
    line("waits for", record.waits_for.map(|before| format!("the end of job {before}")));
    line("after", record.after.as_deref().map(after));
    line("priority", (record.priority != 0).then(|| record.priority.to_string()));
    line("crashes", (record.crashes > 0).then(|| record.crashes.to_string()));
    line("crashed", record.last_crash.clone());
    line("memory", record.memory_limit.map(memory_limit));
    line("tie", record.tie.clone());
    line("on crash", (record.on_crash != OnCrash::Requeue).then(|| record.on_crash.as_str().to_owned()));

    line("pid", record.pid.map(|pid| pid.to_string()));
    line("worker", record.worker_pid.map(|pid| pid.to_string()));

    line("submitted", Some(record.submitted_at.clone()));
    line("started", record.started_at.clone());
    line("ended", record.ended_at.clone());
    line("duration", record.wall_s.map(|seconds| format!("{seconds:.3} s")));
    line(
        "usage",
        record.usage.map(|usage| {
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let largest = mebibytes(usage.max_rss_bytes);
            let all =
                usage.memory_peak_bytes.map(|bytes| format!(", {:.1} MiB all together", mebibytes(bytes)));
            let all = all.unwrap_or_default();
            format!(
                "{:.3} s user, {:.3} s system, {largest:.1} MiB the largest process{all}",
                usage.user_s, usage.sys_s
            )
        }),
    );

    let are_merged = are_merged(record);
    let files = [("stdout", &record.stdout), ("stderr", &record.stderr)];
    for (name, file) in files.into_iter().filter(|(name, _)| !are_merged || *name == "stdout") {
        let describe = |file: &OutputFile| match file.bytes {
            Some(bytes) => format!("{} ({bytes} bytes)", file.path),
            None => file.path.to_string(),
        };
        line(if are_merged { "output" } else { name }, file.as_ref().map(describe));
    }

    for callback in &record.callbacks {
        line("callback", Some(callback::line_of(callback)));
    }
    members
}

/// What a job takes of its pool, and what its attempt has: `gpu=2 (0,1), tape=1 (a)`.
fn resources(takes: &BTreeMap<String, u32>, items: Option<&BTreeMap<String, String>>) -> String {
    let has = |name: &String| items.and_then(|items| items.get(name));
    let one = |(name, amount): (&String, &u32)| match has(name) {
        Some(items) => format!("{name}={amount} ({items})"),
        None => format!("{name}={amount}"),
    };
    takes.iter().map(one).collect::<Vec<String>>().join(", ")
}

/// How much memory a job may use, and what holds it to that.
fn memory_limit(limit: MemoryLimit) -> String {
    let by = match limit.by {
        Some(MemoryLimiter::Cgroup) => ", by its control group",
        Some(MemoryLimiter::AddressSpace) => {
            " of address space for each process: no control group limits memory"
        }
        None => "",
    };
    format!("at most {} bytes{by}", limit.bytes)
}

/// How often.
pub fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// What a job is to run after.
fn after(dependencies: &[Dependency]) -> String {
    let one = |Dependency { id, on }: &Dependency| match on {
        Some(On::Failure) => format!("{id} (without success)"),
        Some(On::Done) => format!("{id} (in any way)"),
        Some(On::Success) | None => id.to_string(),
    };
    let ids: Vec<String> = dependencies.iter().map(one).collect();
    format!("the end of {}", ids.join(", "))
}

/// The work of a job on one line: its command, or its call.
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
