//! The store on real files: what is written is there after the next opening, what cannot be written is said
//! and kept, and what is not ours is left alone. A read sent last is the fence by which a test knows that
//! everything before it has been carried out.

mod backups;
mod faults;
mod keys;
mod migrations;
mod power;
mod queue;
pub(in crate::engine::sqlite) mod recorder;
mod values;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use pool_proto::Json;
use pool_proto::Record;
use pool_proto::nouns::{On, OnCrash, ResultKind, State};
use rusqlite::{Connection, StatementStatus};

use recorder::Recording;

use super::committer::Message;
use super::listed::{EndedColumn, HistoryColumn, InLineColumn, LineColumn, ListedColumn};
use super::prune::VictimColumn;
use super::queries::{COUNT_ACTIVE, COUNT_HISTORY, COUNT_NOTABLE, COUNT_UNDELIVERED};
use super::{Durability, OpenError, Options, Sqlite, ValueFiles};
use crate::engine::orders::*;
use crate::engine::{
    Answer, Backing, Boot, CallbackEnd, CallbackRun, Chore, Conditional, Dequeued, Interrupted, Move, Order,
    Page, Restored, Told, Turns,
};
use crate::job::{
    CallbackId, Holdup, JobId, Needs, Outcome, Place, Process, ProcessId, RequestId, Retries, StopReason,
    Tries, Work,
};

const FENCE: RequestId = RequestId(u64::MAX);

fn output_paths_of_callback(dir: &Path, id: CallbackId, attempt: u32) -> (PathBuf, PathBuf) {
    output_paths(dir, JobId(id.0), attempt)
}

fn output_paths(dir: &Path, id: JobId, attempt: u32) -> (PathBuf, PathBuf) {
    (dir.join(format!("{id}.{attempt}.out")), dir.join(format!("{id}.{attempt}.err")))
}

/// A store in a directory of its own.
struct Fixture {
    store: RefCell<Sqlite>,
    notified: Receiver<()>,
    restored: Restored,
}

fn options(durability: Durability) -> Options {
    Options {
        durability,
        output_paths,
        callback_paths: output_paths_of_callback,
        sync_stdin: |_, token| if token == "missing" { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) },
        values: ValueFiles {
            write: recorder::write_value,
            read: recorder::read_value,
            remove: recorder::remove_value,
            list: recorder::list_values,
        },
        // After all that these tests wait for.
        boot: Boot { id: None, began_us: Some(NOW_US) },
        since_boot: Duration::from_secs(86_400),
    }
}

fn open(dir: &Path) -> Fixture {
    open_with(dir, Durability::Power)
}

fn open_with(dir: &Path, durability: Durability) -> Fixture {
    let (notify, notified) = mpsc::channel();
    let notify = move || _ = notify.send(());
    let (store, restored) = Sqlite::open(dir, options(durability), notify).expect("the store opens");
    Fixture { store: RefCell::new(store), notified, restored }
}

fn refusal(dir: &Path) -> OpenError {
    Sqlite::open(dir, options(Durability::Power), || ()).expect_err("the store is refused")
}

impl Fixture {
    /// Carries out orders; the events that come of them.
    fn run(&self, mut orders: Vec<Order>) -> Vec<Told> {
        orders.push(records(FENCE.0, &[]));
        self.store.borrow_mut().submit(orders);
        self.until(|event| matches!(event, Told::Answer(Answer::Got { request: FENCE, .. })))
    }

    /// Events up to the one wanted, which is left out.
    fn until(&self, is_wanted: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut events = Vec::new();
        loop {
            for event in std::iter::from_fn(|| self.store.borrow_mut().next()) {
                if is_wanted(&event) {
                    return events;
                }
                events.push(event);
            }
            self.notified.recv_timeout(Duration::from_secs(30)).expect("the store goes on");
        }
    }

    /// The answer, when there is to be just one.
    fn answer(&self, order: Order) -> Answer {
        let mut events = self.run(vec![order]);
        match (events.pop(), events.is_empty()) {
            (Some(Told::Answer(answer)), true) => answer,
            other => panic!("one answer expected, not {other:?} after {events:?}"),
        }
    }

