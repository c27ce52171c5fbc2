//! `poolctl pause` and `poolctl resume`: running jobs stand still, and go on.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::methods::{List, SetFrozen};
use pool_proto::{ClientError, State};

use super::Context;
use super::selection::{Selection, ids_of};
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;

/// Let running jobs stand still, with all that they have started, until `resume`
///
/// Meanwhile a job keeps its slot, and its timeouts stand still. It can be canceled. When its worker or poold
/// dies, it does so, too, and its next attempt is not paused.
#[derive(Debug, Args)]
pub struct PauseOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that run
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,
}

/// Let jobs go on that `pause`, or `pool pause --freeze`, has let stand still
#[derive(Debug, Args)]
pub struct ResumeOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that run
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,
}

impl PauseOptions {
    /// Pauses the jobs. Those that do not run are named.
    ///
    /// # Errors
    /// When poold refuses, or has gone.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_frozen(context, &self.ids, true)
    }
}

impl ResumeOptions {
    /// Lets the jobs go on. Those that do not run are named.
    ///
    /// # Errors
    /// When poold refuses, or has gone.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_frozen(context, &self.ids, false)
    }
}

fn set_frozen(context: &Context, ranges: &[IdRange], frozen: bool) -> anyhow::Result<ExitReason> {
    let mut client = context.link.connect()?;
    let mut selection = Selection::of(ranges);
    let mut named: HashSet<u64> =
        ranges.iter().filter(|range| range.is_single()).map(|id| id.first()).collect();
    if ranges.iter().any(|range| !range.is_single()) {
        let running = List { states: Some(vec![State::Running]), ..List::default() };
        named.extend(ids_of(&mut client, &running, |_| true)?);
    }

    let (mut done, mut refused) = (HashSet::new(), HashMap::new());
    for &id in selection.ids().iter().filter(|id| named.contains(id)) {
        match client.request(&SetFrozen { id, frozen }) {
            Ok(_) => _ = done.insert(id),
            Err(ClientError::Refused(refusal)) => _ = refused.insert(id, refusal.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    selection.leave_out_others(&done, |id| refused.remove(&id), "runs");
    Ok(selection.exit())
}
