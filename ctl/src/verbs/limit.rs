//! `poolctl limit`: sets, lists and removes the limits of labels.

use std::num::NonZeroU32;

use clap::{Args, Subcommand};
use pool_proto::methods::{LabelLimits, SetLabelLimit};
use pool_proto::nouns::SCHEMA;

use super::Context;
use crate::cli::values::{parse_label, parse_workers};
use crate::exit::ExitReason;
use crate::tell::limit::{LimitsDocument, table_of};
use crate::term::{json, text};

/// Limit how many jobs with a label run at a time
///
/// Over all pools.
#[derive(Debug, Args)]
pub struct LimitOptions {
    #[command(subcommand)]
    verb: LimitVerb,
}

#[derive(Debug, Subcommand)]
enum LimitVerb {
    /// Let so many jobs with this label run at a time
    ///
    /// From now on, and after every restart of poold.
    ///
    /// A limit that is set comes before that of the configuration. Jobs that run go on when the limit becomes
    /// less.
    Set {
        #[arg(value_parser = parse_label)]
        label: String,

        /// How many jobs
        #[arg(value_name = "N", value_parser = parse_workers)]
        limit: NonZeroU32,
    },
    /// List the limits, and the jobs that run with these labels
    Ls,
    /// Remove a limit that was set
    ///
    /// The limit of the configuration applies again, if there is one.
    Rm {
        #[arg(value_parser = parse_label)]
        label: String,
    },
}

impl LimitOptions {
    /// Does what the verb after `limit` says.
    ///
    /// # Errors
    /// When poold refuses the change or cannot write its database, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        match self.verb {
            LimitVerb::Set { label, limit } => {
                client.request(&SetLabelLimit { label, limit: Some(limit.get()) })?;
            }
            LimitVerb::Rm { label } => {
                client.request(&SetLabelLimit { label, limit: None })?;
            }
            LimitVerb::Ls => {
                let limits = client.request(&LabelLimits {})?.limits;
                if context.as_json {
                    json::print(&LimitsDocument { schema: SCHEMA, limits: &limits })?;
                } else {
                    text::print(&table_of(&limits))?;
                    if limits.is_empty() {
                        text::hint("no label has a limit: `poolctl limit set LABEL N` sets one");
                    }
                }
            }
        }
        Ok(ExitReason::Success)
    }
}
