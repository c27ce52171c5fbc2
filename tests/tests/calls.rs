//! What users see of warm pools: calls to resident programs, and what becomes of them when a program goes
//! wrong.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use pool_proto::methods::{AddPool, Pools, Submit, SubmitMany};
use pool_proto::nouns::{Brief, Job, Slot, SlotState};
use pool_proto::{Json, State};
use pool_tests::{Daemon, MARK, Said, Setup, alive, run, send, skip, wait_for, wait_until};
use serde_json::json;

/// A program that comes with the tests.
fn program(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name).to_str().expect("UTF-8").to_owned()
}

/// A daemon with a warm pool "p" of so many workers, and more of its configuration.
fn warm(workers: u32, command: &[&str], more: &str) -> Daemon {
    let command = serde_json::to_string(command).unwrap();
    let setup = Setup::new();
    let env =
        format!("{{ {MARK} = {:?}, PATH = {:?} }}", setup.mark(), std::env::var("PATH").unwrap_or_default());
    setup.config(&format!("[pool.p]\nworkers = {workers}\ncommand = {command}\nenv = {env}\n{more}")).start()
}

fn wicked(workers: u32, more: &str) -> Daemon {
    warm(workers, &["python3", &program("wicked.py")], more)
}

fn slots(daemon: &Daemon, pool: &str) -> Vec<Slot> {
    let pools = daemon.client().request(&Pools {}).expect("pools are told").pools;
    pools.into_iter().find(|other| other.name == pool).map(|pool| pool.slots).unwrap_or_default()
}

fn program_pid(daemon: &Daemon) -> i32 {
    wait_for("a program that is ready", || {
        slots(daemon, "p")
            .first()
            .filter(|slot| matches!(slot.state, SlotState::Idle | SlotState::Busy))?
            .program_pid
    })
}

/// A call to "p".
fn call(daemon: &Daemon, arguments: &[&str]) -> Said {
    daemon.run(&[&["call", "p"], arguments].concat())
}

fn value(daemon: &Daemon, arguments: &[&str]) -> String {
    let said = call(daemon, arguments);
    // On a slow machine a program may take so long that poolctl says what it waits for.
    let is_quiet =
        said.stderr.lines().all(|line| line.starts_with("poolctl: job ") && line.contains(" waits: "));
    assert!(said.code == 0 && is_quiet, "{arguments:?}: {said:?}\n{}", daemon.log());
    said.stdout.trim_end().to_owned()
}

#[test]
fn functions_in_python_node_and_the_shell_are_called() {
    let programs = [("python3", "square.py"), ("node", "square.js"), ("sh", "square.sh")];
    for (interpreter, name) in programs {
        if Command::new(interpreter).arg("-c").arg("").stdin(Stdio::null()).output().is_err() {
            skip(&format!("there is no {interpreter} for {name}"));
            continue;
        }
        let daemon = warm(2, &[interpreter, &program(name)], "");
        assert_eq!(value(&daemon, &["square", "7"]), "49", "{name}");
        assert_eq!(value(&daemon, &["--wait", "square", "-3"]), "9", "{name}");
        let said = call(&daemon, &["cube", "7"]);
        assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{name}");
        assert!(said.stderr.starts_with("poolctl: job 3: ") && said.stderr.contains("(error "), "{said:?}");
    }
}

#[test]
fn parameters_are_named_or_not_and_values_come_back_as_they_are() {
    let daemon = wicked(1, "");
    assert_eq!(
        value(&daemon, &["echo", "7", "a b", "{\"n\": [1.50]}", "null"]),
        r#"[7, "a b", {"n": [1.5]}, null]"#
    );
    assert_eq!(value(&daemon, &["--params", "{\"n\":\n7}", "echo"]), r#"{"n": 7}"#);
    assert_eq!(value(&daemon, &["nothing"]), "null");
    let big = "x".repeat(3_000_000);
    let mut client = daemon.client();
    let job =
        Job { method: Some("echo".into()), params: Json::parse(&format!("[{big:?}]")).ok(), ..in_pool() };
    client.send(&SubmitMany { jobs: vec![job], defaults: None, obstacles: None }, true).unwrap();
    let (accepted, more) = client.receive::<SubmitMany>().unwrap();
    assert_eq!((accepted.ids.len(), more), (1, true));
    let (told, more) = client.receive::<SubmitMany>().unwrap();
    assert_eq!((told.results[0].value.as_ref().unwrap().get().len(), more), (big.len() + 4, false));
    for (params, wanted) in [("7", "array or an object"), ("{", "no JSON")] {
        let said = call(&daemon, &["--params", params, "echo"]);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains(wanted), "{said:?}");
    }
}

fn in_pool() -> Job {
    Job { pool: Some("p".into()), ..Job::default() }
}

