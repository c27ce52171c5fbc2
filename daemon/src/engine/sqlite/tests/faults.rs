//! What happens when the files are not as they should be: at the start, and while the store works on them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use pool_proto::Refusal;
use pool_proto::nouns::{On, ResultKind, State};
use rusqlite::Connection;
use tempfile::TempDir;

use super::recorder::Recording;
use super::{Fixture, open, refusal};
use crate::engine::orders::*;
use crate::engine::sqlite::{CloseError, FILE_NAME, OpenError, schema};
use crate::engine::{Answer, Backing, Chore, Order, Page, Told};
use crate::job::{JobId, Outcome, RequestId, Work};

#[test]
fn a_full_disk_refuses_new_jobs_keeps_other_changes_and_is_overcome() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")]); 2]));
    limit_pages(&store, None);
    let long = "x".repeat(100_000);
    let events = store.run(vec![start(1, 1), finish(1), insert(3, 3, vec![work(&[&long], &[])])]);
    let [Told::Failing { reason }, rest @ ..] = &events[..] else { panic!("{events:?}") };
    assert!(reason.contains("the disk is full; free space in"), "{reason}");
    let refused = Told::Answer(Answer::Refused {
        request: RequestId(3),
        refusal: Refusal::StoreFailed { reason: reason.clone() },
    });
    assert!(rest.contains(&refused), "{events:?}");
    // What is small may find room before that, which does not make the disk less full.
    let events = store.run(vec![insert(3, 3, vec![work(&[&long], &[])])]);
    assert_eq!(events.last(), Some(&refused), "{events:?}");
    limit_pages(&store, Some(1 << 30));
    store.until(|event| *event == Told::Recovered);
    assert_eq!(store.record(1).state, State::Failed);
    assert!(matches!(store.answer(insert(3, 3, vec![work(&[&long], &[])])), Answer::Inserted { .. }));
    store.close();
    let store = open(dir.path());
    assert_eq!(store.queued(), [2, 3]);
    assert_eq!(store.restored.callbacks.len(), 1);
    store.close();
}

/// Rows that the database was made to write so far, those that were rolled back among them.
fn rows_written(store: &Fixture) -> u64 {
    store.inspect(|connection| connection.total_changes())
}

#[test]
fn while_the_disk_is_full_an_attempt_costs_no_more_than_its_first_piece() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let store = open(dir.path());
    let count = 2000;
    store.answer(insert(1, 1, vec![work(&["a"], &[]); count as usize]));
    recording.fill_disk(true);
    let events = store.run((1..=count).map(finish).collect());
    assert!(matches!(events[..], [Told::Failing { .. }]), "{events:?}");

    // Each look gives the store's thread a turn, and it tries again when its time has come.
    let mut seen = rows_written(&store);
    for _attempt in 0..3 {
        let written = std::iter::repeat_with(|| rows_written(&store)).find(|&now| now > seen);
        let written = written.expect("it tries again and again");
        assert!(written - seen < 200, "{} rows for {count} ends", written - seen);
        seen = written;
    }

    recording.fill_disk(false);
    let ended = store.until(|event| *event == Told::Recovered).into_iter().map(|event| match event {
        Told::Answer(Answer::Ended { id, .. }) => id.0,
        other => panic!("{other:?}"),
    });
    assert!(ended.eq(1..=count), "all of them, in order");
    store.close();
}

#[test]
fn with_a_large_backlog_no_more_jobs_are_fetched_until_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[]); 300]));
    recording.fill_disk(true);
    store.run(vec![start(1, 1), finish(1)]);
    assert!(matches!(store.answer(fetch(None, 1)), Answer::Fetched { .. }), "a small backlog bars nothing");

    let answer = Some(Ok(pool_proto::Json::parse(&format!("{:?}", "x".repeat(1000))).unwrap()));
    let large = |id| {
        let outcome = outcome(State::Succeeded, ResultKind::Success, NOW_US);
        end(id, 1, Box::new(Outcome { answer: answer.clone(), ..*outcome }))
    };
    assert_eq!(store.run((2..=100).map(large).collect()), []);
    assert_eq!(store.run(vec![fetch(None, 1)]), [], "no more are started");
    assert_eq!(store.record(200).state, State::Queued, "other reads go on");

    recording.fill_disk(false);
    let events = store.until(|event| *event == Told::Recovered);
    let fetched = events.iter().filter(|event| match event {
        Told::Answer(Answer::Fetched { jobs, complete: false, .. }) => jobs[0].id == JobId(101),
        _ => false,
    });
    assert_eq!((fetched.count(), events.len()), (1, 101), "answered once, after what was asked before");
    store.close();
}

