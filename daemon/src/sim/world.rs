//! What surrounds the two machines, simulated: the engine's durable backing, workers and clients. Nothing
//! happens by itself; a test says what happens next. Whatever would be wrong in any story is checked at each
//! step.
//!
//! The machines are driven by the function that drives them in the daemon, [`Machines::turn`], and the front
//! half of the engine, its windows, its credit and its volatile jobs are the daemon's own. Simulated is only
//! what is outside.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::Swept;
use pool_proto::{Record, State};

use super::clients::Clients;
use super::delayed::{Death, Delayed};
use super::invariants::{Chronicle, assert_transition};
use super::pauses::KnownPauses;
use super::specs::settings;
use super::workers::{Sent, Worker};
use crate::core::{self, Core, LaneId, Now, PoolId, QUICK, Settings, SlotId};
use crate::desk::{self, Account, AddedPools, Admission, Daemon, Desk, Found, Rights};
use crate::engine::Delivery;
use crate::engine::memory::Memory;
use crate::engine::{Answer, Assigned, Boot, Change, Chore, Engine, HistoryLimits, NotAssigned, Order, Said};
use crate::job::{CallbackId, Capacity, Claim, Items, JobId, Needs, Place, ProcessId, StopReason, Until};
use crate::shell::turn::{Inbox, Input, Machines, Outside};
use crate::start::config::Config;

pub const DEFAULT: LaneId = LaneId::Pool(PoolId(0));

/// In [`mixed`](super::specs::mixed) settings: a pool with resident programs.
pub const WARM: LaneId = LaneId::Pool(PoolId(2));

/// Nothing is pruned: a test asks for any job.
const HISTORY: HistoryLimits =
    HistoryLimits { max_jobs: u64::MAX, max_age: Duration::MAX, max_output_bytes: u64::MAX };

/// No turn has more effects.
const LONGEST_TURN: usize = 20_000;

/// See the module's description.
pub struct World {
    /// Not here during a turn: what is done for the machines cannot reach into them.
    machines: Option<Machines>,
    /// Not here between the daemon's death and its next start.
    engine: Option<Engine<Delayed>>,
    pub clients: Clients,
    pub workers: BTreeMap<SlotId, (ProcessId, Worker)>,
    /// What they begin with when they have ended what they have.
    pub ahead: BTreeMap<SlotId, Claim>,
    /// Those that are to take their places.
    pub successors: BTreeMap<SlotId, (ProcessId, Worker)>,
    /// Workers that have been replaced, or were to replace one, and are not dead yet.
    pub replaced: Vec<(SlotId, ProcessId)>,
    /// Lanes whose workers keep resident programs.
    pub(super) warm: BTreeSet<LaneId>,
    /// What workers were asked to give back, in order.
    pub called_back: Vec<Claim>,
    /// The items of resources that attempts were handed with, in which pool.
    pub handed_items: HashMap<Claim, (Arc<str>, Items)>,
    /// Signals sent to attempts, in order.
    pub signals: Vec<(Claim, Sent)>,
    /// Killed, and not dead yet.
    pub killed_workers: BTreeSet<SlotId>,
    /// Volatile jobs that the machines have been told to be in their lines.
    pub(super) lined_up: BTreeSet<JobId>,
    /// Jobs that must not be repeated and have been given to a worker, which may have executed them.
    pub executed: BTreeSet<JobId>,
    pub exited: bool,
    /// What has happened since the first start, crashes included.
    pub seen: Chronicle,
    pub known_pauses: KnownPauses,
    /// What pools have, as the engine was told last.
    capacities: BTreeMap<Arc<str>, Capacity>,
    /// Labels that have had limits.
    ever_limited: BTreeSet<Arc<str>>,
    /// The jobs of each label that ran when somebody looked last.
    pub(super) seen_running: RefCell<BTreeMap<Arc<str>, BTreeSet<JobId>>>,
    /// A worker is up as soon as it is asked for, as a fork is; otherwise when a test says so.
    pub spawns_at_once: bool,
    /// As an outside must not: what comes of an effect is handled while the effect is carried out.
    pub reenters: bool,
    pub outputs_are_missing: bool,
    /// Attempts that take no longer are quick; none is where a story is about something else.
    quick: Duration,
    /// Clients share a connection where there is one.
    pub shares_connections: bool,
    /// An effect is being carried out.
    is_performing: bool,
    turn_began_at: usize,
    /// Effects performed since the first start.
    pub performed: usize,
    /// Everything dies right after so many effects have been performed.
    pub cut_at: Option<usize>,
    /// It has died so, and waits for its next start.
    pub dead: bool,
    /// What the configuration's file says.
    pub config: Config,
    pub now: Now,
    starts: i64,
    /// Of the machine.
    boots: u32,
    last_pid: i32,
}

