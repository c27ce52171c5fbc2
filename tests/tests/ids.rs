//! What users see of ids and ranges of which some name no job.

use std::process::Stdio;

use pool_proto::State;
use pool_tests::{Daemon, Setup, wait_until};

/// A daemon whose jobs 2 and 4 do not exist, while jobs 1, 3 and 5 are `script`.
fn with_gaps(script: &str) -> Daemon {
    let daemon = Daemon::start(3);
    for id in 1..=5 {
        // A submission whose key a job has leaves its id unused.
        let key = if id % 2 == 0 { "1".to_owned() } else { id.to_string() };
        daemon.submit(&["--key", &key, "--", "sh", "-c", script]);
    }
    daemon
}

#[test]
fn a_range_takes_the_jobs_that_exist() {
    let daemon = with_gaps("exec sleep 600");
    daemon.ok(&["cancel", "1-3"]);
    let state = |id| daemon.record(id).state;
    assert_eq!([state(1), state(3)], [State::Canceled; 2]);
    assert!(!state(5).is_terminal());
    daemon.ok(&["cancel", "4-5000"]);

    let said = daemon.run(&["wait", "1-9"]);
    assert_eq!(said.code, daemon.run(&["wait", "1"]).code, "{said:?}");
    assert!(!said.stderr.contains("no job"), "{said:?}");
}

#[test]
fn what_does_not_exist_is_named_and_the_rest_is_done() {
    let daemon = with_gaps("exec sleep 600");
    let said = daemon.run(&["--json", "cancel", "2", "1", "4", "60-70", "3"]);
    assert_eq!(said.code, 125, "{said:?}");
    for name in
        ["job 2 has been pruned, or never existed", "job 4 has been pruned", "none of the jobs 60-70 exists"]
    {
        assert!(said.stderr.contains(name), "{said:?}");
    }
    let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let ids: Vec<u64> =
        document["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 3]);
    assert!(!daemon.record(5).state.is_terminal());

    // Many that do not exist are counted.
    let many: Vec<String> = (100..200).map(|id| id.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let said = daemon.run(&[&["cancel", "5"], &many[..]].concat());
    assert!(said.code == 125 && said.stderr.lines().count() == 21, "{said:?}");
    assert!(said.stderr.contains("and 80 more") && daemon.record(5).state.is_terminal(), "{said:?}");
}

#[test]
fn a_wait_goes_on_without_what_does_not_exist() {
    let daemon = with_gaps("exit 0");
    assert_eq!(daemon.run(&["wait", "1-5"]).code, 0);
    let said = daemon.run(&["wait", "1", "2", "3"]);
    assert!(said.code == 125 && said.stderr.contains("job 2 has been pruned, or never existed"), "{said:?}");
    let failed = daemon.submit_sh("exit 7").to_string();
    assert_eq!(daemon.run(&["wait", &failed, "2"]).code, 7, "the first that did not succeed counts");
    assert_eq!(daemon.run(&["wait", "--any", "2", &failed]).code, 7);
    assert_eq!(daemon.run(&["wait", "70-80"]).code, 125);
    // Each is told once.
    let said = daemon.run(&["--json", "wait", "2", "1-5", "3"]);
    assert_eq!((said.code, said.stdout.lines().count()), (125, 3), "{said:?}");
}

#[test]
fn a_release_takes_what_is_held() {
    let daemon = Setup::new().workers(2).start();
    for _ in 0..2 {
        daemon.submit(&["--on-crash", "hold", "--", "sh", "-c", "kill -9 $PPID; sleep 600"]);
    }
    let done = daemon.submit_sh("exit 0").to_string();
    for id in [1, 2] {
        daemon.wait_record(id, "is held", |record| record.state == State::Held);
    }
    daemon.ok(&["wait", &done]);

    let said = daemon.run(&["release", "999", &done, "2-5"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("there is no job 999"), "{said:?}");
    assert!(said.stderr.contains("job 3 has ended (succeeded), so it is not held"), "{said:?}");
    // It has crashed a second time, or is about to.
    daemon.wait_record(2, "was released", |record| record.attempt == 2);
    assert_eq!(daemon.record(1).attempt, 1);
    daemon.ok(&["cancel", "1-2"]);
}

#[test]
fn events_of_jobs_that_are_over_end() {
    let daemon = Daemon::start(1);
    let id = daemon.submit(&["--on-done", "true", "--", "true"]).to_string();
    daemon.ok(&["wait", &id]);
    assert!(daemon.ok(&["events", &id]).contains("listening"));
    // It waits for those that are not over.
    let go = daemon.path_text("go");
    let id = daemon
        .submit(&["--on-done", "true", "--", "sh", "-c", &format!("until [ -e {go} ]; do sleep 0.01; done")])
        .to_string();
    let out = daemon.path("events");
    let mut events = daemon.ctl(&["events", "--json", "1", &id]);
    let mut events =
        events.stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let told = || std::fs::read_to_string(&out).unwrap_or_default();
    wait_until("it listens", || told().contains("listening"));
    std::fs::write(&go, "").unwrap();
    assert!(events.wait().unwrap().success());
    assert!(told().contains("\"ended\"") && told().contains("callback_delivered"), "{}", told());
}