#[test]
fn a_call_is_a_job_like_any_other() {
    let daemon = warm(1, &["python3", &program("square.py")], "");
    let done = daemon.path_text("done");
    let told =
        format!("cat >{done}.new; mv {done}.new {done}; echo $POOL_RESULT $POOL_EXIT_CODE >{done}.env");
    let id = daemon.ok(&["call", "--async", "--name", "n", "--on-done", &told, "p", "square", "7"]);
    assert_eq!(daemon.run(&["wait", id.trim_end()]).code, 0);
    wait_until("the callback", || daemon.path("done").exists() && daemon.path("done.env").exists());
    let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(&done).unwrap()).unwrap();
    let wanted = json!({ "method": "square", "params": [7], "value": 49, "error": null, "argv": null, "exit_code": 0, "pool": "p" });
    for (member, wanted) in wanted.as_object().unwrap() {
        assert_eq!(&record[member], wanted, "{member}");
    }
    wait_until("its variables", || {
        fs::read_to_string(daemon.path("done.env")).is_ok_and(|text| text == "success 0\n")
    });
    assert!(daemon.ok(&["show", "1"]).contains("call       square [7]"), "{}", daemon.ok(&["show", "1"]));
    let failed = daemon.ok(&["call", "--async", "p", "square"]);
    assert_eq!(daemon.run(&["wait", failed.trim_end()]).code, 1);
    assert!(
        daemon.ok(&["ls"]).contains("square [7]") || daemon.ok(&["ls"]).contains(" n\n"),
        "{}",
        daemon.ok(&["ls"])
    );
}

#[test]
fn progress_reaches_those_who_look_and_those_who_wait() {
    let daemon = warm(1, &["python3", &program("square.py")], "");
    let mut client = daemon.client();
    let job = Job {
        method: Some("slow_square".into()),
        params: Json::parse("{\"n\":3,\"seconds\":0.4}").ok(),
        ..in_pool()
    };
    client.send(&Submit { job, on_disconnect: None, obstacles: None }, true).unwrap();
    let mut fractions = Vec::new();
    loop {
        let (told, more) = client.receive::<Submit>().unwrap();
        if let Some(progress) = told.progress {
            assert_eq!(told.id, 1);
            // It may end before somebody looks.
            daemon.wait_record(1, "its progress, or its end", |record| {
                record.progress.is_some() || record.state.is_terminal()
            });
            fractions.push(progress.fraction.unwrap());
        }
        if !more {
            assert_eq!(told.record.unwrap().value.unwrap().get(), "9");
            break;
        }
    }
    assert_eq!(fractions, [0.25, 0.5, 0.75, 1.0]);
}

#[test]
fn a_failed_call_at_a_terminal_points_to_show() {
    let daemon = warm(1, &["python3", &program("square.py")], "");
    let said = run(&mut daemon.ctl_at_terminal(&["call", "p", "square"]));
    assert!(said.code == 1 && said.stdout.contains("`poolctl show 1` tells more"), "{said:?}");
    let said = call(&daemon, &["square"]);
    assert!(said.code == 1 && !said.stderr.contains("tells more"), "{said:?}");
}

/// A program whose calls each tell a text with their progress, and last until there is a file of that name.
const HALF_DONE: &str = r#"
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    path, text = request["params"]
    told = {"method": "progress", "params": {"fraction": 0.5, "text": text}}
    print(json.dumps({"jsonrpc": "2.0", **told}), flush=True)
    while not os.path.exists(path):
        time.sleep(0.01)
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": None}), flush=True)
"#;

/// Two calls that are half done, until there is the file that is returned.
fn half_done() -> (Daemon, String) {
    let daemon = warm(2, &["python3", "-c", HALF_DONE], "");
    let gate = daemon.path_text("gate");
    for (id, text) in [(1, "one"), (2, "two")] {
        daemon.ok(&["call", "--async", "p", "wait", &gate, text]);
        daemon.wait_record(id, "its progress", |record| record.progress.is_some());
    }
    (daemon, gate)
}

