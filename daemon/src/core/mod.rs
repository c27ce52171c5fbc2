//! The core: which job runs where and when. A pure state machine: [`Core::handle`] takes an event and the
//! time, and returns what is to be done about it. It does no I/O and reads no clock, so a test is a list of
//! events and the effects expected, and hours pass in microseconds.
//!
//! It holds what is active: slots, running attempts, the few jobs that the engine has offered, the next
//! deadline. The queue is the engine's, clients are the desk's. What must not happen before a change is kept
//! follows from the engine's answer to it, so no order needs to be kept by hand: a job may start when it has
//! been [`Inserted`](Answer::Inserted), it is accepted when that is synced, its end is told when it is
//! [`Ended`](Answer::Ended).
//!
//! ```text
//!             ┌────────── no room for a process ──────────┐
//!             ▼                                           │
//!  Insert ▶ queued ── offered, slot free ──▶ running ── command executed, ended ──▶ succeeded | failed
//!             │ ▲ ▲                   │  │
//!             │ │ │                   │  └─ timeout, cancel, tie, stop ─▶ stopping ──▶ timed_out | canceled | queued
//!             │ │ └── worker died ────┴──────────────────────────────────┘ │ │
//!             │ └─ release ── held ◀── on crash: hold ─────────────────────┤ └─ crash limit ──▶ lost
//!             └─ cancel, tie ──▶ canceled         on crash: fail ──────────┴──▶ failed
//! ```
//!
//! In place of `failed` and `timed_out`, a job that has retries left waits until its next attempt is due, and
//! is then back in its line. A job whose unique name another one has may be queued without being in its line,
//! until the other one has ended. From every state a job goes to `timed_out` when its deadline is over, from
//! `running` by `stopping`.

#[cfg(test)]
mod audit;
mod drain;
mod event;
pub mod jobs;
pub mod pools;
mod settings;
#[cfg(test)]
mod tests;
mod timers;
mod view;
pub mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use drain::Holds;
pub use event::{Denial, Effect, Event, Fact, LaneId, Now, PoolId, SeatOf, SlotId};
use jobs::array::Begun;
use jobs::attempt::Active;
use jobs::submission::PendingInsertion;
use pools::draining::Draining;
pub use pools::gather::Gathering;
use pools::lane::CallbackLane;
pub use pools::limits::LimitView;
use pools::limits::Limits;
use pools::pool::JobPools;
use pools::slots::Slots;
pub use pools::stall::Stall;
pub use pools::stock::ResourceView;
use pools::succession::Programs;
pub use settings::{CallbackSettings, PoolSettings, QUICK, Settings};
use timers::{Timer, Timers};
pub use view::Reach;
use waits::deadlines::Deadlines;
use waits::dependents::Resolving;
use waits::due::Due;
use waits::hold::{Holding, Wish};
use waits::ties::{Ties, Unattended};

use crate::engine::{Answer, Change, Restored};
use crate::job::{IdMap, IdSet, Items, JobId, Pause, Queued, RequestId, StopReason, Term, Tie, Unit, micros};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Serving,
    /// Accepts nothing more; ends when everything that can run has ended.
    Draining,
    /// Starts nothing more either; ends when nothing runs.
    Stopping,
    Exited,
}

