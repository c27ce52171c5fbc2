//! `poolctl pool ls`: lists pools and slots.

use std::time::SystemTime;

use clap::Args;
use pool_proto::methods::Pools;

use crate::exit::ExitReason;
use crate::tell::pool::{PoolsDocument, lines_of, slots_of};
use crate::term::stream::Stream;
use crate::term::style::has_color;
use crate::term::width::Size;
use crate::term::{json, text};
use crate::verbs::Context;

/// List pools: their workers, what they do, and what is wrong
#[derive(Debug, Args)]
pub struct PoolListOptions {
    /// List each slot
    #[arg(long)]
    slots: bool,
}

impl PoolListOptions {
    /// Lists the pools, or their slots.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let pools = context.link.connect()?.request(&Pools {})?.pools;
        if context.as_json {
            json::print(&PoolsDocument::of(&pools))?;
        } else if self.slots {
            text::print(&slots_of(&pools, Size::of_stdout().is_some()))?;
        } else {
            let width = Size::of_stdout().map(|size| size.columns);
            text::print(&lines_of(&pools, width, has_color(Stream::Stdout), SystemTime::now()))?;
        }
        Ok(ExitReason::Success)
    }
}
