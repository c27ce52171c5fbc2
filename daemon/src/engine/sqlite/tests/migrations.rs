//! A database of every released version, with rows of every kind, is opened by today's code, and nothing of
//! it is missing.

use std::fs;

use pool_proto::Json;
use pool_proto::nouns::{MemoryLimit, MemoryLimiter, OnCrash, State};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::{Fixture, nothing_to_tell, open};
use crate::engine::orders::*;
use crate::engine::sqlite::{FILE_NAME, schema};
use crate::engine::{Answer, Boot, CallbackEnd, Change, Interrupted, Order, Page, Tied};
use crate::job::{
    CallbackId, Holdup, JobId, KeptSchedule, LastFiring, Needs, Pause, Process, ProcessId, Retries,
    StopReason, Tie, Tries, UserId,
};

/// Rows as each version wrote them, in its columns: the first set is of version 1. A new migration needs a
/// set of its own.
const ROWS: &[&str] = &[
    r#"
    INSERT INTO environments (id, hash, value)
        VALUES (5, x'00', '{"variables":{"PATH":"/bin"},"umask":23}'), (6, x'01', '{"variables":{},"umask":18}');
    INSERT INTO jobs (id, state, pool, attempt, crashes, name, argv, cwd, environment, stdin, timeout_us, kill_after_us, submitted_us,
                      slot, worker_pid, pid, started_us, result, exit_code, signal, reason, user_s, sys_s, max_rss_bytes,
                      stdout_bytes, stderr_bytes, ended_us) VALUES
        (1, 'queued', 'default', 0, 0, 'name', '["a","b c"]', '/tmp', 5, 'token', 1500000, 3000000, 100,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (2, 'retrying', 'default', 0, 0, NULL, '["a"]', '/', 6, NULL, NULL, 1, 100,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'no room', NULL, NULL, NULL, NULL, NULL, NULL),
        (3, 'running', 'default', 2, 1, NULL, '["a"]', '/', 5, 'other', NULL, 1, 100,
            1, 10, 11, 200, NULL, NULL, NULL, 'died', NULL, NULL, NULL, NULL, NULL, NULL),
        (4, 'stopping', 'other', 1, 0, NULL, '["a"]', '/', 5, NULL, NULL, 1, 100,
            0, 12, 13, 200, 'canceled', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (5, 'succeeded', 'default', 1, 0, NULL, '["a"]', '/', 5, 'gone', NULL, 1, 100,
            0, 12, 13, 200, 'success', 0, NULL, NULL, 0.5, 0.25, 4096, 10, 20, 300),
        (6, 'failed', 'default', 1, 0, NULL, '["a"]', '/', 5, NULL, NULL, 1, 100,
            0, 12, 13, 200, 'signal', NULL, 9, NULL, 0.5, 0.25, 4096, 10, 20, 400),
        (7, 'canceled', 'default', 0, 0, NULL, '["a"]', '/', 6, NULL, NULL, 1, 100,
            NULL, NULL, NULL, NULL, 'canceled', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 500),
        (8, 'timed_out', 'default', 1, 0, NULL, '["a"]', '/', 6, NULL, NULL, 1, 100,
            0, 12, 13, 200, 'timeout', 143, NULL, NULL, 0.5, 0.25, 4096, 10, 20, 600),
        (9, 'lost', 'default', 3, 3, NULL, '["a"]', '/', 6, NULL, NULL, 1, 100,
            NULL, NULL, NULL, NULL, 'lost', NULL, NULL, 'given up', NULL, NULL, NULL, NULL, NULL, 700);
    INSERT INTO callbacks (id, job, kind, command, state, attempts, exit_code, due_us, ended_us) VALUES
        (1, 1, 'done', 'one', 'waiting', 0, NULL, NULL, NULL),
        (2, 5, 'done', 'two', 'delivered', 1, 0, 300, 300),
        (3, 5, 'failure', 'three', 'skipped', 0, NULL, 300, 300),
        (4, 6, 'failure', 'four', 'pending', 2, 1, 450, 400),
        (5, 6, 'done', 'five', 'running', 1, NULL, 400, 400),
        (6, 8, 'done', 'six', 'failed', 5, 1, 600, 600);
    UPDATE meta SET next_job = 50, next_callback = 60;
"#,
    "",
    "
    UPDATE meta SET boot_id = 'boot';
    UPDATE jobs SET start_ticks = 77, memory_peak_bytes = 8192, key = 'key', round = 'round' WHERE id = 3;
    INSERT INTO jobs (id, state, pool, attempt, crashes, argv, cwd, environment, kill_after_us, submitted_us, reason, tie, on_crash)
        VALUES (20, 'held', 'default', 1, 1, '[\"a\"]', '/', 5, 1, 100, 'died', NULL, 'hold'),
               (21, 'queued', 'default', 0, 0, '[\"a\"]', '/', 5, 1, 100, NULL, 'job:3', 'fail');
",
    "UPDATE jobs SET last_crash = 'attempt 1: died' WHERE id = 3;",
    "
    INSERT INTO jobs (id, state, pool, attempt, crashes, argv, method, params, value, cwd, environment, kill_after_us, submitted_us,
                      started_us, result, exit_code, ended_us)
        VALUES (30, 'succeeded', 'square', 1, 0, '[]', 'square', '[7]', '49', '/', 5, 1, 100, 200, 'success', 0, 300);
    INSERT INTO pools (name, value) VALUES ('square', '{}');
",
    "UPDATE meta SET volatile_below = 45;",
    "
    UPDATE jobs SET rank = -7, retries = 3, backoff_us = 1500000, retried = 1 WHERE id = 1;
    UPDATE jobs SET due_us = 900, retries = 1, retried = 1 WHERE id = 2;
",
    "
    INSERT INTO jobs (id, state, pool, attempt, argv, cwd, environment, kill_after_us, submitted_us, waits)
        VALUES (31, 'held', 'default', 1, '[\"a\"]', '/', 5, 1, 100, 1);
    INSERT INTO waits (unit, id, until) VALUES ('job', 31, 'person');
",
    "
    UPDATE jobs SET stripped = 1, held_bytes = 0 WHERE id = 8;
",
    "UPDATE callbacks SET unended = 2 WHERE id = 5;",
    "
    UPDATE jobs SET unique_name = 'nightly' WHERE id IN (1, 5);
    INSERT INTO jobs (id, pool, argv, cwd, environment, kill_after_us, submitted_us, waits, unique_name, follows)
        VALUES (40, 'default', '[\"a\"]', '/', 5, 1, 100, 1, 'nightly', 1);
    INSERT INTO waits (unit, id, until) VALUES ('job', 40, 'predecessor');
    UPDATE jobs SET within_us = 50, deadline_us = 150 WHERE id IN (1, 5);
",
    "
    INSERT INTO jobs (id, state, pool, argv, cwd, environment, kill_after_us, submitted_us, waits, others)
        VALUES (41, 'blocked', 'default', '[\"a\"]', '/', 5, 1, 100, 1, 1);
    INSERT INTO waits (unit, id, until) VALUES ('job', 41, 'others');
    INSERT INTO dependencies (prior, job, needs) VALUES (1, 41, 'done');
    INSERT INTO pauses (pool, since_us, uid) VALUES ('default', 700, 1000);
    INSERT INTO pool_workers (pool, workers) VALUES ('default', 7);
    INSERT INTO schedules (name, definition, from_us, over_us, last_us, last_job, last_skipped, paused_us, paused_by)
        VALUES ('nightly', '{}', 600, 655, 650, 1, 0, 700, 1000);
    UPDATE jobs SET memory_limit_bytes = 4096, memory_limiter = 'address_space' WHERE id = 8;
    UPDATE jobs SET labels = 'db,gpu' WHERE id = 3;
    INSERT INTO limits (label, running) VALUES ('gpu', 2);
",
    "
    INSERT INTO jobs (id, state, pool, argv, cwd, environment, kill_after_us, submitted_us, array, array_elements)
        VALUES (44, 'running', 'default', '[\"a\"]', '/', 5, 1, 100, 44, 5);
    INSERT INTO arrays (id, first, elements, indices, first_callback, next, made, succeeded, open)
        VALUES (44, 45, 5, '7-11', 60, 1, 1, 1, 1);
    INSERT INTO value_files (job, part, token) VALUES (42, 'params', 'a-1');
    UPDATE jobs SET input = 'pipe' WHERE id = 44;
    INSERT INTO attempts (job, attempt, ended_us, result) VALUES (3, 1, 150, 'lost');
",
    "UPDATE callbacks SET state = 'dropped' WHERE id = 6;",
];

/// The migrations that users' databases have been through, by the SHA-256 of their text.
const RELEASED: &[&str] = &[
    "95a095782e5cd73509becb36185e781887ca8a92f61aa4ab3068e453c4998f75",
    "657066293a1ea3d79d6c5b80fcf032769f85d9770b8800c0a8a3c99ac99be48a",
    "353b7ce15234dbad7472ae616917d9c1d6036c2cc740128ffd1734616a1e07d9",
    "51c65df6aab5f18785dad105d5528255dc8b96d7193ef5e9e77cdd480634bbfa",
    "b9ab5f0daf1a5dcdfc10d1f43272b1da3a7791d47c87b25c441544aba7fd9200",
    "75ad44b3a1b8c113e6d3372bebb187b638b1d27db38a07e829d63c853e414f9d",
    "d4c846bb952d85bc7c45a9c4d95733aacf118a39972c9fc97397cdee5111a2ba",
    "8c1edda4a84a01e61ea441d378ba47d72cc382640d26acc558d813ebeba42d1f",
    "59711397d10f270504b6969821bf3b41009d2e4ca8873fa071184d729b65ed4d",
    "45de8aa5303cadc650cceb539d181fb920ae59f6d48bd1b25b18accb55ee075d",
    "642dd3d9f93717523e40781337bf972c58adf4adc7c6f711a7307ce2c10973a2",
    "479d3f4d43d91cf6339746c3348614d9606c7d272d383f0200d2809f49f05289",
];

/// As the daemon of that version leaves it behind when it is killed: everything is still in the log.
fn build(dir: &std::path::Path, version: usize) {
    let connection = Connection::open(dir.join("building")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    for (from, rows) in ROWS[..version].iter().enumerate() {
        schema::apply(&connection, from, from + 1).unwrap();
        connection.execute_batch(rows).unwrap();
    }
    for suffix in ["", "-wal"] {
        fs::copy(dir.join(format!("building{suffix}")), dir.join(format!("{FILE_NAME}{suffix}"))).unwrap();
    }
}

fn shape(connection: &Connection) -> Vec<(String, String)> {
    let mut select = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        .unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_database_of_every_version_is_brought_up_to_date_with_nothing_missing() {
    assert_eq!(ROWS.len(), schema::current(), "a new migration needs rows of its own here");
    for version in 1..=schema::current() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path(), version);
        let store = open(dir.path());
        assert_restored(&store, version);
        assert_recorded(&store, version);
        assert_works(&store, version);
        store.close();
        // And it is today's version from then on.
        let store = open(dir.path());
        assert_eq!(store.restored.next_job, 51, "from version {version}");
        store.close();
    }
}

fn assert_restored(store: &Fixture, version: usize) {
    let restored = &store.restored;
    assert_eq!((restored.next_job, restored.next_callback), (50, 60));
    let waiting = u64::from(version >= 7);
    let counts = [
        (Holdup::None, 2 + u64::from(version >= 3) - waiting),
        (Holdup::Time, waiting),
        (Holdup::Others, u64::from(version >= 12)),
        (Holdup::Predecessor, u64::from(version >= 11)),
    ];
    assert_eq!(restored.queued, queued("default", &counts));
    assert_eq!(restored.next_deadline_us, (version >= 11).then_some(150));
    assert_eq!(restored.replaced, []);
    let pause = Pause { since_us: 700, by: UserId::new(1000) };
    let pauses = (version >= 12).then_some(("default".to_owned(), pause));
    assert_eq!(restored.pauses, pauses.into_iter().collect());
    let workers = (version >= 12).then_some(("default".to_owned(), 7));
    assert_eq!(restored.workers, workers.into_iter().collect());
    let nightly = KeptSchedule {
        definition: Some("{}".to_owned()),
        from_us: 600,
        over_us: 655,
        last: Some(LastFiring { due_us: 650, job: JobId(1), is_skipped: false }),
        pause: Some(pause),
    };
    let schedules = (version >= 12).then_some(("nightly".to_owned(), nightly));
    assert_eq!(restored.schedules, schedules.into_iter().collect());
    let limits = (version >= 12).then_some(("gpu".to_owned(), 2));
    assert_eq!(restored.limits, limits.into_iter().collect());
    assert_eq!(restored.stdin, ["token".to_owned(), "other".to_owned()].into());
    assert_eq!(restored.callbacks, [CallbackId(5)]);
    let crashes = if version < 10 { 1 } else { 2 };
    assert_eq!(restored.crashed_callbacks, [(CallbackId(5), crashes)].into());
    assert_eq!(restored.waiting_callbacks, [CallbackId(4)], "its next attempt was set for a time");
    assert_eq!(restored.next_due_us, Some(450));
    let interrupted = |id, pool: &str, slot, (attempts, crashes), (pid, start_ticks), stopping| Interrupted {
        id: JobId(id),
        pool: pool.to_owned(),
        needs: Needs::default(),
        tries: Tries { attempts, crashes, ..Tries::default() },
        on_crash: OnCrash::Requeue,
        retries: Retries::NONE,
        slot: Some(slot),
        started_us: Some(200),
        since_boot_us: None,
        lasted: None,
        worker: Some(ProcessId::new(pid - 1)),
        process: Some(Process { pid: ProcessId::new(pid), start_ticks }),
        stopping,
    };
    let ticks = (version >= 3).then_some(77);
    let needs = Needs::parse(if version >= 12 { "db,gpu" } else { "" }).unwrap();
    let running = Interrupted { needs, ..interrupted(3, "default", 1, (2, 1), (11, ticks), None) };
    let stopping = interrupted(4, "other", 0, (1, 0), (13, None), Some(StopReason::Canceled));
    assert_eq!(restored.interrupted, [running, stopping]);
    let arrays: Vec<(JobId, u32)> =
        restored.arrays.iter().map(|array| (array.tally.array, array.tally.made)).collect();
    assert_eq!(arrays, if version >= 13 { vec![(JobId(44), 1)] } else { vec![] });
    if version >= 13 {
        let record = store.record(46);
        assert_eq!((record.state, record.array.and_then(|array| array.index)), (State::Queued, Some(8)));
    }
    if version >= 3 {
        assert_eq!(restored.boot, Boot { id: Some("boot".to_owned()), began_us: None });
        assert_eq!(store.record(20).state, State::Held);
        assert_eq!(store.record(3).key, Some("key".into()));
        assert_eq!(store.record(3).last_crash.as_deref(), (version >= 4).then_some("attempt 1: died"));
        assert_eq!(
            restored.tied,
            [Tied {
                id: JobId(21),
                tie: Tie::Job(JobId(3)),
                queued_in: Some("default".into()),
                holdup: Holdup::None,
                untied: false
            }]
        );
    }
}

fn assert_recorded(store: &Fixture, version: usize) {
    let states = [
        State::Queued,
        State::Retrying,
        State::Running,
        State::Stopping,
        State::Succeeded,
        State::Failed,
        State::Canceled,
        State::TimedOut,
        State::Lost,
    ];
    for (id, state) in (1..).zip(states) {
        assert_eq!(store.record(id).state, state, "job {id}");
    }
    let first = store.record(1);
    assert_eq!(
        (first.name, first.argv, first.cwd),
        (Some("name".into()), Some(vec!["a".into(), "b c".into()]), "/tmp".into())
    );
    let failed = store.record(6);
    assert_eq!(
        (failed.signal, failed.usage.unwrap().max_rss_bytes, failed.stderr.unwrap().bytes),
        (Some(9), 4096, Some(20))
    );
    if version >= 5 {
        let call = store.record(30);
        let json = |value: Option<Json>| value.map(|value| value.get().to_owned());
        let told = (call.argv, call.method.as_deref(), json(call.params), json(call.value));
        assert_eq!(told, (None, Some("square"), Some("[7]".to_owned()), Some("49".to_owned())));
        assert_eq!(store.restored.pools, [("square".to_owned(), "{}".to_owned())].into());
    }
    if version >= 7 {
        let told = (first.priority, first.retries, first.retried, store.record(2).due_at.is_some());
        assert_eq!(told, (7, 3, 1, true));
    }
    let callbacks: Vec<(u64, u32)> =
        failed.callbacks.iter().map(|callback| (callback.id, callback.attempts)).collect();
    assert_eq!(callbacks, [(4, 2), (5, 1)]);
    assert_eq!(store.record(9).reason.as_deref(), Some("given up"));
    let labels = (version >= 12).then(|| vec!["db".to_owned(), "gpu".to_owned()]);
    assert_eq!((store.record(3).labels, first.labels), (labels, None));
    assert_eq!(store.record(8).output_pruned, version >= 9);
    let limit = MemoryLimit { bytes: 4096, by: Some(MemoryLimiter::AddressSpace) };
    assert_eq!(store.record(8).memory_limit, (version >= 12).then_some(limit));
}

/// Each verb does its work on the old rows.
fn assert_works(store: &Fixture, version: usize) {
    let Answer::Fetched { jobs, .. } = store.answer(fetch(None, 10)) else {
        panic!("the queue can be read");
    };
    assert_eq!((jobs[0].id, jobs[0].work.environment.umask), (JobId(1), 23));
    assert_eq!(jobs[0].work.timeout, Some(std::time::Duration::from_millis(1500)));
    let jobs = vec![work(&["new"], &[])];
    assert!(matches!(store.answer(insert(50, 60, jobs)), Answer::Inserted { .. }));
    nothing_to_tell(&store.run(vec![start(1, 1), crash(3, 2, 2, "died")]));
    let Answer::Ended { callbacks, next, has_dependents, .. } = store.answer(finish(1)) else {
        panic!("it has ended")
    };
    assert_eq!(has_dependents, version >= 12);
    let resolved = store.answer(Order::Change(Change::Resolve { limit: 9 }));
    assert!(matches!(resolved, Answer::Resolved { jobs, .. } if jobs.len() == usize::from(version >= 12)));
    let next = next.map(|(ready, _)| ready.id);
    assert_eq!((callbacks, next), (vec![CallbackId(1)], (version >= 11).then_some(JobId(40))));
    let claimed = store.answer(begin_callback(5));
    assert!(matches!(claimed, Answer::CallbackBegun(run) if run.attempt == 2 && run.command == "five"));
    let delivered = |id| end_callback(id, CallbackEnd::Delivered);
    let woken = store.answer(wake(1000, 10));
    let Answer::Woken { jobs, callbacks, next_us: None } = woken else { panic!("{woken:?}") };
    assert_eq!((jobs.len(), callbacks), (usize::from(version >= 7), vec![CallbackId(4)]));
    store.run(vec![delivered(5), begin_callback(4), delivered(4)]);
    if version >= 3 {
        let held: &[u64] = if version >= 8 { &[20, 31] } else { &[20] };
        let released = store.answer(release(1, held));
        assert!(matches!(released, Answer::Released { jobs, .. } if jobs.len() == held.len()));
        let left = store.inspect(|connection| {
            connection.query_row("SELECT count(*) FROM waits", [], |row| row.get::<_, i64>(0))
        });
        assert_eq!(left, Ok(0), "nothing waits any more");
    }
    let retried = store.answer(retry(1, &[7]));
    assert!(matches!(retried, Answer::Retried { jobs, .. } if jobs.len() == 1));
    store.run(vec![cancel(7)]);
    let lost = Page { states: vec![State::Lost], limit: 10, ..Page::default() };
    let listed = store.answer(page(1, lost));
    assert!(matches!(listed, Answer::Listed { records, .. } if records.len() == 1));
    let pruned = store.answer(prune(0, 1000, u64::MAX, 10));
    assert!(
        matches!(pruned, Answer::Pruned { jobs, .. } if jobs.len() == if version < 5 { 5 } else { 6 }),
        "all that had ended but for job 1, which has a callback"
    );
}

#[test]
fn the_way_to_todays_tables_does_not_matter() {
    let new = Connection::open_in_memory().unwrap();
    schema::apply(&new, 0, schema::current()).unwrap();
    for version in 1..schema::current() {
        let old = Connection::open_in_memory().unwrap();
        schema::apply(&old, 0, version).unwrap();
        schema::migrate(&old, version).unwrap();
        assert_eq!(shape(&old), shape(&new), "from version {version}");
    }
}

#[test]
fn released_migrations_are_never_edited() {
    let texts: Vec<String> =
        schema::texts().take(RELEASED.len()).map(|text| hex(&Sha256::digest(text))).collect();
    assert_eq!(texts, RELEASED, "a change to the tables is a new migration at the end");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
