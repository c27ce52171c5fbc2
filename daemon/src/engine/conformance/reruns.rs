//! Jobs that have ended and are run again.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::Refusal;
use pool_proto::nouns::{IfExists, On, ResultKind, State};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, CallbackEnd, Change, Fence, Move, NotRetried, Order};
use crate::job::{
    After, CallbackId, Conditions, Holdup, JobId, PastAttempt, Place, RequestId, Retries, Tie, Tries, Unique,
    Until, Work,
};

fn plain() -> Work {
    Work { stdin: None, tie: None, ..Work::clone(&work(&["a"], &[])) }
}

/// Those that begin a new round, each with what it waits for; those that fail; and those that stay.
type Told = (Vec<(u64, Option<Until>)>, Vec<(u64, u64)>, Vec<(u64, NotRetried)>);

fn retried(trial: &mut Trial, ids: &[u64]) -> Told {
    match trial.answer(retry(7, ids)) {
        Answer::Retried { request: RequestId(7), jobs, failed, others, arrays } if arrays.is_empty() => (
            jobs.iter().map(|job| (job.released.position.id.0, job.released.until)).collect(),
            failed.iter().map(|(id, prior)| (id.0, prior.0)).collect(),
            others.iter().map(|(id, why_not)| (id.0, why_not.clone())).collect(),
        ),
        other => panic!("{other:?}"),
    }
}

fn succeed(id: u64, attempts: u32) -> Order {
    end(id, attempts, outcome(State::Succeeded, ResultKind::Success, NOW_US + 5_000_000))
}