    fn record(&self, id: u64) -> Record {
        match self.answer(records(1, &[id])) {
            Answer::Got { mut records, .. } => records.pop().expect("there is such a job"),
            other => panic!("{other:?}"),
        }
    }

    fn queued(&self) -> Vec<u64> {
        match self.answer(fetch(None, 1000)) {
            Answer::Fetched { jobs, complete: true, .. } => jobs.iter().map(|job| job.id.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&Connection) -> T + Send + 'static) -> T {
        let (result, seen) = mpsc::channel();
        let look = Box::new(move |connection: &Connection| _ = result.send(look(connection)));
        assert!(self.store.borrow().orders.send(Message::Inspect(look)).is_ok());
        seen.recv_timeout(Duration::from_secs(30)).expect("the store's thread lives")
    }

    fn close(self) {
        self.store.into_inner().close().expect("everything can be written");
    }
}

fn nothing_to_tell(events: &[Told]) {
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
    let (conditions, existing, turns) = (Conditional::default(), Vec::new(), Turns::default());
    let (request, first) = (RequestId(1), JobId(1));
    let is_synced = true;
    assert_eq!(inserted, Answer::Inserted { request, first, jobs, existing, turns, conditions, is_synced });

    store.close();
    store = open(dir.path());
    assert_eq!((store.restored.next_job, store.restored.next_callback), (2, 4));
    assert_eq!(store.restored.stdin, ["token".to_owned()].into(), "its input is needed until it has ended");
    assert_eq!(store.restored.queued, queued("default", &[(Holdup::None, 1)]));
    let Answer::Fetched { jobs, complete: true, .. } = store.answer(fetch(None, 10)) else {
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
    let interrupted = Interrupted {
        id: JobId(1),
        pool: "default".to_owned(),
        needs: Needs::default(),
        tries: Tries { attempts: 1, ..Tries::default() },
        on_crash: OnCrash::Requeue,
        retries: Retries::NONE,
        slot: Some(1),
        started_us: Some(a_start().started_us),
        since_boot_us: Some(7),
        lasted: None,
        worker: Some(ProcessId::new(10)),
        process: Some(Process { pid: ProcessId::new(11), start_ticks: Some(5) }),
        stopping: None,
    };
    assert_eq!((&store.restored.queued, &store.restored.interrupted), (&BTreeMap::new(), &vec![interrupted]));
    let record = store.record(1);
    assert_eq!(
        (record.state, record.attempt, record.pid, record.worker_pid),
        (State::Running, 1, Some(11), Some(10))
    );
    assert!(record.stdout.unwrap().path.to_path().ends_with("1.1.out"));
    nothing_to_tell(&store.run(vec![crash(1, 1, 1, "died")]));
    assert_eq!((store.queued(), store.record(1).reason.as_deref()), (vec![1], Some("died")));
    nothing_to_tell(&store.run(vec![start_after_crash(1, 2), stop_after_crash(1, 2, StopReason::Canceled)]));
    let record = store.record(1);
    assert_eq!((record.reason, record.last_crash.as_deref()), (None, Some("attempt 1: died")));

    store.close();
    store = open(dir.path());
    let interrupted = &store.restored.interrupted[0];
    assert_eq!(
        (interrupted.tries.attempts, interrupted.tries.crashes, interrupted.stopping),
        (2, 1, Some(StopReason::Canceled))
    );
    assert_eq!(store.record(1).result, None, "what it is going to become is no result yet");
    let Answer::Ended {
        id: JobId(1),
        record: Some(record),
        callbacks,
        stdin,
        dequeued: None,
        next: None,
        ..
    } = store.answer(end(1, 2, outcome(State::Failed, ResultKind::ExitCode, NOW_US + 3_000_000)))
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
    assert_eq!(store.restored.callbacks, [CallbackId(1), CallbackId(3)]);
    assert!(store.restored.stdin.is_empty());
    let Answer::CallbackBegun(run) = store.answer(begin_callback(1)) else {
        panic!("it has not been claimed");
    };
    let CallbackRun { id: CallbackId(1), attempt: 1, command, .. } = *run else { panic!("{run:?}") };
    assert_eq!(command, "done");

    store.close();
    store = open(dir.path());
    assert_eq!(
        store.restored.callbacks,
        [CallbackId(1), CallbackId(3)],
        "one that was interrupted is delivered again"
    );
    let again = CallbackEnd::Again { due_us: NOW_US + 9_000_000 };
    nothing_to_tell(&store.run(vec![end_callback(1, again)]));

    store.close();
    store = open(dir.path());
    assert_eq!(store.restored.callbacks, [CallbackId(3)], "it waits");
    assert_eq!(store.restored.waiting_callbacks, [CallbackId(1)]);
    assert_eq!(store.restored.next_due_us, Some(NOW_US + 9_000_000));
    let woken = store.answer(wake(NOW_US + 9_000_000, 10));
    let callbacks = vec![CallbackId(1)];
    assert_eq!(woken, Answer::Woken { jobs: Vec::new(), callbacks, next_us: None });
    let claimed = store.answer(begin_callback(1));
    assert!(matches!(claimed, Answer::CallbackBegun(run) if run.attempt == 2));
    nothing_to_tell(&store.run(vec![end_callback(1, CallbackEnd::Delivered)]));

    store.close();
    store = open(dir.path());
    assert_eq!(store.restored.callbacks, [CallbackId(3)]);
    assert!(store.restored.waiting_callbacks.is_empty());
    store.close();
}

#[test]
fn a_job_that_waits_for_room_is_in_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]), work(&["b"], &[])]));
    let again = Place::Queued { again: true };
    let again = Move { reason: Some("no room".to_owned()), ..moved(1, 0, again) };
    nothing_to_tell(&store.run(vec![change(again)]));
    assert_eq!((store.record(1).state, store.queued()), (State::Retrying, vec![1, 2]));
    store.close();
    let store = open(dir.path());
    assert_eq!(store.restored.queued, queued("default", &[(Holdup::None, 2)]));
    let canceled = store.answer(cancel(1));
    let Answer::Ended { id: JobId(1), record: None, dequeued, .. } = canceled else { panic!("{canceled:?}") };
    assert_eq!(dequeued, Some(Dequeued { pool: Arc::from("default"), holdup: Holdup::None }));
    store.close();
}

