//! `poolctl hold`: holds jobs that have not begun.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::methods::{Hold, MAX_RELEASED};

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
        let mut selection = Selection::of(&self.ids);
        let (mut held, mut others) = (HashSet::new(), HashMap::new());
        for some in selection.ids().chunks(MAX_RELEASED) {
            let reply = client.request(&Hold { ids: some.to_vec() })?;
            held.extend(reply.ids);
            others.extend(reply.others.into_iter().map(|other| (other.id, other.reason)));
        }
        selection.leave_out_others(&held, |id| others.remove(&id), "can be held");
        Ok(selection.exit())
    }
}
