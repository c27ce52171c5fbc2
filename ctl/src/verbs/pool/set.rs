//! `poolctl pool set`: changes a pool's number of workers.

use std::num::NonZeroU32;

use clap::{ArgGroup, Args};
use pool_proto::methods::SetWorkers;

use crate::cli::values::parse_workers;
use crate::exit::ExitReason;
use crate::verbs::Context;

/// Set a pool's number of workers
///
/// Also for the time after a restart of poold. With fewer workers running jobs go on: a worker too many ends
/// when its job has.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").args(["workers", "reset"]).required(true)))]
pub struct SetPoolOptions {
    /// The pool's name
    name: String,

    /// So many workers, whatever the configuration says
    ///
    /// And whatever the command line of poold says.
    #[arg(long, value_name = "N", value_parser = parse_workers)]
    workers: Option<NonZeroU32>,

    /// As many as the configuration says
    ///
    /// Or the command line of poold.
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
