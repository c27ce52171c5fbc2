//! What those know who take part in the soak: the other side of the reckoning.

use std::collections::{BTreeMap, HashMap};

use pool_proto::State;

use super::kinds::Kind;

/// A job that poold has accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    pub kind: Kind,
    /// Somebody has asked for its end.
    pub is_canceled: bool,
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
    /// Told to some waiter.
    pub ended: HashMap<u64, State>,
    /// How often something was done, or seen.
    pub tally: BTreeMap<&'static str, u64>,
    pub kills: BTreeMap<&'static str, u64>,
    pub breaches: Vec<String>,
}

impl Known {
    pub fn accept(&mut self, id: u64, kind: Kind) {
        self.accepted.entry(id).or_insert(Accepted { kind, is_canceled: false });
    }

    /// Whoever asks for an end says so before.
    pub fn cancel(&mut self, ids: &[u64]) {
        for id in ids {
            self.accepted.get_mut(id).expect("it is accepted").is_canceled = true;
        }
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

    pub fn end(&mut self, id: u64, state: State) {
        let before = self.ended.insert(id, state);
        if before.is_some_and(|before| before != state) {
            self.breaches.push(format!("job {id} was told to be {before:?}, then {state:?}"));
        }
    }

    pub fn count(&mut self, what: &'static str, times: u64) {
        *self.tally.entry(what).or_default() += times;
    }
}
