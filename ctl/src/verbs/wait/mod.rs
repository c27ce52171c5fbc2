//! `poolctl wait`: waits for jobs that were submitted before.

mod waiter;

use std::time::Duration;

use clap::Args;
use pool_proto::terminal::printable_lines;
use pool_proto::text::parse_duration;
use pool_proto::{ClientError, Refusal};

use self::waiter::Waiter;
use super::Context;
use super::ending::{Ending, Endings};
use super::selection::{Scope, Selection, is_unknown};
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::link::deadline::{Deadline, TimeUp};
use crate::link::session::{News, Subscription};
use crate::term::json;
use crate::term::text::{self, say};

/// Wait until jobs have ended
///
/// The code is 0 if all succeeded, else that of the first job that did not.
#[derive(Debug, Args)]
pub struct WaitOptions {
    /// Jobs by 12, 3-9, last, @label, name:x, state:x or pool:x, also those that have ended; or all that have
    /// not ended
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    /// Wait until one of the jobs has ended; exit with its code
    #[arg(long)]
    any: bool,

    /// Stop waiting after this time, with code 124. With 0, only look which jobs have ended
    #[arg(short, long, value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// Print the last N lines of each job's output in the end
    ///
    /// With --json: one document in the end, with the records, and these lines. A job that has not ended when
    /// the time is up is in it, too.
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

impl WaitOptions {
    /// Waits for all jobs, or for any of them. Prints each record as it comes with `--json`; otherwise prints
    /// a line on stderr for each job that failed, and at a terminal the progress of calls.
    ///
    /// # Errors
    /// When poold has gone for good. A job that does not exist is named, and counts as failed.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let deadline = self.timeout.map_or(Deadline::NEVER, Deadline::after);
        let selection = match self.select(context, deadline) {
            Err(error) if error.is::<TimeUp>() => {
                say("the time is up: poold could not be asked");
                return Ok(ExitReason::TimedOut);
            }
            selection => selection?,
        };
        let (tail, ids) = (self.tail, selection.ids().to_vec());
        if ids.is_empty() {
            return Ok(selection.exit());
        }
        let exit = self.wait(context, deadline, selection)?;
        if let Some(lines) = tail {
            print_endings(context, &ids, lines, exit == ExitReason::TimedOut)?;
        }
        Ok(exit)
    }

    /// The jobs. Where they are named by their ids, poold need not be there yet.
    fn select(&self, context: &Context, deadline: Deadline) -> anyhow::Result<Selection> {
        if let Some(selection) = Selection::of_ids(&self.jobs) {
            return Ok(selection);
        }
        let patience = if self.timeout == Some(Duration::ZERO) { Deadline::after(LOOK) } else { deadline };
        Selection::find(&mut context.link.connect_before(patience)?, &self.jobs, Scope::AWAITED)
    }

    fn wait(
        &self,
        context: &Context,
        deadline: Deadline,
        mut selection: Selection,
    ) -> anyhow::Result<ExitReason> {
        let is_told = self.tail.is_none() || !context.as_json;
        let mut waiter = Waiter::new(&selection, self.any, context.as_json, is_told);
        let exit = self.attend(context, deadline, &mut selection, &mut waiter)?;
        waiter.finish();
        Ok(exit)
    }

    fn attend(
        &self,
        context: &Context,
        deadline: Deadline,
        selection: &mut Selection,
        waiter: &mut Waiter,
    ) -> anyhow::Result<ExitReason> {
        if selection.are_many() && !deadline.is_over() {
            match context.link.connect_before(deadline) {
                Err(error) if error.is::<TimeUp>() => return waiter.give_up("poold could not be asked"),
                client => selection.leave_out_if_many(&mut client?)?,
            }
            if !waiter.narrow(selection) {
                return Ok(waiter.exit());
            }
        }
        if self.timeout == Some(Duration::ZERO) {
            return waiter.look(context, selection);
        }

        let opened = Subscription::open(&context.link, waiter.request(selection), deadline);
        let mut subscription = match opened {
            Err(error) if error.is::<TimeUp>() => return waiter.give_up("poold could not be asked"),
            other => other?,
        };
        loop {
            match subscription.next(|| waiter.settle()) {
                // The others are waited for without the jobs that do not exist.
                Err(error) if error.downcast_ref().is_some_and(is_unknown) => {
                    let mut client = context.link.connect_before(deadline)?;
                    waiter.aside(|| selection.leave_out_unknown(&mut client, error.downcast()?))?;
                    if !waiter.narrow(selection) {
                        return Ok(waiter.exit());
                    }
                    subscription.ask(waiter.request(selection));
                }
                Ok(News::Reply(progress, more)) => {
                    if let Some(exit) = waiter.on_progress(progress, !more)? {
                        return Ok(exit);
                    }
                }
                Ok(News::Lost) => waiter.on_lost(),
                // What is known is not asked for again: a long wait comes to its end.
                Ok(News::Back) => {
                    subscription.request_mut().ids.retain(|&id| !waiter.has_ended(id));
                    if subscription.request_mut().ids.is_empty() {
                        return Ok(waiter.exit());
                    }
                }
                Err(error) if error.is::<TimeUp>() => {
                    let remark = if subscription.is_away() { "poold is away" } else { "" };
                    return waiter.give_up(remark);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// poold is given this time to be there, where nobody waits for anything else.
const LOOK: Duration = Duration::from_secs(5);

/// Prints what the jobs have come to, with the last lines of their output.
fn print_endings(context: &Context, ids: &[u64], lines: usize, timed_out: bool) -> anyhow::Result<()> {
    let mut client = context.link.connect()?;
    let mut endings = Vec::new();
    for &id in ids {
        match Ending::read(&mut client, id, Some(lines)) {
            Ok(ending) => endings.push(ending),
            // It was said before that there is no such job.
            Err(ClientError::Refused(Refusal::NoSuchJob { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }

    if context.as_json {
        return json::print(&Endings::new(timed_out, endings));
    }
    for Ending { record, stdout, stderr } in &endings {
        for (stream, lines) in [("stdout", stdout), ("stderr", stderr)] {
            if let Some(lines) = lines.as_deref().filter(|lines| !lines.is_empty()) {
                let newline = if lines.ends_with('\n') { "" } else { "\n" };
                text::print(&format!(
                    "==> job {} {stream} <==\n{}{newline}",
                    record.id,
                    printable_lines(lines)
                ))?;
            }
        }
    }
    Ok(())
}
