//! Orders in few words, for the tests of backings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{Input, Limit, Limits, MemoryLimiter, On, OnCrash, ResultKind, State, Usage};

use super::{
    CallbackEnd, CallbackPage, CallbackWish, Change, Chore, Detail, Fence, Insertion, JobEdit, Move, Order,
    Page, Question, Room, Times,
};
use crate::job::{
    Call, CallbackId, Edit, Environment, Holdup, JobId, JobKind, KeptSchedule, Key, Labels, LineKey, Needs,
    NewCallback, Outcome, Pause, Place, Position, Process, ProcessId, Queued, RequestId, Retries, Start,
    StopReason, Term, Tie, Tries, Until, Work,
};

/// When jobs are submitted.
pub const NOW_US: i64 = 1_800_000_000_000_000;

/// A command, with everything that a job of it can have but a key.
pub fn work(argv: &[&str], callbacks: &[(On, &str)]) -> Arc<Work> {
    let variables = [("PATH".into(), "/bin".into())].into();
    let limit = Limit { soft: Some(64), hard: None };
    let resources = Some([("nofile".to_owned(), limit)].into());
    let limits = Limits { nice: Some(5), cpus: Some("0".to_owned()), memory_bytes: Some(1 << 30), resources };
    Arc::new(Work {
        pool: Arc::from("default"),
        name: Some("name".into()),
        volatile: false,
        kind: JobKind::Exec(argv.iter().map(|&argument| argument.into()).collect()),
        cwd: "/tmp".into(),
        environment: Arc::new(Environment { variables, umask: 0o27, limits }),
        stdin: Some("token".to_owned()),
        input: Some(Input::Pipe),
        merge: true,
        timeout: Some(Duration::from_millis(1500)),
        idle_timeout: Some(Duration::from_millis(2500)),
        kill_after: Duration::from_secs(3),
        deadline: None,
        start_within: None,
        tie: Some(Tie::Pool),
        on_crash: OnCrash::Requeue,
        priority: 0,
        needs: Needs::default(),
        exclusive: Labels::NONE,
        retries: Retries::NONE,
        key: None,
        unique: None,
        conditions: None,
        callbacks: callbacks
            .iter()
            .map(|&(on, command)| NewCallback { on, command: command.into() })
            .collect(),
        array: None,
    })
}

/// A call, which has nothing but its method.
pub fn call(volatile: bool) -> Arc<Work> {
    Arc::new(Work {
        kind: JobKind::Call(Call { method: "m".to_owned(), params: None, lost: None }),
        volatile,
        environment: Arc::new(Environment::default()),
        stdin: None,
        tie: None,
        ..Work::clone(&work(&[], &[]))
    })
}

/// New jobs; the request's id is the first job's.
pub fn insert(first: u64, first_callback: u64, jobs: Vec<Arc<Work>>) -> Order {
    let (first, first_callback) = (JobId(first), CallbackId(first_callback));
    let request = RequestId(first.0);
    let times = Times { submitted_us: NOW_US, counted_from_us: NOW_US };
    let insertion =
        Insertion { request, first, first_callback, jobs, times, is_urgent: false, files: Vec::new() };
    Order::Change(Change::Insert(insertion))
}

/// New jobs, for one of which a slot is free.
pub fn insert_urgently(first: u64, first_callback: u64, jobs: Vec<Arc<Work>>) -> Order {
    match insert(first, first_callback, jobs) {
        Order::Change(Change::Insert(insertion)) => {
            Order::Change(Change::Insert(Insertion { is_urgent: true, ..insertion }))
        }
        other => other,
    }
}

pub fn change(moved: Move) -> Order {
    Order::Change(Change::Move(Box::new(moved)))
}

/// A move of a job whose attempt this is.
pub fn moved(id: u64, attempts: u32, to: Place) -> Move {
    let tries = Tries { attempts, ..Tries::default() };
    Move::new(JobId(id), Fence::Attempt(attempts), to, tries)
}

pub fn a_start() -> Start {
    let (worker, pid) = (ProcessId::new(10), ProcessId::new(11));
    let process = Some(Process { pid, start_ticks: Some(5) });
    let memory_limiter = Some(MemoryLimiter::Cgroup);
    Start { slot: 1, worker, process, memory_limiter, started_us: NOW_US + 1_000_000, since_boot_us: 7 }
}

pub fn start(id: u64, attempt: u32) -> Order {
    change(moved(id, attempt, Place::Running(a_start())))
}

/// A start that is to be confirmed before the attempt runs.
pub fn claim(id: u64, attempt: u32) -> Order {
    let start = Start { process: None, ..a_start() };
    change(Move { confirm: true, ..moved(id, attempt, Place::Running(start)) })
}

