//! Chance tells the story: clients, workers, backing, time and crashes in any order, with a crash possible
//! between any two effects. The [`World`] checks every step; what is checked here is that everything comes to
//! its end when the world is at last left to run on.
//!
//! `PROPTEST_CASES=100000 cargo test -p poold --release property` runs it for longer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::methods::{Attempts, Dependents, Edit, List, Request, Wait, Why};
use pool_proto::nouns::{
    CallbackFor, DEFAULT_POOL, Dependency, IfExists, Job, Missed, On, OnCrash, OnDisconnect, Overlap,
};
use proptest::prelude::*;

use super::clients::ends_of;
use super::delayed::Death;
use super::specs::{SECOND, array_of, call, large_call, mixed, pool, work};
use super::workers::{Worker, pass_deadline};
use super::world::World;
use crate::core::{Event, SlotId};
use crate::engine::{Change, Order, WINDOW};
use crate::job::{
    After, Conditions, Exit, ExitCodes, JobId, Key, Needs, NewCallback, NotBefore, Place, RequestId,
    Resources, Retries, Stage, Tie, Unique, Until, Work,
};
use crate::start::config::{Config, PoolConfig};

/// A warm pool that clients add and remove.
const ADDED: &str = "added";

/// A schedule that clients add and remove.
const SCHEDULE: &str = "often";

#[derive(Debug, Clone)]
pub enum Step {
    Submit {
        count: usize,
        spec: Spec,
    },
    SubmitBatch {
        count: usize,
        spec: Spec,
    },
    SubmitAttached {
        spec: Spec,
        cancel: bool,
    },
    SubmitWithInput {
        spec: Spec,
    },
    Spool,
    Wait {
        ids: Vec<u64>,
        any: bool,
        watch: Watch,
    },
    Cancel {
        ids: Vec<u64>,
    },
    Signal {
        id: u64,
    },
    SetFrozen {
        id: u64,
        frozen: bool,
    },
    FreezePool {
        pool: &'static str,
    },
    Reattach {
        id: u64,
    },
    Hold {
        ids: Vec<u64>,
    },
    Remove {
        ids: Vec<u64>,
    },
    Move {
        ids: Vec<u64>,
        pool: &'static str,
    },
    Edit(Box<Edit>),
    Retry {
        ids: Vec<u64>,
    },
    AlterCallbacks {
        ids: Vec<u64>,
        drop: bool,
    },
    Release {
        which: usize,
    },
    ReleaseAny {
        ids: Vec<u64>,
    },
    Get {
        id: u64,
    },
    List {
        limit: u32,
    },
    Output {
        id: u64,
        missing: bool,
    },
    Listen,
    /// Somebody who has listened comes back.
    ListenAgain {
        which: usize,
    },
    Backup,
    Disconnect {
        which: usize,
    },
    Read {
        which: usize,
    },
    FallBehind {
        which: usize,
    },
    Share {
        shares: bool,
    },
    StoreWorks {
        times: usize,
    },
    /// Orders are written in one transaction, and not synced yet.
    StoreWrites {
        orders: usize,
    },
    StoreRefuses,
    Answers {
        times: usize,
    },
    SpawnsAtOnce {
        at_once: bool,
    },
    WorkerUp {
        which: usize,
    },
    ProgramReady {
        which: usize,
    },
    Misbehaves {
        which: usize,
        during: bool,
    },
    SuccessorSteps,
    SuccessorDies,
    SuccessorMisbehaves,
    SuccessorIsDying,
    ReplacedDies,
    WorkerDies {
        which: usize,
        unsent: bool,
    },
    WorkerIsDying {
        which: usize,
    },
    Starts {
        which: usize,
    },
    /// A worker gives back what it has ahead.
    GivesBack {
        which: usize,
    },
    /// An attempt has done nothing for long.
    Idles {
        which: usize,
    },
    Ends {
        which: usize,
        exit: Exit,
    },
    CannotStart {
        which: usize,
        stage: Stage,
        errno: i32,
    },
    Time {
        ms: u64,
    },
    Deadline,
    Reread {
        workers: u32,
        without: Option<&'static str>,
    },
    AddPool {
        workers: u32,
    },
    RemovePool,
    /// Jobs come each second from now on.
    AddSchedule {
        overlap: Overlap,
        missed: Missed,
    },
    PauseSchedule {
        paused: bool,
    },
    RemoveSchedule,
    SetPaused {
        pool: &'static str,
        paused: bool,
    },
    SetLimit {
        label: &'static str,
        limit: Option<u32>,
    },
    RestartPool {
        added: bool,
    },
    Dies {
        death: Death,
    },
    DiesWithin {
        effects: usize,
        steps: usize,
        death: Death,
    },
    DiskFull {
        full: bool,
    },
}

