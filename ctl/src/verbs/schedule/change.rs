//! `poolctl schedule pause`, `resume` and `rm`.

use clap::Args;
use pool_proto::methods::{RemoveSchedules, SetSchedulesPaused};

use crate::exit::ExitReason;
use crate::verbs::Context;

/// Submit nothing more for these schedules, until `schedule resume`
///
/// Also after a restart of poold. Jobs that were submitted go on.
#[derive(Debug, Args)]
pub struct PauseSchedulesOptions {
    /// The schedules' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Let paused schedules go on
///
/// The times that have passed meanwhile are left out.
#[derive(Debug, Args)]
pub struct ResumeSchedulesOptions {
    /// The schedules' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Remove schedules. Jobs that were submitted stay
#[derive(Debug, Args)]
pub struct RemoveSchedulesOptions {
    /// The schedules' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl PauseSchedulesOptions {
    /// Pauses the schedules, all or none.
    ///
    /// # Errors
    /// When one of them does not exist, or poold cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_paused(context, self.names, true)
    }
}

impl ResumeSchedulesOptions {
    /// Resumes the schedules, all or none.
    ///
    /// # Errors
    /// When one of them does not exist, or poold cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_paused(context, self.names, false)
    }
}

impl RemoveSchedulesOptions {
    /// Removes the schedules, all or none.
    ///
    /// # Errors
    /// When one of them does not exist or is the configuration's, or poold cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        context.link.connect()?.request(&RemoveSchedules { names: self.names })?;
        Ok(ExitReason::Success)
    }
}

fn set_paused(context: &Context, names: Vec<String>, paused: bool) -> anyhow::Result<ExitReason> {
    context.link.connect()?.request(&SetSchedulesPaused { names, paused })?;
    Ok(ExitReason::Success)
}