pub fn stop(id: u64, attempt: u32, reason: StopReason) -> Order {
    change(moved(id, attempt, Place::Stopping(reason)))
}

/// The attempt has died, and the job is queued again.
pub fn crash(id: u64, attempts: u32, crashes: u32, how: &str) -> Order {
    let tries = Tries { attempts, crashes, ..Tries::default() };
    let queued = moved(id, attempts, Place::Queued { again: false });
    change(Move { tries, reason: Some(how.to_owned()), crashed: true, ..queued })
}

/// The attempt has died, and a person decides.
pub fn hold(id: u64, attempts: u32, crashes: u32, how: &str) -> Order {
    let tries = Tries { attempts, crashes, ..Tries::default() };
    let held = moved(id, attempts, Place::Waiting(Until::Person));
    change(Move { tries, reason: Some(how.to_owned()), ..held })
}

/// The attempt has failed, and the next one waits for a time.
pub fn wait(id: u64, attempts: u32, retried: u32, due_us: i64) -> Order {
    let tries = Tries { attempts, retried, ..Tries::default() };
    let waiting = moved(id, attempts, Place::Waiting(Until::Time { due_us }));
    change(Move { tries, reason: Some("exit code 1".to_owned()), ..waiting })
}

pub fn outcome(state: State, result: ResultKind, ended_us: i64) -> Box<Outcome> {
    Box::new(Outcome {
        state,
        result,
        exit_code: Some(3),
        signal: None,
        reason: Some("because".to_owned()),
        usage: Some(Usage { user_s: 0.5, sys_s: 0.25, max_rss_bytes: 4096, memory_peak_bytes: Some(8192) }),
        stdout_bytes: Some(100),
        stderr_bytes: Some(20),
        disk_bytes: 120,
        answer: None,
        ended_us,
    })
}

/// The job's only attempt has failed.
pub fn finish(id: u64) -> Order {
    finish_at(id, NOW_US + 3_000_000)
}

pub fn finish_at(id: u64, ended_us: i64) -> Order {
    end(id, 1, outcome(State::Failed, ResultKind::ExitCode, ended_us))
}

/// The end of a job after so many attempts, with its record.
pub fn end(id: u64, attempts: u32, outcome: Box<Outcome>) -> Order {
    change(Move { want: Detail::Record, ..moved(id, attempts, Place::Ended(outcome)) })
}

/// The end of a job that is idle.
pub fn cancel(id: u64) -> Order {
    let outcome = outcome(State::Canceled, ResultKind::Canceled, NOW_US);
    change(Move::new(JobId(id), Fence::Idle, Place::Ended(outcome), Tries::default()))
}

pub fn hold_idle(request: u64, ids: &[u64]) -> Order {
    let ids = ids.iter().copied().map(JobId).collect();
    Order::Change(Change::Hold { request: RequestId(request), ids })
}

pub fn remove(request: u64, ids: &[u64]) -> Order {
    let ids = ids.iter().copied().map(JobId).collect();
    Order::Change(Change::Remove { request: RequestId(request), ids })
}

pub fn assign(request: u64, ids: &[u64], pool: &str, is_warm: bool) -> Order {
    let ids = ids.iter().copied().map(JobId).collect();
    Order::Change(Change::Assign { request: RequestId(request), ids, pool: pool.into(), is_warm })
}

pub fn edit(request: u64, id: u64, first_callback: u64, edit: Edit) -> Order {
    let times = Times { submitted_us: NOW_US, counted_from_us: NOW_US };
    let (next_job, first_callback) = (JobId(100), CallbackId(first_callback));
    let (request, id, edit) = (RequestId(request), JobId(id), Arc::new(edit));
    Order::Change(Change::Edit(Box::new(JobEdit { request, id, edit, times, next_job, first_callback })))
}

pub fn retry(request: u64, ids: &[u64]) -> Order {
    let ids = ids.iter().copied().map(JobId).collect();
    let times = Times { submitted_us: NOW_US, counted_from_us: NOW_US };
    Order::Change(Change::Retry { request: RequestId(request), ids, times, closed: Vec::new() })
}

pub fn release(request: u64, ids: &[u64]) -> Order {
    let ids = ids.iter().copied().map(JobId).collect();
    Order::Change(Change::Release { request: RequestId(request), ids, closed: Vec::new() })
}

pub fn wake(until_us: i64, limit: u32) -> Order {
    Order::Change(Change::Wake { until_us, limit })
}

pub fn begin_callback(id: u64) -> Order {
    Order::Change(Change::BeginCallback { id: CallbackId(id) })
}

pub fn end_callback(id: u64, end: CallbackEnd) -> Order {
    let exit_code = Some(i32::from(end != CallbackEnd::Delivered));
    Order::Change(Change::EndCallback { id: CallbackId(id), end, exit_code })
}

