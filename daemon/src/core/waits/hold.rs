//! Holding jobs of which no attempt runs, since a client wants that. The engine holds them; here is what they
//! are taken out of first, so that none of them starts: what the engine has offered, and what slots have that
//! have not begun.
//!
//! An attempt that a worker has ahead may begin at any moment. It is called back, and the worker's word
//! decides whether that was in time.

use std::sync::Arc;

use pool_proto::State;

use crate::core::Core;
use crate::core::event::{Effect, Fact};
use crate::core::jobs::attempt::Phase;
use crate::engine::{Change, Dequeued};
use crate::job::{Holdup, JobId, RequestId};

impl Core {
    /// `ids`: each once.
    pub(in crate::core) fn on_hold(&mut self, request: RequestId, ids: Vec<JobId>) {
        let (mut idle, mut running) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(active) = self.active.get_mut(&id) else {
                idle.push(id);
                continue;
            };
            if !active.handed {
                self.take_from_slot(id);
                idle.push(id);
            } else if let Some(ahead) = &mut active.ahead {
                let is_called_back = std::mem::replace(&mut ahead.is_called_back, true);
                let (slot, claim) = (active.slot, active.claim(id));
                active.held_by.push(request);
                // One that is being ended comes back without this.
                if !is_called_back && matches!(active.phase, Phase::Running { .. }) {
                    self.effects.push(Effect::TakeBack { slot, claim });
                }
            } else {
                running.push(id);
            }
        }
        self.hold_idle(request, idle);
        for id in running {
            self.begun(id, request);
        }
    }

    /// No worker has these jobs: the engine holds those that it can.
    pub(in crate::core) fn hold_idle(&mut self, request: RequestId, ids: Vec<JobId>) {
        if ids.is_empty() {
            return;
        }
        for &id in &ids {
            *self.holding.entry(id).or_default() += 1;
            self.set_aside(id);
        }
        self.change(Change::Hold { request, ids });
    }

    /// The attempt has begun after all.
    pub(in crate::core) fn begun(&mut self, id: JobId, request: RequestId) {
        let others = vec![(id, Some(State::Running))];
        self.tell(Fact::Withheld { request, held: Vec::new(), others });
    }

    /// The start of the attempt is being written down, and its worker has not been given it.
    fn take_from_slot(&mut self, id: JobId) {
        let Some(active) = self.remove_active(id) else { return };
        self.requeue_untried(id, &active, None);
        self.vacate(active.slot);
    }

    /// A job that is here without a slot counts as queued until the engine has answered.
    fn set_aside(&mut self, id: JobId) {
        if let Some(ready) = self.unattended.get_mut(&id).and_then(|unattended| unattended.ready.take()) {
            return self.enqueue(id, &ready.work.pool, Holdup::None);
        }
        // What is volatile is not held, and stays.
        let is_durable = |offer: &crate::engine::Offer| !offer.ready.work.volatile;
        let taken = self.pools.iter_mut().find_map(|(pool_id, pool)| {
            pool.offers.get(id).filter(|&offer| is_durable(offer))?;
            pool.offers.remove(id).map(|_| pool_id)
        });
        self.stirred.extend(taken);
    }

    pub(in crate::core) fn on_withheld(
        &mut self,
        request: RequestId,
        held: Vec<(JobId, Option<Dequeued>)>,
        others: Vec<(JobId, Option<State>)>,
    ) {
        let all = held.iter().map(|(id, _)| id).chain(others.iter().map(|(id, _)| id));
        for id in all {
            if let Some(times) = self.holding.get_mut(id) {
                *times -= 1;
                if *times == 0 {
                    self.holding.remove(id);
                }
            }
        }
        let mut told: Vec<(JobId, Option<Arc<str>>)> = Vec::with_capacity(held.len());
        for (id, line) in held {
            if let Some(Dequeued { pool, holdup }) = &line {
                self.dequeue(id, pool, *holdup);
            }
            told.push((id, line.map(|line| line.pool)));
        }
        self.tell(Fact::Withheld { request, held: told, others });
    }
}
