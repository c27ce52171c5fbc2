//! Chance tells the story: clients, workers, store, time and crashes in any order, with a crash possible between any two effects. The
//! [`World`] checks every step; what is checked here is that everything comes to its end when the world is at last left to run on.
//!
//! `PROPTEST_CASES=100000 cargo test -p poold --release property` runs it for longer.

use std::time::Duration;

use pool_proto::interface::{On, OnCrash, OnDisconnect, State};
use proptest::prelude::*;

use super::world::{WARM, Worker, World, call, mixed as settings, work};
use crate::job::{Exit, JobId, Key, NewCallback, RequestId, Retries, Stage, Tie, Work};
use crate::scheduler::queue::WINDOW;
use crate::scheduler::store_op::StoreOp;
use crate::scheduler::{Event, SlotId, Watch};

#[derive(Debug, Clone)]
pub enum Step {
    Submit { count: usize, spec: Spec },
    SubmitBatch { count: usize, spec: Spec },
    SubmitAttached { spec: Spec, cancel: bool },
    Wait { ids: Vec<u64>, any: bool, watch: Watch },
    Cancel { ids: Vec<u64> },
    Signal { id: u64 },
    Reattach { id: u64 },
    Release { which: usize },
    Disconnect { which: usize },
    StoreWorks { times: usize },
    StoreRefuses,
    Answers { times: usize },
    WorkerUp { which: usize },
    ProgramReady { which: usize },
    Misbehaves { which: usize, during: bool },
    SuccessorSteps,
    SuccessorDies,
    ReplacedDies,
    WorkerDies { which: usize, unsent: bool },
    Starts { which: usize },
    Ends { which: usize, exit: Exit },
    CannotStart { which: usize, stage: Stage, errno: i32 },
    Time { ms: u64 },
    Deadline,
    Resize { workers: u32 },
    Crash,
    CrashWithin { effects: usize, written: usize },
    DiskFull { full: bool },
}

#[derive(Debug, Clone)]
pub struct Spec {
    pool: &'static str,
    timeout: bool,
    callbacks: Vec<On>,
    tie: Option<Tie>,
    on_crash: OnCrash,
    priority: i32,
    retries: u32,
    key: Option<(u8, Option<u8>)>,
}

