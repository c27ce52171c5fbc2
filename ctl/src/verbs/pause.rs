//! `poolctl pause` and `poolctl resume`: running jobs stand still, and go on.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::ClientError;
use pool_proto::methods::SetFrozen;

use super::Context;
use super::selection::{Scope, Selection};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;

/// Let running jobs stand still, until `resume`
///
/// A job stands still with everything that it has started. It keeps its slot, its timeouts stand still, and
/// it can be canceled. If its worker or poold dies, the job dies, too, and its next attempt is not paused.
#[derive(Debug, Args)]
pub struct PauseOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that run
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

/// Let paused jobs go on
///
/// `pause` or `pool pause --freeze` has let them stand still.
#[derive(Debug, Args)]
pub struct ResumeOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that run
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

impl PauseOptions {
    /// Pauses the jobs. Those that do not run are named.
    ///
    /// # Errors
    /// When poold refuses, or has gone.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_frozen(context, &self.jobs, true)
    }
}

impl ResumeOptions {
    /// Lets the jobs go on. Those that do not run are named.
    ///
    /// # Errors
    /// When poold refuses, or has gone.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        set_frozen(context, &self.jobs, false)
    }
}

fn set_frozen(context: &Context, selectors: &[Selector], frozen: bool) -> anyhow::Result<ExitReason> {
    let mut client = context.link.connect()?;
    let mut selection = Selection::find(&mut client, selectors, Scope::RUNNING)?;
    let wanted = selection.running(&mut client)?;

    let (mut done, mut refused) = (HashSet::new(), HashMap::new());
    for id in wanted {
        match client.request(&SetFrozen { id, frozen }) {
            Ok(_) => _ = done.insert(id),
            Err(ClientError::Refused(refusal)) => _ = refused.insert(id, refusal.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    selection.leave_out_others(&done, |id| refused.remove(&id), "runs");
    Ok(selection.exit())
}
