//! What surrounds the scheduler, simulated: the store's queue of operations, its answers on their way back, and the workers. Nothing
//! happens by itself; a test says what happens next. Whatever would be wrong in any story is checked at each step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::interface::{On, OnCrash, ReadyWhen, State, Tier, Usage};
use pool_proto::{Json, Record, Refusal};

use super::invariants::{Chronicle, assert_transition, subject};
use super::store::MemoryStore;
use crate::job::{
    Answer, Call, CallbackId, Claim, Ended, Environment, Exit, JobId, JobKind, NewCallback, Process, Program,
    RequestId, Retries, SpawnFailure, Stage, StopReason, Tie, Unit, Wear, Work,
};
use crate::scheduler::store_op::{StoreAnswer, StoreOp};
use crate::scheduler::{
    CallbackSettings, Effect, Event, LaneId, Now, PoolSettings, Reply, Scheduler, Settings, SlotId,
};

pub const DEFAULT: LaneId = LaneId::Pool(0);

/// In [`mixed`] settings: a pool with resident programs.
pub const WARM: LaneId = LaneId::Pool(2);

/// A simulated worker.
#[derive(Debug, Clone)]
pub enum Worker {
    Starting,
    Idle,
    /// It has been given an attempt.
    Busy {
        claim: Claim,
        started: bool,
        asked_to_end: bool,
    },
    /// It has been let go.
    Leaving,
    /// Its program is not ready yet.
    Loading,
    /// It is being killed together with its program, whatever that does.
    Condemned {
        claim: Option<Claim>,
    },
}

/// See the module's description.
pub struct World {
    pub scheduler: Scheduler,
    pub store: MemoryStore,
    /// Operations that the store has not carried out yet.
    pub ops: VecDeque<StoreOp>,
    /// Answers that the scheduler has not heard yet.
    pub answers: VecDeque<StoreAnswer>,
    pub workers: BTreeMap<SlotId, (i32, Worker)>,
    /// Those that are to take their places.
    pub successors: BTreeMap<SlotId, (i32, Worker)>,
    /// Workers that have been replaced, or were to replace one, and are not dead yet.
    pub replaced: Vec<(SlotId, i32)>,
    /// What each call has been told, and whether that was all.
    pub told: BTreeMap<RequestId, (Vec<Reply>, bool)>,
    /// Ids that some client knows to be accepted.
    pub accepted: BTreeSet<JobId>,
    /// Ids that some client has been told the end of, and how.
    pub ended: BTreeMap<JobId, State>,
    /// Signals sent to attempts, in order.
    pub signals: Vec<(Claim, Sent)>,
    /// Killed, and not dead yet.
    pub killed_workers: BTreeSet<SlotId>,
    /// Jobs that must not be repeated and have been given to a worker, which may have executed them.
    pub executed: BTreeSet<JobId>,
    pub exited: bool,
    /// What has happened since the first start, crashes included.
    pub seen: Chronicle,
    /// No insertion, and nothing else that changes anything, can be written.
    pub disk_full: bool,
    /// Effects performed since the first start.
    pub performed: usize,
    /// Everything dies right after so many effects have been performed.
    pub cut_at: Option<usize>,
    /// It has died so, and waits for its next start.
    pub dead: bool,
    pub settings: Settings,
    pub now: Now,
    next_call: u64,
    next_pid: i32,
}

/// What an attempt is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Signal(i32),
    Terminate,
    Kill,
}

pub fn settings(workers: u32) -> Settings {
    Settings {
        pools: vec![pool("default", workers), pool("other", 1)],
        callbacks: CallbackSettings {
            workers: 1,
            attempts: 3,
            backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(60),
        },
        crash_limit: 3,
        stop_grace: Duration::from_secs(5),
        max_queued: 1_000,
    }
}

/// The same with a third pool, of programs that are worn after three calls.
pub fn mixed(workers: u32) -> Settings {
    let mut settings = settings(workers);
    settings.pools.push(PoolSettings { program: Some(Arc::new(program())), ..pool("warm", workers) });
    settings
}

