//! `poolctl release`: queues held jobs again.

use clap::Args;
use pool_proto::methods::Release;

use super::Context;
use crate::cli::ids::{IdRange, ids_of};
use crate::exit::ExitReason;

/// Queue held jobs again
#[derive(Debug, Args)]
pub struct ReleaseOptions {
    /// Ids, or ranges like 3-9
    #[arg(required = true, value_name = "ID")]
    ids: Vec<IdRange>,
}

impl ReleaseOptions {
    /// Queues held jobs again.
    ///
    /// # Errors
    /// When one of the jobs is not held. Then no job is released.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        context.link.connect()?.request(&Release { ids: ids_of(&self.ids) })?;
        Ok(ExitReason::Success)
    }
}