impl World {
    pub fn new(config: Config) -> Self {
        Self::begin(config, Duration::ZERO)
    }

    /// One whose slots get jobs ahead.
    pub fn handing_ahead(config: Config) -> Self {
        Self::begin(config, QUICK)
    }

    fn begin(config: Config, quick: Duration) -> Self {
        let mut world = Self {
            machines: None,
            engine: None,
            clients: Clients::default(),
            workers: BTreeMap::new(),
            ahead: BTreeMap::new(),
            successors: BTreeMap::new(),
            replaced: Vec::new(),
            warm: BTreeSet::new(),
            called_back: Vec::new(),
            handed_items: HashMap::new(),
            signals: Vec::new(),
            killed_workers: BTreeSet::new(),
            lined_up: BTreeSet::new(),
            executed: BTreeSet::new(),
            exited: false,
            seen: Chronicle::default(),
            known_pauses: KnownPauses::default(),
            capacities: BTreeMap::new(),
            ever_limited: BTreeSet::new(),
            seen_running: RefCell::default(),
            spawns_at_once: false,
            reenters: false,
            outputs_are_missing: false,
            quick,
            shares_connections: false,
            is_performing: false,
            turn_began_at: 0,
            performed: 0,
            cut_at: None,
            dead: false,
            config,
            now: Now { monotonic: Duration::from_secs(1), wall_us: 1_000_000_000 },
            starts: 0,
            boots: 1,
            last_pid: 100,
        };
        world.start(Memory::default(), false);
        world
    }

    /// A world of `workers` in the default pool, all of them up.
    pub fn up(workers: u32) -> Self {
        let mut world = Self::new(settings(workers));
        world.settle();
        world
    }

    /// The daemon starts, with what is on the disk.
    fn start(&mut self, disk: Memory, is_full: bool) {
        let (delayed, mut restored) = Delayed::opened(disk, is_full);
        let boot = self.boot().after(&restored.boot);
        restored.boot = boot.clone();
        let clients = std::mem::take(&mut self.clients);
        self.clients = clients.outlive_daemon(|token| restored.stdin.contains(token));
        self.engine = Some(Engine::new(delayed, &restored, HISTORY));

        let lost = self.known_pauses.iter().find(|pool| !restored.pauses.contains_key(*pool));
        assert_eq!(lost, None, "a client was told of its pause");
        let added = AddedPools::restored(&restored.pools);
        let mut config = self.config.clone();
        added.join(&mut config);
        config.join_workers(&restored.workers);
        let admission = admission();
        let settings = self.settings_of(&config);
        self.starts += 1;
        let rights = Rights::new(super::clients::OWNER);
        let (pauses, schedules) = (restored.pauses.clone(), restored.schedules.clone());
        let found = Found { added, pauses, schedules };
        let desk = Desk::new(identity(self.starts), rights, admission, config, found, self.now);
        let (core, effects) = Core::restore(settings, restored, self.now);

        let mut machines = Machines::new(core, desk);
        machines.begin(effects, self);
        self.machines = Some(machines);
        self.engine_mut().chore(Chore::Booted(boot));
        self.turn([]);
    }

    /// It lasts until the power is cut; each start asks the wall's clock anew when it began.
    fn boot(&self) -> Boot {
        Boot::found(Some(self.boots.to_string()), self.now.wall_us, self.now.monotonic)
    }

    /// SIGKILL for everything, and a new start: see [`die`](Self::die).
    pub fn crash(&mut self) {
        self.die(Death::Kill);
    }