/// What a client that waits wants to hear besides ends.
#[derive(Debug, Clone, Copy)]
pub enum Watch {
    Nothing,
    Progress,
    Output,
}

#[derive(Debug, Clone)]
pub struct Spec {
    pool: &'static str,
    volatile: bool,
    timeout: bool,
    callbacks: Vec<On>,
    tie: Option<Tie>,
    on_crash: OnCrash,
    priority: i32,
    labels: BTreeSet<&'static str>,
    slots: u32,
    resources: BTreeMap<&'static str, u32>,
    exclusive: bool,
    retries: u32,
    /// Of a job with retries: a signal or a timeout is followed by no other attempt.
    on_code: bool,
    key: Option<(u8, Option<u8>)>,
    unique: Option<(u8, IfExists)>,
    /// In milliseconds.
    deadline: Option<u64>,
    /// In milliseconds.
    start_within: Option<u64>,
    hold: bool,
    /// In milliseconds.
    delay: Option<u64>,
    after: BTreeMap<u64, On>,
    /// As it is written, and whose ends its callbacks tell.
    array: Option<(&'static str, CallbackFor)>,
}

impl Spec {
    fn retries(&self) -> Retries {
        let plain = Retries::new(self.retries, Duration::from_millis(700));
        if self.retries == 0 || !self.on_code {
            return plain;
        }
        Retries { jitter: 500, on: ExitCodes::parse("1").expect("it is a code"), ..plain }
    }

    fn resources(&self) -> Resources {
        let all = self.resources.iter().filter(|_| !self.is_warm());
        all.map(|(&name, &amount)| (name.into(), amount)).collect()
    }

    fn is_warm(&self) -> bool {
        matches!(self.pool, "warm" | ADDED)
    }

    fn conditions(&self) -> Option<Box<Conditions>> {
        let start = self.delay.map(|ms| NotBefore::Delay(Duration::from_millis(ms)));
        let after = self.after.iter().map(|(&id, &on)| After { id: JobId(id), on }).collect();
        let conditions = Conditions { hold: self.hold, start, after };
        (conditions != Conditions::default()).then(|| Box::new(conditions))
    }