pub fn program() -> Program {
    Program {
        command: vec!["program".to_owned()],
        cwd: "/".to_owned(),
        environment: Arc::new(Environment::default()),
        ready: ReadyWhen::Started,
        start_timeout: Duration::from_secs(30),
        wear: Wear { max_calls: Some(3), ..Wear::default() },
    }
}

/// A call for the pool "warm".
pub fn call() -> Work {
    let params = Some(Json::parse("[7]").unwrap());
    Work {
        pool: Arc::from("warm"),
        kind: JobKind::Call(Call { method: "square".to_owned(), params }),
        ..work()
    }
}

pub fn pool(name: &str, workers: u32) -> PoolSettings {
    PoolSettings { name: Arc::from(name), workers, program: None }
}

/// Work for the default pool.
pub fn work() -> Work {
    Work {
        pool: Arc::from("default"),
        name: None,
        kind: JobKind::Exec(vec!["true".to_owned()]),
        volatile: false,
        cwd: "/".to_owned(),
        environment: Arc::new(Environment::default()),
        stdin: None,
        timeout: None,
        kill_after: Duration::from_secs(10),
        tie: None,
        on_crash: OnCrash::Requeue,
        priority: 0,
        retries: Retries::NONE,
        key: None,
        callbacks: Vec::new(),
    }
}

pub fn with_callback(on: On) -> Work {
    Work { callbacks: vec![NewCallback { on, command: "callback".to_owned() }], ..work() }
}

pub const EXITED: Exit = Exit::Code(0);

impl World {
    pub fn new(settings: Settings) -> Self {
        let now = Now { monotonic: Duration::from_secs(1), wall_us: 1_000_000_000 };
        let (mut world, effects) = Self::start(settings, MemoryStore::default(), now);
        world.perform(effects);
        world
    }

    /// A world of `workers` in the default pool, all of them up.
    pub fn up(workers: u32) -> Self {
        let mut world = Self::new(settings(workers));
        world.settle();
        world
    }

    fn start(settings: Settings, store: MemoryStore, now: Now) -> (Self, Vec<Effect>) {
        let (scheduler, effects) = Scheduler::restore(settings.clone(), store.restored(), now);
        let world = Self {
            scheduler,
            store,
            ops: VecDeque::new(),
            answers: VecDeque::new(),
            workers: BTreeMap::new(),
            successors: BTreeMap::new(),
            replaced: Vec::new(),
            told: BTreeMap::new(),
            accepted: BTreeSet::new(),
            ended: BTreeMap::new(),
            signals: Vec::new(),
            killed_workers: BTreeSet::new(),
            executed: BTreeSet::new(),
            exited: false,
            seen: Chronicle::default(),
            disk_full: false,
            performed: 0,
            cut_at: None,
            dead: false,
            settings,
            now,
            next_call: 1,
            next_pid: 100,
        };
        (world, effects)
    }

    /// SIGKILL for everything, and a new start: what the store had not carried out is gone, and so are calls and workers.
    pub fn crash(&mut self) {
        for id in self.may_have_died() {
            self.seen.died(id);
        }
        let store = std::mem::take(&mut self.store);
        let (accepted, ended) = (std::mem::take(&mut self.accepted), std::mem::take(&mut self.ended));
        let (next_call, executed) = (self.next_call, std::mem::take(&mut self.executed));
        let seen = std::mem::take(&mut self.seen);
        let (performed, disk_full) = (self.performed, self.disk_full);
        let (world, effects) = Self::start(self.settings.clone(), store, self.now);
        *self = Self { accepted, ended, next_call, executed, seen, performed, disk_full, ..world };
        self.perform(effects);
        if disk_full {
            self.handle(Event::StoreFailing(true));
        }
    }

    /// Those whose attempt a crash takes along: a worker has it, or the store believes so.
    fn may_have_died(&self) -> BTreeSet<JobId> {
        let is_active = |state: State| matches!(state, State::Running | State::Stopping);
        let stored = self.store.jobs.iter().filter(|(_, row)| is_active(row.state)).map(|(&id, _)| id);
        stored.chain(self.running_jobs().into_iter().map(JobId)).collect()
    }

    /// After [`cut_at`](Self::cut_at) has come true: the store has still carried out the next `written` operations, and all starts anew.
    pub fn bury(&mut self, written: usize) {
        self.dead = false;
        for _ in 0..written {
            self.store_step();
        }
        self.crash();
    }

