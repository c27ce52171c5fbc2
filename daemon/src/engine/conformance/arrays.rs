//! Job arrays: how they are unfolded, and what is known of elements that are not kept.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{ArraySpec, CallbackFor, On, ResultKind, State};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, Change, NotRetried, Order};
use crate::job::{
    After, ArrayPart, ArrayPlan, ArrayTally, CallbackId, Conditions, Element, JobId, Needs, StopReason, Work,
    array_label,
};

fn array_of(work: Work, spec: &str, callback_for: CallbackFor) -> Arc<Work> {
    let ArraySpec { indices, at_once } = spec.parse().expect("it is one");
    let plan = ArrayPlan { indices, at_once, callback_for };
    Arc::new(Work { array: Some(Box::new(ArrayPart::Whole(plan))), ..work })
}

fn plain() -> Work {
    Work { stdin: None, tie: None, ..Work::clone(&work(&["a"], &[])) }
}

fn array(spec: &str) -> Arc<Work> {
    array_of(plain(), spec, CallbackFor::Array)
}

fn unfold(array: u64, limit: u32) -> Order {
    Order::Change(Change::Unfold { array: JobId(array), limit, now_us: NOW_US + 7 })
}

fn fold(array: u64, after: u64, limit: u32) -> Order {
    let (array, after) = (JobId(array), JobId(after));
    Order::Change(Change::Fold { array, reason: StopReason::Canceled, after, limit })
}

/// How far it has come, and the elements that are in their line by it.
fn unfolded(trial: &mut Trial, array: u64, limit: u32) -> (ArrayTally, Vec<u64>) {
    match trial.answer(unfold(array, limit)) {
        Answer::Unfolded { tally, jobs, .. } => (*tally, jobs.iter().map(|job| job.position.id.0).collect()),
        other => panic!("{other:?}"),
    }
}

/// What is told of an array with an end.
fn tally_of(answer: Answer) -> ArrayTally {
    match answer {
        Answer::Ended { array: Some(tally), .. } => *tally,
        other => panic!("{other:?}"),
    }
}

fn end_element(trial: &mut Trial, id: u64, state: State) -> ArrayTally {
    let result = if state == State::Succeeded { ResultKind::Success } else { ResultKind::ExitCode };
    tally_of(trial.answer(end(id, 1, outcome(state, result, NOW_US + 5_000_000))))
}

fn end_array(trial: &mut Trial, id: u64, state: State) -> Answer {
    trial.answer(end(id, 0, outcome(state, ResultKind::Success, NOW_US + 6_000_000)))
}

pub fn an_array_is_unfolded_in_its_place_a_piece_at_a_time(trial: &mut Trial) {
    trial.insert(1, vec![Arc::new(plain()), array("0-9:3"), Arc::new(plain())]);
    trial.insert(8, vec![Arc::new(plain())]);
    assert_eq!(trial.line(), [1, 2, 3, 8], "as a job of its own");

    let (tally, made) = unfolded(trial, 2, 3);
    assert_eq!(made, [4, 5, 6]);
    assert_eq!((tally.elements, tally.next, tally.made, tally.has_more()), (4, 3, 3, true));
    assert_eq!(trial.line(), [1, 3, 4, 5, 6, 8], "the array is in no line any more");
    let record = trial.record(2);
    assert_eq!((record.state, record.attempt), (State::Running, 0));
    assert!(record.started_at.is_some());
    assert_eq!(trial.record(5).array.unwrap().index, Some(3));

    let (tally, made) = unfolded(trial, 2, 3);
    assert_eq!((made, tally.made, tally.has_more()), (vec![7], 4, false));
    let (tally, made) = unfolded(trial, 2, 3);
    assert_eq!((made, tally.made), (vec![], 4), "there are no more");

    for id in 4..7 {
        assert!(!end_element(trial, id, State::Succeeded).is_over());
    }
    let tally = end_element(trial, 7, State::Failed);
    assert_eq!((tally.succeeded, tally.failed, tally.worst, tally.is_over()), (3, 1, 3, true));
    assert!(tally_of(end_array(trial, 2, State::Failed)).is_over());
    let array = trial.record(2).array.unwrap();
    assert_eq!((array.elements, array.indices.as_deref(), array.first_id), (4, Some("0-9:3"), Some(4)));
    assert_eq!((array.succeeded, array.failed, array.canceled), (Some(3), Some(1), Some(0)));
    assert_eq!(trial.answer(unfold(2, 3)), Answer::Lost { id: JobId(2) });
}

