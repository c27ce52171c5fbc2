//! What users see of priorities and of retries: who goes first, and what becomes of a job that fails.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{Daemon, Setup, line_of, send, wait_until};

/// A shell command that notes each run in "runs" and succeeds in the given one.
fn succeeds_in_run(daemon: &Daemon, run: u32) -> String {
    format!(
        "echo run >>{0}; echo out $POOL_ATTEMPT; echo err >&2; [ $(wc -l <{0}) -ge {run} ]",
        daemon.path_text("runs")
    )
}

fn runs(daemon: &Daemon) -> usize {
    fs::read_to_string(daemon.path("runs")).unwrap_or_default().lines().count()
}

#[test]
fn a_failed_command_is_tried_again_and_its_client_sees_every_attempt_and_the_last_ones_code() {
    let daemon = Daemon::start(1);
    let script = succeeds_in_run(&daemon, 3);
    let said = daemon.run(&["run", "--retries", "4", "--backoff", "1ms", "--", "sh", "-c", &script]);
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, "out 1\nout 2\nout 3\n", "err\nerr\nerr\n")
    );
    let record = daemon.record(1);
    assert_eq!((record.state, record.attempt, record.retries, record.retried), (State::Succeeded, 3, 4, 2));
    assert_eq!((record.reason, record.due_at), (None, None));
    assert_eq!(daemon.ok(&["logs", "1"]), "out 3\n");
    let kept: Vec<_> = fs::read_dir(daemon.state_dir().join("output/0"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(kept.len(), 6, "the output of all three attempts is kept: {kept:?}");

    let said = daemon.run(&["run", "--retries", "1", "--backoff", "0", "--", "sh", "-c", "exit 7"]);
    assert_eq!((said.code, daemon.record(2).attempt), (7, 2));
    let said =
        daemon.run(&["run", "--retries", "1", "--backoff", "0", "--timeout", "50ms", "--", "sleep", "60"]);
    assert_eq!((said.code, daemon.record(3).state, daemon.record(3).attempt), (124, State::TimedOut, 2));
    let said = daemon.run(&["run", "--retries", "2", "--backoff", "0", "--", "/does/not/exist"]);
    assert_eq!((said.code, daemon.record(4).attempt), (127, 3));
}

#[test]
fn a_job_that_waits_for_its_next_attempt_says_so_and_is_told_like_any_other() {
    let daemon = Daemon::start(1);
    let mut events =
        daemon.ctl(&["events"]).stdout(fs::File::create(daemon.path("events")).unwrap()).spawn().unwrap();
    wait_until("the listener listens", || {
        fs::read_to_string(daemon.path("events")).unwrap_or_default().contains("listening")
    });
    let done = daemon.path("done");
    let callback = format!("echo $POOL_STATE >>{}", done.display());
    let id = daemon.submit(&[
        "--retries",
        "3",
        "--backoff",
        "1h",
        "--on-done",
        &callback,
        "--",
        "sh",
        "-c",
        "echo why; exit 3",
    ]);
    let record =
        daemon.wait_record(id, "its first attempt has failed", |record| record.state == State::Retrying);
    assert_eq!((record.attempt, record.retried, record.due_at.is_some()), (1, 1, true));
    assert_eq!(record.reason.as_deref(), Some("attempt 1 failed (exit code 3); at most 3 more follow"));
    assert_eq!(daemon.ok(&["logs", &id.to_string()]), "why\n");
    let shown = daemon.ok(&["show", &id.to_string()]);
    assert!(shown.contains("retries    1 of 3") && shown.contains("due "), "{shown}");
    assert_eq!(daemon.run(&["run", "--", "true"]).code, 0, "it holds up nobody");
    wait_until("the listener hears of it", || {
        fs::read_to_string(daemon.path("events"))
            .unwrap_or_default()
            .contains("is tried again: attempt 1 failed")
    });
    daemon.ok(&["cancel", &id.to_string()]);
    assert_eq!(line_of(Path::new(&done)), "canceled");
    send(events.id() as i32, Signal::SIGKILL);
    events.wait().unwrap();
}

#[test]
fn retries_survive_the_daemon_and_a_drain_waits_for_them() {
    let mut daemon = Daemon::start(1);
    let script = succeeds_in_run(&daemon, 2);
    let id = daemon.submit(&["--retries", "1", "--backoff", "300ms", "--", "sh", "-c", &script]);
    daemon.wait_record(id, "its first attempt has failed", |record| record.state == State::Retrying);
    send(daemon.supervisor(), Signal::SIGKILL);
    daemon.ok(&["shutdown"]);
    assert_eq!((daemon.wait(), runs(&daemon)), (0, 2));
    daemon.restart();
    assert_eq!(daemon.record(id).state, State::Succeeded);
}

#[test]
fn the_highest_priority_runs_first_and_a_pool_has_retries_of_its_own() {
    let daemon = Setup::new().workers(1).config("[pool.p]\nworkers = 1\nretries = 1\nbackoff = 0\n").start();
    let gate = daemon.path_text("gate");
    daemon.submit_sh(&format!("mkfifo {gate}; read line <{gate}"));
    let order = daemon.path_text("order");
    let ids = ["0", "-7", "5", "0", "5"].map(|priority| {
        let script = format!("echo $POOL_JOB_ID >>{order}");
        daemon.submit(&["--priority", priority, "--", "sh", "-c", &script])
    });
    assert_eq!(daemon.record(ids[1]).priority, -7);
    wait_until("the first job waits", || Path::new(&gate).exists());
    fs::write(&gate, "go\n").unwrap();
    daemon.ok(&["wait", &format!("{}-{}", ids[0], ids[4])]);
    let order: Vec<u64> =
        fs::read_to_string(&order).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(order, [ids[2], ids[4], ids[0], ids[3], ids[1]]);

    let id = daemon.submit(&["--pool", "p", "--", "false"]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 1);
    assert_eq!((daemon.record(id).attempt, daemon.record(id).retries), (2, 1));
    let id = daemon.submit(&["--pool", "p", "--retries", "0", "--", "false"]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 1);
    assert_eq!(daemon.record(id).attempt, 1);
}

#[test]
fn a_call_is_tried_again_whatever_its_durability_and_a_map_shows_the_last_attempt() {
    let daemon = Daemon::start(2);
    let program = daemon.path_text("flaky.py");
    let text = "import json, os, sys
for line in sys.stdin:
    call = json.loads(line)
    path = call['params'][0]
    tries = os.path.exists(path) and len(open(path).read()) or 0
    open(path, 'a').write('x')
    answer = {'result': tries} if tries >= 2 else {'error': {'code': 5, 'message': 'not yet'}}
    print(json.dumps({'jsonrpc': '2.0', 'id': call['id'], **answer}), flush=True)
";
    fs::write(&program, text).unwrap();
    daemon.ok(&["pool", "add", "flaky", "--retries", "2", "--backoff", "10ms", "--", "python3", &program]);
    for durability in ["disk", "none"] {
        let said =
            daemon.run(&["call", "--durability", durability, "flaky", "m", &daemon.path_text(durability)]);
        assert_eq!((said.code, said.stdout.as_str()), (0, "2\n"), "{said:?}");
    }
    assert_eq!((daemon.record(1).attempt, daemon.record(1).retried), (3, 2));
    assert_eq!((daemon.record(2).attempt, daemon.record(2).retried), (3, 2));
    let said = daemon.run(&["call", "--retries", "1", "flaky", "m", &daemon.path_text("third")]);
    assert!(said.code == 1 && said.stderr.contains("not yet"), "{said:?}");

    let script = format!(
        "echo {{}} >>{}; echo {{}} $POOL_ATTEMPT; exit $((2 - POOL_ATTEMPT))",
        daemon.path_text("runs")
    );
    let said = daemon.run(&[
        "map",
        "-k",
        "--retries",
        "1",
        "--backoff",
        "0",
        "--",
        "sh",
        "-c",
        &script,
        ":::",
        "a",
        "b",
    ]);
    assert_eq!((said.code, said.stdout.as_str(), runs(&daemon)), (0, "a 2\nb 2\n", 4));
}

#[test]
fn only_the_named_exit_codes_are_followed_by_another_attempt() {
    let daemon = Setup::new()
        .workers(2)
        .config("[pool.strict]\nworkers = 1\nretries = 1\nbackoff = \"1ms\"\nno_retry_on_exit = \"2\"\n")
        .start();
    let attempts = |options: &[&str], script: &str| {
        let id = daemon.submit(&[options, &["--", "sh", "-c", script]].concat());
        daemon.wait_record(id, "it has ended", |record| record.state.is_terminal()).attempt
    };
    let only = ["--retries", "1", "--backoff", "1ms", "--retry-on-exit", "75,100-110"];
    assert_eq!(["exit 75", "exit 104", "exit 1"].map(|script| attempts(&only, script)), [2, 2, 1]);
    assert_eq!(attempts(&only, "kill -9 $$"), 1);
    let but = ["--retries", "1", "--backoff", "1ms", "--jitter", "1", "--no-retry-on-exit", "137,3"];
    assert_eq!(["exit 3", "exit 4", "kill -9 $$"].map(|script| attempts(&but, script)), [1, 2, 1]);
    let strict = ["--pool", "strict"];
    assert_eq!(["exit 2", "exit 3"].map(|script| attempts(&strict, script)), [1, 2]);
    assert_eq!(daemon.record(1).retry_on_exit.as_deref(), Some("75,100-110"));
    assert!(daemon.ok(&["show", "1"]).contains("75,100-110"));

    for (options, wanted) in [
        (["--retries", "1", "--retry-on-exit", "many"], "75,100-110"),
        (["--retries", "1", "--jitter", "2"], "from 0 to 1"),
    ] {
        let said = daemon.run(&[&["submit"], &options[..], &["--", "true"]].concat());
        assert!(said.code == 2 && said.stderr.contains(wanted), "{said:?}");
    }
    let said = daemon.run(&["submit", "--retry-on-exit", "75", "--", "true"]);
    assert!(said.code == 125 && said.stderr.contains("--retry-on-exit: it says nothing without"), "{said:?}");
}

#[test]
fn each_attempt_is_told_one_by_one() {
    let daemon = Daemon::start(1);
    let script = "test -e here && exit 0; touch here; kill -9 $$";
    let folder = daemon.path_text("");
    let options = ["--retries", "2", "--backoff", "10ms", "--cwd", &folder];
    let id = daemon.submit(&[&options[..], &["--", "sh", "-c", script]].concat()).to_string();
    daemon.ok(&["wait", &id]);
    daemon.ok(&["retry", &id]);
    daemon.ok(&["wait", &id]);
    let shown = daemon.ok(&["show", &id]);
    let earlier: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("earlier    ")).collect();
    assert_eq!(earlier.len(), 2, "{shown}");
    assert!(earlier[0].starts_with("1: signal 9, after "), "{shown}");
    assert!(earlier[1].starts_with("2: exit code 0, after "), "{shown}");
    assert!(shown.contains("attempt    3\n"), "{shown}");
    let none = daemon.submit(&["--", "true"]).to_string();
    daemon.ok(&["wait", &none]);
    assert!(!daemon.ok(&["show", &none]).contains("earlier"));
}
