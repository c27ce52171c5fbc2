//! Listings: their orders and filters, and counts.

use std::sync::Arc;

use pool_proto::methods::ListOrder;
use pool_proto::nouns::{Entry, On, ResultKind, State};

use super::Trial;
use crate::engine::orders::*;
use crate::engine::{Answer, Page};
use crate::job::{ExitCodes, Filter, JobId, Labels, Needs, Outcome, Work};

fn listed(trial: &mut Trial, part: Page) -> (Vec<u64>, Option<u64>) {
    match trial.answer(page(1, part)) {
        Answer::Listed { records, next, .. } => {
            (records.iter().map(|record| record.id).collect(), next.map(|id| id.0))
        }
        other => panic!("{other:?}"),
    }
}

/// As [`listed`], in brief; what it tells of each job is in its record, too.
fn listed_in_brief(trial: &mut Trial, part: Page) -> (Vec<u64>, Option<u64>) {
    let (entries, next) = match trial.answer(page(1, Page { is_brief: true, ..part })) {
        Answer::Listed { records, entries, next, .. } if records.is_empty() => (entries, next),
        other => panic!("{other:?}"),
    };
    let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
    let Answer::Got { records, .. } = trial.answer(records(1, &ids)) else { panic!("they are there") };
    let told: Vec<Entry> = records.into_iter().map(Entry::from).collect();
    assert_eq!(entries, told);
    (ids, next.map(|id| id.0))
}

pub fn a_brief_listing_has_the_same_jobs(trial: &mut Trial) {
    let mut labeled = Work::clone(&work(&["a"], &[]));
    labeled.needs = Needs { labels: Labels::parse("gpu"), slots: 2, ..Needs::default() };
    trial.insert(1, vec![work(&["a"], &[]); 6]);
    trial.insert(7, vec![Arc::new(labeled)]);
    trial.quietly(vec![start(2, 1), start(3, 1)]);
    trial.run(vec![finish(3), cancel(4)]);
    for order in [ListOrder::Oldest, ListOrder::Newest] {
        for (states, limit) in [(vec![], 3), (vec![], 9), (vec![State::Queued, State::Canceled], 2)] {
            let mut part = Page { states, limit, order, ..Page::default() };
            loop {
                let in_full = listed(trial, part.clone());
                assert_eq!(listed_in_brief(trial, part.clone()), in_full);
                let Some(next) = in_full.1 else { break };
                part.after = Some(JobId(next));
            }
        }
    }
}

fn counted(trial: &mut Trial) -> Vec<(State, u64, bool)> {
    match trial.answer(counts(1)) {
        Answer::Tallied { counts, .. } => counts,
        other => panic!("{other:?}"),
    }
}

pub fn the_newest_come_first_on_request(trial: &mut Trial) {
    trial.insert(1, vec![work(&["a"], &[]); 9]);
    trial.quietly(vec![start(2, 1), start(8, 1), hold(4, 0, 0, "")]);
    trial.run(vec![finish(3), finish(5), cancel(6)]);

    let mut newest = |states: &[State], after: Option<u64>, limit| {
        let (states, after) = (states.to_vec(), after.map(JobId));
        listed(trial, Page { states, after, limit, order: ListOrder::Newest, ..Page::default() })
    };
    assert_eq!(newest(&[], None, 4), (vec![9, 8, 7, 6], Some(6)));
    assert_eq!(newest(&[], Some(6), 4), (vec![5, 4, 3, 2], Some(2)));
    assert_eq!(newest(&[], Some(2), 4), (vec![1], None));
    assert_eq!(newest(&[], Some(1), 4), (vec![], None));
    assert_eq!(newest(&[], Some(u64::MAX), 1), (vec![9], Some(9)));
    assert_eq!(newest(&[State::Running], None, 9), (vec![8, 2], None));
    assert_eq!(newest(&[State::Failed, State::Running], None, 3), (vec![8, 5, 3], Some(3)));
    assert_eq!(newest(&[State::Failed, State::Running], Some(3), 3), (vec![2], None));
    assert_eq!(newest(&[State::Queued], Some(8), 2), (vec![7, 1], None));
    assert_eq!(newest(&[State::Queued, State::Canceled], Some(9), 2), (vec![7, 6], Some(6)));
}