pub fn an_element_is_what_its_array_was_submitted_as(trial: &mut Trial) {
    let of_all = Work {
        deadline: Some(Duration::from_secs(60)),
        needs: Needs::parse("gpu,=2").expect("they are some"),
        priority: 3,
        ..Work::clone(&work(&["a", "b c"], &[(On::Done, "x"), (On::Failure, "y")]))
    };
    trial.insert(1, vec![Arc::new(plain()), array_of(of_all.clone(), "5,7%1", CallbackFor::Element)]);
    unfolded(trial, 2, 9);
    let line = format!("{},gpu,=2", array_label(JobId(2)));
    let Answer::Fetched { jobs, .. } = trial.answer(fetch_of(&line, None, 9)) else { panic!("it is read") };
    let elements: Vec<Work> = jobs.iter().map(|job| Work::clone(&job.work)).collect();
    let expected = [5, 7].map(|index| Work {
        needs: Needs::parse(&line).expect("they are some"),
        array: Some(Box::new(ArrayPart::Element(Element { array: JobId(2), index, elements: 2 }))),
        callbacks: vec![],
        ..of_all.clone()
    });
    assert_eq!(elements, expected, "all that an attempt needs, and the tie to the pool");

    // Each has the callbacks, under ids of its own.
    let callbacks = |record: pool_proto::Record| -> Vec<u64> {
        record.callbacks.iter().map(|callback| callback.id).collect()
    };
    assert_eq!(callbacks(trial.record(2)), Vec::<u64>::new());
    assert_eq!((callbacks(trial.record(3)), callbacks(trial.record(4))), (vec![10, 11], vec![12, 13]));
    let Answer::Ended { callbacks, stdin, .. } = trial.answer(finish(3)) else { panic!("it has ended") };
    assert_eq!(
        (callbacks, stdin),
        (vec![CallbackId(10), CallbackId(11)], None),
        "the input is the others', too"
    );
    trial.insert(5, vec![Arc::new(plain())]);
}

pub fn an_element_that_is_not_made_is_told_and_may_be_ended(trial: &mut Trial) {
    trial.insert(1, vec![array("0-9")]);
    let record = trial.record(5);
    assert_eq!((record.id, record.state, record.array.unwrap().index), (5, State::Queued, Some(3)));
    assert_eq!(trial.record(1).array.unwrap().unfolded, Some(0));

    let Answer::Ended { array: Some(tally), dequeued: None, .. } = trial.answer(cancel(5)) else {
        panic!("it was counted nowhere");
    };
    assert_eq!((tally.made, tally.canceled, tally.next), (1, 1, 0));
    assert_eq!(trial.record(5).state, State::Canceled);
    assert_eq!(trial.answer(cancel(5)), Answer::Lost { id: JobId(5) });
    trial.run(vec![remove(7, &[5])]);

    let (tally, made) = unfolded(trial, 1, 6);
    assert_eq!((made, tally.made), (vec![2, 3, 4, 6, 7], 6), "it passes that one by");
    assert_eq!(trial.record(8).state, State::Queued);
    let Answer::Got { missing, .. } = trial.answer(records(3, &[5, 12])) else { panic!("they are read") };
    assert_eq!(missing, [JobId(5), JobId(12)], "one was removed, one never was");
}

