//! The store on real files: what is written is there after the next opening, what cannot be written is said and kept, and what is not
//! ours is left alone. A read sent last is the fence by which a test knows that everything before it has been carried out.

mod backups;
mod faults;
mod keys;
mod migrations;
mod power;
mod queue;
pub(in crate::store) mod recorder;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use pool_proto::Record;
use pool_proto::interface::{On, OnCrash, ResultKind, State, Usage};
use rusqlite::Connection;

use super::committer::Message;
use super::{Durability, OpenError, Options, Store, StoreEvent};
use crate::job::{
    CallbackId, Environment, JobId, JobKind, NewCallback, Outcome, Process, RequestId, Retries, StopReason,
    Tie, Work,
};
use crate::scheduler::store_op::{
    CallbackEnd, CallbackRun, Interrupted, ListQuery, PendingCallback, Restored, StoreAnswer, StoreOp,
};

const FENCE: RequestId = RequestId(u64::MAX);
const NOW_US: i64 = 1_800_000_000_000_000;

fn output_paths(dir: &Path, id: JobId, attempt: u32) -> (PathBuf, PathBuf) {
    (dir.join(format!("{id}.{attempt}.out")), dir.join(format!("{id}.{attempt}.err")))
}

/// A store in a directory of its own.
struct Fixture {
    store: Store,
    notified: Receiver<()>,
    restored: Restored,
}

fn options(durability: Durability) -> Options {
    Options {
        durability,
        output_paths,
        sync_stdin: |_, token| if token == "missing" { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) },
    }
}

fn open(dir: &Path) -> Fixture {
    open_with(dir, Durability::Power)
}

fn open_with(dir: &Path, durability: Durability) -> Fixture {
    let (notify, notified) = mpsc::channel();
    let notify = move || _ = notify.send(());
    let (store, restored) = Store::open(dir, options(durability), notify).expect("the store opens");
    Fixture { store, notified, restored }
}

fn refusal(dir: &Path) -> OpenError {
    Store::open(dir, options(Durability::Power), || ()).expect_err("the store is refused")
}

impl Fixture {
    /// Carries out operations; the events that come of them.
    fn run(&self, mut ops: Vec<StoreOp>) -> Vec<StoreEvent> {
        ops.push(StoreOp::Get { call: FENCE, ids: Vec::new() });
        self.store.submit(ops);
        self.until(|event| matches!(event, StoreEvent::Answer(StoreAnswer::Got { call: FENCE, .. })))
    }

    /// Events up to the one wanted, which is left out.
    fn until(&self, is_wanted: impl Fn(&StoreEvent) -> bool) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        loop {
            for event in std::iter::from_fn(|| self.store.answer()) {
                if is_wanted(&event) {
                    return events;
                }
                events.push(event);
            }
            self.notified.recv_timeout(Duration::from_secs(30)).expect("the store goes on");
        }
    }

    /// The answer, when there is to be just one.
    fn answer(&self, op: StoreOp) -> StoreAnswer {
        let mut events = self.run(vec![op]);
        match (events.pop(), events.is_empty()) {
            (Some(StoreEvent::Answer(answer)), true) => answer,
            other => panic!("one answer expected, not {other:?} after {events:?}"),
        }
    }

    fn record(&self, id: u64) -> Record {
        match self.answer(StoreOp::Get { call: RequestId(1), ids: vec![JobId(id)] }) {
            StoreAnswer::Got { mut records, .. } => records.pop().expect("there is such a job"),
            other => panic!("{other:?}"),
        }
    }

    fn queued(&self) -> Vec<u64> {
        let pool = Arc::from("default");
        match self.answer(StoreOp::Fetch { pool, after: None, limit: 1000 }) {
            StoreAnswer::Fetched { jobs, complete: true, .. } => jobs.iter().map(|job| job.id.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&Connection) -> T + Send + 'static) -> T {
        let (result, seen) = mpsc::channel();
        let look = Box::new(move |connection: &Connection| _ = result.send(look(connection)));
        assert!(self.store.ops.send(Message::Inspect(look)).is_ok());
        seen.recv_timeout(Duration::from_secs(30)).expect("the store's thread lives")
    }

    fn close(self) {
        self.store.close().expect("everything can be written");
    }
}

