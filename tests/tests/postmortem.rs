//! What people see of one job at a terminal: what became of it, and where that is told.

use std::fs;

use pool_proto::State;
use pool_tests::terminal::Terminal;
use pool_tests::{Daemon, Setup, run};

/// What a command prints at a terminal, with its code.
fn at_terminal(daemon: &Daemon, arguments: &[&str]) -> (i32, String) {
    let said = run(&mut daemon.ctl_at_terminal(&[&["--color", "never"], arguments].concat()));
    (said.code, said.stdout.replace('\r', ""))
}

fn shown(daemon: &Daemon, selector: &str) -> String {
    let (code, text) = at_terminal(daemon, &["show", selector]);
    assert_eq!(code, 0, "{text}");
    text
}

fn assert_has(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn a_failed_job_is_told_with_its_reason_its_attempts_and_the_end_of_its_output() {
    let daemon = Daemon::start(2);
    let first = daemon.submit(&["-n", "configure", "--", "true"]);
    let script = "echo out; seq 20 >&2; printf 'x\\033[31my\\n' >&2; exit 3";
    let id = daemon.submit(&[
        "-n",
        "build",
        "-l",
        "ci",
        "--retries",
        "1",
        "--backoff",
        "0",
        "--on-done",
        "exit 0",
        "--on-success",
        "true",
        "-d",
        &first.to_string(),
        "--",
        "sh",
        "-c",
        script,
    ]);
    let is_delivered = |callback: &pool_proto::nouns::Callback| callback.state == "delivered";
    daemon.wait_record(id, "its callback has run", |record| record.callbacks.iter().any(is_delivered));
    let text = shown(&daemon, "name:build");
    assert!(text.starts_with(&format!("job {id} failed: exit code 3, after ")), "{text}");
    assert_has(
        &text,
        &[
            "\nname       build\n",
            "\nlabels     ci\n",
            "\nused       ",
            " of memory",
            "\nattempts   2: 1 failed and was tried again (1 of 1 retries)\n",
            &format!("\nafter      {first} succeeded, configure\n"),
            " on done: delivered, 1 attempt, exit code 0: exit 0\n",
            " on success: not for this end",
            "\nthe end of its stderr\n  12\n  13\n",
            "\n  20\n  x\\u{1b}[31my\n",
            &format!("\n  poolctl retry {id} "),
            &format!("\n  poolctl logs {id} "),
            &format!("\n  poolctl logs --all-attempts {id} "),
        ],
    );
    assert!(!text.contains("\n  11\n") && !text.contains('\u{1b}'), "{text}");

    // A program gets the record as ever.
    let plain = daemon.ok(&["show", &id.to_string()]);
    assert_has(&plain, &["\nresult     exit-code (exit code 3)\n", "\nattempt    2\n"]);
    assert!(!plain.contains("the end of its"), "{plain}");
}

#[test]
fn callbacks_are_told_with_the_ends_of_their_output() {
    let daemon = Setup::new().config("[callbacks]\nattempts = 2\nbackoff = \"10ms\"\n").start();
    let fails = "seq 12 >&2; echo out; exit 7";
    let id = daemon.submit(&["--on-done", fails, "--on-success", "echo fine", "--", "true"]);
    daemon.wait_record(id, "one is given up, one delivered", |record| {
        let states: Vec<&str> = record.callbacks.iter().map(|callback| callback.state.as_str()).collect();
        states == ["failed", "delivered"]
    });
    let text = shown(&daemon, "last");
    assert_has(
        &text,
        &[
            "\ncallback   1 on done: given up, 2 attempts, exit code 7: seq 12 >&2; echo out;\n           exit 7\n",
            "\ncallback   2 on success: delivered, 1 attempt, exit code 0: echo fine\n",
            "\nthe end of callback 1's stderr\n  3\n",
            "\n  12\n\nthe end of callback 1's stdout\n  out\n",
            "\nthe end of callback 2's stdout\n  fine\n",
            "\n  poolctl callbacks retry 1 ",
        ],
    );
    let plain = daemon.ok(&["show", "last"]);
    assert_has(&plain, &["\ncallback   1 on done: given up, 2 attempts, exit code 7\n"]);
}

#[test]
fn stdout_is_shown_where_stderr_is_empty_and_nothing_of_a_success() {
    let daemon = Daemon::start(1);
    let failed = daemon.submit_sh("echo from stdout; exit 1");
    let fine = daemon.submit_sh("echo fine");
    let canceled = daemon.submit(&["--hold", "--", "true"]);
    let behind = daemon.submit(&["-d", &failed.to_string(), "--hold", "--", "true"]);
    daemon.ok(&["wait", &fine.to_string()]);

    assert_has(&shown(&daemon, &failed.to_string()), &["the end of its stdout\n  from stdout\n"]);
    let text = shown(&daemon, &fine.to_string());
    assert!(text.starts_with(&format!("job {fine} succeeded, after ")), "{text}");
    assert!(!text.contains("the end of"), "{text}");

    let text = shown(&daemon, &canceled.to_string());
    assert!(text.starts_with(&format!("job {canceled} is held")), "{text}");
    assert_has(&text, &[&format!("poolctl release {canceled}")]);
    daemon.ok(&["cancel", &canceled.to_string()]);
    let text = shown(&daemon, &canceled.to_string());
    assert!(text.starts_with(&format!("job {canceled} was canceled before it had started")), "{text}");

    daemon.wait_record(behind, "it cannot run", |record| record.state == State::Canceled);
    let text = shown(&daemon, &behind.to_string());
    assert_has(&text, &[&format!("after      {failed} failed: exit code 1, "), "poolctl deps"]);
    daemon.ok(&["rm", &failed.to_string()]);
    let text = shown(&daemon, &behind.to_string());
    assert_has(&text, &[&format!("after      {failed} has been pruned\n")]);
}

#[test]
fn crashes_and_reruns_are_counted_apart() {
    let daemon = Daemon::start(1);
    let flag = daemon.path_text("flag");
    let id = daemon.submit_sh(&format!("[ -e {flag} ] || {{ touch {flag}; kill -9 $PPID; sleep 600; }}"));
    daemon.wait_record(id, "it has ended", |record| record.state == State::Succeeded);
    daemon.ok(&["retry", &id.to_string()]);
    daemon.wait_record(id, "it has run again", |record| record.attempt == 3 && record.state.is_terminal());
    let text = shown(&daemon, &id.to_string());
    assert_has(&text, &["attempts   3: ", "`poolctl retry` ran it again once"]);
}

#[test]
fn what_fails_at_a_terminal_points_to_show() {
    let daemon = Daemon::start(2);
    let (code, text) = at_terminal(&daemon, &["run", "--", "false"]);
    assert_eq!((code, text.as_str()), (1, "poolctl: `poolctl show 1` tells more\n"));
    let (code, text) = at_terminal(&daemon, &["run", "--", "true"]);
    assert_eq!((code, text.as_str()), (0, ""));
    daemon.run(&["run", "--", "false"]);
    let (code, text) = at_terminal(&daemon, &["wait", "1-3"]);
    assert!(code == 1 && text.contains("tells more of the first of 2 that did not succeed"), "{text}");
    let (code, text) = at_terminal(&daemon, &["map", "false", ":::", "a"]);
    assert!(code == 1 && text.contains("`poolctl show 4` tells more"), "{text}");

    for arguments in [&["run", "--", "false"][..], &["wait", "1"], &["map", "false", ":::", "a"]] {
        let said = daemon.run(arguments);
        assert!(said.code == 1 && !said.stderr.contains("tells more"), "{said:?}");
    }
}

#[test]
fn a_wait_for_many_and_a_shutdown_have_a_bar() {
    let daemon = Setup::new().workers(2).start();
    let gate = daemon.path_text("gate");
    let fine = daemon.submit_sh("exit 0");
    let failed = daemon.submit_sh("exit 3");
    let held = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    daemon.wait_record(held, "it runs", |record| record.state == State::Running);
    let mut wait = Terminal::run(&daemon.ctl(&["wait", &format!("{fine}-{held}")]), (80, 24));
    wait.wait_text("] 2/3, 1 failed");
    assert!(wait.screen().contents().contains(&format!("job {failed} failed: exit code 3")));

    let last = daemon.submit_sh("exit 0");
    daemon.wait_record(last, "it has ended", |record| record.state == State::Succeeded);
    let other = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    let third = daemon.submit(&["--", "true"]);
    let mut shutdown = Terminal::run(&daemon.ctl(&["shutdown"]), (80, 24));
    shutdown.wait_text(&format!("poold ends after job {held} and 1 more, which run, 1 queued job"));
    shutdown.wait_text("] 0/3");
    fs::write(&gate, "").unwrap();
    assert_eq!((wait.wait(), shutdown.wait()), (3, 0), "{other} {third}");
    wait.wait_text("] 3/3, 1 failed");
}

#[test]
fn who_waits_at_a_terminal_is_told_what_a_queued_job_waits_for() {
    let daemon = Setup::new().workers(1).start();
    let gate = daemon.path_text("gate");
    let first = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    daemon.wait_record(first, "it runs", |record| record.state == State::Running);
    let mut queued = Terminal::run(&daemon.ctl(&["run", "--", "echo", "here it is"]), (120, 24));
    queued.wait_text("job 2 is 1st in line; pool default: 1 of 1 slot is busy (job 1)");
    fs::write(&gate, "").unwrap();
    assert_eq!(queued.wait(), 0);
    queued.wait_text("here it is");
    assert!(!queued.screen().contents().contains("in line"), "{}", queued.screen().contents());
}
