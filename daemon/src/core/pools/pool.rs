//! The pools that are configured, and those that only finish what they run.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use pool_proto::nouns::OnCrash;

use super::gather::Gathering;
use super::offers::Offers;
use super::slots::{Next, Occupancy, Slots};
use super::stock::Stock;
use crate::core::event::{Effect, LaneId, PoolId, SeatOf, SlotId};
use crate::core::jobs::outcome;
use crate::core::{Core, Mode, Timer};
use crate::engine::Offer;
use crate::job::{
    Capacity, Holdup, IdMap, JobId, Needs, Pause, Position, ProcessId, Program, Queued, Ready, RequestId,
    Unit, Until, Work,
};

/// One pool of jobs.
#[derive(Debug)]
pub struct JobPool {
    pub name: Arc<str>,
    /// What its workers keep running.
    pub program: Option<Arc<Program>>,
    pub slots: Slots,
    pub stock: Stock,
    /// What the engine has offered and no slot has taken.
    pub offers: Offers,
    /// Jobs in its line, those that are offered included, and those that something keeps from it.
    pub queued: Queued,
    /// Jobs that the engine has been given and has not answered.
    pub inserting: u64,
    /// What the machine had no room for, until an attempt has started again.
    pub shortage: Option<String>,
    /// It has been told that it starts nothing of what is queued.
    pub is_stalled: bool,
    /// Somebody has paused it.
    pub pause: Option<Pause>,
    /// It is paused, and what a worker begins with yet is frozen.
    pub freezes: bool,
    /// See [`Core::is_settled`].
    pub is_settled: bool,
    /// Requests that wait until all programs are new ones.
    pub restarts: Vec<RequestId>,
    /// See [`PoolSettings`](crate::core::PoolSettings).
    pub backfill: bool,
    /// Its best job, which waits for several slots, or for items of resources.
    pub gathering: Option<Gathering>,
    /// What the engine was told last that it has.
    pub capacity: Capacity,
    /// The engine has said that all that is in its lines needs more than that, and nothing has come since.
    pub is_beyond: bool,
    /// What some job in its lines needs, which is more than that.
    pub too_small_for: Option<Needs>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct JobPools {
    pools: BTreeMap<PoolId, JobPool>,
    ids: IdMap<Arc<str>, PoolId>,
    next: u32,
}

impl JobPool {
    /// Whether nothing of it is left but its queue: it is not configured any more, and its workers are gone.
    pub fn is_over(&self) -> bool {
        let is_gone = |slot: Occupancy| slot == Occupancy::Retired { leaving: None };
        let is_left = self.slots.wanted() > 0 || self.inserting > 0 || !self.offers.is_empty();
        !is_left && self.slots.iter().all(|(_, slot)| is_gone(slot))
    }
}

impl JobPool {
    /// Why none of its calls will run, as far as can be told: its program cannot be started.
    pub fn hopeless(&self) -> Option<&str> {
        self.slots.hopeless(self.program.as_ref()?.start_attempts)
    }
}

impl JobPools {
    pub fn add(&mut self, name: Arc<str>, program: Option<Arc<Program>>, queued: Queued) -> PoolId {
        let id = PoolId(self.next);
        self.next += 1;
        self.ids.insert(name.clone(), id);
        let slots = Slots::new(program.is_some());
        let pool = JobPool {
            name,
            program,
            slots,
            stock: Stock::default(),
            offers: Offers::default(),
            queued,
            freezes: false,
            inserting: 0,
            shortage: None,
            is_stalled: false,
            pause: None,
            is_settled: true,
            restarts: Vec::new(),
            backfill: false,
            gathering: None,
            capacity: Capacity::default(),
            is_beyond: false,
            too_small_for: None,
        };
        self.pools.insert(id, pool);
        id
    }

    pub fn remove(&mut self, id: PoolId) -> JobPool {
        let pool = self.pools.remove(&id).expect("only a pool that is there is removed");
        self.ids.remove(&pool.name);
        pool
    }