    // ---- what happens ----

    pub fn call(&mut self) -> RequestId {
        self.next_call += 1;
        let call = RequestId(self.next_call);
        self.told.insert(call, (Vec::new(), false));
        call
    }

    pub fn handle(&mut self, event: Event) {
        if self.dead {
            return;
        }
        let effects = self.scheduler.handle(self.now, event);
        self.perform(effects);
    }

    /// The disk is full from now on, or has room again.
    pub fn set_disk_full(&mut self, full: bool) {
        if std::mem::replace(&mut self.disk_full, full) != full && !self.exited {
            self.handle(Event::StoreFailing(full));
        }
    }

    /// Submits, and waits for the ends in few words.
    pub fn submit_batch(&mut self, jobs: Vec<Work>) -> RequestId {
        let call = self.call();
        self.handle(Event::SubmitBatch { call, jobs: jobs.into_iter().map(Arc::new).collect() });
        call
    }

    /// Submits without waiting for the ends.
    pub fn submit(&mut self, jobs: Vec<Work>) -> RequestId {
        let call = self.call();
        self.handle(Event::Submit { call, jobs: jobs.into_iter().map(Arc::new).collect(), attached: None });
        call
    }

    /// Somebody lets a held job run again.
    pub fn release(&mut self, id: u64) -> RequestId {
        let call = self.call();
        self.executed.remove(&JobId(id));
        self.handle(Event::Release { call, ids: vec![JobId(id)] });
        call
    }

    /// The store carries out its next operation; false when there is none that it can carry out.
    pub fn store_step(&mut self) -> bool {
        if self.dead {
            return false;
        }
        let next = if self.disk_full { self.needs_no_room() } else { Some(0) };
        let Some(op) = next.and_then(|index| self.ops.remove(index)) else { return false };
        if let StoreOp::Insert { call, .. } = op
            && self.disk_full
        {
            self.answers.push_back(StoreAnswer::Refused {
                call,
                refusal: Refusal::StoreFailed { reason: "full".to_owned() },
            });
            return true;
        }
        match op {
            StoreOp::Claim { id, .. } => self.seen.tried(id),
            // It did not die, it failed, and is to be run again.
            StoreOp::AttemptFailed { id, .. } => _ = self.executed.remove(&id),
            _ => {}
        }
        let has_started = matches!(op, StoreOp::Finish { start: Some(_), .. });
        let state = |id| Some(if has_started { State::Running } else { self.store.jobs.get(&id)?.state });
        let before = subject(&op).and_then(|id| Some((id, state(id)?)));
        self.answers.extend(self.store.apply(op));
        if let Some((id, before)) = before
            && self.store.state(id) != before
        {
            assert_transition(id, before, self.store.state(id));
        }
        true
    }

    /// On a full disk: the first operation that is refused or only reads. Those that change something stay, in their order, and so does
    /// a look into a queue that one of them is to change.
    fn needs_no_room(&self) -> Option<usize> {
        let is_ahead = |index: usize| self.ops.iter().take(index).any(StoreOp::enters_queue);
        let fits = |(index, op): (usize, &StoreOp)| match op {
            StoreOp::Insert { .. } | StoreOp::Get { .. } => true,
            StoreOp::Fetch { .. } => !is_ahead(index),
            _ => false,
        };
        self.ops.iter().enumerate().position(fits)
    }

    /// The disk is full: the store refuses the next operation, if it is an insertion.
    pub fn store_refuses(&mut self) {
        if let Some(StoreOp::Insert { .. }) = self.ops.front()
            && let Some(StoreOp::Insert { call, .. }) = self.ops.pop_front()
        {
            self.answers.push_back(StoreAnswer::Refused {
                call,
                refusal: Refusal::StoreFailed { reason: "full".to_owned() },
            });
        }
    }

    /// The scheduler hears the store's next answer.
    pub fn answer_step(&mut self) -> bool {
        if self.dead {
            return false;
        }
        let Some(answer) = self.answers.pop_front() else { return false };
        self.handle(Event::Store(answer));
        true
    }

