//! A job for somebody at a terminal who wants to know what became of it: how it ended and why, what it used,
//! what it ran after, the end of its output, and what may come next.

use std::time::SystemTime;

use pool_proto::nouns::{Attempt, Callback, Dependency, On, OutputFile};
use pool_proto::{OsText, Record, ResultKind, State};

use super::attempt::line_of;
use super::callback::line_of as line_of_callback;
use super::record::{are_merged, id_of, members, times};
use super::row::Row;
use super::{outcome, when};
use crate::term::style::Tone;
use crate::term::text::{LONGEST, printable};
use crate::term::width::wrap;

/// What is told of a job.
#[derive(Debug)]
pub struct PostMortem {
    pub record: Record,
    /// What it waits for, or does instead, where it has not ended.
    pub why: Option<String>,
    /// Its attempts before the latest one.
    pub earlier: Vec<Attempt>,
    /// The jobs that it was to run after, as they are now; none of one that has been pruned.
    pub after: Vec<(Dependency, Option<Record>)>,
    /// The end of what it has written, where that matters.
    pub output: Option<OutputEnd>,
    /// What its callbacks ran, and have written.
    pub callbacks: Vec<CallbackEnd>,
}

/// The last lines of a stream.
#[derive(Debug)]
pub struct OutputEnd {
    /// `stderr` or `stdout`.
    pub stream: &'static str,
    pub lines: String,
}

/// What is known of a callback besides what the record has.
#[derive(Debug)]
pub struct CallbackEnd {
    pub id: u64,
    pub command: OsText,
    /// The ends of what its latest attempt has written, of the streams that it has written to.
    pub output: Vec<OutputEnd>,
}

/// Members of a record that are told in other words here.
const TOLD: [&str; 20] = [
    "id",
    "state",
    "result",
    "reason",
    "why",
    "attempt",
    "run again",
    "retries",
    "crashes",
    "crashed",
    "after",
    "submitted",
    "started",
    "ended",
    "duration",
    "usage",
    "stdout",
    "stderr",
    "output",
    "callback",
];

/// Members that are sentences. Others may be copied, and stay in one piece.
const BROKEN: [&str; 6] = ["time", "used", "attempts", "earlier", "after", "callback"];

/// The columns before the value of a member.
const INDENT: usize = 11;

impl PostMortem {
    /// All of it, in lines. `width`: that of the terminal, at which long sentences are broken.
    pub fn text(&self, now: SystemTime, has_color: bool, width: usize) -> String {
        let row = Row::of(self.record.clone());
        let headline = printable(&self.headline(now), usize::MAX);
        let mut text = format!("{}\n\n", row.tone().paint(&wrap(&headline, 0, width), has_color));
        for (name, value) in self.lines(now) {
            let value = printable(&value, usize::MAX);
            let value = if BROKEN.contains(&name) { wrap(&value, INDENT, width) } else { value };
            let name = Tone::Faint.paint(&format!("{name:<10}"), has_color).into_owned();
            text += &format!("{name} {value}\n");
        }

        let of_job = self.output.iter().map(|output| ("its".to_owned(), output));
        let of_callbacks = self.callbacks.iter().flat_map(|callback| {
            callback.output.iter().map(|output| (format!("callback {}'s", callback.id), output))
        });
        for (whose, OutputEnd { stream, lines }) in of_job.chain(of_callbacks) {
            let heading = format!("the end of {whose} {stream}");
            text += &format!("\n{}\n", Tone::Heading.paint(&heading, has_color));
            lines.lines().for_each(|line| text += &format!("  {}\n", printable(line, LONGEST)));
        }

        text += &format!("\n{}\n", Tone::Heading.paint("next", has_color));
        let commands = self.next();
        let longest = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
        for (command, what) in commands {
            let what = wrap(what, longest + 4, width);
            text += &format!("  {command:<longest$}  {}\n", Tone::Faint.paint(&what, has_color));
        }
        text
    }