fn work(argv: &[&str], callbacks: &[(On, &str)]) -> Arc<Work> {
    let variables = [("PATH".to_owned(), "/bin".to_owned())].into();
    Arc::new(Work {
        pool: Arc::from("default"),
        name: Some("name".to_owned()),
        volatile: false,
        kind: JobKind::Exec(argv.iter().map(|&argument| argument.to_owned()).collect()),
        cwd: "/tmp".to_owned(),
        environment: Arc::new(Environment { variables, umask: 0o27 }),
        stdin: Some("token".to_owned()),
        timeout: Some(Duration::from_millis(1500)),
        kill_after: Duration::from_secs(3),
        tie: Some(Tie::Pool),
        on_crash: OnCrash::Requeue,
        priority: 0,
        retries: Retries::NONE,
        key: None,
        callbacks: callbacks
            .iter()
            .map(|&(on, command)| NewCallback { on, command: command.to_owned() })
            .collect(),
    })
}

fn insert(first: u64, first_callback: u64, jobs: Vec<Arc<Work>>) -> StoreOp {
    let (first, first_callback) = (JobId(first), CallbackId(first_callback));
    StoreOp::Insert { call: RequestId(first.0), first, first_callback, jobs, submitted_us: NOW_US }
}

fn start(id: u64, attempt: u32) -> StoreOp {
    StoreOp::Start {
        id: JobId(id),
        attempt,
        slot: 1,
        worker_pid: 10,
        process: Some(Process { pid: 11, start_ticks: Some(5) }),
        started_us: NOW_US + 1_000_000,
    }
}

fn outcome(state: State, result: ResultKind, ended_us: i64) -> Box<Outcome> {
    Box::new(Outcome {
        state,
        result,
        exit_code: Some(3),
        signal: None,
        reason: Some("because".to_owned()),
        usage: Some(Usage { user_s: 0.5, sys_s: 0.25, max_rss_bytes: 4096, memory_peak_bytes: Some(8192) }),
        stdout_bytes: Some(100),
        stderr_bytes: Some(20),
        answer: None,
        crashed: false,
        ended_us,
    })
}

fn finish(id: u64) -> StoreOp {
    finish_at(id, NOW_US + 3_000_000)
}

fn finish_at(id: u64, ended_us: i64) -> StoreOp {
    StoreOp::Finish {
        id: JobId(id),
        outcome: outcome(State::Failed, ResultKind::ExitCode, ended_us),
        start: None,
        want_record: true,
    }
}

fn nothing_to_tell(events: &[StoreEvent]) {
    assert_eq!(events, [], "neither an answer nor a failure");
}

