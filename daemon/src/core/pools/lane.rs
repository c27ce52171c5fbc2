//! The lane of the callbacks: slots of their own, so that a slow callback holds up no job, and an order, that
//! of the ends they tell of.
//!
//! What a callback is to run is read from the engine when its turn comes; held here are only ids.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::slots::Slots;
use crate::core::event::{LaneId, SlotId};
use crate::core::settings::CallbackSettings;
use crate::engine::CallbackEnd;
use crate::job::{CallbackId, Claim, Unit};

/// A callback that has a slot.
#[derive(Debug, Clone, Copy)]
pub struct Current {
    pub slot: SlotId,
    /// None while the engine is still marking it as running.
    pub claim: Option<Claim>,
    /// See [`CallbackRun::earlier`](crate::engine::CallbackRun::earlier).
    pub earlier: u32,
    pub deadline: Option<Duration>,
    /// Its worker has been told to kill it.
    pub killing: bool,
}

/// The lane's slots, and the callbacks due, waiting for their next attempt, and running.
#[derive(Debug)]
pub struct CallbackLane {
    pub slots: Slots,
    settings: CallbackSettings,
    due: VecDeque<CallbackId>,
    waiting: HashSet<CallbackId>,
    /// Those that ran when the last daemon died. Each runs alone, so that one which kills the daemon is found
    /// without the others being taken for it.
    suspects: HashSet<CallbackId>,
    current: HashMap<CallbackId, Current>,
}

impl CallbackLane {
    pub fn new(settings: CallbackSettings) -> Self {
        Self {
            slots: Slots::default(),
            settings,
            due: VecDeque::new(),
            waiting: HashSet::new(),
            suspects: HashSet::new(),
            current: HashMap::new(),
        }
    }

    pub fn configure(&mut self, settings: CallbackSettings) {
        self.settings = settings;
    }

    /// The callback is due.
    pub fn push(&mut self, id: CallbackId) {
        self.waiting.remove(&id);
        self.due.push_back(id);
    }

    /// The callback is due, and may kill the daemon.
    pub fn push_suspect(&mut self, id: CallbackId) {
        self.suspects.insert(id);
        self.push(id);
    }

    /// The callback has lost its turn through no fault of its own.
    pub fn push_front(&mut self, id: CallbackId) {
        self.due.push_front(id);
    }

    /// The callback will be due later.
    pub fn wait(&mut self, id: CallbackId) {
        self.waiting.insert(id);
    }

    /// The next callback, with a slot taken for it; the engine is to mark it as running.
    pub fn take_next(&mut self) -> Option<CallbackId> {
        if !self.slots.has_idle() {
            return None;
        }
        let is_suspect = |id: &CallbackId| self.suspects.contains(id);
        let next = self.due.front()?;
        let must_wait = !self.current.is_empty() && is_suspect(next) || self.current.keys().any(is_suspect);
        if must_wait {
            return None;
        }
        let id = self.due.pop_front()?;
        let (index, _) = self.slots.take(Unit::Callback(id)).expect("a slot is idle");
        let slot = SlotId { lane: LaneId::Callbacks, index };
        self.current.insert(id, Current { slot, claim: None, earlier: 0, deadline: None, killing: false });
        Some(id)
    }

    /// The engine has marked it as running: it is to run in the slot returned, until `deadline`. None when it
    /// has lost its slot, or when it has since been given another and runs there already.
    pub fn claimed(
        &mut self,
        id: CallbackId,
        claim: Claim,
        earlier: u32,
        deadline: Duration,
    ) -> Option<SlotId> {
        let current = self.current.get_mut(&id).filter(|current| current.claim.is_none())?;
        (current.claim, current.earlier) = (Some(claim), earlier);
        current.deadline = Some(deadline);
        Some(current.slot)
    }

    /// Where an attempt runs.
    pub fn get(&self, id: CallbackId) -> Option<Current> {
        self.current.get(&id).copied()
    }

    /// The callback has no slot any more.
    pub fn remove(&mut self, id: CallbackId) -> Option<Current> {
        // One whose attempt has begun, and is over, has not killed the daemon.
        let current = self.current.remove(&id)?;
        if current.claim.is_some() {
            self.suspects.remove(&id);
        }
        Some(current)
    }

    /// These callbacks are not to run any more; the slots that they had been given, where they have not
    /// begun.
    pub fn forget(&mut self, ids: &[CallbackId]) -> Vec<SlotId> {
        let gone: HashSet<CallbackId> = ids.iter().copied().collect();
        self.due.retain(|id| !gone.contains(id));
        let mut slots = Vec::new();
        for id in gone {
            self.waiting.remove(&id);
            self.suspects.remove(&id);
            if let Some(current) = self.current.get(&id).filter(|current| current.claim.is_none()) {
                slots.push(current.slot);
                self.current.remove(&id);
            }
        }
        slots.sort_unstable();
        slots
    }

    /// What runs, in order.
    pub fn running(&self) -> Vec<(CallbackId, Current)> {
        let running = self.current.iter().filter(|(_, current)| current.claim.is_some());
        let mut running: Vec<(CallbackId, Current)> = running.map(|(&id, &current)| (id, current)).collect();
        running.sort_unstable_by_key(|&(id, _)| id);
        running
    }

    /// An attempt is to be killed; false when its worker has been told so before.
    pub fn begin_kill(&mut self, id: CallbackId) -> bool {
        self.current.get_mut(&id).is_some_and(|current| !std::mem::replace(&mut current.killing, true))
    }

    /// An attempt has another deadline; returns the old one.
    pub fn set_deadline(&mut self, id: CallbackId, deadline: Duration) -> Option<Duration> {
        self.current.get_mut(&id)?.deadline.replace(deadline)
    }

    /// Whether the attempt of some callback runs.
    pub fn is_running(&self) -> bool {
        self.current.values().any(|current| current.claim.is_some())
    }

    /// Callbacks that are due or wait for a time, and have no slot.
    pub fn pending(&self) -> usize {
        self.due.len() + self.waiting.len()
    }

    /// Those of them that wait for a time.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Callbacks that have a slot.
    pub fn taken(&self) -> usize {
        self.current.len()
    }

    /// Nothing is due, waits or runs.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && self.waiting.is_empty() && self.current.is_empty()
    }

    /// Something waits for the engine to mark it as running.
    pub fn is_claiming(&self) -> bool {
        self.current.values().any(|current| current.claim.is_none())
    }

    /// What follows from the end of an attempt: counted from 1, delivered or not. `due_after`: when that is,
    /// so long from now.
    pub fn judge(
        &self,
        attempt: u32,
        delivered: bool,
        due_after: impl FnOnce(Duration) -> i64,
    ) -> CallbackEnd {
        if delivered {
            CallbackEnd::Delivered
        } else if attempt >= self.settings.attempts {
            CallbackEnd::Failed
        } else {
            let backoff = self.settings.backoff.saturating_mul(1 << (attempt - 1).min(20));
            CallbackEnd::Again { due_us: due_after(backoff) }
        }
    }
}
