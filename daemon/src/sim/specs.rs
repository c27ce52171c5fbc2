//! What the stories are told with: configurations, jobs, and how a job is written down for `Submit`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::Json;
use pool_proto::nouns::{
    ArraySpec, CallbackFor, DEFAULT_POOL, Dependency, Job, JobDurability, On, OnCrash, ReadyWhen,
};
use pool_proto::text::rfc3339;

use crate::job::{
    After, ArrayPart, ArrayPlan, Call, Environment, Exit, JobKind, LARGE_VALUE, Labels, Needs, NewCallback,
    NotBefore, Program, Retries, Wear, Work,
};
use crate::start::config::{CallbacksConfig, Config, PoolConfig};

pub const SECOND: Duration = Duration::from_secs(1);

pub const EXITED: Exit = Exit::Code(0);

/// So many jobs may wait in one pool.
const MAX_QUEUED: u64 = 1_000;

/// A configuration with so many workers in the default pool, and a second pool, "other".
pub fn settings(workers: u32) -> Config {
    let one = const { NonZeroU32::new(1).unwrap() };
    let mut config = Config {
        workers: NonZeroU32::new(workers),
        stop_grace: 5 * SECOND,
        max_queued: MAX_QUEUED,
        callbacks: CallbacksConfig {
            workers: one,
            attempts: const { NonZeroU32::new(3).unwrap() },
            backoff: SECOND,
            timeout: 60 * SECOND,
        },
        ..Config::default()
    };
    config.pool.insert("other".to_owned(), pool(1));
    config
}

/// The same with a third pool, of programs that are worn after three calls.
pub fn mixed(workers: u32) -> Config {
    let mut config = settings(workers);
    config.pool.insert("warm".to_owned(), warm(&program(), workers));
    config
}

/// A pool that runs commands.
pub fn pool(workers: u32) -> PoolConfig {
    PoolConfig { workers: NonZeroU32::new(workers), ..PoolConfig::default() }
}

/// A pool of that program.
pub fn warm(program: &Program, workers: u32) -> PoolConfig {
    let Wear { max_calls, max_age, max_rss_bytes } = program.wear;
    PoolConfig {
        command: Some(program.command.clone()),
        ready: Some(program.ready),
        start_timeout: Some(program.start_timeout),
        start_attempts: Some(program.start_attempts),
        max_calls,
        max_age,
        max_rss_bytes,
        ..pool(workers)
    }
}

pub fn program() -> Program {
    Program {
        command: vec!["program".into()],
        cwd: "/".into(),
        environment: Arc::new(Environment::default()),
        ready: ReadyWhen::Notify,
        start_timeout: Duration::from_secs(30),
        start_attempts: 8,
        wear: Wear { max_calls: Some(3), ..Wear::default() },
    }
}

/// A call for the pool "warm".
pub fn call() -> Work {
    let params = Some(Json::parse("[7]").unwrap());
    Work {
        pool: Arc::from("warm"),
        kind: JobKind::Call(Call { method: "square".to_owned(), params, lost: None }),
        ..work()
    }
}

/// A call with parameters that are kept in a file.
pub fn large_call() -> Work {
    let params = Json::parse(&format!("[{}7]", " ".repeat(LARGE_VALUE))).ok();
    Work { kind: JobKind::Call(Call { method: "square".to_owned(), params, lost: None }), ..call() }
}

/// Work for the default pool.
pub fn work() -> Work {
    Work {
        pool: Arc::from(DEFAULT_POOL),
        name: None,
        kind: JobKind::Exec(vec!["true".into()]),
        volatile: false,
        cwd: "/".into(),
        environment: Arc::new(Environment::default()),
        stdin: None,
        input: None,
        merge: false,
        timeout: None,
        idle_timeout: None,
        kill_after: Duration::from_secs(10),
        deadline: None,
        start_within: None,
        tie: None,
        on_crash: OnCrash::Requeue,
        priority: 0,
        needs: Needs::default(),
        exclusive: Labels::NONE,
        retries: Retries::NONE,
        key: None,
        unique: None,
        conditions: None,
        callbacks: Vec::new(),
        array: None,
    }
}

