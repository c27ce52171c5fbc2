//! `poolctl schedule show`.

use clap::Args;
use pool_proto::methods::Schedules;

use crate::exit::ExitReason;
use crate::tell::schedule::{ScheduleDocument, lines_of};
use crate::term::{json, text};
use crate::verbs::Context;

/// Show a schedule: its next times, its last job, its work
#[derive(Debug, Args)]
pub struct ShowScheduleOptions {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: String,
}

impl ShowScheduleOptions {
    /// Shows the schedule.
    ///
    /// # Errors
    /// When there is no such schedule, poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let listed = context.link.connect()?.request(&Schedules { name: Some(self.name) })?;
        for schedule in &listed.schedules {
            if context.as_json {
                json::print(&ScheduleDocument::of(schedule))?;
            } else {
                text::print(&lines_of(schedule))?;
            }
        }
        Ok(ExitReason::Success)
    }
}