#[test]
fn a_backup_is_refused_while_something_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[])]));
    // What is committed could be copied: only new pages find no room.
    limit_pages(&store, None);
    let reason = Some("x".repeat(100_000));
    let outcome = outcome(State::Failed, ResultKind::ExitCode, NOW_US);
    let large = end(1, 1, Box::new(Outcome { reason, ..*outcome }));
    let hold = || Order::Chore(Chore::Hold { request: RequestId(5), holder: 1 });
    let events = store.run(vec![large, hold()]);
    let [Told::Failing { reason }, Told::Answer(Answer::Held { bytes, .. })] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(*bytes, Err(Refusal::StoreFailed { reason: reason.clone() }), "job 1 would be missing in it");
    limit_pages(&store, Some(1 << 30));
    store.until(|event| *event == Told::Recovered);
    assert!(matches!(store.answer(hold()), Answer::Held { bytes: Ok(_), .. }));
    store.close();
}

/// Lets the database grow to so many pages, or no more.
fn limit_pages(store: &Fixture, pages: Option<i64>) {
    store.inspect(move |connection| {
        let now = || connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let pages = pages.unwrap_or_else(now);
        connection
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
            .unwrap();
    });
}

/// Every file of a directory with what is in it.
fn snapshot(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// A database as a program leaves it that is killed with all that it has written still in the log.
fn left_behind(dir: &Path, sql: &str) {
    let work = tempfile::tempdir().unwrap();
    let connection = Connection::open(work.path().join("db")).unwrap();
    connection.execute_batch(&format!("PRAGMA journal_mode = WAL; CREATE TABLE work (x); {sql}")).unwrap();
    fs::copy(work.path().join("db"), dir.join(FILE_NAME)).unwrap();
    fs::copy(work.path().join("db-wal"), dir.join(format!("{FILE_NAME}-wal"))).unwrap();
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_was_byte_for_byte() {
    let application = schema::APPLICATION_ID;
    let refused = |prepare: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let before = snapshot(dir.path());
        let error = refusal(dir.path());
        assert!(snapshot(dir.path()) == before, "something was changed: {error}");
        error
    };
    let newer = format!("PRAGMA application_id = {application}; PRAGMA user_version = 99;");
    let error = refused(&|dir| left_behind(dir, &newer));
    assert!(
        matches!(error, OpenError::Newer { found: 99, known, .. } if known == schema::current()),
        "{error}"
    );
    let error = refused(&|dir| {
        Connection::open(dir.join(FILE_NAME))
            .unwrap()
            .execute_batch(&format!("CREATE TABLE work (x); {newer}"))
            .unwrap();
    });
    assert!(matches!(error, OpenError::Newer { .. }), "{error}");
    for foreign in ["PRAGMA user_version = 1; PRAGMA application_id = 7", "PRAGMA user_version = 1", ""] {
        let error = refused(&|dir| left_behind(dir, foreign));
        assert!(matches!(error, OpenError::Foreign { .. }), "{foreign:?}: {error}");
    }
    let error = refused(&|dir| fs::write(dir.join(FILE_NAME), "rubbish ".repeat(1000)).unwrap());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn what_is_no_file_or_nowhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // The database itself, and its log, for which SQLite would follow a link.
    for name in [FILE_NAME, "poold.db-wal"] {
        let path = dir.path().join(name);
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, OpenError::Create { .. }), "{error}");
        fs::remove_file(path).unwrap();
    }
    let error = refusal(&dir.path().join("nowhere"));
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
}

/// Overwrites whatever page holds the table or index of that name at its root.
fn damage(file: &Path, connection: &Connection, name: &str) {
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u64 = connection.query_row(query, [name], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
    File::options().write(true).open(file).unwrap().write_all_at(&[0xA5; 4096], (root - 1) * 4096).unwrap();
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_was_with_its_log() {
    for (name, old) in [("jobs_active", false), ("callbacks_outbox", false), ("jobs_history", true)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE_NAME);
        let store = open(dir.path());
        store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")]); 100]));
        store.close();
        // An older version is not half brought up to date, either.
        if old {
            let connection = Connection::open(&file).unwrap();
            connection.execute_batch("DROP INDEX jobs_stdin; PRAGMA user_version = 1").unwrap();
        }
        damage(&file, &Connection::open(&file).unwrap(), name);
        let before = fs::read(&file).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, OpenError::Damaged { .. }) || old, "{name}: {error:?}");
        assert!(fs::read(&file).unwrap() == before, "{name}");
    }
}