impl Spec {
    fn work(&self) -> Work {
        let callback = |&on: &On| NewCallback { on, command: "callback".to_owned() };
        let kind = if self.pool == "warm" { call() } else { work() };
        Work {
            pool: self.pool.into(),
            timeout: self.timeout.then_some(Duration::from_secs(2)),
            callbacks: self.callbacks.iter().map(callback).collect(),
            tie: self.tie,
            on_crash: self.on_crash,
            priority: self.priority,
            retries: Retries { allowed: self.retries, backoff: Duration::from_millis(700) },
            key: self.key.map(|(text, round)| Key {
                text: text.to_string(),
                round: round.map(|round| round.to_string()),
            }),
            ..kind
        }
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let on = prop_oneof![Just(On::Done), Just(On::Success), Just(On::Failure)];
    let tie = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Tie::Pool)),
        1 => (1..30u64).prop_map(|id| Some(Tie::Job(JobId(id)))),
    ];
    let on_crash =
        prop_oneof![4 => Just(OnCrash::Requeue), 1 => Just(OnCrash::Fail), 1 => Just(OnCrash::Hold)];
    let callbacks = prop::collection::vec(on, 0..3);
    let key = prop_oneof![3 => Just(None), 1 => (0..3u8, prop::option::of(0..3u8)).prop_map(Some)];
    let pool = prop_oneof![5 => Just("default"), 2 => Just("other"), 3 => Just("warm")];
    let priority = prop_oneof![3 => Just(0), 1 => -2..3i32];
    let retries = prop_oneof![3 => Just(0), 1 => 1..3u32];
    (pool, prop::bool::weighted(0.3), callbacks, tie, on_crash, priority, retries, key).prop_map(
        |(pool, timeout, callbacks, tie, on_crash, priority, retries, key)| Spec {
            pool,
            timeout,
            callbacks,
            tie,
            on_crash,
            priority,
            retries,
            key,
        },
    )
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        3 => Just(Exit::Code(0)),
        1 => Just(Exit::Code(1)),
        1 => Just(Exit::Signal { signal: 9, core: false }),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![8 => 1..4usize, 1 => Just(WINDOW + 50)];
    let some_ids = || prop::collection::vec(1..30u64, 1..4);
    let watch = prop_oneof![Just(Watch::Nothing), Just(Watch::Progress), Just(Watch::Output)];
    let failure = prop_oneof![
        Just((Stage::Fork, libc::EAGAIN)),
        Just((Stage::Output, libc::ENOSPC)),
        Just((Stage::Output, libc::EROFS)),
        Just((Stage::Stdin, libc::ENOENT)),
        Just((Stage::Exec, libc::ENOENT)),
        Just((Stage::Cwd, libc::ENOENT)),
    ];
    prop_oneof![
        4 => (count, spec()).prop_map(|(count, spec)| Step::Submit { count, spec }),
        2 => (1..6usize, spec()).prop_map(|(count, spec)| Step::SubmitBatch { count, spec }),
        3 => (spec(), any::<bool>()).prop_map(|(spec, cancel)| Step::SubmitAttached { spec, cancel }),
        2 => (some_ids(), any::<bool>(), watch).prop_map(|(ids, any, watch)| Step::Wait { ids, any, watch }),
        2 => some_ids().prop_map(|ids| Step::Cancel { ids }),
        1 => (1..30u64).prop_map(|id| Step::Signal { id }),
        1 => (1..30u64).prop_map(|id| Step::Reattach { id }),
        1 => (0..9usize).prop_map(|which| Step::Release { which }),
        1 => (0..9usize).prop_map(|which| Step::Disconnect { which }),
        9 => (1..6usize).prop_map(|times| Step::StoreWorks { times }),
        1 => Just(Step::StoreRefuses),
        9 => (1..6usize).prop_map(|times| Step::Answers { times }),
        6 => (0..9usize).prop_map(|which| Step::WorkerUp { which }),
        4 => (0..9usize).prop_map(|which| Step::ProgramReady { which }),
        1 => (0..9usize, any::<bool>()).prop_map(|(which, during)| Step::Misbehaves { which, during }),
        3 => Just(Step::SuccessorSteps),
        1 => Just(Step::SuccessorDies),
        1 => Just(Step::ReplacedDies),
        1 => (0..9usize, prop::bool::weighted(0.2)).prop_map(|(which, unsent)| Step::WorkerDies { which, unsent }),
        6 => (0..9usize).prop_map(|which| Step::Starts { which }),
        8 => (0..9usize, exit()).prop_map(|(which, exit)| Step::Ends { which, exit }),
        2 => (0..9usize, failure).prop_map(|(which, (stage, errno))| Step::CannotStart { which, stage, errno }),
        2 => (0..3000u64).prop_map(|ms| Step::Time { ms }),
        2 => Just(Step::Deadline),
        1 => (0..4u32).prop_map(|workers| Step::Resize { workers }),
        1 => Just(Step::Crash),
        1 => (1..6usize, 0..4usize).prop_map(|(effects, written)| Step::CrashWithin { effects, written }),
        1 => any::<bool>().prop_map(|full| Step::DiskFull { full }),
    ]
}

