//! `poolctl cancel`: ends jobs.

use clap::Args;
use pool_proto::methods::{Cancel, Canceled};

use super::Context;
use super::selection::{Scope, Selection, count_jobs, is_unknown};
use crate::cli::choices::YesOption;
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::link::deadline::Deadline;
use crate::link::session::{News, Subscription};
use crate::tell::record::JobsDocument;
use crate::term::obstacles::Obstacles;
use crate::term::text::say;
use crate::term::{json, text};

/// End jobs in any state, and return when they have ended
#[derive(Debug, Args)]
pub struct CancelOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x; of several those that have not ended
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    #[command(flatten)]
    yes: YesOption,
}

impl CancelOptions {
    /// Ends jobs, and returns when they have ended. Jobs that do not exist are named.
    ///
    /// # Errors
    /// When poold has gone before the jobs have ended.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let mut selection = Selection::find(&mut client, &self.jobs, Scope::LIVING)?;
        if !selection.is_wanted(self.yes.yes, |count| format!("cancel {}?", count_jobs(count))) {
            return Ok(ExitReason::Unwell);
        }
        selection.leave_out_if_many(&mut client)?;
        drop(client);
        let canceled = if selection.ids().is_empty() { None } else { cancel(context, &mut selection)? };
        if context.as_json {
            let jobs = canceled.map(|canceled| canceled.jobs).unwrap_or_default();
            text::or_untold(json::print(&JobsDocument::of(&jobs)), "the jobs have ended")?;
        }
        Ok(selection.exit())
    }
}

/// Ends the jobs that exist. None if no job does.
fn cancel(context: &Context, selection: &mut Selection) -> anyhow::Result<Option<Canceled>> {
    let mut obstacles = match selection.ids() {
        [_] => Obstacles::of_one(),
        _ => Obstacles::of_many(),
    };
    let request = |selection: &Selection| Cancel {
        ids: selection.ids().to_vec(),
        obstacles: Some(true),
        ..Cancel::default()
    };

    let mut subscription = Subscription::open(&context.link, request(selection), Deadline::NEVER)?;
    loop {
        let settle = || {
            obstacles.lines().iter().for_each(say);
            Deadline::at_some(obstacles.due())
        };
        match subscription.next(settle) {
            // The others are ended without the jobs that do not exist.
            Err(error) if error.downcast_ref().is_some_and(is_unknown) => {
                selection.leave_out_unknown(&mut context.link.connect()?, error.downcast()?)?;
                if selection.ids().is_empty() {
                    return Ok(None);
                }
                subscription.ask(request(selection));
            }
            Ok(News::Reply(canceled, false)) => return Ok(Some(canceled)),
            Ok(News::Reply(waiting, true)) => {
                waiting.obstacles.into_iter().flatten().for_each(|obstacle| obstacles.note(obstacle));
            }
            Ok(News::Lost) => obstacles.clear(),
            Ok(News::Back) => {}
            Err(error) => return Err(error),
        }
    }
}
