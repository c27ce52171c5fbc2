//! `poolctl rm`: removes jobs that have ended.

use clap::Args;
use pool_proto::methods::Remove;

use super::Context;
use super::selection::{Scope, Selection, count_jobs};
use crate::cli::choices::YesOption;
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;

/// Remove jobs that have ended: their records and output
///
/// A job that has not ended, has callbacks to be delivered, or is waited for, stays.
#[derive(Debug, Args)]
pub struct RemoveOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that have ended. An
    /// array goes with all of its elements; 12.4 is one of them
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    #[command(flatten)]
    yes: YesOption,
}

impl RemoveOptions {
    /// Removes jobs. Jobs that cannot be removed are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let selection = Selection::find(&mut client, &self.jobs, Scope::ENDED)?.with_elements(&mut client)?;
        let question = |count| format!("remove {} and their output?", count_jobs(count));
        if !selection.is_wanted(self.yes.yes, question) {
            return Ok(ExitReason::Unwell);
        }
        Ok(selection.alter(&mut client, |ids| Remove { ids }, "can be removed")?)
    }
}