/// What comes from a terminal, until it holds all of these.
fn read_until(terminal: &mut impl Read, wanted: &[&str]) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !wanted.iter().all(|wanted| text.contains(wanted)) {
        let count = terminal.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{text:?} is all");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

#[test]
fn who_waits_at_a_terminal_sees_how_far_calls_have_come() {
    let (daemon, gate) = half_done();
    // They begin to wait when all has been told.
    let waits: [(&[&str], &[&str], i32); 3] = [
        (&["wait", "1"], &["50 %  one"], 0),
        (&["wait", "1-2"], &["job 1: 50 %  one", "job 2: 50 %  two"], 0),
        (&["wait", "--timeout", "0.01", "2"], &["the time is up: job 2 has not ended"], 124),
    ];
    let mut waiting: Vec<Child> = Vec::new();
    for (arguments, wanted, _) in &waits {
        let mut child = daemon.ctl_at_terminal(arguments).stdout(Stdio::piped()).spawn().unwrap();
        read_until(child.stdout.as_mut().unwrap(), wanted);
        waiting.push(child);
    }
    fs::write(&gate, "").unwrap();
    for (child, (arguments, _, code)) in waiting.iter_mut().zip(&waits) {
        assert_eq!(child.wait().unwrap().code(), Some(*code), "{arguments:?}");
    }
    let third = daemon.path_text("third");
    let call = ["call", "p", "wait", &third, "three"];
    let mut child = daemon.ctl_at_terminal(&call).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    read_until(&mut stdout, &["50 %  three"]);
    fs::write(&third, "").unwrap();
    let told = std::io::read_to_string(stdout).unwrap();
    assert!(child.wait().unwrap().success() && told.ends_with("null\r\n"), "{told}");
}

#[test]
fn progress_is_for_people() {
    let (daemon, gate) = half_done();
    // The end of the first comes together with the progress of the second.
    daemon.ok(&["cancel", "1"]);
    let mut at_terminal =
        daemon.ctl_at_terminal(&["--json", "wait", "1-2"]).stdout(Stdio::piped()).spawn().unwrap();
    let begun = read_until(at_terminal.stdout.as_mut().unwrap(), &["\"canceled\"", "\n"]);
    let mut elsewhere = daemon.ctl(&["wait", "1-2"]);
    let elsewhere = elsewhere.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fs::write(&gate, "").unwrap();
    let mut text = begun;
    at_terminal.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.iter().map(|record| record["id"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let said = elsewhere.wait_with_output().unwrap();
    assert_eq!(
        (said.stdout.as_slice(), String::from_utf8_lossy(&said.stderr).lines().count()),
        (&[][..], 1),
        "{said:?}"
    );
    assert!(!at_terminal.wait().unwrap().success());
}

#[test]
fn a_call_in_memory_needs_an_id_from_the_disk_and_nothing_else() {
    let daemon = warm(1, &["python3", &program("square.py")], "durability = \"none\"\n");
    let elsewhere = daemon.path("elsewhere");
    program_pid(&daemon);
    fs::rename(daemon.state_dir(), &elsewhere).unwrap();
    let said = call(&daemon, &["square", "7"]);
    assert!(said.code == 125 && said.stderr.contains("nothing was accepted"), "{said:?}");
    fs::rename(&elsewhere, daemon.state_dir()).unwrap();
    wait_until("the store is written again", || call(&daemon, &["square", "7"]).code == 0);
    // There are ids for thousands of calls now.
    fs::rename(daemon.state_dir(), &elsewhere).unwrap();
    assert_eq!(value(&daemon, &["square", "8"]), "64");
    fs::rename(&elsewhere, daemon.state_dir()).unwrap();
}

/// A program that reads a call only once there is a file of that name, and then returns its parameters.
const SLOW_READER: &str = r#"
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
for line in sys.stdin.buffer:
    id = line.split(b'"id":')[1].split(b",")[0]
    params = line.split(b'"params":', 1)[1][:-2]
    sys.stdout.buffer.write(b'{"id":' + id + b',"result":' + params + b"}\n")
    sys.stdout.buffer.flush()
"#;

#[test]
fn fifteen_mebibytes_there_and_back_hold_up_nobody() {
    let gate = tempfile::tempdir().unwrap();
    let gate = gate.path().join("gate");
    let square = format!("[pool.q]\nworkers = 1\ncommand = [\"python3\", {:?}]\n", program("square.py"));
    let daemon = warm(1, &["python3", "-c", SLOW_READER, gate.to_str().unwrap()], &square);
    let mut client = daemon.client();
    let text = "0123456789abcde".repeat(1 << 20);
    let params = Json::parse(&format!("[\"{text}\"]")).ok();
    client
        .send(
            &Submit {
                job: Job { method: Some("echo".into()), params, ..in_pool() },
                on_disconnect: None,
                obstacles: None,
            },
            true,
        )
        .unwrap();
    // The pipe takes a small part of it.
    wait_until("its start", || slots(&daemon, "p")[0].state == SlotState::Busy);
    assert_eq!(daemon.ok(&["call", "q", "square", "7"]), "49\n");
    fs::write(&gate, "").unwrap();
    client.receive::<Submit>().expect("it is accepted");
    let (told, more) = client.receive::<Submit>().unwrap();
    let value = told.record.unwrap().value.unwrap();
    assert!(!more && value.get() == format!("[\"{text}\"]"), "{} bytes", value.get().len());
}

#[test]
fn the_same_few_programs_serve_every_call() {
    let daemon = wicked(2, "");
    let pids: std::collections::BTreeSet<String> = (0..20).map(|_| value(&daemon, &["pid"])).collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    let calls: u64 = slots(&daemon, "p").iter().filter_map(|slot| slot.calls).sum();
    assert_eq!(calls, 20);
}

#[test]
fn a_breach_of_the_protocol_is_named_with_the_line_and_the_pool_lives() {
    let daemon = wicked(1, "");
    let cases = [
        ("rubbish", "no JSON-RPC message", "\"hello\""),
        ("wrong_id", "a call that it does not have", "123456"),
        ("neither", "neither a result nor an error", "{"),
    ];
    for (method, what, line) in cases {
        let before = program_pid(&daemon);
        let said = call(&daemon, &[method]);
        assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{method}: {said:?}");
        assert!(said.stderr.contains(what) && said.stderr.contains(line), "{method}: {said:?}");
        assert_ne!(value(&daemon, &["pid"]), before.to_string(), "{method}: a fresh program");
        wait_until("the end of the old one", || !alive(before));
    }
    assert_eq!(value(&daemon, &["twice"]), "null", "it was answered");
    assert_eq!(value(&daemon, &["echo", "1"]), "[1]", "and the next one is not at fault");
    assert!(daemon.log().contains("for a second time"), "{}", daemon.log());
}

#[test]
fn a_timeout_or_a_cancel_costs_one_program_with_all_that_it_has_started() {
    let daemon = wicked(2, "kill_after = \"200ms\"\n");
    for method in ["hang", "deaf", "breed"] {
        let said = call(&daemon, &["--timeout", "300ms", method]);
        assert_eq!(said.code, 124, "{method}: {said:?}");
        assert!(said.stderr.contains("timed out"), "{said:?}");
    }
    let id = daemon.ok(&["call", "--async", "p", "breed"]);
    let id = id.trim_end();
    daemon.wait_record(id.parse().unwrap(), "runs", |record| record.state == State::Running);
    daemon.ok(&["cancel", id]);
    assert_eq!(daemon.record(id.parse().unwrap()).state, State::Canceled);
    assert_eq!(value(&daemon, &["echo"]), "[]", "the pool serves on");
    // Guardian, supervisor, workers of three lanes, two programs: nothing that they had bred.
    wait_until("two programs and nothing else", || {
        let names = daemon
            .owned_processes()
            .into_iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        names.filter(|name| name.starts_with("python")).count() == 2
    });
}

#[test]
fn a_crash_costs_the_call_in_flight_and_is_retried_by_its_policy() {
    let daemon = wicked(1, "");
    value(&daemon, &["echo"]);
    let marker = daemon.path_text("crashed");
    assert_eq!(value(&daemon, &["crash_once", &marker]), "null");
    let record = daemon.record(2);
    assert_eq!((record.attempt, record.crashes, record.state), (2, 1, State::Succeeded));
    let said = call(&daemon, &["--on-crash", "fail", "crash"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(
        said.stderr.contains("killed by signal 11") && said.stderr.contains("Segmentation fault, or so"),
        "{said:?}"
    );
    let said = call(&daemon, &["--on-crash", "fail", "leave", "0"]);
    assert!(said.stderr.contains("ended with code 0"), "{said:?}");
    assert_eq!(value(&daemon, &["echo"]), "[]");
}

#[test]
fn what_a_program_writes_to_its_standard_error_belongs_to_the_call() {
    let daemon = wicked(1, "");
    value(&daemon, &["complain"]);
    value(&daemon, &["echo"]);
    let record = daemon.record(1);
    let file = record.stderr.expect("there is some");
    assert_eq!(
        (fs::read_to_string(file.path.to_path()).unwrap().as_str(), file.bytes),
        ("a complaint\n", Some(12))
    );
    assert_eq!(daemon.ok(&["logs", "--stderr", "1"]), "a complaint\n");
    assert_eq!(daemon.record(2).stderr, None);
}

#[test]
fn of_what_a_program_writes_at_length_the_end_is_kept_and_the_rest_takes_no_room() {
    let daemon = wicked(1, "");
    let pid = value(&daemon, &["complain_at_length"]);
    let kept = daemon.ok(&["logs", "--stderr", "1"]);
    assert!(kept.len() == 1 << 20 && kept.ends_with("a long complaint\n"), "{} bytes", kept.len());
    let log = fs::metadata(format!("/proc/{pid}/fd/2")).expect("the program lives");
    assert_eq!(log.len(), 0);
}

#[test]
fn what_a_program_writes_between_calls_is_bounded_and_told() {
    let daemon = wicked(1, "");
    let pid = value(&daemon, &["grumble"]);
    let log = || fs::metadata(format!("/proc/{pid}/fd/2")).expect("the program lives");
    // Far more than it may keep: without a bound it would be on the disk by now.
    wait_until("it has written much", || log().len() > 600 << 20);
    let most = (0..200).map(|_| log().blocks() * 512).max().unwrap();
    assert!(most < 300 << 20, "{most} bytes are on the disk");

    let is_told = |line: &str| line.contains("writes much to its standard error");
    assert!(daemon.log().lines().any(is_told), "{}", daemon.log());
    let told = daemon.run(&["doctor"]).stdout;
    assert!(told.lines().any(is_told), "{told}");

    // What belongs to a call is found where it is.
    assert_eq!(value(&daemon, &["hush"]), "null");
    value(&daemon, &["complain"]);
    assert_eq!(daemon.ok(&["logs", "--stderr", "3"]), "a complaint\n");
}

#[test]
fn the_log_of_a_call_in_memory_alone_is_said_to_be_missing() {
    let daemon = wicked(1, "durability = \"none\"\n");
    value(&daemon, &["complain"]);
    let said = daemon.run(&["logs", "--stderr", "1"]);
    assert_eq!((said.code, said.stdout.as_str()), (125, ""), "{said:?}");
    assert!(said.stderr.contains("kept in memory alone"), "{said:?}");
}

#[test]
fn a_program_that_closes_its_output_is_replaced() {
    let daemon = wicked(1, "");
    value(&daemon, &["echo"]);
    let said = call(&daemon, &["silence"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("closed its standard output"), "{said:?}");
    assert_eq!(daemon.record(2).attempt, 1, "it is not repeated");
    assert_eq!(value(&daemon, &["echo"]), "[]");
}

#[test]
fn a_program_that_closes_its_input_is_replaced() {
    let daemon = wicked(1, "");
    for call in [&["last_call"][..], &["last_call", "unread"]] {
        value(&daemon, call);
        assert_eq!(value(&daemon, &["--timeout", "60s", "echo"]), "[]", "after {call:?}");
    }
    assert!(daemon.log().contains("closed its standard input"), "{}", daemon.log());
}

#[test]
fn a_program_that_cannot_start_says_why_and_its_calls_wait() {
    let daemon = Daemon::start(1);
    let script = daemon.path_text("program");
    let patient = ["--start-attempts", "1000", "--"];
    daemon.ok(&[&["pool", "add", "p"], &patient[..], &["python3", &script]].concat());
    daemon.ok(&[&["pool", "add", "missing"], &patient[..], &["/no/such/program"]].concat());
    let reason = |pool: &'static str| {
        wait_for("a reason", || {
            slots(&daemon, pool).first().filter(|slot| slot.state == SlotState::BackingOff)?.reason.clone()
        })
    };
    assert!(
        reason("missing").contains("cannot execute \"/no/such/program\": No such file"),
        "{}",
        reason("missing")
    );
    let told = reason("p");
    assert!(told.contains("can't open file") && told.contains("ended with code 2"), "{told}");
    wait_until("failed", || slots(&daemon, "missing")[0].state == SlotState::Failed);
    let mut waits = daemon.ctl(&["call", "missing", "m"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(waits.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("poolctl: job 1 waits") && line.contains("/no/such/program"), "{line}");
    send(waits.id() as i32, Signal::SIGINT);
    line.clear();
    stderr.read_to_string(&mut line).unwrap();
    assert_eq!(
        (waits.wait().unwrap().code(), line.as_str()),
        (Some(125), "poolctl: job 1 was canceled before it had started\n")
    );
    fs::copy(program("square.py"), &script).unwrap();
    let said = call(&daemon, &["square", "4"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "16\n"), "once it can, it does: {said:?}");
    // At the moment when it is tried anew, there is no reason.
    wait_until("pool ls says why", || daemon.ok(&["pool", "ls"]).contains("/no/such/program"));
}

#[test]
fn the_calls_of_a_program_that_cannot_start_fail_with_its_last_words() {
    let script = "print('no such model', file=__import__('sys').stderr); raise SystemExit(3)";
    let daemon = warm(1, &["python3", "-c", script], "start_attempts = 3\n");
    let said = call(&daemon, &["m"]);
    assert_eq!((said.code, said.stdout.as_str()), (125, ""), "{said:?}");
    for part in ["cannot be started", "ended with code 3", "no such model"] {
        assert!(said.stderr.contains(part), "{part} in {said:?}");
    }
    let record = daemon.record(1);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Failed, 0, 0));
}

#[test]
fn whose_fault_a_death_was_is_a_fact() {
    let daemon = wicked(1, "");
    // The first call that its program has ever had, and the next ones, which it has read.
    let said = call(&daemon, &["crash"]);
    assert_eq!(said.code, 125, "{said:?}");
    let record = daemon.record(1);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Lost, 3, 3));
    assert_eq!(value(&daemon, &["echo"]), "[]");
    assert_eq!((daemon.record(2).attempt, daemon.record(2).crashes), (1, 0));
}

#[test]
fn an_answer_without_its_final_newline_is_an_answer() {
    let script = "import json, sys\n\
                  request = json.loads(sys.stdin.readline())\n\
                  text = request['params'][0] if request['method'] == 'say' else '{\"id\": %d, \"result\": 7}' % request['id']\n\
                  sys.stdout.write(text)\n";
    let daemon = warm(1, &["python3", "-c", script], "");
    assert_eq!(value(&daemon, &["answer"]), "7");
    assert_eq!(daemon.record(1).attempt, 1);
    let said = call(&daemon, &["--on-crash", "fail", "say", "\"half a li\""]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("its last line has no end: \"half a li\""), "{said:?}");
}

#[test]
fn a_worn_program_is_replaced_with_the_replacement_started_first() {
    let daemon = wicked(1, "max_calls = 5\n");
    let pids: Vec<String> = (0..30).map(|_| value(&daemon, &["pid"])).collect();
    let mut distinct = pids.clone();
    distinct.dedup();
    let mut unique = distinct.clone();
    unique.sort();
    unique.dedup();
    assert!(distinct.len() >= 2, "{pids:?}");
    assert_eq!(unique.len(), distinct.len(), "none comes back: {pids:?}");
    assert!(!daemon.log().contains("a worker is killed"), "in good order");
    let daemon = wicked(1, "max_rss_bytes = 1\n");
    let first = value(&daemon, &["pid"]);
    wait_until("another one", || value(&daemon, &["pid"]) != first);
    // What a program has started counts, too: a shell that waits for the program proper, say.
    let size = 200 << 20;
    let daemon = wicked(1, &format!("max_rss_bytes = {size}\n"));
    let first = value(&daemon, &["pid"]);
    assert_eq!(value(&daemon, &["feed_a_helper", &(size / 2).to_string()]), "null");
    assert_eq!(value(&daemon, &["pid"]), first, "it is small enough");
    assert_eq!(value(&daemon, &["feed_a_helper", &size.to_string()]), "null");
    wait_until("another one", || value(&daemon, &["pid"]) != first);
    let daemon = wicked(1, "max_age = \"100ms\"\n");
    let first = program_pid(&daemon);
    wait_until("another one", || program_pid(&daemon) != first);
}

/// A program that returns this version; its method "wait" first makes a file and waits for another.
fn versioned(version: u32) -> String {
    format!(
        "import json, os, sys, time\n\
         print('{{\"method\": \"ready\"}}', flush=True)\n\
         for line in sys.stdin:\n\
         \x20   call = json.loads(line)\n\
         \x20   if call['method'] == 'wait':\n\
         \x20       open(call['params'][0], 'w').close()\n\
         \x20       while not os.path.exists(call['params'][1]): time.sleep(0.01)\n\
         \x20   print(json.dumps({{'id': call['id'], 'result': {version}}}), flush=True)\n"
    )
}

#[test]
fn programs_that_were_edited_are_restarted_with_no_call_lost() {
    edit_and_restart("notify");
}

/// A program that does not say when it is ready is taken for good when it has stayed up for a second.
#[test]
fn so_are_programs_that_do_not_say_when_they_are_ready() {
    edit_and_restart("started");
}

fn edit_and_restart(ready: &str) {
    let daemon = Daemon::start(1);
    let [program, begun, go] = ["program.py", "begun", "go"].map(|name| daemon.path_text(name));
    fs::write(&program, versioned(1)).unwrap();
    daemon.ok(&["pool", "add", "--workers", "2", "--ready", ready, "p", "--", "python3", &program]);
    let slow = daemon.ok(&["call", "--async", "p", "wait", &begun, &go]);
    let slow = slow.trim_end();
    wait_until("the slow call", || daemon.path("begun").exists());

    fs::write(&program, versioned(2)).unwrap();
    let mut restart = daemon.ctl(&["pool", "restart", "p"]);
    let mut restart = restart.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a new program", || value(&daemon, &["version"]) == "2");
    assert!(restart.try_wait().unwrap().is_none(), "one program still has its call");
    fs::write(&go, "").unwrap();
    let restarted = restart.wait_with_output().unwrap();
    let told = String::from_utf8(restarted.stderr).unwrap();
    assert_eq!(restarted.status.code(), Some(0), "{told}");
    // On a busy machine a call of this test's may have run in the other old program at that moment.
    assert!(told.contains(&format!("job {slow} ")) && told.contains(" old program"), "{told}");
    daemon.ok(&["wait", slow]);
    assert_eq!(daemon.record(slow.parse().unwrap()).value, Json::parse("1").ok());
    for _ in 0..4 {
        assert_eq!(value(&daemon, &["version"]), "2", "both are new");
    }

    fs::write(&program, "import sys; sys.exit('there is no module x')").unwrap();
    let said = daemon.run(&["pool", "restart", "p"]);
    assert!(said.code == 125 && said.stderr.contains("there is no module x"), "{said:?}");
    assert_eq!(value(&daemon, &["version"]), "2", "the old ones go on");
    fs::write(&program, versioned(3)).unwrap();
    daemon.ok(&["pool", "restart", "p"]);
    assert_eq!(value(&daemon, &["version"]), "3");

    for (pool, wanted) in [("default", "has no resident program"), ("none", "no pool \"none\"")] {
        let said = daemon.run(&["pool", "restart", pool]);
        assert!(said.code == 125 && said.stderr.contains(wanted), "{said:?}");
    }
}

#[test]
fn a_changed_configuration_restarts_the_programs_that_it_concerns() {
    let echo = "import json, os, sys\n\
                for line in sys.stdin: print(json.dumps({'id': json.loads(line)['id'], 'result': \
                [os.environ['COLOUR'], os.getcwd(), os.getpid()]}), flush=True)";
    let setup = Setup::new();
    let config = |colour: &str, cwd: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        let env =
            |more: &str| format!("{{ {MARK} = {:?}, PATH = {path:?}, COLOUR = {more:?} }}", setup.mark());
        let pool = |name: &str, colour: &str, cwd: &str| {
            format!(
                "[pool.{name}]\nworkers = 1\ncommand = [\"python3\", \"-c\", {echo:?}]\nenv = {}\ncwd = {cwd:?}\n",
                env(colour)
            )
        };
        pool("p", colour, cwd) + &pool("q", "grey", "/")
    };
    let configs = [config("red", "/"), config("green", "/"), config("green", "/tmp")];
    let daemon = setup.config(&configs[0]).start();
    let other = daemon.ok(&["call", "q", "m"]);
    assert!(value(&daemon, &["m"]).starts_with("[\"red\", \"/\""));
    for (config, wanted) in configs[1..].iter().zip(["[\"green\", \"/\"", "[\"green\", \"/tmp\""]) {
        fs::write(daemon.path("config.toml"), config).unwrap();
        daemon.signal(Signal::SIGHUP);
        wait_until("the new program", || value(&daemon, &["m"]).starts_with(wanted));
    }
    assert_eq!(daemon.ok(&["call", "q", "m"]), other, "the same process");
}

#[test]
fn a_program_that_is_to_say_so_gets_no_call_before() {
    let script = "import sys, time; time.sleep(0.3); print('{\"method\":\"ready\"}', flush=True)\n\
                  for line in sys.stdin: print('{\"id\":%s,\"result\":1}' % line.split('\"id\":')[1].split(',')[0], flush=True)";
    let daemon = warm(1, &["python3", "-c", script], "ready = \"notify\"\n");
    assert_eq!(slots(&daemon, "p")[0].state, SlotState::Starting);
    assert_eq!(value(&daemon, &["m"]), "1");
    let daemon = warm(1, &["sleep", "1000"], "ready = \"notify\"\nstart_timeout = \"100ms\"\n");
    wait_until("a reason", || {
        slots(&daemon, "p")[0].reason.as_ref().is_some_and(|reason| reason.contains("not ready within 0.1 s"))
    });
}

#[test]
fn pools_are_added_for_good_and_removed() {
    let mut daemon = Daemon::start(1);
    let square = program("square.py");
    let add: &[&str] = &["pool", "add", "p", "--workers", "2", "--", "python3", &square];
    daemon.ok(add);
    daemon.ok(add);
    let other = daemon.run(&["pool", "add", "p", "--", "cat"]);
    assert_eq!(other.code, 125);
    assert!(other.stderr.contains("exists already"), "{other:?}");
    for name in ["default", "a b"] {
        assert_eq!(daemon.run(&["pool", "add", name, "--", "cat"]).code, 125);
    }
    assert_eq!(value(&daemon, &["square", "3"]), "9");
    send(daemon.guardian(), Signal::SIGKILL);
    daemon.wait();
    wait_until("the end of all", || daemon.processes().is_empty());
    daemon.restart();
    assert_eq!(value(&daemon, &["square", "5"]), "25");
    daemon.ok(&["pool", "rm", "p"]);
    wait_until("its slots to go", || slots(&daemon, "p").is_empty());
    let nowhere = call(&daemon, &["square", "5"]);
    assert!(nowhere.code == 125 && nowhere.stderr.contains("no pool \"p\""), "{nowhere:?}");
    let queued = daemon.run(&["pool", "rm", "p"]);
    assert_eq!(queued.code, 125);
    assert!(queued.stderr.contains("no pool \"p\""), "{queued:?}");
    daemon.ok(add);
    assert_eq!(value(&daemon, &["square", "6"]), "36");
}

#[test]
fn bad_input_changes_nothing() {
    let daemon = wicked(1, "");
    for (arguments, wanted) in [
        (&["submit", "--pool", "p", "--", "true"][..], "runs no commands"),
        (&["call", "default", "m"][..], "no resident program"),
        (&["call", "nowhere", "m"][..], "no pool \"nowhere\""),
        (&["call", "p", ""][..], "1 to 512 bytes"),
        (&["call", "--async", "--tie", "client", "p", "m"][..], "without --async"),
    ] {
        let said = daemon.run(arguments);
        assert!(said.code == 125 || said.code == 2, "{said:?}");
        assert!(said.stderr.contains(wanted), "{arguments:?}: {said:?}");
    }
    let mut client = daemon.client();
    let wrong = AddPool {
        name: "q".into(),
        workers: 1,
        command: vec![],
        cwd: None,
        env: None,
        ready: None,
        start_timeout_s: None,
        start_attempts: None,
        max_calls: None,
        max_age_s: None,
        max_rss_bytes: None,
        timeout_s: None,
        kill_after_s: None,
        retries: None,
        backoff_s: None,
        jitter: None,
        retry_on_exit: None,
        no_retry_on_exit: None,
        start_within_s: None,
        durability: None,
    };
    let refusal = client.request(&wrong).unwrap_err();
    assert_eq!(refusal.to_string(), "the command: it is empty: name a program to run");
    assert_eq!(daemon.ok(&["ls", "--json"]), "{\"schema\":1,\"jobs\":[]}\n");
}

#[test]
fn a_batch_of_calls_comes_back_as_it_is_done_and_survives_any_death_of_ours() {
    let daemon = warm(2, &["python3", &program("square.py")], "");
    let job = |n: u64| Job {
        method: Some("square".into()),
        params: Json::parse(&format!("[{n}]")).ok(),
        ..in_pool()
    };
    let mut client = daemon.client();
    client
        .send(&SubmitMany { jobs: (0..2000).map(job).collect(), defaults: None, obstacles: None }, true)
        .unwrap();
    let (accepted, _) = client.receive::<SubmitMany>().unwrap();
    let mut ends: Vec<Brief> = Vec::new();
    loop {
        let (told, more) = client.receive::<SubmitMany>().unwrap();
        ends.extend(told.results);
        if !more {
            break;
        }
    }
    ends.sort_by_key(|end| end.id);
    assert_eq!(ends.iter().map(|end| end.id).collect::<Vec<u64>>(), accepted.ids);
    for (n, end) in (0u64..).zip(&ends) {
        assert_eq!(end.value.as_ref().unwrap().get(), (n * n).to_string());
    }
    let many = daemon
        .client()
        .request(&SubmitMany { jobs: (0..3000).map(job).collect(), defaults: None, obstacles: None })
        .unwrap();
    send(daemon.supervisor(), Signal::SIGKILL);
    let range = format!("{}-{}", many.ids[0], many.ids[many.ids.len() - 1]);
    assert_eq!(daemon.run(&["wait", &range]).code, 0);
    for n in [0, 1500, 2999] {
        assert_eq!(daemon.record(many.ids[n]).value.unwrap().get(), (n * n).to_string());
    }
}

#[test]
fn nothing_of_a_program_outlives_poold() {
    let mut daemon = wicked(2, "");
    daemon.ok(&["call", "--async", "p", "breed"]);
    wait_until("the brood", || {
        daemon
            .owned_processes()
            .into_iter()
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("python"))
            })
            .count()
            >= 3
    });
    daemon.kill_all();
    let mut daemon = wicked(1, "");
    value(&daemon, &["echo"]);
    assert_eq!(run(&mut daemon.ctl(&["shutdown"])).code, 0);
    assert_eq!(daemon.wait(), 0);
    assert!(daemon.processes().is_empty());
}

