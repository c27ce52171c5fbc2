//! A lane that carries many calls at a time. Values come when calls end, several in one message. The lane
//! takes the next batch when the last call of this batch has ended; other lanes keep the pool busy meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};

use pool_proto::methods::{SubmitMany, Wait};
use pool_proto::nouns::{Brief, Job, OnDisconnect, ProgressEvent, TIE_TO_CLIENT};
use pool_proto::{ClientError, Record, Refusal};

use super::lane::{EndedItem, InFlight, Lane, LaneEvent, Load, Returned};
use super::template::Template;
use crate::link::session::Session;

/// See the module's description.
#[derive(Debug)]
pub struct BatchLane<'a> {
    session: Session<'a>,
    on_disconnect: OnDisconnect,
    /// What is submitted and not accepted yet, in order.
    unknown: Vec<Load>,
    /// What is accepted and has not ended, by id.
    accepted: HashMap<u64, Load>,
    existing: HashSet<u64>,
    /// Which request is open: Wait, after a restart of poold, or SubmitMany.
    is_waiting: bool,
    events: VecDeque<LaneEvent>,
}

impl<'a> BatchLane<'a> {
    /// An idle lane on this connection.
    pub fn new(session: Session<'a>, on_disconnect: OnDisconnect) -> Self {
        Self {
            session,
            on_disconnect,
            unknown: Vec::new(),
            accepted: HashMap::new(),
            existing: HashSet::new(),
            is_waiting: false,
            events: VecDeque::new(),
        }
    }

    fn submit(&mut self, template: &Template) {
        self.is_waiting = false;
        let jobs = self.unknown.iter().map(|load| template.part(load)).collect();
        let tie = (self.on_disconnect == OnDisconnect::Cancel).then(|| TIE_TO_CLIENT.to_owned());
        let defaults = Job { tie, ..template.common().clone() };
        self.session.ask(&SubmitMany { jobs, defaults: Some(defaults), obstacles: Some(true) });
    }

    fn wait(&mut self) {
        self.is_waiting = true;
        let ids = self.accepted.keys().copied().collect();
        let on_disconnect = Some(self.on_disconnect);
        self.session.ask(&Wait { ids, on_disconnect, obstacles: Some(true), ..Wait::default() });
    }

    /// Submits everything once more.
    fn submit_again(&mut self, template: &Template) {
        let mut loads: Vec<Load> =
            self.accepted.drain().map(|(_, load)| load).chain(self.unknown.drain(..)).collect();
        loads.sort_unstable_by_key(|load| load.item.number);
        self.unknown = loads;
        self.submit(template);
    }

    /// Takes in a reply to SubmitMany. False if none has come.
    fn take_results(&mut self) -> Result<bool, ClientError> {
        let Some((submitted, _)) = self.session.next_reply::<SubmitMany>()? else { return Ok(false) };

        if !submitted.ids.is_empty() {
            self.existing =
                submitted.existing.iter().filter_map(|&place| submitted.ids.get(place).copied()).collect();
            self.accepted = submitted.ids.iter().copied().zip(self.unknown.drain(..)).collect();
            self.events.push_back(LaneEvent::Accepted(submitted.ids));
        }

        self.events.extend(submitted.obstacles.into_iter().flatten().map(LaneEvent::Obstacle));
        submitted.results.into_iter().for_each(|brief| self.on_end(brief));
        Ok(true)
    }

    fn take_ends(&mut self, template: &Template) -> Result<bool, ClientError> {
        match self.session.next_reply::<Wait>() {
            Ok(None) => return Ok(false),
            Ok(Some((progress, _))) => {
                self.events.extend(progress.obstacle.map(LaneEvent::Obstacle));
                let record = progress.record.filter(|_| progress.event == ProgressEvent::Ended);
                record.into_iter().for_each(|record| self.on_end(in_brief(*record)));
            }
            // The calls were kept in memory only, and were lost with poold.
            Err(ClientError::Refused(Refusal::NoSuchJob { .. })) => self.submit_again(template),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn on_end(&mut self, brief: Brief) {
        if let Some(load) = self.accepted.remove(&brief.id) {
            let existing = self.existing.contains(&brief.id);
            self.events.push_back(LaneEvent::Ended(EndedItem {
                item: load.item,
                existing,
                end: Returned::Call(Box::new(brief)),
            }));
        }
    }
}

impl<'a> Lane<'a> for BatchLane<'a> {
    fn start(&mut self, template: &Template, loads: Vec<Load>) {
        self.unknown = loads;
        self.submit(template);
    }

    fn is_idle(&self) -> bool {
        self.unknown.is_empty() && self.accepted.is_empty()
    }

    fn jobs(&self) -> Vec<InFlight> {
        self.accepted.keys().map(|&id| InFlight { id, started: false }).collect()
    }

    fn session(&self) -> &Session<'a> {
        &self.session
    }

    fn session_mut(&mut self) -> &mut Session<'a> {
        &mut self.session
    }

    fn next(&mut self, template: &Template) -> Result<Option<LaneEvent>, ClientError> {
        while self.events.is_empty() && !self.is_idle() {
            let has_come = if self.is_waiting { self.take_ends(template)? } else { self.take_results()? };
            if !has_come {
                break;
            }
        }
        Ok(self.events.pop_front())
    }

    fn ask_again(&mut self, template: &Template) {
        // With keys, poold finds the accepted calls again when they are submitted once more.
        if self.accepted.is_empty() || template.has_keys() {
            self.submit_again(template);
        } else {
            self.wait();
        }
    }

    fn give_up(&mut self) -> Vec<Load> {
        self.accepted.drain().map(|(_, load)| load).chain(self.unknown.drain(..)).collect()
    }
}

fn in_brief(record: Record) -> Brief {
    let Record { id, state, result, value, error, exit_code, signal, reason, output_pruned, .. } = record;
    let output_pruned = output_pruned.then_some(true);
    Brief { id, state, result, value, error, exit_code, signal, reason, output_pruned }
}
