//! `poolctl config init`: the commented file.

use clap::Args;

use super::super::Context;
use crate::exit::ExitReason;
use crate::help::settings;
use crate::term::text;

/// Print a configuration with every setting and its default
///
/// All settings are comments, so that the file changes nothing as it is.
#[derive(Debug, Args)]
pub struct InitOptions {}

impl InitOptions {
    /// Prints the file.
    ///
    /// # Errors
    /// When stdout takes nothing.
    pub fn run(self, _context: &Context) -> anyhow::Result<ExitReason> {
        text::print(settings::FILE)?;
        Ok(ExitReason::Success)
    }
}
