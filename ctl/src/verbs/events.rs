//! `poolctl events`: prints what happens to jobs and slots, one line for each event.

use std::collections::HashSet;

use clap::Args;
use pool_proto::methods::{Events, Get};
use pool_proto::nouns::{Happening, HappeningKind};
use pool_proto::{Client, ClientError, Record};

use super::Context;
use super::selection::{Selection, each_of, is_unknown};
use crate::cli::ids::IdRange;
use crate::exit::ExitReason;
use crate::link::connect::Link;
use crate::link::deadline::Deadline;
use crate::link::session::{News, Subscription};
use crate::tell::event::describe;
use crate::term::json;
use crate::term::text::{self, say};

/// Print what happens to jobs and slots, as it happens: one line for each event
#[derive(Debug, Args)]
pub struct EventsOptions {
    /// Print events of these jobs only, until all of them have ended: ids, or ranges like 3-9
    #[arg(value_name = "ID")]
    ids: Vec<IdRange>,

    /// Print events of this pool only; may be repeated
    #[arg(short, long)]
    pool: Vec<String>,
}

impl EventsOptions {
    /// Prints events until the named jobs are over, poold ends, or nobody reads them any more. Events during
    /// a restart of poold are missing; the next `listening` shows that. A job that does not exist is named,
    /// and the exit code is 125.
    ///
    /// # Errors
    /// When the pool does not exist, or poold has gone for good, or is told to end.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let pools = (!self.pool.is_empty()).then_some(self.pool);
        let ids = (!self.ids.is_empty()).then(|| self.ids.iter().flat_map(IdRange::ids).collect());
        let mut open = OpenJobs::of(self.ids);

        let mut subscription = Subscription::open(&context.link, Events { pools, ids }, Deadline::NEVER)?;
        loop {
            match subscription.next(|| Deadline::NEVER)? {
                News::Reply(happening, _) => {
                    match context.as_json {
                        true => json::print(&happening)?,
                        false => text::print(&describe(&happening))?,
                    }
                    if let Some(exit) = open.exit_with(&happening, &context.link)? {
                        return Ok(exit);
                    }
                }
                News::Lost => {}
                News::Back => say(format_args!("poold was restarted; events during the restart are missing")),
            }
        }
    }
}

/// The named jobs of which more events may come.
struct OpenJobs {
    selection: Selection,
    ranges: Vec<IdRange>,
    /// None before it is known which jobs are over.
    left: Option<HashSet<u64>>,
}

impl OpenJobs {
    fn of(ranges: Vec<IdRange>) -> Self {
        Self { selection: Selection::of(&ranges), ranges, left: None }
    }

    /// How poolctl ends if jobs are named, and all of them are over with this event. A poold that has gone
    /// says nothing of them. It is asked again when it is back.
    fn exit_with(&mut self, happening: &Happening, link: &Link) -> anyhow::Result<Option<ExitReason>> {
        if self.ranges.is_empty() {
            return Ok(None);
        }

        let asked = match (happening.event, happening.id) {
            (HappeningKind::Listening, _) => connected(link).and_then(|mut client| self.look(&mut client)),
            (
                HappeningKind::Ended | HappeningKind::CallbackDelivered | HappeningKind::CallbackFailed,
                Some(id),
            ) => connected(link).and_then(|mut client| self.look_at(&mut client, id)),
            _ => Ok(()),
        };
        match asked {
            Err(error @ ClientError::Refused(_)) => return Err(error.into()),
            Err(_) => return Ok(None),
            Ok(()) => {}
        }
        let are_over = self.left.as_ref().is_some_and(HashSet::is_empty);
        Ok(are_over.then(|| self.selection.exit()))
    }

    /// Looks which of the jobs are over. A job that does not exist is named, and none is expected to come.
    fn look(&mut self, client: &mut Client) -> Result<(), ClientError> {
        self.selection.leave_out_absent(client)?;
        let mut left: HashSet<u64> = self.selection.ids().iter().copied().collect();
        for &range in &self.ranges {
            each_of(client, range, |record| {
                if is_over(record) {
                    left.remove(&record.id);
                }
            })?;
        }
        self.left = Some(left);
        Ok(())
    }

    /// A job that is gone by now had ended.
    fn look_at(&mut self, client: &mut Client, id: u64) -> Result<(), ClientError> {
        let is_over = match client.request(&Get { id }) {
            Ok(got) => is_over(&got.record),
            Err(error) if is_unknown(&error) => true,
            Err(error) => return Err(error),
        };
        if let (true, Some(left)) = (is_over, &mut self.left) {
            left.remove(&id);
        }
        Ok(())
    }
}

fn connected(link: &Link) -> Result<Client, ClientError> {
    Ok(link.open()?)
}

/// Whether no more events of the job come: it has ended, and so have its callbacks.
fn is_over(record: &Record) -> bool {
    let is_pending = |state: &str| matches!(state, "waiting" | "pending" | "running");
    record.state.is_terminal() && !record.callbacks.iter().any(|callback| is_pending(&callback.state))
}
