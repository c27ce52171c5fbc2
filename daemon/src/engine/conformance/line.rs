//! Who gets into a line, in which order, and what waits outside.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::Refusal;
use pool_proto::nouns::{IfExists, On, ResultKind, State};
use pool_proto::text::rfc3339;

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, Conditional, Dequeued, LINE_HEAD, Move, Order, Question, Ran, Turns};
use crate::job::{
    Conditions, ExitCodes, Holdup, JobId, Key, Needs, Place, Position, Ready, RequestId, Retries, StopReason,
    Term, Tie, Tries, Unique, Work,
};

pub fn new_jobs_are_added_all_or_none(trial: &mut Trial) {
    let callbacks = [(On::Done, "x"), (On::Failure, "y")];
    let jobs = vec![work(&["a"], &[]), work(&["b"], &callbacks), work(&["c"], &callbacks[..1])];
    let inserted = trial.answer(insert(1, 1, jobs.clone()));
    let (request, first) = (RequestId(1), JobId(1));
    let (conditions, existing, turns) = (Conditional::default(), Vec::new(), Turns::default());
    let (told, is_synced) = (jobs.clone(), true);
    assert_eq!(
        inserted,
        Answer::Inserted { request, first, jobs: told, existing, turns, conditions, is_synced }
    );
    let numbered = |trial: &mut Trial| {
        [1, 2, 3].map(|id| trial.record(id).callbacks.iter().map(|callback| callback.id).collect::<Vec<_>>())
    };
    assert_eq!(numbered(trial), [vec![], vec![1, 2], vec![3]]);

    let Answer::Fetched { jobs: fetched, complete: true, .. } = trial.answer(fetch(None, 9)) else {
        panic!("the line can be read")
    };
    assert_eq!(*fetched[1].work, Work { callbacks: vec![], ..Work::clone(&jobs[1]) }, "as it went in");

    for (first, first_callback) in [(3, 4), (4, 3)] {
        let refused = trial.answer(insert(first, first_callback, vec![work(&["d"], &callbacks)]));
        assert!(matches!(refused, Answer::Refused { .. }), "ids only ever grow: {refused:?}");
    }

    let tied = |to| Arc::new(Work { tie: Some(Tie::Job(JobId(to))), ..Work::clone(&jobs[0]) });
    let refused = trial.answer(insert(4, 4, vec![tied(1), tied(9)]));
    let refusal = Refusal::NoSuchJob { id: 9, pruned: None };
    assert_eq!(refused, Answer::Refused { request: RequestId(4), refusal }, "all of them, or none");
    trial.run(vec![finish(1)]);
    let inserted = trial.answer(insert(4, 4, vec![tied(2), tied(1)]));
    let Answer::Inserted { conditions, .. } = inserted else { panic!("{inserted:?}") };
    assert_eq!(conditions.untied, [JobId(5)], "what it is tied to has ended");
    assert_eq!(trial.restart().next_job, 6);
    assert_eq!(trial.line(), [2, 3, 4, 5]);
}

pub fn a_key_is_held_by_one_job(trial: &mut Trial) {
    let keyed = |key: &str, round: Option<&str>| {
        let key = Some(Key { text: key.into(), round: round.map(ToOwned::to_owned) });
        Arc::new(Work { key, ..Work::clone(&work(&["a"], &[(On::Done, "done")])) })
    };
    let existing = |trial: &mut Trial, order: Order| match trial.answer(order) {
        Answer::Inserted { existing, .. } => existing,
        other => panic!("{other:?}"),
    };
    assert_eq!(existing(trial, insert(1, 1, vec![keyed("a", Some("r")), keyed("b", None)])), []);
    trial.restart();
    let batch = vec![keyed("c", None), keyed("a", Some("r")), keyed("c", None)];
    assert_eq!(existing(trial, insert(3, 3, batch)), [(1, JobId(1)), (2, JobId(3))]);
    assert_eq!((trial.line(), trial.record(3).key), (vec![1, 2, 3], Some("c".into())));

    trial.run(vec![finish(1), end(2, 1, outcome(State::Succeeded, ResultKind::Success, NOW_US))]);
    let same_round = vec![keyed("a", Some("r")), keyed("a", None)];
    assert_eq!(existing(trial, insert(6, 6, same_round)), [(0, JobId(1)), (1, JobId(1))]);
    let next_round = vec![keyed("a", Some("s")), keyed("b", Some("s"))];
    assert_eq!(existing(trial, insert(8, 8, next_round)), [(1, JobId(2))], "job 1 failed, job 2 did not");
    assert_eq!((trial.record(1).key, trial.record(8).key), (None, Some("a".into())));
    let living = existing(trial, insert(10, 10, vec![keyed("a", Some("t"))]));
    assert_eq!(living, [(0, JobId(8))], "its holder has not ended");
    assert_eq!(trial.restart().next_job, 11, "ids that were not used are not given out either");
}

