//! What a job waits for before it begins: `--after`, `--delay`, `--at`, `--hold`.

use std::time::{Duration, Instant};

use pool_proto::State;
use pool_proto::nouns::ResultKind;
use pool_tests::gate::state;
use pool_tests::{Daemon, Setup};

fn submit(daemon: &Daemon, options: &[&str], script: &str) -> u64 {
    daemon.submit(&[options, &["--", "sh", "-c", script]].concat())
}

#[test]
fn a_job_runs_after_others_as_they_have_ended_over_a_restart() {
    let mut daemon = Setup::new().workers(4).start();
    let gate = daemon.path("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
    let [good, bad] = ["", "; exit 3"].map(|end| submit(&daemon, &[], &format!("{wait}{end}")));

    let after = |options: &[&str]| submit(&daemon, options, &format!("[ -e {} ]", gate.display()));
    let ok = after(&["--after", &good.to_string()]);
    let chained = after(&["-d", &ok.to_string()]);
    let not_ok = after(&["--after", &format!("afternotok:{bad}")]);
    let any = after(&["--after", &format!("afterany:{good}-{bad}")]);
    let never =
        after(&["--after", &bad.to_string(), "--on-failure", &format!("touch {}.told", gate.display())]);
    let never_either = after(&["--after", &never.to_string()]);
    let blocked = [ok, chained, not_ok, any, never, never_either];
    for id in blocked {
        assert_eq!(state(&daemon, id), State::Blocked);
    }
    let shown = daemon.ok(&["show", &any.to_string()]);
    assert!(shown.contains(&format!("the end of {good} (in any way), {bad} (in any way)")), "{shown}");
    assert!(daemon.ok(&["ls", "--state", "blocked"]).lines().count() >= blocked.len(), "they are listed");

    daemon.kill_all();
    daemon.restart();
    for id in blocked {
        assert_eq!(state(&daemon, id), State::Blocked);
    }
    std::fs::write(&gate, "").unwrap();
    for id in [ok, chained, not_ok, any] {
        daemon.wait_record(id, "it has succeeded", |record| record.state == State::Succeeded);
    }
    for (id, on) in [(never, bad), (never_either, never)] {
        let record = daemon.wait_record(id, "it is canceled", |record| record.state == State::Canceled);
        assert_eq!((record.result, record.attempt), (Some(ResultKind::DepFailed), 0));
        assert!(record.reason.unwrap().starts_with(&format!("job {on} did not end as --after needs")));
    }
    let told = daemon.path("gate.told");
    pool_tests::wait_until("its callback has run", || told.exists());
}

#[test]
fn what_a_job_is_to_run_after_must_exist_and_may_have_ended() {
    let daemon = Daemon::start(2);
    let missing = daemon.run(&["submit", "--after", "77", "--", "true"]);
    assert_eq!(missing.code, 125, "{missing:?}");
    assert!(missing.stderr.contains("77"), "{missing:?}");
    let bad = submit(&daemon, &[], "exit 3");
    daemon.wait_record(bad, "it has failed", |record| record.state == State::Failed);

    let said = daemon.run(&["submit", "--wait", "--after", &bad.to_string(), "--", "true"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("did not end as --after needs"), "{said:?}");
    let said = daemon.run(&["submit", "--wait", "--after", &format!("afternotok:{bad}"), "--", "echo", "x"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "x\n"), "{said:?}");
}

#[test]
fn a_job_starts_no_sooner_than_it_is_to() {
    let mut daemon = Setup::new().workers(2).start();
    let begun = Instant::now();
    let delayed = submit(&daemon, &["--delay", "3s"], "true");
    let later = submit(&daemon, &["--at", "2099-01-01 09:00"], "true");
    let past = submit(&daemon, &["--at", "2001-01-01T09:00:00Z"], "true");
    daemon.wait_record(past, "its time has come", |record| record.state == State::Succeeded);
    for id in [delayed, later] {
        let record = daemon.record(id);
        assert_eq!((record.state, record.due_at.is_some()), (State::Scheduled, true));
    }
    daemon.kill_all();
    daemon.restart();
    daemon.wait_record(delayed, "its time has come", |record| record.state == State::Succeeded);
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(daemon.record(later).state, State::Scheduled);
    assert!(daemon.record(later).due_at.unwrap().starts_with("2099-01-01T"));
    daemon.ok(&["cancel", &later.to_string()]);

    // A drain does not wait for what is due much later.
    submit(&daemon, &["--delay", "1h"], "true");
    daemon.ok(&["shutdown"]);
}

#[test]
fn a_held_job_waits_for_a_release_and_then_for_the_rest() {
    let daemon = Daemon::start(1);
    let held = submit(&daemon, &["--hold", "--delay", "1s"], "true");
    let id = held.to_string();
    assert_eq!(state(&daemon, held), State::Held);
    daemon.ok(&["release", &id]);
    assert!(matches!(state(&daemon, held), State::Scheduled | State::Queued | State::Succeeded));
    daemon.wait_record(held, "it has run", |record| record.state == State::Succeeded);
    assert_ne!(daemon.run(&["release", &id]).code, 0, "it is not held any more");
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    let daemon = Daemon::start(1);
    for (options, wanted) in [
        (["--at", "soon"].as_slice(), "tomorrow 09:00"),
        (&["--delay", "1h", "--at", "09:00"], "--delay"),
        (&["--after", "afterwards:1"], "afterok:12"),
        (&["--after", "x"], "names no job"),
        (&["--delay", "x"], "--delay"),
    ] {
        let said = daemon.run(&[&["submit"], options, &["--", "true"]].concat());
        assert_eq!(said.code, 2, "{options:?}: {said:?}");
        assert!(said.stderr.contains(wanted), "{options:?}: {said:?}");
    }
    assert!(daemon.ok(&["ls"]).lines().count() <= 1);
}
