//! `poolctl schedule run`.

use clap::Args;
use pool_proto::methods::RunSchedule;
use pool_proto::nouns::{ProgressEvent, SCHEMA};
use pool_proto::{OsText, State};
use serde_json::json;

use crate::exit::ExitReason;
use crate::tell::outcome::skipped_for;
use crate::term::text::{self, say};
use crate::verbs::Context;

/// Submit a schedule's job now, and print its id
///
/// Besides its times.
#[derive(Debug, Args)]
pub struct RunScheduleOptions {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: String,
}

impl RunScheduleOptions {
    /// Submits the job.
    ///
    /// # Errors
    /// When there is no such schedule, or the job is not accepted.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let unique = OsText::from(format!("schedule:{}", self.name));
        let told = context.link.connect()?.request(&RunSchedule { name: self.name })?;
        let id = told.id;
        let is_skipped = told.event == ProgressEvent::Skipped;
        let line = match context.as_json {
            true => json!({ "schema": SCHEMA, "id": id, "skipped": is_skipped }).to_string(),
            false => id.to_string(),
        };
        text::or_untold(text::print(&(line + "\n")), format_args!("job {id} was accepted"))?;
        if is_skipped {
            say(skipped_for(id, told.state.unwrap_or(State::Queued), Some(&unique)));
        }
        Ok(ExitReason::Success)
    }
}