fn named(name: &str, if_exists: IfExists) -> Arc<Work> {
    let unique = Some(Unique { name: name.into(), if_exists });
    Arc::new(Work { unique, ..Work::clone(&work(&["a"], &[(On::Done, "done")])) })
}

fn inserted(trial: &mut Trial, order: Order) -> (Vec<(usize, JobId)>, Turns) {
    match trial.answer(order) {
        Answer::Inserted { existing, turns, .. } => (existing, turns),
        other => panic!("{other:?}"),
    }
}

/// The job that gets its turn by the end of this one.
fn next_after(trial: &mut Trial, order: Order) -> Option<u64> {
    match trial.answer(order) {
        Answer::Ended { next, .. } => next.map(|(ready, until)| {
            assert_eq!(until, None);
            ready.id.0
        }),
        other => panic!("{other:?}"),
    }
}

pub fn who_joins_a_name_joins_the_job_that_takes_the_place_of_others(trial: &mut Trial) {
    use IfExists::{Join, Queue, Replace, Skip};

    inserted(trial, insert(1, 1, vec![named("a", Queue); 2]));
    assert_eq!(inserted(trial, insert(3, 3, vec![named("a", Join)])).0, [(0, JobId(1))]);
    let batch = vec![named("a", Replace), named("a", Join), named("a", Queue), named("a", Skip)];
    let (existing, turns) = inserted(trial, insert(4, 4, batch));
    assert_eq!(existing, [(1, JobId(4)), (3, JobId(4))]);
    assert_eq!(turns.skipped, [(3, State::Queued)]);

    trial.restart();
    assert_eq!(inserted(trial, insert(8, 8, vec![named("a", Join)])).0, [(0, JobId(4))]);
}

pub fn a_unique_name_is_one_jobs_at_a_time(trial: &mut Trial) {
    use IfExists::{Join, Queue, Skip};

    assert_eq!(inserted(trial, insert(1, 1, vec![named("a", Skip)])), (vec![], Turns::default()));
    trial.quietly(vec![start(1, 1)]);
    trial.restart();
    let batch =
        vec![named("a", Skip), named("a", Join), named("b", Skip), named("b", Skip), named("a", Queue)];
    let (existing, turns) = inserted(trial, insert(2, 2, batch));
    let one = JobId(1);
    assert_eq!(existing, [(0, one), (1, one), (3, JobId(4))]);
    let skipped = vec![(0, State::Running), (3, State::Queued)];
    assert_eq!(turns, Turns { skipped, waiting: vec![(JobId(6), one)], replaced: vec![] });
    let (_, turns) = inserted(trial, insert(7, 7, vec![named("a", Queue)]));
    assert_eq!(turns.waiting, [(JobId(7), JobId(6))]);

    let restored = trial.restart();
    assert_eq!((restored.next_job, restored.replaced), (8, vec![]), "ids that were not used stay unused");
    assert_eq!(
        restored.queued,
        queued("default", &[(Holdup::None, 1), (Holdup::Predecessor, 2)]),
        "what waits for others is queued"
    );
    assert_eq!(trial.line(), [4]);
    let record = trial.record(7);
    assert_eq!((record.state, record.unique, record.waits_for), (State::Queued, Some("a".into()), Some(6)));
    assert_eq!((trial.record(6).waits_for, trial.record(1).waits_for), (Some(1), None));

    // In no place in between is the name free.
    trial.quietly(vec![crash(1, 1, 1, "died"), start(1, 2), hold(1, 2, 2, "died")]);
    assert_eq!(inserted(trial, insert(8, 8, vec![named("a", Skip)])).1.skipped, [(0, State::Held)]);
    trial.run(vec![release(5, &[1])]);
    assert_eq!(trial.line(), [1, 4]);

    let queued_for_b = next_after(trial, cancel(4));
    assert_eq!((queued_for_b, next_after(trial, cancel(1))), (None, Some(6)));
}

