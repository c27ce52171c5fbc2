//! `poolctl pool ls`: lists pools and slots.

use clap::Args;
use pool_proto::methods::Pools;

use crate::exit::ExitReason;
use crate::tell::pool::{PoolsDocument, table_of};
use crate::term::{json, text};
use crate::verbs::Context;

/// List pools and their slots
#[derive(Debug, Args)]
pub struct PoolListOptions {}

impl PoolListOptions {
    /// Lists the pools and their slots.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let pools = context.link.connect()?.request(&Pools {})?.pools;
        if context.as_json {
            json::print(&PoolsDocument::of(&pools))?;
        } else {
            text::print(&table_of(&pools))?;
        }
        Ok(ExitReason::Success)
    }
}