#[test]
fn an_end_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")])]));
    store.run(vec![start(1, 1), finish(1)]);
    let ended = store.record(1);
    let lost = || Answer::Lost { id: JobId(1) };
    let second = end(1, 1, outcome(State::Succeeded, ResultKind::Success, NOW_US + 1));
    assert_eq!(store.answer(second), lost());
    assert_eq!(store.answer(cancel(1)), lost());
    let late = [start(1, 2), crash(1, 1, 1, "died")].map(|order| store.answer(order));
    assert_eq!(late, [lost(), lost()]);
    assert_eq!(store.record(1), ended);
    store.close();
}

#[test]
fn the_crash_that_ends_a_job_is_counted_with_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]); 2]));
    nothing_to_tell(&store.run(vec![start(1, 1), crash(1, 1, 1, "died"), start_after_crash(1, 2)]));
    for (id, crashes) in [(1, 2), (2, 1)] {
        let lost = Place::Ended(outcome(State::Lost, ResultKind::Lost, NOW_US));
        let tries = Tries { attempts: crashes, crashes, ..Tries::default() };
        store.answer(change(Move { tries, ..moved(id, crashes, lost) }));
        let record = store.record(id);
        assert_eq!((record.state, record.crashes), (State::Lost, crashes));
    }
    store.close();
}

/// An attempt after one that has crashed.
fn start_after_crash(id: u64, attempts: u32) -> Order {
    after_crash(id, attempts, Place::Running(a_start()))
}

fn stop_after_crash(id: u64, attempts: u32, reason: StopReason) -> Order {
    after_crash(id, attempts, Place::Stopping(reason))
}

