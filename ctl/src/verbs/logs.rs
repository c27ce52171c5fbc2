//! `poolctl logs`: prints a job's output.

use std::fs::File;

use clap::Args;
use pool_proto::methods::Output;

use super::Context;
use crate::exit::ExitReason;
use crate::follow::{Follower, Sinks};
use crate::term::text;

/// Print a job's output
#[derive(Debug, Args)]
pub struct LogsOptions {
    /// The job's id
    id: u64,

    /// Wait for the job's start, and print until its end
    #[arg(short, long)]
    follow: bool,

    /// Print the job's stderr instead of its stdout
    #[arg(long)]
    stderr: bool,
}

impl LogsOptions {
    /// Prints a job's output.
    ///
    /// # Errors
    /// When the job does not exist; without `--follow` also when the job has not started.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        if self.follow {
            Follower::of_job(&context.link, client, Sinks::one(self.stderr), self.id).attend()?;
            return Ok(ExitReason::Success);
        }

        client.request(&Output { id: self.id })?;
        let stdout = client.take_descriptor()?;
        let stderr = client.take_descriptor()?;
        let mut file = File::from(if self.stderr { stderr } else { stdout });
        text::copy(&mut file)?;
        Ok(ExitReason::Success)
    }
}