pub fn an_array_is_folded_and_its_elements_are_named_in_pieces(trial: &mut Trial) {
    trial.insert(1, vec![array("0-9")]);
    assert_eq!(trial.answer(fold(1, 0, 2)), Answer::Lost { id: JobId(1) }, "it has not begun");
    unfolded(trial, 1, 5);
    end_element(trial, 3, State::Succeeded);
    let Answer::Folded { tally, living, more: true } = trial.answer(fold(1, 0, 2)) else {
        panic!("two of four")
    };
    assert_eq!((tally.drops, tally.is_over(), living), (true, false, vec![JobId(2), JobId(4)]));
    let Answer::Folded { living, more: false, .. } = trial.answer(fold(1, 4, 2)) else {
        panic!("the others")
    };
    assert_eq!(living, [JobId(5), JobId(6)]);
    assert_eq!(trial.answer(unfold(1, 5)), Answer::Lost { id: JobId(1) });
    assert_eq!((trial.record(1).state, trial.record(9).state), (State::Stopping, State::Canceled));
    let begun = trial.restart().arrays;
    assert_eq!((begun.len(), begun[0].stopping), (1, Some(StopReason::Canceled)));

    for id in [2, 4, 5] {
        assert!(!tally_of(trial.answer(cancel(id))).is_over());
    }
    assert!(tally_of(trial.answer(cancel(6))).is_over());
    end_array(trial, 1, State::Canceled);
    let array = trial.record(1).array.unwrap();
    assert_eq!((array.succeeded, array.canceled, array.unfolded), (Some(1), Some(9), Some(5)));
}

/// Those that begin a new round, each with whether it is an array that goes on; those that stay; and arrays.
type Told = (Vec<(u64, bool)>, Vec<(u64, NotRetried)>, Vec<ArrayTally>);

fn retried(trial: &mut Trial, ids: &[u64]) -> Told {
    match trial.answer(retry(7, ids)) {
        Answer::Retried { jobs, others, arrays, .. } => (
            jobs.iter().map(|job| (job.released.position.id.0, job.has_begun)).collect(),
            others.iter().map(|(id, why_not)| (id.0, why_not.clone())).collect(),
            arrays.iter().map(|array| array.tally).collect(),
        ),
        other => panic!("{other:?}"),
    }
}

pub fn elements_are_run_again_and_their_array_goes_on(trial: &mut Trial) {
    let callbacks = work(&["a"], &[(On::Done, "x")]).callbacks.clone();
    trial.insert(1, vec![array_of(Work { callbacks, ..plain() }, "0-3", CallbackFor::Array)]);
    unfolded(trial, 1, 9);
    for (id, state) in [(2, State::Failed), (3, State::Succeeded), (4, State::Lost), (5, State::Succeeded)] {
        end_element(trial, id, state);
    }
    end_array(trial, 1, State::Failed);
    let others = vec![(2, NotRetried::ArrayUndelivered(JobId(1)))];
    assert_eq!(retried(trial, &[2]), (vec![], others, vec![]), "it has yet to be told");
    trial.run(vec![begin_callback(10), end_callback(10, crate::engine::CallbackEnd::Delivered)]);

    let (jobs, others, arrays) = retried(trial, &[2, 1, 4]);
    assert_eq!((jobs, others), (vec![(2, false), (4, false)], vec![(1, NotRetried::Living(State::Running))]));
    assert_eq!(arrays.len(), 1);
    assert_eq!((arrays[0].failed, arrays[0].worst, arrays[0].is_over()), (0, 0, false));
    assert_eq!((trial.record(1).state, trial.record(1).reruns), (State::Running, 1));
    assert_eq!(trial.line(), [2, 4]);
    tally_of(trial.answer(end(2, 2, outcome(State::Succeeded, ResultKind::Success, NOW_US))));
    let tally = tally_of(trial.answer(end(4, 2, outcome(State::Succeeded, ResultKind::Success, NOW_US))));
    assert_eq!((tally.succeeded, tally.is_over()), (4, true));
    let Answer::Ended { callbacks, .. } = end_array(trial, 1, State::Succeeded) else { panic!("once more") };
    assert_eq!(callbacks, [CallbackId(10)]);

    // Of one that was ended before it was unfolded, the rest is made after all; of one that had not begun,
    // all.
    trial.insert(6, vec![array("0-3"), array("0-1")]);
    unfolded(trial, 6, 2);
    trial.run(vec![fold(6, 0, 9), cancel(8), cancel(9)]);
    end_array(trial, 6, State::Canceled);
    trial.run(vec![cancel(7)]);
    assert_eq!((trial.record(10).state, trial.record(13).state), (State::Canceled, State::Canceled));
    let (jobs, _, arrays) = retried(trial, &[6, 7]);
    assert_eq!((jobs, arrays.len(), arrays[0].has_more()), (vec![(6, true), (7, false)], 1, true));
    assert_eq!((trial.record(10).state, trial.record(13).state), (State::Queued, State::Queued));
    assert_eq!(trial.line(), [7]);
    assert_eq!(unfolded(trial, 6, 9).1, [10, 11]);
    assert_eq!(unfolded(trial, 7, 9).1, [12, 13]);
    for id in [10, 11] {
        end_element(trial, id, State::Succeeded);
    }
    end_array(trial, 6, State::Canceled);
    assert_eq!(retried(trial, &[6]).1, [(6, NotRetried::Unfolded)], "its elements are");
}