    /// Store and starting workers do all they can; attempts go on as they are, and time stands still.
    pub fn settle(&mut self) {
        loop {
            let is_changing = |worker: &Worker| !matches!(worker, Worker::Idle | Worker::Busy { .. });
            let changing = self.workers.iter().find(|(_, (_, worker))| is_changing(worker));
            if let Some((&slot, (_, worker))) = changing {
                match worker {
                    Worker::Starting => self.worker_up(slot),
                    Worker::Loading => self.program_ready(slot),
                    _ => self.worker_lost(slot),
                }
            } else if let Some(&slot) =
                self.successors.iter().find(|(_, (_, worker))| is_changing(worker)).map(|(slot, _)| slot)
            {
                self.successor_steps(slot);
            } else if !self.replaced.is_empty() {
                self.replaced_lost(0);
            } else if !self.store_step() && !self.answer_step() {
                return;
            }
        }
    }

    pub fn worker_up(&mut self, slot: SlotId) {
        let (pid, worker) = self.workers.get_mut(&slot).expect("there is such a worker");
        *worker = if slot.lane == WARM { Worker::Loading } else { Worker::Idle };
        let pid = *pid;
        self.handle(Event::WorkerUp { slot, pid });
    }

    /// A worker's program takes calls.
    pub fn program_ready(&mut self, slot: SlotId) {
        let (pid, worker) = self.workers.get_mut(&slot).expect("there is such a worker");
        *worker = Worker::Idle;
        let (worker, process) = (*pid, Process { pid: *pid + 1000, start_ticks: None });
        self.handle(Event::ProgramReady { slot, worker, process });
    }

    /// A successor comes a step further: started, then ready.
    pub fn successor_steps(&mut self, slot: SlotId) {
        let (pid, worker) = self.successors.get_mut(&slot).expect("there is a successor");
        let pid = *pid;
        if let Worker::Starting = worker {
            *worker = Worker::Loading;
            self.handle(Event::SuccessorUp { slot, pid });
        } else {
            *worker = Worker::Idle;
            self.handle(Event::ProgramReady {
                slot,
                worker: pid,
                process: Process { pid: pid + 1000, start_ticks: None },
            });
        }
    }

    /// A successor dies, or cannot be started.
    pub fn successor_lost(&mut self, slot: SlotId) {
        match self.successors.remove(&slot).expect("there is a successor") {
            (_, Worker::Starting) => {
                self.handle(Event::SuccessorFailed { slot, reason: "no room".to_owned() })
            }
            (pid, _) => {
                self.handle(Event::WorkerLost { slot, pid, how: "was killed".to_owned(), unsent: false })
            }
        }
    }

    /// One that has no place any more dies.
    pub fn replaced_lost(&mut self, which: usize) {
        let (slot, pid) = self.replaced.remove(which);
        self.handle(Event::WorkerLost { slot, pid, how: "ended with code 0".to_owned(), unsent: false });
    }

    /// A program answers its call.
    pub fn answered(&mut self, slot: SlotId, result: Result<&str, &str>) {
        let claim = self.vacate(slot);
        let json = |text| Json::parse(text).expect("it is JSON");
        let result = result.map(json).map_err(json);
        let answer = Answer { result, stderr_bytes: 0, ended_us: self.now.wall_us, rss_bytes: None };
        self.handle(Event::Answered { slot, claim, answer });
    }

    /// A program breaks the protocol: `during` the call that it has, or for an earlier one.
    pub fn misbehaves(&mut self, slot: SlotId, during: bool) {
        let (worker, claim) = match self.workers[&slot] {
            (pid, Worker::Busy { claim, .. }) => (pid, Some(claim)),
            (pid, _) => (pid, None),
        };
        self.handle(Event::Misbehaved {
            slot,
            worker,
            during: claim.filter(|_| during),
            how: "it lies".to_owned(),
        });
    }

    /// A worker dies, and its attempt with it.
    pub fn worker_lost(&mut self, slot: SlotId) {
        self.worker_died(slot, false);
    }

