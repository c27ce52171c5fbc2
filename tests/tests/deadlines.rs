//! What users see of deadlines: a job is over by then, wherever it is.

use std::fs;
use std::time::{Duration, Instant};

use pool_proto::{ResultKind, State};
use pool_tests::{Daemon, Setup, wait_until};

const REASON: &str = "it had not ended by its deadline";

/// All slots are taken.
fn full(workers: u32) -> Daemon {
    let daemon = Daemon::start(workers);
    for _ in 0..workers {
        let id = daemon.submit(&["--", "sleep", "1000"]);
        daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    }
    daemon
}

#[test]
fn run_returns_in_time_though_no_slot_is_free() {
    let daemon = full(2);
    let begun = Instant::now();
    let said = daemon.run(&["run", "-t", "100s", "--deadline", "500ms", "--", "echo", "ran"]);
    assert_eq!((said.code, said.stdout.as_str()), (124, ""));
    assert_eq!(said.stderr, format!("poolctl: job 3 timed out before it had started: {REASON}\n"));
    assert!((500..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let record = daemon.record(3);
    assert_eq!((record.state, record.attempt, record.reason.as_deref()), (State::TimedOut, 0, Some(REASON)));
    let shown = daemon.ok(&["show", "3"]);
    assert!(shown.contains(&format!("deadline   {}", record.deadline_at.unwrap())), "{shown}");
}

#[test]
fn a_running_job_is_ended_and_neither_retried_nor_without_its_callbacks() {
    let daemon = Daemon::start(1);
    let (tries, done) = (daemon.path_text("tries"), daemon.path_text("done"));
    let script = format!("echo try >>{tries}; exec sleep 1000");
    let callback = format!("echo $POOL_STATE $POOL_RESULT >{done}");
    let options = ["--deadline", "1s", "--retries", "5", "--backoff", "10ms", "--on-failure", &callback];
    let said = daemon.run(&[&["run"], &options[..], &["--", "sh", "-c", &script]].concat());
    assert_eq!((said.code, said.stderr), (124, format!("poolctl: job 1 timed out: {REASON}\n")));
    wait_until("its callback has run", || fs::read_to_string(&done).is_ok_and(|text| !text.is_empty()));
    let told = fs::read_to_string(&done).unwrap();
    assert!(told.contains("timed_out") || told.contains("timeout"), "{told}");
    assert_eq!(fs::read_to_string(&tries).unwrap(), "try\n");
}

#[test]
fn attempts_and_pauses_count_together() {
    let daemon = Daemon::start(1);
    let begun = Instant::now();
    let said = daemon.run(&["run", "--deadline", "1s", "--retries", "9", "--backoff", "1h", "--", "false"]);
    assert_eq!((said.code, said.stderr), (124, format!("poolctl: job 1 timed out: {REASON}\n")));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(daemon.record(1).attempt, 1);
}

#[test]
fn a_deadline_holds_over_the_death_of_poold() {
    let mut daemon = full(1);
    let ran = daemon.path_text("ran");
    let late = daemon.submit(&["--deadline", "1s", "--", "touch", &ran]);
    let later = daemon.submit(&["--deadline", "3s", "--", "touch", &ran]);
    let deadline_at = daemon.record(later).deadline_at;
    daemon.kill_all();
    wait_until("the first one is over", || {
        let over = pool_proto::text::parse_rfc3339(&deadline_at.clone().unwrap()).unwrap();
        std::time::SystemTime::now() + Duration::from_secs(2) >= over
    });
    daemon.restart();
    for id in [late, later] {
        let record = daemon.wait_record(id, "it has ended", |record| record.state.is_terminal());
        assert_eq!(
            (record.state, record.attempt, record.reason.as_deref()),
            (State::TimedOut, 0, Some(REASON))
        );
    }
    assert!(!daemon.path("ran").exists());
    daemon.ok(&["cancel", "1"]);
}

#[test]
fn maps_and_calls_have_deadlines_too() {
    let config = "[pool.missing]\nworkers = 1\ncommand = [\"/no/such/program\"]\nstart_attempts = 100000\n";
    let daemon = Setup::new().workers(1).config(config).start();
    let said = daemon.run(&["call", "--deadline", "500ms", "missing", "m"]);
    assert!(said.code == 124 && said.stderr.contains(REASON), "{said:?}");
    let said = daemon.run(&["map", "--deadline", "500ms", "--", "sleep", "{}", ":::", "1000", "0"]);
    assert!(said.code == 1 && said.stderr.contains("timed out"), "{said:?}");
    let said = daemon.run(&["run", "--deadline", "0", "--", "true"]);
    assert!(said.code == 2 && said.stderr.contains("more than 0"), "{said:?}");
}

#[test]
fn a_job_that_has_not_begun_in_time_is_canceled_and_one_that_has_goes_on() {
    let mut daemon = Setup::new().workers(1).start();
    let gate = daemon.path_text("gate");
    let script = format!("until [ -e {gate} ]; do sleep 0.02; done");
    let begun = daemon.submit(&["--start-within", "1s", "--", "sh", "-c", &script]);
    daemon.wait_record(begun, "it runs", |record| record.state == State::Running);
    let told = daemon.path_text("told");
    let callback = format!("echo $POOL_STATE $POOL_RESULT >>{told}");
    let said =
        daemon.run(&["submit", "--wait", "--start-within", "300ms", "--on-failure", &callback, "--", "true"]);
    assert_eq!(said.code, 124, "{said:?}");
    let wanted = "job 2 was canceled before it had started: it had not begun in time (start-within)";
    assert!(said.stderr.contains(wanted), "{said:?}");
    let record = daemon.record(2);
    assert_eq!((record.state, record.result), (State::Canceled, Some(ResultKind::Timeout)));
    assert!(record.start_by.is_some());
    wait_until("its callback", || {
        std::fs::read_to_string(&told).is_ok_and(|told| told == "canceled timeout\n")
    });

    // Over a kill, one that waits for others.
    let blocked = daemon.submit(&["--start-within", "1s", "--after", &begun.to_string(), "--", "true"]);
    daemon.kill_in_one_instant();
    daemon.restart();
    daemon.wait_record(blocked, "its time is over", |record| record.state == State::Canceled);
    assert!(!daemon.record(begun).state.is_terminal(), "it has begun");
    std::fs::File::create(&gate).unwrap();
    daemon.ok(&["wait", &begun.to_string()]);
}
