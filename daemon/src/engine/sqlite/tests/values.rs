//! Large values have files of their own, for as long as a row speaks of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pool_proto::nouns::{ResultKind, State};
use pool_proto::{Json, Refusal};

use super::recorder::list_values;
use super::{Fixture, Recording, open};
use crate::engine::orders::*;
use crate::engine::{Answer, Backing, Change, Insertion, Move, Order, Told, ValueFile};
use crate::job::{Call, Edit, JobId, JobKind, LARGE_VALUE, Place, RequestId, Tie, Work};

fn large(fill: &str) -> Json {
    Json::parse(&format!("[\"{}\"]", fill.repeat(LARGE_VALUE))).unwrap()
}

fn call_with(params: Json) -> Arc<Work> {
    let kind = JobKind::Call(Call { method: "m".to_owned(), params: Some(params), lost: None });
    Arc::new(Work { kind, ..Work::clone(&call(false)) })
}

/// The files of these values, in order.
fn keep(store: &Fixture, values: &[&Json]) -> Vec<Option<ValueFile>> {
    store.store.borrow_mut().keep(1, values.iter().map(|&value| value.clone()).collect());
    loop {
        let next = store.store.borrow_mut().next();
        match next {
            Some(Told::Kept { files, .. }) => return files,
            Some(other) => panic!("{other:?}"),
            None => store.notified.recv().unwrap(),
        }
    }
}

fn kept(store: &Fixture, value: &Json) -> ValueFile {
    keep(store, &[value]).remove(0).expect("there is room")
}

fn insert_with(id: u64, params: &Json, file: ValueFile) -> Order {
    with_file(insert(id, 1, vec![call_with(params.clone())]), file)
}

fn with_file(order: Order, file: ValueFile) -> Order {
    let Order::Change(Change::Insert(insertion)) = order else { panic!("it is an insertion") };
    Order::Change(Change::Insert(Insertion { files: vec![(0, file)], ..insertion }))
}

fn end_with(id: u64, answer: Result<&Json, &Json>, file: ValueFile) -> Order {
    let mut outcome = outcome(State::Succeeded, ResultKind::Success, NOW_US);
    outcome.answer = Some(answer.cloned().map_err(Clone::clone));
    change(Move { file: Some(file), ..moved(id, 1, Place::Ended(outcome)) })
}

/// A store with a call that has ended, whose parameters and value are in files.
fn with_an_ended_call(dir: &Path) -> (Fixture, Json, Json) {
    let store = open(dir);
    let (params, value) = (large("p"), large("v"));
    store.answer(insert_with(1, &params, kept(&store, &params)));
    store.answer(end_with(1, Ok(&value), kept(&store, &value)));
    (store, params, value)
}

fn params_of(store: &Fixture) -> (Option<Json>, Option<String>) {
    let Answer::Fetched { jobs, .. } = store.answer(fetch(None, 10)) else { panic!("it is a fetch") };
    let Call { params, lost, .. } = jobs[0].work.call().expect("it is a call").clone();
    (params, lost)
}

#[test]
fn they_are_read_from_their_files_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, params, value) = with_an_ended_call(dir.path());
    let in_row = |column: &'static str| {
        store.inspect(move |connection| {
            let select = format!("SELECT {column} FROM jobs WHERE id = 1");
            connection.query_row(&select, [], |row| row.get::<_, String>(0)).unwrap()
        })
    };
    assert!(in_row("params").len() < 64 && in_row("value").len() < 64);
    let held = store.inspect(|connection| {
        connection.query_row("SELECT held_bytes FROM jobs", [], |row| row.get::<_, i64>(0)).unwrap()
    });
    let output = outcome(State::Succeeded, ResultKind::Success, NOW_US).disk_bytes;
    let values = params.get().len() + value.get().len();
    assert_eq!(held as u64, values as u64 + output, "as if they were in the row");
    store.answer(insert_with(2, &params, kept(&store, &params)));
    store.close();

    let store = open(dir.path());
    let record = store.record(1);
    assert_eq!((record.params, record.value), (Some(params.clone()), Some(value)));
    assert_eq!(params_of(&store), (Some(params), None));
    assert_eq!(list_values(dir.path()).len(), 3);
}

#[test]
fn they_go_with_their_job() {
    let dir = tempfile::tempdir().unwrap();
    for forget in [prune(0, 0, u64::MAX, 10), remove(7, &[1]), prune(10, 0, 1, 10)] {
        let (store, ..) = with_an_ended_call(dir.path());
        let is_strip =
            matches!(&forget, Order::Chore(crate::engine::Chore::Prune(room)) if room.max_jobs > 0);
        store.run(vec![forget]);
        if is_strip {
            let record = store.record(1);
            assert_eq!((record.params, record.value, record.output_pruned), (None, None, true));
        }
        store.close();
        assert!(list_values(dir.path()).is_empty());
        fs::remove_file(dir.path().join("poold.db")).unwrap();
    }
}

