//! A client's message, from its bytes to the work that the core runs: refused with a reason that a user
//! understands, or read as it was meant, completed, and run to its end.

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use pool_proto::methods::{Method, Parsed, SubmitMany, parse};
use pool_proto::nouns::{DEFAULT_POOL, Job, Usage};
use pool_proto::text::MAX_DURATION;
use pool_proto::wire::message::RequestEnvelope;
use pool_proto::{OsText, Refusal, Request};
use poold::core::{Core, Effect, Event, Now, SlotId};
use poold::desk::{Account, Admission, Common, complete};
use poold::engine::{Answer, Change, Conditional, Offer, Restored, Turns};
use poold::job::{
    Claim, Ended, Environment, Exit, JobId, JobKind, Process, ProcessId, Ready, RequestId, Tries, Work,
};
use poold::start::config::Config;
use serde_json::Value;
use serde_json::value::RawValue;

/// The bytes are a frame without its NUL.
pub fn request(bytes: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<RequestEnvelope<&RawValue>>(bytes) else { return };
    check_envelope(&envelope);

    match parse(&envelope) {
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

/// An envelope that is written and read again is the same.
fn check_envelope(envelope: &RequestEnvelope<&RawValue>) {
    let text = serde_json::to_string(envelope).expect("an envelope can be written");
    let again: RequestEnvelope<&RawValue> = serde_json::from_str(&text).expect("and read");

    let members = |envelope: &RequestEnvelope<&RawValue>| {
        (envelope.method.clone(), envelope.oneway, envelope.more, envelope.upgrade)
    };
    assert_eq!(members(&again), members(envelope));
    assert_eq!(again.parameters.map(RawValue::get), envelope.parameters.map(RawValue::get));
}

/// A request that was read, sent by our own client, is read as the same.
fn check_meaning(request: &Request) {
    let Some(parameters) = parameters(request) else { return };
    let envelope = RequestEnvelope {
        method: request.name().to_owned(),
        parameters: Some(&parameters),
        oneway: false,
        more: false,
        upgrade: false,
    };
    let text = serde_json::to_string(&envelope).expect("an envelope can be written");

    let again: RequestEnvelope<&RawValue> = serde_json::from_str(&text).expect("and read");
    let Ok(Parsed::Request(again)) = parse(&again) else { panic!("{text} is refused") };
    let same = again.name() == request.name();
    let same = same && self::parameters(&again).is_some_and(|other| is_same(&parameters, &other));
    assert!(same, "{text} is read as {again:?}");
}

/// The parameters of a request; none where its method has none.
fn parameters(request: &Request) -> Option<Value> {
    fn of<M: Method>(parameters: &M) -> Option<Value> {
        // What is nested too deeply can be passed on, but not taken apart.
        serde_json::to_value(parameters).ok()
    }
    match request {
        Request::Ping
        | Request::Spool
        | Request::Pools
        | Request::Count
        | Request::LabelLimits
        | Request::Status
        | Request::Settings
        | Request::Backup
        | Request::EndBackup => None,
        Request::Submit(submit) => of(&**submit),
        Request::SubmitMany(many) => of(&**many),
        Request::Wait(wait) => of(wait),
        Request::Get(get) => of(get),
        Request::List(list) => of(&**list),
        Request::Output(output) => of(output),
        Request::Cancel(cancel) => of(cancel),
        Request::Signal(signal) => of(signal),
        Request::OpenInput(open) => of(open),
        Request::CloseInput(close) => of(close),
        Request::Resize(resize) => of(resize),
        Request::SetFrozen(asked) => of(asked),
        Request::Hold(hold) => of(hold),
        Request::Move(moved) => of(moved),
        Request::Edit(edit) => of(&**edit),
        Request::Definition(asked) => of(asked),
        Request::Retry(retry) => of(retry),
        Request::Remove(remove) => of(remove),
        Request::Release(release) => of(release),
        Request::Callbacks(asked) => of(asked),
        Request::GetCallback(asked) => of(asked),
        Request::RetryCallbacks(retry) => of(retry),
        Request::DropCallbacks(drop) => of(drop),
        Request::AddPool(added) => of(&**added),
        Request::RemovePool(remove) => of(remove),
        Request::RestartPool(restart) => of(restart),
        Request::DrainPool(drain) => of(drain),
        Request::SetPaused(paused) => of(paused),
        Request::SetWorkers(set) => of(set),
        Request::AddSchedule(add) => of(&**add),
        Request::Schedules(asked) => of(asked),
        Request::SetSchedulesPaused(paused) => of(paused),
        Request::RunSchedule(run) => of(run),
        Request::RemoveSchedules(remove) => of(remove),
        Request::SetLabelLimit(limit) => of(limit),
        Request::Absent(absent) => of(absent),
        Request::Why(why) => of(why),
        Request::Dependents(dependents) => of(dependents),
        Request::Attempts(attempts) => of(attempts),
        Request::Events(events) => of(events),
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

fn check_many(many: SubmitMany) {
    let defaults = many.defaults.unwrap_or_default();
    assert_eq!(complete(defaults.clone(), &Job::default()), defaults, "without defaults a job is what it is");
    check_together(&many.jobs, &defaults);
    check_large(many.jobs.first(), &defaults);
    for (index, job) in many.jobs.into_iter().enumerate().take(8) {
        let completed = complete(job.clone(), &defaults);
        assert_eq!(complete(completed.clone(), &defaults), completed, "defaults fill what is left out, once");
        assert!(job.argv.is_empty() || completed.argv == job.argv);
        assert!(job.method.is_none() || completed.method == job.method);
        admit(completed, index);
    }
}

/// Jobs of one message become what each becomes by itself, and those that bring no environment share one.
fn check_together(jobs: &[Job], defaults: &Job) {
    let mut admission = Admission::new(Account::default());
    let config = Config::default();
    let mut common = Common::new(defaults.clone());
    let mut shared: Vec<Arc<Environment>> = Vec::new();
    for (index, job) in jobs.iter().enumerate().take(1000) {
        let Ok(completed) = common.complete(job.clone()) else { return };
        let is_warm = completed.method.is_some();
        let pool_named = |name: &str| (name == DEFAULT_POOL || is_warm).then(|| (Arc::from(name), is_warm));
        let together = admission.admit_one_of(completed, index, &mut common, &config, pool_named);
        let alone = admission.admit(complete(job.clone(), defaults), index, &config, pool_named);
        match (together, alone) {
            (Ok(together), Ok(alone)) => {
                assert_eq!(together, alone);
                let is_shared = job.env.is_none()
                    && job.umask.is_none()
                    && job.limits.is_none()
                    && defaults.env.is_some();
                shared.extend(is_shared.then(|| together.environment.clone()));
            }
            (Err(Refusal::InvalidParameter { .. }), _) => return,
            (together, alone) => assert_eq!(together.err(), alone.err()),
        }
    }
    assert!(shared.windows(2).all(|two| Arc::ptr_eq(&two[0], &two[1])), "the environment is kept once");
}

/// However large the defaults are, and however many take from them: what comes of one message is bounded.
fn check_large(job: Option<&Job>, defaults: &Job) {
    const MANY: usize = 300;
    const BOUND: usize = 80 << 20;
    let Some(job) = job else { return };
    let large = Job { argv: vec!["x".repeat(1 << 20).into()], method: None, ..defaults.clone() };
    let mut common = Common::new(large);
    let mut taken = 0;
    for _ in 0..MANY {
        let Ok(completed) = common.complete(job.clone()) else { break };
        taken += completed.argv.iter().map(|argument| argument.len()).sum::<usize>();
    }
    assert!(taken < BOUND, "{taken} bytes come of one message");
}

/// What a job becomes: work, or a refusal that names the member at fault.
fn admit(job: Job, index: usize) {
    static ADMISSION: LazyLock<Admission> = LazyLock::new(|| Admission::new(Account::default()));
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
    assert!(work.cwd.as_escaped().starts_with('/'), "{:?}", work.cwd);
    assert!(
        work.timeout.is_none_or(|timeout| !timeout.is_zero() && timeout <= MAX_DURATION),
        "{:?}",
        work.timeout
    );
    assert!(work.kill_after <= MAX_DURATION, "{:?}", work.kill_after);
    let backoffs = [0, 1, 31, u32::MAX - 1].into_iter().map(|retried| work.retries.wait(retried, u64::MAX));
    assert!(backoffs.max() <= Some(2 * MAX_DURATION), "{:?}", work.retries);
    assert_eq!(work.priority, job.priority.unwrap_or(0));
    assert!(work.environment.umask <= 0o777);
    let limits = &work.environment.limits;
    assert!(limits.resources.iter().flatten().all(|(_, limit)| limit.is_ordered()), "{limits:?}");
    let variables = &work.environment.variables;
    assert!(
        variables.keys().all(|name| !name.is_empty() && !name.as_escaped().contains('=')),
        "{variables:?}"
    );
    let commands = work.callbacks.iter().map(|callback| &callback.command);
    let texts = argv
        .iter()
        .chain([&work.cwd])
        .chain(&work.name)
        .chain(commands)
        .chain(variables.keys())
        .chain(variables.values());
    assert!(!texts.into_iter().any(OsText::has_nul), "a system call would cut it short");
    let given = [&job.on_done, &job.on_success, &job.on_failure];
    assert_eq!(work.callbacks.len(), given.into_iter().flatten().map(Vec::len).sum::<usize>());
    if let Some(tie) = work.tie {
        assert_eq!(tie.to_string().parse(), Ok(tie));
    }
}

/// The work is accepted, started, and ended from outside, by its timeout or by a client, on a machine that is
/// not ended soon.
fn run(work: Arc<Work>, config: &Config) {
    let mut now = Now { monotonic: MAX_DURATION, wall_us: 1_700_000_000_000_000 };
    let restored = Restored { next_job: 1, next_callback: 1, ..Restored::default() };
    let settings = config.settings(NonZeroU32::new(1), &Arc::new(Environment::default()));
    let (mut core, effects) = Core::restore(settings, restored, now);
    for effect in effects {
        if let Effect::SpawnWorker { slot, .. } = effect {
            core.handle(now, Event::WorkerUp { slot, pid: ProcessId::new(100) });
        }
    }

    let (request, first) = (RequestId(1), JobId(1));
    core.handle(now, Event::Submit { request, jobs: vec![work.clone()] });
    let (conditions, existing, turns) = (Conditional::default(), Vec::new(), Turns::default());
    let (jobs, is_synced) = (vec![work.clone()], true);
    let inserted = Answer::Inserted { request, first, jobs, existing, turns, conditions, is_synced };
    core.handle(now, Event::Answer(inserted));
    let pool = work.pool.clone();
    let ready = Ready { id: first, tries: Tries::default(), work };
    let offers = vec![Offer { ready, start_by: None, bytes: 1 }];
    let mut effects = core.handle(now, Event::Offered { pool, offers });
    if let Some((attempt, worker)) = effects.iter().find_map(to_be_confirmed) {
        effects = core.handle(now, Event::Answer(Answer::Placed { id: first, attempt, worker }));
    }

    let (slot, claim) = effects.iter().find_map(handed_out).expect("a slot is idle");
    let process = Process { pid: ProcessId::new(1000), start_ticks: None };
    core.handle(now, Event::Started { slot, claim, process, started_us: now.wall_us, memory_limiter: None });
    core.handle(now, Event::Stop);
    while let Some(at) = core.next_deadline() {
        now.monotonic = at;
        core.handle(now, Event::Tick);
        assert!(core.next_deadline().is_none_or(|next| next > at), "a deadline that has passed stands");
    }

    let usage = Usage::default();
    let exit = Exit::Signal { signal: 9, core: false };
    let ended = Ended {
        exit,
        usage,
        stdout_bytes: 0,
        stderr_bytes: 0,
        disk_bytes: 0,
        ended_us: now.wall_us,
        ended_since_boot_us: 0,
        verdict: None,
    };
    let effects = core.handle(now, Event::Ended { slot, claim, ended });
    let is_change = |effect: &Effect| matches!(effect, Effect::Change(_));
    assert!(effects.iter().any(is_change), "its end is written down: {effects:?}");
}

fn to_be_confirmed(effect: &Effect) -> Option<(u32, ProcessId)> {
    match effect {
        Effect::Change(Change::Move(moved)) => Some((moved.tries.attempts, moved.worker_to_confirm()?)),
        _ => None,
    }
}

fn handed_out(effect: &Effect) -> Option<(SlotId, Claim)> {
    match effect {
        Effect::Run { slot, claim, .. } => Some((*slot, *claim)),
        _ => None,
    }
}
