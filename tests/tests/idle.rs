//! An idle timeout ends an attempt that does nothing, and no other.

use std::time::{Duration, Instant};

use pool_proto::{ResultKind, State};
use pool_tests::{Daemon, Setup};

/// With control groups where they can be had, and without.
fn both() -> [Daemon; 2] {
    ["auto", "off"].map(|cgroup| {
        let config = format!("cgroup = {cgroup:?}\n[pool.short]\nworkers = 1\nidle_timeout = \"100ms\"");
        Setup::new().config(&config).start()
    })
}

#[test]
fn an_attempt_that_does_nothing_is_ended_with_all_that_it_has_started() {
    for daemon in both() {
        let start = Instant::now();
        // It has written something and used the CPU before.
        let script = "echo begun; sleep 3600 & sleep 3600";
        let said = daemon.run(&["run", "--idle-timeout", "1s", "--", "sh", "-c", script]);
        assert_eq!((said.code, said.stdout.as_str()), (124, "begun\n"), "{said:?}");
        assert!(said.stderr.contains("timed out") && said.stderr.contains("idle timeout"), "{said:?}");
        assert!(start.elapsed() >= Duration::from_secs(1));

        let record = daemon.record(1);
        assert_eq!((record.state, record.result), (State::TimedOut, Some(ResultKind::Timeout)));
        assert_eq!(record.signal, Some(15), "it was told to end, and could have said something");

        // It is an attempt that is idle: another one follows where the job has retries.
        let options = ["--idle-timeout", "100ms", "--retries", "1", "--backoff", "10ms"];
        assert_eq!(daemon.run(&[&["run"], &options[..], &["--", "sleep", "3600"]].concat()).code, 124);
        assert_eq!((daemon.record(2).attempt, daemon.record(2).retried), (2, 1));
        assert_eq!(daemon.run(&["run", "-p", "short", "--", "sleep", "3600"]).code, 124);
    }
}

#[test]
fn what_writes_or_computes_is_not_idle() {
    for daemon in both() {
        let write = "i=0; while [ $i -lt 24 ]; do echo $i; sleep 0.1; i=$((i+1)); done";
        let compute = "end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done; echo done";
        let ran = |script: &str, last: &str| {
            let said = daemon.run(&["run", "--idle-timeout", "1s", "--", "sh", "-c", script]);
            assert_eq!((said.code, said.stdout.lines().last()), (0, Some(last)), "{said:?}");
        };
        ran(write, "23");
        ran(compute, "done");
        assert_eq!(daemon.run(&["run", "--idle-timeout", "1h", "--", "true"]).code, 0);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let daemon = Setup::new().config("[pool.warm]\nworkers = 1\ncommand = [\"cat\"]").start();
    let said = daemon.run(&["submit", "--idle-timeout", "0", "--", "true"]);
    assert_eq!(said.code, 2, "{said:?}");
    let job = "{\"method\":\"m\",\"pool\":\"warm\",\"idle_timeout_s\":5}\n";
    std::fs::write(daemon.path("jobs"), job).unwrap();
    let said = daemon.run(&["submit", "--from", &daemon.path_text("jobs")]);
    assert!(said.code != 0 && said.stderr.contains("no process of its own"), "{said:?}");
}
