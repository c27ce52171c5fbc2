//! Clocks that are set while jobs run and wait: libfaketime is loaded into poold, whose wall clock then goes by a
//! file.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use pool_proto::State;
use pool_tests::{Setup, skip};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn a_clock_that_is_set_back_delays_no_retry_and_shortens_no_job() {
    if !Path::new(LIBRARY).exists() {
        return skip("libfaketime is not installed (apt-get install faketime)");
    }
    let setup = Setup::new().workers(4);
    let clock = setup.dir().join("clock");
    fs::write(&clock, "+0").unwrap();
    let preload = format!("LD_PRELOAD={LIBRARY}");
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", clock.display());
    let words = [
        "env",
        &preload,
        &file,
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "DONT_FAKE_MONOTONIC=1",
    ];
    let mut daemon = setup.wrapper(&words).start();

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
