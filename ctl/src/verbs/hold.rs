//! `poolctl hold`: holds jobs that have not begun.

use clap::Args;
use pool_proto::methods::Hold;

use super::Context;
use super::selection::{Scope, Selection};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;

/// Hold jobs of which no attempt runs, until they are released
#[derive(Debug, Args)]
pub struct HoldOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that wait
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

impl HoldOptions {
    /// Holds jobs. Jobs that cannot be held are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let selection = Selection::find(&mut client, &self.jobs, Scope::WAITING)?;
        Ok(selection.alter(&mut client, |ids| Hold { ids }, "can be held")?)
    }
}
