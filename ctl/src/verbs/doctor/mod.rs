//! `poolctl doctor`: finds what is wrong with an installation, and says what to do about it. doctor looks at
//! what can be seen from outside, and asks poold for the rest. It is needed most when there is no poold to
//! ask. It changes nothing and starts nothing.
//!
//! A file is a group of checks; each check is a line. Exit code: 0 when there is nothing but `ok` and
//! `note`, otherwise 1.

mod callbacks;
mod daemon;
mod machine;
mod pools;
mod socket;
mod stale;
mod state;

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use pool_proto::OsText;
use pool_proto::location::default_state_dir;
use pool_proto::nouns::SCHEMA;
use serde::Serialize;

use self::daemon::Asked;
use super::Context;
use crate::exit::ExitReason;
use crate::link::connect::Link;
use crate::term::stream::Stream;
use crate::term::style::{Tone, has_color};
use crate::term::text::printable;
use crate::term::width::{Size, wrap};
use crate::term::{json, text};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Nothing is wrong, but something could be better, or could not be checked.
    Note,
    /// It works, but perhaps not for long.
    Warning,
    /// Something does not work, or is not safe.
    Problem,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// A check and its finding.
#[derive(Debug, Serialize)]
struct Check {
    /// The name of the check, for programs. It does not change.
    check: &'static str,
    /// The name of the pool, for a check of a pool.
    subject: Option<String>,
    level: Level,
    message: String,
    /// What to do.
    advice: Option<String>,
}

impl Check {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, subject: None, level: Level::Ok, message: message.into(), advice: None }
    }

    fn note(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::ok(check, message) }
    }

    fn warning(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::ok(check, message) }
    }

    fn problem(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::ok(check, message) }
    }

    fn of(self, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..self }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// The document of `doctor --json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    healthy: bool,
    socket: OsText,
    state_dir: Option<OsText>,
    checks: &'a [Check],
}

/// Look for what is wrong, and say what to do
///
/// Checks the socket, permissions, disk, limits, stale files, versions, slots, pools and callbacks. The code
/// is 1 if something is wrong. doctor changes nothing and starts nothing.
#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// The state directory to check when no poold is running
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// List all checks, also those that found nothing
    #[arg(short, long)]
    verbose: bool,
}

impl DoctorOptions {
    /// Makes all checks, and prints them.
    ///
    /// # Errors
    /// When the findings cannot be printed.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let link = &context.link;
        let mut answer = daemon::ask(link);

        let state_dir = state_dir(link, self.state_dir, &answer);
        let mut checks = socket::look(link, &answer);
        checks.extend(daemon::look(link, &answer, state_dir.as_deref()));
        if let Asked::Condition { client, condition, .. } = &mut answer {
            checks.extend(pools::look(condition));
            checks.extend(callbacks::look(client));
        }

        match &state_dir {
            Some(dir) => {
                checks.extend(state::look(dir));
                if dir.is_dir() {
                    checks.extend(stale::look(dir, &mut answer));
                }
            }
            None => checks.push(
                Check::note(
                    "state-directory",
                    "the state directory is not known, because no poold could be asked",
                )
                .advise("name it with --state-dir"),
            ),
        }

        checks.extend(machine::look(link, &answer));
        let healthy = checks.iter().all(|check| check.level <= Level::Note);

        if context.as_json {
            let socket = link.socket().into();
            let state_dir = state_dir.map(OsText::from);
            json::print(&Document { schema: SCHEMA, healthy, socket, state_dir, checks: &checks })?;
        } else {
            let width = Size::of_stdout().map(|size| size.columns);
            text::print(&describe(&checks, self.verbose, has_color(Stream::Stdout), width))?;
        }
        Ok(if healthy { ExitReason::Success } else { ExitReason::Unwell })
    }
}

/// The state directory: as poold says, or as the user says, or the default directory of the user.
fn state_dir(link: &Link, named: Option<PathBuf>, answer: &Asked) -> Option<PathBuf> {
    let told = match answer {
        Asked::Condition { condition, .. } => Some(condition.state_dir.to_path()),
        Asked::Older { pong } => Some(pong.state_dir.to_path()),
        Asked::None { .. } => None,
    };
    told.or(named).or_else(|| default_state_dir().filter(|_| !link.is_named()))
}

/// The columns before what a check has found.
const INDENT: usize = 28;

/// On a narrower terminal lines are broken as on one of so many columns.
const LEAST: usize = 60;

/// The findings, the worst last, where the eyes are. Without `verbose` what is well is a count. `width`: that
/// of the terminal, where there is one.
fn describe(checks: &[Check], verbose: bool, has_color: bool, width: Option<usize>) -> String {
    let mut shown: Vec<&Check> = checks.iter().filter(|check| verbose || check.level > Level::Ok).collect();
    shown.sort_by_key(|check| check.level);

    let mut text = String::new();
    let count = checks.len() - shown.len();
    if count > 0 {
        let line = match (count, shown.is_empty()) {
            (1, true) => "ok       the one check".to_owned(),
            (count, true) => format!("ok       all {count} checks"),
            (1, false) => "ok       1 check".to_owned(),
            (count, false) => format!("ok       {count} checks"),
        };
        writeln!(text, "{} (-v lists them)", Tone::Good.paint(&line, has_color))
            .expect("a string takes everything");
    }
    for Check { check, subject, level, message, advice } in shown {
        let subject = subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
        let advice = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        let line = printable(&format!("{subject}{message}{advice}"), usize::MAX);
        let line = match width {
            Some(width) => wrap(&line, INDENT, width.max(LEAST)),
            None => line,
        };
        let tone = match level {
            Level::Ok => Tone::Good,
            Level::Note => Tone::Plain,
            Level::Warning => Tone::Attention,
            Level::Problem => Tone::Bad,
        };
        let level = format!("{:<8}", level.as_str());
        writeln!(text, "{} {check:<18} {line}", tone.paint(&level, has_color))
            .expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_last_and_what_is_well_is_a_count() {
        let checks = [
            Check::problem("disk", "it is full").advise("make room"),
            Check::ok("socket", "it is there"),
            Check::note("limits", "few"),
            Check::ok("pool", "it works").of("default"),
        ];
        assert_eq!(
            describe(&checks, false, false, None),
            "ok       2 checks (-v lists them)\n\
             note     limits             few\n\
             problem  disk               it is full; make room\n"
        );
        assert_eq!(describe(&checks, true, false, None).lines().count(), 4);
        assert_eq!(describe(&checks[1..2], false, false, None), "ok       the one check (-v lists them)\n");
        let long = [Check::note("limits", "one two three four five six seven eight")];
        let broken = describe(&long, false, false, Some(60));
        assert_eq!(broken.lines().nth(1), Some("                            seven eight"), "{broken}");
    }
}
