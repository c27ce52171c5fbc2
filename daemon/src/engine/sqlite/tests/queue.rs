//! The order of a queue, and jobs that wait for their next attempt's time.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{ResultKind, State};

use super::{nothing_to_tell, open, options};
use crate::engine::orders::*;
use crate::engine::sqlite::deadlines::DeadlineColumn;
use crate::engine::sqlite::queries::PlaceColumn;
use crate::engine::sqlite::records::ReadyColumn;
use crate::engine::sqlite::{Durability, Options, Sqlite};
use crate::engine::{Answer, Boot, Move};
use crate::job::{Call, Holdup, JobKind, Place, Position, Retries, Tries, Until, Work};

fn of_priority(priority: i32) -> Arc<Work> {
    Arc::new(Work { priority, ..Work::clone(&work(&["a"], &[])) })
}

/// The index has them in their order, so nothing is sorted, however long the line is.
#[test]
fn the_places_of_a_line_are_read_from_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let plan = store.inspect(|connection| {
        let mut select = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", PlaceColumn::OF_LINE)).unwrap();
        let steps = select.query_map(("default", "", i64::MIN, 0, 9), |row| row.get(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<String>>()
    });
    let [step] = &plan[..] else { panic!("{plan:?}") };
    assert!(step.starts_with("SEARCH jobs USING INDEX jobs_queue (pool=? AND labels=? AND "), "{step}");
    store.close();
}

#[test]
fn a_queue_goes_by_priority_and_then_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let jobs = [0, i32::MAX, -1, 0, 5, i32::MIN, 0, 5].map(of_priority).to_vec();
    store.answer(insert(1, 1, jobs));
    store.run(vec![start(4, 1)]);
    let mut after = None;
    let mut pages = Vec::new();
    loop {
        let Answer::Fetched { jobs, complete, .. } = store.answer(fetch(after, 2)) else {
            panic!("the queue can be read");
        };
        after = jobs.last().map(|job| Position { priority: Reverse(job.work.priority), id: job.id });
        pages.push(jobs.iter().map(|job| job.id.0).collect::<Vec<u64>>());
        if complete {
            break;
        }
    }
    assert_eq!(pages, [vec![2, 5], vec![8, 1], vec![7, 3], vec![6]]);
    assert_eq!((store.record(2).priority, store.record(6).priority), (i32::MAX, i32::MIN));
    store.close();
}

/// However many come before in the index, of the same priority or of others.
#[test]
fn a_page_of_a_queue_is_found_and_not_searched_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![of_priority(0)]));
    let plans = store.inspect(|connection| {
        [ReadyColumn::OF_RANK, ReadyColumn::OF_LATER_RANKS].map(|select| {
            let mut select = connection.prepare(&format!("EXPLAIN QUERY PLAN {select}")).unwrap();
            let rows = select.query_map(("default", "", 0, 0, 1), |row| row.get::<_, String>(3)).unwrap();
            rows.map(Result::unwrap).collect::<Vec<String>>().join("; ")
        })
    });
    let wanted = ["pool=? AND labels=? AND rank=? AND rowid>?", "pool=? AND labels=? AND rank>?"];
    assert_eq!(plans, wanted.map(|terms| format!("SEARCH jobs USING INDEX jobs_queue ({terms})")));
    store.close();
}

#[test]
fn a_failed_job_is_in_no_queue_until_its_next_attempt_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let retries = Retries::new(3, Duration::from_secs(7));
    let job = Arc::new(Work { retries, ..Work::clone(&work(&["a"], &[])) });
    store.answer(insert(1, 1, vec![job; 4]));
    nothing_to_tell(&store.run(vec![
        start(1, 1),
        wait(1, 1, 1, NOW_US + 20),
        start(3, 1),
        wait(3, 1, 1, NOW_US + 10),
    ]));
    let record = store.record(1);
    assert_eq!((record.state, record.retries, record.retried), (State::Retrying, 3, 1));
    assert_eq!(
        (record.reason.as_deref(), record.due_at.is_some(), record.pid),
        (Some("exit code 1"), true, None)
    );
    assert_eq!(store.queued(), [2, 4]);

    store.close();
    store = open(dir.path());
    assert_eq!(store.restored.next_due_us, Some(NOW_US + 10));
    assert_eq!(
        store.restored.queued,
        queued("default", &[(Holdup::None, 2), (Holdup::Time, 2)]),
        "those that wait are counted"
    );
    let due = |until_us, limit| match store.answer(wake(until_us, limit)) {
        Answer::Woken { jobs, next_us, .. } => {
            let told =
                |job: &crate::job::Ready| (job.id.0, job.tries.attempts, job.tries.retried, job.work.retries);
            (jobs.iter().map(told).collect::<Vec<_>>(), next_us)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(due(NOW_US, 9), (vec![], Some(NOW_US + 10)));
    assert_eq!(due(NOW_US + 99, 1), (vec![(3, 1, 1, retries)], Some(NOW_US + 20)));
    assert_eq!((store.queued(), store.record(3).state), (vec![2, 3, 4], State::Retrying));
    store.answer(cancel(1));
    assert_eq!(store.record(1).due_at, None, "what was canceled meanwhile is not due any more");
    assert_eq!(due(NOW_US + 99, 9), (vec![], None));

    let tries = Tries { attempts: 2, retried: 1, ..Tries::default() };
    nothing_to_tell(&store.run(vec![change(Move { tries, ..moved(3, 2, Place::Running(a_start())) })]));
    store.close();
    store = open(dir.path());
    let interrupted = &store.restored.interrupted[0];
    assert_eq!((interrupted.tries.attempts, interrupted.retries, interrupted.tries.retried), (2, retries, 1));
    store.run(vec![end(3, 2, outcome(State::Failed, ResultKind::ExitCode, NOW_US))]);
    assert_eq!((store.record(3).state, store.record(3).attempt), (State::Failed, 2));
    store.close();
}

#[test]
fn the_start_of_a_failed_call_may_come_with_its_failure() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let kind = JobKind::Call(Call { method: "m".to_owned(), params: None, lost: None });
    store.answer(insert(1, 1, vec![Arc::new(Work { kind, ..Work::clone(&work(&[], &[])) })]));
    let tries = Tries { attempts: 1, retried: 1, ..Tries::default() };
    let waiting = moved(1, 1, Place::Waiting(Until::Time { due_us: NOW_US }));
    let failure = Move { tries, start: Some(a_start()), ..waiting };
    nothing_to_tell(&store.run(vec![change(failure)]));
    assert_eq!((store.record(1).state, store.record(1).attempt), (State::Retrying, 1));
    // Without callbacks it needs no environment, and gets an empty one.
    let Answer::Woken { jobs, next_us: None, .. } = store.answer(wake(NOW_US, 9)) else {
        panic!("it is due");
    };
    assert!(jobs[0].work.environment.variables.is_empty());
    assert_eq!(
        store.inspect(
            |connection| connection.query_row("SELECT count(*) FROM environments", [], |row| row.get(0))
        ),
        Ok(0)
    );
    store.close();
}