#[test]
fn a_job_with_its_callbacks_survives_each_step_of_its_life_and_a_new_opening_after_each() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.restored, Restored { next_job: 1, next_callback: 1, ..Restored::default() });
    let jobs = vec![work(
        &["/bin/echo", "a b"],
        &[(On::Done, "done"), (On::Success, "success"), (On::Failure, "failure")],
    )];
    let inserted = store.answer(insert(1, 1, jobs.clone()));
    let (untied, existing) = (Vec::new(), Vec::new());
    assert_eq!(
        inserted,
        StoreAnswer::Inserted { call: RequestId(1), first: JobId(1), jobs, untied, existing }
    );

    store.close();
    store = open(dir.path());
    assert_eq!((store.restored.next_job, store.restored.next_callback), (2, 4));
    assert_eq!(store.restored.stdin, ["token".to_owned()].into(), "its input is needed until it has ended");
    assert_eq!(store.restored.queued, [("default".to_owned(), 1)].into());
    let pool = Arc::from("default");
    let StoreAnswer::Fetched { jobs, complete: true, .. } =
        store.answer(StoreOp::Fetch { pool, after: None, limit: 10 })
    else {
        panic!("the queue is not empty");
    };
    assert_eq!(
        *jobs[0].work,
        *work(&["/bin/echo", "a b"], &[]),
        "the work comes back as it went in, its callbacks apart"
    );
    nothing_to_tell(&store.run(vec![start(1, 1)]));

    store.close();
    store = open(dir.path());
    let process = Some(Process { pid: 11, start_ticks: Some(5) });
    let (pool, on_crash) = ("default".to_owned(), OnCrash::Requeue);
    let worker_pid = Some(10);
    let (attempt, crashes, retries, retried, stopping) = (1, 0, Retries::NONE, 0, None);
    let interrupted = Interrupted {
        id: JobId(1),
        pool,
        attempt,
        crashes,
        on_crash,
        retries,
        retried,
        worker_pid,
        process,
        stopping,
    };
    assert_eq!((&store.restored.queued, &store.restored.interrupted), (&[].into(), &vec![interrupted]));
    let record = store.record(1);
    assert_eq!(
        (record.state, record.attempt, record.pid, record.worker_pid),
        (State::Running, 1, Some(11), Some(10))
    );
    assert!(record.stdout.unwrap().path.ends_with("1.1.out"));
    nothing_to_tell(&store.run(vec![StoreOp::Requeue {
        id: JobId(1),
        crashes: 1,
        reason: Some("died".to_owned()),
    }]));
    assert_eq!((store.queued(), store.record(1).reason.as_deref()), (vec![1], Some("died")));
    nothing_to_tell(
        &store.run(vec![start(1, 2), StoreOp::Stopping { id: JobId(1), reason: StopReason::Canceled }]),
    );
    let record = store.record(1);
    assert_eq!((record.reason, record.last_crash.as_deref()), (None, Some("attempt 1: died")));

    store.close();
    store = open(dir.path());
    let interrupted = &store.restored.interrupted[0];
    assert_eq!(
        (interrupted.attempt, interrupted.crashes, interrupted.stopping),
        (2, 1, Some(StopReason::Canceled))
    );
    assert_eq!(store.record(1).result, None, "what it is going to become is no result yet");
    let StoreAnswer::Finished { id: JobId(1), record: Some(record), callbacks, stdin } =
        store.answer(finish(1))
    else {
        panic!("it has not been finished");
    };
    assert_eq!(
        (record.state, record.result, record.exit_code),
        (State::Failed, Some(ResultKind::ExitCode), Some(3))
    );
    assert_eq!((record.wall_s, record.stderr.clone().unwrap().bytes), (Some(2.0), Some(20)));
    assert_eq!((callbacks, stdin.as_deref()), (vec![CallbackId(1), CallbackId(3)], Some("token")));
    let states: Vec<&str> = record.callbacks.iter().map(|callback| callback.state.as_str()).collect();
    assert_eq!(states, ["pending", "skipped", "pending"]);

    store.close();
    store = open(dir.path());
    let due_us = NOW_US + 3_000_000;
    let pending = |id| PendingCallback { id: CallbackId(id), due_us };
    assert_eq!(store.restored.callbacks, [pending(1), pending(3)]);
    assert!(store.restored.stdin.is_empty());
    let StoreAnswer::CallbackClaimed(run) = store.answer(StoreOp::ClaimCallback { id: CallbackId(1) }) else {
        panic!("it has not been claimed");
    };
    let CallbackRun { id: CallbackId(1), attempt: 1, command, .. } = *run else { panic!("{run:?}") };
    assert_eq!(command, "done");

    store.close();
    store = open(dir.path());
    assert_eq!(
        store.restored.callbacks,
        [pending(1), pending(3)],
        "one that was interrupted is delivered again"
    );
    let again = CallbackEnd::Again { due_us: NOW_US + 9_000_000 };
    nothing_to_tell(&store.run(vec![StoreOp::CallbackEnded {
        id: CallbackId(1),
        end: again,
        exit_code: Some(1),
    }]));
    let claimed = store.answer(StoreOp::ClaimCallback { id: CallbackId(1) });
    assert!(matches!(claimed, StoreAnswer::CallbackClaimed(run) if run.attempt == 2));
    nothing_to_tell(&store.run(vec![StoreOp::CallbackEnded {
        id: CallbackId(1),
        end: CallbackEnd::Delivered,
        exit_code: Some(0),
    }]));

    store.close();
    store = open(dir.path());
    assert_eq!(store.restored.callbacks, [pending(3)]);
    store.close();
}