    /// What has become of it, in one sentence.
    fn headline(&self, now: SystemTime) -> String {
        let record = &self.record;
        let id = id_of(record);
        if !record.state.is_terminal() {
            let so_far = record.started_at.as_deref().and_then(|at| when::since(at, now)).map(when::short);
            let so_far = so_far.filter(|_| matches!(record.state, State::Running | State::Stopping));
            let so_far = so_far.map(|time| format!(" (for {time})")).unwrap_or_default();
            let is = || format!("job {id} is {}{so_far}", record.state.as_str());
            return self.why.clone().unwrap_or_else(is);
        }
        let ended = match record.state {
            State::Succeeded => format!("job {id} succeeded"),
            _ => outcome::sentence(record),
        };
        let reason = record.reason.as_deref().filter(|reason| !ended.contains(reason));
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let time = record.wall_s.filter(|_| record.started_at.is_some());
        let time = time.map(|wall| format!(", after {}", when::short(when::of_seconds(wall))));
        format!("{ended}{reason}{}", time.unwrap_or_default())
    }

    fn lines(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        let record = &self.record;
        let is_shown = |(name, _): &(&str, String)| {
            !TOLD.contains(name) && (!record.state.is_terminal() || !["pid", "worker"].contains(name))
        };
        let mut lines: Vec<(&str, String)> = members(record, None).into_iter().filter(is_shown).collect();
        lines.push(("time", time(record, now)));
        lines.extend(used(record).map(|used| ("used", used)));
        lines.extend(attempts(record).map(|attempts| ("attempts", attempts)));
        lines.extend(self.earlier.iter().map(|attempt| ("earlier", earlier(attempt))));
        lines.extend(self.after.iter().map(|(on, job)| ("after", after(on, job.as_ref()))));
        lines.extend(record.callbacks.iter().map(|one| ("callback", self.callback(one))));
        lines
    }

    /// What has come of a callback, and what it runs.
    fn callback(&self, callback: &Callback) -> String {
        let known = self.callbacks.iter().find(|known| known.id == callback.id);
        let command = known.map(|known| format!(": {}", printable(&known.command.to_string(), 60)));
        line_of_callback(callback) + &command.unwrap_or_default()
    }

    /// The commands that come next, each with what it does.
    fn next(&self) -> Vec<(String, &'static str)> {
        let record = &self.record;
        let id = id_of(record);
        let has_output = record.attempt > 0 && !record.output_pruned;
        let mut next = Vec::new();
        match record.state {
            State::Running | State::Stopping => {
                next.push((format!("poolctl logs -f {id}"), "its output, as it comes"));
                next.push((format!("poolctl wait {id}"), "waits for its end"));
                next.push((format!("poolctl cancel {id}"), "ends it"));
            }
            State::Held => {
                next.push((format!("poolctl release {id}"), "lets it go on"));
                next.push((format!("poolctl cancel {id}"), "ends it"));
            }
            State::Queued | State::Scheduled | State::Blocked | State::Retrying => {
                next.push((format!("poolctl wait {id}"), "waits for its end"));
                next.push((format!("poolctl edit {id}"), "changes it"));
                next.push((format!("poolctl cancel {id}"), "ends it"));
            }
            State::Failed | State::TimedOut | State::Lost | State::Canceled | State::Succeeded => {
                if has_output && has_written(&record.stdout) {
                    let what =
                        if are_merged(record) { "all that it has written" } else { "all of its stdout" };
                    next.push((format!("poolctl logs {id}"), what));
                }
                if has_output && has_written(&record.stderr) && !are_merged(record) {
                    next.push((format!("poolctl logs --stderr {id}"), "all of its stderr"));
                }
                if has_output && record.attempt > 1 {
                    let what = "the output of its attempts, as far as it is kept";
                    next.push((format!("poolctl logs --all-attempts {id}"), what));
                }
                if record.result == Some(ResultKind::DepFailed) {
                    next.push((format!("poolctl deps {id}"), "what it was to run after"));
                }
                let failed = record.array.as_ref().and_then(|array| array.failed).unwrap_or(0);
                if failed > 0 {
                    next.push((
                        format!("poolctl ls --state failed {id}"),
                        "those of its elements that failed",
                    ));
                    next.push((format!("poolctl retry {id}"), "runs those again that have not succeeded"));
                } else {
                    next.push((format!("poolctl retry {id}"), "runs it once more"));
                }
            }
        }
        let given_up: Vec<&Callback> =
            record.callbacks.iter().filter(|callback| callback.state == "failed").collect();
        match given_up[..] {
            [] => {}
            [one] => next.push((format!("poolctl callbacks retry {}", one.id), "runs that callback again")),
            [_, ..] => {
                let ids: Vec<String> = given_up.iter().map(|callback| callback.id.to_string()).collect();
                next.push((
                    format!("poolctl callbacks retry {}", ids.join(" ")),
                    "runs those callbacks again",
                ));
            }
        }
        next.push((format!("poolctl show --json {id}"), "all that is known"));
        next
    }
}

