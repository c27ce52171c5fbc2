//! What users see of submitting, blocking and not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use pool_proto::{Record, ResultKind, State};
use pool_tests::{Daemon, Setup, line_of, run, wait_until};
use serde_json::Value;

#[test]
fn a_blocking_submit_is_as_if_run_in_place() {
    let daemon = Daemon::start(1);
    let script = "echo out; echo err >&2; pwd; umask; echo $COLOUR; exit 7";
    let mut in_place = Command::new("sh");
    in_place.args(["-c", script]);
    let mut submitted = daemon.ctl(&["submit", "--wait", "--", "sh", "-c", script]);
    for command in [&mut in_place, &mut submitted] {
        command.current_dir(daemon.dir()).env("COLOUR", "teal");
    }
    assert_eq!(run(&mut submitted), run(&mut in_place));
}

#[test]
fn exit_codes_come_back() {
    let daemon = Daemon::start(2);
    let code = |arguments: &[&str]| daemon.run(&[&["submit", "--wait"], arguments].concat()).code;
    for wanted in [0, 1, 77, 124, 255] {
        assert_eq!(code(&["--", "sh", "-c", &format!("exit {wanted}")]), wanted);
    }
    for signal in [1, 9, 13, 15] {
        assert_eq!(code(&["--", "sh", "-c", &format!("kill -{signal} $$")]), 128 + signal);
    }
    let missing = daemon.run(&["submit", "--wait", "--", "no-such-command"]);
    assert_eq!(missing.code, 127);
    assert!(missing.stderr.contains("no-such-command"), "{missing:?}");
    let line = daemon.run(&["run", "--", "echo a && echo b"]);
    assert!(line.code == 127 && line.stderr.contains("no shell reads a command, so write sh -c"), "{line:?}");
    let file = daemon.path("plain");
    pool_tests::script("#!/bin/sh\n", &file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(code(&["--", file.to_str().unwrap()]), 126);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(code(&["--", file.to_str().unwrap()]), 0);
}

#[test]
fn output_comes_while_the_job_runs() {
    let daemon = Daemon::start(1);
    let go = daemon.path_text("go");
    let script = format!("echo first; echo second >&2; until [ -e {go} ]; do sleep 0.01; done; echo last");
    let mut child = daemon.ctl(&["submit", "--wait", "--", "sh", "-c", &script]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(stdout.next().unwrap().unwrap(), "first");
    assert_eq!(stderr.next().unwrap().unwrap(), "second");
    fs::write(&go, "").unwrap();
    assert_eq!(stdout.next().unwrap().unwrap(), "last");
    assert!(stdout.next().is_none() && stderr.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn standard_input_is_empty_unless_given() {
    let daemon = Daemon::start(1);
    assert_eq!(daemon.ok(&["submit", "--wait", "--", "wc", "-c"]).trim(), "0");

    let mut child = daemon.ctl(&["submit", "--wait", "--stdin", "-", "--", "tr", "a-z", "A-Z"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"HELLO");

    // What was handed over counts, not what becomes of the file later.
    let (file, go) = (daemon.path_text("input"), daemon.path_text("go"));
    fs::write(&file, "before").unwrap();
    let id = daemon.submit(&[
        "--stdin",
        &file,
        "--",
        "sh",
        "-c",
        &format!("until [ -e {go} ]; do sleep 0.01; done; cat"),
    ]);
    fs::write(&file, "after").unwrap();
    fs::write(&go, "").unwrap();
    daemon.ok(&["wait", &id.to_string()]);
    assert_eq!(daemon.ok(&["logs", &id.to_string()]), "before");
    // Nothing is kept of an input that its job has read, nor of one that no job has taken.
    let spooled = daemon.run(&["submit", "--wait", "--pool", "nowhere", "--stdin", &file, "--", "cat"]);
    assert_eq!(spooled.code, 125);
    wait_until("no input is left", || fs::read_dir(daemon.state_dir().join("stdin")).unwrap().count() == 0);
}

#[test]
fn a_job_that_empties_its_output_is_followed_all_the_same() {
    let daemon = Daemon::start(1);
    let go = daemon.path_text("go");
    // As scripts do it: the shell opens the file anew, and empties it.
    let script =
        format!("echo first of all >&2; until [ -e {go} ]; do sleep 0.01; done; echo second >/dev/stderr");
    let mut child =
        daemon.ctl(&["submit", "--wait", "--", "sh", "-c", &script]).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(stderr.next().unwrap().unwrap(), "first of all");
    fs::write(&go, "").unwrap();
    assert_eq!(stderr.next().unwrap().unwrap(), "second");
    assert!(child.wait().unwrap().success());
}

#[test]
fn names_and_commands_cannot_forge_a_listing() {
    let daemon = Daemon::start(1);
    let name = "evil\n99        succeeded   \u{1b}]0;pwn\u{7}";
    daemon.submit(&["--name", name, "--", "true"]);
    let id = daemon.submit(&["--", "true", &"x".repeat(100_000)]).to_string();
    for arguments in [["ls"].as_slice(), &["show", "1"]] {
        let text = daemon.ok(arguments);
        assert!(!text.contains('\u{1b}') && text.contains("evil\\n99"), "{text}");
        assert!(text.len() < 10_000 && text.lines().all(|line| !line.starts_with("99")), "{text}");
    }
    assert!(daemon.ok(&["show", &id]).len() > 100_000, "it is all there for those who want it");
}

#[test]
fn environment_and_variables_of_a_job() {
    let daemon = Daemon::start(1);
    let show = [
        "--",
        "sh",
        "-c",
        "echo $POOL_JOB_ID $POOL_ATTEMPT $POOL_NAME $POOL_SLOT $POOL_SOCKET $POOL_SUBMIT_DIR",
    ];
    let arguments = [&["submit", "--wait", "--name", "build"], show.as_slice()].concat();
    let said = run(daemon.ctl(&arguments).current_dir("/usr"));
    assert_eq!(said.stdout, format!("1 1 build 0 {} /usr\n", daemon.socket().display()));

    // A job can submit through the socket that it finds.
    let nested = format!("{} submit --wait -- echo nested", pool_tests::poolctl().display());
    let two = Daemon::start(2);
    assert_eq!(two.ok(&["submit", "--wait", "--", "sh", "-c", &nested]), "nested\n");

    let clean =
        ["submit", "--wait", "--env-mode", "clean", "--env", "A=1", "--env", "KEPT", "--", "/usr/bin/env"];
    let said = run(daemon.ctl(&clean).env("KEPT", "yes"));
    let variables: Vec<&str> = said.stdout.lines().filter(|line| !line.starts_with("POOL_")).collect();
    assert_eq!(variables, ["A=1", "KEPT=yes"]);
}

#[test]
fn a_timeout_ends_the_whole_tree() {
    let daemon = Daemon::start(1);
    let pids = daemon.path_text("pids");
    let script = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >{pids}; while :; do sleep 1; done' & wait; sleep 600"
    );
    let arguments =
        ["submit", "--wait", "--timeout", "2s", "--kill-after", "100ms", "--", "sh", "-c", &script];
    let said = daemon.run(&arguments);
    assert_eq!(said.code, 124, "{said:?}");
    assert!(!pool_tests::alive(line_of(std::path::Path::new(&pids)).parse().unwrap()));
    let record = daemon.record(1);
    assert_eq!((record.state, record.result), (State::TimedOut, Some(ResultKind::Timeout)));
}

#[test]
fn an_asynchronous_submit_prints_the_id_and_nothing_else() {
    let daemon = Daemon::start(1);
    let said = daemon.run(&["submit", "--async", "--", "true"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "1\n", ""));
    assert_eq!(daemon.run(&["submit", "true"]).stdout, "2\n", "and is the default");
    assert_eq!(daemon.run(&["--json", "submit", "true"]).stdout, "{\"id\":3,\"schema\":1}\n");
}

#[test]
fn many_at_once() {
    let daemon = Daemon::start(2);
    let file = daemon.path_text("jobs");
    let lines: String =
        (0..2500).map(|n| format!("{{\"argv\":[\"sh\",\"-c\",\"exit {}\"]}}\n\n", n % 2)).collect();
    fs::write(&file, lines).unwrap();
    let stdout = daemon.ok(&["submit", "--from", &file, "--name", "bulk"]);
    let ids: Vec<u64> = stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(ids, (1..=2500).collect::<Vec<u64>>());
    assert_eq!(daemon.run(&["wait", "1-2500"]).code, 1);
    let list = |state: &str| daemon.ok(&["ls", "--json", "--state", state]);
    let count = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["jobs"].as_array().unwrap().len()
    };
    assert_eq!((count(&list("succeeded")), count(&list("failed"))), (1250, 1250));
    assert_eq!(daemon.record(1).name, Some("bulk".into()));
}

#[test]
fn wait_for_any_and_for_a_while() {
    let daemon = Daemon::start(2);
    let go = daemon.path_text("go");
    let slow = daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.01; done")).to_string();
    let quick = daemon.submit_sh("exit 3").to_string();
    assert_eq!(daemon.run(&["wait", "--any", &slow, &quick]).code, 3);
    let said = daemon.run(&["wait", "--timeout", "0.1", &slow, &quick]);
    assert_eq!(said.code, 124);
    assert!(said.stderr.contains(&slow), "{said:?}");
    fs::write(&go, "").unwrap();
    let said = daemon.run(&["wait", &slow, &quick]);
    assert_eq!(said.code, 3, "the first that failed");
}

#[test]
fn logs_show_and_follow() {
    let daemon = Daemon::start(1);
    let (go, gone) = (daemon.path_text("go"), daemon.path_text("gone"));
    let wait = |path: &str| format!("until [ -e {path} ]; do sleep 0.01; done");
    daemon.submit_sh(&wait(&go));
    let id = daemon.submit_sh(&format!("echo one; echo two >&2; {}; echo three", wait(&gone))).to_string();
    let not_yet = daemon.run(&["logs", &id]);
    assert_eq!(not_yet.code, 125);
    assert!(not_yet.stderr.contains("has not started"), "{not_yet:?}");

    let mut follower = daemon.ctl(&["logs", "-f", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    fs::write(&go, "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert_eq!(daemon.ok(&["logs", &id, "--stderr"]), "two\n");
    fs::write(&gone, "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "three");
    assert!(lines.next().is_none());
    assert!(follower.wait().unwrap().success());
    assert_eq!(daemon.ok(&["logs", &id]), "one\nthree\n");
}

#[test]
fn the_record_is_as_promised() {
    let daemon = Daemon::start(1);
    let id = daemon
        .submit(&["--name", "n", "--on-failure", "exit 0", "--", "sh", "-c", "echo x; exit 7"])
        .to_string();
    daemon.run(&["wait", &id]);
    daemon.wait_record(1, "delivered", |record| record.callbacks[0].state == "delivered");
    let record: serde_json::Value = serde_json::from_str(&daemon.ok(&["show", &id, "--json"])).unwrap();
    let members: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = [
        "schema",
        "id",
        "state",
        "result",
        "exit_code",
        "signal",
        "reason",
        "pool",
        "slot",
        "name",
        "argv",
        "cwd",
        "attempt",
        "worker_pid",
        "pid",
        "submitted_at",
        "started_at",
        "ended_at",
        "wall_s",
        "usage",
        "stdout",
        "stderr",
        "callbacks",
    ];
    assert!(promised.iter().all(|member| members.contains(member)), "{members:?}");
    assert_eq!(record["schema"], 1);
    assert_eq!(
        (&record["state"], &record["result"], &record["exit_code"]),
        (&"failed".into(), &"exit-code".into(), &7.into())
    );
    assert_eq!(record["signal"], serde_json::Value::Null);
    assert_eq!(record["stdout"]["bytes"], 2);
    assert_eq!(fs::read_to_string(record["stdout"]["path"].as_str().unwrap()).unwrap(), "x\n");
    assert_eq!(record["callbacks"][0]["on"], "failure");
    assert!(record["usage"]["max_rss_bytes"].as_u64().unwrap() > 0);
    assert!(record["submitted_at"].as_str().unwrap().ends_with('Z'));
    let human = daemon.ok(&["show", &id]);
    assert!(human.contains("failed") && human.contains("exit code 7"), "{human}");
}

#[test]
fn cancel_whatever_the_state() {
    let daemon = Daemon::start(1);
    let pid_file = daemon.path_text("pid");
    let running = daemon.submit_sh(&format!("echo $$ >{pid_file}; sleep 600"));
    let queued = daemon.submit_sh("true");
    let pid = line_of(std::path::Path::new(&pid_file)).parse().unwrap();
    daemon.ok(&["cancel", &queued.to_string(), &running.to_string()]);
    assert!(!pool_tests::alive(pid), "dead before cancel returns");
    for id in [running, queued] {
        let record = daemon.record(id);
        assert_eq!((record.state, record.result), (State::Canceled, Some(ResultKind::Canceled)));
    }
    // Again, and for one that has ended by itself: nothing changes.
    let done = daemon.submit_sh("exit 4");
    daemon.run(&["wait", &done.to_string()]);
    daemon.ok(&["cancel", &running.to_string(), &done.to_string()]);
    assert_eq!(daemon.record(done).exit_code, Some(4));
}

#[test]
fn the_pool_and_the_queue_are_visible() {
    let daemon = Daemon::start(2);
    let go = daemon.path_text("go");
    let ids: Vec<u64> =
        (0..5).map(|_| daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.01; done"))).collect();
    daemon.wait_record(ids[1], "runs", |record| record.state == State::Running);
    let pools: serde_json::Value = serde_json::from_str(&daemon.ok(&["pool", "ls", "--json"])).unwrap();
    let pool = &pools["pools"][0];
    assert_eq!(
        (&pool["name"], &pool["workers"], &pool["queued"], &pool["running"]),
        (&"default".into(), &2.into(), &3.into(), &2.into())
    );
    assert_eq!(pool["slots"][1]["state"], "busy");
    assert_eq!(pool["slots"][1]["job"], ids[1]);
    let table = daemon.ok(&["ls"]);
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.lines().next().unwrap().starts_with("ID"), "{table}");
    fs::write(&go, "").unwrap();
    daemon.ok(&["wait", "1-5"]);
}

#[test]
fn pools_have_their_own_slots_and_defaults() {
    let config = "[pool.narrow]\nworkers = 1\ntimeout = \"300ms\"\nkill_after = \"100ms\"\n";
    let daemon = Setup::new().workers(1).config(config).start();
    assert_eq!(daemon.run(&["submit", "--wait", "--pool", "narrow", "--", "sleep", "600"]).code, 124);
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sleep", "0.5"]).code, 0);
    let records: Vec<Record> = (1..=2).map(|id| daemon.record(id)).collect();
    assert_eq!((records[0].pool.as_str(), records[1].pool.as_str()), ("narrow", "default"));
    assert_ne!(records[0].worker_pid, records[1].worker_pid);
}

#[test]
fn state_and_socket_are_for_their_owner_only() {
    let daemon = Daemon::start(1);
    daemon.ok(&["submit", "--wait", "--", "echo", "secret"]);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
    let state = daemon.state_dir();
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&daemon.socket()), 0o600);
    assert_eq!(mode(&state.join("poold.db")), 0o600);
    assert_eq!(mode(&state.join("output/0/1.1.out")), 0o600);
}

#[test]
fn input_that_a_job_does_not_get_is_said() {
    let daemon = Daemon::start(1);
    let file = daemon.path("input");
    fs::write(&file, "x\n").unwrap();
    let said = |arguments: &[&str], stdin: Stdio| {
        let output = daemon.ctl(arguments).stdin(stdin).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let piped = || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x\n").unwrap();
        Stdio::from(reader)
    };

    for verb in ["run", "submit"] {
        for stdin in [piped(), fs::File::open(&file).unwrap().into()] {
            assert!(said(&[verb, "cat"], stdin).contains("write --stdin -"), "{verb}");
        }
        assert_eq!(said(&[verb, "--stdin", "-", "cat"], fs::File::open(&file).unwrap().into()), "");
        assert_eq!(said(&[verb, "cat"], Stdio::null()), "");
    }
}

#[test]
fn a_wait_without_time_looks_which_jobs_have_ended() {
    let daemon = Daemon::start(2);
    let [good, bad] = ["exit 0", "exit 3"].map(|script| daemon.submit_sh(script).to_string());
    daemon.run(&["wait", &good, &bad]);
    let running = daemon.submit_sh("exec sleep 600").to_string();
    let look = |ids: &[&str]| daemon.run(&[&["wait", "--timeout", "0"], ids].concat());
    assert_eq!(look(&[&good]).code, 0);
    assert_eq!((look(&[&good, &bad]).code, look(&["1-2"]).code), (3, 3));
    let said = look(&[&good, &running]);
    assert!(
        said.code == 124 && said.stderr.contains(&format!("1 of 2 jobs have not ended, first {running}")),
        "{said:?}"
    );
    assert_eq!(look(&["--any", &running, &bad]).code, 3);
    assert_eq!(look(&["--any", &running]).code, 124);
    let said = look(&[&good, "99"]);
    assert!(said.code == 125 && said.stderr.contains("there is no job 99"), "{said:?}");
    let said = daemon.run(&["--json", "wait", "--timeout", "0", &good, &running]);
    let lines: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["id"], &lines[1]["ids"][0]), (&1.into(), &3.into()), "{said:?}");
}