    /// What is kept in memory alone cannot have all of this.
    fn work(&self) -> Work {
        let callback = |&on: &On| NewCallback { on, command: "callback".into() };
        let kind = match (self.is_warm(), self.timeout) {
            (true, true) => large_call(),
            (true, false) => call(),
            (false, _) => work(),
        };
        let work = Work {
            pool: self.pool.into(),
            timeout: self.timeout.then_some(Duration::from_secs(2)),
            callbacks: self.callbacks.iter().map(callback).collect(),
            tie: self.tie,
            on_crash: self.on_crash,
            priority: self.priority,
            needs: Needs {
                slots: if self.is_warm() { 1 } else { self.slots },
                resources: self.resources(),
                ..Needs::of_labels(self.labels.iter().copied().map(Arc::from).collect())
            },
            exclusive: self
                .exclusive
                .then_some(&self.labels)
                .into_iter()
                .flatten()
                .copied()
                .map(Arc::from)
                .collect(),
            retries: self.retries(),
            key: self.key.map(|(text, round)| Key {
                text: text.to_string().into(),
                round: round.map(|round| round.to_string()),
            }),
            deadline: self.deadline.map(Duration::from_millis),
            start_within: self.start_within.map(Duration::from_millis),
            conditions: self.conditions(),
            unique: self.unique.map(|(name, if_exists)| Unique { name: name.to_string().into(), if_exists }),
            ..kind
        };
        if let (Some((spec, callback_for)), false) = (self.array, self.is_warm()) {
            return array_of(work, spec, callback_for);
        }
        if !self.volatile || !self.is_warm() {
            return work;
        }
        let tie = self.tie.filter(|tie| !matches!(tie, Tie::Job(_)));
        let on_crash = if self.on_crash == OnCrash::Hold { OnCrash::Fail } else { self.on_crash };
        let (callbacks, key, unique, conditions) = (Vec::new(), None, None, None);
        Work { volatile: true, callbacks, key, unique, conditions, tie, on_crash, ..work }
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let on = || prop_oneof![Just(On::Done), Just(On::Success), Just(On::Failure)];
    let hold = prop::bool::weighted(0.1);
    let delay = prop_oneof![8 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(900)), 1 => Just(Some(4000))];
    let after =
        prop_oneof![4 => Just(BTreeMap::new()), 1 => prop::collection::btree_map(1..12u64, on(), 1..3)];
    let tie = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Tie::Pool)),
        1 => (1..30u64).prop_map(|id| Some(Tie::Job(JobId(id)))),
    ];
    let on_crash =
        prop_oneof![4 => Just(OnCrash::Requeue), 1 => Just(OnCrash::Fail), 1 => Just(OnCrash::Hold)];
    let callbacks = prop::collection::vec(on(), 0..3);
    let key = prop_oneof![3 => Just(None), 1 => (0..3u8, prop::option::of(0..3u8)).prop_map(Some)];
    let if_exists = prop_oneof![
        1 => Just(IfExists::Skip),
        1 => Just(IfExists::Join),
        3 => Just(IfExists::Queue),
        2 => Just(IfExists::Replace),
    ];
    let unique = prop_oneof![3 => Just(None), 2 => (0..3u8, if_exists).prop_map(Some)];
    let start_within = prop_oneof![6 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(800))];
    let deadline =
        prop_oneof![4 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(1500)), 1 => Just(Some(5000))];
    let pool = prop_oneof![10 => Just("default"), 4 => Just("other"), 6 => Just("warm"), 3 => Just(ADDED)];
    let priority = prop_oneof![3 => Just(0), 1 => -2..3i32];
    let labels = prop_oneof![
        3 => Just(BTreeSet::new()),
        2 => prop::collection::btree_set(label(), 1..3),
    ];
    let slots = prop_oneof![6 => Just(1), 1 => Just(2), 1 => Just(3)];
    let resources = prop_oneof![
        4 => Just(BTreeMap::new()),
        2 => prop::collection::btree_map(Just("gpu"), 1..3u32, 1),
        1 => Just(BTreeMap::from([("gpu", 1), ("tape", 1)])),
    ];
    let retries = (prop_oneof![3 => Just(0), 1 => 1..3u32], any::<bool>());
    let kind = (pool, prop::bool::weighted(0.4));
    let elements = prop_oneof![
        3 => Just("0-4"), 2 => Just("0-9%2"), 1 => Just("7"), 1 => Just("0-30:10,99%1"), 2 => Just("0-19")
    ];
    let callback_for = prop_oneof![Just(CallbackFor::Array), Just(CallbackFor::Element)];
    let array = prop_oneof![4 => Just(None), 1 => (elements, callback_for).prop_map(Some)];
    (
        kind,
        prop::bool::weighted(0.3),
        callbacks,
        tie,
        on_crash,
        (priority, labels, slots, resources, prop::bool::weighted(0.1)),
        retries,
        (key, unique, (deadline, start_within)),
        (hold, delay, after, array),
    )
        .prop_map(
            |(
                (pool, volatile),
                timeout,
                callbacks,
                tie,
                on_crash,
                (priority, labels, slots, resources, exclusive),
                (retries, on_code),
                (key, unique, (deadline, start_within)),
                (hold, delay, after, array),
            )| Spec {
                pool,
                volatile,
                timeout,
                callbacks,
                tie,
                on_crash,
                priority,
                labels,
                slots,
                resources,
                exclusive,
                retries,
                on_code,
                key,
                unique,
                deadline,
                start_within,
                hold,
                delay,
                after,
                array,
            },
        )
}

fn label() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => Just("gpu"), 1 => Just("db"), 1 => Just("net")]
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        3 => Just(Exit::Code(0)),
        1 => Just(Exit::Code(1)),
        1 => Just(Exit::Signal { signal: 9, core: false }),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![30 => client_step(), 49 => world_step()]
}