pub fn retry_callbacks(request: u64, ids: &[u64]) -> Order {
    alter_callbacks(request, ids, CallbackWish::Retry)
}

pub fn drop_callbacks(request: u64, ids: &[u64]) -> Order {
    alter_callbacks(request, ids, CallbackWish::Drop)
}

fn alter_callbacks(request: u64, ids: &[u64], wish: CallbackWish) -> Order {
    let ids = ids.iter().copied().map(CallbackId).collect();
    Order::Change(Change::AlterCallbacks { request: RequestId(request), ids, wish })
}

pub fn read_callbacks(page: CallbackPage) -> Order {
    Order::Question(Question::Callbacks { request: RequestId(1), page })
}

pub fn set_pool(request: u64, name: &str, value: Option<&str>) -> Order {
    let (name, value) = (name.to_owned(), value.map(ToOwned::to_owned));
    Order::Change(Change::SetPool { request: RequestId(request), name, value })
}

pub fn set_workers(request: u64, pool: &str, workers: Option<u32>) -> Order {
    Order::Change(Change::SetWorkers { request: RequestId(request), pool: pool.to_owned(), workers })
}

pub fn set_schedule(request: u64, name: &str, schedule: Option<KeptSchedule>) -> Order {
    let schedules = vec![(name.to_owned(), schedule)];
    Order::Change(Change::SetSchedules { request: RequestId(request), schedules })
}

pub fn set_pause(request: u64, pools: &[&str], pause: Option<Pause>) -> Order {
    let pools = pools.iter().map(|pool| (*pool).to_owned()).collect();
    Order::Change(Change::SetPause { request: RequestId(request), pools, pause })
}

pub fn set_limit(request: u64, label: &str, limit: Option<u32>) -> Order {
    Order::Change(Change::SetLimit { request: RequestId(request), label: label.to_owned(), limit })
}

pub fn records(request: u64, ids: &[u64]) -> Order {
    let ids = ids.iter().copied().map(JobId).collect();
    Order::Question(Question::Records { request: RequestId(request), ids })
}

pub fn line_of(request: u64, pool: &str) -> Order {
    Order::Question(Question::Line { request: RequestId(request), line: LineKey::plain(&pool.into()) })
}

pub fn dependents_of(request: u64, id: u64, limit: u32) -> Order {
    Order::Question(Question::Dependents { request: RequestId(request), id: JobId(id), limit })
}

pub fn attempts_of(request: u64, id: u64) -> Order {
    Order::Question(Question::Attempts { request: RequestId(request), id: JobId(id) })
}

pub fn keepers_of(request: u64, keys: Vec<Key>) -> Order {
    Order::Question(Question::Keepers { request: RequestId(request), keys })
}

pub fn count_held(request: u64) -> Order {
    Order::Question(Question::CountHeld { request: RequestId(request) })
}

pub fn counts(request: u64) -> Order {
    Order::Question(Question::Counts { request: RequestId(request) })
}

pub fn page(request: u64, page: Page) -> Order {
    Order::Question(Question::Page { request: RequestId(request), page })
}

pub fn fetch(after: Option<Position>, limit: u32) -> Order {
    fetch_of("", after, limit)
}

/// The next jobs of the default pool that need this.
pub fn fetch_of(labels: &str, after: Option<Position>, limit: u32) -> Order {
    let line = LineKey { pool: Arc::from("default"), needs: Needs::parse(labels).expect("they are needs") };
    Order::Fetch { line, after, limit }
}

pub fn overdue(term: Term, after: Option<(i64, u64)>, until_us: i64, limit: u32) -> Order {
    Order::Overdue { term, after: after.map(|(us, id)| (us, JobId(id))), until_us, limit }
}

pub fn prune(max_jobs: u64, ended_before_us: i64, max_output_bytes: u64, batch: u32) -> Order {
    prune_but(max_jobs, ended_before_us, max_output_bytes, batch, &[])
}

/// Somebody waits for these jobs, in order.
pub fn prune_but(
    max_jobs: u64,
    ended_before_us: i64,
    max_output_bytes: u64,
    batch: u32,
    spared: &[u64],
) -> Order {
    let spared = spared.iter().copied().map(JobId).collect();
    Order::Chore(Chore::Prune(Room { max_jobs, ended_before_us, max_output_bytes, batch, spared }))
}

/// Removes whatever can go, so many at most.
pub fn prune_all(batch: u32) -> Order {
    prune(0, i64::MAX, 0, batch)
}

/// What a start finds queued in one pool.
pub fn queued(pool: &str, jobs: &[(Holdup, u64)]) -> BTreeMap<String, Queued> {
    let mut queued = Queued::default();
    jobs.iter().for_each(|&(holdup, jobs)| queued.add(holdup, jobs));
    [(pool.to_owned(), queued)].into()
}
