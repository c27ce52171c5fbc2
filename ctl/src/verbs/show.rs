//! `poolctl show`: prints one job's record.

use clap::Args;
use pool_proto::methods::Get;

use super::Context;
use crate::exit::ExitReason;
use crate::tell::record::describe;
use crate::term::{json, text};

/// Show all that is known of a job
#[derive(Debug, Args)]
pub struct ShowOptions {
    /// The job's id
    id: u64,
}

impl ShowOptions {
    /// Prints a job's record.
    ///
    /// # Errors
    /// When the job does not exist.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let record = context.link.connect()?.request(&Get { id: self.id })?.record;
        if context.as_json {
            json::print(&record)?;
        } else {
            text::print(&describe(&record))?;
        }
        Ok(ExitReason::Success)
    }
}
