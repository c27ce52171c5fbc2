//! What a job waits for before it begins: a person, other jobs, its turn, a time; one after the other.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::Refusal;
use pool_proto::nouns::{IfExists, On, ResultKind, State};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, Change, Conditional, Edited, NotAssigned, Order, Page};
use crate::job::{
    After, Conditions, Edit, Holdup, JobId, NotBefore, RequestId, Retries, Unique, Until, Work,
};

fn with(conditions: Conditions) -> Arc<Work> {
    let tie = None;
    Arc::new(Work { conditions: Some(Box::new(conditions)), tie, ..Work::clone(&work(&["a"], &[])) })
}

fn after(others: &[(u64, On)]) -> Arc<Work> {
    let after = others.iter().map(|&(id, on)| After { id: JobId(id), on }).collect();
    with(Conditions { after, ..Conditions::default() })
}

/// What the answer to an insertion says of what waits.
fn conditions(trial: &mut Trial, first: u64, jobs: Vec<Arc<Work>>) -> Conditional {
    match trial.answer(insert(first, first * 10, jobs)) {
        Answer::Inserted { conditions, .. } => conditions,
        other => panic!("{other:?}"),
    }
}

/// Those that go on, each with what it waits for now; those that fail; and whether there are more.
type Resolved = (Vec<(u64, Option<Until>)>, Vec<(u64, u64)>, bool);

fn resolve(trial: &mut Trial, limit: u32) -> Resolved {
    match trial.answer(Order::Change(Change::Resolve { limit })) {
        Answer::Resolved { jobs, failed, more } => {
            let jobs = jobs.into_iter().map(|released| (released.position.id.0, released.until));
            (jobs.collect(), failed.into_iter().map(|(id, prior)| (id.0, prior.0)).collect(), more)
        }
        other => panic!("{other:?}"),
    }
}

/// Whether the end is one that others have waited for.
fn has_dependents(trial: &mut Trial, order: Order) -> bool {
    match trial.answer(order) {
        Answer::Ended { has_dependents, .. } => has_dependents,
        other => panic!("{other:?}"),
    }
}

const RETRIED: Retries = Retries::new(2, Duration::from_secs(1));

fn start_of(id: u64) -> Order {
    start(id, 1)
}

fn fail(id: u64) -> Order {
    end(id, 1, outcome(State::Failed, ResultKind::ExitCode, NOW_US + 3_000_000))
}

fn succeed(id: u64) -> Order {
    end(id, 1, outcome(State::Succeeded, ResultKind::Success, NOW_US + 3_000_000))
}

pub fn a_job_begins_after_others_as_they_have_ended(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[]); 3]);
    let told = conditions(
        trial,
        4,
        vec![
            after(&[(1, On::Success)]),
            after(&[(1, On::Failure)]),
            after(&[(1, On::Done), (2, On::Failure)]),
            after(&[(3, On::Success), (1, On::Success)]),
        ],
    );
    assert_eq!(told.waiting, [4, 5, 6, 7].map(|id| (JobId(id), Until::Others)));
    assert_eq!((trial.line(), told.failed), (vec![1, 2, 3], vec![]));
    let record = trial.record(6);
    let named: Vec<u64> = record.after.iter().flatten().map(|dependency| dependency.id).collect();
    assert_eq!((record.state, named), (State::Blocked, vec![1, 2]));

    let blocked = Page { states: vec![State::Blocked], limit: 10, ..Page::default() };
    let Answer::Listed { records, .. } = trial.answer(page(1, blocked)) else { panic!("they are listed") };
    assert_eq!(records.iter().map(|record| record.id).collect::<Vec<_>>(), [4, 5, 6, 7]);

    assert_eq!(resolve(trial, 9), (vec![], vec![], false), "nobody has ended");
    assert!(!has_dependents(trial, cancel(7)), "it waits for others, nobody for it");
    assert!(has_dependents(trial, succeed(1)));
    let restored = trial.restart();
    assert_eq!(restored.queued, queued("default", &[(Holdup::None, 2), (Holdup::Others, 3)]));
    assert!(restored.has_unresolved && restored.failed.is_empty());
    assert_eq!(resolve(trial, 1), (vec![(4, None)], vec![], true), "some at a time");
    assert_eq!(resolve(trial, 9), (vec![], vec![(5, 1)], false));
    assert_eq!(trial.line(), [2, 3, 4], "one waits for the second job still");

    let restored = trial.restart();
    assert_eq!((restored.failed, restored.has_unresolved), (vec![(JobId(5), JobId(1))], false));
    assert!(!has_dependents(trial, cancel(5)));
    assert_eq!(trial.restart().failed, []);

    assert!(has_dependents(trial, fail(2)));
    assert_eq!(resolve(trial, 9), (vec![(6, None)], vec![], false));
    assert_eq!((trial.line(), trial.record(6).after), (vec![3, 4, 6], None));
}

