//! Keys in the database: one job at most has each.

use std::sync::Arc;

use pool_proto::nouns::On;

use super::{Fixture, open};
use crate::engine::orders::*;
use crate::engine::{Answer, CallbackEnd, Order};
use crate::job::{JobId, Key, Work};

fn keyed(key: &str, round: Option<&str>) -> Arc<Work> {
    let key = Some(Key { text: key.into(), round: round.map(ToOwned::to_owned) });
    Arc::new(Work { key, ..Work::clone(&work(&["a"], &[(On::Done, "done")])) })
}

fn existing(fixture: &Fixture, order: Order) -> Vec<(usize, JobId)> {
    match fixture.answer(order) {
        Answer::Inserted { existing, .. } => existing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_job_at_most_has_a_key_over_openings_and_what_is_not_added_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(existing(&store, insert(1, 1, vec![keyed("a", Some("r")), keyed("b", None)])), []);
    store.close();
    let store = open(dir.path());
    let batch = vec![keyed("c", None), keyed("a", Some("r")), keyed("c", None)];
    assert_eq!(existing(&store, insert(3, 3, batch)), [(1, JobId(1)), (2, JobId(3))]);
    assert_eq!(store.queued(), [1, 2, 3]);
    assert_eq!(store.record(3).key, Some("c".into()));
    assert_eq!(store.record(3).callbacks.len(), 1);

    store.run(vec![finish(1), finish(2)]);
    assert_eq!(
        existing(&store, insert(6, 6, vec![keyed("a", Some("r")), keyed("b", None)])),
        [(0, JobId(1)), (1, JobId(2))]
    );
    assert_eq!(existing(&store, insert(8, 8, vec![keyed("a", Some("s")), keyed("b", Some("s"))])), []);
    assert_eq!((store.record(1).key, store.record(8).key), (None, Some("a".into())));
    assert_eq!(
        existing(&store, insert(10, 10, vec![keyed("b", Some("t"))])),
        [(0, JobId(9))],
        "it has not ended"
    );
    store.close();
    assert_eq!(open(dir.path()).restored.next_job, 11, "ids that were not used are not given out either");
}

#[test]
fn the_key_of_a_job_that_is_pruned_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.run(vec![insert(1, 1, vec![keyed("a", None)]), finish(1), begin_callback(1)]);
    store.run(vec![end_callback(1, CallbackEnd::Delivered)]);
    store.answer(prune(0, 0, u64::MAX, 10));
    assert_eq!(existing(&store, insert(2, 2, vec![keyed("a", None)])), []);
}