/// An attempt, with the time of its end in this machine's zone.
fn earlier(attempt: &Attempt) -> String {
    line_of(attempt, &when::clock(&attempt.ended_at))
}

/// When it was submitted, how long it waited, and when its last attempt ran.
fn time(record: &Record, now: SystemTime) -> String {
    let ago = when::since(&record.submitted_at, now).map(when::age).unwrap_or_default();
    let mut told = format!("submitted {} ({ago} ago)", when::local(&record.submitted_at));
    if let Some(started) = &record.started_at {
        told += &format!(", started {}", when::clock(started));
    }
    if let Some(ended) = &record.ended_at {
        told += &format!(", ended {}", when::clock(ended));
    }
    told
}

/// What the last attempt has used.
fn used(record: &Record) -> Option<String> {
    let usage = record.usage?;
    let short = |seconds: f64| when::short(when::of_seconds(seconds));
    let cpu = short(usage.user_s + usage.sys_s);
    let memory = match usage.memory_peak_bytes {
        Some(bytes) => format!("{} of memory", size(bytes)),
        None => format!("{} of memory (its largest process)", size(usage.max_rss_bytes)),
    };
    let (user, system) = (short(usage.user_s), short(usage.sys_s));
    let written = [&record.stdout, &record.stderr].map(|file| file.as_ref().and_then(|file| file.bytes));
    let written = match written {
        [Some(0), Some(0)] => ", wrote nothing".to_owned(),
        [Some(stdout), Some(_)] if are_merged(record) => format!(", wrote {} (both streams)", size(stdout)),
        [Some(stdout), Some(0)] => format!(", wrote {}", size(stdout)),
        [Some(0), Some(stderr)] => format!(", wrote {} to stderr", size(stderr)),
        [Some(stdout), Some(stderr)] => format!(", wrote {} and {} to stderr", size(stdout), size(stderr)),
        _ => String::new(),
    };
    Some(format!("{cpu} of CPU time ({user} user, {system} system), {memory}{written}"))
}

/// Whether there is something in a file of output. Of a job that could not be started there is no file.
fn has_written(file: &Option<OutputFile>) -> bool {
    file.as_ref().and_then(|file| file.bytes).is_some_and(|bytes| bytes > 0)
}

/// A number of bytes at a glance.
fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(unit, name)| format!("{:.1} {name}", bytes as f64 / unit as f64),
    )
}

/// How many attempts there were, and why another one followed each of the earlier ones. None where there was
/// one alone.
fn attempts(record: &Record) -> Option<String> {
    if record.attempt <= 1 && record.reruns == 0 && record.crashes == 0 {
        return None;
    }
    let mut why = Vec::new();
    if record.retried > 0 {
        let were = if record.retried == 1 { "was" } else { "were" };
        let (retried, retries) = (record.retried, record.retries);
        why.push(format!("{retried} failed and {were} tried again ({retried} of {retries} retries)"));
    }
    // The crash that has ended a lost job is its end.
    let crashes = record.crashes.saturating_sub(u32::from(record.state == State::Lost));
    if crashes > 0 {
        let how =
            record.last_crash.as_ref().map(|how| format!(" (the last time: {how})")).unwrap_or_default();
        why.push(format!("{crashes} died with the worker or with poold{how}"));
    }
    if record.reruns > 0 {
        why.push(format!("`poolctl retry` ran it again {}", times(record.reruns)));
    }
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
    Some(format!("{}{why}", record.attempt))
}

/// A job that was to end before, and how that has ended.
fn after(on: &Dependency, job: Option<&Record>) -> String {
    let kind = match on.on {
        Some(On::Failure) => " (if it does not succeed)",
        Some(On::Done) => " (however it ends)",
        Some(On::Success) | None => "",
    };
    let Some(job) = job else { return format!("{} has been pruned{kind}", on.id) };
    let state = match job.state {
        state if !state.is_terminal() => state.as_str().to_owned(),
        State::Succeeded => "succeeded".to_owned(),
        state => {
            let summary = outcome::summary(job);
            if summary == state.as_str() { summary } else { format!("{}: {summary}", state.as_str()) }
        }
    };
    format!("{} {state}, {}{kind}", id_of(job), printable(&Row::of(job.clone()).work(), 60))
}