#[test]
fn damage_found_later_refuses_new_jobs_for_good_and_holds_up_nobody_who_does_not_need_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let large = "x".repeat(3000);
    // Of a job that is tied to something, a start reads the row.
    let untied = Arc::new(Work { tie: None, ..Work::clone(&work(&[&large], &[(On::Done, "x")])) });
    store.answer(insert(1, 1, vec![untied; 2000]));
    store.close();
    let file = dir.path().join(FILE_NAME);
    // The last leaf of the jobs' table, which job 1 is not in; and nothing of it is in the new connection's
    // cache.
    let leaf = "SELECT max(pageno) FROM dbstat WHERE name = 'jobs' AND pagetype = 'leaf'";
    let leaf: i64 = Connection::open(&file).unwrap().query_row(leaf, [], |row| row.get(0)).unwrap();
    let store = open(dir.path());
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .write_all_at(&[0xA5; 4096], (leaf.unsigned_abs() - 1) * 4096)
        .unwrap();

    let events = store.run(vec![records(7, &[2000])]);
    let [Told::Failing { reason }, Told::Answer(answer)] = &events[..] else { panic!("{events:?}") };
    assert!(reason.contains("is damaged") && reason.contains("restore the file from a backup"), "{reason}");
    let unreadable = Refusal::StoreUnreadable { reason: reason.clone() };
    assert_eq!(*answer, Answer::Refused { request: RequestId(7), refusal: unreadable });

    let refused = store.answer(insert(2001, 2001, vec![work(&["a"], &[])]));
    let refusal = Refusal::StoreFailed { reason: reason.clone() };
    assert_eq!(refused, Answer::Refused { request: RequestId(2001), refusal });
    assert_eq!(store.record(1).state, State::Queued);
    let finished = store.answer(finish(1));
    assert!(matches!(finished, Answer::Ended { .. }), "what ends is written where that is possible");
    let refused = store.answer(insert(2001, 2001, vec![work(&["a"], &[])]));
    assert!(matches!(refused, Answer::Refused { .. }), "a write that succeeds makes nothing whole");
    let kept = store.run(vec![finish_at(2000, 1)]);
    assert_eq!(kept, [], "what cannot be written is not told");
    let error = store.store.into_inner().close().expect_err("one change is not written");
    assert!(matches!(error, CloseError::Unwritten { changes: 1, .. }), "{error}");
}

/// New jobs are refused for a reason that names the file; what has ended is kept.
fn assert_homeless(store: &Fixture) {
    let events = store.run(vec![start(1, 1), finish(1), insert(3, 3, vec![work(&["a"], &[])])]);
    let [Told::Failing { reason }, refused] = &events[..] else { panic!("{events:?}") };
    assert!(reason.contains("was removed, moved or replaced") && reason.contains("put it back"), "{reason}");
    let refusal = Refusal::StoreFailed { reason: reason.clone() };
    assert_eq!(*refused, Told::Answer(Answer::Refused { request: RequestId(3), refusal }));
    assert_eq!(store.record(1).state, State::Queued, "it can still be looked at");
}

#[test]
fn a_state_directory_that_is_moved_away_and_back_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (state, elsewhere) = (dir.path().join("state"), dir.path().join("elsewhere"));
    fs::create_dir(&state).unwrap();
    let store = open(&state);
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")]); 2]));
    fs::rename(&state, &elsewhere).unwrap();
    assert_homeless(&store);
    // A new one in its place is not it.
    fs::create_dir(&state).unwrap();
    open(&state).close();
    let refused = store.answer(insert(3, 3, vec![work(&["a"], &[])]));
    assert!(matches!(refused, Answer::Refused { .. }), "{refused:?}");
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&elsewhere, &state).unwrap();
    store.until(|event| *event == Told::Recovered);
    assert_eq!(store.record(1).state, State::Failed);
    assert!(matches!(store.answer(insert(3, 3, vec![work(&["a"], &[])])), Answer::Inserted { .. }));
    store.close();
    let store = open(&state);
    assert_eq!((store.queued(), store.restored.callbacks.len()), (vec![2, 3], 1));
    store.close();
}

#[test]
fn a_removed_database_or_log_is_not_written_to_as_if_it_lasted() {
    for removed in ["", "-wal"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.answer(insert(1, 1, vec![work(&["a"], &[]); 2]));
        fs::remove_file(dir.path().join(format!("{FILE_NAME}{removed}"))).unwrap();
        assert_homeless(&store);
        let error = store.store.into_inner().close().expect_err("that is said at the end");
        assert!(matches!(error, CloseError::Unwritten { changes: 2, .. }), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[])]));
    fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    let error = store.store.into_inner().close().expect_err("that is said at the end");
    assert!(matches!(error, CloseError::Gone { .. }), "{error}");
}

#[test]
fn a_second_daemon_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[])]));
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert_eq!(store.queued(), [1]);
    store.close();
}