/// The clock was set back by two hours between the two starts.
#[test]
fn after_a_start_nothing_is_due_later_than_its_backoff_from_then() {
    const HOURS: i64 = 2 * 3600 * 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let retries = Retries::new(9, Duration::from_secs(7));
    let retried = Arc::new(Work { retries, ..Work::clone(&work(&["a"], &[])) });
    store.run(vec![insert(1, 1, vec![retried; 3])]);
    // The first two wait for 7 and 14 seconds, the last one has waited long enough.
    store.run(vec![start(1, 1), start(2, 1), start(3, 1)]);
    store.run(vec![wait(1, 1, 1, NOW_US + 5), wait(2, 1, 2, NOW_US + 6), wait(3, 1, 1, NOW_US - HOURS - 1)]);
    store.close();

    let boot = Boot { id: None, began_us: Some(NOW_US - HOURS) };
    let options = Options { boot, since_boot: Duration::ZERO, ..options(Durability::Power) };
    let (store, restored) = Sqlite::open(dir.path(), options, || ()).unwrap();
    assert_eq!(restored.next_due_us, Some(NOW_US - HOURS - 1));
    drop(store);
    let database = rusqlite::Connection::open(dir.path().join("poold.db")).unwrap();
    let mut select = database.prepare("SELECT due_us FROM waits ORDER BY id").unwrap();
    let due: Vec<i64> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let now_us = NOW_US - HOURS;
    assert_eq!(due, [now_us + 7_000_000, now_us + 14_000_000, now_us - 1]);
}

#[test]
fn after_a_start_no_deadline_is_later_than_the_job_was_given() {
    const HOURS: i64 = 2 * 3600 * 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let within = |seconds| {
        let deadline = Some(Duration::from_secs(seconds));
        Arc::new(Work { deadline, ..Work::clone(&work(&["a"], &[])) })
    };
    store.run(vec![insert(1, 1, vec![within(7), within(3 * 3600), work(&["a"], &[]), within(9)]), cancel(4)]);
    store.close();

    let boot = Boot { id: None, began_us: Some(NOW_US - HOURS) };
    let options = Options { boot, since_boot: Duration::ZERO, ..options(Durability::Power) };
    let (store, restored) = Sqlite::open(dir.path(), options, || ()).unwrap();
    assert_eq!(restored.next_deadline_us, Some(NOW_US - HOURS + 7_000_000));
    drop(store);
    let database = rusqlite::Connection::open(dir.path().join("poold.db")).unwrap();
    let mut select = database.prepare("SELECT deadline_us FROM jobs ORDER BY id").unwrap();
    let deadlines: Vec<Option<i64>> =
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let in_hours = |hours: i64| NOW_US - HOURS + hours * 3_600_000_000;
    let wanted = [Some(NOW_US - HOURS + 7_000_000), Some(in_hours(3)), None, Some(NOW_US + 9_000_000)];
    assert_eq!(deadlines, wanted, "what has ended stays as it was");
}

#[test]
fn a_page_of_deadlines_is_found_and_not_searched_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let plans = store.inspect(|connection| {
        [DeadlineColumn::OF_TIME, DeadlineColumn::OF_LATER_TIMES].map(|select| {
            let mut select = connection.prepare(&format!("EXPLAIN QUERY PLAN {select}")).unwrap();
            let rows = select.query_map((0, 0, 1), |row| row.get::<_, String>(3)).unwrap();
            rows.map(Result::unwrap).collect::<Vec<String>>().join("; ")
        })
    });
    let wanted = ["deadline_us=? AND id>?", "deadline_us>?"];
    assert_eq!(
        plans,
        wanted.map(|terms| format!("SEARCH jobs USING COVERING INDEX jobs_deadline ({terms})"))
    );
    store.close();
}
