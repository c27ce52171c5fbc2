//! A client's message, from its bytes to the work that a scheduler runs: refused with a reason that a user understands, or read as it was
//! meant, completed, and run to its end.

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use pool_proto::Refusal;
use pool_proto::interface::{self, DEFAULT_POOL, Job, Method, Usage};
use pool_proto::message::Call;
use pool_proto::text::MAX_DURATION;
use poold::config::Config;
use poold::job::{Claim, Ended, Environment, Exit, JobId, JobKind, Process, RequestId, Work};
use poold::scheduler::store_op::{Restored, StoreAnswer, StoreOp};
use poold::scheduler::{Effect, Event, Now, Scheduler, SlotId};
use poold::server::{Parsed, Request, parse};
use poold::supervisor::admission::{Admission, complete};
use serde_json::Value;
use serde_json::value::RawValue;

/// The bytes are a frame without its NUL.
pub fn request(bytes: &[u8]) {
    let Ok(call) = serde_json::from_slice::<Call<&RawValue>>(bytes) else { return };
    check_envelope(&call);
    match parse(&call) {
        Ok(Parsed::Request(request)) => {
            check_meaning(&request);
            match request {
                Request::Submit(submit) => admit(submit.job, 0),
                Request::SubmitMany(many) => check_many(*many),
                _ => {}
            }
        }
        Ok(Parsed::Service(reply)) => {
            assert!(serde_json::to_value(reply).expect("it can be written").is_object())
        }
        Err(refusal) => super::check_refusal(&refusal),
    }
}

/// Written and read again, a call is the same.
fn check_envelope(call: &Call<&RawValue>) {
    let text = serde_json::to_string(call).expect("a call can be written");
    let again: Call<&RawValue> = serde_json::from_str(&text).expect("and read");
    let members = |call: &Call<&RawValue>| (call.method.clone(), call.oneway, call.more, call.upgrade);
    assert_eq!(members(&again), members(call));
    assert_eq!(again.parameters.map(RawValue::get), call.parameters.map(RawValue::get));
}

/// What was read, sent by our own client, is read as the same.
fn check_meaning(request: &Request) {
    let Some((method, parameters)) = parts(request) else { return };
    let call = Call {
        method: method.to_owned(),
        parameters: Some(&parameters),
        oneway: false,
        more: false,
        upgrade: false,
    };
    let text = serde_json::to_string(&call).expect("a call can be written");
    let again: Call<&RawValue> = serde_json::from_str(&text).expect("and read");
    let Ok(Parsed::Request(again)) = parse(&again) else { panic!("{text} is refused") };
    let same = parts(&again).is_some_and(|(name, other)| name == method && is_same(&parameters, &other));
    assert!(same, "{text} is read as {again:?}");
}

/// Method and parameters, of those that have any.
fn parts(request: &Request) -> Option<(&'static str, Value)> {
    fn of<M: Method>(parameters: &M) -> Option<(&'static str, Value)> {
        // What is nested too deeply can be passed on, but not taken apart.
        Some((M::NAME, serde_json::to_value(parameters).ok()?))
    }
    match request {
        Request::Ping
        | Request::Spool
        | Request::Pools
        | Request::Status
        | Request::Absent(_)
        | Request::Events(_)
        | Request::Backup
        | Request::EndBackup => None,
        Request::Submit(submit) => of(&**submit),
        Request::SubmitMany(many) => of(&**many),
        Request::Wait(wait) => of(wait),
        Request::Get(get) => of(get),
        Request::List(list) => of(list),
        Request::Output(output) => of(output),
        Request::Cancel(cancel) => of(cancel),
        Request::Signal(signal) => of(signal),
        Request::Release(release) => of(release),
        Request::AddPool(added) => of(&**added),
        Request::RemovePool(remove) => of(remove),
        Request::Shutdown(shutdown) => of(shutdown),
    }
}

/// Equal, but for the last digit of a fraction, which serde_json does not promise to keep.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            (a - b).abs() <= a.abs() * 1e-15
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && is_same(a, b))
        }
        _ => one == other,
    }
}

fn check_many(many: interface::SubmitMany) {
    let defaults = many.defaults.unwrap_or_default();
    assert_eq!(complete(defaults.clone(), &Job::default()), defaults, "without defaults a job is what it is");
    for (index, job) in many.jobs.into_iter().enumerate().take(8) {
        let completed = complete(job.clone(), &defaults);
        assert_eq!(complete(completed.clone(), &defaults), completed, "defaults fill what is left out, once");
        assert!(job.argv.is_empty() || completed.argv == job.argv);
        assert!(job.method.is_none() || completed.method == job.method);
        admit(completed, index);
    }
}

/// What a job becomes: work, or a refusal that names the member at fault.
fn admit(job: Job, index: usize) {
    static ADMISSION: LazyLock<Admission> = LazyLock::new(Admission::for_own_user);
    let mut admission = ADMISSION.clone();
    let config = Config::default();
    let is_warm = job.method.is_some();
    let pool_named = |name: &str| (name == DEFAULT_POOL || is_warm).then(|| (Arc::from(name), is_warm));
    match admission.admit(job.clone(), index, &config, pool_named) {
        Ok(work) => {
            check_work(&work, &job);
            let again =
                admission.admit(job, index, &config, pool_named).expect("it has been admitted before");
            assert_eq!(again, work);
            assert!(Arc::ptr_eq(&again.environment, &work.environment), "one environment is kept once");
            if work.call().is_none() {
                run(work, &config);
            }
        }
        Err(refusal) => check_job_refusal(&refusal, &job, index),
    }
}

