//! `poolctl config`: the settings of poold.

mod check;
mod init;
mod show;

use clap::{Args, Subcommand};

use super::Context;
use crate::exit::ExitReason;

/// Print, check and show the settings of poold
#[derive(Debug, Args)]
pub struct ConfigOptions {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    Init(init::InitOptions),
    Check(check::CheckOptions),
    Show(show::ShowConfigOptions),
}

impl ConfigOptions {
    /// Does what the verb after `config` says.
    ///
    /// # Errors
    /// The errors of that verb.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        match self.verb {
            ConfigVerb::Init(options) => options.run(context),
            ConfigVerb::Check(options) => options.run(context),
            ConfigVerb::Show(options) => options.run(context),
        }
    }
}