    /// The end of everything, and a new start: what the backing had not carried out is gone, and so are
    /// volatile jobs, requests and workers; with the power, what it had not synced.
    pub fn die(&mut self, death: Death) {
        for id in self.may_have_died(death) {
            self.seen.died(id);
        }
        if death == Death::PowerCut {
            self.boots += 1;
            self.lose_unsynced();
        }
        let engine = self.engine.take().expect("only a start replaces it");
        for id in engine.volatile().jobs() {
            self.clients.accepted.remove(&id);
            self.clients.ended.remove(&id);
            self.executed.remove(&id);
            self.lined_up.remove(&id);
        }
        let delayed = engine.into_durable();
        let is_full = delayed.is_full();

        self.machines = None;
        self.workers.clear();
        self.ahead.clear();
        self.successors.clear();
        self.replaced.clear();
        self.warm.clear();
        self.called_back.clear();
        self.signals.clear();
        self.killed_workers.clear();
        (self.exited, self.dead, self.cut_at) = (false, false, None);
        self.start(delayed.after(death), is_full);
    }

    /// Jobs that are written and not synced never were: their ids are given out again.
    fn lose_unsynced(&mut self) {
        let (disk, synced) = (self.disk(), self.delayed().synced());
        let lost: Vec<JobId> = disk.jobs().filter(|&id| !synced.has(id)).collect();
        for id in lost {
            assert!(!self.clients.accepted.contains(&id), "a power cut takes job {id}, which was accepted");
            assert!(!self.executed.contains(&id), "a power cut takes job {id}, which was not to be repeated");
            self.seen.forget(id);
        }
    }

    /// Those whose attempt is taken along: a worker has it, or the next start finds it.
    fn may_have_died(&self, death: Death) -> BTreeSet<JobId> {
        let disk = match death {
            Death::Kill => self.disk(),
            Death::PowerCut => self.delayed().synced(),
        };
        let is_active =
            |id: &JobId| matches!(disk.place_of(*id), Some(Place::Running(_) | Place::Stopping(_)));
        disk.jobs().filter(is_active).chain(self.running_jobs().into_iter().map(JobId)).collect()
    }

    /// After [`cut_at`](Self::cut_at) has come true: the backing has still taken so many steps, and all
    /// starts anew.
    pub fn bury(&mut self, steps: usize, death: Death) {
        self.dead = false;
        for _ in 0..steps {
            self.store_step();
        }
        self.die(death);
    }

    // ---- what happens ----

    pub fn lives(&self) -> bool {
        !self.dead && !self.exited
    }

    /// One turn of the machines, for these events.
    pub(super) fn turn(&mut self, events: impl IntoIterator<Item = Input>) {
        if !self.lives() {
            return;
        }
        let mut machines = self.machines.take().expect("no turn is under way");
        self.turn_began_at = self.performed;
        machines.inbox.extend(events);
        machines.turn(self);
        self.machines = Some(machines);
        self.check_labels();
    }

    pub fn handle(&mut self, event: core::Event) {
        self.turn([Input::Core(event)]);
    }

    /// The core alone hears of an event; nothing is done about it.
    pub fn handle_in_core(&mut self, event: core::Event) -> Vec<core::Effect> {
        let machines = self.machines.as_mut().expect("no turn is under way");
        machines.core.handle(self.now, event)
    }

    /// The configuration's file is read anew.
    pub fn reread(&mut self, config: Config) {
        self.config = config.clone();
        self.turn([Input::Desk(desk::Event::Reread(Ok(Box::new(config))))]);
    }

    pub(super) fn configure(&mut self, config: Config) -> Input {
        Input::Core(core::Event::Configure(self.settings_of(&config)))
    }

    fn settings_of(&self, config: &Config) -> Settings {
        Settings { quick: self.quick, ..config.settings(None, &admission().minimal()) }
    }

    /// The disk is full from now on, or has room again.
    pub fn set_disk_full(&mut self, full: bool) {
        self.delayed_mut().set_full(full);
    }

    /// The backing syncs what it has written, or carries out its next order; false when there is nothing that
    /// it can do.
    pub fn store_step(&mut self) -> bool {
        if self.dead {
            return false;
        }
        if self.delayed().can_sync() {
            self.delayed_mut().sync();
            return true;
        }
        let Some(index) = self.delayed().next_order() else { return false };
        self.watch_order(index, |delayed| delayed.carry_out(index));
        true
    }

