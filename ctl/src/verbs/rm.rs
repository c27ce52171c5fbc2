//! `poolctl rm`: removes jobs that have ended.

use clap::Args;
use pool_proto::methods::Remove;

use super::Context;
use super::selection::Selection;
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;

/// Remove jobs that have ended: their records, and their output
#[derive(Debug, Args)]
pub struct RemoveOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that have ended
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,
}

impl RemoveOptions {
    /// Removes jobs. Jobs that cannot be removed are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let selection = Selection::of(&self.ids);
        Ok(selection.alter(&mut client, |ids| Remove { ids }, "can be removed")?)
    }
}