pub fn filters_let_through_what_fits(trial: &mut Trial) {
    let named = |name: &str| Arc::new(Work { name: Some(name.into()), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![named("build"), named("build-2"), named("test"), call(false)]);
    trial.quietly(vec![start(1, 1), start(2, 1)]);
    let failed =
        |code| Outcome { exit_code: Some(code), ..*outcome(State::Failed, ResultKind::ExitCode, NOW_US) };
    let killed = Outcome {
        exit_code: None,
        signal: Some(9),
        ..*outcome(State::Failed, ResultKind::Signal, NOW_US + 500)
    };
    trial.run(vec![end(1, 1, Box::new(failed(3))), end(2, 1, Box::new(killed))]);

    let mut fitting = |filter| listed(trial, Page { filter, limit: 9, ..Page::default() }).0;
    let name = |name: &str| Filter { name: Some(name.to_owned()), ..Filter::default() };
    assert_eq!(fitting(name("build")), [1]);
    assert_eq!(fitting(name("build*")), [1, 2]);
    assert_eq!(fitting(name("?????")), [1]);
    assert_eq!(fitting(name("nobody")), [0; 0]);
    let codes = |codes: &str| Filter { codes: Some(ExitCodes::parse(codes).unwrap()), ..Filter::default() };
    assert_eq!(fitting(codes("1-9")), [1]);
    assert_eq!(fitting(codes("3,137")), [1, 2]);
    assert_eq!(fitting(codes("0")), [0; 0]);
    assert_eq!(fitting(Filter { since_us: Some(NOW_US + 500), ..Filter::default() }), [2, 3, 4]);
    let mut since = |order, limit, after| {
        let filter = Filter { since_us: Some(NOW_US + 500), ..Filter::default() };
        listed(trial, Page { filter, order, limit, after, ..Page::default() })
    };
    let pages = [
        (ListOrder::Oldest, 2, None, vec![2, 3], Some(3)),
        (ListOrder::Oldest, 2, Some(JobId(3)), vec![4], None),
        (ListOrder::Newest, 9, None, vec![4, 3, 2], None),
        (ListOrder::Newest, 2, None, vec![4, 3], Some(3)),
        (ListOrder::Newest, 2, Some(JobId(3)), vec![2], None),
    ];
    for (order, limit, after, ids, next) in pages {
        assert_eq!(since(order, limit, after), (ids, next), "{order:?} {limit} {after:?}");
    }
    let mut fitting = |filter| listed(trial, Page { filter, limit: 9, ..Page::default() }).0;
    assert_eq!(fitting(Filter { until_us: Some(NOW_US), ..Filter::default() }), [0; 0]);
    assert_eq!(fitting(Filter { until_us: Some(NOW_US + 1), ..Filter::default() }), [1, 2, 3, 4]);
}

pub fn a_pool_is_listed_as_its_lines_will_be_taken(trial: &mut Trial) {
    let with = |priority, label: &str| {
        let labels: Labels =
            Some(label).filter(|label| !label.is_empty()).map(Arc::from).into_iter().collect();
        Arc::new(Work { priority, needs: Needs::of_labels(labels), ..Work::clone(&work(&["a"], &[])) })
    };
    let other = Arc::new(Work { pool: "other".into(), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(
        1,
        vec![with(0, ""), with(5, "x"), with(0, "x"), with(5, ""), other, with(-1, "y"), with(9, "")],
    );
    trial.quietly(vec![start(7, 1)]);

    let mut line = |label: Option<&str>, limit| {
        let (pool, label) = (Some("default".to_owned()), label.map(ToOwned::to_owned));
        listed(trial, Page { pool, label, limit, order: ListOrder::Line, ..Page::default() })
    };
    assert_eq!(line(None, 9), (vec![2, 4, 1, 3, 6], None));
    assert_eq!(line(None, 3), (vec![2, 4, 1], None));
    assert_eq!(line(Some("x"), 3), (vec![2, 3], None));
}

pub fn the_latest_end_comes_first_on_request(trial: &mut Trial) {
    let other = Arc::new(Work { pool: "other".into(), ..Work::clone(&work(&["a"], &[])) });
    trial.insert(1, vec![work(&["a"], &[]); 5]);
    trial.insert(6, vec![other, work(&["a"], &[(On::Done, "x")])]);
    let well = |id, ended_us| end(id, 1, outcome(State::Succeeded, ResultKind::Success, ended_us));
    trial.run(vec![finish_at(1, NOW_US + 9), finish_at(4, NOW_US + 3), cancel(2), well(3, NOW_US + 5)]);
    trial.run(vec![finish_at(6, NOW_US + 7), finish_at(7, NOW_US + 8)]);

    let mut latest = |states: &[State], pool: Option<&str>, limit| {
        let (states, pool) = (states.to_vec(), pool.map(ToOwned::to_owned));
        listed(trial, Page { states, pool, limit, order: ListOrder::Ended, ..Page::default() })
    };
    assert_eq!(latest(&[], None, 9), (vec![1, 7, 6, 3, 4, 2], None));
    assert_eq!(latest(&[], None, 2), (vec![1, 7], None));
    assert_eq!(latest(&[], Some("other"), 2), (vec![6], None));
    assert_eq!(latest(&[State::Succeeded, State::Canceled], None, 9), (vec![3, 2], None));
}

pub fn jobs_are_counted_by_state(trial: &mut Trial) {
    assert_eq!(counted(trial), []);
    trial.insert(1, vec![work(&["a"], &[]); 9]);
    trial.quietly(vec![start(2, 1), start(8, 1), hold(4, 0, 0, "")]);
    let well = |id| end(id, 1, outcome(State::Succeeded, ResultKind::Success, NOW_US));
    trial.run(vec![finish(3), finish(5), cancel(6), well(7)]);
    let wanted = [
        (State::Running, 2, false),
        (State::Succeeded, 1, false),
        (State::Failed, 2, false),
        (State::Canceled, 1, false),
        (State::Held, 1, false),
    ];
    let mut counted = counted(trial);
    counted.sort_unstable_by_key(|&(state, ..)| wanted.iter().position(|&(other, ..)| other == state));
    assert_eq!(counted, wanted);
}
