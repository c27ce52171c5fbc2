//! `poolctl signal`: sends a signal to running jobs.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::ClientError;
use pool_proto::methods::Signal;

use super::Context;
use super::selection::{Scope, Selection};
use crate::cli::selector::{Selector, selector_before_signal};
use crate::cli::signal::SignalNumber;
use crate::exit::ExitReason;

/// Send a signal to running jobs
///
/// To the process group of each job's first process; to what has left that group the job has to pass it on. A
/// job that its signal ends has failed, or is retried: `cancel` ends a job for good, with all that it has
/// started. A call is canceled by any signal.
#[derive(Debug, Args)]
pub struct SignalOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that run
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector_before_signal())]
    jobs: Vec<Selector>,

    /// The signal: a name, with or without SIG, or a number
    #[arg(required = true, value_name = "SIGNAL")]
    signal: SignalNumber,
}

impl SignalOptions {
    /// Sends the signal. The jobs that do not run are named.
    ///
    /// # Errors
    /// When poold has gone, or refuses.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let mut selection = Selection::find(&mut client, &self.jobs, Scope::RUNNING)?;
        let wanted = selection.running(&mut client)?;

        let (mut done, mut refused) = (HashSet::new(), HashMap::new());
        for id in wanted {
            match client.request(&Signal { id, signal: self.signal.0 }) {
                Ok(_) => _ = done.insert(id),
                Err(ClientError::Refused(refusal)) => _ = refused.insert(id, refusal.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        selection.leave_out_others(&done, |id| refused.remove(&id), "runs");
        Ok(selection.exit())
    }
}