/// See the module's description.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    pools: JobPools,
    /// Pools in which something may have become startable since the last dispatch.
    stirred: BTreeSet<PoolId>,
    /// Pools that get a job offered at once which goes before all that they have: they wait for it.
    awaiting: BTreeSet<PoolId>,
    /// Pools for which the engine may have a better job than they have, since a label has room again: they
    /// wait for its answer.
    asking: BTreeSet<PoolId>,
    lane: CallbackLane,
    active: IdMap<JobId, Active>,
    /// Arrays that have begun and have not ended.
    arrays: IdMap<JobId, Begun>,
    /// Submissions that the engine has not answered yet.
    submissions: IdMap<RequestId, PendingInsertion>,
    /// Submissions whose jobs the engine has written and not synced.
    unsynced: IdSet<RequestId>,
    /// Jobs whose end the engine has been given and has not confirmed.
    ending: IdSet<JobId>,
    /// Jobs that the engine is to hold, or to have in another pool, and has not answered.
    holding: IdMap<JobId, Holding>,
    /// Jobs that it has answered about, and whose time was over by then.
    overdue: Vec<(Term, JobId)>,
    /// Jobs queued for pools that are not configured.
    unserved: BTreeMap<Arc<str>, Queued>,
    /// Pauses of pools that are not configured.
    pauses: BTreeMap<Arc<str>, Pause>,
    /// Pools that take no new jobs.
    draining: BTreeMap<Arc<str>, Draining>,
    limits: Limits,
    programs: Programs,
    ties: Ties,
    unattended: IdMap<JobId, Unattended>,
    due: Due,
    /// The engine has been asked to look at dependents, and has not answered; and whether there are more.
    resolving: Resolving,
    deadlines: Deadlines,
    /// The same of the times by which jobs are to have begun.
    starts: Deadlines,
    engine_failing: bool,
    /// Told to stop for a second time.
    hurried: bool,
    timers: Timers,
    mode: Mode,
    now: Now,
    effects: Vec<Effect>,
}

impl Core {
    /// The core of a start, and what is to be done first. Interrupted attempts are counted as crashes, their
    /// jobs queued again or, at the limit, given up.
    pub fn restore(settings: Settings, restored: Restored, now: Now) -> (Self, Vec<Effect>) {
        let mut core = Self {
            lane: CallbackLane::new(settings.callbacks),
            settings: Settings { pools: Vec::new(), ..settings.clone() },
            pools: JobPools::default(),
            stirred: BTreeSet::new(),
            awaiting: BTreeSet::new(),
            asking: BTreeSet::new(),
            active: IdMap::default(),
            arrays: IdMap::default(),
            submissions: IdMap::default(),
            unsynced: IdSet::default(),
            ending: IdSet::default(),
            holding: IdMap::default(),
            overdue: Vec::new(),
            unserved: BTreeMap::new(),
            pauses: restored.pauses.into_iter().map(|(name, pause)| (Arc::from(name), pause)).collect(),
            draining: BTreeMap::new(),
            limits: Limits::restored(restored.limits),
            programs: Programs::default(),
            ties: Ties::default(),
            unattended: IdMap::default(),
            resolving: Resolving::default(),
            due: Due::new(restored.boot.began_us.unwrap_or_else(|| now.wall_us - micros(now.monotonic))),
            deadlines: Deadlines::default(),
            starts: Deadlines::default(),
            engine_failing: false,
            hurried: false,
            timers: Timers::default(),
            mode: Mode::Serving,
            now,
            effects: Vec::new(),
        };

        core.restore_limits();
        // First of all, so that nothing is started whose deadline is over.
        let next = [(Term::End, restored.next_deadline_us), (Term::Start, restored.next_start_by_us)];
        for (term, next_us) in next {
            match next_us {
                Some(next_us) if next_us <= core.due.now_us(now) => core.ask_overdue(term),
                Some(next_us) => core.watch(term, next_us),
                None => {}
            }
        }
        if restored.goes_by_wall {
            core.follow_wall();
        }
        for (name, queued) in restored.queued {
            core.unserved.insert(Arc::from(name), queued);
        }
        let mut requeued = IdMap::default();
        for job in restored.interrupted {
            if let Some(holdup) = core.recover(&job, restored.last_end) {
                requeued.insert(job.id, (Arc::from(job.pool), holdup));
            }
        }

        for id in restored.callbacks {
            match restored.crashed_callbacks.get(&id) {
                Some(&crashes) => core.recover_callback(id, crashes),
                None => core.lane.push(id),
            }
        }
        for id in restored.waiting_callbacks {
            core.lane.wait(id);
        }
        if let Some(due_us) = restored.next_due_us {
            core.wake_for(due_us);
        }

        core.configure(settings);
        core.restore_ties(&restored.tied, &requeued);
        core.restore_arrays(restored.arrays);
        core.end_each(&restored.replaced, StopReason::Replaced);
        core.end_each(&restored.failed, StopReason::Dependency);
        if restored.has_unresolved {
            core.resolve();
        }
        core.dispatch();
        let effects = std::mem::take(&mut core.effects);
        (core, effects)
    }

