//! What users see of jobs that have ended and are run again under their ids.

use std::fs::File;

use pool_proto::{ResultKind, State};
use pool_tests::{Daemon, Setup, wait_until};

/// A job that fails until the file of this name is there.
fn fails_without(daemon: &Daemon, flag: &str, options: &[&str]) -> u64 {
    let flag = daemon.path_text(flag);
    let script = format!("echo attempt $POOL_ATTEMPT; [ -e {flag} ]");
    daemon.submit(&[options, &["--", "sh", "-c", &script]].concat())
}

fn is_in(daemon: &Daemon, id: u64, state: State) {
    daemon.wait_record(id, state.as_str(), |record| record.state == state);
}

#[test]
fn a_failed_job_is_run_again_under_its_id_over_a_kill_and_its_callbacks_run_again() {
    let mut daemon = Setup::new().workers(1).start();
    let told = daemon.path_text("told");
    let callback =
        format!("echo $POOL_JOB_ID $POOL_STATE $POOL_ATTEMPT $POOL_RERUNS $POOL_CALLBACK_ATTEMPT >>{told}");
    let id = fails_without(&daemon, "flag", &["--on-done", &callback]);
    let text = id.to_string();
    is_in(&daemon, id, State::Failed);
    wait_until("its callback", || daemon.record(id).callbacks[0].state == "delivered");
    let blocker =
        daemon.submit_sh(&format!("until [ -e {} ]; do sleep 0.02; done", daemon.path_text("gate")));
    is_in(&daemon, blocker, State::Running);

    let said = daemon.run(&["retry", &text]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    let record = daemon.record(id);
    assert_eq!((record.state, record.attempt, record.reruns), (State::Queued, 1, 1));
    assert_eq!((record.result, record.exit_code, record.ended_at), (None, None, None));
    assert_eq!(daemon.ok(&["logs", &text]), "attempt 1\n", "its output is there until it begins");
    // Its place is before that of the other one, which is interrupted.
    File::create(daemon.path("flag")).unwrap();
    daemon.kill_in_one_instant();
    daemon.restart();
    assert_eq!((daemon.record(id).reruns, daemon.record(id).callbacks.len()), (1, 1));

    File::create(daemon.path("gate")).unwrap();
    assert_eq!(daemon.run(&["wait", &text]).code, 0);
    assert_eq!(daemon.ok(&["logs", &text]), "attempt 2\n");
    assert!(daemon.ok(&["show", &text]).contains("run again"));
    let of_job = |line: &&str| line.starts_with(&format!("{id} "));
    wait_until("both callbacks", || {
        let told = std::fs::read_to_string(&told).unwrap();
        told.lines().filter(of_job).collect::<Vec<_>>()
            == [format!("{id} failed 1 0 1"), format!("{id} succeeded 2 1 2")]
    });
}

#[test]
fn all_that_has_failed_is_run_again_with_one_word() {
    let daemon = Setup::new().workers(2).config("[pool.other]\nworkers = 1\n").start();
    let failed = fails_without(&daemon, "flag", &[]);
    let after = daemon.submit(&["--after", &failed.to_string(), "--", "true"]);
    let elsewhere = fails_without(&daemon, "flag", &["--pool", "other"]);
    let fine = daemon.submit_sh("exit 0");
    let canceled = daemon.submit(&["--hold", "--", "true"]);
    daemon.ok(&["cancel", &canceled.to_string()]);
    for id in [failed, elsewhere] {
        is_in(&daemon, id, State::Failed);
    }
    is_in(&daemon, after, State::Canceled);
    assert_eq!(daemon.record(after).result, Some(ResultKind::DepFailed));
    daemon.ok(&["wait", &fine.to_string()]);

    File::create(daemon.path("flag")).unwrap();
    daemon.ok(&["retry", "failed", "--pool", "default"]);
    assert_eq!(daemon.run(&["wait", &failed.to_string(), &after.to_string()]).code, 0);
    let reruns = [failed, after, elsewhere, fine, canceled].map(|id| daemon.record(id).reruns);
    assert_eq!(reruns, [1, 1, 0, 0, 0]);
    daemon.ok(&["retry", "failed"]);
    assert_eq!(daemon.run(&["wait", &elsewhere.to_string()]).code, 0);
    assert_eq!(daemon.run(&["retry", "failed"]).code, 0, "there is none");
}

#[test]
fn what_cannot_be_run_again_is_named_and_the_rest_is_run() {
    let daemon = Daemon::start(2);
    let input = daemon.path_text("input");
    std::fs::write(&input, "x").unwrap();
    let with_input = daemon.submit(&["--stdin", &input, "--", "cat"]);
    let living = daemon.submit(&["--hold", "--", "true"]);
    let done = daemon.submit_sh("exit 0");
    let named = daemon.submit(&["--unique", "nightly", "--", "true"]);
    for id in [with_input, done, named] {
        is_in(&daemon, id, State::Succeeded);
    }
    let holder = daemon.submit(&["--unique", "nightly", "--hold", "--", "true"]);

    let ids = [with_input, living, done, named, 99].map(|id| id.to_string());
    let said = daemon.run(&[&["retry"][..], &ids.each_ref().map(String::as_str)].concat());
    assert_eq!(said.code, 125, "{said:?}");
    for wanted in [
        format!("job {with_input} has read a standard input that is gone: submit it anew with --stdin"),
        format!("job {living} is held: only a job that has ended can be run again"),
        format!("job {named} has the unique name of job {holder}, which has not ended"),
        "there is no job 99".to_owned(),
    ] {
        assert!(said.stderr.contains(&wanted), "{wanted}: {said:?}");
    }
    assert_eq!(said.stderr.lines().count(), 4, "{said:?}");
    daemon.ok(&["wait", &done.to_string()]);
    assert_eq!(daemon.record(done).attempt, 2);
    let said = daemon.run(&["retry", "nothing"]);
    assert!(said.code == 2 && said.stderr.contains("or failed"), "{said:?}");
}