fn after_crash(id: u64, attempts: u32, to: Place) -> Order {
    let tries = Tries { attempts, crashes: 1, ..Tries::default() };
    change(Move { tries, ..moved(id, attempts, to) })
}

#[test]
fn ids_that_are_set_aside_are_given_out_by_no_later_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for below in [500, 400] {
        assert_eq!(store.answer(Order::Chore(Chore::ReserveIds { below })), Answer::IdsReserved { below });
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
        assert!(matches!(refused, Answer::Refused { .. }), "{refused:?}");
    }
    assert_eq!(store.queued(), [1, 2, 3]);
    store.run(vec![finish(1), finish(2), finish(3)]);
    let everything = prune(0, 0, u64::MAX, 10);
    store.run(vec![begin_callback(1), end_callback(1, CallbackEnd::Failed), everything]);
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
    assert!(matches!(store.answer(insert(6, 4, vec![work(&["a"], &one)])), Answer::Inserted { .. }));
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
    store.run(vec![prune(0, 0, u64::MAX, 10)]);
    assert_eq!(store.inspect(count), Ok(0), "and goes with its last job");
    store.answer(insert(4, 1, vec![work(&["d"], &[])]));
    assert_eq!(store.inspect(count), Ok(1));
    store.close();
}

#[test]
fn history_is_pruned_by_number_and_age_oldest_end_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]); 6]));
    // Ended in the order 3, 1, 2, 4; 5 and 6 have not ended.
    store.run([3, 1, 2, 4].into_iter().zip(1..).map(|(id, ended)| finish_at(id, NOW_US + ended)).collect());
    let pruned = |max_jobs, ended_before_us, max_output_bytes, batch| match store.answer(prune(
        max_jobs,
        ended_before_us,
        max_output_bytes,
        batch,
    )) {
        Answer::Pruned { jobs, more, .. } => (jobs.iter().map(|(id, _)| id.0).collect::<Vec<u64>>(), more),
        other => panic!("{other:?}"),
    };
    assert_eq!(pruned(4, 0, 480, 10), (vec![], false), "nothing is beyond the limits");
    assert_eq!(pruned(2, 0, 480, 1), (vec![3], true), "one batch of a number too large");
    assert_eq!(pruned(9, NOW_US + 3, u64::MAX, 10), (vec![1], false), "what ended too long ago");
    assert_eq!(pruned(9, 0, 239, 10), (vec![], false), "bytes cost no record");
    assert_eq!(pruned(0, i64::MAX, 0, 10), (vec![2, 4], false), "never what has not ended");
    assert_eq!(store.queued(), [5, 6]);
    store.close();
}

#[test]
fn a_job_whose_callback_is_not_delivered_is_not_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")])]));
    store.run(vec![finish(1)]);
    let all = || prune(0, i64::MAX, 0, 10);
    let nothing = Answer::Pruned { jobs: vec![], callbacks: vec![], outputs: vec![], more: false };
    assert_eq!(store.answer(all()), nothing);
    store.run(vec![begin_callback(1)]);
    assert_eq!(store.answer(all()), nothing);
    store.run(vec![end_callback(1, CallbackEnd::Delivered)]);
    let (jobs, callbacks) = (vec![(JobId(1), 1)], vec![(CallbackId(1), 1)]);
    let pruned = Answer::Pruned { jobs, callbacks, outputs: vec![], more: false };
    assert_eq!(store.answer(all()), pruned);
    store.close();
}

#[test]
fn jobs_with_callbacks_to_deliver_cost_pruning_nothing_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let pending = 3000;
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")]); pending]));
    store.run((1..=pending as u64).map(|id| finish_at(id, NOW_US)).collect());
    let last = pending as u64 + 1;
    store.answer(insert(last, last, vec![work(&["b"], &[])]));
    store.run(vec![finish_at(last, NOW_US + 1)]);

    let pruned = store.answer(prune_all(10));
    let jobs = vec![(JobId(last), 1)];
    assert_eq!(
        pruned,
        Answer::Pruned { jobs, callbacks: vec![], outputs: vec![], more: false },
        "the others stay"
    );
    let steps = store.inspect(|connection| {
        let select = connection.prepare_cached(VictimColumn::OLDEST_FIRST).unwrap();
        select.get_status(StatementStatus::VmStep)
    });
    assert!((1..200).contains(&steps), "{steps} steps past {pending} jobs");
    store.close();
}

