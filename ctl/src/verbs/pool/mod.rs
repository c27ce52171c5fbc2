//! `poolctl pool`: lists, adds, sets, pauses, resumes, drains, restarts and removes pools.

mod add;
mod drain;
mod ls;
mod pause;
mod restart;
mod rm;
mod set;

use clap::{Args, Subcommand};

use super::Context;
use crate::exit::ExitReason;

/// List, add, set, pause, resume, restart and remove pools
#[derive(Debug, Args)]
pub struct PoolOptions {
    #[command(subcommand)]
    verb: PoolVerb,
}

#[derive(Debug, Subcommand)]
enum PoolVerb {
    Ls(ls::PoolListOptions),
    Add(Box<add::AddPoolOptions>),
    Pause(pause::PausePoolOptions),
    Resume(pause::ResumePoolOptions),
    Drain(drain::DrainPoolOptions),
    Restart(restart::RestartPoolOptions),
    Set(set::SetPoolOptions),
    Rm(rm::RemovePoolOptions),
}

impl PoolOptions {
    /// Does what the verb after `pool` says.
    ///
    /// # Errors
    /// The errors of that verb.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        match self.verb {
            PoolVerb::Ls(options) => options.run(context),
            PoolVerb::Add(options) => options.run(context),
            PoolVerb::Pause(options) => options.run(context),
            PoolVerb::Resume(options) => options.run(context),
            PoolVerb::Drain(options) => options.run(context),
            PoolVerb::Restart(options) => options.run(context),
            PoolVerb::Set(options) => options.run(context),
            PoolVerb::Rm(options) => options.run(context),
        }
    }
}
