//! Questions, and everything that is about no single job.

use std::sync::Arc;

use pool_proto::Json;
use pool_proto::nouns::{On, ResultKind, State};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, Boot, CallbackEnd, Chore, NotRemoved, Order, Page};
use crate::job::{
    CallbackId, JobId, KeptSchedule, Key, Labels, LastFiring, Needs, Outcome, Pause, RequestId, UserId, Work,
};

pub fn answers_come_in_the_order_of_the_orders(trial: &mut Trial) {
    let answers = trial.run(vec![
        insert(1, 10, vec![work(&["a"], &[(On::Done, "x")]); 3]),
        claim(1, 1),
        Order::Chore(Chore::ReserveIds { below: 5 }),
        finish(1),
        begin_callback(10),
        set_pool(7, "p", Some("{}")),
        cancel(9),
        records(8, &[1]),
        fetch(None, 10),
        end_callback(10, CallbackEnd::Delivered),
        prune_all(10),
        page(9, Page { limit: 10, ..Page::default() }),
        wake(0, 1),
        release(11, &[2]),
    ]);
    let kinds: Vec<&str> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Inserted { .. } => "inserted",
            Answer::Placed { id: JobId(1), attempt: 1, .. } => "placed",
            Answer::IdsReserved { below: 5 } => "reserved",
            Answer::Ended { callbacks, .. } if *callbacks == [CallbackId(10)] => "ended",
            Answer::CallbackBegun(_) => "begun",
            Answer::Kept { request: RequestId(7) } => "set",
            Answer::Lost { id: JobId(9) } => "lost",
            Answer::Got { records, .. } if records[0].state == State::Failed => "got",
            Answer::Fetched { jobs, .. } if jobs.len() == 2 => "fetched",
            Answer::Pruned { jobs, .. } if *jobs == [(JobId(1), 1)] => "pruned",
            Answer::Listed { records, .. } if records.len() == 2 => "listed",
            Answer::Woken { .. } => "woken",
            Answer::Refused { request: RequestId(11), .. } => "refused",
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = [
        "inserted", "placed", "reserved", "ended", "begun", "set", "lost", "got", "fetched", "pruned",
        "listed", "woken", "refused",
    ];
    assert_eq!(kinds, wanted);
}

pub fn questions_are_answered_in_their_order_and_page_by_page(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[]); 5]);
    trial.quietly(vec![start(2, 1)]);
    trial.run(vec![finish(3)]);
    let Answer::Got { request: RequestId(1), records, missing, .. } = trial.answer(records(1, &[9, 5, 8, 1]))
    else {
        panic!("it can be read")
    };
    assert_eq!(records.iter().map(|record| record.id).collect::<Vec<u64>>(), [5, 1]);
    assert_eq!(missing, [JobId(9), JobId(8)]);

    let mut list = |states: &[State], pool: Option<&str>, after: Option<u64>, limit| {
        let pool = pool.map(ToOwned::to_owned);
        let part = Page { states: states.to_vec(), pool, after: after.map(JobId), limit, ..Page::default() };
        match trial.answer(page(1, part)) {
            Answer::Listed { records, next, .. } => {
                (records.iter().map(|record| record.id).collect::<Vec<u64>>(), next)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], None, None, 2), (vec![1, 2], Some(JobId(2))));
    assert_eq!(list(&[], None, Some(2), 2), (vec![3, 4], Some(JobId(4))));
    assert_eq!(list(&[], None, Some(4), 2), (vec![5], None));
    assert_eq!(list(&[], None, Some(u64::MAX), 2), (vec![], None));
    assert_eq!(list(&[State::Running], None, None, 9).0, [2]);
    assert_eq!(list(&[State::Failed, State::Running], Some("default"), None, 9).0, [2, 3]);
    assert_eq!(list(&[State::Queued], Some("default"), Some(1), 9).0, [4, 5]);
    assert_eq!(list(&[State::Queued], Some("other"), None, 9), (vec![], None));
}

