//! `poolctl why`: says what jobs wait for.

use clap::Args;
use pool_proto::methods::{MAX_EXPLAINED, Why};
use pool_proto::nouns::{Explanation, SCHEMA};
use pool_proto::{Client, ClientError};

use super::Context;
use super::selection::{Scope, Selection, is_unknown};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::term::json;
use crate::term::text::{self, printable};

/// Say what jobs wait for, or what they do instead
#[derive(Debug, Args)]
pub struct WhyOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that have not ended
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,
}

/// What `--json` prints of a job.
#[derive(Debug, serde::Serialize)]
struct Document<'a> {
    schema: u32,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

impl WhyOptions {
    /// Prints a sentence for each job, or a document with `--json`. Jobs that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let mut selection = Selection::find(&mut client, &self.jobs, Scope::LIVING)?;
        selection.leave_out_absent(&mut client)?;
        for ids in selection.ids().chunks(MAX_EXPLAINED) {
            for explanation in explain(&mut client, ids)? {
                print(&explanation, context.as_json)?;
            }
        }
        Ok(selection.exit())
    }
}

/// What poold says of these jobs. If one of them has been pruned meanwhile, each is asked for by itself.
fn explain(client: &mut Client, ids: &[u64]) -> Result<Vec<Explanation>, ClientError> {
    match client.request(&Why { ids: ids.to_vec() }) {
        Err(error) if is_unknown(&error) => {}
        told => return Ok(told?.jobs),
    }
    let mut told = Vec::new();
    for &id in ids {
        match client.request(&Why { ids: vec![id] }) {
            Err(error) if is_unknown(&error) => {}
            one => told.extend(one?.jobs),
        }
    }
    Ok(told)
}

fn print(explanation: &Explanation, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json::print(&Document { schema: SCHEMA, explanation });
    }
    text::print(&format!("{}\n", printable(&explanation.reason, usize::MAX)))
}