/// A job that is to be another one in one way or the other.
fn edit() -> impl Strategy<Value = Edit> {
    let pool = prop_oneof![3 => Just("default"), 3 => Just("other"), 1 => Just("warm")];
    let on = || prop_oneof![Just(On::Done), Just(On::Success), Just(On::Failure)];
    let set = prop_oneof![
        3 => (-2..3i32).prop_map(|priority| Job { priority: Some(priority), ..Job::default() }),
        2 => pool.prop_map(|pool| Job { pool: Some(pool.to_owned()), ..Job::default() }),
        2 => prop::sample::subsequence(vec!["a", "b"], 0..=2).prop_map(|labels| {
            let labels = labels.into_iter().map(str::to_owned).collect();
            Job { labels: Some(labels), ..Job::default() }
        }),
        2 => (0..4u32).prop_map(|delay| Job { delay_s: Some(delay.into()), ..Job::default() }),
        2 => (1..20u64, on()).prop_map(|(id, on)| {
            Job { after: Some(vec![Dependency { id, on: Some(on) }]), ..Job::default() }
        }),
        1 => (1..4u32).prop_map(|slots| Job { slots: Some(slots), ..Job::default() }),
        1 => (1..3u32).prop_map(|gpus| {
            Job { resources: Some([("gpu".to_owned(), gpus)].into()), ..Job::default() }
        }),
        1 => (1..9u32).prop_map(|deadline| Job { deadline_s: Some(deadline.into()), ..Job::default() }),
        1 => (1..9u32).prop_map(|within| Job { start_within_s: Some(within.into()), ..Job::default() }),
        1 => (0..3usize).prop_map(|count| {
            Job { on_done: Some(vec!["done".into(); count]), ..Job::default() }
        }),
    ];
    let some = (1..30u64, set).prop_map(|(id, set)| Edit { id, set: Some(set), ..Edit::default() });
    let none = prop_oneof![
        Just("after"),
        Just("at"),
        Just("labels"),
        Just("deadline_s"),
        Just("on_done"),
        Just("slots"),
        Just("resources")
    ];
    let unset = (1..30u64, none).prop_map(|(id, name)| Edit {
        id,
        unset: Some(vec![name.to_owned()]),
        ..Edit::default()
    });
    prop_oneof![4 => some, 1 => unset]
}

fn client_step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![8 => 1..4usize, 1 => Just(WINDOW + 50)];
    let some_ids = || prop::collection::vec(1..30u64, 1..4);
    let watch = prop_oneof![Just(Watch::Nothing), Just(Watch::Progress), Just(Watch::Output)];
    let without = prop_oneof![3 => Just(None), 1 => Just(Some("other")), 1 => Just(Some("warm"))];
    let movable = prop_oneof![3 => Just("default"), 3 => Just("other"), 1 => Just("warm"), 1 => Just(ADDED)];
    let overlap = prop_oneof![Just(Overlap::Skip), Just(Overlap::Queue), Just(Overlap::Allow)];
    let missed = prop_oneof![Just(Missed::RunOnce), Just(Missed::Skip), Just(Missed::RunAll)];
    let pausable = prop_oneof![3 => Just("default"), 1 => Just("other"), 2 => Just("warm"), 1 => Just(ADDED)];
    prop_oneof![
        8 => (count, spec()).prop_map(|(count, spec)| Step::Submit { count, spec }),
        4 => (1..6usize, spec()).prop_map(|(count, spec)| Step::SubmitBatch { count, spec }),
        6 => (spec(), any::<bool>()).prop_map(|(spec, cancel)| Step::SubmitAttached { spec, cancel }),
        2 => spec().prop_map(|spec| Step::SubmitWithInput { spec }),
        1 => Just(Step::Spool),
        4 => (some_ids(), any::<bool>(), watch).prop_map(|(ids, any, watch)| Step::Wait { ids, any, watch }),
        4 => some_ids().prop_map(|ids| Step::Cancel { ids }),
        2 => (1..30u64).prop_map(|id| Step::Signal { id }),
        3 => (1..30u64, any::<bool>()).prop_map(|(id, frozen)| Step::SetFrozen { id, frozen }),
        1 => pausable.clone().prop_map(|pool| Step::FreezePool { pool }),
        2 => (1..30u64).prop_map(|id| Step::Reattach { id }),
        3 => some_ids().prop_map(|ids| Step::Hold { ids }),
        4 => some_ids().prop_map(|ids| Step::Retry { ids }),
        3 => (some_ids(), movable).prop_map(|(ids, pool)| Step::Move { ids, pool }),
        4 => edit().prop_map(|edit| Step::Edit(Box::new(edit))),
        1 => some_ids().prop_map(|ids| Step::Remove { ids }),
        3 => (prop::collection::vec(1..15u64, 1..4), any::<bool>())
            .prop_map(|(ids, drop)| Step::AlterCallbacks { ids, drop }),
        2 => (0..9usize).prop_map(|which| Step::Release { which }),
        1 => some_ids().prop_map(|ids| Step::ReleaseAny { ids }),
        1 => (1..30u64).prop_map(|id| Step::Get { id }),
        1 => (1..9u32).prop_map(|limit| Step::List { limit }),
        1 => (1..30u64, any::<bool>()).prop_map(|(id, missing)| Step::Output { id, missing }),
        1 => Just(Step::Listen),
        1 => (0..40usize).prop_map(|which| Step::ListenAgain { which }),
        1 => Just(Step::Backup),
        3 => (0..9usize).prop_map(|which| Step::Disconnect { which }),
        1 => (0..9usize).prop_map(|which| Step::Read { which }),
        1 => (0..9usize).prop_map(|which| Step::FallBehind { which }),
        1 => any::<bool>().prop_map(|shares| Step::Share { shares }),
        2 => (1..4u32, without).prop_map(|(workers, without)| Step::Reread { workers, without }),
        2 => (1..3u32).prop_map(|workers| Step::AddPool { workers }),
        1 => Just(Step::RemovePool),
        2 => any::<bool>().prop_map(|added| Step::RestartPool { added }),
        2 => (overlap, missed).prop_map(|(overlap, missed)| Step::AddSchedule { overlap, missed }),
        1 => any::<bool>().prop_map(|paused| Step::PauseSchedule { paused }),
        1 => Just(Step::RemoveSchedule),
        3 => (pausable, any::<bool>()).prop_map(|(pool, paused)| Step::SetPaused { pool, paused }),
        4 => (label(), prop::option::weighted(0.8, 1..3u32)).prop_map(|(label, limit)| Step::SetLimit { label, limit }),
    ]
}

