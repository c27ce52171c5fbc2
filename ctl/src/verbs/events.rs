//! `poolctl events`: prints what happens to jobs and slots, one line for each event.

use clap::Args;
use pool_proto::methods::Events;

use super::Context;
use crate::cli::ids::{IdRange, ids_of};
use crate::exit::ExitReason;
use crate::link::deadline::Deadline;
use crate::link::session::{News, Subscription};
use crate::tell::event::describe;
use crate::term::{json, text};

/// Print what happens to jobs and slots, as it happens: one line for each event
#[derive(Debug, Args)]
pub struct EventsOptions {
    /// Print events of these jobs only: ids, or ranges like 3-9
    #[arg(value_name = "ID")]
    ids: Vec<IdRange>,

    /// Print events of this pool only; may be repeated
    #[arg(short, long)]
    pool: Vec<String>,
}

impl EventsOptions {
    /// Prints events until poold ends, or nobody reads them any more. Events during a restart of poold are
    /// missing; the next `listening` shows that.
    ///
    /// # Errors
    /// When the pool does not exist, or poold has gone for good, or is told to end.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let pools = (!self.pool.is_empty()).then_some(self.pool);
        let ids = (!self.ids.is_empty()).then(|| ids_of(&self.ids));

        let mut subscription = Subscription::open(&context.link, Events { pools, ids }, Deadline::NEVER)?;
        loop {
            match subscription.next(|| ())? {
                News::Reply(happening, _) if context.as_json => json::print(&happening)?,
                News::Reply(happening, _) => text::print(&describe(&happening))?,
                News::Lost => {}
                News::Back => {
                    eprintln!("poolctl: poold was restarted; events during the restart are missing")
                }
            }
        }
    }
}
