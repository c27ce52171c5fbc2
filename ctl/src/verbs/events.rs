//! `poolctl events`: prints what happens to jobs and slots, one line for each event.

use std::collections::{HashMap, HashSet};

use clap::Args;
use pool_proto::methods::{Events, Get};
use pool_proto::nouns::{Happening, HappeningKind};
use pool_proto::{Client, ClientError, Record, State};

use super::Context;
use super::selection::{Scope, Selection, each_of, elements_of, is_unknown};
use crate::cli::selector::{Selector, selector};
use crate::cli::values::{parse_ended_state, parse_label};
use crate::exit::ExitReason;
use crate::link::connect::Link;
use crate::link::deadline::Deadline;
use crate::link::session::{News, Subscription};
use crate::tell::event::describe;
use crate::term::json;
use crate::term::stream::Stream;
use crate::term::style::has_color;
use crate::term::text;
use crate::term::width::Size;

/// Print what happens to jobs and slots, as it happens
#[derive(Debug, Args)]
pub struct EventsOptions {
    /// Only of these jobs and their callbacks, until all of them are over: 12, 3-9, last, @label and others
    ///
    /// They are looked up once, at the beginning; --label takes those that come later, too. A job that does
    /// not exist is named, and the code is 125.
    #[arg(value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    /// Print events of this pool only; may be repeated
    #[arg(short, long)]
    pool: Vec<String>,

    /// Print events of jobs with this label only
    #[arg(short, long, value_parser = parse_label)]
    label: Option<String>,

    /// Print these kinds of events only, such as started,ended
    #[arg(short, long, value_name = "KIND", value_delimiter = ',', value_parser = parse_kind)]
    kind: Vec<HappeningKind>,

    /// Print ends in these states only, such as failed,lost
    #[arg(short, long, value_name = "STATE", value_delimiter = ',', value_parser = parse_ended_state)]
    state: Vec<State>,

    /// First print what has happened after this event, whose cursor --json has told
    ///
    /// If poold does not know all of it any more, the first event is `gap`. poold keeps the last 10,000
    /// events, and none over its restart. It counts all events, so with a filter nothing need be missing
    /// after a gap.
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,
}

/// The kind of that name.
fn parse_kind(name: &str) -> Result<HappeningKind, String> {
    let kind = HappeningKind::ALL.into_iter().find(|kind| kind.as_str() == name.replace('-', "_"));
    kind.ok_or_else(|| {
        let names: Vec<&str> = HappeningKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("there is no kind {name:?}: {}", names.join(", "))
    })
}

/// What of the events is printed. poold does not know of it: it tells the same events to all who listen.
struct Wanted {
    label: Option<String>,
    kinds: Vec<HappeningKind>,
    states: Vec<State>,
    /// Whether jobs that have been seen have the label.
    known: HashMap<u64, bool>,
}

/// So many jobs are remembered; then they are looked at anew.
const MOST_KNOWN: usize = 100_000;

impl Wanted {
    fn fits(&mut self, happening: &Happening, link: &Link) -> bool {
        // That poold tells everything from now on, or does not tell everything, is told always.
        if matches!(happening.event, HappeningKind::Listening | HappeningKind::Gap) {
            return true;
        }
        let is_kind = self.kinds.is_empty() || self.kinds.contains(&happening.event);
        let is_state =
            self.states.is_empty() || happening.state.is_some_and(|state| self.states.contains(&state));
        is_kind && is_state && self.has_label(happening, link)
    }

    fn has_label(&mut self, happening: &Happening, link: &Link) -> bool {
        let Some(label) = &self.label else { return true };
        let Some(id) = happening.id else { return false };
        if let Some(&known) = self.known.get(&id) {
            return known;
        }
        let got = connected(link).and_then(|mut client| client.request(&Get { id }));
        let has = |record: &Record| record.labels.iter().flatten().any(|other| other == label);
        let has_label = got.is_ok_and(|got| has(&got.record));
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(id, has_label);
        has_label
    }
}

impl EventsOptions {
    /// Prints events until the named jobs are over, poold ends, or nobody reads them any more. Events during
    /// a restart of poold are missing; the `gap` before the next `listening` shows that. A job that does not
    /// exist is named, and the exit code is 125.
    ///
    /// # Errors
    /// When the pool does not exist, or poold has gone for good, or is told to end.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let pools = (!self.pool.is_empty()).then_some(self.pool);
        let selection = match Selection::of_ids(&self.jobs) {
            Some(selection) => selection,
            None => Selection::find(&mut context.link.connect()?, &self.jobs, Scope::AWAITED)?,
        };
        let are_named = !self.jobs.is_empty();
        if are_named && selection.ids().is_empty() {
            return Ok(selection.exit());
        }
        let named: HashSet<u64> = selection.ids().iter().copied().collect();
        let arrays = match are_named {
            true => arrays_of(&mut context.link.connect()?, &selection),
            false => Vec::new(),
        };
        let ids = are_named.then(|| named.iter().chain(&arrays).copied().collect());
        let mut open = are_named.then(|| OpenJobs { selection, arrays, left: None });
        let mut wanted =
            Wanted { label: self.label, kinds: self.kind, states: self.state, known: HashMap::new() };
        let is_named =
            |happening: &Happening| happening.id.is_none_or(|id| named.is_empty() || named.contains(&id));
        let mut print =
            |happening: &Happening| match is_named(happening) && wanted.fits(happening, &context.link) {
                true => tell(happening, context.as_json),
                false => Ok(()),
            };

