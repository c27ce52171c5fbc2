//! Copies of the file, made while the store works on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pool_proto::Refusal;
use pool_proto::nouns::On;

use super::{Fixture, open};
use crate::engine::orders::*;
use crate::engine::sqlite::FILE_NAME;
use crate::engine::{Answer, Backing, Chore, Order, Told};
use crate::job::RequestId;

fn hold(store: &Fixture, holder: usize) -> Result<u64, Refusal> {
    let hold = Order::Chore(Chore::Hold { request: RequestId(9), holder });
    store.store.borrow_mut().submit(vec![hold]);
    match next_event(store) {
        Told::Answer(Answer::Held { request: RequestId(9), bytes }) => bytes,
        other => panic!("{other:?}"),
    }
}

fn let_go(store: &Fixture, holder: usize) -> Result<(), Refusal> {
    let let_go = Order::Chore(Chore::LetGo { request: Some(RequestId(9)), holder });
    store.store.borrow_mut().submit(vec![let_go]);
    match next_event(store) {
        Told::Answer(Answer::LetGo { request: Some(RequestId(9)), whole }) => whole,
        other => panic!("{other:?}"),
    }
}

fn next_event(store: &Fixture) -> Told {
    loop {
        let event = store.store.borrow_mut().next();
        if let Some(event) = event {
            return event;
        }
        store.notified.recv_timeout(Duration::from_secs(30)).expect("the store goes on");
    }
}

/// So much that the log would be written back, were the file not held.
fn add(store: &Fixture, first: u64, count: u64) {
    let large = "x".repeat(20_000);
    for id in first..first + count {
        let inserted = store.answer(insert(id, id, vec![work(&[&large], &[(On::Done, "x")])]));
        assert!(matches!(inserted, Answer::Inserted { .. }), "{inserted:?}");
    }
}

fn copy(from: &Path, to: &Path) -> u64 {
    fs::copy(from.join(FILE_NAME), to.join(FILE_NAME)).unwrap()
}

#[test]
fn a_copy_of_the_held_file_is_a_database_with_all_that_was_there_before() {
    let (dir, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    add(&store, 1, 20);
    store.run(vec![finish(3)]);
    let bytes = hold(&store, 7).unwrap();
    let before = fs::read(dir.path().join(FILE_NAME)).unwrap();
    assert_eq!(before.len() as u64, bytes);
    add(&store, 21, 20);
    assert!(fs::read(dir.path().join(FILE_NAME)).unwrap() == before, "it is left alone");
    copy(dir.path(), copied.path());
    assert_eq!(let_go(&store, 7), Ok(()));
    add(&store, 41, 20);
    assert!(fs::read(dir.path().join(FILE_NAME)).unwrap() != before, "and written again afterwards");
    store.close();

    let store = open(copied.path());
    assert_eq!(store.queued(), (1..=20).filter(|&id| id != 3).collect::<Vec<u64>>());
    assert_eq!((store.restored.next_job, store.restored.callbacks.len()), (21, 1));
    add(&store, 21, 1);
    store.close();
}

#[test]
fn one_backup_at_a_time_and_only_its_own_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(matches!(let_go(&store, 1), Err(Refusal::BackupSpoiled { .. })), "there is none");
    hold(&store, 1).unwrap();
    assert_eq!(hold(&store, 2), Err(Refusal::BackupUnderWay {}));
    assert!(let_go(&store, 2).is_err());
    assert_eq!(let_go(&store, 1), Ok(()));
    hold(&store, 2).unwrap();
    store.close();
}

#[test]
fn a_backup_that_never_ends_is_given_up_before_the_log_grows_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    hold(&store, 1).unwrap();
    add(&store, 1, 120);
    let Err(Refusal::BackupSpoiled { reason }) = let_go(&store, 1) else { panic!("the file was changed") };
    assert!(reason.contains("took so long"), "{reason}");
    let log = fs::metadata(dir.path().join(format!("{FILE_NAME}-wal"))).unwrap().len();
    assert!(log < 120 * 2 * 20_000, "{log}");
    store.close();
}
