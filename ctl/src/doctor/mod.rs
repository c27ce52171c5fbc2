//! `poolctl doctor`: what is wrong with an installation, and what to do about it. Looks at what can be seen from outside, and asks poold for
//! what only it knows; is most wanted where there is no poold to ask. Changes nothing, starts nothing.
//!
//! A file is a group of checks; each check is a line. Exit code: 0 when there is nothing but `ok` and `note`, otherwise 1.

mod daemon;
mod machine;
mod pools;
mod socket;
mod stale;
mod state;

use std::fmt::Write;
use std::path::PathBuf;

use pool_proto::interface::SCHEMA;
use pool_proto::location::default_state_dir;
use serde::Serialize;

use crate::cli::DoctorOptions;
use crate::connect::Link;
use crate::list::printable;
use crate::print;
use daemon::Answer;

/// The exit code when something is to be done.
const UNWELL: u8 = 1;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Nothing is wrong, but it could be better, or could not be looked at.
    Note,
    /// It works, and may not for long.
    Warning,
    /// It does not work, or not safely.
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

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Check {
    /// A name for programs, which does not change.
    check: &'static str,
    /// What it is about, where there are several of a kind: a pool's name.
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

/// `doctor --json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    healthy: bool,
    socket: String,
    state_dir: Option<String>,
    checks: &'a [Check],
}

/// Looks at everything.
///
/// # Errors
/// Only when the findings cannot be printed.
pub fn run(link: &Link, options: &DoctorOptions, as_json: bool) -> anyhow::Result<u8> {
    let mut answer = daemon::ask(link);
    let state_dir = state_dir(link, options, &answer);
    let mut checks = socket::look(link, &answer);
    checks.extend(daemon::look(link, &answer, state_dir.as_deref()));
    if let Answer::Condition { condition, .. } = &answer {
        checks.extend(pools::look(condition));
    }
    match &state_dir {
        Some(dir) => {
            checks.extend(state::look(dir));
            if dir.is_dir() {
                checks.extend(stale::look(dir, &mut answer));
            }
        }
        None => checks.push(
            Check::note("state-directory", "it is not known, since nobody could be asked")
                .advise("name it with --state-dir"),
        ),
    }
    checks.extend(machine::look(link, &answer));
    let healthy = checks.iter().all(|check| check.level <= Level::Note);
    if as_json {
        let socket = link.socket().display().to_string();
        let state_dir = state_dir.map(|dir| dir.display().to_string());
        print::json(&Document { schema: SCHEMA, healthy, socket, state_dir, checks: &checks })?;
    } else {
        print::text(&describe(&checks))?;
    }
    Ok(if healthy { 0 } else { UNWELL })
}

/// Where poold says that it is; or where the user does; or where their own would be.
fn state_dir(link: &Link, options: &DoctorOptions, answer: &Answer) -> Option<PathBuf> {
    let told = match answer {
        Answer::Condition { condition, .. } => Some(PathBuf::from(&condition.state_dir)),
        Answer::Older { pong } => Some(PathBuf::from(&pong.state_dir)),
        Answer::None { .. } => None,
    };
    told.or_else(|| options.state_dir.clone()).or_else(|| default_state_dir().filter(|_| !link.is_named()))
}

fn describe(checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { check, subject, level, message, advice } in checks {
        let subject = subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
        let advice = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        let line = format!("{subject}{message}{advice}");
        let level = level.as_str();
        writeln!(text, "{level:<8} {check:<18} {}", printable(&line, usize::MAX))
            .expect("a string takes everything");
    }
    text
}