pub fn a_wait_for_another_job_ends_with_its_end(trial: &mut Trial) {
    use IfExists::{Queue, Skip};

    let retries = Retries::new(1, Duration::ZERO);
    let first = Arc::new(Work { retries, ..Work::clone(&named("a", Queue)) });
    trial.insert(1, vec![first]);
    trial.insert(2, vec![named("a", Queue); 4]);
    let Answer::Ended { dequeued, next, .. } = trial.answer(cancel(3)) else { panic!("it is idle") };
    assert_eq!(dequeued, Some(Dequeued { pool: "default".into(), holdup: Holdup::Predecessor }));
    assert_eq!((next, trial.record(4).waits_for), (None, Some(2)), "it had no turn to pass on");

    trial.quietly(vec![start(1, 1), wait(1, 1, 1, NOW_US)]);
    assert_eq!(trial.line(), [0; 0], "a failed attempt is no end");
    trial.run(vec![wake(NOW_US, 9)]);
    let tries = Tries { attempts: 2, retried: 1, ..Tries::default() };
    trial.quietly(vec![change(Move { tries, ..moved(1, 2, Place::Running(a_start())) })]);
    assert_eq!(next_after(trial, end(1, 2, outcome(State::Failed, ResultKind::ExitCode, NOW_US))), Some(2));
    assert_eq!((trial.line(), trial.record(2).waits_for), (vec![2], None));
    let restored = trial.restart();
    assert_eq!(restored.queued, queued("default", &[(Holdup::None, 1), (Holdup::Predecessor, 2)]));

    assert_eq!(next_after(trial, cancel(2)), Some(4), "in the order of submission");
    trial.quietly(vec![start(4, 1)]);
    assert_eq!(next_after(trial, finish(4)), Some(5));
    assert_eq!(next_after(trial, cancel(5)), None);
    let free = inserted(trial, insert(6, 60, vec![named("a", Skip)]));
    assert_eq!(free, (vec![], Turns::default()), "the name is free");
}

pub fn what_is_replaced_is_known_until_it_has_ended(trial: &mut Trial) {
    use IfExists::{Queue, Replace};

    trial.insert(1, vec![named("a", Queue), named("a", Queue), named("b", Queue)]);
    let batch = vec![named("a", Queue), named("a", Replace), named("a", Replace), named("b", Replace)];
    let (existing, turns) = inserted(trial, insert(4, 40, batch));
    let pairs = |pairs: &[(u64, u64)]| -> Vec<(JobId, JobId)> {
        pairs.iter().map(|&(one, other)| (JobId(one), JobId(other))).collect()
    };
    assert_eq!(existing, []);
    assert_eq!(turns.replaced, pairs(&[(4, 5), (2, 5), (1, 5), (5, 6), (3, 7)]));
    assert_eq!(turns.waiting, pairs(&[(4, 2), (5, 4), (6, 5), (7, 3)]));

    let all = pairs(&[(5, 6), (4, 6), (3, 7), (2, 6), (1, 6)]);
    assert_eq!(trial.restart().replaced, all, "the latest first");
    trial.run(vec![cancel(5), cancel(4), cancel(3)]);
    assert_eq!(trial.restart().replaced, pairs(&[(2, 6), (1, 6)]));
    assert_eq!(trial.line(), [1, 7]);
    assert_eq!((next_after(trial, cancel(2)), next_after(trial, cancel(1))), (None, Some(6)));
    assert_eq!((trial.restart().replaced, trial.line()), (vec![], vec![6, 7]));
}