fn check_job_refusal(refusal: &Refusal, job: &Job, index: usize) {
    super::check_refusal(refusal);
    match refusal {
        Refusal::InvalidJob { index: named, field, reason } => {
            assert_eq!(*named, index);
            assert!(is_member(field), "{field:?} is no member of a job");
            super::assert_sentence(reason);
        }
        Refusal::NoSuchPool { pool } => assert_eq!(Some(pool), job.pool.as_ref()),
        other => panic!("{other:?} says nothing of a job"),
    }
}

/// Whether a job has a member of that name: what is no member is refused as such.
fn is_member(field: &str) -> bool {
    let probe = serde_json::from_str::<Job>(&format!("{{{field:?}:null}}"));
    probe.err().is_none_or(|error| !error.to_string().contains("unknown field"))
}

fn check_work(work: &Work, job: &Job) {
    let argv = match &work.kind {
        JobKind::Exec(argv) => {
            assert!(!argv.is_empty() && !argv[0].is_empty(), "there is a command");
            assert!(job.method.is_none() && job.params.is_none());
            argv.as_slice()
        }
        JobKind::Call(call) => {
            assert_eq!(Some(&call.method), job.method.as_ref());
            assert!(
                !call.method.is_empty()
                    && call.params.as_ref().is_none_or(|params| !params.get().contains(['\n', '\r']))
            );
            &[]
        }
    };
    assert_eq!(argv, job.argv);
    assert!(work.cwd.starts_with('/'), "{:?}", work.cwd);
    assert!(
        work.timeout.is_none_or(|timeout| !timeout.is_zero() && timeout <= MAX_DURATION),
        "{:?}",
        work.timeout
    );
    assert!(work.kill_after <= MAX_DURATION, "{:?}", work.kill_after);
    let backoffs = [0, 1, 31, u32::MAX - 1].into_iter().filter_map(|retried| work.retries.after(retried));
    assert!(backoffs.max() <= Some(MAX_DURATION), "{:?}", work.retries);
    assert_eq!(work.priority, job.priority.unwrap_or(0));
    assert!(work.environment.umask <= 0o777);
    let variables = &work.environment.variables;
    assert!(variables.keys().all(|name| !name.is_empty() && !name.contains('=')), "{variables:?}");
    let commands = work.callbacks.iter().map(|callback| &callback.command);
    let texts = argv
        .iter()
        .chain([&work.cwd])
        .chain(&work.name)
        .chain(commands)
        .chain(variables.keys())
        .chain(variables.values());
    assert!(!texts.into_iter().any(|text| text.contains('\0')), "a system call would cut it short");
    let given = [&job.on_done, &job.on_success, &job.on_failure];
    assert_eq!(work.callbacks.len(), given.into_iter().flatten().map(Vec::len).sum::<usize>());
    if let Some(tie) = work.tie {
        assert_eq!(tie.to_string().parse(), Ok(tie));
    }
}

/// The work is accepted, started, and ended from outside, by its timeout or by a client, on a machine that is not ended soon.
fn run(work: Arc<Work>, config: &Config) {
    let mut now = Now { monotonic: MAX_DURATION, wall_us: 1_700_000_000_000_000 };
    let restored = Restored { next_job: 1, next_callback: 1, ..Restored::default() };
    let (mut scheduler, effects) = Scheduler::restore(
        config.settings(NonZeroU32::new(1), &Arc::new(Environment::default())),
        restored,
        now,
    );
    for effect in effects {
        if let Effect::SpawnWorker { slot } = effect {
            scheduler.handle(now, Event::WorkerUp { slot, pid: 100 });
        }
    }
    let id = JobId(1);
    scheduler.handle(now, Event::Submit { call: RequestId(1), jobs: vec![work.clone()], attached: None });
    let inserted = StoreAnswer::Inserted {
        call: RequestId(1),
        first: id,
        jobs: vec![work],
        untied: Vec::new(),
        existing: Vec::new(),
    };
    let mut effects = scheduler.handle(now, Event::Store(inserted));
    if let Some(attempt) = effects.iter().find_map(claimed) {
        effects = scheduler.handle(now, Event::Store(StoreAnswer::Claimed { id, attempt, worker_pid: 100 }));
    }
    let (slot, claim) = effects.iter().find_map(handed_out).expect("a slot is idle");
    let process = Process { pid: 1000, start_ticks: None };
    scheduler.handle(now, Event::Started { slot, claim, process, started_us: now.wall_us });
    scheduler.handle(now, Event::Stop);
    while let Some(at) = scheduler.next_deadline() {
        now.monotonic = at;
        scheduler.handle(now, Event::Tick);
        assert!(scheduler.next_deadline().is_none_or(|next| next > at), "a deadline that has passed stands");
    }
    let usage = Usage::default();
    let exit = Exit::Signal { signal: 9, core: false };
    let ended = Ended { exit, usage, stdout_bytes: 0, stderr_bytes: 0, ended_us: now.wall_us, verdict: None };
    let effects = scheduler.handle(now, Event::Ended { slot, claim, ended });
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Store(_))),
        "its end is written down: {effects:?}"
    );
}

fn claimed(effect: &Effect) -> Option<u32> {
    match effect {
        Effect::Store(StoreOp::Claim { attempt, .. }) => Some(*attempt),
        _ => None,
    }
}

fn handed_out(effect: &Effect) -> Option<(SlotId, Claim)> {
    match effect {
        Effect::Run { slot, claim, .. } => Some((*slot, *claim)),
        _ => None,
    }
}