    /// A worker dies; `unsent`: before it got its attempt.
    pub fn worker_died(&mut self, slot: SlotId, unsent: bool) {
        self.killed_workers.remove(&slot);
        let (pid, worker) = self.workers.remove(&slot).expect("there is such a worker");
        match worker {
            Worker::Starting => self.handle(Event::WorkerFailed { slot, reason: "no room".to_owned() }),
            Worker::Idle
            | Worker::Busy { .. }
            | Worker::Leaving
            | Worker::Loading
            | Worker::Condemned { .. } => {
                let unsent = unsent && matches!(worker, Worker::Busy { started: false, .. });
                if let (true, Worker::Busy { claim: Claim { unit: Unit::Job(id), .. }, .. }) =
                    (unsent, &worker)
                {
                    self.executed.remove(id);
                } else if let Worker::Busy { claim: Claim { unit: Unit::Job(id), .. }, .. }
                | Worker::Condemned { claim: Some(Claim { unit: Unit::Job(id), .. }) } = worker
                {
                    self.seen.died(id);
                }
                self.handle(Event::WorkerLost { slot, pid, how: "was killed".to_owned(), unsent });
            }
        }
    }

    /// The command of an attempt is executed.
    pub fn attempt_started(&mut self, slot: SlotId) {
        let (pid, claim) = self.busy(slot, |started, _| *started = true);
        if slot.lane == WARM {
            return; // Nobody tells of the start of a call.
        }
        let started_us = self.now.wall_us;
        let process = Process { pid: pid + 1000, start_ticks: None };
        self.handle(Event::Started { slot, claim, process, started_us });
    }

    /// An attempt ends; it starts before, if it has not.
    pub fn attempt_ended(&mut self, slot: SlotId, exit: Exit) {
        if slot.lane == WARM {
            return match exit {
                Exit::Code(0) => self.answered(slot, Ok("49")),
                Exit::Code(_) => self.answered(slot, Err("{}")),
                Exit::Signal { .. } => self.worker_lost(slot),
            };
        }
        if let Some((_, Worker::Busy { started: false, .. })) = self.workers.get(&slot) {
            self.attempt_started(slot);
        }
        let claim = self.vacate(slot);
        let usage = Usage::default();
        let ended = Ended {
            exit,
            usage,
            stdout_bytes: 0,
            stderr_bytes: 0,
            ended_us: self.now.wall_us,
            verdict: None,
        };
        self.handle(Event::Ended { slot, claim, ended });
    }

    /// An attempt cannot be started.
    pub fn attempt_failed(&mut self, slot: SlotId, stage: Stage, errno: i32) {
        if slot.lane == WARM {
            return self.misbehaves(slot, stage == Stage::Output);
        }
        let claim = self.vacate(slot);
        if let Unit::Job(id) = claim.unit {
            self.executed.remove(&id);
        }
        self.handle(Event::SpawnFailed { slot, claim, failure: SpawnFailure { stage, errno } });
    }

    fn vacate(&mut self, slot: SlotId) -> Claim {
        let (_, claim) = self.busy(slot, |_, _| ());
        self.workers.get_mut(&slot).expect("it is busy").1 = Worker::Idle;
        claim
    }

    fn busy(&mut self, slot: SlotId, change: impl FnOnce(&mut bool, &mut bool)) -> (i32, Claim) {
        match self.workers.get_mut(&slot) {
            Some((pid, Worker::Busy { claim, started, asked_to_end })) => {
                change(started, asked_to_end);
                (*pid, *claim)
            }
            other => panic!("{slot:?} is not busy: {other:?}"),
        }
    }

    pub fn advance(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall_us += time.as_micros() as i64;
        if self.scheduler.next_deadline().is_some_and(|at| at <= self.now.monotonic) {
            self.handle(Event::Tick);
        }
        let next = self.scheduler.next_deadline().filter(|_| !self.dead);
        assert!(next.is_none_or(|at| at > self.now.monotonic), "a deadline that has passed stands: {next:?}");
    }

    // ---- what is to be seen ----

    /// Slots with an attempt, and which.
    pub fn running(&self) -> Vec<(SlotId, Claim)> {
        let busy = |(&slot, (_, worker)): (&SlotId, &(i32, Worker))| match worker {
            Worker::Busy { claim, .. } => Some((slot, *claim)),
            Worker::Starting
            | Worker::Idle
            | Worker::Leaving
            | Worker::Loading
            | Worker::Condemned { .. } => None,
        };
        self.workers.iter().filter_map(busy).collect()
    }

