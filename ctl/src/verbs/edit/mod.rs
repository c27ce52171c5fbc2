//! `poolctl edit`: changes a job that has not begun.

mod document;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use clap::Args;
use pool_proto::methods::{Definition, Edit, Get};
use pool_proto::nouns::Job;
use pool_proto::{Client, ClientError, Refusal};
use signal_hook::consts::{SIGINT, SIGQUIT};

use super::Context;
use super::selection::{Scope, find_one, why_unmade};
use super::submission::after_others_that;
use crate::cli::job::{ConditionOptions, JobOptions};
use crate::cli::selector::{Selector, one_selector};
use crate::cli::{UsageError, command_words};
use crate::compose::job::{Changes, changes_of, conditional};
use crate::exit::ExitReason;
use crate::term::ask;
use crate::term::text::say;
use document::{Document, render};

/// Change a job that waits, by options or in your editor
///
/// The job keeps its id and its place in the line, and everything that is not named. --delay, --deadline and
/// --start-within count from now. A job that has begun is not changed.
#[derive(Debug, Args)]
pub struct EditOptions {
    /// The job: its id, or last, or name:x where one job has that name
    #[arg(value_name = "SELECTOR", value_parser = one_selector())]
    id: Selector,

    #[command(flatten)]
    job: JobOptions,

    #[command(flatten)]
    conditions: ConditionOptions,

    /// Leave this option of the job out from now on
    ///
    /// By its name: timeout, name, label, after, at, on-done, and so on; may be repeated.
    #[arg(long, value_name = "OPTION")]
    unset: Vec<String>,

    #[arg(long, hide = true)]
    key: Option<OsString>,

    #[arg(long, hide = true)]
    unique: Option<OsString>,

    #[arg(long, hide = true)]
    tie: Option<OsString>,

    #[arg(long, hide = true)]
    stdin: Option<PathBuf>,

    /// The command and its arguments, in place of those that the job has
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl EditOptions {
    /// Changes the job.
    ///
    /// # Errors
    /// When the job has begun, or cannot be changed so; nothing is changed then.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let never = [
            ("--key", self.key.is_some()),
            ("--unique", self.unique.is_some()),
            ("--tie", self.tie.is_some()),
            ("--stdin", self.stdin.is_some()),
        ];
        if let Some((option, _)) = never.into_iter().find(|&(_, is_given)| is_given) {
            bail!(UsageError(format!(
                "{option} of a job stays as it was submitted: cancel the job, and submit another one"
            )));
        }
        if self.conditions.hold {
            bail!(UsageError(format!("--hold goes with submit: `poolctl hold {}` holds the job", self.id)));
        }

        let argv = if self.command.is_empty() { Vec::new() } else { command_words(&self.command)? };
        let Changes { set, set_env } = changes_of(&self.job, argv)?;
        let mut set = conditional(&self.conditions, set);
        let unset: Vec<String> = self.unset.iter().map(|name| member_of(name)).collect();
        let is_given = set != Job::default()
            || !set_env.is_empty()
            || !unset.is_empty()
            || self.conditions.names_others();
        let mut client = context.link.connect()?;
        let id = find_one(&mut client, &self.id, Scope::WAITING, "is edited")?;
        let unmade = client.request(&Get { id }).ok().and_then(|got| why_unmade(&got.record));
        if let Some(why) = unmade {
            bail!("job {id} is not edited: {why}");
        }
        if !is_given {
            return in_editor(&mut client, id);
        }

        if self.conditions.names_others() {
            // Of the jobs of a label those that were submitted later, the job itself, and its array are not
            // meant.
            let array = client.request(&Get { id })?.record.array.map(|array| array.id);
            set.after.get_or_insert_default();
            after_others_that(&mut client, &self.conditions, &mut set, |other| {
                other < id && Some(other) != array
            })?;
        }
        let set_env = (!set_env.is_empty()).then_some(set_env);
        let unset = (!unset.is_empty()).then_some(unset);
        client.request(&Edit { id, set: Some(set), set_env, unset })?;
        Ok(ExitReason::Success)
    }
}

/// The member of a job that an option sets.
fn member_of(option: &str) -> String {
    let name = option.trim_start_matches('-').replace('-', "_");
    match name.as_str() {
        "timeout" | "idle_timeout" | "kill_after" | "deadline" | "start_within" | "delay" | "backoff" => {
            name + "_s"
        }
        "label" => "labels".to_owned(),
        "resource" => "resources".to_owned(),
        _ => name,
    }
}

/// Has the user change the job as a document, until it is one that poold takes.
fn in_editor(client: &mut Client, id: u64) -> anyhow::Result<ExitReason> {
    let defined = client.request(&Definition { id })?;
    if defined.state.is_terminal() {
        // poold says why.
        client.request(&Edit { id, ..Edit::default() })?;
    }
    let text = render(id, &defined);
    let before = Document::parse(&text).map_err(anyhow::Error::msg).context("bug: the document of a job")?;
    let dir = tempfile::Builder::new().prefix("poolctl-").tempdir().context("cannot make a directory")?;
    let path = dir.path().join(format!("job-{id}.toml"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;

    loop {
        edit(path.as_os_str())?;
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let changes = Document::parse(&text).and_then(|after| match after.is_empty() {
            true => Ok(None),
            false => after.changes_from(&before, id),
        });
        let why = match changes {
            Ok(None) => {
                say(format_args!("job {id} stays as it is: nothing was changed"));
                return Ok(ExitReason::Success);
            }
            Ok(Some(edit)) => match client.request(&edit) {
                Ok(_) => return Ok(ExitReason::Success),
                Err(ClientError::Refused(refusal)) if can_be_mended(&refusal) => refusal.to_string(),
                Err(error) => return Err(error.into()),
            },
            Err(why) => why,
        };
        if !asks_again(&why) {
            bail!("{why}; job {id} was not changed");
        }
    }
}

/// Whether another document may do.
fn can_be_mended(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::InvalidJob { .. } | Refusal::NoSuchPool { .. } => true,
        Refusal::NotEdited { state, .. } => state.is_none(),
        _ => false,
    }
}

/// Opens the file in the user's editor, and returns when that has ended.
fn edit(path: &OsStr) -> anyhow::Result<()> {
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os).find(|name| !name.is_empty());
    let Some(editor) = named.or_else(|| ask::is_possible().then(|| "vi".into())) else {
        bail!(UsageError::new(
            "there is no terminal for an editor: say what to change by options, or set VISUAL or EDITOR"
        ));
    };

    // Ctrl-C is for the editor. A handler, and not an ignored signal, which the editor would inherit.
    let handled =
        [SIGINT, SIGQUIT].map(|signal| signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))));
    // The variable may have arguments, as everywhere.
    let mut script = editor.clone();
    script.push(" \"$1\"");
    let status = Command::new("sh").arg("-c").arg(script).arg("editor").arg(path).status();
    for id in handled.into_iter().flatten() {
        signal_hook::low_level::unregister(id);
    }

    let status = status.context("cannot start sh")?;
    if !status.success() {
        bail!("the editor {} has failed ({status}): nothing was changed", editor.display());
    }
    Ok(())
}

/// Says what is wrong, and whether the user wants to edit the document again.
fn asks_again(why: &str) -> bool {
    if !ask::is_possible() {
        return false;
    }
    say(why);
    ask::ask("Edit it again?", true)
}
