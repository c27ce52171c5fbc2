//! `poolctl top`: pools, slots, the queue, the last ends and a job's log on the whole screen, as they change.
//!
//! * [`model`] is what the screen shows, pure: events, readings, keys and the time come in, [wishes](wish) go
//!   out. [`hear`], [`take`] and [`command`] are its parts for events, readings, and keys;
//!   [`pools`], [`queue`], [`ended`], [`history`], [`story`], [`log`] and [`cursor`] its nouns.
//! * [`view`] draws the model into a buffer; [`plan`] says where, to it and to the mouse.
//! * [`stage`] is the loop around both. [`feed`] brings events, [`errands`] readings and what is done,
//!   [`tail`] the output of a job, [`signals`] signals.

mod command;
mod cursor;
mod ended;
mod errands;
mod feed;
mod filter;
mod hear;
mod history;
mod job;
mod keys;
mod log;
mod model;
mod plan;
mod pools;
mod queue;
mod signals;
mod sort;
mod stage;
mod story;
mod tail;
mod take;
mod view;
mod wish;

#[cfg(test)]
mod tests;

use anyhow::{Context as _, bail};
use clap::Args;
use pool_proto::methods::Ping;

use self::stage::Stage;
use self::view::palette::Palette;
use super::Context;
use crate::cli::UsageError;
use crate::exit::ExitReason;
use crate::term::screen::Screen;
use crate::term::stream::Stream;
use crate::term::style::has_color;

/// Watch pools, jobs and logs on the whole screen
///
/// Keys act on them; ? shows the keys.
#[derive(Debug, Args)]
pub struct TopOptions {}

impl TopOptions {
    /// Shows everything until the user quits.
    ///
    /// # Errors
    /// Without a terminal, and when there is no poold.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        if context.as_json {
            bail!(UsageError::new("top has no --json: `poolctl events --json` tells the same to programs"));
        }
        if let Some(obstacle) = Screen::obstacle() {
            bail!(UsageError::new(format!(
                "top needs a terminal, and {obstacle}: `poolctl ls` and `poolctl pool ls` print the same"
            )));
        }

        // What is wrong with the connection is told before the screen is taken.
        let mut readings = context.link.connect()?;
        readings.request(&Ping {})?;
        // A line on stderr would spoil the screen, which says itself what is missing.
        readings.set_vigil(None, false);
        let events = context.link.open().context("cannot connect to poold a second time")?;
        let palette = Palette { has_color: has_color(Stream::Stdout) };
        Stage::open(&context.link, [events, readings], palette)?.run()
    }
}
