//! What users see of jobs that are held while they wait: they do not start, over restarts, and have their old
//! places when they are released.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{Daemon, Setup, send, wait_until};

/// A job that runs until the file of this name is there.
fn occupy(daemon: &Daemon, gate: &str) -> u64 {
    let gate = daemon.path_text(gate);
    let id = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    id
}

fn states(daemon: &Daemon, ids: &[u64]) -> Vec<State> {
    ids.iter().map(|&id| daemon.record(id).state).collect()
}

#[test]
fn held_jobs_stay_out_of_the_queue_over_a_kill_until_they_are_released() {
    let mut daemon = Setup::new().workers(1).start();
    occupy(&daemon, "gate");
    let ran = daemon.path_text("ran");
    let jobs: Vec<u64> = (0..4).map(|_| daemon.submit_sh(&format!("echo $POOL_JOB_ID >>{ran}"))).collect();
    let scheduled = daemon.submit(&["--delay", "1h", "--", "true"]);
    let blocked = daemon.submit(&["--after", "1", "--", "true"]);

    let said = daemon.run(&["hold", "3-4", &format!("{scheduled}-{blocked}")]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    let held = [3, 4, scheduled, blocked];
    assert_eq!(states(&daemon, &held), [State::Held; 4]);
    let why = daemon.ok(&["why", "3"]);
    assert!(why.contains("job 3 is held") && why.contains("`poolctl release 3` lets it go"), "{why}");
    assert!(daemon.ok(&["ls", "--state", "held"]).lines().count() == 5);

    File::create(daemon.path("gate")).unwrap();
    daemon.wait_record(jobs[3], "it has run", |record| record.state == State::Succeeded);
    daemon.kill_in_one_instant();
    daemon.restart();
    assert_eq!(daemon.run(&["run", "--", "true"]).code, 0);
    assert_eq!(states(&daemon, &held), [State::Held; 4]);

    daemon.ok(&["release", "3-4", &scheduled.to_string(), &blocked.to_string()]);
    daemon.ok(&["wait", "3", "4", &blocked.to_string()]);
    assert_eq!(daemon.record(scheduled).state, State::Scheduled);
    let order = std::fs::read_to_string(&ran).unwrap();
    assert_eq!(order, format!("{}\n{}\n3\n4\n", jobs[0], jobs[3]), "two were held");
}

#[test]
fn what_cannot_be_held_is_named_and_the_rest_is_held() {
    let daemon = Daemon::start(1);
    let done = daemon.submit_sh("exit 3");
    daemon.run(&["wait", &done.to_string()]);
    let running = occupy(&daemon, "gate");
    let queued = daemon.submit(&["--", "true"]);

    let said = daemon.run(&["hold", "99", &done.to_string(), &running.to_string(), &queued.to_string()]);
    assert_eq!(said.code, 125, "{said:?}");
    for wanted in [
        "there is no job 99".to_owned(),
        format!("job {done} has ended (failed), so it cannot be held"),
        format!("job {running} runs, so it cannot be held: `poolctl cancel {running}` ends it"),
    ] {
        assert!(said.stderr.contains(&wanted), "{wanted}: {said:?}");
    }
    assert_eq!(states(&daemon, &[done, running, queued]), [State::Failed, State::Running, State::Held]);
    let said = daemon.run(&["hold", &format!("{done}-{running}")]);
    assert!(said.code == 125 && said.stderr.contains("can be held"), "{said:?}");
    let said = daemon.run(&["hold"]);
    assert_eq!(said.code, 2, "{said:?}");

    File::create(daemon.path("gate")).unwrap();
    daemon.ok(&["wait", &running.to_string()]);
    daemon.ok(&["cancel", &queued.to_string()]);
    assert_eq!(daemon.record(queued).state, State::Canceled);
}

#[test]
fn a_job_that_waits_for_its_next_attempt_is_held_and_tried_at_once_when_it_is_released() {
    let daemon = Daemon::start(1);
    let flag = daemon.path_text("flag");
    let script = format!("[ -e {flag} ]");
    let id = daemon.submit(&["--retries", "1", "--backoff", "1h", "--", "sh", "-c", &script]);
    let text = id.to_string();
    daemon.wait_record(id, "it has failed once", |record| record.state == State::Retrying);
    daemon.ok(&["hold", &text]);
    let record = daemon.record(id);
    assert_eq!((record.state, record.attempt), (State::Held, 1));
    File::create(&flag).unwrap();
    daemon.ok(&["release", &text]);
    assert_eq!(daemon.run(&["wait", &text]).code, 0);
    assert_eq!(daemon.record(id).attempt, 2);
}

#[test]
fn an_end_of_poold_counts_what_is_held_among_what_it_keeps() {
    let mut daemon = Daemon::start(1);
    for _ in 0..3 {
        daemon.submit(&["--hold", "--", "true"]);
    }
    let said = daemon.run(&["shutdown"]);
    assert!(said.code == 0 && said.stderr.contains("3 jobs and callbacks are kept"), "{said:?}");
    daemon.wait();
    daemon.restart();

    // What comes and goes while others are waited for is counted anew.
    let running = occupy(&daemon, "gate");
    let queued = daemon.submit(&["--", "true"]);
    let mut shutdown = daemon.ctl(&["shutdown"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it drains", || daemon.run(&["submit", "--", "true"]).code == 75);
    daemon.ok(&["hold", &queued.to_string()]);
    daemon.ok(&["release", "1"]);
    daemon.ok(&["cancel", "2"]);
    // However late poolctl gets its turn, it hears what poold has said last.
    let pid = i32::try_from(shutdown.id()).unwrap();
    send(pid, Signal::SIGSTOP);
    File::create(daemon.path("gate")).unwrap();
    daemon.wait();
    send(pid, Signal::SIGCONT);
    let mut told = String::new();
    shutdown.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("2 jobs and callbacks are kept for its next start"), "{running}: {told}");
    assert!(shutdown.wait().unwrap().success());
}