fn death() -> impl Strategy<Value = Death> {
    prop_oneof![Just(Death::Kill), Just(Death::PowerCut)]
}

fn world_step() -> impl Strategy<Value = Step> {
    let failure = prop_oneof![
        Just((Stage::Fork, libc::EAGAIN)),
        Just((Stage::Output, libc::ENOSPC)),
        Just((Stage::Output, libc::EROFS)),
        Just((Stage::Stdin, libc::ENOENT)),
        Just((Stage::Exec, libc::ENOENT)),
        Just((Stage::Cwd, libc::ENOENT)),
    ];
    prop_oneof![
        9 => (1..6usize).prop_map(|times| Step::StoreWorks { times }),
        4 => (1..6usize).prop_map(|orders| Step::StoreWrites { orders }),
        1 => Just(Step::StoreRefuses),
        9 => (1..6usize).prop_map(|times| Step::Answers { times }),
        1 => any::<bool>().prop_map(|at_once| Step::SpawnsAtOnce { at_once }),
        6 => (0..9usize).prop_map(|which| Step::WorkerUp { which }),
        4 => (0..9usize).prop_map(|which| Step::ProgramReady { which }),
        1 => (0..9usize, any::<bool>()).prop_map(|(which, during)| Step::Misbehaves { which, during }),
        3 => Just(Step::SuccessorSteps),
        1 => Just(Step::SuccessorDies),
        1 => Just(Step::SuccessorMisbehaves),
        1 => Just(Step::SuccessorIsDying),
        1 => Just(Step::ReplacedDies),
        2 => (0..9usize, prop::bool::weighted(0.2)).prop_map(|(which, unsent)| Step::WorkerDies { which, unsent }),
        1 => (0..9usize).prop_map(|which| Step::WorkerIsDying { which }),
        6 => (0..9usize).prop_map(|which| Step::Starts { which }),
        3 => (0..9usize).prop_map(|which| Step::GivesBack { which }),
        1 => (0..9usize).prop_map(|which| Step::Idles { which }),
        8 => (0..9usize, exit()).prop_map(|(which, exit)| Step::Ends { which, exit }),
        2 => (0..9usize, failure).prop_map(|(which, (stage, errno))| Step::CannotStart { which, stage, errno }),
        2 => (0..3000u64).prop_map(|ms| Step::Time { ms }),
        2 => Just(Step::Deadline),
        2 => death().prop_map(|death| Step::Dies { death }),
        2 => (1..6usize, 0..5usize, death())
            .prop_map(|(effects, steps, death)| Step::DiesWithin { effects, steps, death }),
        1 => any::<bool>().prop_map(|full| Step::DiskFull { full }),
    ]
}