    /// The backing writes so many orders in one transaction, and has not synced them yet.
    pub fn store_writes(&mut self, orders: usize) {
        if self.dead || self.delayed().is_full() || self.delayed().can_sync() {
            return;
        }
        let (mut answers, mut is_promise) = (Vec::new(), false);
        for _ in 0..orders.min(self.delayed().orders.len()) {
            self.watch_order(0, |delayed| {
                let (more, is_one) = delayed.write(0);
                answers.extend(more);
                is_promise |= is_one;
            });
        }
        self.delayed_mut().end_batch(answers, is_promise);
    }

    /// The order at that place is written: what can be said against it, and what follows for what is known
    /// here.
    fn watch_order(&mut self, index: usize, write: impl FnOnce(&mut Delayed)) {
        let delayed = self.delayed();
        let moved = match &delayed.orders[index] {
            Order::Change(Change::Move(moved)) => moved,
            Order::Change(Change::Release { ids, .. }) => {
                let ids = ids.clone();
                let is_held = |id: &JobId| matches!(self.place_of(*id), Some(Place::Waiting(Until::Person)));
                let held: Vec<JobId> = ids.into_iter().filter(is_held).collect();
                write(self.delayed_mut());
                for id in held {
                    if matches!(self.place_of(id), Some(Place::Queued { .. })) {
                        self.executed.remove(&id);
                    }
                }
                return;
            }
            Order::Change(Change::Remove { ids, .. }) => {
                let ids: Vec<JobId> = ids.iter().copied().filter(|&id| self.has(id)).collect();
                write(self.delayed_mut());
                let gone: Vec<JobId> = ids.into_iter().filter(|&id| !self.has(id)).collect();
                for &id in &gone {
                    assert!(!self.running_jobs().contains(&id.0), "job {id} is removed while it runs");
                }
                self.seen.removed(gone);
                return self.check_memory();
            }
            Order::Change(Change::Retry { ids, .. }) => {
                let has_ended =
                    |id: &JobId| self.place_of(*id).is_some_and(|place| place.state().is_terminal());
                let ended: Vec<JobId> = ids.iter().copied().filter(has_ended).collect();
                write(self.delayed_mut());
                // It is run again since somebody wants that.
                for id in ended {
                    if !self.place_of(id).is_some_and(|place| place.state().is_terminal()) {
                        self.executed.remove(&id);
                    }
                }
                return self.check_memory();
            }
            _ => {
                write(self.delayed_mut());
                return self.check_memory();
            }
        };
        let id = moved.id;
        let is_claim = moved.confirm && matches!(moved.to, Place::Running(_));
        let is_retry = matches!(moved.to, Place::Waiting(Until::Time { .. }));
        let told_to_start = moved.start.map(|_| State::Running);
        let before = told_to_start.or(delayed.disk.place_of(id).map(Place::state));
        if is_claim {
            self.seen.tried(id);
        } else if is_retry {
            // It did not die, it failed, and is to be run again.
            self.executed.remove(&id);
        }

        write(self.delayed_mut());
        if let (Some(before), Some(after)) = (before, self.disk().place_of(id).map(Place::state))
            && before != after
        {
            assert_transition(id, before, after);
        }
        self.check_memory();
    }

    /// The disk is full for a moment: the backing refuses the next order, if that can be refused.
    pub fn store_refuses(&mut self) {
        self.delayed_mut().refuse_next();
    }

    /// The machines hear the backing's next answer.
    pub fn answer_step(&mut self) -> bool {
        if !self.lives() || !self.delayed_mut().let_hear() {
            return false;
        }
        self.turn([]);
        true
    }

    /// The backing works and is heard by turns, so many times in all.
    pub fn store_steps(&mut self, steps: usize) {
        for step in 0..steps {
            if step % 2 == 0 {
                self.store_step()
            } else {
                self.answer_step()
            };
        }
    }

    /// The backing works, and all is heard of it; workers do nothing.
    pub fn settle_store(&mut self) {
        while self.store_step() || self.answer_step() {}
    }

