//! Callbacks by themselves: what clients read of them, and what they change.

use pool_proto::nouns::{CallbackRecord, On};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, CallbackEnd, CallbackPage, Delivery};
use crate::job::{CallbackId, JobId};

fn altered(trial: &mut Trial, order: crate::engine::Order) -> (Vec<u64>, Vec<(u64, Option<Delivery>)>) {
    match trial.answer(order) {
        Answer::CallbacksAltered { ids, others, .. } => (
            ids.into_iter().map(|id| id.0).collect(),
            others.into_iter().map(|(id, delivery)| (id.0, delivery)).collect(),
        ),
        other => panic!("{other:?}"),
    }
}

fn told(trial: &mut Trial, page: CallbackPage) -> (Vec<CallbackRecord>, Option<u64>) {
    match trial.answer(read_callbacks(page)) {
        Answer::Callbacks { callbacks, next, .. } => (callbacks, next.map(|id| id.0)),
        other => panic!("{other:?}"),
    }
}

fn one(trial: &mut Trial, id: u64) -> CallbackRecord {
    told(trial, CallbackPage::One(CallbackId(id))).0.pop().expect("there is such a callback")
}

fn begin_and_fail(trial: &mut Trial, id: u64) {
    assert!(matches!(trial.answer(begin_callback(id)), Answer::CallbackBegun(_)));
    trial.quietly(vec![end_callback(id, CallbackEnd::Failed)]);
}

pub fn what_was_given_up_is_pending_again_and_its_job_kept(trial: &mut Trial) {
    trial.insert(
        1,
        vec![work(&["a"], &[(On::Done, "x"), (On::Success, "y")]), work(&["b"], &[(On::Done, "z")])],
    );
    trial.run(vec![finish(1)]);
    begin_and_fail(trial, 10);
    let order = retry_callbacks(7, &[10, 11, 12, 99]);
    let others = vec![(11, Some(Delivery::Skipped)), (12, Some(Delivery::Waiting)), (99, None)];
    assert_eq!(altered(trial, order), (vec![10], others));
    assert_eq!(trial.restart().callbacks, [CallbackId(10)]);
    let Answer::Removed { others, .. } = trial.answer(remove(1, &[1])) else { panic!("an answer") };
    assert_eq!(others.len(), 1, "the callback is to be delivered");

    let Answer::CallbackBegun(run) = trial.answer(begin_callback(10)) else { panic!("it is pending") };
    assert_eq!((run.attempt, run.earlier), (2, 1), "its attempts are counted anew");
    assert_eq!(trial.restart().crashed_callbacks.get(&CallbackId(10)), Some(&1));
    let running = altered(trial, retry_callbacks(8, &[10]));
    assert_eq!(running, (vec![], vec![(10, Some(Delivery::Running))]));
    trial.quietly(vec![end_callback(10, CallbackEnd::Delivered)]);
    assert_eq!(altered(trial, retry_callbacks(9, &[10])), (vec![], vec![(10, Some(Delivery::Delivered))]));
    let Answer::Removed { jobs, callbacks, .. } = trial.answer(remove(2, &[1])) else { panic!("an answer") };
    assert_eq!((jobs, callbacks), (vec![(JobId(1), 1)], vec![(CallbackId(10), 2), (CallbackId(11), 0)]));
}

