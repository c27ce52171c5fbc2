//! `poolctl cancel`: ends jobs.

use clap::Args;
use pool_proto::methods::Cancel;

use super::Context;
use super::selection::Selection;
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;
use crate::tell::record::JobsDocument;
use crate::term::{json, text};

/// End jobs in any state, and return when they have ended
#[derive(Debug, Args)]
pub struct CancelOptions {
    /// Ids, or ranges like 3-9, of which those jobs are taken that exist
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,
}

impl CancelOptions {
    /// Ends jobs, and returns when they have ended. Jobs that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone before the jobs have ended.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let mut selection = Selection::of(&self.ids);
        let canceled = selection.ask(&mut client, |ids| Cancel { ids, ..Cancel::default() })?;

        if context.as_json {
            let jobs = canceled.map(|canceled| canceled.jobs).unwrap_or_default();
            text::or_untold(json::print(&JobsDocument::of(&jobs)), "the jobs have ended")?;
        }
        Ok(selection.exit())
    }
}