    /// The backing, starting workers and reading clients do all they can; attempts go on as they are, and
    /// time stands still.
    pub fn settle(&mut self) {
        loop {
            let is_changing = |worker: &Worker| !matches!(worker, Worker::Idle | Worker::Busy { .. });
            let changing = self.workers.iter().find(|(_, (_, worker))| is_changing(worker));
            if let Some((&slot, (_, worker))) = changing.filter(|_| self.lives()) {
                match worker {
                    Worker::Starting => self.worker_up(slot),
                    Worker::Loading => self.program_ready(slot),
                    Worker::Idle
                    | Worker::Busy { .. }
                    | Worker::Leaving
                    | Worker::Dying { .. }
                    | Worker::Condemned { .. } => self.worker_lost(slot),
                }
            } else if let Some(slot) = self.changing_successor().filter(|_| self.lives()) {
                self.successor_steps(slot);
            } else if !self.replaced.is_empty() && self.lives() {
                self.replaced_lost(0);
            } else if let Some(&request) = self.clients.unread.first().filter(|_| self.lives()) {
                self.read(request);
            } else if !self.store_step() && !self.answer_step() {
                return;
            }
        }
    }

    /// The slot of a successor that is on its way.
    pub fn changing_successor(&self) -> Option<SlotId> {
        let is_changing = |worker: &Worker| !matches!(worker, Worker::Idle);
        self.successors.iter().find(|(_, (_, worker))| is_changing(worker)).map(|(&slot, _)| slot)
    }

    pub fn advance(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall_us += time.as_micros() as i64;
        self.tick();
        let next = self.next_deadline().filter(|_| self.lives());
        assert!(next.is_none_or(|at| at > self.now.monotonic), "a deadline that has passed stands: {next:?}");
    }

    /// The wall's clock was set.
    pub fn set_clock(&mut self) {
        self.machines.as_mut().expect("no turn is under way").set_clock();
        self.turn([]);
    }

    /// The times that have come.
    pub fn tick(&mut self) {
        let now = self.now;
        if self.lives() {
            self.machines.as_mut().expect("no turn is under way").tick(|| now);
            self.turn([]);
        }
    }

    pub(super) fn next_pid(&mut self) -> ProcessId {
        self.last_pid += 1;
        ProcessId::new(self.last_pid)
    }

    // ---- what is to be seen ----

    pub fn core(&self) -> &Core {
        &self.machines.as_ref().expect("no turn is under way").core
    }

    pub fn desk(&self) -> &Desk {
        &self.machines.as_ref().expect("no turn is under way").desk
    }

    pub(super) fn engine(&self) -> &Engine<Delayed> {
        self.engine.as_ref().expect("only a start replaces it")
    }

    pub(super) fn engine_mut(&mut self) -> &mut Engine<Delayed> {
        self.engine.as_mut().expect("only a start replaces it")
    }

    pub fn delayed(&self) -> &Delayed {
        self.engine().durable()
    }

    fn delayed_mut(&mut self) -> &mut Delayed {
        self.engine_mut().durable_mut()
    }

    /// What is kept for good.
    pub fn disk(&self) -> &Memory {
        &self.delayed().disk
    }

    /// Where the job is kept.
    pub(super) fn memory_of(&self, id: JobId) -> Option<&Memory> {
        [self.disk(), self.engine().volatile()].into_iter().find(|memory| memory.has(id))
    }

    pub fn has(&self, id: JobId) -> bool {
        self.memory_of(id).is_some()
    }

    pub fn place_of(&self, id: JobId) -> Option<&Place> {
        self.memory_of(id)?.place_of(id)
    }

    pub fn state(&self, id: u64) -> State {
        self.place_of(JobId(id)).map_or_else(|| self.record(id).state, Place::state)
    }

    pub fn record(&self, id: u64) -> Record {
        let id = JobId(id);
        // An element of an array may be told without being kept.
        let memory = self.memory_of(id).unwrap_or_else(|| self.disk());
        memory.record(id).unwrap_or_else(|| panic!("there is no job {id}"))
    }