pub fn jobs_of_several_states_are_listed_in_their_order(trial: &mut Trial) {
    let other = Arc::new(Work { pool: "other".into(), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![work(&["a"], &[]); 8]);
    trial.insert(9, vec![other.clone(), other]);
    trial.quietly(vec![start(2, 1), hold(2, 1, 1, "died"), start(4, 1)]);
    trial.run(vec![
        finish(1),
        cancel(3),
        end(5, 1, outcome(State::TimedOut, ResultKind::Timeout, NOW_US)),
        finish(6),
        end(7, 1, outcome(State::Succeeded, ResultKind::Success, NOW_US)),
        finish(9),
    ]);

    use State::{Canceled, Failed, Held, Lost, Running, Succeeded, TimedOut};
    let mut list = |states: &[State], pool: Option<&str>, after: u64, limit| {
        let (states, pool) = (states.to_vec(), pool.map(ToOwned::to_owned));
        match trial
            .answer(page(1, Page { states, pool, after: Some(JobId(after)), limit, ..Page::default() }))
        {
            Answer::Listed { records, next, .. } => {
                (records.iter().map(|record| record.id).collect::<Vec<u64>>(), next.map(|id| id.0))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[Failed], None, 0, 9), (vec![1, 6, 9], None));
    assert_eq!(list(&[Failed], None, 1, 1), (vec![6], Some(6)));
    assert_eq!(list(&[Failed], Some("other"), 0, 9), (vec![9], None));
    assert_eq!(list(&[Lost], None, 0, 9), (vec![], None));
    let rare = [TimedOut, Failed, Held, Canceled, Running, Lost];
    assert_eq!(list(&rare, None, 0, 9), (vec![1, 2, 3, 4, 5, 6, 9], None));
    assert_eq!(list(&rare, None, 0, 3), (vec![1, 2, 3], Some(3)));
    assert_eq!(list(&rare, None, 3, 3), (vec![4, 5, 6], Some(6)));
    assert_eq!(list(&rare, Some("default"), 3, 9), (vec![4, 5, 6], None));
    assert_eq!(list(&[Failed, Succeeded], None, 0, 9), (vec![1, 6, 7, 9], None));
    assert_eq!(list(&[Failed, Failed], None, u64::MAX, 9), (vec![], None));
}

pub fn what_ended_first_is_pruned_first(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[]); 6]);
    // Ended in the order 3, 1, 2, 4, each with 120 bytes of output; 5 and 6 have not ended.
    trial.run([3, 1, 2, 4].into_iter().zip(1..).map(|(id, ended)| finish_at(id, NOW_US + ended)).collect());
    let mut pruned = |order| match trial.answer(order) {
        Answer::Pruned { jobs, more, .. } => {
            (jobs.iter().map(|&(id, attempts)| (id.0, attempts)).collect::<Vec<_>>(), more)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(pruned(prune(4, 0, 480, 10)), (vec![], false), "nothing is beyond the limits");
    assert_eq!(pruned(prune(2, 0, 480, 1)), (vec![(3, 1)], true), "one batch of a number too large");
    assert_eq!(pruned(prune(9, NOW_US + 3, u64::MAX, 10)), (vec![(1, 1)], false), "what is too old");
    assert_eq!(pruned(prune(9, 0, 239, 10)), (vec![], false), "bytes cost no record");
    assert_eq!(pruned(prune_all(10)), (vec![(2, 1), (4, 1)], false), "never what has not ended");
    assert_eq!(trial.line(), [5, 6]);
}

pub fn too_many_bytes_cost_output_and_results_and_leave_the_records(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[]), work(&["b"], &[])]);
    trial.insert(3, vec![call(false)]);
    let value = Json::parse(&format!("{:?}", "x".repeat(5000))).expect("it is JSON");
    let answered =
        Outcome { answer: Some(Ok(value)), ..*outcome(State::Succeeded, ResultKind::Success, NOW_US) };
    trial.run(vec![finish_at(1, NOW_US + 1), finish_at(2, NOW_US + 2), end(3, 1, Box::new(answered))]);

    // A call that succeeded is worth less than what has failed, and its value counts.
    let stripped = |order, trial: &mut Trial| match trial.answer(order) {
        Answer::Pruned { jobs, outputs, more, .. } => {
            assert_eq!(jobs, []);
            (outputs.iter().map(|(id, _)| id.0).collect::<Vec<u64>>(), more)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(stripped(prune_but(9, 0, 300, 10, &[3]), trial).0, [1, 2], "somebody waits for job 3");
    assert_eq!(stripped(prune(9, 0, 6000, 10), trial), (vec![], false));
    assert_eq!(stripped(prune(9, 0, 300, 10), trial), (vec![3], false));
    trial.restart();
    assert_eq!(stripped(prune(9, 0, 0, 10), trial), (vec![], false), "there is nothing more to take");

    let records = [1, 2, 3].map(|id| trial.record(id));
    assert!(records.iter().all(|record| record.output_pruned && record.state.is_terminal()), "{records:?}");
    assert_eq!((&records[2].value, &records[0].stdout), (&None, &None));
}

pub fn what_somebody_waits_for_is_spared_and_keys_and_failures_go_last(trial: &mut Trial) {
    let succeeded = |id, ended| end(id, 1, outcome(State::Succeeded, ResultKind::Success, NOW_US + ended));
    let key = Some(Key { text: "k".into(), round: None });
    let keyed = Arc::new(Work { key, ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![keyed]);
    trial.insert(2, vec![work(&["a"], &[]); 4]);
    trial.run(vec![succeeded(1, 1), finish_at(2, NOW_US + 2), succeeded(3, 3), succeeded(4, 4), cancel(5)]);

    let pruned = |order, trial: &mut Trial| match trial.answer(order) {
        Answer::Pruned { jobs, .. } => jobs.iter().map(|(id, _)| id.0).collect::<Vec<u64>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(pruned(prune(4, 0, u64::MAX, 10), trial), [5], "what was canceled goes first");
    assert_eq!(pruned(prune_but(3, 0, u64::MAX, 10, &[3]), trial), [1], "half of the room is for the others");
    assert_eq!(pruned(prune_but(2, 0, u64::MAX, 10, &[3]), trial), [4], "what has failed stays");
    assert_eq!(pruned(prune_but(0, i64::MAX, 0, 10, &[2, 3]), trial), [0; 0]);
    assert_eq!(pruned(prune_but(0, 0, u64::MAX, 10, &[3]), trial), [2]);

    // What goes as soon as nobody waits for it is no reason for others to go instead.
    trial.insert(6, vec![work(&["a"], &[]); 3]);
    trial.run(vec![cancel(6), cancel(7), finish_at(8, NOW_US + 8)]);
    assert_eq!(pruned(prune_but(1, 0, u64::MAX, 10, &[3, 6, 7]), trial), [0; 0]);
    assert_eq!(pruned(prune_but(1, 0, u64::MAX, 10, &[3, 7]), trial), [6]);
}

pub fn a_pool_that_is_flooded_pays_for_it(trial: &mut Trial) {
    let other = Arc::new(Work { pool: "other".into(), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![work(&["a"], &[])]);
    trial.insert(2, vec![other; 20]);
    trial.run((1..=21).map(|id| finish_at(id, NOW_US + id.cast_signed())).collect());
    let Answer::Pruned { jobs, .. } = trial.answer(prune(5, 0, u64::MAX, 100)) else { panic!("it is told") };
    assert_eq!(jobs.len(), 16);
    assert_eq!(trial.record(1).state, State::Failed, "the one of a quiet pool is there");
}

pub fn a_job_with_a_callback_to_deliver_is_not_pruned(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[(On::Done, "x"), (On::Success, "y"), (On::Failure, "z")])]);
    trial.insert(2, vec![work(&["b"], &[(On::Success, "x")])]);
    trial.run(vec![finish(1)]);
    let nothing = || Answer::Pruned { jobs: vec![], callbacks: vec![], outputs: vec![], more: false };
    assert_eq!(trial.answer(prune_all(10)), nothing(), "two are pending");
    trial.run(vec![begin_callback(10), end_callback(10, CallbackEnd::Delivered), begin_callback(12)]);
    assert_eq!(trial.answer(prune_all(10)), nothing(), "one runs");
    trial.run(vec![end_callback(12, CallbackEnd::Again { due_us: NOW_US })]);
    assert_eq!(trial.answer(prune_all(10)), nothing(), "one waits");
    trial.restart();
    assert_eq!(trial.answer(prune_all(10)), nothing());

    // What counts is all that has ended, and what can go is the rest of it.
    trial.run(vec![finish(2)]);
    let pruned = trial.answer(prune(1, 0, u64::MAX, 10));
    let callbacks = vec![(CallbackId(20), 0)];
    assert_eq!(pruned, Answer::Pruned { jobs: vec![(JobId(2), 1)], callbacks, outputs: vec![], more: false });

    trial.run(vec![wake(NOW_US, 9), begin_callback(12), end_callback(12, CallbackEnd::Failed)]);
    let callbacks = vec![(CallbackId(10), 1), (CallbackId(11), 0), (CallbackId(12), 2)];
    let pruned = Answer::Pruned { jobs: vec![(JobId(1), 1)], callbacks, outputs: vec![], more: false };
    assert_eq!(trial.answer(prune_all(10)), pruned);
    let Answer::Got { missing, .. } = trial.answer(records(1, &[1])) else { panic!("it is answered") };
    assert_eq!(missing, [JobId(1)]);
}

pub fn pools_ids_and_the_boot_are_kept(trial: &mut Trial) {
    let restored = trial.restart();
    assert_eq!((restored.next_job, restored.next_callback, restored.boot), (1, 1, Boot::default()));

    for (name, value) in [("a", Some("1")), ("b", Some("2")), ("a", None), ("b", Some("3"))] {
        assert_eq!(trial.answer(set_pool(4, name, value)), Answer::Kept { request: RequestId(4) });
    }
    for below in [500, 400] {
        let reserved = trial.answer(Order::Chore(Chore::ReserveIds { below }));
        assert_eq!(reserved, Answer::IdsReserved { below });
    }
    let boot = Boot { id: Some("boot".to_owned()), began_us: Some(-5) };
    trial.quietly(vec![Order::Chore(Chore::Booted(boot.clone()))]);

    let restored = trial.restart();
    assert_eq!(restored.pools, [("b".to_owned(), "3".to_owned())].into());
    assert_eq!((restored.next_job, restored.boot), (500, boot));
}

pub fn pauses_are_kept_until_the_pool_is_resumed_or_forgotten(trial: &mut Trial) {
    let pause = |since_us| Pause { since_us, by: UserId::new(1000) };
    for order in [
        set_pause(4, &["default", "added", "other"], Some(pause(1))),
        set_pause(4, &["default", "late"], Some(pause(2))),
        set_pause(4, &["other", "running"], None),
        set_pool(4, "added", Some("{}")),
    ] {
        assert_eq!(trial.answer(order), Answer::Kept { request: RequestId(4) });
    }
    let named = |pauses: &[(&str, i64)]| {
        pauses.iter().map(|&(pool, since_us)| (pool.to_owned(), pause(since_us))).collect()
    };
    assert_eq!(trial.restart().pauses, named(&[("default", 1), ("added", 1), ("late", 2)]));

    trial.answer(set_pool(5, "added", None));
    assert_eq!(trial.restart().pauses, named(&[("default", 1), ("late", 2)]));
}

pub fn workers_are_kept_until_they_are_reset_or_the_pool_is_forgotten(trial: &mut Trial) {
    for order in [
        set_workers(4, "default", Some(3)),
        set_workers(4, "default", Some(5)),
        set_workers(4, "added", Some(1)),
        set_workers(4, "other", Some(2)),
        set_workers(4, "other", None),
        set_pool(4, "added", Some("{}")),
    ] {
        assert_eq!(trial.answer(order), Answer::Kept { request: RequestId(4) });
    }
    assert_eq!(trial.restart().workers, [("default".to_owned(), 5), ("added".to_owned(), 1)].into());
    trial.answer(set_pool(5, "added", None));
    assert_eq!(trial.restart().workers, [("default".to_owned(), 5)].into());
}

pub fn schedules_are_kept_until_they_are_forgotten(trial: &mut Trial) {
    let added =
        KeptSchedule { definition: Some("{}".to_owned()), from_us: 5, over_us: 5, last: None, pause: None };
    let pause = Some(Pause { since_us: 8, by: UserId::new(1000) });
    let last = Some(LastFiring { due_us: 7, job: JobId(3), is_skipped: true });
    let fired = KeptSchedule { definition: None, from_us: 6, over_us: 9, last, pause };
    for order in [
        set_schedule(4, "nightly", Some(added.clone())),
        set_schedule(4, "hourly", Some(added.clone())),
        set_schedule(4, "hourly", Some(fired.clone())),
        set_schedule(4, "other", Some(added.clone())),
        set_schedule(4, "other", None),
        set_schedule(4, "nothing", None),
    ] {
        assert_eq!(trial.answer(order), Answer::Kept { request: RequestId(4) });
    }
    let all = [("nightly".to_owned(), added), ("hourly".to_owned(), fired)];
    assert_eq!(trial.restart().schedules, all.into());
}

pub fn limits_are_kept_and_an_exclusive_job_brings_one_along(trial: &mut Trial) {
    let exclusive = |label: &str| {
        let labels = Labels::parse(label);
        Arc::new(Work {
            needs: Needs::of_labels(labels.clone()),
            exclusive: labels,
            ..Work::clone(&work(&["a"], &[]))
        })
    };
    let limits = |trial: &mut Trial| trial.restart().limits.into_iter().collect::<Vec<(String, u32)>>();
    let of = |label: &str, limit| (label.to_owned(), limit);
    assert_eq!(trial.answer(set_limit(9, "gpu", Some(2))), Answer::Kept { request: RequestId(9) });
    trial.insert(1, vec![exclusive("gpu"), exclusive("db")]);
    assert_eq!(limits(trial), [of("db", 1), of("gpu", 2)]);
    trial.answer(set_limit(9, "db", Some(7)));
    trial.answer(set_limit(9, "gpu", None));
    trial.answer(set_limit(9, "none", None));
    assert_eq!(limits(trial), [of("db", 7)]);
    let Answer::Fetched { jobs, .. } = trial.answer(fetch_of("db", None, 9)) else { panic!("it is read") };
    assert!(jobs[0].work.exclusive.is_empty(), "the limit is kept, not who has brought it");
}

pub fn a_backup_is_answered_and_ends_once(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[])]);
    let hold = |request, holder| Order::Chore(Chore::Hold { request: RequestId(request), holder });
    let let_go =
        |request: Option<u64>, holder| Order::Chore(Chore::LetGo { request: request.map(RequestId), holder });
    let Answer::Held { request: RequestId(1), bytes } = trial.answer(hold(1, 7)) else {
        panic!("it is told")
    };
    let others = trial.answer(let_go(Some(2), 8));
    assert!(matches!(others, Answer::LetGo { request: Some(RequestId(2)), whole: Err(_) }), "{others:?}");
    let ended = trial.answer(let_go(Some(3), 7));
    let Answer::LetGo { request: Some(RequestId(3)), whole } = ended else { panic!("{ended:?}") };
    // A backing that has no file says so at once.
    assert_eq!(whole.is_ok(), bytes.is_ok());
    let again = trial.answer(let_go(None, 7));
    assert!(matches!(again, Answer::LetGo { request: None, whole: Err(_) }), "{again:?}");
    assert_eq!(trial.line(), [1]);
}