#[test]
fn listings_and_the_queue_are_read_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]); 5]));
    store.run(vec![start(2, 1), finish(3)]);
    let list = |states: &[State], pool: Option<&str>, after: Option<u64>, limit| {
        let query = Page {
            states: states.to_vec(),
            pool: pool.map(str::to_owned),
            after: after.map(JobId),
            limit,
            ..Page::default()
        };
        match store.answer(page(1, query)) {
            Answer::Listed { records, next, .. } => {
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
    let missing = store.answer(records(1, &[9, 5, 8]));
    let Answer::Got { records, missing, .. } = missing else { panic!("{missing:?}") };
    assert_eq!((records.len(), missing), (1, vec![JobId(9), JobId(8)]));
    store.close();
}

/// More are queued than a page may look at.
#[test]
fn a_listing_of_what_has_failed_costs_what_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), Durability::Crash);
    const QUEUED: u64 = 21_000;
    for first in (1..QUEUED).step_by(1000) {
        store.answer(insert(first, 1, vec![call(false); 1000]));
    }
    store.run(vec![finish(QUEUED - 1), cancel(QUEUED), start(7, 1), hold(7, 1, 1, "died")]);
    for (states, wanted) in [
        (vec![State::Failed], vec![QUEUED - 1]),
        (vec![State::Held, State::Canceled, State::Running], vec![7, QUEUED]),
    ] {
        let Answer::Listed { records, next, .. } =
            store.answer(page(1, Page { states, limit: 9, ..Page::default() }))
        else {
            panic!("it can be read")
        };
        assert_eq!((records.iter().map(|record| record.id).collect::<Vec<u64>>(), next), (wanted, None));
    }
    let plan = store.inspect(|connection| {
        let mut select =
            connection.prepare(&format!("EXPLAIN QUERY PLAN {}", ListedColumn::OF_STATE)).unwrap();
        select.query_row((0, "failed"), |row| row.get::<_, String>(3)).unwrap()
    });
    assert_eq!(plan, "SEARCH jobs USING INDEX jobs_notable (state=? AND rowid>?)");
    store.close();
}

/// No listing and no count looks through all jobs where an index has those that are asked for, and none
/// sorts.
#[test]
fn listings_go_by_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let plans = store.inspect(|connection| {
        let counts = [COUNT_ACTIVE, COUNT_NOTABLE, COUNT_HISTORY, COUNT_UNDELIVERED];
        let counts = counts.map(|rows| format!("SELECT 1 FROM jobs INDEXED BY {rows} LIMIT 9"));
        let listings = [
            ListedColumn::ALL_NEWEST,
            ListedColumn::ACTIVE_NEWEST,
            ListedColumn::OF_STATE_NEWEST,
            InLineColumn::IN_LINES,
            InLineColumn::WAITING,
            LineColumn::NEXT_LINE,
            EndedColumn::LATEST,
            EndedColumn::SINCE,
            HistoryColumn::NEXT_POOL,
        ];
        let all = listings.iter().map(|&text| text.to_owned()).chain(counts);
        all.map(|text| {
            let mut select = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
            let count = select.parameter_count();
            let steps =
                select.query_map(rusqlite::params_from_iter(vec![1; count]), |row| row.get::<_, String>(3));
            steps.unwrap().collect::<Result<Vec<_>, _>>().unwrap().join("; ")
        })
        .collect::<Vec<String>>()
    });
    assert_eq!(
        plans,
        [
            "SEARCH jobs USING INTEGER PRIMARY KEY (rowid<?)",
            "SEARCH jobs USING INDEX jobs_active (id<?)",
            "SEARCH jobs USING INDEX jobs_notable (state=? AND rowid<?)",
            "SCAN jobs USING INDEX jobs_queue",
            "SEARCH waits USING PRIMARY KEY (unit=?)",
            "SEARCH jobs USING INDEX jobs_queue (pool=? AND labels>?)",
            "SEARCH jobs USING COVERING INDEX jobs_history (keep=? AND pool=? AND ended_us>?)",
            "SEARCH jobs USING COVERING INDEX jobs_history (keep=? AND pool=? AND ended_us>?)",
            "SEARCH jobs USING COVERING INDEX jobs_history (keep=? AND pool>?)",
            "SCAN jobs USING INDEX jobs_active",
            "SEARCH jobs USING COVERING INDEX jobs_notable (state=?)",
            "SCAN jobs USING COVERING INDEX jobs_history",
            "SCAN jobs USING INDEX jobs_undelivered",
        ]
    );
    store.close();
}