    /// What the disk says about the end of a running job.
    pub fn stopping(&self, id: u64) -> Option<StopReason> {
        match self.place_of(JobId(id)) {
            Some(Place::Stopping(reason)) => Some(*reason),
            _ => None,
        }
    }

    /// How far the delivery of a callback is, and how often it was tried.
    pub fn delivery(&self, id: u64) -> (Delivery, u32) {
        let (delivery, attempts, _) =
            self.disk().delivery_of(CallbackId(id)).expect("there is such a callback");
        (delivery, attempts)
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        self.core().next_deadline()
    }

    /// Whether the backing's next order is to write down the start of an attempt that must not run twice.
    pub fn is_claiming(&self) -> bool {
        match self.delayed().orders.front() {
            Some(Order::Change(Change::Move(moved))) => moved.confirm,
            _ => false,
        }
    }

    /// Whether the front half of the engine holds the job.
    pub fn engine_knows(&self, id: JobId) -> bool {
        self.engine().knows(id)
    }

    /// Whether a page of some line is on its way to the machines.
    pub fn is_fetching(&self) -> bool {
        self.delayed().orders.iter().any(|order| matches!(order, Order::Fetch { .. }))
    }

    /// Whether a page of that pool's line is on its way to the machines.
    pub(super) fn is_fetching_of(&self, pool: &str) -> bool {
        self.engine().is_fetching(pool)
    }

    /// Whether others may go before a job with these needs: a limit may have been set for some of its labels,
    /// it needs more than its pool has, or the pool lets others use what is free while it waits for more.
    pub(super) fn may_be_limited(&self, pool: &str, needs: &Needs) -> bool {
        let fits = self.capacities.get(pool).is_none_or(|capacity| capacity.fits(needs));
        let takes_more = needs.slots > 1 || !needs.resources.is_empty();
        let is_passed = takes_more && self.config.pool.get(pool).is_some_and(|pool| pool.backfill);
        is_passed || !fits || needs.labels.iter().any(|label| self.ever_limited.contains(label))
    }

    /// Whether the job is about to leave its line.
    pub(super) fn is_leaving(&self, id: JobId) -> bool {
        let leaves = |order: &Order| match order {
            Order::Change(Change::Move(moved)) => moved.id == id && !matches!(moved.to, Place::Queued { .. }),
            Order::Change(Change::Hold { ids, .. } | Change::Assign { ids, .. }) => ids.contains(&id),
            Order::Change(Change::Edit(edit)) => edit.id == id,
            _ => false,
        };
        self.delayed().orders.iter().any(leaves)
    }

    /// Whether the machines have yet to hear that the job is in its line.
    pub(super) fn is_coming(&self, id: JobId) -> bool {
        let comes = |answer: &Answer| match answer {
            Answer::Released { jobs, .. } | Answer::Resolved { jobs, .. } | Answer::Unfolded { jobs, .. } => {
                jobs.iter().any(|job| job.position.id == id)
            }
            // It was named before it was there, and is put back with this.
            Answer::Withheld { others, .. } => others.iter().any(|&(other, _)| other == id),
            Answer::Assigned { jobs, unfit, others, .. } => {
                let stays = |job: &(Assigned, NotAssigned)| job.0.position.id == id;
                jobs.iter().any(|job| job.position.id == id)
                    || unfit.iter().any(stays)
                    || others.iter().any(|&(other, _)| other == id)
            }
            Answer::Edited { id: edited, .. } => *edited == id,
            Answer::Retried { jobs, .. } => jobs.iter().any(|job| job.released.position.id == id),
            Answer::Woken { jobs, .. } => jobs.iter().any(|ready| ready.id == id),
            Answer::Inserted { first, jobs, .. } => (first.0..first.0 + jobs.len() as u64).contains(&id.0),
            Answer::Ended { next: Some((next, _)), .. } => next.id == id,
            _ => false,
        };
        let is_told = !self.engine().is_volatile(id) || self.lined_up.contains(&id);
        !is_told || self.delayed().coming().any(comes)
    }
}

impl Outside for World {
    fn now(&self) -> Now {
        self.now
    }

