//! A lane that carries many calls at a time, whose values come as they are there, several in one message. The next batch can go when the
//! last call of this one has ended; other lanes keep the pool busy meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context;
use pool_proto::interface::{self, Brief, OnDisconnect, ProgressEvent, SubmitMany, TIE_TO_CLIENT, Wait};
use pool_proto::{Client, ClientError, Record, Refusal};

use super::lane::{End, Ended, Event, Job, Lane, Load};
use super::template::Template;
use crate::connect::Link;

/// See the module's description.
#[derive(Debug)]
pub struct Batch {
    client: Client,
    on_disconnect: OnDisconnect,
    /// Submitted and not accepted, in order.
    unknown: Vec<Load>,
    /// Accepted and not ended.
    accepted: HashMap<u64, Load>,
    existing: HashSet<u64>,
    /// What is called: SubmitMany, or after a restart of poold Wait.
    is_waiting: bool,
    events: VecDeque<Event>,
}

impl Batch {
    pub fn new(client: Client, on_disconnect: OnDisconnect) -> Self {
        Self {
            client,
            on_disconnect,
            unknown: Vec::new(),
            accepted: HashMap::new(),
            existing: HashSet::new(),
            is_waiting: false,
            events: VecDeque::new(),
        }
    }

    fn submit(&mut self, template: &Template) -> io::Result<()> {
        self.is_waiting = false;
        let jobs = self.unknown.iter().map(|load| template.part(load)).collect();
        let tie = (self.on_disconnect == OnDisconnect::Cancel).then(|| TIE_TO_CLIENT.to_owned());
        let defaults = interface::Job { tie, ..template.common().clone() };
        self.client.send(&SubmitMany { jobs, defaults: Some(defaults) }, true)
    }

    fn wait(&mut self) -> io::Result<()> {
        self.is_waiting = true;
        let ids = self.accepted.keys().copied().collect();
        self.client.send(&Wait { ids, on_disconnect: Some(self.on_disconnect), ..Wait::default() }, true)
    }

    /// Everything from the beginning.
    fn submit_again(&mut self, template: &Template) -> io::Result<()> {
        let mut loads: Vec<Load> =
            self.accepted.drain().map(|(_, load)| load).chain(self.unknown.drain(..)).collect();
        loads.sort_unstable_by_key(|load| load.item.number);
        self.unknown = loads;
        self.submit(template)
    }

    /// False when nothing has come.
    fn take_results(&mut self) -> Result<bool, ClientError> {
        let Some((submitted, _)) = self.client.next_reply::<SubmitMany>()? else { return Ok(false) };
        if !submitted.ids.is_empty() {
            self.existing =
                submitted.existing.iter().filter_map(|&place| submitted.ids.get(place).copied()).collect();
            self.accepted = submitted.ids.iter().copied().zip(self.unknown.drain(..)).collect();
            self.events.push_back(Event::Accepted(submitted.ids));
        }
        submitted.results.into_iter().for_each(|brief| self.on_end(brief));
        Ok(true)
    }

    fn take_ends(&mut self, template: &Template) -> Result<bool, ClientError> {
        match self.client.next_reply::<Wait>() {
            Ok(None) => return Ok(false),
            Ok(Some((progress, _))) => {
                let record = progress.record.filter(|_| progress.event == ProgressEvent::Ended);
                record.into_iter().for_each(|record| self.on_end(in_brief(*record)));
            }
            // Calls that are kept in memory alone have gone with poold.
            Err(ClientError::Refused(Refusal::NoSuchJob { .. })) => self.submit_again(template)?,
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn on_end(&mut self, brief: Brief) {
        if let Some(load) = self.accepted.remove(&brief.id) {
            let existing = self.existing.contains(&brief.id);
            self.events.push_back(Event::Ended(Ended {
                item: load.item,
                existing,
                end: End::Call(Box::new(brief)),
            }));
        }
    }
}

impl Lane for Batch {
    fn start(&mut self, template: &Template, loads: Vec<Load>) {
        self.unknown = loads;
        let _ = self.submit(template);
    }

    fn is_idle(&self) -> bool {
        self.unknown.is_empty() && self.accepted.is_empty()
    }

    fn jobs(&self) -> Vec<Job> {
        self.accepted.keys().map(|&id| Job { id, started: false }).collect()
    }

    fn fill(&mut self) -> Result<bool, ClientError> {
        match self.client.fill() {
            Err(ClientError::Disconnected(_)) => Ok(false),
            other => other,
        }
    }

    fn next(&mut self, template: &Template) -> Result<Option<Event>, ClientError> {
        while self.events.is_empty() && !self.is_idle() {
            let has_come = if self.is_waiting { self.take_ends(template)? } else { self.take_results()? };
            if !has_come {
                break;
            }
        }
        Ok(self.events.pop_front())
    }

    fn reconnect(&mut self, link: &Link, template: &Template) -> anyhow::Result<()> {
        self.client = link.reconnect().context("the map is cut off")?;
        // With keys, what has been accepted is found again by them.
        let _ = if self.accepted.is_empty() || template.has_keys() {
            self.submit_again(template)
        } else {
            self.wait()
        };
        Ok(())
    }

    fn give_up(&mut self) -> Vec<Load> {
        self.accepted.drain().map(|(_, load)| load).chain(self.unknown.drain(..)).collect()
    }
}

impl AsFd for Batch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

fn in_brief(record: Record) -> Brief {
    let Record { id, state, value, error, exit_code, signal, reason, .. } = record;
    Brief { id, state, value, error, exit_code, signal, reason }
}
