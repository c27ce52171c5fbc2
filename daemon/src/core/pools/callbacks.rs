//! The life of a callback: due, marked as running by the engine, run, and judged.

use std::time::Duration;

use super::lane;
use crate::core::event::{Effect, Fact, SlotId};
use crate::core::jobs::stop::WORKER_PATIENCE;
use crate::core::{Core, Mode, Timer};
use crate::engine::{CallbackEnd, CallbackRun, CallbackWish, Change, Delivery};
use crate::job::{CallbackId, Claim, Exit, RequestId, Unit};

impl Core {
    /// Decides on a callback that ran when the last daemon died, so often in a row. It may have been what
    /// killed the daemon: it is given up before the jobs that ran beside it are, which have died as often.
    pub(in crate::core) fn recover_callback(&mut self, id: CallbackId, crashes: u32) {
        let limit = self.settings.crash_limit.saturating_sub(1).max(1);
        if crashes >= limit {
            return self.change(Change::EndCallback { id, end: CallbackEnd::Failed, exit_code: None });
        }
        self.lane.push_suspect(id);
    }

    pub(in crate::core) fn on_callback_begun(&mut self, run: Box<CallbackRun>) {
        if self.mode >= Mode::Stopping {
            // Where it was begun twice, since a worker had died meanwhile, this may be the second answer.
            let claiming = self.lane.get(run.id).filter(|current| current.claim.is_none());
            let Some(current) = claiming else { return };
            self.lane.remove(run.id);
            self.vacate(current.slot);

            // Nothing of it has run: the next start takes it up again, and does not hold this against it.
            let end = CallbackEnd::Again { due_us: self.now.wall_us };
            return self.change(Change::EndCallback { id: run.id, end, exit_code: None });
        }
        let claim = Claim { unit: Unit::Callback(run.id), attempt: run.attempt };
        let deadline = self.now.monotonic + self.settings.callbacks.timeout;
        // Without a slot its worker has died meanwhile, and it is in the queue again.
        let Some(slot) = self.lane.claimed(run.id, claim, run.earlier, deadline) else { return };
        self.timers.set(deadline, Timer::Attempt(claim.unit));
        self.effects.push(Effect::RunCallback { slot, run });
    }

    /// Its time is up: it is killed, and should its worker not do that, its worker.
    pub(in crate::core) fn on_callback_deadline(&mut self, id: CallbackId) {
        let Some(lane::Current { slot, claim: Some(claim), .. }) = self.lane.get(id) else { return };
        if self.lane.begin_kill(id) {
            self.effects.push(Effect::Kill { slot, claim });
            let deadline = self.now.monotonic + WORKER_PATIENCE;
            self.lane.set_deadline(id, deadline);
            self.timers.set(deadline, Timer::Attempt(Unit::Callback(id)));
        } else {
            self.effects.push(Effect::KillWorker { slot });
        }
    }

    pub(in crate::core) fn on_callback_ended(
        &mut self,
        id: CallbackId,
        slot: SlotId,
        claim: Claim,
        exit: Option<Exit>,
    ) {
        if !self.lane.get(id).is_some_and(|current| current.slot == slot && current.claim == Some(claim)) {
            return;
        }
        let exit_code = match exit {
            Some(Exit::Code(code)) => Some(code),
            Some(Exit::Signal { .. }) | None => None,
        };
        self.callback_over(id, exit_code);
        self.vacate(slot);
    }

    pub(in crate::core) fn callback_over(&mut self, id: CallbackId, exit_code: Option<i32>) {
        let Some(current) = self.lane.remove(id) else { return };
        if let Some(deadline) = current.deadline {
            self.timers.clear(Some(deadline), Timer::Attempt(Unit::Callback(id)));
        }
        let Some(claim) = current.claim else { return self.lane.push_front(id) };
        let attempt = claim.attempt - current.earlier;
        let end = self.lane.judge(attempt, exit_code == Some(0), |wait| self.due.after(self.now, wait));
        self.change(Change::EndCallback { id, end, exit_code });
        if let CallbackEnd::Again { due_us } = end {
            self.lane.wait(id);
            self.wake_for(due_us);
        }
    }

    /// What clients have changed about callbacks is kept. `ids`: those that are so now.
    pub(in crate::core) fn on_callbacks_altered(
        &mut self,
        request: RequestId,
        wish: CallbackWish,
        ids: Vec<CallbackId>,
        others: Vec<(CallbackId, Option<Delivery>)>,
    ) {
        match wish {
            CallbackWish::Retry => ids.iter().for_each(|&id| self.lane.push(id)),
            // One that has got a slot meanwhile does not begin any more: the engine was told of the drop
            // first.
            CallbackWish::Drop => {
                for slot in self.lane.forget(&ids) {
                    self.vacate(slot);
                }
            }
        }
        self.tell(Fact::CallbacksAltered { request, wish, ids, others });
    }

    pub(in crate::core) fn stop_callback(&mut self, id: CallbackId, current: lane::Current) {
        let (slot, Some(claim)) = (current.slot, current.claim) else { return };
        let timer = Timer::Attempt(Unit::Callback(id));
        let grace = if self.hurried { Duration::ZERO } else { self.settings.stop_grace };
        let kill_at = self.now.monotonic + grace;
        if let Some(deadline) = self.lane.set_deadline(id, kill_at) {
            self.timers.clear(Some(deadline), timer);
        }
        if self.hurried {
            return self.on_callback_deadline(id);
        }
        self.timers.set(kill_at, timer);
        self.effects.push(Effect::Terminate { slot, claim });
    }
}
