//! `poolctl rm`: removes jobs that have ended.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::methods::{MAX_RELEASED, Remove};

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
        let mut selection = Selection::of(&self.ids);
        let (mut gone, mut others) = (HashSet::new(), HashMap::new());
        for some in selection.ids().chunks(MAX_RELEASED) {
            let reply = client.request(&Remove { ids: some.to_vec() })?;
            gone.extend(reply.ids);
            others.extend(reply.others.into_iter().map(|other| (other.id, other.reason)));
        }
        selection.leave_out_others(&gone, |id| others.remove(&id), "can be removed");
        Ok(selection.exit())
    }
}