#[test]
fn a_job_that_waits_for_room_is_in_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]), work(&["b"], &[])]));
    nothing_to_tell(&store.run(vec![StoreOp::Retrying { id: JobId(1), reason: "no room".to_owned() }]));
    assert_eq!((store.record(1).state, store.queued()), (State::Retrying, vec![1, 2]));
    store.close();
    let store = open(dir.path());
    assert_eq!(store.restored.queued, [("default".to_owned(), 2)].into());
    let outcome = outcome(State::Canceled, ResultKind::Canceled, NOW_US);
    let finished = store.answer(StoreOp::FinishQueued { id: JobId(1), outcome, want_record: false });
    assert!(matches!(finished, StoreAnswer::Finished { id: JobId(1), record: None, .. }));
    store.close();
}

#[test]
fn an_end_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")])]));
    store.run(vec![start(1, 1), finish(1)]);
    let ended = store.record(1);
    let second = store.answer(StoreOp::Finish {
        id: JobId(1),
        outcome: outcome(State::Succeeded, ResultKind::Success, NOW_US + 1),
        start: None,
        want_record: true,
    });
    assert_eq!(
        second,
        StoreAnswer::Finished {
            id: JobId(1),
            record: Some(Box::new(ended.clone())),
            callbacks: vec![],
            stdin: None
        }
    );
    let other = outcome(State::Canceled, ResultKind::Canceled, NOW_US + 1);
    let canceled = store.answer(StoreOp::FinishQueued { id: JobId(1), outcome: other, want_record: true });
    assert_eq!(canceled, StoreAnswer::NotQueued { id: JobId(1) });
    nothing_to_tell(
        &store.run(vec![start(1, 2), StoreOp::Requeue { id: JobId(1), crashes: 1, reason: None }]),
    );
    assert_eq!(store.record(1), ended);
    store.close();
}

#[test]
fn the_crash_that_ends_a_job_is_counted_with_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]); 2]));
    let requeue = StoreOp::Requeue { id: JobId(1), crashes: 1, reason: Some("died".to_owned()) };
    nothing_to_tell(&store.run(vec![start(1, 1), requeue, start(1, 2)]));
    for (id, crashes) in [(1, 2), (2, 1)] {
        for _again in 0..2 {
            let outcome =
                Box::new(Outcome { crashed: true, ..*outcome(State::Lost, ResultKind::Lost, NOW_US) });
            let finish = StoreOp::Finish { id: JobId(id), outcome, start: None, want_record: true };
            let StoreAnswer::Finished { record: Some(record), .. } = store.answer(finish) else {
                panic!("it has ended")
            };
            assert_eq!((record.state, record.crashes), (State::Lost, crashes));
        }
    }
    store.close();
}

#[test]
fn ids_that_are_set_aside_are_given_out_by_no_later_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for below in [500, 400] {
        assert_eq!(store.answer(StoreOp::ReserveIds { below }), StoreAnswer::IdsReserved { below });
    }
    store.close();
    let store = open(dir.path());
    assert_eq!(store.restored.next_job, 500);
    store.close();
}