    /// Takes in an event; returns what is to be done about it, in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Submit { request, jobs } => self.on_submit(request, jobs),
            Event::Forsaken { request } => self.on_forsaken(request),
            Event::ClientGone { ids } => self.on_client_gone(ids),
            Event::Attended { ids } => ids.into_iter().for_each(|id| self.attend(id)),
            // It has started since somebody looked.
            Event::Cancel { id, unstarted: true } if self.active.contains_key(&id) => {}
            Event::Cancel { id, unstarted: _ } => self.end(id, StopReason::Canceled),
            Event::Hold { request, ids } => self.on_wish(request, ids, &Wish::Hold),
            Event::Assign { request, ids, pool, is_warm } => {
                self.on_wish(request, ids, &Wish::Assign { pool, is_warm });
            }
            Event::Edit { request, id, edit } => self.on_wish(request, vec![id], &Wish::Edit(edit)),
            Event::Retry { request, ids } => self.on_retry(request, ids),
            Event::SetPause { pool, pause } => self.set_pause(&pool, pause),
            Event::SetDraining { pool, by } => self.set_draining(&pool, by),
            Event::SetLimit { label, limit } => self.set_limit(&label, limit),
            Event::FreezePool { pool } => self.freeze_pool(&pool),
            Event::SetFrozen { id, frozen: true } => self.freeze(id, false),
            Event::SetFrozen { id, frozen: false } => self.thaw(id),
            Event::Restart { request, pool } => self.on_restart(request, &pool),
            Event::Signal { id, signal } => self.on_signal(id, signal),
            Event::Steer { id, steer } => self.on_steer(id, steer),
            Event::Drain => self.mode = self.mode.max(Mode::Draining),
            Event::Stop => self.on_stop(),
            Event::Configure(settings) => self.configure(settings),
            Event::Answer(answer) => self.on_answer(answer),
            Event::Offered { pool, offers } => self.on_offered(&pool, offers),
            Event::BeyondCapacity { pool } => self.on_beyond_capacity(&pool),
            Event::TooSmall { pool, needs } => {
                self.pools
                    .named_mut(&pool)
                    .into_iter()
                    .for_each(|pool| pool.too_small_for.clone_from(&needs));
            }
            Event::Failing(failing) => self.engine_failing = failing,
            Event::WorkerUp { slot, pid } => self.on_worker_up(slot, pid),
            Event::WorkerFailed { slot, reason } => {
                self.restart_failed(slot, &reason);
                self.respawn_later(slot, reason);
            }
            Event::WorkerDying { slot, pid } => self.on_worker_dying(slot, pid),
            Event::WorkerLost { slot, pid, how, unsent } => self.on_worker_lost(slot, pid, &how, unsent),
            Event::Started { slot, claim, process, started_us, memory_limiter } => {
                self.on_started(slot, claim, process, started_us, memory_limiter)
            }
            Event::Idle { slot, claim } => self.on_idle(slot, claim),
            Event::Ended { slot, claim, ended } => self.on_ended(slot, claim, &ended),
            Event::GivenBack { slot, claim } => self.on_given_back(slot, claim),
            Event::SpawnFailed { slot, claim, failure } => self.on_spawn_failed(slot, claim, failure),
            Event::SuccessorUp { slot, pid } => self.on_successor_up(slot, pid),
            Event::SuccessorFailed { slot, reason } => {
                self.restart_failed(slot, &reason);
                self.on_successor_lost(slot, reason);
            }
            Event::ProgramReady { slot, worker, process } => self.on_program_ready(slot, worker, process),
            Event::Answered { slot, claim, answered } => self.on_answered(slot, claim, answered),
            Event::Progressed { slot, claim, progress } => self.on_progressed(slot, claim, progress),
            Event::Misbehaved { slot, worker, during, how } => self.on_misbehaved(slot, worker, during, how),
            Event::Tick => self.on_tick(),
            Event::ClockSet => self.follow_wall(),
        }

        self.end_overdue();
        self.dispatch();
        self.tell_drained();
        self.end_what_no_drain_waits_for();
        self.exit_when_done();
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn next_deadline(&self) -> Option<std::time::Duration> {
        self.timers.next()
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Inserted { request, first, jobs, existing, turns, conditions, is_synced } => {
                if !is_synced {
                    self.unsynced.insert(request);
                }
                self.on_inserted(request, first, jobs, existing, turns, conditions);
            }
            Answer::Synced { request } => self.on_synced(request),
            Answer::Refused { request, refusal: _ } => _ = self.take_submission(request),
            Answer::Placed { id, attempt, worker } => self.on_placed(id, attempt, worker),
            Answer::Lost { id } => self.on_lost(id),
            Answer::Ended { id, record, callbacks, dequeued, stdin: _, next, has_dependents, array } => {
                self.on_kept_end(id, record, callbacks, dequeued, next);
                if let Some(tally) = array {
                    self.on_end_in_array(id, *tally);
                }
                if has_dependents {
                    self.resolve();
                }
            }
            Answer::ClockSet { next_us } => self.on_clock_set(next_us),
            Answer::Resolved { jobs, failed, more } => self.on_resolved(&jobs, &failed, more),
            Answer::Withheld { request, held, others } => self.on_withheld(request, held, others),
            Answer::Assigned { request, pool, jobs, unfit, others } => {
                self.on_assigned(request, &pool, jobs, &unfit, others);
            }
            Answer::Edited { request, id, edited } => self.on_edited(request, id, edited),
            Answer::Retried { request, jobs, failed, others, arrays } => {
                self.on_arrays_revived(arrays);
                self.on_retried(request, jobs, &failed, others);
            }
            Answer::Unfolded { tally, jobs, tie } => self.on_unfolded(*tally, &jobs, tie),
            Answer::Folded { tally, living, more } => self.on_folded(*tally, &living, more),
            Answer::Released { request, jobs } => self.on_released(request, jobs),
            Answer::Overdue { term, jobs, last, next_us } => self.on_overdue(term, jobs, last, next_us),
            Answer::Woken { jobs, callbacks, next_us } => self.on_woken(&jobs, callbacks, next_us),
            Answer::CallbackBegun(run) => self.on_callback_begun(run),
            Answer::CallbacksAltered { request, wish, ids, others } => {
                self.on_callbacks_altered(request, wish, ids, others);
            }
            // The engine's own business, or the desk's: the core asks for none.
            Answer::Fetched { .. }
            | Answer::Defined { .. }
            | Answer::Got { .. }
            | Answer::Listed { .. }
            | Answer::Line { .. }
            | Answer::Pace { .. }
            | Answer::IdsReserved { .. }
            | Answer::Removed { .. }
            | Answer::Tallied { .. }
            | Answer::Dependents { .. }
            | Answer::Attempts { .. }
            | Answer::Keepers { .. }
            | Answer::Counted { .. }
            | Answer::Callbacks { .. }
            | Answer::Kept { .. }
            | Answer::Held { .. }
            | Answer::LetGo { .. }
            | Answer::Pruned { .. } => {}
        }
    }

    fn on_tick(&mut self) {
        while let Some(timer) = self.timers.pop(self.now.monotonic) {
            match timer {
                Timer::Attempt(Unit::Job(id)) => self.on_attempt_deadline(id),
                Timer::Attempt(Unit::Callback(id)) => self.on_callback_deadline(id),
                Timer::Respawn(slot) => self.respawn(slot),
                Timer::Start(id) => self.tell_start(id),
                Timer::Ready(slot, worker) => self.on_program_late(slot, worker),
                Timer::Proven(slot, worker) => self.on_program_proven(slot, worker),
                Timer::Worn(slot) => self.wear_out(slot),
                // The dispatch that follows every event goes on with the pool.
                Timer::BackedOff(pool) => _ = self.stirred.insert(pool),
                Timer::Due => self.take_due(),
                Timer::Deadline(term) => self.ask_overdue(term),
                Timer::Unattended(id) => self.end(id, StopReason::Untied(Tie::Client)),
            }
        }
    }

    // ---- moves that several events share ----

    fn configure(&mut self, settings: Settings) {
        for wanted in &settings.pools {
            let id = match self.pools.id_of(&wanted.name) {
                Some(id) => id,
                None => {
                    let before = self.unserved.remove(&wanted.name).unwrap_or_default();
                    let id = self.pools.add(wanted.name.clone(), wanted.program.clone(), before);
                    let pause = self.pauses.remove(&wanted.name);
                    self.set_pause(&wanted.name, pause);
                    id
                }
            };
            self.resize(LaneId::Pool(id), wanted.workers);
            self.set_program(id, wanted.program.as_ref());
            if let Some(pool) = self.pools.get_mut(id) {
                pool.backfill = wanted.backfill;
                pool.stock.configure(&wanted.resources);
            }
            self.tell_capacity(id);
            self.stirred.insert(id);
        }

        // A pool that has gone from the configuration ends what it runs and keeps its queue.
        let is_wanted = |name: &Arc<str>| settings.pools.iter().any(|wanted| wanted.name == *name);
        let gone: Vec<PoolId> =
            self.pools.iter().filter(|(_, pool)| !is_wanted(&pool.name)).map(|(id, _)| id).collect();
        for id in gone {
            self.resize(LaneId::Pool(id), 0);
            if let Some(pool) = self.pools.get_mut(id) {
                pool.stock.configure(&Items::new());
            }
            self.tell_capacity(id);
            self.stirred.insert(id);
        }

        self.configure_limits(settings.limits.clone());
        self.lane.configure(settings.callbacks);
        self.resize(LaneId::Callbacks, settings.callbacks.workers);
        self.settings = settings;
    }

    /// Starts whatever can be started, and asks for more where that may be needed soon.
    fn dispatch(&mut self) {
        let mut awaiting = std::mem::take(&mut self.awaiting);
        awaiting.append(&mut self.ask_offers());
        while let Some(id) = self.stirred.pop_first() {
            if awaiting.contains(&id) {
                continue; // The offer stirs it again.
            }
            self.dispatch_pool(id);
            self.forget_if_over(id);
        }
        if self.mode >= Mode::Stopping {
            return;
        }
        while let Some(id) = self.lane.take_next() {
            self.change(Change::BeginCallback { id });
        }
    }

    /// A pool that is not configured any more is forgotten once nothing of it is left but its queue, which is
    /// the engine's.
    fn forget_if_over(&mut self, id: PoolId) {
        if self.pools.get(id).is_some_and(|pool| pool.is_over()) {
            let pool = self.pools.remove(id);
            if let Some(pause) = pool.pause {
                self.pauses.insert(pool.name.clone(), pause);
            }
            if pool.queued.all() > 0 {
                *self.unserved.entry(pool.name).or_default() += pool.queued;
            }
        }
    }

    fn exit_when_done(&mut self) {
        let is_running = !self.active.is_empty() || self.lane.is_running();
        if self.mode < Mode::Draining || self.mode == Mode::Exited || is_running {
            return;
        }
        let submitted = self.submissions.is_empty() && self.unsynced.is_empty();
        let settled = submitted && self.ending.is_empty() && !self.lane.is_claiming();
        let done = match self.mode {
            Mode::Draining => settled && !self.has_startable(),
            // An engine that cannot be written must not keep the daemon alive; what it holds is tried once
            // more at its close.
            Mode::Stopping => settled || self.engine_failing || self.hurried,
            Mode::Serving | Mode::Exited => false,
        };
        if done {
            self.mode = Mode::Exited;
            self.tell(Fact::Exiting);
            self.effects.push(Effect::Exit);
        }
    }

    fn slots(&self, lane: LaneId) -> Option<&Slots> {
        match lane {
            LaneId::Pool(id) => self.pools.get(id).map(|pool| &pool.slots),
            LaneId::Callbacks => Some(&self.lane.slots),
        }
    }

    fn slots_mut(&mut self, lane: LaneId) -> Option<&mut Slots> {
        match lane {
            LaneId::Pool(id) => self.pools.get_mut(id).map(|pool| &mut pool.slots),
            LaneId::Callbacks => Some(&mut self.lane.slots),
        }
    }

    fn change(&mut self, change: Change) {
        self.effects.push(Effect::Change(change));
    }

    fn tell(&mut self, fact: Fact) {
        self.effects.push(Effect::Tell(fact));
    }
}
