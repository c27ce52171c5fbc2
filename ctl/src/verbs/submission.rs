//! What `submit`, `run` and `call` share: submitting a job without waiting for it, or waiting in its place.

use anyhow::bail;
use pool_proto::methods::Submit;
use pool_proto::nouns::{Dependency, Job, Progress, ProgressEvent, SCHEMA};
use pool_proto::{Client, ClientError, Record, State};
use serde_json::json;

use super::Context;
use super::selection::{Named, Scope, find};
use crate::cli::job::ConditionOptions;
use crate::cli::selector::Selector;
use crate::exit::ExitReason;
use crate::follow::{Attended, Follower, HeldSignals, Sinks, is_repeatable};
use crate::link::connect::not_known_whether_accepted;
use crate::tell::outcome::skipped_for;
use crate::term;
use crate::term::text::{self, say};

/// Adds the jobs that `--after` names otherwise than by their ids: of those that are looked up, the ones that
/// have not ended by now. If there are none, there is nothing to wait for.
///
/// # Errors
/// When there is no such array, pool or job, and when poold has gone.
pub fn after_others(client: &mut Client, options: &ConditionOptions, job: &mut Job) -> anyhow::Result<()> {
    after_others_that(client, options, job, |_| true)
}

/// The same; of those that are looked up only those that are meant, by their ids.
///
/// # Errors
/// See [`after_others`].
pub fn after_others_that(
    client: &mut Client,
    options: &ConditionOptions,
    job: &mut Job,
    is_meant: impl Fn(u64) -> bool,
) -> anyhow::Result<()> {
    for (selector, on) in options.after.iter().flat_map(|after| after.others()) {
        let named = match (find(client, selector, Scope::LIVING)?, selector) {
            (Ok(named), _) => named,
            (Err(why_none), Selector::Last | Selector::Newest(_)) => bail!(why_none),
            (Err(_), _) => continue,
        };
        let after = job.after.get_or_insert_default();
        let is_named = matches!(named, Named::Range(_));
        let ids = named.ids().filter(|&id| is_named || is_meant(id));
        after.extend(ids.map(|id| Dependency { id, on: Some(*on) }));
    }
    Ok(())
}

/// Submits the job, and prints its id. `is_quiet`: it is not said why nothing was submitted.
///
/// # Errors
/// When the job is not accepted.
pub fn detach(
    context: &Context,
    mut client: Client,
    submit: &Submit,
    is_quiet: bool,
) -> anyhow::Result<ExitReason> {
    let held = HeldSignals::hold()?;
    let accepted = loop {
        match held.request(&mut client, submit) {
            Err(ClientError::Disconnected(_)) if is_repeatable(submit) => {
                client = held.reconnect(&context.link)?
            }
            other => break other.map_err(not_known_whether_accepted)?,
        }
    };

    let id = accepted.id;
    if accepted.event == ProgressEvent::Skipped {
        return skip(context, &held, submit, &accepted, is_quiet);
    }

    let may_exist = submit.job.key.is_some() || submit.job.unique.is_some();
    let line = match accepted.existing.filter(|_| may_exist) {
        Some(existing) if context.as_json => {
            json!({ "schema": SCHEMA, "id": id, "existing": existing }).to_string()
        }
        None if context.as_json => json!({ "schema": SCHEMA, "id": id }).to_string(),
        Some(_) | None => id.to_string(),
    };
    let told = held.print(&(line + "\n"), &format!("job {id} was accepted"));
    text::or_untold(told, format_args!("job {id} was accepted"))?;
    Ok(ExitReason::Success)
}

/// What `--json` prints where nothing was submitted.
fn skipped_document(id: u64, state: State) -> serde_json::Value {
    json!({ "schema": SCHEMA, "id": id, "existing": true, "skipped": true, "state": state.as_str() })
}

/// Nothing was submitted. This is no failure: the work is being done, or is waiting to be done.
fn skip(
    context: &Context,
    held: &HeldSignals,
    submit: &Submit,
    skipped: &Progress,
    is_quiet: bool,
) -> anyhow::Result<ExitReason> {
    let &Progress { id, state, .. } = skipped;
    let state = state.unwrap_or(State::Queued);
    let line = if context.as_json { skipped_document(id, state).to_string() } else { id.to_string() };
    let said = skipped_for(id, state, submit.job.unique.as_ref());
    let told = held.print(&(line + "\n"), &said);
    text::or_untold(told, &said)?;
    if !is_quiet {
        say(said);
    }
    Ok(ExitReason::Success)
}

/// Submits the job, passes its output on to where it belongs, and returns its record when it has ended. None
/// if nothing was submitted, which is said.
///
/// # Errors
/// When the job is not accepted, or its end cannot be told.
pub fn stand_in(
    context: &Context,
    client: Client,
    submit: Submit,
    sinks: Sinks,
) -> anyhow::Result<Option<Record>> {
    let name = submit.job.unique.clone();
    match Follower::in_place(&context.link, client, submit, sinks).attend()? {
        Attended::Ended(record) => Ok(Some(*record)),
        Attended::Skipped { id, state } => {
            if context.as_json {
                term::json::print(&skipped_document(id, state))?;
            }
            say(skipped_for(id, state, name.as_ref()));
            Ok(None)
        }
    }
}
