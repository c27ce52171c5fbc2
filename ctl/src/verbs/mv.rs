//! `poolctl move`: moves jobs that have not begun into another pool.

use clap::Args;
use pool_proto::methods::Move;

use super::Context;
use super::selection::{Scope, Selection};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;

/// Move jobs of which no attempt runs into another pool
#[derive(Debug, Args)]
pub struct MoveOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that wait
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    /// The pool that runs them from now on
    #[arg(short, long)]
    pool: String,
}

impl MoveOptions {
    /// Moves jobs. Jobs that stay where they are are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses: no such pool exists.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let selection = Selection::find(&mut client, &self.jobs, Scope::WAITING)?;
        Ok(selection.alter(&mut client, |ids| Move { ids, pool: self.pool.clone() }, "can be moved there")?)
    }
}
