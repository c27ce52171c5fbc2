//! `poolctl pool rm`: removes a pool.

use clap::Args;
use pool_proto::methods::RemovePool;

use crate::exit::ExitReason;
use crate::verbs::Context;

/// Remove a pool that was added
///
/// It takes no more jobs; queued jobs wait until the pool is added again.
#[derive(Debug, Args)]
pub struct RemovePoolOptions {
    /// The pool's name
    name: String,
}

impl RemovePoolOptions {
    /// Removes a pool that was added.
    ///
    /// # Errors
    /// When the pool does not exist, or is in the configuration file.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        context.link.connect()?.request(&RemovePool { name: self.name })?;
        Ok(ExitReason::Success)
    }
}
