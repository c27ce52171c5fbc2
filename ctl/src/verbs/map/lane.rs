//! A lane is a connection that carries items from their submission to their end, over restarts of poold. A
//! map has several lanes. The jobs in flight are tied to their lanes, and poold tells their ends there.

use std::fs::File;

use pool_proto::nouns::{Brief, Obstacle};
use pool_proto::{ClientError, OsText, Record, ResultKind, State};

use super::items::Item;
use super::template::Template;
use crate::exit::ExitReason;
use crate::link::session::Session;
use crate::tell::error::describe_error;
use crate::tell::outcome::{self, result_pruned};
use crate::term::text::{self, printable};

/// The number of characters of an item that a message shows.
pub const SHOWN: usize = 100;

/// An item to be submitted.
#[derive(Debug)]
pub struct Load {
    /// The item.
    pub item: Item,
    /// How many equal items came before.
    pub occurrence: u32,
}

/// A job that has not ended, as far as we know.
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// The id of the job.
    pub id: u64,
    /// Whether poold has said that an attempt runs.
    pub started: bool,
}

/// An item whose job has ended.
#[derive(Debug)]
pub struct EndedItem {
    /// The item.
    pub item: Item,
    /// Whether the job existed before this map submitted it.
    pub existing: bool,
    /// How the job has ended.
    pub end: Returned,
}

/// How the job of an item has ended.
#[derive(Debug)]
pub enum Returned {
    /// A command, with its stdout and stderr if poold could open them.
    Command {
        record: Box<Record>,
        files: Option<(File, File)>,
    },
    Call(Box<Brief>),
    /// Not at all: the item cannot become a job, and why, as a sentence.
    Unfit(String),
}

/// What poold has said on a lane.
#[derive(Debug)]
pub enum LaneEvent {
    Accepted(Vec<u64>),
    Ended(EndedItem),
    /// A job does not go on.
    Obstacle(Obstacle),
}

/// See the module's description.
pub trait Lane<'a> {
    /// Submits items on an idle lane. A lost connection shows when it is read.
    fn start(&mut self, template: &Template, loads: Vec<Load>);

    /// Whether nothing is in flight.
    fn is_idle(&self) -> bool;

    /// The jobs in flight that are accepted.
    fn jobs(&self) -> Vec<InFlight>;

    /// The connection, which goes on over restarts of poold.
    fn session(&self) -> &Session<'a>;

    /// The same connection, for a turn.
    fn session_mut(&mut self) -> &mut Session<'a>;

    /// The next thing that poold has said, among the bytes that have been read.
    ///
    /// # Errors
    /// When poold refuses.
    fn next(&mut self, template: &Template) -> Result<Option<LaneEvent>, ClientError>;

    /// Asks again for what is in flight, after poold has come back. Items whose acceptance is not known are
    /// submitted once more. Without keys such an item may run twice, like an attempt that died with its
    /// poold.
    fn ask_again(&mut self, template: &Template);

    /// Takes what is in flight off the lane.
    fn give_up(&mut self) -> Vec<Load>;
}

impl EndedItem {
    /// The id of the job, if there was one.
    pub fn id(&self) -> Option<u64> {
        match &self.end {
            Returned::Command { record, .. } => Some(record.id),
            Returned::Call(brief) => Some(brief.id),
            Returned::Unfit(_) => None,
        }
    }

    /// The last state of the job.
    pub fn state(&self) -> State {
        match &self.end {
            Returned::Command { record, .. } => record.state,
            Returned::Call(brief) => brief.state,
            Returned::Unfit(_) => State::Failed,
        }
    }

    /// The exit of the job, as in [`outcome::exit_of`]. An error that a method has returned is 1.
    pub fn exit(&self) -> ExitReason {
        match &self.end {
            Returned::Command { record, .. } => outcome::exit_of(record),
            Returned::Call(brief) => match (brief.state, &brief.error) {
                (State::Succeeded, _) if brief.output_pruned == Some(true) => ExitReason::Failed,
                (State::Succeeded, _) => ExitReason::Success,
                (State::TimedOut, _) => ExitReason::TimedOut,
                (_, Some(_)) => ExitReason::Unwell,
                (_, None) => ExitReason::Failed,
            },
            Returned::Unfit(_) => ExitReason::Unwell,
        }
    }

    /// Why the pool cannot run calls at all, where that is why this one has failed: nothing of the call has
    /// run.
    pub fn hopeless(&self) -> Option<&str> {
        match &self.end {
            Returned::Call(brief) => {
                let Brief { result, error, exit_code, .. } = &**brief;
                let has_not_run =
                    *result == Some(ResultKind::Error) && error.is_none() && exit_code.is_none();
                brief.reason.as_deref().filter(|_| brief.state == State::Failed && has_not_run)
            }
            Returned::Command { .. } | Returned::Unfit(_) => None,
        }
    }

    /// Which item failed and how, in a few words.
    pub fn summary(&self) -> String {
        let item = printable(&self.item.text().to_string(), SHOWN);
        match &self.end {
            Returned::Command { record, .. } => {
                format!("job {} ({item}), {}", record.id, outcome::summary(record))
            }
            Returned::Call(brief) => format!("job {} ({item}), {}", brief.id, why(brief)),
            Returned::Unfit(why) => why.clone(),
        }
    }

    /// What to print about the job besides its output.
    pub fn remark(&self, argv: &[OsText]) -> Option<String> {
        match &self.end {
            Returned::Command { record, .. } => {
                let is_other = self.existing && record.argv.as_deref() != Some(argv);
                let other =
                    || format!("job {} did this item in an earlier run, with another command", record.id);
                outcome::remark(record).or_else(|| is_other.then(other))
            }
            Returned::Call(brief) if brief.state == State::Succeeded => {
                (brief.output_pruned == Some(true)).then(|| result_pruned(brief.id))
            }
            Returned::Call(brief) => Some(format!(
                "job {} ({}): {}",
                brief.id,
                printable(&self.item.text().to_string(), SHOWN),
                why(brief)
            )),
            Returned::Unfit(why) => Some(why.clone()),
        }
    }
}

fn why(brief: &Brief) -> String {
    match (&brief.error, &brief.reason) {
        _ if brief.state == State::TimedOut => "timed out".to_owned(),
        (Some(error), _) => describe_error(error),
        (None, Some(reason)) => reason.clone(),
        (None, None) => brief.state.as_str().to_owned(),
    }
}

/// The value of a call as a line. None if the call has failed.
pub fn value_line(brief: &Brief) -> Option<String> {
    (brief.state == State::Succeeded && brief.output_pruned != Some(true))
        .then(|| text::value_line(brief.value.as_ref()))
}
