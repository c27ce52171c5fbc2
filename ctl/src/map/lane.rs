//! A connection that carries items from their submission to their end, over restarts of poold. A map has several, so that what is in flight
//! can be tied to us and is told of as it ends.

use std::fs::File;
use std::os::fd::AsFd;

use pool_proto::interface::Brief;
use pool_proto::{ClientError, Json, Record, State};

use super::items::Item;
use super::template::Template;
use crate::call::describe_error;
use crate::connect::Link;
use crate::list::printable;
use crate::outcome;

/// So many characters of an item are shown where it is only mentioned.
pub const SHOWN: usize = 100;

/// An item to be submitted.
#[derive(Debug)]
pub struct Load {
    pub item: Item,
    /// How many equal items came before.
    pub occurrence: u32,
}

/// One that has not ended, as far as we know.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub id: u64,
    pub started: bool,
}

/// An item whose job has ended.
#[derive(Debug)]
pub struct Ended {
    pub item: Item,
    /// The job was there before it was submitted.
    pub existing: bool,
    pub end: End,
}

#[derive(Debug)]
pub enum End {
    /// With its stdout and stderr, where they could be opened.
    Command {
        record: Box<Record>,
        files: Option<(File, File)>,
    },
    Call(Box<Brief>),
}

#[derive(Debug)]
pub enum Event {
    Accepted(Vec<u64>),
    Ended(Ended),
}

/// See the module's description.
pub trait Lane: AsFd {
    /// Submits items, on a lane that is idle. A connection that is lost meanwhile shows when it is read.
    fn start(&mut self, template: &Template, loads: Vec<Load>);

    fn is_idle(&self) -> bool;

    /// Those in flight that have been accepted.
    fn jobs(&self) -> Vec<Job>;

    /// Reads once; false when poold is gone.
    ///
    /// # Errors
    /// When poold is not understood.
    fn fill(&mut self) -> Result<bool, ClientError>;

    /// The next that has happened, of what has been read already.
    ///
    /// # Errors
    /// When poold refuses.
    fn next(&mut self, template: &Template) -> Result<Option<Event>, ClientError>;

    /// Goes on with another connection. Items of which it is not known whether their jobs were accepted are submitted once more: without
    /// keys they may run twice then, as an attempt does that died with its daemon.
    ///
    /// # Errors
    /// When poold does not come back.
    fn reconnect(&mut self, link: &Link, template: &Template) -> anyhow::Result<()>;

    /// Takes off what is in flight.
    fn give_up(&mut self) -> Vec<Load>;
}

impl Ended {
    pub fn id(&self) -> u64 {
        match &self.end {
            End::Command { record, .. } => record.id,
            End::Call(brief) => brief.id,
        }
    }

    pub fn state(&self) -> State {
        match &self.end {
            End::Command { record, .. } => record.state,
            End::Call(brief) => brief.state,
        }
    }

    /// As [`outcome::exit_code`]; an error that a method has returned is a 1.
    pub fn exit_code(&self) -> u8 {
        match &self.end {
            End::Command { record, .. } => outcome::exit_code(record),
            End::Call(brief) => match (brief.state, &brief.error) {
                (State::Succeeded, _) => 0,
                (State::TimedOut, _) => outcome::TIMED_OUT,
                (_, Some(_)) => 1,
                (_, None) => outcome::FAILED,
            },
        }
    }

    /// How it ended, in a few words.
    pub fn summary(&self) -> String {
        match &self.end {
            End::Command { record, .. } => outcome::summary(record),
            End::Call(brief) => why(brief),
        }
    }

    /// What is to be said of it besides its output.
    pub fn remark(&self, argv: &[String]) -> Option<String> {
        match &self.end {
            End::Command { record, .. } => {
                let is_other = self.existing && record.argv.as_deref() != Some(argv);
                let other =
                    || format!("job {} did this item in an earlier run, with another command", record.id);
                outcome::remark(record).or_else(|| is_other.then(other))
            }
            End::Call(brief) if brief.state == State::Succeeded => None,
            End::Call(brief) => {
                Some(format!("job {} ({}): {}", brief.id, printable(&self.item.text, SHOWN), why(brief)))
            }
        }
    }
}

fn why(brief: &Brief) -> String {
    match (&brief.error, &brief.reason) {
        _ if brief.state == State::TimedOut => "time was up".to_owned(),
        (Some(error), _) => describe_error(error),
        (None, Some(reason)) => reason.clone(),
        (None, None) => brief.state.as_str().to_owned(),
    }
}

/// What a call has returned, as a line.
pub fn value_line(brief: &Brief) -> Option<String> {
    let value = brief.value.as_ref().map_or("null", Json::get);
    (brief.state == State::Succeeded).then(|| format!("{value}\n"))
}
