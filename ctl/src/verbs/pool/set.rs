//! `poolctl pool set`: changes a pool's number of workers.

use std::num::NonZeroU32;

use clap::{ArgGroup, Args};
use pool_proto::methods::SetWorkers;

use crate::exit::ExitReason;
use crate::verbs::Context;

/// Set a pool's number of workers, also for the time after a restart of poold
///
/// With fewer workers running jobs go on: a worker too many ends when its job has.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").args(["workers", "reset"]).required(true)))]
pub struct SetPoolOptions {
    /// The pool's name
    name: String,

    /// So many workers, whatever the configuration and the command line of poold say
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroU32>,

    /// As many workers as the command line of poold or the configuration says
    #[arg(long)]
    reset: bool,
}

impl SetPoolOptions {
    /// Sets the number.
    ///
    /// # Errors
    /// When the pool does not exist, the number is too great, or poold cannot write its database.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let workers = self.workers.map(NonZeroU32::get);
        context.link.connect()?.request(&SetWorkers { pool: self.name, workers })?;
        Ok(ExitReason::Success)
    }
}
