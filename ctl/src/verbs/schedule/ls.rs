//! `poolctl schedule ls`.

use clap::Args;
use pool_proto::methods::Schedules;

use crate::exit::ExitReason;
use crate::tell::schedule::{SchedulesDocument, table_of};
use crate::term::{json, text};
use crate::verbs::Context;

/// List all schedules
#[derive(Debug, Args)]
pub struct ScheduleListOptions {}

impl ScheduleListOptions {
    /// Lists the schedules.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let schedules = context.link.connect()?.request(&Schedules { name: None })?.schedules;
        if context.as_json {
            json::print(&SchedulesDocument::of(&schedules))?;
        } else {
            text::print(&table_of(&schedules))?;
            if schedules.is_empty() {
                text::hint("there are no schedules: `poolctl schedule add --help` has examples");
            }
        }
        Ok(ExitReason::Success)
    }
}