pub fn what_is_to_run_after_an_element_that_is_never_made_is_settled(trial: &mut Trial) {
    let after = |id: u64, on: On| {
        let conditions = Conditions { after: vec![After { id: JobId(id), on }], ..Conditions::default() };
        Arc::new(Work { conditions: Some(Box::new(conditions)), ..plain() })
    };
    trial.insert(1, vec![array("0-3")]);
    trial.insert(6, vec![after(4, On::Done), after(5, On::Success), after(1, On::Failure)]);
    assert_eq!([6, 7, 8].map(|id| trial.record(id).state), [State::Blocked; 3]);
    let Answer::Ended { has_dependents: true, .. } = trial.answer(cancel(1)) else { panic!("it has some") };
    let Answer::Resolved { jobs, failed, more: false } =
        trial.answer(Order::Change(Change::Resolve { limit: 9 }))
    else {
        panic!("they are looked at");
    };
    let mut released: Vec<u64> = jobs.iter().map(|job| job.position.id.0).collect();
    released.sort_unstable();
    assert_eq!((released, failed), (vec![6, 8], vec![(JobId(7), JobId(5))]));

    let refused = trial.answer(insert(9, 90, vec![after(99, On::Done)]));
    assert!(matches!(refused, Answer::Refused { .. }), "{refused:?}");
    let Answer::Inserted { conditions, .. } =
        trial.answer(insert(10, 100, vec![after(3, On::Done), after(3, On::Success)]))
    else {
        panic!("it is known that it is over");
    };
    assert_eq!(conditions.failed, [(JobId(11), JobId(3))]);
}

pub fn a_start_finds_how_far_an_array_has_come(trial: &mut Trial) {
    trial.insert(1, vec![array("0-9%2"), array("0-1"), array("0-1")]);
    unfolded(trial, 1, 4);
    trial.quietly(vec![start(5, 1)]);
    end_element(trial, 4, State::Failed);
    // Its elements were all ended before it had begun.
    trial.run(vec![cancel(16), cancel(17)]);

    let restored = trial.restart();
    let found: Vec<(u64, u32, u32, bool, bool)> = restored
        .arrays
        .iter()
        .map(|array| {
            let tally = &array.tally;
            (tally.array.0, tally.living(), tally.failed, tally.is_over(), array.has_begun)
        })
        .collect();
    assert_eq!(found, [(1, 3, 1, false, true), (3, 0, 0, true, false)]);
    assert_eq!(restored.arrays[0].tally.at_once, Some(2));
    let interrupted: Vec<u64> = restored.interrupted.iter().map(|job| job.id.0).collect();
    assert_eq!(interrupted, [5], "an array has no attempt");
    assert_eq!(restored.next_job, 18, "the ids of all elements are given out");
    assert_eq!(unfolded(trial, 1, 9).1, [8, 9, 10, 11, 12, 13]);
}
