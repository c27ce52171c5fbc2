//! A job's end: given to the engine, and told when the engine has kept it.

use pool_proto::Record;

use super::attempt::Active;
use super::outcome;
use crate::core::Core;
use crate::core::event::Fact;
use crate::engine::{Change, Dequeued, Detail, Fence, Move};
use crate::job::{CallbackId, Holdup, JobId, Outcome, Place, Ready, Start, StopReason, Tie, Tries, Until};

impl Core {
    /// Ends a job, whatever its state.
    pub(in crate::core) fn end(&mut self, id: JobId, reason: StopReason) {
        if self.active.contains_key(&id) {
            return self.stop(id, reason);
        }
        if self.ending.contains(&id) {
            return; // Its end is on its way already.
        }
        if self.arrays.contains_key(&id) {
            return self.fold(id, reason);
        }
        let Some(outcome) = outcome::of_stop(reason, self.now.wall_us) else { return };

        if let Some(ready) = self.take_waiting(id) {
            return self.finish_idle(&ready, outcome);
        }
        // Not here: the engine knows whether it is in its line, waits, has ended, or never was.
        self.ending.insert(id);
        let end = Move::new(id, Fence::Idle, Place::Ended(Box::new(outcome)), Tries::default());
        self.change(Change::Move(Box::new(Move { want: Detail::Record, ..end })));
    }

    /// A job that is here without a slot.
    pub(in crate::core) fn take_waiting(&mut self, id: JobId) -> Option<Ready> {
        if let Some(ready) = self.forget_unattended(id) {
            return Some(ready);
        }
        let (pool, offer) =
            self.pools.iter_mut().find_map(|(pool_id, pool)| Some((pool_id, pool.offers.remove(id)?)))?;
        self.stirred.insert(pool);
        self.dequeue(id, &offer.ready.work.pool, Holdup::None);
        Some(offer.ready)
    }

    /// A job that is here without a slot is over. `start`: see [`finish`](Self::finish).
    pub(in crate::core) fn finish_idle(&mut self, ready: &Ready, outcome: Outcome) {
        self.finish_as(ready.id, Fence::Attempt(ready.tries.attempts), ready.tries, outcome, None);
    }

    /// A job is over with its attempt. `start`: of that attempt, where the engine has not been told of it.
    pub(in crate::core) fn finish(
        &mut self,
        active: &Active,
        id: JobId,
        outcome: Outcome,
        start: Option<Start>,
    ) {
        self.finish_as(id, Fence::Attempt(active.tries.attempts), active.tries, outcome, start);
    }

    pub(in crate::core) fn finish_as(
        &mut self,
        id: JobId,
        fence: Fence,
        tries: Tries,
        outcome: Outcome,
        start: Option<Start>,
    ) {
        self.ending.insert(id);
        let end = Move::new(id, fence, Place::Ended(Box::new(outcome)), tries);
        self.change(Change::Move(Box::new(Move { start, ..end })));
    }

    /// The engine has kept an end.
    pub(in crate::core) fn on_kept_end(
        &mut self,
        id: JobId,
        record: Option<Box<Record>>,
        callbacks: Vec<CallbackId>,
        dequeued: Option<Dequeued>,
        next: Option<(Ready, Option<Until>)>,
    ) {
        self.ending.remove(&id);
        self.forget_aside(id);
        // A start may have found it without its client while its end was on its way.
        self.forget_unattended(id);
        if let Some(Dequeued { pool, holdup }) = dequeued {
            self.dequeue(id, &pool, holdup);
        }
        for callback in callbacks {
            self.lane.push(callback);
        }
        for tied in self.ties.ended(id) {
            self.end(tied, StopReason::Untied(Tie::Job(id)));
        }
        self.tell(Fact::Ended { id, record });
        if let Some((next, until)) = next {
            self.goes_on(next.id, &next.work.pool, Holdup::Predecessor, until);
            self.tell(Fact::TurnCame { id: next.id, pool: next.work.pool.clone(), after: id });
        }
    }

    /// The engine says that the job is not ours to move: it has ended, or does not exist. Whoever waits for
    /// it asks the engine.
    pub(in crate::core) fn on_lost(&mut self, id: JobId) {
        self.ending.remove(&id);
        self.forget_unattended(id);
        self.tell(Fact::Lost { id });
    }
}