pub fn what_is_dropped_does_not_begin(trial: &mut Trial) {
    let callbacks = [(On::Done, "x"), (On::Done, "y"), (On::Done, "z")];
    trial.insert(1, vec![work(&["a"], &callbacks)]);
    trial.run(vec![finish(1), begin_callback(10), begin_callback(11)]);
    trial.quietly(vec![end_callback(10, CallbackEnd::Again { due_us: NOW_US + 9 })]);

    // One waits for a time, one runs, one is due.
    let dropped = altered(trial, drop_callbacks(7, &[10, 11, 12]));
    assert_eq!(dropped, (vec![10, 12], vec![(11, Some(Delivery::Running))]));
    trial.quietly(vec![begin_callback(12)]);
    let woken = trial.answer(wake(NOW_US + 9, 10));
    assert_eq!(woken, Answer::Woken { jobs: vec![], callbacks: vec![], next_us: None });
    assert_eq!(trial.restart().callbacks, [CallbackId(11)]);
    trial.quietly(vec![end_callback(11, CallbackEnd::Failed)]);
    assert_eq!(
        altered(trial, drop_callbacks(8, &[11, 12])),
        (vec![11, 12], vec![]),
        "that is no second time"
    );
    assert_eq!(
        told(trial, CallbackPage::Open { failed: false, after: CallbackId(0), limit: 9 }),
        (vec![], None)
    );

    assert_eq!(altered(trial, retry_callbacks(9, &[12])), (vec![12], vec![]));
    let Answer::CallbackBegun(run) = trial.answer(begin_callback(12)) else { panic!("it is pending") };
    assert_eq!((run.attempt, run.earlier), (1, 0));
    trial.quietly(vec![end_callback(12, CallbackEnd::Delivered)]);
    let Answer::Removed { jobs, .. } = trial.answer(remove(2, &[1])) else { panic!("an answer") };
    assert_eq!(jobs, [(JobId(1), 1)], "nothing of it is to be delivered");
}

pub fn callbacks_are_told_page_by_page(trial: &mut Trial) {
    let callbacks: Vec<(On, &str)> = vec![(On::Done, "x"); 5];
    trial.insert(1, vec![work(&["a"], &callbacks), work(&["b"], &[(On::Done, "y")])]);
    trial.run(vec![start(1, 1), finish(1), begin_callback(10), begin_callback(11), begin_callback(13)]);
    trial.quietly(vec![
        end_callback(10, CallbackEnd::Failed),
        end_callback(11, CallbackEnd::Delivered),
        end_callback(13, CallbackEnd::Again { due_us: NOW_US + 9 }),
    ]);
    begin_and_fail(trial, 14);

    let mut page = |failed, after, limit| {
        let (told, next) = told(trial, CallbackPage::Open { failed, after: CallbackId(after), limit });
        (told.into_iter().map(|callback| callback.id).collect::<Vec<_>>(), next)
    };
    assert_eq!(page(false, 0, 9), (vec![10, 12, 13, 14], None));
    assert_eq!(page(false, 0, 2), (vec![10, 12], Some(12)));
    assert_eq!(page(false, 12, 2), (vec![13, 14], None));
    assert_eq!(page(true, 0, 1), (vec![10], Some(10)));
    assert_eq!(page(true, 10, 1), (vec![14], None));

    let waiting = one(trial, 15);
    assert_eq!((waiting.state.as_str(), waiting.job, waiting.ended_at), ("waiting", 2, None));
    let due = one(trial, 13);
    assert_eq!((due.state.as_str(), due.attempts, due.exit_code), ("pending", 1, Some(1)));
    assert_eq!((due.command.as_escaped(), due.on, due.due_at.is_some()), ("x", On::Done, true));
    assert_eq!((due.job, due.pool.as_str(), due.job_state.as_str()), (1, "default", "failed"));
    assert_eq!(told(trial, CallbackPage::One(CallbackId(99))), (vec![], None));
}

pub fn failed_callbacks_are_counted(trial: &mut Trial) {
    let counted = |trial: &mut Trial| match trial.answer(counts(1)) {
        Answer::Tallied { failed_callbacks, .. } => failed_callbacks,
        other => panic!("{other:?}"),
    };
    trial.insert(1, vec![work(&["a"], &[(On::Done, "x"), (On::Done, "y")])]);
    trial.run(vec![finish(1)]);
    assert_eq!(counted(trial), 0);
    begin_and_fail(trial, 10);
    begin_and_fail(trial, 11);
    assert_eq!(counted(trial), 2);
    altered(trial, retry_callbacks(7, &[10]));
    altered(trial, drop_callbacks(8, &[11]));
    assert_eq!(counted(trial), 0);
}