    pub fn get(&self, id: PoolId) -> Option<&JobPool> {
        self.pools.get(&id)
    }

    pub fn get_mut(&mut self, id: PoolId) -> Option<&mut JobPool> {
        self.pools.get_mut(&id)
    }

    pub fn id_of(&self, name: &str) -> Option<PoolId> {
        self.ids.get(name).copied()
    }

    pub fn named(&self, name: &str) -> Option<&JobPool> {
        self.get(self.id_of(name)?)
    }

    pub fn named_mut(&mut self, name: &str) -> Option<&mut JobPool> {
        self.get_mut(self.id_of(name)?)
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (PoolId, &JobPool)> {
        self.pools.iter().map(|(&id, pool)| (id, pool))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (PoolId, &mut JobPool)> {
        self.pools.iter_mut().map(|(&id, pool)| (id, pool))
    }
}

impl Core {
    // ---- jobs for the slots ----

    /// The engine offers jobs.
    pub(in crate::core) fn on_offered(&mut self, name: &Arc<str>, mut offers: Vec<Offer>) {
        let Some(id) = self.pools.id_of(name) else {
            // The pool has gone since it asked.
            self.effects.extend(offers.into_iter().map(|offer| Effect::GiveBack(offer.ready)));
            return;
        };
        let pool = self.pools.get_mut(id).expect("it has just been found");
        // One that is being ended has left its line, whatever the engine knew when it offered it; one that is
        // to be held is leaving it. What is volatile is not held.
        let (ending, holding) = (&self.ending, &self.holding);
        let is_held = |ready: &Ready| holding.contains_key(&ready.id) && !ready.work.volatile;
        let has_left = |Offer { ready, .. }: &mut Offer| ending.contains(&ready.id) || is_held(ready);
        let left: Vec<Offer> = offers.extract_if(.., has_left).collect();
        left.iter().for_each(|offer| pool.offers.forgo(offer));
        pool.is_beyond &= offers.is_empty();
        pool.offers.add(offers);
        self.stirred.insert(id);
        for Offer { ready, .. } in left {
            if !self.ending.contains(&ready.id) {
                self.keep_aside(ready);
            }
        }
    }

    /// Starts what can be started in a pool, gives back what it cannot keep, and asks for what it will need.
    pub(in crate::core) fn dispatch_pool(&mut self, id: PoolId) {
        if self.mode < Mode::Stopping {
            self.drop_limited(id);
            loop {
                if !self.begin_array(id) {
                    let Some(offer) = self.next_offer(id) else { break };
                    self.take_offer(id, offer);
                }
                self.drop_limited(id);
            }
            while let Some((offer, index, worker)) = self.next_ahead(id) {
                self.begin_ahead(offer.ready, SlotId { lane: LaneId::Pool(id), index }, worker);
            }
            // The pool gathers for none that its labels keep out.
            self.drop_limited(id);
            self.call_back(id);
        }
        self.gather(id);

        let starts_more = self.mode < Mode::Stopping;
        let Some(pool) = self.pools.get_mut(id) else { return };
        let (name, workers) = (pool.name.clone(), if starts_more { pool.slots.wanted() } else { 0 });
        let excess = pool.offers.trim(workers);
        // Before what is given back, or the engine would offer that once more.
        if let Some((credit, ahead_of)) = pool.offers.want(workers) {
            self.effects.push(Effect::Want { pool: name, credit, ahead_of });
        }
        self.effects.extend(excess.into_iter().map(|offer| Effect::GiveBack(offer.ready)));
        self.tell_stall(id);
        self.tell_settled(id);
        self.tell_restarted(id);
    }

    /// A job is on its way back into its line. Where it goes before all that its pool has been offered, the
    /// engine offers it at once: a slot that is free by the same event, since a successor has taken it over,
    /// waits for that.
    pub(in crate::core) fn await_offer(&mut self, id: JobId, work: &Work) {
        if self.mode >= Mode::Stopping {
            return; // Nothing is started any more, so that nothing waits for it: what is offered goes back now.
        }
        if self.limits.apply_to(&work.needs.labels) {
            return; // It is offered when its turn has come among all that the limits apply to.
        }
        let position = Position { priority: Reverse(work.priority), id };
        // One that needs more than its pool has is not offered at all.
        let goes_first = |pool: &JobPool| pool.offers.are_after(position) && pool.capacity.fits(&work.needs);
        if let Some(pool_id) = self.pools.id_of(&work.pool)
            && self.pools.get(pool_id).is_some_and(goes_first)
        {
            self.awaiting.insert(pool_id);
        }
    }

    /// The best job that is offered, where all that it takes is free, or no slot ever will be. None of a
    /// paused pool.
    fn next_offer(&mut self, id: PoolId) -> Option<Offer> {
        let now = self.now.monotonic;
        let is_decided = |pool: &&mut JobPool| {
            pool.pause.is_none() && (pool.slots.has_idle() || pool.hopeless().is_some())
        };
        let pool = self.pools.get_mut(id).filter(is_decided)?;
        let offer = match pool.offers.best() {
            // One that waits for its client takes no slot.
            Some(best)
                if pool.slots.has_idle()
                    && !pool.has_all_for(best)
                    && !self.unattended.contains_key(&best.ready.id) =>
            {
                self.backfill(id)?
            }
            _ => pool.offers.pop(now)?,
        };
        self.dequeue(offer.ready.id, &offer.ready.work.pool, Holdup::None);
        Some(offer)
    }

    /// The best job that is offered, and the slot that will be free for it very soon. Some jobs are not
    /// handed out ahead: what is to be written down before, what waits for its client, calls, what a
    /// limit applies to, and what takes several slots or items of resources, which nothing overtakes.
    fn next_ahead(&mut self, id: PoolId) -> Option<(Offer, u32, ProcessId)> {
        let now = self.now.monotonic;
        let hands_ahead =
            |pool: &&mut JobPool| pool.pause.is_none() && !pool.slots.is_warm() && !pool.slots.has_idle();
        let pool = self.pools.get_mut(id).filter(hands_ahead)?;
        let best = pool.offers.best()?;
        let is_plain = best.start_by.is_none()
            && best.ready.work.on_crash == OnCrash::Requeue
            && best.ready.work.call().is_none()
            && best.ready.work.plan().is_none()
            && best.ready.work.needs.slots == 1
            && best.ready.work.needs.resources.is_empty()
            && !self.limits.apply_to(&best.ready.work.needs.labels)
            && !self.unattended.contains_key(&best.ready.id);
        if !is_plain || !pool.slots.has_quick() {
            return None;
        }
        let offer = pool.offers.pop(now)?;
        let (index, worker) = pool.slots.take_ahead(offer.ready.id)?;
        self.dequeue(offer.ready.id, &offer.ready.work.pool, Holdup::None);
        Some((offer, index, worker))
    }

    /// Calls back what slots have ahead where what has come since goes before it, or where the pool is
    /// paused.
    fn call_back(&mut self, id: PoolId) {
        let Some(pool) = self.pools.get(id) else { return };
        let best = pool.offers.best().map(|offer| offer.ready.position());
        let is_paused = pool.pause.is_some();
        if best.is_none() && !is_paused {
            return;
        }
        for (index, job) in pool.slots.ahead() {
            let Some(active) = self.active.get_mut(&job) else { continue };
            let position = Position { priority: Reverse(active.work.priority), id: job };
            if let Some(ahead) = &mut active.ahead
                && (is_paused || best.is_some_and(|best| best < position))
                && !std::mem::replace(&mut ahead.is_called_back, true)
            {
                let slot = SlotId { lane: LaneId::Pool(id), index };
                self.effects.push(Effect::TakeBack { slot, claim: active.claim(job) });
            }
        }
    }

    fn take_offer(&mut self, pool: PoolId, Offer { ready, start_by, .. }: Offer) {
        if start_by.is_some_and(|at| at < self.now.monotonic) {
            // It is another one's by now, or nobody's: the engine knows.
            self.enqueue(ready.id, &ready.work.pool, Holdup::None);
            return self.effects.push(Effect::GiveBack(ready));
        }
        if let Some(unattended) = self.unattended.get_mut(&ready.id) {
            let work = ready.work.clone();
            unattended.ready = Some(ready);
            return self.offer_others(&work);
        }
        let JobPool { slots, stock, .. } = self.pools.get_mut(pool).expect("it has offered this job");
        if ready.work.call().is_some() != slots.is_warm() {
            let outcome = outcome::of_mismatch(&ready.work, self.now.wall_us);
            return self.finish_idle(&ready, outcome);
        }
        if !slots.has_idle() {
            let reason = self.pools.get(pool).and_then(JobPool::hopeless).unwrap_or_default();
            let outcome = outcome::of_hopeless(&ready.work, reason, self.now.wall_us);
            return self.finish_idle(&ready, outcome);
        }
        let (index, worker) = slots.take(Unit::Job(ready.id)).expect("a slot is idle");
        let needs = &ready.work.needs;
        if needs.slots > 1 {
            slots.lend(ready.id, needs.slots - 1);
        }
        if !needs.resources.is_empty() {
            stock.take(ready.id, &needs.resources);
        }
        self.begin_attempt(ready, SlotId { lane: LaneId::Pool(pool), index }, worker);
    }

    /// The machine has no room for a process: the pool starts nothing for a while.
    pub(in crate::core) fn back_off(&mut self, lane: LaneId, shortage: String) {
        let LaneId::Pool(id) = lane else { return };
        let now = self.now.monotonic;
        if let Some(pool) = self.pools.get_mut(id) {
            pool.shortage = Some(shortage);
            let until = pool.offers.back_off(now);
            self.timers.set(until, Timer::BackedOff(id));
        }
    }

    // ---- how many are queued ----

    /// One more job is queued in a pool, whether that is configured or not.
    pub(in crate::core) fn enqueue(&mut self, id: JobId, pool: &Arc<str>, holdup: Holdup) {
        self.ties.enqueued(id, pool, holdup);
        match self.pools.named_mut(pool) {
            // Until the engine says so again.
            Some(pool) => pool.is_beyond &= holdup != Holdup::None,
            None => _ = self.unserved.entry(pool.clone()).or_default(),
        }
        self.count(pool, |queued| queued.add(holdup, 1));
    }

    /// A queued job waits for this no more, but for that, or is in its line.
    pub(in crate::core) fn goes_on(
        &mut self,
        id: JobId,
        pool: &Arc<str>,
        from: Holdup,
        until: Option<Until>,
    ) {
        self.dequeue(id, pool, from);
        self.waits_now(id, pool, until);
    }

    /// A job that has waited waits for this now, or has come into its line.
    pub(in crate::core) fn waits_now(&mut self, id: JobId, pool: &Arc<str>, until: Option<Until>) {
        self.waits(id, pool, until);
        if until.is_none() {
            self.came_back(pool);
        }
    }

    /// A job waits for this from now on, or is in its line.
    pub(in crate::core) fn waits(&mut self, id: JobId, pool: &Arc<str>, until: Option<Until>) {
        if let Some(Until::Start { due_us } | Until::Time { due_us }) = until {
            self.wake_for(due_us);
        }
        // What waits for a person is not queued.
        if let Some(holdup) = until.map_or(Some(Holdup::None), Until::holdup) {
            self.enqueue(id, pool, holdup);
        }
    }

    /// A job is queued no more.
    pub(in crate::core) fn dequeue(&mut self, id: JobId, pool: &Arc<str>, holdup: Holdup) {
        self.ties.dequeued(id);
        self.count(pool, |queued| queued.remove(holdup));
    }

    fn count(&mut self, pool: &Arc<str>, count: impl FnOnce(&mut Queued)) {
        let queued = match self.pools.named_mut(pool) {
            Some(pool) => Some(&mut pool.queued),
            None => self.unserved.get_mut(pool),
        };
        if let Some(queued) = queued {
            count(queued);
        }
    }

    // ---- slots ----

    pub(in crate::core) fn resize(&mut self, lane: LaneId, wanted: u32) {
        let Some(slots) = self.slots_mut(lane) else { return };
        let resized = slots.resize(wanted);

        let slot = |index| SlotId { lane, index };
        let dropped = resized.drop_successor.into_iter();
        self.effects.extend(dropped.map(|index| Effect::KillSuccessor { slot: slot(index) }));
        for index in resized.spawn {
            self.spawn_worker(slot(index));
        }
        for index in resized.retire {
            self.programs.forget(&mut self.timers, slot(index));
            self.effects.push(Effect::RetireWorker { slot: slot(index) });
        }
        for index in resized.worn {
            self.wear_out(slot(index));
        }
    }

    fn spawn_worker(&mut self, slot: SlotId) {
        let seat = self.seat_of(slot.lane);
        self.effects.push(Effect::SpawnWorker { slot, seat });
    }

    pub(in crate::core) fn seat_of(&self, lane: LaneId) -> SeatOf {
        match lane {
            LaneId::Pool(id) => {
                let pool = self.pools.get(id);
                SeatOf {
                    pool: pool.map(|pool| pool.name.clone()),
                    program: pool.and_then(|pool| pool.program.clone()),
                }
            }
            LaneId::Callbacks => SeatOf { pool: None, program: None },
        }
    }

    pub(in crate::core) fn vacate(&mut self, slot: SlotId) {
        let Some(slots) = self.slots_mut(slot.lane) else { return };
        let next = slots.vacate(slot.index);
        if let Occupancy::Busy { unit: Unit::Job(id), .. } = slots.get(slot.index) {
            self.on_turn_at_worker(id);
        }
        self.go_on(slot, next);
    }

    /// What follows from a slot's being free, or its worker's being lost.
    pub(in crate::core) fn go_on(&mut self, slot: SlotId, next: Next) {
        if let LaneId::Pool(id) = slot.lane {
            self.stirred.insert(id);
        }
        match next {
            Next::Nothing => {}
            Next::Retire => {
                self.programs.forget(&mut self.timers, slot);
                self.effects.push(Effect::RetireWorker { slot });
            }
            Next::Swap => {
                self.effects.push(Effect::SwapWorker { slot });
                self.watch_age(slot);
            }
            Next::RespawnAt(at) if at <= self.now.monotonic => self.respawn(slot),
            Next::RespawnAt(at) => self.timers.set(at, Timer::Respawn(slot)),
        }
    }

    /// Nothing more is handed to it; what it has is decided on when nothing of it is left.
    pub(in crate::core) fn on_worker_dying(&mut self, slot: SlotId, pid: ProcessId) {
        if let Some(slots) = self.slots_mut(slot.lane) {
            slots.dying(slot.index, pid);
        }
    }

    pub(in crate::core) fn respawn_later(&mut self, slot: SlotId, reason: String) {
        let now = self.now.monotonic;
        self.programs.forget(&mut self.timers, slot);
        let next =
            self.slots_mut(slot.lane).map_or(Next::Nothing, |slots| slots.lost(slot.index, now, reason));
        self.go_on(slot, next);
    }

    pub(in crate::core) fn respawn(&mut self, slot: SlotId) {
        let now = self.now.monotonic;
        let Some(slots) = self.slots_mut(slot.lane) else { return };
        if slots.respawn(slot.index, now) {
            self.spawn_worker(slot);
        } else if slots.is_worn(slot.index) {
            self.wear_out(slot);
        }
    }
}