pub fn who_has_not_ended_by_its_deadline_is_told(trial: &mut Trial) {
    let within = |seconds| {
        let deadline = Some(Duration::from_secs(seconds));
        Arc::new(Work {
            deadline,
            retries: Retries::new(3, Duration::ZERO),
            ..Work::clone(&work(&["a"], &[]))
        })
    };
    let at = |seconds: i64| NOW_US + seconds * 1_000_000;
    trial.insert(
        1,
        vec![within(30), within(20), work(&["a"], &[]), within(20), within(20), within(40), within(10)],
    );
    trial.quietly(vec![start(2, 1), start(4, 1), hold(4, 1, 1, "died"), start(5, 1), wait(5, 1, 1, at(99))]);
    trial.run(vec![finish(7)]);
    assert_eq!(trial.record(2).deadline_at, Some(rfc3339(at(20))));
    assert_eq!(trial.restart().next_deadline_us, Some(at(20)), "what has ended has none");

    let told = |trial: &mut Trial, after: Option<(i64, u64)>, until, limit| match trial.answer(overdue(
        Term::End,
        after,
        until,
        limit,
    )) {
        Answer::Overdue { term: Term::End, jobs, last, next_us } => {
            let last = last.map(|(us, id)| (us, id.0));
            (jobs.iter().map(|id| id.0).collect::<Vec<u64>>(), last, next_us)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(told(trial, None, at(20) - 1, 9), (vec![], None, Some(at(20))));
    assert_eq!(told(trial, None, at(20), 2), (vec![2, 4], Some((at(20), 4)), Some(at(20))), "page by page");
    assert_eq!(told(trial, Some((at(20), 4)), at(20), 2), (vec![5], Some((at(20), 5)), Some(at(30))));
    assert_eq!(told(trial, Some((at(20), 5)), at(35), 9), (vec![1], Some((at(30), 1)), Some(at(40))));
    assert_eq!(told(trial, Some((at(30), 1)), at(99), 9), (vec![6], Some((at(40), 6)), None));

    trial.quietly(vec![stop(2, 1, StopReason::Deadline)]);
    assert_eq!(trial.restart().interrupted[0].stopping, Some(StopReason::Deadline));
    trial.run(vec![end(2, 1, outcome(State::TimedOut, ResultKind::Timeout, at(21)))]);
    trial.run([1, 4, 5].map(cancel).into());
    assert_eq!(told(trial, None, at(99), 9), (vec![6], Some((at(40), 6)), None));
}

pub fn who_has_not_begun_in_time_is_told(trial: &mut Trial) {
    let within = |seconds| {
        let start_within = Some(Duration::from_secs(seconds));
        let (stdin, tie) = (None, None);
        Arc::new(Work { start_within, stdin, tie, ..Work::clone(&work(&["a"], &[])) })
    };
    let at = |seconds: i64| NOW_US + seconds * 1_000_000;
    trial.insert(1, vec![within(30), within(20), work(&["a"], &[]), within(10), within(20), within(20)]);
    trial.quietly(vec![start(2, 1)]);
    trial.run(vec![cancel(4)]);
    assert_eq!(trial.record(1).start_by, Some(rfc3339(at(30))));
    let restored = trial.restart();
    assert_eq!(restored.next_start_by_us, Some(at(20)), "what has ended or begun has none");
    assert_eq!(restored.next_deadline_us, None);

    let told = |trial: &mut Trial, after: Option<(i64, u64)>, until, limit| match trial.answer(overdue(
        Term::Start,
        after,
        until,
        limit,
    )) {
        Answer::Overdue { term: Term::Start, jobs, last, next_us } => {
            let last = last.map(|(us, id)| (us, id.0));
            (jobs.iter().map(|id| id.0).collect::<Vec<u64>>(), last, next_us)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(told(trial, None, at(20), 1), (vec![5], Some((at(20), 5)), Some(at(20))), "page by page");
    assert_eq!(told(trial, Some((at(20), 5)), at(20), 9), (vec![6], Some((at(20), 6)), Some(at(30))));
    // One whose attempt has died has begun.
    trial.quietly(vec![crash(2, 1, 1, "died")]);
    assert_eq!(told(trial, None, at(99), 9), (vec![5, 6, 1], Some((at(30), 1)), None));

    trial.run(vec![retry(7, &[4])]);
    assert_eq!(trial.record(4).start_by, Some(rfc3339(at(10))), "it has not begun, and has its time anew");
    assert_eq!(told(trial, None, at(10), 9), (vec![4], Some((at(10), 4)), Some(at(20))));
    trial.run(vec![end(2, 1, outcome(State::Succeeded, ResultKind::Success, at(5))), retry(7, &[2])]);
    assert_eq!(trial.record(2).start_by, None, "it has begun before");
}

pub fn a_key_decides_before_a_unique_name(trial: &mut Trial) {
    let keyed = |key: &str, if_exists| {
        let key = Some(Key { text: key.into(), round: None });
        Arc::new(Work { key, ..Work::clone(&named("a", if_exists)) })
    };
    trial.insert(1, vec![keyed("k", IfExists::Skip)]);
    let again = vec![keyed("k", IfExists::Queue), keyed("l", IfExists::Skip), keyed("l", IfExists::Queue)];
    let (existing, turns) = inserted(trial, insert(2, 20, again));
    assert_eq!(existing, [(0, JobId(1)), (1, JobId(1)), (2, JobId(1))]);
    assert_eq!(turns, Turns { skipped: vec![(1, State::Queued)], ..Turns::default() });
    assert_eq!((trial.record(1).key, trial.line()), (Some("k".into()), vec![1]));
    let (existing, _) = inserted(trial, insert(5, 50, vec![keyed("l", IfExists::Queue)]));
    assert_eq!((existing, trial.record(5).key), (vec![], Some("l".into())), "what was skipped took no key");
}

pub fn a_line_goes_by_priority_and_then_by_id(trial: &mut Trial) {
    let of_priority = |priority| Arc::new(Work { priority, ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, [0, i32::MAX, -1, 0, 5, i32::MIN, 0, 5].map(of_priority).to_vec());
    let elsewhere = Arc::new(Work { pool: "other".into(), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(9, vec![elsewhere]);
    trial.quietly(vec![start(4, 1)]);

    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let fetched = trial.answer(fetch(after, 2));
        let Answer::Fetched { jobs, complete, .. } = fetched else { panic!("{fetched:?}") };
        pages.push(jobs.iter().map(|job| job.id.0).collect::<Vec<u64>>());
        after = jobs.last().map(Ready::position);
        if complete {
            break;
        }
    }
    assert_eq!(pages, [vec![2, 5], vec![8, 1], vec![7, 3], vec![6]]);

    trial.quietly(vec![crash(4, 1, 1, "died")]);
    assert_eq!(trial.line(), [2, 5, 8, 1, 4, 7, 3, 6], "back in its old place");
    let mut counts = queued("default", &[(Holdup::None, 8)]);
    counts.extend(queued("other", &[(Holdup::None, 1)]));
    assert_eq!(trial.restart().queued, counts);
}

fn retried() -> Arc<Work> {
    let on = ExitCodes::parse("75,100-110").expect("they are codes");
    let retries = Retries { jitter: 250, on, ..Retries::new(3, Duration::from_secs(7)) };
    Arc::new(Work { retries, ..Work::clone(&work(&["a"], &[])) })
}

pub fn a_wait_for_a_time_ends_when_it_has_come(trial: &mut Trial) {
    trial.insert(1, vec![retried(); 5]);
    trial.quietly((1..=4).map(|id| start(id, 1)).collect());
    let due = [(1, 20), (2, 40), (3, 10), (4, 30)];
    trial.quietly(due.map(|(id, due_us)| wait(id, 1, 1, NOW_US + due_us)).into());
    let record = trial.record(1);
    assert_eq!(
        (record.state, record.retried, record.reason.as_deref()),
        (State::Retrying, 1, Some("exit code 1"))
    );
    assert_eq!((record.due_at.is_some(), record.pid, record.started_at), (true, None, None));
    assert_eq!(record.retry_on_exit.as_deref(), Some("75,100-110"));
    assert_eq!(trial.line(), [5]);

    let restored = trial.restart();
    assert_eq!(restored.next_due_us, Some(NOW_US + 10));
    assert_eq!(
        restored.queued,
        queued("default", &[(Holdup::None, 1), (Holdup::Time, 4)]),
        "those that wait are counted"
    );
    let woken = |trial: &mut Trial, until_us, limit| match trial.answer(wake(until_us, limit)) {
        Answer::Woken { jobs, callbacks, next_us } if callbacks.is_empty() => {
            assert!(jobs.iter().all(|job| job.tries.attempts == 1 && job.tries.retried == 1));
            (jobs.iter().map(|job| job.id.0).collect::<Vec<u64>>(), next_us)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(woken(trial, NOW_US + 9, 9), (vec![], Some(NOW_US + 10)));
    assert_eq!(woken(trial, NOW_US + 99, 2), (vec![3, 1], Some(NOW_US + 30)), "the first ones");
    assert_eq!((trial.line(), trial.record(3).state), (vec![1, 3, 5], State::Retrying));
    assert_eq!(trial.record(3).due_at, None);

    trial.answer(cancel(4));
    assert_eq!(woken(trial, NOW_US + 35, 9), (vec![], Some(NOW_US + 40)), "it was canceled meanwhile");
    assert_eq!(woken(trial, NOW_US + 40, 9), (vec![2], None));
    let tries = Tries { attempts: 2, retried: 1, ..Tries::default() };
    trial.quietly(vec![change(Move { tries, ..moved(2, 2, Place::Running(a_start())) })]);
    assert_eq!((trial.record(2).retried, trial.line()), (1, vec![1, 3, 5]));
}

pub fn a_wait_for_a_person_ends_with_a_release(trial: &mut Trial) {
    trial.insert(1, vec![retried(); 4]);
    trial.quietly(vec![
        start(1, 1),
        hold(1, 1, 1, "died"),
        start(2, 1),
        hold(2, 1, 1, "died"),
        start(3, 1),
        wait(3, 1, 1, NOW_US),
    ]);
    let record = trial.record(1);
    assert_eq!((record.state, record.crashes, record.due_at), (State::Held, 1, None));
    assert_eq!(
        trial.restart().queued,
        queued("default", &[(Holdup::None, 1), (Holdup::Time, 1)]),
        "what is held is not queued"
    );
    let Answer::Woken { jobs, .. } = trial.answer(wake(i64::MAX, 1)) else { panic!("it is answered") };
    assert_eq!(jobs.iter().map(|job| job.id.0).collect::<Vec<u64>>(), [3], "no time ends the others");

    for (ids, not_held) in [(&[1, 4][..], 4), (&[2, 9, 1], 9), (&[3], 3)] {
        let refusal = Refusal::NotHeld { id: not_held };
        assert_eq!(trial.answer(release(5, ids)), Answer::Refused { request: RequestId(5), refusal });
    }
    assert_eq!(trial.line(), [3, 4], "all of them, or none");

    let Answer::Released { request, jobs } = trial.answer(release(6, &[2, 1, 2, 1])) else {
        panic!("they are held")
    };
    let told: Vec<u64> = jobs.iter().map(|job| job.position.id.0).collect();
    assert_eq!((request, told), (RequestId(6), vec![2, 1]), "a job named twice is one");
    assert_eq!([1, 2].map(|id| trial.record(id).crashes), [0, 0], "their crashes are forgiven");
    assert_eq!(trial.line(), [1, 2, 3, 4]);
    assert_eq!(trial.restart().queued, queued("default", &[(Holdup::None, 4)]));
}

/// No machine of ours does this, but nothing in the contract forbids it.
pub fn an_attempt_may_end_a_wait_itself(trial: &mut Trial) {
    trial.insert(1, vec![retried(); 3]);
    trial.quietly((1..=3).map(|id| start(id, 1)).collect());
    trial.quietly(vec![wait(1, 1, 1, NOW_US), wait(2, 1, 1, NOW_US), hold(3, 1, 1, "died")]);
    trial.quietly(vec![start(1, 2), change(moved(3, 1, Place::Queued { again: false }))]);
    trial.run(vec![finish(2)]);
    assert_eq!(trial.line(), [3]);

    let woken = trial.answer(wake(i64::MAX, 9));
    assert_eq!(woken, Answer::Woken { jobs: vec![], callbacks: vec![], next_us: None });
    assert_eq!([1, 2, 3].map(|id| trial.record(id).state), [State::Running, State::Failed, State::Queued]);
    assert_eq!(trial.restart().next_due_us, None);
}

pub fn what_has_the_same_labels_is_a_line_of_its_own(trial: &mut Trial) {
    let of = |labels: &str, priority| {
        let needs = Needs::parse(labels).unwrap();
        Arc::new(Work { needs, priority, retries: retried().retries, ..Work::clone(&work(&["a"], &[])) })
    };
    let line = |trial: &mut Trial, labels: &str| match trial.answer(fetch_of(labels, None, 99)) {
        Answer::Fetched { line, jobs, complete: true } if line.needs == Needs::parse(labels).unwrap() => {
            assert!(jobs.iter().all(|ready| ready.work.needs == line.needs));
            jobs.iter().map(|ready| ready.id.0).collect::<Vec<u64>>()
        }
        other => panic!("{other:?}"),
    };
    trial.insert(1, vec![of("", 0), of("gpu", 0), of("db,gpu", 0), of("gpu", 5), of("db", 0), of("gpu", 0)]);
    let lines = |trial: &mut Trial| ["", "db", "gpu", "db,gpu", "net"].map(|labels| line(trial, labels));
    assert_eq!(lines(trial), [vec![1], vec![5], vec![4, 2, 6], vec![3], vec![]]);
    assert_eq!(trial.record(3).labels, Some(vec!["db".to_owned(), "gpu".to_owned()]));
    assert_eq!(trial.record(1).labels, None);

    let restored = trial.restart();
    assert_eq!(restored.queued, queued("default", &[(Holdup::None, 6)]));
    let names: Vec<String> = restored.lines.iter().map(|(line, _)| line.needs.to_string()).collect();
    assert_eq!(names, ["", "db", "db,gpu", "gpu"]);
    for (line, first) in restored.lines {
        let is_before = |id: &u64| {
            let priority = Reverse(if *id == 4 { 5 } else { 0 });
            Position { priority, id: JobId(*id) } < first
        };
        let ids: Vec<u64> = match line.needs.to_string().as_str() {
            "" => vec![1],
            "db" => vec![5],
            "gpu" => vec![4, 2, 6],
            _ => vec![3],
        };
        assert!(!ids.iter().any(is_before), "{ids:?} come before {first:?}");
    }

    trial.quietly(vec![start(3, 1), wait(3, 1, 1, NOW_US), start(2, 1), start(6, 1), hold(6, 1, 1, "died")]);
    assert_eq!(lines(trial), [vec![1], vec![5], vec![4], vec![], vec![]], "a line that is empty is gone");
    assert_eq!(trial.restart().interrupted[0].needs, Needs::parse("gpu").unwrap());
    trial.answer(wake(NOW_US, 9));
    let Answer::Released { jobs, .. } = trial.answer(release(7, &[6])) else { panic!("it is released") };
    assert_eq!(jobs[0].line.needs, Needs::parse("gpu").unwrap());
    assert_eq!(lines(trial), [vec![1], vec![5], vec![4, 6], vec![3], vec![]]);
}

pub fn what_takes_as_many_slots_and_resources_is_a_line_of_its_own(trial: &mut Trial) {
    let texts = ["", "=3", "db,=3", "=2", "db,gpu=2", "gpu=1,tape=2,=4"];
    let of = |text: &&str| {
        let needs = Needs::parse(text).unwrap();
        Arc::new(Work { needs, ..Work::clone(&work(&["a"], &[])) })
    };
    trial.insert(1, texts.iter().chain(&texts).map(of).collect());
    for (place, text) in texts.iter().enumerate() {
        let Answer::Fetched { line, jobs, .. } = trial.answer(fetch_of(text, None, 99)) else {
            panic!("the line {text:?} is read")
        };
        let ids: Vec<u64> = jobs.iter().map(|ready| ready.id.0).collect();
        assert_eq!((line.needs.to_string().as_str(), ids), (*text, vec![place as u64 + 1, place as u64 + 7]));
        assert!(jobs.iter().all(|ready| ready.work.needs == line.needs));
    }
    assert_eq!(trial.restart().lines.len(), texts.len());
    let record = trial.record(6);
    assert_eq!((record.slots, record.labels), (4, None));
    let resources = [("gpu", 1), ("tape", 2)].map(|(name, amount)| (name.to_owned(), amount));
    assert_eq!(record.resources, Some(resources.into_iter().collect()));
    assert_eq!((trial.record(1).slots, trial.record(1).resources), (1, None));
    assert_eq!(trial.record(3).labels, Some(vec!["db".to_owned()]));
}

pub fn the_beginning_of_a_line_is_told_and_no_more(trial: &mut Trial) {
    let head = |trial: &mut Trial, pool: &str| match trial.answer(line_of(4, pool)) {
        Answer::Line { request: RequestId(4), line, head } if *line.pool == *pool => head,
        other => panic!("{other:?}"),
    };
    let ids = |head: Vec<Position>| head.iter().map(|position| position.id.0).collect::<Vec<u64>>();
    let of = |pool: &str, priority| {
        Arc::new(Work { pool: pool.into(), priority, ..Work::clone(&work(&["a"], &[])) })
    };

    trial.insert(1, vec![of("default", 0), of("other", 9), of("default", 0), of("default", 5), retried()]);
    let told = head(trial, "default");
    let wanted = [(5, 4), (0, 1), (0, 3), (0, 5)];
    assert_eq!(told, wanted.map(|(priority, id)| Position { priority: Reverse(priority), id: JobId(id) }));
    assert_eq!((ids(head(trial, "other")), head(trial, "no such pool")), (vec![2], vec![]));

    trial.quietly(vec![start(1, 1), start(5, 1), wait(5, 1, 1, NOW_US)]);
    assert_eq!(ids(head(trial, "default")), [4, 3], "what runs or waits for a time is in no line");
    trial.answer(wake(NOW_US, 9));
    trial.run(vec![cancel(3)]);
    trial.restart();
    assert_eq!(ids(head(trial, "default")), [4, 5]);

    trial.insert(6, vec![of("default", 0); LINE_HEAD]);
    let told = ids(head(trial, "default"));
    assert_eq!((told.len(), told[..3].to_vec(), told.last()), (LINE_HEAD, vec![4, 5, 6], Some(&1004)));
}

pub fn who_has_a_key_is_told_as_an_insertion_would_find_it(trial: &mut Trial) {
    let key = |text: &str, round: Option<&str>| Key { text: text.into(), round: round.map(str::to_owned) };
    let keyed = |key: Key| Arc::new(Work { key: Some(key), stdin: None, ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![keyed(key("done", Some("r"))), keyed(key("failed", Some("r")))]);
    trial.run(vec![cancel(2)]);
    let asked = vec![
        key("done", None),
        key("done", Some("s")),
        key("failed", None),
        key("failed", Some("r")),
        key("failed", Some("s")),
        key("none", None),
    ];
    let Answer::Keepers { request: RequestId(4), keepers } = trial.answer(keepers_of(4, asked)) else {
        panic!("it is answered")
    };
    let ids: Vec<u64> = keepers.iter().map(|keeper| keeper.map_or(0, |id| id.0)).collect();
    assert_eq!(ids, [1, 1, 2, 2, 0, 0]);
}

pub fn what_is_held_is_counted(trial: &mut Trial) {
    let counted = |trial: &mut Trial| match trial.answer(count_held(4)) {
        Answer::Counted { request: RequestId(4), held } => held,
        other => panic!("{other:?}"),
    };
    assert_eq!(counted(trial), 0);
    let held = Conditions { hold: true, ..Conditions::default() };
    let held = Arc::new(Work { conditions: Some(Box::new(held)), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![held.clone(), work(&["a"], &[]), held.clone(), held]);
    assert_eq!(counted(trial), 3);
    trial.answer(release(5, &[1]));
    trial.run(vec![cancel(3)]);
    assert_eq!(counted(trial), 1);
}

pub fn how_a_pool_works_off_its_jobs_is_told(trial: &mut Trial) {
    let pace = |trial: &mut Trial| {
        let question = Question::Pace { request: RequestId(4), pool: "default".into() };
        match trial.answer(Order::Question(question)) {
            Answer::Pace { request: RequestId(4), pace, .. } => pace,
            other => panic!("{other:?}"),
        }
    };
    let plain = || Work { stdin: None, tie: None, ..Work::clone(&work(&["a"], &[])) };
    let of = |slots: u32, priority: i32| {
        let needs = Needs { slots, ..plain().needs };
        Arc::new(Work { needs, priority, ..plain() })
    };
    let elsewhere = Arc::new(Work { pool: "other".into(), ..plain() });
    trial.insert(1, vec![of(1, 0), of(2, 0), of(1, 0), of(2, 5), elsewhere, of(1, 0)]);
    let order = |trial: &mut Trial| {
        pace(trial).order.unwrap().iter().map(|position| position.id.0).collect::<Vec<u64>>()
    };
    assert_eq!(order(trial), [4, 1, 2, 3, 6], "of all its lines");
    assert_eq!(pace(trial).ran, []);

    let ends = [(State::Succeeded, ResultKind::Success), (State::Failed, ResultKind::ExitCode)];
    for (id, (state, result)) in [1, 2].into_iter().zip(ends) {
        trial.quietly(vec![start(id, 1)]);
        trial.answer(end(id, 1, outcome(state, result, NOW_US + id.cast_signed() * 5_000_000)));
    }
    trial.quietly(vec![start(3, 1)]);
    trial.answer(end(3, 1, outcome(State::Canceled, ResultKind::Canceled, NOW_US + 9_000_000)));
    trial.answer(cancel(6));
    let started_us = a_start().started_us;
    let ran =
        |ended_us: i64, slots| Ran { ended_us, lasted_us: (ended_us - started_us).unsigned_abs(), slots };
    assert_eq!(
        pace(trial).ran,
        [ran(NOW_US + 10_000_000, 2), ran(NOW_US + 5_000_000, 1)],
        "the latest first"
    );

    trial.insert(7, (0..LINE_HEAD + 9).map(|_| of(1, 0)).collect());
    let ids = order(trial);
    let last = 5 + LINE_HEAD as u64;
    assert_eq!((ids.len(), ids[..3].to_vec(), ids.last()), (LINE_HEAD, vec![4, 7, 8], Some(&last)));

    // Two lines of which neither ends before what is told of both.
    let next = 7 + LINE_HEAD as u64 + 9;
    trial.insert(next, (0..LINE_HEAD).map(|_| of(3, 0)).collect());
    trial
        .insert(next + LINE_HEAD as u64, (0..LINE_HEAD).map(|place| of(3 + (place % 2) as u32, 7)).collect());
    let ids = order(trial);
    assert_eq!((ids.len(), ids.is_sorted()), (LINE_HEAD, true), "those of a higher priority, by their turns");
}
