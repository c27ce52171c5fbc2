//! `poolctl show`: prints one job's record.

use clap::Args;
use pool_proto::methods::{Get, Why};
use pool_proto::{Client, ClientError, Record};

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
        let mut client = context.link.connect()?;
        let record = client.request(&Get { id: self.id })?.record;
        if context.as_json {
            json::print(&record)?;
        } else {
            let why = why(&mut client, &record)?;
            text::print(&describe(&record, why))?;
        }
        Ok(ExitReason::Success)
    }
}

/// What a job waits for that has not ended. Nothing where poold does not say: it is older than that method,
/// or the job has been pruned in this moment.
fn why(client: &mut Client, record: &Record) -> Result<Option<String>, ClientError> {
    if record.state.is_terminal() {
        return Ok(None);
    }
    match client.request(&Why { ids: vec![record.id] }) {
        Ok(told) => Ok(told.jobs.into_iter().next().map(|explanation| explanation.reason)),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