pub fn a_job_that_has_ended_begins_a_new_round(trial: &mut Trial) {
    let retries = Retries::new(1, Duration::from_secs(1));
    let deadline = Some(Duration::from_secs(60));
    let callbacks = work(&["a"], &[(On::Done, "x"), (On::Success, "y")]).callbacks.clone();
    trial.insert(1, vec![Arc::new(Work { retries, deadline, callbacks, ..plain() }), Arc::new(plain())]);
    trial.quietly(vec![start(1, 1), wait(1, 1, 1, NOW_US)]);
    trial.answer(wake(NOW_US, 9));
    trial.quietly(vec![start(1, 2)]);
    let Answer::Ended { callbacks, .. } =
        trial.answer(end(1, 2, outcome(State::Failed, ResultKind::ExitCode, 5)))
    else {
        panic!("it has ended")
    };
    assert_eq!(callbacks, [CallbackId(10)]);
    assert_eq!(retried(trial, &[1]).2, [(1, NotRetried::Undelivered)]);
    trial.run(vec![begin_callback(10), end_callback(10, CallbackEnd::Delivered)]);

    let Answer::Retried { jobs, .. } = trial.answer(retry(7, &[1, 1])) else { panic!("it is answered") };
    let [job] = &*jobs else { panic!("a job that is named twice is one: {jobs:?}") };
    assert_eq!((job.deadline_us, job.tie), (Some(NOW_US + 60_000_000), None));
    assert_eq!(trial.line(), [1, 2], "in its old place");
    let record = trial.record(1);
    let was = (record.state, record.attempt, record.retried, record.reruns);
    assert_eq!(was, (State::Queued, 2, 0, 1));
    let gone = (record.result, record.exit_code, record.reason, record.ended_at, record.started_at);
    assert_eq!(gone, (None, None, None, None, None));
    assert!(record.usage.is_none());
    let states = |trial: &mut Trial| {
        let callbacks = trial.record(1).callbacks;
        callbacks.into_iter().map(|callback| (callback.state, callback.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(states(trial), [("waiting".to_owned(), 1), ("waiting".to_owned(), 0)]);
    let restored = trial.restart();
    assert_eq!(restored.queued, queued("default", &[(Holdup::None, 2)]));
    assert_eq!((restored.next_deadline_us, restored.callbacks), (Some(NOW_US + 60_000_000), vec![]));
    assert!(matches!(trial.answer(prune_all(9)), Answer::Pruned { jobs, .. } if jobs.is_empty()), "it lives");

    trial.quietly(vec![start(1, 3)]);
    let Answer::Ended { callbacks, .. } = trial.answer(succeed(1, 3)) else { panic!("it has ended") };
    assert_eq!(callbacks, [CallbackId(10), CallbackId(11)], "they are run again");
    let Answer::CallbackBegun(run) = trial.answer(begin_callback(10)) else { panic!("it is pending") };
    assert_eq!((run.attempt, run.earlier, run.record.reruns), (2, 1, 1));
    assert_eq!(trial.record(1).attempt, 3);
}

pub fn what_cannot_be_run_again_stays_as_it_is(trial: &mut Trial) {
    let unique = Some(Unique { name: "nightly".into(), if_exists: IfExists::Queue });
    let named = || Arc::new(Work { unique: unique.clone(), ..plain() });
    let with_input = Arc::new(Work { stdin: Some("token".to_owned()), ..plain() });
    trial.insert(1, vec![named(), named(), with_input, Arc::new(plain())]);
    trial.run(vec![succeed(1, 1), succeed(3, 1)]);
    let others = [
        (9, NotRetried::Missing),
        (1, NotRetried::NameTaken(JobId(2))),
        (3, NotRetried::InputGone),
        (4, NotRetried::Living(State::Queued)),
    ];
    assert_eq!(retried(trial, &[9, 1, 3, 4]), (vec![], vec![], others.to_vec()));
    assert_eq!([1, 3].map(|id| trial.record(id).state), [State::Succeeded; 2]);

    trial.run(vec![succeed(2, 1)]);
    assert_eq!(retried(trial, &[1, 2]).2, [(2, NotRetried::NameTaken(JobId(1)))], "one at a time");
    assert_eq!(trial.line(), [1, 4]);
}

pub fn what_was_canceled_for_another_jobs_sake_looks_at_that_job_anew(trial: &mut Trial) {
    let after = |id, on| {
        let after = vec![After { id: JobId(id), on }];
        let conditions = Some(Box::new(Conditions { after, ..Conditions::default() }));
        Arc::new(Work { conditions, ..plain() })
    };
    trial.insert(1, vec![Arc::new(Work { tie: Some(Tie::Pool), ..plain() })]);
    trial.insert(2, vec![after(1, On::Success), after(1, On::Failure)]);
    trial.quietly(vec![start(1, 1)]);
    trial.run(vec![finish(1), Order::Change(Change::Resolve { limit: 9 }), cancel(2)]);
    assert_eq!(trial.line(), [3]);

    let (jobs, failed, _) = retried(trial, &[2]);
    assert_eq!((jobs, failed), (vec![(2, Some(Until::Others))], vec![(2, 1)]), "it has failed as before");
    assert_eq!(trial.restart().failed, [(JobId(2), JobId(1))]);
    trial.run(vec![cancel(2)]);
    let Answer::Retried { jobs, failed, .. } = trial.answer(retry(7, &[1, 2])) else {
        panic!("it is answered")
    };
    assert_eq!((jobs[0].tie, jobs[1].released.until, failed), (Some(Tie::Pool), Some(Until::Others), vec![]));
    assert_eq!(trial.record(2).state, State::Blocked);
    trial.quietly(vec![start(1, 2)]);
    trial.run(vec![succeed(1, 2)]);
    let Answer::Resolved { jobs, failed, .. } = trial.answer(Order::Change(Change::Resolve { limit: 9 }))
    else {
        panic!("it is answered")
    };
    assert_eq!((jobs[0].position.id, failed), (JobId(2), vec![]));
    assert_eq!(trial.line(), [2, 3]);

    // One that has begun does not wait once more.
    trial.quietly(vec![start(3, 1)]);
    trial.run(vec![succeed(3, 1)]);
    assert_eq!(retried(trial, &[3]).0, [(3, None)]);
}

pub fn attempts_that_others_follow_are_told_in_order(trial: &mut Trial) {
    let told = |trial: &mut Trial, id| match trial.answer(attempts_of(4, id)) {
        Answer::Attempts { request: RequestId(4), attempts } => attempts,
        other => panic!("{other:?}"),
    };
    let retries = Retries::new(1, Duration::from_secs(1));
    trial.insert(1, vec![Arc::new(Work { retries, ..plain() }), Arc::new(plain())]);
    assert_eq!((told(trial, 1), told(trial, 9)), (Some(vec![]), None));

    let crashed = PastAttempt {
        attempt: 1,
        started_us: None,
        ended_us: NOW_US + 9,
        result: ResultKind::Lost,
        exit_code: None,
        signal: None,
        reason: Some("its worker died".to_owned()),
    };
    let past = Some(Box::new(crashed.clone()));
    let queued = Move { past, ..moved(1, 1, Place::Queued { again: false }) };
    trial.quietly(vec![start(1, 1), change(queued)]);
    let tries = Tries { attempts: 2, retried: 1, ..Tries::default() };
    let waiting = Place::Waiting(Until::Time { due_us: NOW_US });
    let failed = PastAttempt {
        attempt: 2,
        started_us: Some(a_start().started_us),
        result: ResultKind::ExitCode,
        exit_code: Some(3),
        reason: None,
        ..crashed.clone()
    };
    let past = Some(Box::new(failed.clone()));
    let waiting = Move { past, ..Move::new(JobId(1), Fence::Attempt(2), waiting, tries) };
    trial.quietly(vec![start(1, 2), change(waiting)]);
    trial.answer(wake(NOW_US, 9));
    trial.quietly(vec![start(1, 3)]);
    assert_eq!(told(trial, 1), Some(vec![crashed.clone(), failed.clone()]), "the third one runs");
    trial.answer(succeed(1, 3));
    assert_eq!(told(trial, 1).map(|past| past.len()), Some(2), "the record tells of the latest one");

    retried(trial, &[1]);
    trial.restart();
    let past = told(trial, 1).expect("it is there");
    assert_eq!(past[..2], [crashed, failed]);
    let last = &past[2];
    let was = (last.attempt, last.result, last.started_us, last.ended_us);
    let wanted = (3, ResultKind::Success, Some(a_start().started_us), NOW_US + 5_000_000);
    assert_eq!((was, past.len()), (wanted, 3));
    assert_eq!(told(trial, 2), Some(vec![]));
}

pub fn what_is_of_a_closed_pool_is_neither_released_nor_run_again(trial: &mut Trial) {
    let other = || Arc::new(Work { pool: "other".into(), ..plain() });
    trial.insert(1, vec![Arc::new(plain()), Arc::new(plain()), other(), other()]);
    trial.run(vec![cancel(1), hold_idle(4, &[2]), cancel(3), hold_idle(4, &[4])]);
    let close = |order: Order| match order {
        Order::Change(Change::Release { request, ids, .. }) => {
            Order::Change(Change::Release { request, ids, closed: vec!["default".into(), "else".into()] })
        }
        Order::Change(Change::Retry { request, ids, times, .. }) => {
            Order::Change(Change::Retry { request, ids, times, closed: vec!["default".into()] })
        }
        other => other,
    };
    let Answer::Refused { refusal, .. } = trial.answer(close(release(5, &[4, 2]))) else { panic!("refused") };
    assert_eq!(refusal, Refusal::PoolDraining { pool: "default".to_owned() });
    assert_eq!([2, 4].map(|id| trial.record(id).state), [State::Held; 2], "all of them, or none");
    let Answer::Retried { jobs, others, .. } = trial.answer(close(retry(7, &[1, 2, 3]))) else { panic!() };
    let closed = NotRetried::PoolClosed("default".into());
    assert_eq!(others, [(JobId(1), closed), (JobId(2), NotRetried::Living(State::Held))]);
    assert_eq!((jobs.len(), trial.record(1).state), (1, State::Canceled));
    let released = trial.answer(close(release(5, &[4])));
    assert!(matches!(released, Answer::Released { jobs, .. } if jobs.len() == 1));
}