pub fn take(world: &mut World, step: Step) {
    match step {
        Step::Submit { count, spec } => _ = world.submit(vec![spec.work(); count]),
        Step::SubmitBatch { count, spec } => _ = world.submit_batch(vec![spec.work(); count]),
        Step::SubmitAttached { spec, cancel } => {
            let call = world.call();
            let attached = Some(if cancel { OnDisconnect::Cancel } else { OnDisconnect::Detach });
            let tie = if cancel { Some(Tie::Client) } else { spec.tie };
            let work = spec.work();
            let key = work.key.clone().filter(|_| tie != Some(Tie::Client));
            world.handle(Event::Submit { call, jobs: vec![Work { tie, key, ..work }.into()], attached });
        }
        Step::Wait { ids, any, watch } => {
            let call = world.call();
            world.handle(Event::Wait {
                call,
                ids: ids.into_iter().map(JobId).collect(),
                any,
                watch,
                attached: false,
            });
        }
        Step::Cancel { ids } => {
            let call = world.call();
            world.handle(Event::Cancel { call, ids: ids.into_iter().map(JobId).collect() });
        }
        Step::Signal { id } => {
            let call = world.call();
            world.handle(Event::Signal { call, id: JobId(id), signal: 10 });
        }
        Step::Reattach { id } => {
            let call = world.call();
            world.handle(Event::Wait {
                call,
                ids: vec![JobId(id)],
                any: false,
                watch: Watch::Nothing,
                attached: true,
            });
        }
        Step::Release { which } => {
            if let Some(id) = held(world).get(which) {
                world.release(id.0);
            }
        }
        Step::Disconnect { which } => {
            let open: Vec<RequestId> =
                world.told.iter().filter(|(_, (_, last))| !last).map(|(&call, _)| call).collect();
            if let Some(&call) = open.get(which) {
                world.told.remove(&call);
                world.handle(Event::Disconnected { call });
            }
        }
        Step::StoreWorks { times } => (0..times).for_each(|_| _ = world.store_step()),
        Step::StoreRefuses => world.store_refuses(),
        Step::Answers { times } => (0..times).for_each(|_| _ = world.answer_step()),
        Step::WorkerUp { which } => {
            on_worker(world, which, |worker| matches!(worker, Worker::Starting), World::worker_up)
        }
        Step::ProgramReady { which } => {
            on_worker(world, which, |worker| matches!(worker, Worker::Loading), World::program_ready);
        }
        Step::Misbehaves { which, during } => {
            let warm: Vec<SlotId> = world.workers.keys().filter(|slot| slot.lane == WARM).copied().collect();
            let is_up = |slot: &&SlotId| {
                matches!(world.workers[*slot].1, Worker::Idle | Worker::Loading | Worker::Busy { .. })
            };
            if let Some(&slot) = warm.iter().filter(is_up).nth(which % 2) {
                world.misbehaves(slot, during);
            }
        }
        Step::SuccessorSteps => {
            let slot = world
                .successors
                .iter()
                .find(|(_, (_, worker))| !matches!(worker, Worker::Idle))
                .map(|(&slot, _)| slot);
            slot.into_iter().for_each(|slot| world.successor_steps(slot));
        }
        Step::SuccessorDies => {
            let slot = world.successors.keys().next().copied();
            slot.into_iter().for_each(|slot| world.successor_lost(slot));
        }
        Step::ReplacedDies if !world.replaced.is_empty() => world.replaced_lost(0),
        Step::ReplacedDies => {}
        Step::WorkerDies { which, unsent } => {
            on_worker(world, which, |_| true, |world, slot| world.worker_died(slot, unsent))
        }
        Step::Starts { which } => on_worker(world, which, is_unstarted, World::attempt_started),
        Step::Ends { which, exit } => {
            on_worker(world, which, is_busy, |world, slot| world.attempt_ended(slot, exit));
        }
        Step::CannotStart { which, stage, errno } => {
            on_worker(world, which, is_unstarted, |world, slot| world.attempt_failed(slot, stage, errno));
        }
        Step::Time { ms } => world.advance(Duration::from_millis(ms)),
        Step::Deadline => pass_deadline(world),
        Step::Resize { workers } => {
            world.settings = settings(workers);
            world.handle(Event::Configure(settings(workers)));
        }
        Step::Crash => world.crash(),
        Step::CrashWithin { effects, written } => crash_within(world, effects, written),
        Step::DiskFull { full } => world.set_disk_full(full),
    }
    world.check();
}

/// What the store and the workers do next is cut off in the middle of its effects.
fn crash_within(world: &mut World, effects: usize, written: usize) {
    world.cut_at = Some(world.performed + effects);
    world.settle();
    for (slot, _) in world.running() {
        world.attempt_ended(slot, Exit::Code(1));
    }
    world.settle();
    world.cut_at = None;
    if world.dead {
        world.bury(written);
    } else {
        world.crash();
    }
}