        let events = Events { pools, ids, since: self.since };
        let mut subscription = Subscription::open(&context.link, events, Deadline::NEVER)?;
        loop {
            // What is missing after a loss, the next event tells.
            let News::Reply(happening, _) = subscription.next(|| Deadline::NEVER)? else { continue };
            // Should the connection be lost, it goes on from here.
            if happening.cursor.is_some() {
                subscription.request_mut().since.clone_from(&happening.cursor);
            }
            print(&happening)?;
            let exit = open.as_mut().map(|open| open.exit_with(&happening, &context.link)).transpose()?;
            if let Some(exit) = exit.flatten() {
                finish(&context.link, subscription.request_mut().clone(), print)?;
                return Ok(exit);
            }
        }
    }
}

/// Prints one event.
fn tell(happening: &Happening, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json::print(happening);
    }
    let width = Size::of_stdout().map(|size| size.columns);
    text::print(&describe(happening, width, has_color(Stream::Stdout)))
}

/// Prints what has happened until now and was not heard yet: when poold says that all jobs are over, their
/// last events may still be on their way. A poold that has gone tells none.
fn finish(
    link: &Link,
    rest: Events,
    mut print: impl FnMut(&Happening) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut subscription = Subscription::open(link, rest, Deadline::NEVER)?;
    loop {
        match subscription.next(|| Deadline::NEVER)? {
            News::Reply(happening, _) if happening.event == HappeningKind::Listening => return Ok(()),
            News::Reply(happening, _) => print(&happening)?,
            News::Lost | News::Back => return Ok(()),
        }
    }
}

/// The named jobs of which more events may come.
struct OpenJobs {
    selection: Selection,
    /// Those of which elements are named. With its end also those elements are over that it has not come to,
    /// whose ends nothing tells.
    arrays: Vec<u64>,
    /// None before it is known which jobs are over.
    left: Option<HashSet<u64>>,
}

impl OpenJobs {
    /// How poolctl ends if all of them are over with this event. A poold that has gone
    /// says nothing of them. It is asked again when it is back.
    fn exit_with(&mut self, happening: &Happening, link: &Link) -> anyhow::Result<Option<ExitReason>> {
        let asked = match (happening.event, happening.id) {
            (HappeningKind::Listening, _) => connected(link).and_then(|mut client| self.look(&mut client)),
            (HappeningKind::Ended, Some(id)) if self.arrays.contains(&id) => {
                connected(link).and_then(|mut client| self.look(&mut client))
            }
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
        let mut listed = HashSet::new();
        for range in self.selection.ranges() {
            each_of(client, range, |record| {
                listed.insert(record.id);
                if is_over(record) {
                    left.remove(&record.id);
                }
            })?;
        }
        for &id in &self.arrays {
            let array = match client.request(&Get { id }) {
                Ok(got) => got.record,
                Err(error) if is_unknown(&error) => continue,
                Err(error) => return Err(error),
            };
            if let Some(elements) = elements_of(&array).filter(|_| array.state.is_terminal()) {
                left.retain(|id| listed.contains(id) || !elements.contains(*id));
            }
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

/// The arrays of the elements that are named: of each range the one in which it begins, or with which.
fn arrays_of(client: &mut Client, selection: &Selection) -> Vec<u64> {
    let mut arrays: Vec<u64> = Vec::new();
    for range in selection.ranges() {
        let id = range.first();
        let array = client.request(&Get { id }).ok().and_then(|got| got.record.array);
        arrays.extend(array.map(|array| array.id).filter(|id| !arrays.contains(id)));
    }
    arrays
}

fn connected(link: &Link) -> Result<Client, ClientError> {
    Ok(link.open()?)
}

/// Whether no more events of the job come: it has ended, and so have its callbacks.
fn is_over(record: &Record) -> bool {
    let is_pending = |state: &str| matches!(state, "waiting" | "pending" | "running");
    record.state.is_terminal() && !record.callbacks.iter().any(|callback| is_pending(&callback.state))
}
