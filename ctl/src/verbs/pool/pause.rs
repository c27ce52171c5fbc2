//! `poolctl pool pause` and `poolctl pool resume`.

use clap::Args;
use pool_proto::methods::SetPaused;

use crate::exit::ExitReason;
use crate::verbs::Context;

/// Start nothing more in these pools, until `pool resume`
///
/// Also after a restart of poold. Running jobs go on unless they are frozen, new jobs are accepted and wait.
/// Returns when the pause is on disk and no further job starts. The programs of a warm pool stay up.
#[derive(Debug, Args)]
pub struct PausePoolOptions {
    /// Let what runs in the pools stand still, too, until `pool resume`. Calls go on
    #[arg(long)]
    freeze: bool,

    /// The pools' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Let paused pools go on, and drained ones take jobs again
#[derive(Debug, Args)]
pub struct ResumePoolOptions {
    /// The pools' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl PausePoolOptions {
    /// Pauses the pools, all or none.
    ///
    /// # Errors
    /// When one of the pools does not exist, or poold cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_paused(context, self.names, true, self.freeze.then_some(true))
    }
}

impl ResumePoolOptions {
    /// Resumes the pools, all or none.
    ///
    /// # Errors
    /// When one of the pools does not exist, or poold cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_paused(context, self.names, false, None)
    }
}

fn set_paused(
    context: &Context,
    pools: Vec<String>,
    paused: bool,
    freeze: Option<bool>,
) -> anyhow::Result<ExitReason> {
    context.link.connect()?.request(&SetPaused { pools, paused, freeze })?;
    Ok(ExitReason::Success)
}