pub fn take(world: &mut World, step: Step) {
    match step {
        Step::Submit { count, spec } => _ = world.submit(vec![spec.work(); count]),
        Step::SubmitBatch { count, spec } => _ = world.submit_batch(vec![spec.work(); count]),
        Step::SubmitAttached { spec, cancel } => {
            let on_disconnect = if cancel { OnDisconnect::Cancel } else { OnDisconnect::Detach };
            let work = spec.work();
            let tie = if cancel { Some(Tie::Client) } else { work.tie };
            let is_free = tie != Some(Tie::Client);
            let (key, unique) =
                (work.key.clone().filter(|_| is_free), work.unique.clone().filter(|_| is_free));
            world.submit_and_wait(&Work { tie, key, unique, ..work }, on_disconnect);
        }
        Step::SubmitWithInput { spec } => _ = world.submit_with_input(spec.work()),
        Step::Spool => _ = world.ask(Request::Spool),
        Step::Wait { ids, any, watch } => {
            let (progress, output) = match watch {
                Watch::Nothing => (None, None),
                Watch::Progress => (Some(true), None),
                Watch::Output => (None, Some(true)),
            };
            world.wait(Wait { any: Some(any), progress, output, ..ends_of(&ids) });
        }
        Step::Cancel { ids } => _ = world.cancel(&ids),
        Step::Signal { id } => _ = world.signal(id, 10),
        Step::SetFrozen { id, frozen } => _ = world.set_frozen(id, frozen),
        Step::FreezePool { pool } => _ = world.freeze_pool(pool),
        Step::Reattach { id } => {
            world.wait(Wait { on_disconnect: Some(OnDisconnect::Cancel), ..ends_of(&[id]) });
        }
        Step::Hold { ids } => _ = world.hold(&ids),
        Step::Remove { ids } => _ = world.remove(&ids),
        Step::Move { ids, pool } => _ = world.move_to(&ids, pool),
        Step::Edit(edit) => _ = world.edit(*edit),
        Step::Retry { ids } => _ = world.retry(&ids),
        Step::AlterCallbacks { ids, drop: true } => _ = world.drop_callbacks(&ids),
        Step::AlterCallbacks { ids, drop: false } => _ = world.retry_callbacks(&ids),
        Step::Release { which } => {
            if let Some(id) = held(world).get(which) {
                world.release(&[id.0]);
            }
        }
        Step::ReleaseAny { ids } => _ = world.release(&ids),
        Step::Get { id } => {
            world.get(id);
            world.ask(Request::Why(Why { ids: vec![id] }));
            world.ask(Request::Dependents(Dependents { id }));
            world.ask(Request::Attempts(Attempts { id }));
        }
        Step::List { limit } => _ = world.list(List { limit: Some(limit), ..List::default() }),
        Step::Output { id, missing } => {
            world.outputs_are_missing = missing;
            world.output(id);
        }
        Step::Listen => _ = world.listen(),
        Step::ListenAgain { which } => {
            if let Some(cursor) = world.clients.cursors.iter().rev().nth(which).cloned() {
                world.listen_since(&cursor);
            }
        }
        Step::Backup => _ = world.ask(Request::Backup),
        Step::Disconnect { which } => {
            if let Some(&request) = world.open_requests().get(which) {
                world.disconnect(request);
            }
        }
        Step::Read { which } => {
            let unread = world.clients.unread.iter().nth(which).copied();
            unread.into_iter().for_each(|request| world.read(request));
        }
        Step::FallBehind { which } => {
            let listening = world.open_requests().into_iter().filter(|&open| world.is_listening(open));
            if let Some(request) = listening.collect::<Vec<RequestId>>().get(which).copied() {
                world.fall_behind(request);
            }
        }
        Step::Share { shares } => world.shares_connections = shares,
        Step::StoreWorks { times } => (0..times).for_each(|_| _ = world.store_step()),
        Step::StoreWrites { orders } => world.store_writes(orders),
        Step::StoreRefuses => world.store_refuses(),
        Step::Answers { times } => (0..times).for_each(|_| _ = world.answer_step()),
        Step::SpawnsAtOnce { at_once } => world.spawns_at_once = at_once,
        Step::WorkerUp { which } => {
            on_worker(world, which, |worker| matches!(worker, Worker::Starting), World::worker_up)
        }
        Step::ProgramReady { which } => {
            on_worker(world, which, |worker| matches!(worker, Worker::Loading), World::program_ready);
        }
        Step::Misbehaves { which, during } => {
            let is_up = |slot: &&SlotId| {
                let worker = &world.workers[*slot].1;
                world.is_warm(**slot)
                    && matches!(worker, Worker::Idle | Worker::Loading | Worker::Busy { .. })
            };
            let warm: Vec<SlotId> = world.workers.keys().filter(is_up).copied().collect();
            if let Some(&slot) = warm.get(which % 3) {
                world.misbehaves(slot, during);
            }
        }
        Step::SuccessorSteps => {
            let slot = world.changing_successor();
            slot.into_iter().for_each(|slot| world.successor_steps(slot));
        }
        Step::SuccessorDies => {
            let slot = world.successors.keys().next().copied();
            slot.into_iter().for_each(|slot| world.successor_lost(slot));
        }
        Step::SuccessorMisbehaves => {
            let slot = successor_that_is_up(world);
            slot.into_iter().for_each(|slot| world.successor_misbehaves(slot));
        }
        Step::SuccessorIsDying => {
            let slot = successor_that_is_up(world);
            slot.into_iter().for_each(|slot| world.successor_dying(slot));
        }
        Step::ReplacedDies if !world.replaced.is_empty() => world.replaced_lost(0),
        Step::ReplacedDies => {}
        Step::WorkerDies { which, unsent } => {
            on_worker(world, which, |_| true, |world, slot| world.worker_died(slot, unsent))
        }
        Step::WorkerIsDying { which } => {
            let fits =
                |worker: &Worker| matches!(worker, Worker::Idle | Worker::Loading | Worker::Busy { .. });
            on_worker(world, which, fits, World::worker_dying);
        }
        Step::GivesBack { which } => {
            let slot = world.ahead.keys().cycle().nth(which).copied();
            slot.into_iter().for_each(|slot| world.give_back(slot));
        }
        Step::Starts { which } => on_worker(world, which, is_unstarted, World::attempt_started),
        Step::Idles { which } => on_worker(world, which, is_busy, World::attempt_idle),
        Step::Ends { which, exit } => {
            on_worker(world, which, is_busy, |world, slot| world.attempt_ended(slot, exit));
        }
        Step::CannotStart { which, stage, errno } => {
            on_worker(world, which, is_unstarted, |world, slot| world.attempt_failed(slot, stage, errno));
        }
        Step::Time { ms } => world.advance(Duration::from_millis(ms)),
        Step::Deadline => pass_deadline(world),
        Step::Reread { workers, without } => {
            let mut config = roomy(workers);
            let backfill = workers % 2 == 1;
            let default = PoolConfig { backfill, resources: stock(workers), ..PoolConfig::default() };
            config.pool.insert(DEFAULT_POOL.to_owned(), default);
            if let Some(pool) = without {
                config.pool.remove(pool);
            }
            world.reread(config);
        }
        Step::AddPool { workers } => _ = world.add_pool(ADDED, workers),
        Step::RemovePool => _ = world.remove_pool(ADDED),
        Step::AddSchedule { overlap, missed } => _ = world.add_schedule(SCHEDULE, SECOND, overlap, missed),
        Step::PauseSchedule { paused } => _ = world.pause_schedule(SCHEDULE, paused),
        Step::RemoveSchedule => _ = world.remove_schedule(SCHEDULE),
        Step::SetPaused { pool, paused } => _ = world.set_paused(&[pool], paused),
        Step::SetLimit { label, limit } => _ = world.set_limit(label, limit),
        Step::RestartPool { added } => _ = world.restart_pool(if added { ADDED } else { "warm" }),
        Step::Dies { death } => world.die(death),
        Step::DiesWithin { effects, steps, death } => die_within(world, effects, steps, death),
        Step::DiskFull { full } => world.set_disk_full(full),
    }
    world.check();
}