fn on_worker(
    world: &mut World,
    which: usize,
    fits: impl Fn(&Worker) -> bool,
    act: impl FnOnce(&mut World, SlotId),
) {
    let fitting: Vec<SlotId> =
        world.workers.iter().filter(|(_, (_, worker))| fits(worker)).map(|(&slot, _)| slot).collect();
    if !fitting.is_empty() {
        act(world, fitting[which % fitting.len()]);
    }
}

fn is_busy(worker: &Worker) -> bool {
    matches!(worker, Worker::Busy { .. })
}

fn is_unstarted(worker: &Worker) -> bool {
    matches!(worker, Worker::Busy { started: false, .. })
}

fn pass_deadline(world: &mut World) {
    if let Some(at) = world.scheduler.next_deadline() {
        world.advance(at - world.now.monotonic);
    }
}

/// What the store and the scheduler take for held; what is on its way there or back is left alone.
fn held(world: &World) -> Vec<JobId> {
    let is_changing = |id: JobId| {
        world.ops.iter().any(|op| match op {
            StoreOp::Release { ids, .. } => ids.contains(&id),
            StoreOp::Finish { id: other, .. } => *other == id,
            _ => false,
        })
    };
    let rows = world.store.jobs.iter().filter(|(_, row)| row.state == State::Held);
    rows.map(|(&id, _)| id).filter(|&id| !is_changing(id)).collect()
}

/// Lets everything end by itself.
pub fn run_on(world: &mut World) {
    world.set_disk_full(false);
    for _ in 0..100_000 {
        world.settle();
        for id in held(world) {
            world.release(id.0);
        }
        world.settle();
        world.check();
        let running = world.running();
        if running.is_empty() && world.scheduler.next_deadline().is_none() {
            return;
        }
        for (slot, _) in running {
            world.attempt_ended(slot, Exit::Code(0));
        }
        pass_deadline(world);
    }
    panic!("the world does not come to rest: {:?}", world.running());
}

proptest! {
    #[test]
    fn every_job_comes_to_one_end_and_everybody_is_told(workers in 0..4u32, steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(settings(workers));
        for step in steps {
            take(&mut world, step);
        }
        // A pool without workers would wait for them for ever.
        world.settings = settings(2);
        world.handle(Event::Configure(settings(2)));
        run_on(&mut world);
        world.check_ends();
        world.assert_idle();
        world.handle(Event::Drain);
        prop_assert!(world.exited, "there is nothing left to drain");
    }

    #[test]
    fn a_stop_comes_to_its_end_and_loses_nothing(steps in prop::collection::vec(step(), 1..80), hurry in any::<bool>()) {
        let mut world = World::new(settings(2));
        for step in steps {
            take(&mut world, step);
        }
        world.handle(Event::Stop);
        if hurry && !world.exited {
            world.handle(Event::Stop);
        }
        for _ in 0..100 {
            if world.exited {
                break;
            }
            stop_on(&mut world);
        }
        prop_assert!(world.exited, "it does not end: {:?}", world.running());
        // What the scheduler handed to the store before it left is written by the store's close.
        world.disk_full = false;
        while world.store_step() {}
        world.settings = settings(2);
        world.crash();
        run_on(&mut world);
        world.check_ends();
        world.assert_idle();
    }
}

/// Those that are asked to end do so.
fn stop_on(world: &mut World) {
    while world.store_step() || (!world.exited && world.answer_step()) {}
    let is_condemned = |(slot, (_, worker)): (&SlotId, &(i32, Worker))| {
        matches!(worker, Worker::Condemned { .. }).then_some(*slot)
    };
    let condemned: Vec<SlotId> = world.workers.iter().filter_map(is_condemned).collect();
    for slot in condemned {
        if world.exited {
            return;
        }
        world.worker_lost(slot);
    }
    for (slot, _) in world.running() {
        if world.exited {
            return;
        }
        world.attempt_ended(slot, Exit::Signal { signal: 15, core: false });
    }
    if !world.exited {
        pass_deadline(world);
    }
}