#[test]
fn ids_are_never_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")]); 3]));
    for (first, first_callback) in [(3, 4), (4, 3)] {
        let refused = store.answer(insert(first, first_callback, vec![work(&["b"], &[(On::Done, "x")])]));
        assert!(matches!(refused, StoreAnswer::Refused { .. }), "{refused:?}");
    }
    assert_eq!(store.queued(), [1, 2, 3]);
    store.run(vec![finish(1), finish(2), finish(3)]);
    let everything =
        StoreOp::Prune { max_jobs: 0, ended_before_us: 0, max_output_bytes: u64::MAX, batch: 10 };
    store.run(vec![
        StoreOp::ClaimCallback { id: CallbackId(1) },
        StoreOp::CallbackEnded { id: CallbackId(1), end: CallbackEnd::Failed, exit_code: None },
        everything,
    ]);
    store.close();
    let store = open(dir.path());
    assert_eq!((store.restored.next_job, store.restored.next_callback), (4, 4), "though job 1 is gone");
    store.close();
}

#[test]
fn callbacks_are_numbered_without_gaps_whichever_jobs_have_some() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (none, one, two) = (vec![], vec![(On::Done, "x")], vec![(On::Done, "x"), (On::Failure, "y")]);
    let jobs = [&none, &one, &none, &two, &none].map(|callbacks| work(&["a"], callbacks));
    store.answer(insert(1, 1, jobs.to_vec()));
    assert!(matches!(store.answer(insert(6, 4, vec![work(&["a"], &one)])), StoreAnswer::Inserted { .. }));
    let numbered: Vec<Vec<u64>> =
        (1..=6).map(|id| store.record(id).callbacks.iter().map(|callback| callback.id).collect()).collect();
    assert_eq!(numbered, [vec![], vec![1], vec![], vec![2, 3], vec![], vec![4]]);
    store.close();
}

#[test]
fn equal_environments_are_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]), work(&["b"], &[])]));
    store.answer(insert(3, 1, vec![work(&["c"], &[])]));
    let count = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM environments", [], |row| row.get(0))
    };
    assert_eq!(store.inspect(count), Ok(1));
    store.run(vec![finish(1), finish(2), finish(3)]);
    store.run(vec![StoreOp::Prune {
        max_jobs: 0,
        ended_before_us: 0,
        max_output_bytes: u64::MAX,
        batch: 10,
    }]);
    assert_eq!(store.inspect(count), Ok(0), "and goes with its last job");
    store.answer(insert(4, 1, vec![work(&["d"], &[])]));
    assert_eq!(store.inspect(count), Ok(1));
    store.close();
}

#[test]
fn history_is_pruned_by_number_age_and_bytes_oldest_end_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]); 6]));
    // Ended in the order 3, 1, 2, 4; 5 and 6 have not ended.
    store.run([3, 1, 2, 4].into_iter().zip(1..).map(|(id, ended)| finish_at(id, NOW_US + ended)).collect());
    let prune = |max_jobs, ended_before_us, max_output_bytes, batch| match store.answer(StoreOp::Prune {
        max_jobs,
        ended_before_us,
        max_output_bytes,
        batch,
    }) {
        StoreAnswer::Pruned { jobs, more, .. } => {
            (jobs.iter().map(|(id, _)| id.0).collect::<Vec<u64>>(), more)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(prune(4, 0, 480, 10), (vec![], false), "nothing is beyond the limits");
    assert_eq!(prune(2, 0, 480, 1), (vec![3], true), "one batch of a number too large");
    assert_eq!(prune(9, NOW_US + 3, u64::MAX, 10), (vec![1], false), "what ended too long ago");
    assert_eq!(prune(9, 0, 239, 10), (vec![2], false), "what has written too much");
    assert_eq!(prune(0, i64::MAX, 0, 10), (vec![4], false), "never what has not ended");
    assert_eq!(store.queued(), [5, 6]);
    store.close();
}

#[test]
fn a_job_whose_callback_is_not_delivered_is_not_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")])]));
    store.run(vec![finish(1)]);
    let all = || StoreOp::Prune { max_jobs: 0, ended_before_us: i64::MAX, max_output_bytes: 0, batch: 10 };
    let nothing = StoreAnswer::Pruned { jobs: vec![], callbacks: vec![], more: false };
    assert_eq!(store.answer(all()), nothing);
    store.run(vec![StoreOp::ClaimCallback { id: CallbackId(1) }]);
    assert_eq!(store.answer(all()), nothing);
    store.run(vec![StoreOp::CallbackEnded {
        id: CallbackId(1),
        end: CallbackEnd::Delivered,
        exit_code: Some(0),
    }]);
    let pruned =
        StoreAnswer::Pruned { jobs: vec![(JobId(1), 0)], callbacks: vec![(CallbackId(1), 1)], more: false };
    assert_eq!(store.answer(all()), pruned);
    store.close();
}