    /// Ids of the jobs that run, in the order of the slots.
    pub fn running_jobs(&self) -> Vec<u64> {
        let job = |(_, claim): (SlotId, Claim)| match claim.unit {
            Unit::Job(id) => Some(id.0),
            Unit::Callback(_) => None,
        };
        self.running().into_iter().filter_map(job).collect()
    }

    pub fn slot_of(&self, unit: Unit) -> SlotId {
        let (slot, _) = self.running().into_iter().find(|(_, claim)| claim.unit == unit).expect("it runs");
        slot
    }

    pub fn state(&self, id: u64) -> State {
        self.store.state(JobId(id))
    }

    pub fn replies(&self, call: RequestId) -> &[Reply] {
        &self.told[&call].0
    }

    pub fn is_answered(&self, call: RequestId) -> bool {
        self.told[&call].1
    }

    /// Nothing is left to do, and nothing is held for it.
    pub fn assert_idle(&self) {
        assert_eq!(self.scheduler.next_deadline(), None, "an idle scheduler wants no wake-up");
        assert_eq!(self.store.count_held_elsewhere(), 0, "and holds no work");
        for pool in self.scheduler.pools(|_| (Tier::Subreaper, None)) {
            assert_eq!((pool.queued, pool.running), (0, 0), "{pool:?}");
        }
        let open: Vec<&RequestId> =
            self.told.iter().filter(|(_, (_, last))| !last).map(|(call, _)| call).collect();
        assert!(open.is_empty(), "calls {open:?} wait for nothing");
    }

