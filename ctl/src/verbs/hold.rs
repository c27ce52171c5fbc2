//! `poolctl hold`: holds jobs that have not begun.

use clap::Args;
use pool_proto::methods::Hold;

use super::Context;
use super::selection::Selection;
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;

/// Hold jobs of which no attempt runs, until they are released
#[derive(Debug, Args)]
pub struct HoldOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that wait
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,
}

impl HoldOptions {
    /// Holds jobs. Jobs that cannot be held are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let selection = Selection::of(&self.ids);
        Ok(selection.alter(&mut client, |ids| Hold { ids }, "can be held")?)
    }
}
