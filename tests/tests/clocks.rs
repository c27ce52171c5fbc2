//! Clocks that are set while jobs run and wait: libfaketime is loaded into poold, whose wall clock then goes by a
//! file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pool_proto::State;
use pool_tests::{Setup, skip};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// What poold is started through, and the file that its clock goes by: an offset.
fn faketime(setup: &Setup) -> (PathBuf, [String; 6]) {
    let clock = setup.dir().join("clock");
    fs::write(&clock, "+0").unwrap();
    let words = [
        "env".to_owned(),
        format!("LD_PRELOAD={LIBRARY}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    (clock, words)
}

#[test]
fn a_clock_that_is_set_back_delays_no_retry_and_shortens_no_job() {
    if !Path::new(LIBRARY).exists() {
        return skip("libfaketime is not installed (apt-get install faketime)");
    }
    let setup = Setup::new().workers(4);
    let (clock, words) = faketime(&setup);
    let mut daemon = setup.wrapper(&words.each_ref().map(String::as_str)).start();

    let begun = Instant::now();
    let id = daemon.submit(&["--retries", "2", "--backoff", "2s", "--", "sh", "-c", "[ $POOL_ATTEMPT = 3 ]"]);
    let running = daemon.submit(&["--", "sleep", "3"]);
    // One that is over before the restart, and one after it.
    let [late, later] =
        ["4s", "15s"].map(|deadline| daemon.submit(&["--deadline", deadline, "--", "sleep", "1000"]));
    daemon.wait_record(running, "it runs", |record| record.state == State::Running);
    daemon.wait_record(id, "it waits", |record| record.retried == 1 && record.state == State::Retrying);
    fs::write(&clock, "-2h").unwrap();
    let record = daemon.wait_record(running, "it has ended", |record| record.state == State::Succeeded);
    let lasted = record.wall_s.unwrap();
    assert!((2.9..60.0).contains(&lasted), "{record:?}");

    daemon.wait_record(late, "its deadline is over", |record| record.state == State::TimedOut);

    // Over a restart, too.
    daemon.wait_record(id, "it waits again", |record| record.retried == 2 && record.state == State::Retrying);
    fs::write(&clock, "-9h").unwrap();
    daemon.kill_all();
    daemon.restart();
    daemon.wait_record(id, "it has succeeded", |record| record.state == State::Succeeded);
    daemon.wait_record(later, "its deadline is over", |record| record.state == State::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
}

#[test]
fn a_clock_that_is_set_forward_ends_nothing_early_at_the_next_start() {
    if !Path::new(LIBRARY).exists() {
        return skip("libfaketime is not installed (apt-get install faketime)");
    }
    let setup = Setup::new().workers(2);
    let (clock, words) = faketime(&setup);
    let mut daemon = setup.wrapper(&words.each_ref().map(String::as_str)).start();

    let running = daemon.submit(&["--on-crash", "fail", "--", "sleep", "1000"]);
    daemon.wait_record(running, "it runs", |record| record.state == State::Running);
    let begun = Instant::now();
    let late = daemon.submit(&["--deadline", "8s", "--", "sleep", "1000"]);
    let at = daemon.submit(&["--at", "tomorrow 23:59", "--", "true"]);
    let retried =
        daemon.submit(&["--retries", "1", "--backoff", "8s", "--", "sh", "-c", "[ $POOL_ATTEMPT = 2 ]"]);
    daemon.wait_record(retried, "it waits", |record| record.state == State::Retrying);
    fs::write(&clock, "+9h").unwrap();
    daemon.kill_all();
    daemon.restart();

    assert_eq!(daemon.record(at).state, State::Scheduled);
    let record = daemon.wait_record(running, "it has ended", |record| record.state == State::Failed);
    let lasted = record.wall_s.unwrap();
    assert!((0.0..60.0).contains(&lasted), "{record:?}");
    daemon.wait_record(late, "its deadline is over", |record| record.state == State::TimedOut);
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    daemon.wait_record(retried, "it has succeeded", |record| record.state == State::Succeeded);
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());

    // A time of the wall's clock has come when that says so.
    fs::write(&clock, "+60h").unwrap();
    daemon.kill_all();
    daemon.restart();
    daemon.wait_record(at, "its time has come", |record| record.state == State::Succeeded);
}
