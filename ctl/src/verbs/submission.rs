//! What `submit`, `run` and `call` share: submitting a job without waiting for it, or waiting in its place.

use pool_proto::methods::Submit;
use pool_proto::nouns::SCHEMA;
use pool_proto::{Client, ClientError, Record};
use serde_json::json;

use super::Context;
use crate::exit::ExitReason;
use crate::follow::{Follower, HeldSignals, is_repeatable};
use crate::link::connect::not_known_whether_accepted;
use crate::term::text;

/// Submits the job, and prints its id.
///
/// # Errors
/// When the job is not accepted.
pub fn detach(context: &Context, mut client: Client, submit: &Submit) -> anyhow::Result<ExitReason> {
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
    let line = match accepted.existing.filter(|_| submit.job.key.is_some()) {
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

/// Submits the job, passes its output through, and returns its record when it has ended.
///
/// # Errors
/// When the job is not accepted, or its end cannot be told.
pub fn stand_in(context: &Context, client: Client, submit: Submit) -> anyhow::Result<Record> {
    Follower::in_place(&context.link, client, submit).attend()
}
