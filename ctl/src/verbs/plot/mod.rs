//! `poolctl plot`: what ran in which slot and when, as a drawing (SVG).

mod chart;
mod drawing;

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use pool_proto::methods::Pools;

use self::chart::Chart;
use super::Context;
use super::selection::{check_pool, each_page};
use crate::cli::period::PeriodOptions;
use crate::exit::ExitReason;
use crate::term::text;

/// Draw which jobs ran in which slots, as SVG
///
/// The drawing has a line a slot and a bar a job, in the colour of its end, and above them how many jobs
/// waited. Of a job that was tried several times only the last attempt is known.
#[derive(Debug, Args)]
pub struct PlotOptions {
    #[command(flatten)]
    period: PeriodOptions,

    /// Write the drawing into this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl PlotOptions {
    /// Draws the period.
    ///
    /// # Errors
    /// When poold has gone, or the drawing cannot be written.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let period = self.period.period()?;
        let mut client = context.link.connect()?;
        if let Some(pool) = self.period.pool() {
            check_pool(&mut client, pool)?;
        }
        let pools = client.request(&Pools {})?.pools;

        let mut chart = Chart::of(period);
        let wanted = |name: &str| self.period.pool().is_none_or(|pool| pool == name);
        for pool in pools.iter().filter(|pool| wanted(&pool.name)) {
            chart.add_pool(&pool.name, pool.slots.len());
        }
        each_page(&mut client, &self.period.list(period), |jobs| {
            jobs.iter().for_each(|job| chart.add(job));
            Ok::<(), anyhow::Error>(())
        })?;

        let drawing = drawing::draw(&chart.finish());
        match self.output {
            None => text::print(&drawing)?,
            Some(path) => {
                fs::write(&path, drawing).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(ExitReason::Success)
    }
}