    fn perform(&mut self, effect: core::Effect, inbox: &mut Inbox) {
        if !self.begin_effect() {
            return;
        }
        // What the engine still offers goes back to it.
        let is_of_offer = matches!(effect, core::Effect::GiveBack(_));
        assert!(!self.exited || is_of_offer, "{effect:?} after the exit");
        match effect {
            core::Effect::Insert { request, jobs, times, is_urgent } => {
                self.engine_mut().insert(request, jobs, times, is_urgent);
            }
            core::Effect::AskOverdue { term, after, until_us, limit } => {
                self.engine_mut().ask_overdue(term, after, until_us, limit);
            }
            core::Effect::Change(change) => {
                if let Change::Move(moved) = &change
                    && matches!(moved.to, Place::Waiting(Until::Time { .. }))
                    && self.engine().is_volatile(moved.id)
                {
                    self.executed.remove(&moved.id);
                    self.lined_up.remove(&moved.id);
                }
                self.engine_mut().change(change);
            }
            core::Effect::Want { pool, credit, ahead_of } => self.engine_mut().want(&pool, credit, ahead_of),
            core::Effect::SetRoom { label, room } => {
                self.ever_limited.insert(label.clone());
                self.engine_mut().set_room(&label, room);
            }
            core::Effect::SetCapacity { pool, capacity } => {
                self.capacities.insert(pool.clone(), capacity.clone());
                self.engine_mut().set_capacity(&pool, capacity);
            }
            core::Effect::AskOffers { pool } => self.engine_mut().ask_offers(&pool),
            core::Effect::GiveBack(ready) => self.engine_mut().give_back(ready),
            core::Effect::Exit => self.exited = true,
            effect => self.perform_at_worker(effect, inbox),
        }
        self.end_effect();
    }

    fn serve(&mut self, effect: desk::Effect, inbox: &mut Inbox) {
        if self.begin_effect() {
            self.serve_clients(effect, inbox);
            self.end_effect();
        }
    }

    fn said_at_once(&mut self) -> Option<Said> {
        if self.dead {
            return None;
        }
        let said = self.engine_mut().next_at_once()?;
        self.note_said(&said);
        Some(said)
    }

    fn said(&mut self) -> Option<Said> {
        if self.dead {
            return None;
        }
        let wall_us = self.now.wall_us;
        let said = self.engine_mut().next(wall_us);
        self.engine_mut().flush(Vec::new);
        said.iter().for_each(|said| self.note_said(said));
        said
    }
}

impl World {
    fn note_said(&mut self, said: &Said) {
        match said {
            Said::Answer(Answer::Ended { stdin: Some(token), .. }) => self.remove_spooled(token),
            Said::Answer(Answer::Inserted { first, jobs, .. }) => {
                let ids = (first.0..).map(JobId).zip(jobs);
                self.lined_up.extend(ids.filter(|(_, work)| work.volatile).map(|(id, _)| id));
            }
            Said::Answer(Answer::Woken { jobs, .. }) => {
                let volatile = jobs.iter().filter(|ready| ready.work.volatile);
                self.lined_up.extend(volatile.map(|ready| ready.id));
            }
            _ => {}
        }
    }
}

impl World {
    /// False where nothing is done any more.
    fn begin_effect(&mut self) -> bool {
        assert!(!self.is_performing, "an effect is carried out while another is");
        assert!(self.performed < self.turn_began_at + LONGEST_TURN, "a turn does not come to its end");
        self.is_performing = !self.dead;
        self.is_performing
    }

    fn end_effect(&mut self) {
        // At once: should everything die now, the backing has what it was given before.
        self.engine_mut().flush(Vec::new);
        self.is_performing = false;
        self.performed += 1;
        if self.cut_at.is_some_and(|at| self.performed >= at) {
            (self.cut_at, self.dead) = (None, true);
        }
    }
}

fn admission() -> Admission {
    Admission::new(Account::default())
}

fn identity(started_us: i64) -> Daemon {
    Daemon {
        guardian: ProcessId::new(2),
        supervisor: ProcessId::new(3),
        started_us,
        state_dir: "/state".into(),
        database: "/state/poold.db".into(),
        socket: "/run/poold.sock".into(),
        config: None,
        given: Vec::new(),
        max_open_files: 1024,
        swept: Swept::default(),
    }
}