#[test]
fn what_is_large_holds_up_nothing_that_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let store = open(dir.path());
    // While a backup copies the file, nothing is written back into it; the log begins anew with the first
    // one.
    store.answer(Order::Chore(Chore::Hold { request: RequestId(9), holder: 1 }));
    store.answer(insert(1, 1, vec![work(&["a"], &[])]));

    // The thread is kept from them until all have come, so that they would be one batch.
    let (open_gate, gate) = mpsc::channel::<()>();
    let wait = Box::new(move |_: &Connection| _ = gate.recv());
    assert!(store.store.borrow().orders.send(Message::Inspect(wait)).is_ok());
    let before = recording.count_syncs();
    for (id, bytes) in [(2, 1), (3, 1), (4, 80 << 10), (5, 1), (6, 1)] {
        store.store.borrow_mut().submit(vec![insert(id, 1, vec![work(&[&"x".repeat(bytes)], &[])])]);
    }
    open_gate.send(()).unwrap();
    store.run(vec![]);
    assert_eq!(recording.count_syncs() - before, 3, "those before, the large one, those after");
    store.close();
}

#[test]
fn only_what_was_promised_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let syncs = |store: &Fixture, orders: Vec<Order>| {
        let before = recording.count_syncs();
        store.run(orders);
        recording.count_syncs() - before
    };
    let job = || vec![work(&["a"], &[])];
    // The tables alone nearly fill the log; with its end it is written back.
    open(dir.path()).close();
    let store = open(dir.path());
    // The log is begun, for which SQLite syncs its beginning; and it is made longer, once what waits has its
    // answer.
    store.answer(insert(1, 1, job()));
    store.record(1);
    assert_eq!(syncs(&store, vec![insert(2, 1, job())]), 1);
    assert_eq!(syncs(&store, vec![start(1, 1), start(2, 1)]), 0);
    assert_eq!(syncs(&store, vec![finish(1), finish(2)]), 1);
    assert_eq!(syncs(&store, vec![insert_urgently(3, 1, job())]), 1);
    store.close();

    let store = open_with(dir.path(), Durability::Crash);
    store.answer(insert(4, 1, job()));
    assert_eq!(syncs(&store, vec![insert(5, 1, job()), finish(4)]), 0);
    store.close();
}

/// What the answers are about, of those that are told of insertions.
fn told_of_insertions(events: &[Told]) -> Vec<(&'static str, u64)> {
    let what = |event: &Told| match event {
        Told::Answer(Answer::Inserted { request, is_synced: true, .. }) => Some(("accepted", request.0)),
        Told::Answer(Answer::Inserted { request, is_synced: false, .. }) => Some(("written", request.0)),
        Told::Answer(Answer::Synced { request }) => Some(("synced", request.0)),
        Told::Answer(Answer::Fetched { .. }) => Some(("looked", 0)),
        Told::Answer(Answer::Ended { id, .. }) => Some(("ended", id.0)),
        _ => None,
    };
    events.iter().filter_map(what).collect()
}