/// An array, as it is written.
pub fn array(spec: &str) -> Work {
    array_of(work(), spec, CallbackFor::Array)
}

/// That work, once for each of these indices.
pub fn array_of(work: Work, spec: &str, callback_for: CallbackFor) -> Work {
    let ArraySpec { indices, at_once } = spec.parse().expect("it is one");
    let plan = ArrayPlan { indices, at_once, callback_for };
    Work { array: Some(Box::new(ArrayPart::Whole(plan))), ..work }
}

pub fn with_callback(on: On) -> Work {
    Work { callbacks: vec![NewCallback { on, command: "callback".into() }], ..work() }
}

/// Work as a client writes it down.
pub fn as_submitted(work: &Work) -> Job {
    let commands = |on: On| {
        let matching = work.callbacks.iter().filter(|callback| callback.on == on);
        let commands: Vec<_> = matching.map(|callback| callback.command.clone()).collect();
        (!commands.is_empty()).then_some(commands)
    };
    let conditions = work.conditions.as_deref().cloned().unwrap_or_default();
    let (delay_s, at) = match conditions.start {
        Some(NotBefore::Delay(delay)) => (Some(delay.as_secs_f64()), None),
        Some(NotBefore::At { us }) => (None, Some(rfc3339(us))),
        None => (None, None),
    };
    let dependency = |after: &After| Dependency { id: after.id.0, on: Some(after.on) };
    let (argv, method, params) = match &work.kind {
        JobKind::Exec(argv) => (argv.clone(), None, None),
        JobKind::Call(call) => (Vec::new(), Some(call.method.clone()), call.params.clone()),
    };
    Job {
        argv,
        method,
        params,
        durability: Some(if work.volatile { JobDurability::None } else { JobDurability::Disk }),
        name: work.name.clone(),
        pool: Some(work.pool.to_string()),
        cwd: Some(work.cwd.clone()),
        env: Some(work.environment.variables.clone()),
        umask: Some(work.environment.umask),
        limits: Some(work.environment.limits.clone()),
        set_limits: None,
        stdin: work.stdin.clone(),
        input: work.input,
        merge: work.merge.then_some(true),
        timeout_s: work.timeout.map(|timeout| timeout.as_secs_f64()),
        idle_timeout_s: work.idle_timeout.map(|timeout| timeout.as_secs_f64()),
        kill_after_s: Some(work.kill_after.as_secs_f64()),
        deadline_s: work.deadline.map(|deadline| deadline.as_secs_f64()),
        start_within_s: work.start_within.map(|within| within.as_secs_f64()),
        hold: Some(conditions.hold),
        delay_s,
        at,
        after: Some(conditions.after.iter().map(dependency).collect()),
        tie: work.tie.map(|tie| tie.to_string()),
        on_crash: Some(work.on_crash),
        priority: Some(work.priority),
        labels: work.needs.labels.to_names(),
        slots: (work.needs.slots > 1).then_some(work.needs.slots),
        resources: work.needs.resources.to_counts(),
        exclusive: work.exclusive.to_names(),
        retries: Some(work.retries.allowed),
        jitter: Some(f64::from(work.retries.jitter) / 1000.0),
        retry_on_exit: work.retries.on.as_text(),
        no_retry_on_exit: None,
        backoff_s: Some(work.retries.backoff.as_secs_f64()),
        key: work.key.as_ref().map(|key| key.text.clone()),
        round: work.key.as_ref().and_then(|key| key.round.clone()),
        unique: work.unique.as_ref().map(|unique| unique.name.clone()),
        if_exists: work.unique.as_ref().map(|unique| unique.if_exists),
        array: work
            .plan()
            .map(|plan| ArraySpec { indices: plan.indices.clone(), at_once: plan.at_once }.to_string()),
        callback_for: work.plan().map(|plan| plan.callback_for),
        on_done: commands(On::Done),
        on_success: commands(On::Success),
        on_failure: commands(On::Failure),
    }
}
