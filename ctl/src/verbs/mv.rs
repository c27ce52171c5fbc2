//! `poolctl move`: moves jobs that have not begun into another pool.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::methods::{MAX_RELEASED, Move};

use super::Context;
use super::selection::Selection;
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;

/// Move jobs of which no attempt runs into another pool
#[derive(Debug, Args)]
pub struct MoveOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that wait
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,

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
        let mut selection = Selection::of(&self.ids);
        let (mut moved, mut others) = (HashSet::new(), HashMap::new());
        for some in selection.ids().chunks(MAX_RELEASED) {
            let reply = client.request(&Move { ids: some.to_vec(), pool: self.pool.clone() })?;
            moved.extend(reply.ids);
            others.extend(reply.others.into_iter().map(|other| (other.id, other.reason)));
        }
        selection.leave_out_others(&moved, |id| others.remove(&id), "can be moved there");
        Ok(selection.exit())
    }
}