#[test]
fn another_round_keeps_the_parameters_and_not_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (params, error) = (large("p"), large("e"));
    let files = [kept(&store, &params), kept(&store, &error)];
    store.answer(insert_with(1, &params, files[0].clone()));
    store.answer(end_with(1, Err(&error), files[1].clone()));
    assert_eq!(store.record(1).error, Some(error));
    store.answer(retry(7, &[1]));
    assert_eq!(params_of(&store), (Some(params), None));
    store.close();
    assert_eq!(list_values(dir.path()), [&*files[0]]);
}

#[test]
fn a_file_that_is_damaged_or_missing_is_the_fault_of_its_job_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, params, value) = with_an_ended_call(dir.path());
    let file = kept(&store, &params);
    store.answer(insert_with(2, &params, file.clone()));
    store.close();
    let tokens = list_values(dir.path());
    fs::write(dir.path().join("values").join(&tokens[0]), "[1]").unwrap();
    fs::remove_file(dir.path().join("values").join(&*file)).unwrap();

    let store = open(dir.path());
    let record = store.record(1);
    assert_eq!((record.params, record.value), (None, Some(value)));
    let reason = record.reason.expect("it says what is wrong");
    assert!(
        reason.contains("what was passed to the call is lost") && reason.contains(&tokens[0]),
        "{reason}"
    );
    let (params, lost) = params_of(&store);
    assert!(params.is_none() && lost.is_some_and(|lost| lost.contains(&*file)));
}

#[test]
fn a_file_that_no_row_speaks_of_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let params = large("p");
    // Refused, and the end of a job that there is not.
    let tied = Work { tie: Some(Tie::Job(JobId(99))), ..Work::clone(&call_with(params.clone())) };
    let refused = with_file(insert(1, 1, vec![Arc::new(tied)]), kept(&store, &params));
    let refused = store.answer(refused);
    assert!(matches!(refused, Answer::Refused { refusal: Refusal::NoSuchJob { .. }, .. }), "{refused:?}");
    let lost = store.answer(end_with(50, Ok(&params), kept(&store, &params)));
    assert_eq!(lost, Answer::Lost { id: JobId(50) });
    let used = kept(&store, &params);
    store.answer(insert_with(1, &params, used.clone()));
    store.close();
    assert_eq!(list_values(dir.path()), [&*used]);

    // Of a poold that died before the insertion.
    let store = open(dir.path());
    kept(&store, &params);
    store.close();
    assert_eq!(list_values(dir.path()).len(), 2);
    open(dir.path()).close();
    assert_eq!(list_values(dir.path()), [&*used]);
}

#[test]
fn on_a_full_disk_a_value_goes_with_its_change() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let store = open(dir.path());
    let params = large("p");
    store.answer(insert_with(1, &params, kept(&store, &params)));
    recording.fill_disk(true);
    assert_eq!(keep(&store, &[&params]), [None]);
    let mut outcome = outcome(State::Succeeded, ResultKind::Success, NOW_US);
    outcome.answer = Some(Ok(params.clone()));
    store.store.borrow_mut().submit(vec![change(moved(1, 1, Place::Ended(outcome)))]);
    store.until(|told| matches!(told, Told::Failing { .. }));
    recording.fill_disk(false);
    store.until(|told| matches!(told, Told::Recovered));
    assert_eq!(store.record(1).value, Some(params));
    store.close();
}

#[test]
fn what_a_backup_speaks_of_stays_until_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = with_an_ended_call(dir.path());
    let chore = |chore| Order::Chore(chore);
    store.answer(chore(crate::engine::Chore::Hold { request: RequestId(5), holder: 1 }));
    store.answer(remove(7, &[1]));
    store.answer(fetch(None, 1));
    assert_eq!(list_values(dir.path()).len(), 2);
    store.answer(chore(crate::engine::Chore::LetGo { request: Some(RequestId(6)), holder: 1 }));
    store.close();
    assert!(list_values(dir.path()).is_empty());
}

#[test]
fn an_edit_keeps_the_parameters_unless_it_has_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let params = large("p");
    store.answer(insert_with(1, &params, kept(&store, &params)));
    let renamed = Edit { method: Some("other".to_owned()), ..Edit::default() };
    assert!(matches!(store.answer(edit(5, 1, 1, renamed)), Answer::Edited { .. }));
    store.close();

    let store = open(dir.path());
    assert_eq!(params_of(&store), (Some(params), None));
    let short = Json::parse("[7]").unwrap();
    let other = Edit { params: Some(Some(short.clone())), ..Edit::default() };
    assert!(matches!(store.answer(edit(6, 1, 1, other)), Answer::Edited { .. }));
    assert_eq!(params_of(&store), (Some(short), None));
    store.close();
    assert!(list_values(dir.path()).is_empty());
}
