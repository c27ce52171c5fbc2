//! `poolctl callbacks`: what has become of the commands that run when a job has ended.

mod change;
mod ls;
mod show;
mod wanted;

use clap::{Args, Subcommand};

use super::Context;
use crate::exit::ExitReason;

/// See callbacks that failed, run them again, or drop them
#[derive(Debug, Args)]
pub struct CallbacksOptions {
    #[command(subcommand)]
    verb: CallbacksVerb,
}

#[derive(Debug, Subcommand)]
enum CallbacksVerb {
    Ls(ls::ListCallbacksOptions),
    Show(show::ShowCallbackOptions),
    Retry(change::RetryCallbacksOptions),
    Drop(change::DropCallbacksOptions),
}

impl CallbacksOptions {
    /// Does what the verb after `callbacks` says.
    ///
    /// # Errors
    /// The errors of that verb.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        match self.verb {
            CallbacksVerb::Ls(options) => options.run(context),
            CallbacksVerb::Show(options) => options.run(context),
            CallbacksVerb::Retry(options) => options.run(context),
            CallbacksVerb::Drop(options) => options.run(context),
        }
    }
}