pub fn what_a_job_is_to_run_after_may_have_ended_and_must_exist(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[]); 2]);
    trial.run(vec![succeed(1), fail(2)]);
    let refused = trial.answer(insert(3, 30, vec![after(&[(1, On::Done)]), after(&[(9, On::Done)])]));
    let refusal = Refusal::NoSuchJob { id: 9, pruned: None };
    assert_eq!(refused, Answer::Refused { request: RequestId(3), refusal }, "all of them, or none");

    let jobs =
        vec![after(&[(1, On::Success), (2, On::Failure)]), after(&[(1, On::Failure), (2, On::Success)])];
    let told = conditions(trial, 3, jobs);
    assert_eq!(told.failed, [(JobId(4), JobId(1))], "it can never run");
    assert_eq!((told.waiting, trial.line()), (vec![(JobId(4), Until::Others)], vec![3]));
    assert_eq!(trial.restart().failed, [(JobId(4), JobId(1))], "it is to be canceled");
}

/// A job that has nothing which its end has to look for, until others are to run after it.
pub fn a_plain_job_has_others_after_it_all_the_same(trial: &mut Trial) {
    let plain = || Arc::new(Work { stdin: None, ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![plain(), plain(), call(false)]);
    trial.run(vec![succeed(1)]);
    trial.insert(4, vec![after(&[(1, On::Success), (2, On::Success)]), after(&[(3, On::Done)]), plain()]);
    assert_eq!(trial.line(), [2, 3, 6], "the first one has ended by now");

    assert!(!has_dependents(trial, succeed(6)) && has_dependents(trial, succeed(2)));
    assert_eq!(resolve(trial, 9), (vec![(4, None)], vec![], false));
    assert!(has_dependents(trial, fail(3)));
    assert_eq!(resolve(trial, 9), (vec![(5, None)], vec![], false));
    assert_eq!((trial.line(), trial.record(6).state), (vec![4, 5], State::Succeeded));
}

pub fn a_job_waits_for_one_thing_after_the_other(trial: &mut Trial) {
    let unique = Some(Unique { name: "nightly".into(), if_exists: IfExists::Queue });
    let start = Some(NotBefore::Delay(Duration::from_secs(5)));
    let conditions_of_all =
        Conditions { hold: true, start, after: vec![After { id: JobId(1), on: On::Done }] };
    let first = Arc::new(Work { unique: unique.clone(), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![work(&["a"], &[]), first]);
    let job = Arc::new(Work { unique, ..Work::clone(&with(conditions_of_all)) });
    let told = conditions(trial, 3, vec![job]);
    assert_eq!(told.waiting, [(JobId(3), Until::Person)]);
    assert_eq!(trial.record(3).state, State::Held);
    let restored = trial.restart();
    assert_eq!(restored.queued, queued("default", &[(Holdup::None, 2)]), "what is held is not queued");

    let Answer::Released { jobs, .. } = trial.answer(release(5, &[3])) else { panic!("it is released") };
    assert_eq!((jobs[0].until, trial.record(3).state), (Some(Until::Others), State::Blocked));
    trial.run(vec![succeed(1)]);
    assert_eq!(resolve(trial, 9), (vec![(3, Some(Until::Predecessor))], vec![], false));
    assert_eq!((trial.record(3).state, trial.record(3).waits_for), (State::Queued, Some(2)));

    let Answer::Ended { next: Some((next, until)), .. } = trial.answer(succeed(2)) else {
        panic!("it has the turn")
    };
    let due_us = NOW_US + 5_000_000;
    assert_eq!((next.id, until), (JobId(3), Some(Until::Start { due_us })));
    let restored = trial.restart();
    assert_eq!(restored.queued, queued("default", &[(Holdup::Time, 1)]));
    assert_eq!((restored.next_due_us, trial.record(3).state), (Some(due_us), State::Scheduled));
    assert!(trial.record(3).due_at.is_some());

    let Answer::Woken { jobs, .. } = trial.answer(wake(due_us, 9)) else { panic!("it is due") };
    assert_eq!(jobs.iter().map(|ready| ready.id).collect::<Vec<_>>(), [JobId(3)]);
    assert_eq!((trial.record(3).state, trial.line()), (State::Queued, vec![3]));
}

pub fn a_turn_may_come_while_a_job_waits_for_something_else(trial: &mut Trial) {
    let unique = Some(Unique { name: "nightly".into(), if_exists: IfExists::Queue });
    let first = Arc::new(Work { unique: unique.clone(), ..Work::clone(&work(&["a"], &[])) });
    let held = Conditions { hold: true, ..Conditions::default() };
    let held = Arc::new(Work { unique: unique.clone(), ..Work::clone(&with(held)) });
    trial.insert(1, vec![first.clone(), held, first]);
    let Answer::Ended { next, .. } = trial.answer(succeed(1)) else { panic!("it has ended") };
    assert_eq!((next, trial.line()), (None, vec![]), "the turn is the held one's");
    let Answer::Released { jobs, .. } = trial.answer(release(5, &[2])) else { panic!("it is released") };
    assert_eq!((jobs[0].until, trial.line()), (None, vec![2]));
    let Answer::Ended { next: Some((next, None)), .. } = trial.answer(succeed(2)) else {
        panic!("it has the turn")
    };
    assert_eq!((next.id, trial.line()), (JobId(3), vec![3]));
}

pub fn who_is_to_run_after_a_job_is_told_and_no_more(trial: &mut Trial) {
    let told = |trial: &mut Trial, id, limit| match trial.answer(dependents_of(4, id, limit)) {
        Answer::Dependents { request: RequestId(4), dependents, more } => (dependents, more),
        other => panic!("{other:?}"),
    };
    trial.insert(1, vec![work(&["a"], &[]), work(&["a"], &[])]);
    trial.insert(
        3,
        vec![after(&[(1, On::Success), (2, On::Done)]), after(&[(1, On::Failure)]), after(&[(1, On::Done)])],
    );
    let of = |ids: &[(u64, On)]| Some(ids.iter().map(|&(id, on)| After { id: JobId(id), on }).collect());
    assert_eq!(told(trial, 1, 2), (of(&[(3, On::Success), (4, On::Failure)]), true));
    assert_eq!(told(trial, 2, 2), (of(&[(3, On::Done)]), false));
    assert_eq!((told(trial, 3, 2), told(trial, 9, 2)), ((of(&[]), false), (None, false)));
    let depends_on = |trial: &mut Trial| trial.record(3).depends_on.map(|others| others.len());
    assert_eq!((depends_on(trial), trial.record(1).depends_on), (Some(2), None));

    trial.quietly(vec![start_of(1)]);
    trial.run(vec![succeed(1), Order::Change(Change::Resolve { limit: 9 })]);
    trial.run(vec![cancel(4)]);
    assert_eq!(told(trial, 1, 9), (of(&[]), false), "nobody waits for it any more");
    assert_eq!((depends_on(trial), trial.record(3).after.map(|after| after.len())), (Some(2), Some(1)));
}

pub fn what_fails_takes_those_along_that_need_its_success(trial: &mut Trial) {
    let held = with(Conditions { hold: true, ..Conditions::default() });
    trial.insert(1, vec![held]);
    for id in 2..=6 {
        trial.insert(id, vec![after(&[(id - 1, On::Success)])]);
    }
    trial.insert(7, vec![after(&[(4, On::Failure)]), after(&[(4, On::Done), (1, On::Done)])]);

    assert!(has_dependents(trial, cancel(1)));
    assert_eq!(resolve(trial, 1), (vec![], vec![(2, 1)], true), "there is no room for more");
    assert_eq!(trial.restart().failed, [(JobId(2), JobId(1))]);
    assert_eq!(resolve(trial, 9), (vec![], vec![], false));
    assert!(has_dependents(trial, cancel(2)));
    let wanted = (vec![], vec![(3, 2), (4, 3), (5, 4), (6, 5)], false);
    assert_eq!(resolve(trial, 9), wanted, "those that have an end of any kind to wait for do wait");

    // One of them is given others to wait for before it is canceled.
    let restored = trial.restart();
    assert_eq!(restored.failed, [(JobId(3), JobId(2))], "the others have their turn when this has ended");
    let change = Edit { after: Some(vec![]), ..Edit::default() };
    assert!(matches!(trial.answer(edit(4, 4, 500, change)), Answer::Edited { edited: Edited::Done(_), .. }));
    assert!(!has_dependents(trial, cancel(3)));
    assert_eq!((resolve(trial, 9), trial.line()), ((vec![], vec![], false), vec![4]));
    trial.quietly(vec![start_of(4)]);
    trial.run(vec![succeed(4)]);
    assert_eq!(resolve(trial, 9), (vec![(5, None), (8, None)], vec![(7, 4)], false));
}

pub fn what_waits_is_held_and_waits_for_the_rest_when_it_is_released(trial: &mut Trial) {
    let start = Some(NotBefore::Delay(Duration::from_secs(5)));
    let scheduled = with(Conditions { start, ..Conditions::default() });
    let failing = Arc::new(Work { retries: RETRIED, ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![work(&["a"], &[]), failing, scheduled]);
    trial.insert(4, vec![after(&[(1, On::Done)]), work(&["a"], &[])]);
    trial.quietly(vec![start_of(2), wait(2, 1, 1, NOW_US + 1), start_of(5)]);

    let held = |trial: &mut Trial, ids: &[u64]| match trial.answer(hold_idle(4, ids)) {
        Answer::Withheld { request: RequestId(4), held, others } => {
            let held = held.into_iter().map(|(id, line)| (id.0, line.map(|line| line.holdup)));
            (
                held.collect::<Vec<_>>(),
                others.into_iter().map(|(id, state)| (id.0, state)).collect::<Vec<_>>(),
            )
        }
        other => panic!("{other:?}"),
    };
    let wanted = [
        (1, Some(Holdup::None)),
        (2, Some(Holdup::Time)),
        (3, Some(Holdup::Time)),
        (4, Some(Holdup::Others)),
    ];
    let others = vec![(5, Some(State::Running)), (9, None)];
    assert_eq!(held(trial, &[1, 2, 3, 4, 5, 9]), (wanted.to_vec(), others));
    assert_eq!(held(trial, &[1]), (vec![(1, None)], vec![]), "it is held already");
    assert_eq!((trial.line(), trial.restart().queued), (vec![], Default::default()));
    assert_eq!(trial.restart().next_due_us, None);
    assert_eq!([1, 2, 3, 4].map(|id| trial.record(id).state), [State::Held; 4]);
    assert_eq!(trial.record(2).attempt, 1);

    let Answer::Released { jobs, .. } = trial.answer(release(5, &[1, 2, 3, 4])) else {
        panic!("they are released")
    };
    let now: Vec<_> = jobs.iter().map(|job| (job.position.id.0, job.until)).collect();
    let due_us = NOW_US + 5_000_000;
    let wanted = [(1, None), (2, None), (3, Some(Until::Start { due_us })), (4, Some(Until::Others))];
    assert_eq!((now, trial.line()), (wanted.to_vec(), vec![1, 2]));
    trial.run(vec![succeed(1)]);
    trial.answer(hold_idle(4, &[4]));
    assert_eq!(resolve(trial, 9), (vec![], vec![], false), "the held one waits on");
    let Answer::Released { jobs, .. } = trial.answer(release(5, &[4])) else { panic!("it is released") };
    assert_eq!((jobs[0].until, trial.line()), (None, vec![2, 4]));
}

pub fn what_waits_may_come_into_another_pool(trial: &mut Trial) {
    let scheduled =
        with(Conditions { start: Some(NotBefore::Delay(Duration::ZERO)), ..Conditions::default() });
    let held = with(Conditions { hold: true, ..Conditions::default() });
    trial.insert(
        1,
        vec![work(&["a"], &[]), work(&["a"], &[]), scheduled, held, work(&["a"], &[]), call(false)],
    );
    trial.quietly(vec![start_of(5)]);
    let assigned = |trial: &mut Trial, ids: &[u64], pool: &str, is_warm| {
        let Answer::Assigned { request: RequestId(4), pool: of, jobs, unfit, mut others } =
            trial.answer(assign(4, ids, pool, is_warm))
        else {
            panic!("it is answered")
        };
        assert_eq!(*of, *pool);
        let jobs = jobs.iter().map(|job| (job.position.id.0, job.from.to_string(), job.holdup));
        others.extend(unfit.into_iter().map(|(job, why_not)| (job.position.id, why_not)));
        let others = others.into_iter().map(|(id, why_not)| (id.0, why_not));
        (jobs.collect::<Vec<_>>(), others.collect::<Vec<_>>())
    };
    let from = |id, holdup| (id, "default".to_owned(), holdup);
    let wanted = vec![from(2, Some(Holdup::None)), from(3, Some(Holdup::Time)), from(4, None)];
    let others =
        vec![(5, NotAssigned::Beyond(State::Running)), (9, NotAssigned::Missing), (6, NotAssigned::Call)];
    assert_eq!(assigned(trial, &[2, 3, 4, 5, 6, 9], "other", false), (wanted, others));
    assert_eq!(assigned(trial, &[1], "warm", true).1, [(1, NotAssigned::Command)]);
    assert_eq!([1, 2, 3, 4].map(|id| trial.record(id).pool), ["default", "other", "other", "other"]);

    let mut counts = queued("default", &[(Holdup::None, 2)]);
    counts.extend(queued("other", &[(Holdup::None, 1), (Holdup::Time, 1)]));
    assert_eq!((trial.restart().queued, trial.line()), (counts, vec![1, 6]));
    let Answer::Woken { jobs, .. } = trial.answer(wake(NOW_US, 9)) else { panic!("it is due") };
    assert_eq!((jobs[0].id, &*jobs[0].work.pool), (JobId(3), "other"));
    let Answer::Released { jobs, .. } = trial.answer(release(5, &[4])) else { panic!("it is released") };
    assert_eq!(&*jobs[0].line.pool, "other");
    assert_eq!(assigned(trial, &[2], "default", false).0, [(2, "other".to_owned(), Some(Holdup::None))]);
    assert_eq!(trial.line(), [1, 2, 6]);
}

pub fn a_job_is_due_by_the_clock_on_the_wall(trial: &mut Trial) {
    let at = |us| with(Conditions { start: Some(NotBefore::At { us }), ..Conditions::default() });
    let told = conditions(trial, 1, vec![at(NOW_US + 7), at(NOW_US - 7)]);
    let due = |id, due_us| (JobId(id), Until::Start { due_us });
    assert_eq!(told.waiting, [due(1, NOW_US + 7), due(2, NOW_US - 7)]);
    let Answer::Woken { jobs, next_us, .. } = trial.answer(wake(NOW_US, 9)) else { panic!("it is due") };
    assert_eq!((jobs[0].id, jobs.len(), next_us), (JobId(2), 1, Some(NOW_US + 7)));
    trial.answer(cancel(1));
    assert_eq!(trial.restart().next_due_us, None);
}

pub fn what_waits_for_a_time_of_the_walls_clock_follows_that(trial: &mut Trial) {
    let at = |hold| {
        let start = Some(NotBefore::At { us: NOW_US + 10 });
        with(Conditions { hold, start, ..Conditions::default() })
    };
    let delay = Some(NotBefore::Delay(Duration::from_micros(20)));
    let delayed = with(Conditions { start: delay, ..Conditions::default() });
    assert!(!trial.restart().goes_by_wall);
    conditions(trial, 1, vec![at(false), at(true), delayed]);
    let set = |ahead_us| Order::Change(Change::SetClock { ahead_us });
    assert_eq!(trial.answer(set(50)), Answer::ClockSet { next_us: Some(NOW_US + 20) });
    let Answer::Released { jobs, .. } = trial.answer(release(5, &[2])) else { panic!("it is released") };
    assert_eq!(jobs[0].until, Some(Until::Start { due_us: NOW_US + 60 }), "the held one, too");
    assert!(trial.restart().goes_by_wall);
    assert_eq!(trial.answer(set(-50)), Answer::ClockSet { next_us: Some(NOW_US - 40) });
    let Answer::Woken { jobs, next_us, .. } = trial.answer(wake(NOW_US - 40, 9)) else { panic!("it is due") };
    assert_eq!(jobs.iter().map(|ready| ready.id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(next_us, Some(NOW_US + 20), "a delay is a delay");
    assert!(!trial.restart().goes_by_wall);
}