pub fn what_has_ended_is_removed_by_name(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[]), work(&["a"], &[(On::Done, "x")]), work(&["a"], &[])]);
    trial.quietly(vec![start(1, 1), start(2, 1)]);
    trial.run(vec![finish(1), finish(2)]);
    let removed = |trial: &mut Trial, ids: &[u64]| match trial.answer(remove(7, ids)) {
        Answer::Removed { request: RequestId(7), jobs, callbacks, others } => (jobs, callbacks, others),
        other => panic!("{other:?}"),
    };
    let others = vec![
        (JobId(9), NotRemoved::Missing),
        (JobId(2), NotRemoved::Undelivered),
        (JobId(3), NotRemoved::Living(State::Queued)),
    ];
    assert_eq!(removed(trial, &[9, 1, 2, 3]), (vec![(JobId(1), 1)], vec![], others));
    assert_eq!(removed(trial, &[1]).2, [(JobId(1), NotRemoved::Missing)], "it is gone");
    let callback = CallbackId(10);
    trial.run(vec![begin_callback(callback.0), end_callback(callback.0, CallbackEnd::Delivered)]);
    assert_eq!(removed(trial, &[2]), (vec![(JobId(2), 1)], vec![(callback, 1)], vec![]));
    trial.restart();
    assert!(matches!(trial.answer(prune_all(9)), Answer::Pruned { jobs, .. } if jobs.is_empty()));
    assert_eq!(trial.line(), [3]);
}
