//! `poolctl schedule pause`, `resume` and `rm`.

use clap::Args;
use pool_proto::methods::{RemoveSchedules, SetSchedulesPaused};
use pool_proto::{ClientError, Method, Refusal};

use crate::exit::ExitReason;
use crate::term::text::say;
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
    /// Pauses the schedules. Those that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone, or cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_paused(context, self.names, true)
    }
}

impl ResumeSchedulesOptions {
    /// Resumes the schedules. Those that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone, or cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_paused(context, self.names, false)
    }
}

impl RemoveSchedulesOptions {
    /// Removes the schedules. Those that do not exist, or are the configuration's, are named.
    ///
    /// # Errors
    /// When poold has gone, or cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        change(context, self.names, |names| RemoveSchedules { names })
    }
}

fn set_paused(context: &Context, names: Vec<String>, paused: bool) -> anyhow::Result<ExitReason> {
    change(context, names, |names| SetSchedulesPaused { names, paused })
}

/// Changes the schedules. poold changes all or none: one that it refuses is said and left out, and it is
/// asked again for the rest.
fn change<M: Method>(
    context: &Context,
    mut names: Vec<String>,
    request: impl Fn(Vec<String>) -> M,
) -> anyhow::Result<ExitReason> {
    let mut client = context.link.connect()?;
    let mut exit = ExitReason::Success;
    while !names.is_empty() {
        let refusal = match client.request(&request(names.clone())) {
            Ok(_) => break,
            Err(ClientError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        let (Refusal::NoSuchSchedule { schedule } | Refusal::ScheduleConfigured { schedule }) = &refusal
        else {
            return Err(ClientError::Refused(refusal).into());
        };
        names.retain(|name| name != schedule);
        say(&refusal);
        exit = ExitReason::Failed;
    }
    Ok(exit)
}