#[test]
fn listings_and_the_queue_are_read_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]); 5]));
    store.run(vec![start(2, 1), finish(3)]);
    let list = |states: &[State], pool: Option<&str>, after: Option<u64>, limit| {
        let query = ListQuery {
            states: states.to_vec(),
            pool: pool.map(str::to_owned),
            after: after.map(JobId),
            limit,
        };
        match store.answer(StoreOp::List { call: RequestId(1), query }) {
            StoreAnswer::Listed { records, next, .. } => {
                (records.iter().map(|record| record.id).collect::<Vec<u64>>(), next)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], None, None, 2), (vec![1, 2], Some(JobId(2))));
    assert_eq!(list(&[], None, Some(2), 2), (vec![3, 4], Some(JobId(4))));
    assert_eq!(list(&[], None, Some(4), 2), (vec![5], None));
    assert_eq!(list(&[State::Running], None, None, 9).0, [2]);
    assert_eq!(list(&[State::Failed, State::Running], Some("default"), None, 9).0, [2, 3]);
    assert_eq!(list(&[State::Queued], Some("default"), Some(1), 9).0, [4, 5]);
    assert_eq!(list(&[State::Queued], Some("other"), None, 9), (vec![], None));
    let missing = store.answer(StoreOp::Get { call: RequestId(1), ids: vec![JobId(9), JobId(5), JobId(8)] });
    assert!(
        matches!(missing, StoreAnswer::Got { records, missing, .. } if records.len() == 1 && missing == [JobId(9), JobId(8)])
    );
    store.close();
}

#[test]
fn only_what_was_promised_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let synchronous = |connection: &Connection| {
        connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)).unwrap()
    };
    let (normal, full) = (1, 2);
    store.answer(insert(1, 1, vec![work(&["a"], &[])]));
    assert_eq!(store.inspect(synchronous), full);
    store.run(vec![start(1, 1)]);
    assert_eq!(store.inspect(synchronous), normal);
    store.run(vec![finish(1)]);
    assert_eq!(store.inspect(synchronous), full);
    store.close();
    let store = open_with(dir.path(), Durability::Crash);
    store.answer(insert(2, 1, vec![work(&["a"], &[])]));
    assert_eq!(store.inspect(synchronous), normal);
    store.close();
}

#[test]
fn a_job_whose_input_is_not_on_disk_is_not_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let job = Arc::new(Work { stdin: Some("missing".to_owned()), ..Work::clone(&work(&["a"], &[])) });
    let events = store.run(vec![insert(1, 1, vec![job.clone()]), insert(2, 1, vec![work(&["b"], &[])])]);
    let [
        StoreEvent::Answer(StoreAnswer::Refused { refusal, .. }),
        StoreEvent::Answer(StoreAnswer::Inserted { .. }),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(refusal.to_string().contains("standard input"), "{refusal}");
    assert_eq!(store.queued(), [2]);
    store.close();
    let store = open_with(dir.path(), Durability::Crash);
    assert!(matches!(store.answer(insert(3, 1, vec![job])), StoreAnswer::Inserted { .. }));
    store.close();
}
