//! `poolctl schedule`: what poold submits again and again.

mod add;
mod change;
mod ls;
mod run;
mod show;

use clap::{Args, Subcommand};

use super::Context;
use crate::exit::ExitReason;

/// Submit jobs again and again, by the clock
#[derive(Debug, Args)]
pub struct ScheduleOptions {
    #[command(subcommand)]
    verb: ScheduleVerb,
}

#[derive(Debug, Subcommand)]
enum ScheduleVerb {
    Add(Box<add::AddScheduleOptions>),
    Ls(ls::ScheduleListOptions),
    Show(show::ShowScheduleOptions),
    Pause(change::PauseSchedulesOptions),
    Resume(change::ResumeSchedulesOptions),
    Run(run::RunScheduleOptions),
    Rm(change::RemoveSchedulesOptions),
}

impl ScheduleOptions {
    /// Does what the verb after `schedule` says.
    ///
    /// # Errors
    /// The errors of that verb.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        match self.verb {
            ScheduleVerb::Add(options) => options.run(context),
            ScheduleVerb::Ls(options) => options.run(context),
            ScheduleVerb::Show(options) => options.run(context),
            ScheduleVerb::Pause(options) => options.run(context),
            ScheduleVerb::Resume(options) => options.run(context),
            ScheduleVerb::Run(options) => options.run(context),
            ScheduleVerb::Rm(options) => options.run(context),
        }
    }
}
