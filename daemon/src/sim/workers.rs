//! The simulated workers: what they are told, and what they do when a test says so.

use std::time::Duration;

use pool_proto::Json;
use pool_proto::nouns::{OnCrash, Usage};

use super::specs::EXITED;
use super::world::World;
use crate::core::{self, Event, LaneId, SeatOf, SlotId};
use crate::job::{
    Answered, Claim, Ended, Exit, JobId, Place, Process, ProcessId, SpawnFailure, Stage, Steer, Tie, Unit,
    Work, micros,
};
use crate::shell::turn::{self, Inbox};

/// A simulated worker.
#[derive(Debug, Clone)]
pub enum Worker {
    Starting,
    Idle,
    /// It has been given an attempt.
    Busy {
        claim: Claim,
        started: bool,
    },
    /// It has been let go.
    Leaving,
    /// Its program is not ready yet.
    Loading,
    /// It is dead, and something that it ran may be left. `unsent`: it never got the attempt that it was
    /// handed last.
    Dying {
        claim: Option<Claim>,
        unsent: bool,
    },
    /// It is being killed together with its program, whatever that does.
    Condemned {
        claim: Option<Claim>,
    },
}

/// What an attempt is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Signal(i32),
    Steer(Steer),
    Freeze,
    Thaw,
    Terminate,
    Kill,
}

/// The process that a worker has started.
fn process_of(worker: ProcessId) -> Process {
    Process { pid: ProcessId::new(worker.get() + 1000), start_ticks: None }
}

impl World {
    // ---- what workers do ----

    pub fn worker_up(&mut self, slot: SlotId) {
        let event = self.come_up(slot);
        self.handle(event);
    }

    fn come_up(&mut self, slot: SlotId) -> Event {
        let is_warm = self.is_warm(slot);
        let (pid, worker) = self.workers.get_mut(&slot).expect("there is such a worker");
        *worker = if is_warm { Worker::Loading } else { Worker::Idle };
        Event::WorkerUp { slot, pid: *pid }
    }

