//! `poolctl run`: the same as `submit --wait`.

use anyhow::bail;
use clap::Args;

use super::Context;
use super::submit::SubmitOptions;
use crate::cli::UsageError;
use crate::exit::ExitReason;

/// Run a job as if it were started here: submit --wait
#[derive(Debug, Args)]
pub struct RunOptions {
    #[command(flatten)]
    submit: SubmitOptions,
}

impl RunOptions {
    /// Submits the job, and waits for its end.
    ///
    /// # Errors
    /// Those of `submit`, and a usage error for `--async` and `--quiet`.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        if self.submit.detach {
            bail!(UsageError::new(
                "run waits for the job's end, --async does not: write `poolctl submit` for the id at once, \
                 or leave --async out"
            ));
        }
        if self.submit.quiet {
            bail!(UsageError::new(
                "run prints the job's output, and no id: leave --quiet out, or write `poolctl submit` for the id"
            ));
        }
        SubmitOptions { wait: true, ..self.submit }.run(context)
    }
}