/// The files as the next start would find them, if poold was killed now.
pub fn killed(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, content) in snapshot(dir) {
        fs::write(copy.path().join(name), content).unwrap();
    }
    copy
}

/// A store whose next syncs fail, so many of them, and what it has told until it could be written again.
fn overcome(dir: &Path, failures: usize, evicts: bool, orders: Vec<Order>) -> (Fixture, Vec<Told>) {
    let recording = Recording::of(dir);
    let store = open(dir);
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")]); 2]));
    // Not synced by itself.
    store.run(vec![start(2, 1)]);
    recording.fail_syncs(failures, evicts);
    let mut events = store.run(orders);
    events.extend(store.until(|event| *event == Told::Recovered));
    (store, events)
}

/// What was to be synced when that failed is told once, when it is synced.
fn assert_told_once(events: &[Told], early: usize) {
    let (before, after) = events.split_at(early);
    let was_told = |event: &Told| matches!(event, Told::Answer(Answer::Inserted { is_synced: false, .. }));
    assert!(before.iter().all(was_told), "{events:?}");
    assert!(matches!(after[0], Told::Failing { .. }), "{events:?}");
    let finished = |event: &&Told| matches!(event, Told::Answer(Answer::Ended { .. }));
    assert_eq!(events.iter().filter(finished).count(), 1, "{events:?}");
    let accepted = |event: &&Told| match event {
        Told::Answer(Answer::Inserted { is_synced, .. }) => *is_synced && early == 0,
        Told::Answer(Answer::Synced { .. }) => early > 0,
        _ => false,
    };
    assert_eq!(after.iter().filter(accepted).count(), 1, "{events:?}");
}

#[test]
fn a_sync_that_fails_leaves_no_gap_and_what_it_was_for_is_told_when_it_is_synced() {
    for (failures, evicts) in [(1, false), (3, false), (1, true)] {
        for (urgent, early) in [(false, 0), (true, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let insertion = if urgent { insert_urgently } else { insert };
            let orders = vec![start(1, 1), finish(1), insertion(3, 3, vec![work(&["b"], &[])])];
            let (store, events) = overcome(dir.path(), failures, evicts, orders);
            assert_told_once(&events, early);
            let copy = killed(dir.path());
            let next = open(copy.path());
            assert_eq!((next.restored.next_job, next.restored.callbacks.len()), (4, 1));
            next.close();

            assert!(matches!(store.answer(insert(4, 4, vec![work(&["c"], &[])])), Answer::Inserted { .. }));
            let copy = killed(dir.path());
            let next = open(copy.path());
            assert_eq!(next.restored.next_job, 5, "job 4 was accepted");
            // That job 2 had started may be forgotten where it could not be read any more.
            assert_eq!(next.queued(), if evicts { vec![2, 3, 4] } else { vec![3, 4] });
            next.close();
            store.close();
        }
    }
}

#[test]
fn while_syncs_fail_nothing_is_told_of_what_they_were_for() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let store = open(dir.path());
    store.answer(insert(1, 1, vec![work(&["a"], &[(On::Done, "x")]); 2]));
    // The log has been made longer, for which it is synced, once this has its answer.
    store.record(1);
    recording.fail_syncs(usize::MAX, false);
    let orders = vec![finish(1), insert_urgently(3, 3, vec![work(&["b"], &[])])];
    store.store.borrow_mut().submit(orders);
    store.until(|event| matches!(event, Told::Failing { .. }));

    // A job's record, and its line, would show what is not synced; a listing is no promise.
    let orders = vec![records(7, &[1]), fetch(None, 9), insert(4, 4, vec![work(&["c"], &[])]), finish(3)];
    store.store.borrow_mut().submit(orders);
    let hold = Order::Chore(Chore::Hold { request: RequestId(5), holder: 1 });
    store.store.borrow_mut().submit(vec![page(8, Page { limit: 9, ..Page::default() }), hold]);
    let events = store.until(|event| matches!(event, Told::Answer(Answer::Held { bytes: Err(_), .. })));
    let [
        Told::Answer(Answer::Refused { request: RequestId(4), .. }),
        Told::Answer(Answer::Listed { records, .. }),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(records.len(), 3);

    recording.fail_syncs(0, false);
    let events = store.until(|event| *event == Told::Recovered);
    let [
        Told::Answer(Answer::Ended { id: JobId(1), .. }),
        Told::Answer(Answer::Synced { request: RequestId(3) }),
        Told::Answer(Answer::Got { .. }),
        Told::Answer(Answer::Fetched { jobs, .. }),
        Told::Answer(Answer::Ended { id: JobId(3), .. }),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(jobs.iter().map(|job| job.id.0).collect::<Vec<_>>(), [2, 3]);
    store.close();
}