    /// A worker's program takes calls.
    pub fn program_ready(&mut self, slot: SlotId) {
        let (pid, worker) = self.workers.get_mut(&slot).expect("there is such a worker");
        *worker = Worker::Idle;
        let pid = *pid;
        self.handle(Event::ProgramReady { slot, worker: pid, process: process_of(pid) });
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
            self.handle(Event::ProgramReady { slot, worker: pid, process: process_of(pid) });
        }
    }

    /// A successor dies, or cannot be started.
    pub fn successor_lost(&mut self, slot: SlotId) {
        match self.successors.remove(&slot).expect("there is a successor") {
            (_, Worker::Starting) => {
                self.handle(Event::SuccessorFailed { slot, reason: "no room".to_owned() });
            }
            (pid, _) => {
                self.handle(Event::WorkerLost { slot, pid, how: "was killed".to_owned(), unsent: false });
            }
        }
    }

    /// A successor dies, and something that it ran is left for now.
    pub fn successor_dying(&mut self, slot: SlotId) {
        let (pid, _) = self.successors.remove(&slot).expect("there is a successor");
        self.replaced.push((slot, pid));
        self.handle(Event::WorkerDying { slot, pid });
    }

    /// A successor breaks the protocol.
    pub fn successor_misbehaves(&mut self, slot: SlotId) {
        let (worker, _) = self.successors[&slot];
        self.handle(Event::Misbehaved { slot, worker, during: None, how: "it lies".to_owned() });
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
        let answered = Answered { result, stderr_bytes: 0, rss_bytes: None };
        self.handle(Event::Answered { slot, claim, answered });
    }

    /// A program breaks the protocol: `during` the call that it has, or for an earlier one.
    pub fn misbehaves(&mut self, slot: SlotId, during: bool) {
        let (worker, claim) = match self.workers[&slot] {
            (pid, Worker::Busy { claim, .. }) => (pid, Some(claim)),
            (pid, _) => (pid, None),
        };
        let during = claim.filter(|_| during);
        self.handle(Event::Misbehaved { slot, worker, during, how: "it lies".to_owned() });
    }

    /// A worker dies, and its attempt with it.
    pub fn worker_lost(&mut self, slot: SlotId) {
        self.worker_died(slot, false);
    }

    /// A worker dies; `unsent`: before it got its attempt.
    pub fn worker_died(&mut self, slot: SlotId, unsent: bool) {
        if let Some(event) = self.lose_worker(slot, unsent) {
            self.handle(event);
        }
    }

    pub(super) fn lose_worker(&mut self, slot: SlotId, unsent: bool) -> Option<Event> {
        self.killed_workers.remove(&slot);
        self.ahead.remove(&slot);
        let (pid, worker) = self.workers.remove(&slot)?;
        if let Worker::Starting = worker {
            return Some(Event::WorkerFailed { slot, reason: "no room".to_owned() });
        }

        let unsent = match worker {
            Worker::Busy { started, .. } => unsent && !started,
            Worker::Dying { unsent, .. } => unsent,
            Worker::Starting
            | Worker::Idle
            | Worker::Leaving
            | Worker::Loading
            | Worker::Condemned { .. } => false,
        };
        match worker {
            Worker::Busy { claim: Claim { unit: Unit::Job(id), .. }, .. } if unsent => {
                self.executed.remove(&id);
            }
            Worker::Busy { claim: Claim { unit: Unit::Job(id), .. }, .. }
            | Worker::Condemned { claim: Some(Claim { unit: Unit::Job(id), .. }) }
            | Worker::Dying { claim: Some(Claim { unit: Unit::Job(id), .. }), unsent: false } => {
                self.seen.died(id);
            }
            Worker::Starting
            | Worker::Idle
            | Worker::Busy { .. }
            | Worker::Leaving
            | Worker::Loading
            | Worker::Dying { .. }
            | Worker::Condemned { .. } => {}
        }
        Some(Event::WorkerLost { slot, pid, how: "was killed".to_owned(), unsent })
    }

    /// A worker dies, and something that it ran is left for now.
    pub fn worker_dying(&mut self, slot: SlotId) {
        let (pid, worker) = self.workers.get_mut(&slot).expect("there is such a worker");
        let claim = match worker {
            Worker::Busy { claim, .. } => Some(*claim),
            _ => None,
        };
        *worker = Worker::Dying { claim, unsent: false };
        let pid = *pid;
        self.handle(Event::WorkerDying { slot, pid });
    }

    /// The command of an attempt is executed.
    pub fn attempt_started(&mut self, slot: SlotId) {
        let (pid, claim) = self.busy(slot, |started| *started = true);
        if self.is_warm(slot) {
            return; // Nobody tells of the start of a call.
        }
        let started_us = self.now.wall_us;
        self.handle(Event::Started {
            slot,
            claim,
            process: process_of(pid),
            started_us,
            memory_limiter: None,
        });
    }

    /// An attempt is found idle; it starts before, if it has not.
    pub fn attempt_idle(&mut self, slot: SlotId) {
        if self.is_warm(slot) {
            return; // A call has no process of its own.
        }
        if let Some((_, Worker::Busy { started: false, .. })) = self.workers.get(&slot) {
            self.attempt_started(slot);
        }
        let (_, claim) = self.busy(slot, |_| ());
        self.handle(Event::Idle { slot, claim });
    }

    /// An attempt ends; it starts before, if it has not.
    pub fn attempt_ended(&mut self, slot: SlotId, exit: Exit) {
        if self.is_warm(slot) {
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
        let ended = Ended {
            exit,
            usage: Usage::default(),
            stdout_bytes: 0,
            disk_bytes: 0,
            stderr_bytes: 0,
            ended_us: self.now.wall_us,
            ended_since_boot_us: micros(self.now.monotonic).unsigned_abs(),
            verdict: None,
        };
        self.handle(Event::Ended { slot, claim, ended });
    }

    /// An attempt cannot be started.
    pub fn attempt_failed(&mut self, slot: SlotId, stage: Stage, errno: i32) {
        if self.is_warm(slot) {
            return self.misbehaves(slot, stage == Stage::Output);
        }
        let claim = self.vacate(slot);
        if let Unit::Job(id) = claim.unit {
            self.executed.remove(&id);
        }
        self.handle(Event::SpawnFailed { slot, claim, failure: SpawnFailure { stage, errno } });
    }

    fn vacate(&mut self, slot: SlotId) -> Claim {
        let (_, claim) = self.busy(slot, |_| ());
        let next = self.ahead.remove(&slot);
        if let Some(Claim { unit: Unit::Job(id), .. }) = next {
            self.seen.tried(id);
            self.check_pause(id);
        }
        self.workers.get_mut(&slot).expect("it is busy").1 =
            next.map_or(Worker::Idle, |claim| Worker::Busy { claim, started: false });
        claim
    }

    /// A worker gives back what it has ahead.
    pub fn give_back(&mut self, slot: SlotId) {
        if !matches!(self.workers.get(&slot), Some((_, Worker::Busy { .. }))) {
            return;
        }
        if let Some(claim) = self.ahead.remove(&slot) {
            self.handle(Event::GivenBack { slot, claim });
        }
    }

    fn busy(&mut self, slot: SlotId, change: impl FnOnce(&mut bool)) -> (ProcessId, Claim) {
        match self.workers.get_mut(&slot) {
            Some((pid, Worker::Busy { claim, started })) => {
                change(started);
                (*pid, *claim)
            }
            other => panic!("{slot:?} is not busy: {other:?}"),
        }
    }

    // ---- what is to be seen ----

    /// Whether the slot's workers keep resident programs.
    pub fn is_warm(&self, slot: SlotId) -> bool {
        self.warm.contains(&slot.lane)
    }

    /// Slots with an attempt, and which.
    pub fn running(&self) -> Vec<(SlotId, Claim)> {
        let busy = |(&slot, (_, worker)): (&SlotId, &(ProcessId, Worker))| match worker {
            Worker::Busy { claim, .. } => Some((slot, *claim)),
            Worker::Starting
            | Worker::Idle
            | Worker::Leaving
            | Worker::Loading
            | Worker::Dying { .. }
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

    // ---- what they are told ----

    pub(super) fn perform_at_worker(&mut self, effect: core::Effect, inbox: &mut Inbox) {
        use core::Effect;
        match effect {
            Effect::SpawnWorker { slot, seat } => self.spawn_worker(slot, &seat, inbox),
            Effect::SpawnSuccessor { slot, seat: _ } => {
                let pid = self.next_pid();
                let before = self.successors.insert(slot, (pid, Worker::Starting));
                assert!(before.is_none(), "{slot:?} gets a second successor beside {before:?}");
                if self.spawns_at_once {
                    self.successors.insert(slot, (pid, Worker::Loading));
                    inbox.push_back(turn::Input::Core(Event::SuccessorUp { slot, pid }));
                }
            }
            Effect::RetireWorker { slot } => {
                let (_, worker) = self.workers.get_mut(&slot).expect("a worker that is there");
                match worker {
                    Worker::Idle | Worker::Loading => *worker = Worker::Leaving,
                    // Its slot was taken when it died, and has been left since.
                    Worker::Dying { .. } => {}
                    _ => panic!("{slot:?} is let go while {worker:?}"),
                }
            }
            Effect::SwapWorker { slot } => {
                if let Some((pid, worker)) = self.workers.remove(&slot) {
                    let may_go = matches!(worker, Worker::Idle | Worker::Dying { .. });
                    assert!(may_go, "{slot:?} is replaced while {worker:?}");
                    self.replaced.push((slot, pid));
                }
                let successor = self.successors.remove(&slot).expect("there is a successor");
                self.workers.insert(slot, successor);
            }
            Effect::KillSuccessor { slot } => {
                let (pid, _) = self.successors.remove(&slot).expect("there is a successor");
                self.replaced.push((slot, pid));
            }
            Effect::Run { slot, claim, work, items, ahead: false } => {
                self.handed_items.insert(claim, (work.pool.clone(), items));
                self.run(slot, claim, work.on_crash);
            }
            Effect::Run { slot, claim, work, ahead: true, .. } => self.run_ahead(slot, claim, work.on_crash),
            // Whether that comes in time is chance's business.
            Effect::TakeBack { claim, .. } => self.called_back.push(claim),
            Effect::RunCallback { slot, run } => {
                assert_eq!(slot.lane, LaneId::Callbacks);
                self.seen.called(run.id, run.record.reruns);
                let claim = Claim { unit: Unit::Callback(run.id), attempt: run.attempt };
                self.run(slot, claim, OnCrash::Requeue);
            }
            Effect::Signal { slot, claim, signal } => self.send(slot, claim, Sent::Signal(signal)),
            Effect::Steer { slot, claim, steer } => self.send(slot, claim, Sent::Steer(steer)),
            Effect::Freeze { slot, claim } => self.send(slot, claim, Sent::Freeze),
            Effect::Thaw { slot, claim } => self.send(slot, claim, Sent::Thaw),
            Effect::Terminate { slot, claim } => self.send(slot, claim, Sent::Terminate),
            Effect::Kill { slot, claim } => self.send(slot, claim, Sent::Kill),
            Effect::KillWorker { slot } => self.kill_worker(slot),
            Effect::Insert { .. }
            | Effect::AskOverdue { .. }
            | Effect::Change(_)
            | Effect::Want { .. }
            | Effect::SetRoom { .. }
            | Effect::SetCapacity { .. }
            | Effect::AskOffers { .. }
            | Effect::GiveBack(_)
            | Effect::Tell(_)
            | Effect::Exit => unreachable!("{effect:?} is not for workers"),
        }
    }

    fn spawn_worker(&mut self, slot: SlotId, seat: &SeatOf, inbox: &mut Inbox) {
        if seat.program.is_some() {
            self.warm.insert(slot.lane);
        }
        let pid = self.next_pid();
        let before = self.workers.insert(slot, (pid, Worker::Starting));
        assert!(before.is_none(), "{slot:?} gets a second worker beside {before:?}");
        if self.spawns_at_once {
            let up = self.come_up(slot);
            if self.reenters {
                return self.handle(up);
            }
            inbox.push_back(turn::Input::Core(up));
        }
    }

    fn kill_worker(&mut self, slot: SlotId) {
        let is_warm = self.is_warm(slot);
        let (_, worker) = self.workers.get_mut(&slot).expect("a worker that is there");
        if let Worker::Dying { .. } = worker {
            return;
        }
        if !is_warm {
            assert!(matches!(worker, Worker::Busy { .. }), "{slot:?} is killed and has nothing to do");
            self.killed_workers.insert(slot);
            return;
        }
        let claim = match worker {
            // It has been misbehaving, and another call's fate hangs on it.
            Worker::Busy { claim, .. } => Some(*claim),
            Worker::Condemned { claim } => *claim,
            Worker::Starting | Worker::Idle | Worker::Leaving | Worker::Loading | Worker::Dying { .. } => {
                None
            }
        };
        *worker = Worker::Condemned { claim };
    }

    fn run_ahead(&mut self, slot: SlotId, claim: Claim, on_crash: OnCrash) {
        let Unit::Job(id) = claim.unit else { panic!("{claim} is handed out ahead") };
        assert_eq!(on_crash, OnCrash::Requeue, "{claim} is handed out ahead, and must not run twice");
        self.check_run(id, claim, on_crash);
        match self.workers.get(&slot) {
            // A dead one never begins with it, which is known when it is lost.
            Some((_, Worker::Busy { .. } | Worker::Dying { .. })) => {
                let before = self.ahead.insert(slot, claim);
                assert_eq!(before, None, "{slot:?} has that ahead already");
            }
            other => panic!("{claim} is given to {other:?}, ahead"),
        }
    }

    fn run(&mut self, slot: SlotId, claim: Claim, on_crash: OnCrash) {
        // A worker that died before it got the attempt may have been told things of the same number.
        self.signals.retain(|(other, _)| *other != claim);
        if let Unit::Job(id) = claim.unit {
            self.check_run(id, claim, on_crash);
            if on_crash == OnCrash::Requeue {
                self.seen.tried(id);
            }
        }
        let (_, worker) = self.workers.get_mut(&slot).expect("a worker that is there");
        if let Worker::Dying { claim: None, .. } = worker {
            // It had been taken before, and is handed to nobody.
            *worker = Worker::Dying { claim: Some(claim), unsent: true };
            if let Unit::Job(id) = claim.unit {
                self.executed.remove(&id);
            }
            return;
        }
        assert!(matches!(worker, Worker::Idle), "{claim} is given to {worker:?}");
        *worker = Worker::Busy { claim, started: false };
    }

    /// An attempt of the job begins, or may: no client knows that its pool is paused.
    fn check_pause(&self, id: JobId) {
        let work = self.memory_of(id).and_then(|kept| kept.work_of(id)).expect("it is kept");
        assert!(
            !self.known_pauses.contains(&work.pool),
            "job {id} begins in {:?}, which is paused",
            work.pool
        );
    }

    fn check_run(&mut self, id: JobId, claim: Claim, on_crash: OnCrash) {
        let is_same = |other: &Claim| other.unit == claim.unit;
        let runs = self.running().iter().any(|(_, other)| is_same(other)) || self.ahead.values().any(is_same);
        assert!(!runs, "{claim} runs already");
        let kept = self.memory_of(id).unwrap_or_else(|| panic!("{claim} runs before it is kept"));
        self.check_pause(id);
        let place = kept.place_of(id).expect("it is kept there");
        assert!(!place.state().is_terminal(), "{claim} runs after its end");
        if let Some(key) = kept.key_of(id) {
            let holds = |&other: &JobId| {
                other != id
                    && !kept.place_of(other).is_some_and(|place| place.state().is_terminal())
                    && kept.key_of(other).is_some_and(|held| held.text == key.text)
            };
            assert!(!kept.jobs().any(|other| holds(&other)), "{claim} has another one's key");
        }

        let attempts = kept.tries_of(id).expect("it is kept there").attempts;
        if on_crash == OnCrash::Requeue {
            assert!(claim.attempt > attempts, "{claim} runs after attempt {attempts}");
            self.assert_first_in_line(id);
        } else {
            let is_written = matches!(place, Place::Running(_)) && attempts == claim.attempt;
            assert!(is_written, "{claim} runs before that is kept: {place:?}, {attempts} attempts");
            if self.engine().is_volatile(id) {
                self.seen.tried(id);
            }
            assert!(self.executed.insert(id), "{claim} runs a job again that must not be repeated");
        }
    }

    /// No job that came before it waits in its line, nor in another line of the pool to which no limit
    /// applies, unless the core is about to end it.
    fn assert_first_in_line(&self, id: JobId) {
        let kept = self.memory_of(id).expect("it is kept");
        let pool = kept.work_of(id).expect("it is kept").pool.clone();
        let is_of = |worker: &Worker, other: JobId| match worker {
            Worker::Busy { claim, .. }
            | Worker::Condemned { claim: Some(claim) }
            | Worker::Dying { claim: Some(claim), .. } => claim.unit == Unit::Job(other),
            _ => false,
        };
        let runs = |other: JobId| {
            self.workers.values().any(|(_, worker)| is_of(worker, other))
                || self.ahead.values().any(|claim| claim.unit == Unit::Job(other))
        };
        // It waits for its client, maybe.
        let is_tied = |other: JobId| kept.work_of(other).is_some_and(|work| work.tie == Some(Tie::Client));
        // What is beyond the window is not known before it has been read.
        let is_fetching = self.is_fetching_of(&pool);
        let is_unread = |other: JobId| is_fetching && !self.engine().knows(other);
        let is_away = |other: JobId| {
            // An array takes no slot: its elements do, once they are in the line.
            let is_array = kept.work_of(other).is_some_and(|work| work.plan().is_some());
            let may_leave = self.is_leaving(other) || self.is_coming(other);
            is_tied(other) || is_unread(other) || may_leave || is_array
        };
        let ahead = kept.queued_before(id, |needs| !self.may_be_limited(&pool, needs));
        let overtaken: Vec<JobId> =
            ahead.into_iter().filter(|&other| !is_away(other) && !runs(other)).collect();
        assert!(overtaken.is_empty(), "job {id} overtakes {overtaken:?}");
    }

    fn send(&mut self, slot: SlotId, claim: Claim, sent: Sent) {
        let is_meant = match self.workers.get(&slot) {
            Some((_, Worker::Busy { claim: current, .. })) => *current == claim,
            Some((_, Worker::Condemned { claim: current } | Worker::Dying { claim: current, .. })) => {
                *current == Some(claim)
            }
            _ => false,
        };
        let is_ahead = self.ahead.get(&slot) == Some(&claim)
            && !matches!(sent, Sent::Signal(_) | Sent::Steer(_) | Sent::Freeze | Sent::Thaw);
        assert!(is_meant || is_ahead, "{sent:?} is sent to {claim}, which {slot:?} does not run");
        self.signals.push((claim, sent));
    }
}

/// Jobs are submitted, and what can be done about them is done.
pub fn submit(world: &mut World, jobs: Vec<Work>) {
    world.submit(jobs);
    world.settle();
}

/// Ids of what runs, in order.
pub fn running(world: &World) -> Vec<u64> {
    let mut running = world.running_jobs();
    running.sort_unstable();
    running
}

/// A running job succeeds.
pub fn end(world: &mut World, id: u64) {
    end_as(world, id, EXITED);
}

/// Ends what runs until nothing does; then nothing is left of it.
pub fn end_all(world: &mut World) {
    while let Some(&id) = running(world).first() {
        end(world, id);
    }
    world.assert_idle();
    world.assert_empty();
}

/// A job that a worker has starts.
pub fn begin(world: &mut World, id: u64) {
    let slot = world.slot_of(Unit::Job(JobId(id)));
    world.attempt_started(slot);
    world.settle();
}

/// A running job ends.
pub fn end_as(world: &mut World, id: u64, exit: Exit) {
    let slot = world.slot_of(Unit::Job(JobId(id)));
    world.attempt_ended(slot, exit);
    world.settle();
}

/// The outbox's next callback runs and ends.
pub fn run_callback(world: &mut World, id: u64, exit: Exit) {
    world.settle();
    let slot = world.slot_of(Unit::Callback(crate::job::CallbackId(id)));
    world.attempt_ended(slot, exit);
    world.settle();
}

/// For stories about attempts that are being ended.
pub fn sent_to(world: &World, id: u64) -> Vec<Sent> {
    let is_meant = |(claim, sent): &(Claim, Sent)| (claim.unit == Unit::Job(JobId(id))).then_some(*sent);
    world.signals.iter().filter_map(is_meant).collect()
}

/// Until the next deadline, and all that follows from it.
pub fn pass_deadline(world: &mut World) {
    if let Some(at) = world.next_deadline() {
        let time: Duration = at.saturating_sub(world.now.monotonic);
        world.advance(time);
    }
}