#[test]
fn a_plain_process_pool_leaves_nothing_on_disk() {
    let daemon = warm(2, &["python3", &program("square.py")], "durability = \"none\"\n");
    assert_eq!(value(&daemon, &["square", "7"]), "49");
    let durable = daemon.ok(&["call", "--async", "--durability", "disk", "p", "square", "8"]);
    let waiting = daemon.ok(&["call", "--async", "--timeout", "300ms", "p", "slow_square", "9"]);
    assert_eq!(daemon.run(&["wait", waiting.trim_end(), durable.trim_end()]).code, 124);
    assert_eq!(daemon.record(1).value.unwrap().get(), "49", "it is remembered for a while");
    let listed: serde_json::Value = serde_json::from_str(&daemon.ok(&["ls", "--json"])).unwrap();
    let ids: Vec<u64> =
        listed["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
    for arguments in
        [&["--on-done", "true"][..], &["--key", "k"], &["--tie", "job:2"], &["--on-crash", "hold"]]
    {
        let said = daemon.run(&[&["call", "--async"], arguments, &["p", "square", "1"]].concat());
        assert!(said.code == 125 && said.stderr.contains("in memory alone"), "{said:?}");
    }
    let said = daemon.run(&["call", "--on-done", "true", "--durability", "disk", "p", "square", "1"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "1\n"));
    send(daemon.supervisor(), Signal::SIGKILL);
    wait_until("the next supervisor", || daemon.run(&["show", "2"]).code == 0);
    assert_eq!(daemon.run(&["show", "1"]).code, 125, "it is gone with its daemon");
    let next = daemon.ok(&["call", "--async", "p", "square", "2"]).trim_end().parse::<u64>().unwrap();
    assert!(next > 5, "and its id is not given out again: {next}");
}

/// The demonstrations of the process pool that poold comes from, as shell lines; they are in the README.
#[test]
fn squares_through_two_workers_with_callbacks_and_through_three_in_order() {
    let mut daemon = Daemon::start(1);
    let (square, squares) = (program("square.py"), daemon.path_text("squares"));
    let read = daemon.path_text("read.py");
    fs::write(
        &read,
        "import json, sys\njob = json.load(sys.stdin)\nprint([job['params'][0], job['value']])\n",
    )
    .unwrap();
    let script = format!(
        "set -e
        poolctl pool add two --workers 2 -- python3 {square}
        for n in 1 2 3 4; do poolctl call --async --on-success 'python3 {read} >> {squares}' two square $n; done
        poolctl pool add three --workers 3 -- python3 {square}
        for n in 1 2 3 4; do poolctl call three square $n; done
        poolctl shutdown 2>/dev/null"
    );
    let poolctl = pool_tests::poolctl();
    let path =
        format!("{}:{}", poolctl.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let said = run(Command::new("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .env("POOL_SOCKET", daemon.socket())
        .env(MARK, daemon.mark()));
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, "1\n2\n3\n4\n1\n4\n9\n16\n", ""),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.wait(), 0);
    let mut lines: Vec<String> = fs::read_to_string(&squares).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["[1, 1]", "[2, 4]", "[3, 9]", "[4, 16]"]);
}

#[test]
fn the_benchmark_can_be_read_by_python() {
    let file = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/bench/warm").join(name);
    let compile = "import sys\nfor name in sys.argv[1:]: compile(open(name).read(), name, 'exec')";
    let files = ["warm.py", "daemon.py", "functions.py"].map(file);
    let compiled =
        Command::new("python3").args(["-c", compile]).args(files).output().expect("there is Python");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}