#[test]
fn an_urgent_insertion_is_told_when_a_killed_poold_keeps_it_and_again_when_it_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[])]));
    // The log has been made longer, for which it is synced, once this has its answer.
    store.record(1);
    recording.hold_syncs(true);
    let job = || vec![work(&["a"], &[])];
    let orders = vec![finish(1), insert(2, 2, job()), insert_urgently(3, 3, job()), records(7, &[3])];
    store.store.borrow_mut().submit(orders);
    let early = store.until(|event| matches!(event, Told::Answer(Answer::Inserted { first: JobId(3), .. })));
    assert_eq!(told_of_insertions(&early), [("written", 2)], "the other one does not overtake it");
    assert_eq!(store.store.borrow_mut().next(), None, "the rest waits for the sync");
    let copy = faults::killed(dir.path());
    let next = open(copy.path());
    assert_eq!(next.queued(), [2, 3]);
    next.close();

    recording.hold_syncs(false);
    let late = store.until(|event| matches!(event, Told::Answer(Answer::Got { .. })));
    assert_eq!(told_of_insertions(&late), [("ended", 1), ("synced", 2), ("synced", 3)]);
    store.close();
}

#[test]
fn an_insertion_overtakes_no_look_into_a_line_that_did_not_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let urgent = |id| insert_urgently(id, id, vec![work(&["a"], &[])]);
    let events = store.run(vec![urgent(1), fetch(None, 9), urgent(2)]);
    let told = [("written", 1), ("synced", 1), ("looked", 0), ("accepted", 2)];
    assert_eq!(told_of_insertions(&events), told);
    store.close();
}

#[test]
fn where_nothing_is_synced_an_urgent_insertion_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), Durability::Crash);
    let events = store.run(vec![insert_urgently(1, 1, vec![work(&["a"], &[])])]);
    assert_eq!(told_of_insertions(&events), [("accepted", 1)]);
    store.close();
}

#[test]
fn a_job_whose_input_is_not_on_disk_is_not_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let job = Arc::new(Work { stdin: Some("missing".to_owned()), ..Work::clone(&work(&["a"], &[])) });
    let events = store.run(vec![insert(1, 1, vec![job.clone()]), insert(2, 1, vec![work(&["b"], &[])])]);
    let [Told::Answer(Answer::Refused { refusal, .. }), Told::Answer(Answer::Inserted { .. })] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(refusal.to_string().contains("standard input"), "{refusal}");
    assert_eq!(store.queued(), [2]);
    store.close();
    let store = open_with(dir.path(), Durability::Crash);
    assert!(matches!(store.answer(insert(3, 1, vec![job])), Answer::Inserted { .. }));
    store.close();
}

#[test]
fn room_that_large_results_have_left_is_given_back_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (count, bytes) = (40, 100_000);
    store.answer(insert(1, 1, vec![call(false); count]));
    let value = Json::parse(&format!("{:?}", "x".repeat(bytes))).unwrap();
    for id in 1..=count as u64 {
        let answered = outcome(State::Succeeded, ResultKind::Success, NOW_US);
        store.run(vec![end(id, 1, Box::new(Outcome { answer: Some(Ok(value.clone())), ..*answered }))]);
    }

    let of = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |metadata| metadata.len());
    let all = (count * bytes) as u64;
    assert!(of("poold.db") > all / 2, "they are in the file by now");
    assert!(of("poold.db-wal") < all / 2, "the log is written back by its bytes");
    store.answer(prune(100, 0, 0, 100));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while of("poold.db") > all / 4 {
        assert!(std::time::Instant::now() < deadline, "{} bytes are left", of("poold.db"));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(store.record(1).value, None);
    store.close();
}

#[test]
fn a_file_that_could_never_shrink_is_rewritten_by_a_start() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close();
    let file = dir.path().join(super::FILE_NAME);
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM").unwrap();
    let mode = |connection: &Connection| {
        connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))
    };
    assert_eq!(mode(&connection), Ok(0));
    drop(connection);

    let store = open(dir.path());
    assert_eq!(store.inspect(mode), Ok(2));
    store.close();
}
