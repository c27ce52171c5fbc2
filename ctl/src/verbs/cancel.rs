//! `poolctl cancel`: ends jobs.

use clap::Args;
use pool_proto::methods::Cancel;

use super::Context;
use crate::cli::ids::{IdRange, ids_of};
use crate::exit::ExitReason;
use crate::tell::record::JobsDocument;
use crate::term::{json, text};

/// End jobs in any state, and return when they have ended
#[derive(Debug, Args)]
pub struct CancelOptions {
    /// Ids, or ranges like 3-9
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,
}

impl CancelOptions {
    /// Ends jobs, and returns when they have ended.
    ///
    /// # Errors
    /// When one of the jobs does not exist. Then no job is ended.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let canceled = context.link.connect()?.request(&Cancel { ids: ids_of(&self.ids) })?;
        if context.as_json {
            let told = json::print(&JobsDocument::of(&canceled.jobs));
            text::or_untold(told, "the jobs have ended")?;
        }
        Ok(ExitReason::Success)
    }
}
