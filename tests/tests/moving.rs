//! What users see of jobs that are moved into another pool while they wait.

use std::fs::File;

use pool_proto::State;
use pool_tests::{Daemon, Setup};

/// A job that runs until the file "gate" is there.
fn occupy(daemon: &Daemon) -> u64 {
    let gate = daemon.path_text("gate");
    let id = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    id
}

#[test]
fn what_waits_in_a_full_pool_runs_in_another_one_over_a_kill() {
    let mut daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    let running = occupy(&daemon);
    let queued = daemon.submit(&["--", "true"]);
    let scheduled = daemon.submit(&["--delay", "1h", "--", "true"]);
    let held = daemon.submit(&["--hold", "--", "true"]);
    daemon.ok(&["pool", "pause", "other"]);
    let said = daemon.run(&["move", &format!("{queued}-{held}"), "--pool", "other"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    daemon.kill_in_one_instant();
    daemon.restart();
    let told = [queued, scheduled, held].map(|id| {
        let record = daemon.record(id);
        (record.pool.clone(), record.state)
    });
    let states = [State::Queued, State::Scheduled, State::Held];
    assert_eq!(told, states.map(|state| ("other".to_owned(), state)));
    daemon.ok(&["pool", "resume", "other"]);
    daemon.ok(&["wait", &queued.to_string()]);
    daemon.ok(&["release", &held.to_string()]);
    daemon.ok(&["wait", &held.to_string()]);
    assert!(!daemon.record(running).state.is_terminal(), "its own pool was full all the time");
    File::create(daemon.path("gate")).unwrap();
    daemon.ok(&["wait", &running.to_string()]);
}

#[test]
fn what_cannot_be_moved_is_named_and_the_rest_is_moved() {
    let config = "[pool.other]\nworkers = 1\n[pool.warm]\nworkers = 1\ncommand = [\"cat\"]\n";
    let daemon = Setup::new().workers(1).config(config).start();
    let running = occupy(&daemon);
    let queued = daemon.submit(&["--", "true"]);
    let said = daemon.run(&["move", &running.to_string(), &queued.to_string(), "99", "--pool", "other"]);
    assert_eq!(said.code, 125, "{said:?}");
    for wanted in [
        format!("job {running} runs, so it stays in its pool: `poolctl cancel {running}` ends it"),
        "there is no job 99".to_owned(),
    ] {
        assert!(said.stderr.contains(&wanted), "{wanted}: {said:?}");
    }
    daemon.ok(&["wait", &queued.to_string()]);
    assert_eq!(daemon.record(queued).pool, "other");

    let waiting = daemon.submit(&["--", "true"]);
    let text = waiting.to_string();
    let said = daemon.run(&["move", &text, "--pool", "warm"]);
    assert!(said.code == 125 && said.stderr.contains("is a command"), "{said:?}");
    let said = daemon.run(&["move", &text, "--pool", "none"]);
    assert!(said.code == 125 && said.stderr.contains("there is no pool \"none\""), "{said:?}");
    assert_eq!(daemon.run(&["move", &text]).code, 2, "where to?");
    assert_eq!(daemon.record(waiting).pool, "default");
    File::create(daemon.path("gate")).unwrap();
    daemon.ok(&["wait", &text]);
}