/// What the backing and the workers do next is cut off in the middle of its effects.
fn die_within(world: &mut World, effects: usize, steps: usize, death: Death) {
    world.cut_at = Some(world.performed + effects);
    world.settle();
    for (slot, _) in world.running() {
        if world.lives() {
            world.attempt_ended(slot, Exit::Code(1));
        }
    }
    world.settle();
    world.cut_at = None;
    if world.dead {
        world.bury(steps, death);
    } else {
        world.die(death);
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

fn successor_that_is_up(world: &World) -> Option<SlotId> {
    let is_up = |worker: &Worker| matches!(worker, Worker::Loading | Worker::Idle);
    world.successors.iter().find(|(_, (_, worker))| is_up(worker)).map(|(&slot, _)| slot)
}

fn is_busy(worker: &Worker) -> bool {
    matches!(worker, Worker::Busy { .. })
}

fn is_unstarted(worker: &Worker) -> bool {
    matches!(worker, Worker::Busy { started: false, .. })
}

/// What the disk has as held; what is on its way there or back is left alone.
fn held(world: &World) -> Vec<JobId> {
    let is_changing = |id: JobId| {
        world.delayed().orders.iter().any(|order| match order {
            Order::Change(Change::Release { ids, .. }) => ids.contains(&id),
            Order::Change(Change::Edit(edit)) => edit.id == id,
            Order::Change(Change::Move(moved)) => moved.id == id,
            _ => false,
        })
    };
    let is_held = |id: &JobId| matches!(world.disk().place_of(*id), Some(Place::Waiting(Until::Person)));
    world.disk().jobs().filter(is_held).filter(|&id| !is_changing(id)).collect()
}

/// All pools are there and go on, and everything ends by itself. Then the pool that was added goes.
pub fn come_to_rest(world: &mut World) {
    world.set_disk_full(false);
    world.settle();
    // A pool that is not there would keep its queue for ever.
    world.reread(roomy(3));
    if !world.desk().config().pool.contains_key(ADDED) {
        world.add_pool(ADDED, 1);
    }
    resume_all(world);
    world.remove_schedule(SCHEDULE);
    run_on(world);
    world.check_ends();
    world.remove_pool(ADDED);
    run_on(world);
    world.assert_idle();
    world.assert_empty();
}

/// Jobs that take several slots, or items of resources, may be in two of the pools.
pub fn roomy(workers: u32) -> Config {
    let mut config = mixed(workers);
    let resources = stock(workers);
    config.pool.insert("other".to_owned(), PoolConfig { resources: resources.clone(), ..pool(workers) });
    config.pool.insert(DEFAULT_POOL.to_owned(), PoolConfig { resources, ..PoolConfig::default() });
    config
}

/// With more workers there are more resources, and other items of these.
fn stock(workers: u32) -> BTreeMap<String, Vec<String>> {
    let all: [(&str, &[&str]); 2] = match workers {
        1 => return BTreeMap::from([("gpu".to_owned(), vec!["1".to_owned()])]),
        2 => [("gpu", &["0", "1"]), ("tape", &[])],
        _ => [("gpu", &["2", "1", "3"]), ("tape", &["a"])],
    };
    let items = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
    all.into_iter().map(|(name, all)| (name.to_owned(), items(all))).collect()
}

fn resume_all(world: &mut World) {
    world.settle();
    let paused: Vec<String> = world.disk().pauses().keys().cloned().collect();
    let paused: Vec<&str> = paused.iter().map(String::as_str).collect();
    world.set_paused(&paused, false);
    world.settle();
}

/// Lets everything end by itself.
fn run_on(world: &mut World) {
    for _ in 0..100_000 {
        world.settle();
        for id in held(world) {
            world.release(&[id.0]);
        }
        world.settle();
        world.check();
        let running = world.running();
        if running.is_empty() && world.next_deadline().is_none() {
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
    fn every_job_comes_to_one_end_and_everybody_is_told(workers in 1..4u32, steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::handing_ahead(roomy(workers));
        for step in steps {
            take(&mut world, step);
        }
        come_to_rest(&mut world);
        world.drain();
        prop_assert!(world.exited, "there is nothing left to drain");
    }

    #[test]
    fn a_stop_comes_to_its_end_and_loses_nothing(steps in prop::collection::vec(step(), 1..80), hurry in any::<bool>()) {
        let mut world = World::handing_ahead(roomy(2));
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
        // What the machines handed to the backing before they left is written by the backing's close.
        world.set_disk_full(false);
        while world.store_step() {}
        world.crash();
        come_to_rest(&mut world);
    }
}

/// Those that are asked to end do so.
fn stop_on(world: &mut World) {
    world.settle_store();
    let is_condemned = |(&slot, (_, worker)): (&SlotId, &(_, Worker))| {
        matches!(worker, Worker::Condemned { .. } | Worker::Dying { .. }).then_some(slot)
    };
    let condemned: Vec<SlotId> = world.workers.iter().filter_map(is_condemned).collect();
    for slot in condemned {
        if world.lives() {
            world.worker_lost(slot);
        }
    }
    for (slot, _) in world.running() {
        if world.lives() {
            world.attempt_ended(slot, Exit::Signal { signal: 15, core: false });
        }
    }
    if world.lives() {
        pass_deadline(world);
    }
}
