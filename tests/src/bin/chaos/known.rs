//! What those know who take part in the soak: the other side of the reckoning.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use pool_proto::nouns::{Brief, Dependency};
use pool_proto::{Json, Record, State};

use super::kinds::Kind;

/// A job that poold has accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    pub kind: Kind,
    /// Somebody has asked for its end.
    pub is_canceled: bool,
    /// Where it is known that it was submitted later than that.
    pub begun: Option<Instant>,
}

/// A job's end, as it is told to a waiter.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    state: State,
    value: Option<&'a Json>,
    error: Option<&'a Json>,
    /// Its value is gone.
    is_pruned: bool,
    wall_s: Option<f64>,
}

impl<'a> From<&'a Record> for Told<'a> {
    fn from(record: &'a Record) -> Self {
        let Record { state, output_pruned: is_pruned, wall_s, .. } = *record;
        Self { state, value: record.value.as_ref(), error: record.error.as_ref(), is_pruned, wall_s }
    }
}

impl<'a> From<&'a Brief> for Told<'a> {
    fn from(brief: &'a Brief) -> Self {
        let is_pruned = brief.output_pruned == Some(true);
        let (value, error) = (brief.value.as_ref(), brief.error.as_ref());
        Self { state: brief.state, value, error, is_pruned, wall_s: None }
    }
}

/// A call that poold has accepted and keeps in memory alone.
#[derive(Debug, Clone, Copy)]
pub struct Volatile {
    pub kind: Kind,
    pub is_canceled: bool,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody has been told anything, nor has the supervisor died.
    Open,
    Ended(State),
    /// The supervisor that had it is dead.
    Gone,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Known {
    pub accepted: BTreeMap<u64, Accepted>,
    pub volatile: BTreeMap<u64, Volatile>,
    /// What jobs were to run after.
    pub after: HashMap<u64, Vec<Dependency>>,
    /// The elements of arrays, which are among the accepted jobs.
    pub arrays: BTreeMap<u64, Vec<u64>>,
    /// How often jobs were run again: at least, and at most, where nobody was told.
    pub rounds: HashMap<u64, (u32, u32)>,
    /// Told to some waiter.
    pub ended: HashMap<u64, State>,
    /// How often something was done, or seen.
    pub tally: BTreeMap<&'static str, u64>,
    pub kills: BTreeMap<&'static str, u64>,
    /// Jobs whose starts and ends poold may not have been able to write down before it died.
    pub unwritten: u64,
    pub breaches: Vec<String>,
}

impl Known {
    pub fn accept(&mut self, id: u64, kind: Kind, begun: Option<Instant>) {
        self.accepted.entry(id).or_insert(Accepted { kind, is_canceled: false, begun });
    }

    /// poold dies while its disk is full.
    pub fn die_unwritten(&mut self) {
        self.unwritten += self.accepted.len().saturating_sub(self.ended.len()) as u64;
    }

    /// Whoever asks for an end says so before.
    pub fn cancel(&mut self, ids: &[u64]) {
        for id in ids {
            self.accepted.get_mut(id).expect("it is accepted").is_canceled = true;
        }
    }

    /// A job that has ended is to be run again: another end is told of it, and perhaps another state.
    pub fn begin_round(&mut self, id: u64, round: u32) {
        self.rounds.insert(id, (round - 1, round));
        self.ended.remove(&id);
    }

    pub fn accept_volatile(&mut self, id: u64, kind: Kind) {
        if self.volatile.insert(id, Volatile { kind, is_canceled: false, fate: Fate::Open }).is_some() {
            self.breaches.push(format!("the id {id} was given out twice"));
        }
    }

    pub fn cancel_volatile(&mut self, ids: &[u64]) {
        for id in ids {
            self.volatile.get_mut(id).expect("it is accepted").is_canceled = true;
        }
    }

    pub fn settle(&mut self, id: u64, fate: Fate) {
        let volatile = self.volatile.get_mut(&id).expect("it is accepted");
        if volatile.fate != Fate::Open {
            self.breaches.push(format!("call {id} is {:?} and then {fate:?}", volatile.fate));
        }
        volatile.fate = fate;
    }

    pub fn end<'a>(&mut self, id: u64, told: impl Into<Told<'a>>) {
        let told = told.into();
        let Told { state, value, error, is_pruned, wall_s } = told;
        let before = self.ended.insert(id, state);
        if before.is_some_and(|before| before != state) {
            self.breaches.push(format!("job {id} was told to be {before:?}, then {state:?}"));
        }
        let Accepted { kind, begun, .. } = self.accepted[&id];
        if state == kind.state && !is_pruned && !kind.is_right(value, error) {
            self.breaches.push(format!("job {id} {} and was told {told:?}", kind.name));
        }
        self.count("values that were gone when they were told", u64::from(is_pruned && kind.is_call()));
        let Some(begun) = begun else { return };
        let passed = begun.elapsed().as_secs_f64();
        if state == State::TimedOut && kind.deadline_s.is_some_and(|most| most > passed) {
            self.breaches.push(format!("job {id} {} after {passed} s already", kind.name));
        }
        if wall_s.is_some_and(|wall_s| !(0.0..=passed).contains(&wall_s)) {
            self.breaches.push(format!("job {id} {} and ran {wall_s:?} of {passed} s", kind.name));
        }
    }

    pub fn count(&mut self, what: &'static str, times: u64) {
        *self.tally.entry(what).or_default() += times;
    }
}