    // ---- effects ----

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            assert!(!self.exited, "{effect:?} after the exit");
            self.perform_one(effect);
            self.performed += 1;
            if self.cut_at.is_some_and(|at| self.performed >= at) {
                (self.cut_at, self.dead) = (None, true);
                return;
            }
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::Store(op) => self.ops.push_back(op),
            Effect::SpawnWorker { slot } => {
                self.next_pid += 1;
                let before = self.workers.insert(slot, (self.next_pid, Worker::Starting));
                assert!(before.is_none(), "{slot:?} gets a second worker beside {before:?}");
            }
            Effect::RetireWorker { slot } => {
                let (_, worker) = self.workers.get_mut(&slot).expect("a worker that is there");
                assert!(
                    matches!(worker, Worker::Idle | Worker::Loading),
                    "{slot:?} is let go while {worker:?}"
                );
                *worker = Worker::Leaving;
            }
            Effect::Run { slot, claim, work } => {
                self.run(slot, claim, work.on_crash);
            }
            Effect::RunCallback { slot, run } => {
                assert_eq!(slot.lane, LaneId::Callbacks);
                self.seen.called(run.id);
                self.run(
                    slot,
                    Claim { unit: Unit::Callback(run.id), attempt: run.attempt },
                    OnCrash::Requeue,
                );
            }
            Effect::Signal { slot, claim, signal } => self.send(slot, claim, Sent::Signal(signal)),
            Effect::Terminate { slot, claim } => self.send(slot, claim, Sent::Terminate),
            Effect::Kill { slot, claim } => self.send(slot, claim, Sent::Kill),
            Effect::SpawnSuccessor { slot } => {
                self.next_pid += 1;
                let before = self.successors.insert(slot, (self.next_pid, Worker::Starting));
                assert!(before.is_none(), "{slot:?} gets a second successor beside {before:?}");
            }
            Effect::SwapWorker { slot } => {
                if let Some((pid, worker)) = self.workers.remove(&slot) {
                    assert!(matches!(worker, Worker::Idle), "{slot:?} is replaced while {worker:?}");
                    self.replaced.push((slot, pid));
                }
                let successor = self.successors.remove(&slot).expect("there is a successor");
                self.workers.insert(slot, successor);
            }
            Effect::KillSuccessor { slot } => {
                let (pid, _) = self.successors.remove(&slot).expect("there is a successor");
                self.replaced.push((slot, pid));
            }
            Effect::KillWorker { slot } if slot.lane == WARM => {
                let (_, worker) = self.workers.get_mut(&slot).expect("a worker that is there");
                let claim = match worker {
                    // It has been misbehaving, and another call's fate hangs on it.
                    Worker::Busy { claim, .. } => Some(*claim),
                    Worker::Condemned { claim } => *claim,
                    _ => None,
                };
                *worker = Worker::Condemned { claim };
            }
            Effect::KillWorker { slot } => {
                assert!(
                    matches!(self.workers[&slot].1, Worker::Busy { .. }),
                    "{slot:?} is killed and has nothing to do"
                );
                self.killed_workers.insert(slot);
            }
            Effect::Reply { call, reply, last } => self.hear(call, reply, last),
            Effect::Exit => self.exited = true,
        }
    }

    fn run(&mut self, slot: SlotId, claim: Claim, on_crash: OnCrash) {
        assert!(!self.running().iter().any(|(_, other)| other.unit == claim.unit), "{claim} runs already");
        if let Unit::Job(id) = claim.unit {
            let row = self.store.jobs.get(&id).unwrap_or_else(|| panic!("{claim} runs before it is on disk"));
            assert!(!row.state.is_terminal(), "{claim} runs after its end");
            let others =
                self.store.jobs.iter().filter(|&(&other, row)| other != id && !row.state.is_terminal());
            let mut keys = others.filter_map(|(_, row)| row.key.as_ref()).map(|key| &key.text);
            assert!(
                row.key.as_ref().is_none_or(|key| keys.all(|other| *other != key.text)),
                "{claim} has another one's key"
            );
            if on_crash == OnCrash::Requeue {
                self.seen.tried(id);
                assert!(claim.attempt > row.attempt, "{claim} runs after attempt {}", row.attempt);
            } else {
                assert_eq!(
                    (claim.attempt, row.state),
                    (row.attempt, State::Running),
                    "{claim} runs before that is on disk"
                );
                assert!(self.executed.insert(id), "{claim} runs a job again that must not be repeated");
                return self.occupy(slot, claim);
            }
            self.assert_first_in_line(id, &row.work.pool);
        }
        self.occupy(slot, claim);
    }

    fn occupy(&mut self, slot: SlotId, claim: Claim) {
        let (_, worker) = self.workers.get_mut(&slot).expect("a worker that is there");
        assert!(matches!(worker, Worker::Idle), "{claim} is given to {worker:?}");
        *worker = Worker::Busy { claim, started: false, asked_to_end: false };
    }

    /// No job that came before it waits in the same pool, unless the scheduler is about to end it.
    fn assert_first_in_line(&self, id: JobId, pool: &Arc<str>) {
        let is_leaving = |other: JobId| {
            self.ops.iter().any(|op| match op {
                StoreOp::Finish { id, .. }
                | StoreOp::FinishQueued { id, .. }
                | StoreOp::AttemptFailed { id, .. }
                | StoreOp::Start { id, .. }
                | StoreOp::Claim { id, .. } => *id == other,
                _ => false,
            })
        };
        // The scheduler has yet to hear that it is in the queue again, or it waits for its client.
        let is_away = |other: JobId| {
            let is_told = |answer: &StoreAnswer| match answer {
                StoreAnswer::Released { jobs, .. } | StoreAnswer::Due { jobs, .. } => {
                    jobs.iter().any(|ready| ready.id == other)
                }
                StoreAnswer::Inserted { first, jobs, .. } => {
                    (first.0..first.0 + jobs.len() as u64).contains(&other.0)
                }
                _ => false,
            };
            self.answers.iter().any(is_told) || self.store.jobs[&other].work.tie == Some(Tie::Client)
        };
        let is_of = |worker: &Worker, other: JobId| match worker {
            Worker::Busy { claim, .. } | Worker::Condemned { claim: Some(claim) } => {
                claim.unit == Unit::Job(other)
            }
            _ => false,
        };
        let runs = |other: JobId| self.workers.values().any(|(_, worker)| is_of(worker, other));
        let queued = self.store.queued_before(pool, id);
        let overtaken: Vec<JobId> =
            queued.filter(|&other| !is_leaving(other) && !is_away(other) && !runs(other)).collect();
        assert!(overtaken.is_empty(), "job {id} overtakes {overtaken:?}");
    }

    fn send(&mut self, slot: SlotId, claim: Claim, sent: Sent) {
        let mut is_meant = false;
        if let Some((_, Worker::Busy { claim: current, asked_to_end, .. })) = self.workers.get_mut(&slot) {
            is_meant = *current == claim;
            *asked_to_end |= is_meant && sent != Sent::Signal(0);
        }
        if let Some((_, Worker::Condemned { claim: current })) = self.workers.get(&slot) {
            is_meant = *current == Some(claim);
        }
        assert!(is_meant, "{sent:?} is sent to {claim}, which {slot:?} does not run");
        self.signals.push((claim, sent));
    }

    fn hear(&mut self, call: RequestId, reply: Reply, last: bool) {
        match &reply {
            Reply::Accepted { first, count, existing } => {
                let mut ids: Vec<JobId> = (first.0..).take(*count).map(JobId).collect();
                existing.iter().for_each(|&(place, id)| ids[place] = id);
                let mut new = ids.iter().filter(|id| !existing.iter().any(|(_, known)| known == *id));
                let last = self.accepted.last();
                assert!(
                    new.all(|id| last.is_none_or(|last| last < id)),
                    "ids from {first} are given out after {last:?}"
                );
                for id in ids {
                    assert!(self.store.jobs.contains_key(&id), "job {id} is accepted before it is on disk");
                    self.accepted.insert(id);
                }
            }
            Reply::Ended(record) => self.hear_end(record),
            Reply::Canceled(records) => records.iter().for_each(|record| self.hear_end(record)),
            Reply::Brief(brief) => {
                let id = JobId(brief.id);
                assert_eq!(self.store.state(id), brief.state, "an end is told as it is on disk");
                let before = self.ended.insert(id, brief.state);
                assert!(
                    before.is_none_or(|state| state == brief.state),
                    "job {id} has ended twice: {before:?}, {brief:?}"
                );
            }
            Reply::Started { .. } | Reply::Progress { .. } | Reply::Done | Reply::Refused(_) => {}
        }
        // A call whose client has gone is unknown here.
        if let Some((replies, over)) = self.told.get_mut(&call) {
            assert!(!*over, "{reply:?} after the last reply to {call}");
            if let Reply::Started { id, .. } = reply {
                let has_ended =
                    |earlier: &Reply| matches!(earlier, Reply::Ended(record) if record.id == id.0);
                assert!(!replies.iter().any(has_ended), "{call} is told that job {id} starts after its end");
            }
            replies.push(reply);
            *over = last;
        }
    }

    fn hear_end(&mut self, record: &Record) {
        let id = JobId(record.id);
        assert!(record.state.is_terminal(), "{record:?}");
        assert_eq!(self.store.state(id), record.state, "an end is told as it is on disk");
        let before = self.ended.insert(id, record.state);
        assert!(
            before.is_none_or(|state| state == record.state),
            "job {id} has ended twice: {before:?}, {:?}",
            record.state
        );
    }
}

/// `count` new jobs from `first` on are accepted.
pub fn accepted(first: u64, count: usize) -> Reply {
    Reply::Accepted { first: JobId(first), count, existing: Vec::new() }
}

/// Refusals as a test names them.
pub fn refused(reply: Option<&Reply>) -> &Refusal {
    match reply {
        Some(Reply::Refused(refusal)) => refusal,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

/// The outbox's next callback runs and ends.
pub fn run_callback(world: &mut World, id: u64, exit: Exit) {
    world.settle();
    let slot = world.slot_of(Unit::Callback(CallbackId(id)));
    world.attempt_ended(slot, exit);
    world.settle();
}

/// For stories about attempts that are being ended.
pub fn sent_to(world: &World, id: u64) -> Vec<Sent> {
    let is_meant = |(claim, sent): &(Claim, Sent)| (claim.unit == Unit::Job(JobId(id))).then_some(*sent);
    world.signals.iter().filter_map(is_meant).collect()
}

/// What the store has written down about the end of a running job.
pub fn stopping(world: &World, id: u64) -> Option<StopReason> {
    world.store.jobs[&JobId(id)].stopping
}
