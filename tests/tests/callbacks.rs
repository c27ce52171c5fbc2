//! What users see of callbacks: on every kind of end, at least once, out of the way of everything else.

use std::fs;

use pool_proto::Record;
use pool_proto::methods::Get;
use pool_proto::nouns::On;
use pool_tests::{Daemon, Setup, line_of, wait_until};

const QUICK: &str = "[callbacks]\nbackoff = \"10ms\"\n";

fn states(record: &Record) -> Vec<&str> {
    record.callbacks.iter().map(|callback| callback.state.as_str()).collect()
}

fn settled(record: &Record) -> bool {
    record
        .callbacks
        .iter()
        .all(|callback| matches!(callback.state.as_str(), "delivered" | "failed" | "skipped"))
}

#[test]
fn each_kind_of_end_has_its_callbacks() {
    let daemon = Daemon::start(2);
    let mut jobs = Vec::new();
    for (script, succeeds) in
        [("exit 0", true), ("exit 1", false), ("kill -9 $$", false), ("sleep 600", false)]
    {
        let arguments = [
            "--timeout",
            "300ms",
            "--on-done",
            "true",
            "--on-success",
            "true",
            "--on-failure",
            "true",
            "--on-done",
            "true",
        ];
        jobs.push((daemon.submit(&[&arguments, ["--", "sh", "-c", script].as_slice()].concat()), succeeds));
    }
    // And one that never runs: no command, no process, an end all the same.
    jobs.push((
        daemon.submit(&[
            "--on-done",
            "true",
            "--on-success",
            "true",
            "--on-failure",
            "true",
            "--",
            "no-such-command",
        ]),
        false,
    ));
    for (id, succeeds) in jobs {
        let record = daemon
            .wait_record(id, "all callbacks settled", |record| record.state.is_terminal() && settled(record));
        for callback in &record.callbacks {
            let runs = match callback.on {
                On::Done => true,
                On::Success => succeeds,
                On::Failure => !succeeds,
            };
            assert_eq!(callback.state, if runs { "delivered" } else { "skipped" }, "job {id}: {callback:?}");
        }
    }
}

#[test]
fn a_canceled_job_has_its_callback_even_when_it_never_ran() {
    let daemon = Daemon::start(1);
    let told = daemon.path_text("told");
    let blocker = daemon.submit_sh("sleep 600");
    let id = daemon.submit(&[
        "--on-failure",
        &format!("echo $POOL_STATE,$POOL_RESULT,$POOL_EXIT_CODE >{told}"),
        "--",
        "true",
    ]);
    daemon.ok(&["cancel", &id.to_string()]);
    assert_eq!(line_of(told.as_ref()), "canceled,canceled,");
    daemon.ok(&["cancel", &blocker.to_string()]);
}

#[test]
fn a_callback_gets_the_result_and_the_record() {
    let daemon = Daemon::start(1);
    let (record, variables) = (daemon.path_text("record"), daemon.path_text("variables"));
    let callback =
        format!("cat >{record}; env | grep ^POOL_ | sort >{variables}.part; mv {variables}.part {variables}");
    let script = "echo out; echo error >&2; exit 3";
    let id =
        daemon.submit(&["--name", "it's \"$HOME\" `x`", "--on-done", &callback, "--", "sh", "-c", script]);
    daemon.wait_record(id, "delivered", |record| states(record) == ["delivered"]);

    let record: Record = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    assert_eq!((record.id, record.exit_code), (id, Some(3)));
    let text = fs::read_to_string(&variables).unwrap();
    let value = |name: &str| {
        let prefix = format!("POOL_{name}=");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("{name} is missing: {text}"))
            .to_owned()
    };
    assert_eq!(value("JOB_ID"), id.to_string());
    assert_eq!(value("NAME"), "it's \"$HOME\" `x`", "nothing is rendered into the command");
    assert_eq!(
        (value("RESULT"), value("STATE"), value("EXIT_CODE"), value("SIGNAL")),
        ("exit-code".into(), "failed".into(), "3".into(), String::new())
    );
    assert_eq!(fs::read_to_string(value("STDOUT_PATH")).unwrap(), "out\n");
    assert_eq!(fs::read_to_string(value("STDERR_PATH")).unwrap(), "error\n");
    assert_eq!((value("CALLBACK_ID"), value("CALLBACK_ATTEMPT")), ("1".into(), "1".into()));
    assert!(value("DURATION_MS").parse::<u64>().is_ok() && value("MAX_RSS").parse::<u64>().unwrap() > 0);
    assert_eq!(value("SOCKET"), daemon.socket().display().to_string());
}

#[test]
fn a_failing_callback_is_repeated_and_then_given_up() {
    let daemon = Setup::new().config(QUICK).start();
    let ledger = daemon.path_text("ledger");
    let always = daemon.submit(&[
        "--on-done",
        &format!("echo $POOL_CALLBACK_ATTEMPT >>{ledger}; exit 9"),
        "--",
        "true",
    ]);
    let record = daemon.wait_record(always, "given up", |record| states(record) == ["failed"]);
    assert_eq!((record.callbacks[0].attempts, record.callbacks[0].exit_code), (5, Some(9)));
    assert_eq!(fs::read_to_string(&ledger).unwrap(), "1\n2\n3\n4\n5\n");

    let third = daemon.submit(&["--on-done", "[ $POOL_CALLBACK_ATTEMPT = 3 ]", "--", "true"]);
    let record = daemon.wait_record(third, "delivered", |record| states(record) == ["delivered"]);
    assert_eq!(record.callbacks[0].attempts, 3);
}

#[test]
fn a_slow_callback_holds_up_no_job_and_is_ended_in_the_end() {
    let daemon = Setup::new().workers(1).config("[callbacks]\ntimeout = \"300ms\"\nattempts = 1\n").start();
    let pid_file = daemon.path_text("pid");
    let id = daemon.submit(&["--on-done", &format!("echo $$ >{pid_file}; sleep 600"), "--", "true"]);
    let pid = line_of(pid_file.as_ref()).parse().unwrap();
    assert_eq!(daemon.run(&["submit", "--wait", "--", "true"]).code, 0);
    daemon.wait_record(id, "given up", |record| states(record) == ["failed"]);
    assert!(!pool_tests::alive(pid));
}

#[test]
fn a_callback_runs_where_the_job_ran_or_in_the_root_when_that_is_gone() {
    let daemon = Daemon::start(1);
    let (folder, told) = (daemon.path_text("folder"), daemon.path_text("told"));
    fs::create_dir(&folder).unwrap();
    let id =
        daemon.submit(&["--cwd", &folder, "--on-done", &format!("pwd >{told}"), "--", "sh", "-c", "exit 0"]);
    daemon.wait_record(id, "delivered", |record| states(record) == ["delivered"]);
    assert_eq!(line_of(told.as_ref()), folder);

    let id = daemon.submit(&["--cwd", &folder, "--on-done", &format!("pwd >{told}"), "--", "rmdir", &folder]);
    daemon.wait_record(id, "delivered", |record| states(record) == ["delivered"]);
    assert_eq!(fs::read_to_string(&told).unwrap(), "/\n");
}

#[test]
fn a_callback_that_dies_with_its_worker_is_run_again() {
    let daemon = Setup::new().workers(1).config(QUICK).start();
    let ledger = daemon.path_text("ledger");
    // The parent of the callback's shell is its worker.
    let callback = format!(
        "echo $POOL_CALLBACK_ATTEMPT >>{ledger}; [ $POOL_CALLBACK_ATTEMPT = 2 ] || {{ kill -9 $PPID; sleep 600; }}"
    );
    let id = daemon.submit(&["--on-done", &callback, "--", "true"]);
    daemon.wait_record(id, "delivered", |record| states(record) == ["delivered"]);
    wait_until("both attempts are in the ledger", || fs::read_to_string(&ledger).unwrap() == "1\n2\n");
}

#[test]
fn a_callback_that_kills_poold_again_and_again_is_given_up_and_no_other() {
    let daemon = Setup::new().workers(1).config("[callbacks]\nbackoff = \"10ms\"\nworkers = 2\n").start();
    // What a callback runs knows its worker, and so its worker's parent.
    let kill = "kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)";
    let (innocent, killer) = (daemon.path_text("innocent"), daemon.path_text("killer"));
    let stay = format!("echo >>{innocent}; [ $POOL_CALLBACK_ATTEMPT -gt 1 ] || sleep 600");
    let long = daemon.submit(&["--on-done", &stay, "--", "true"]);
    line_of(innocent.as_ref());
    let id = daemon.submit(&["--on-done", &format!("echo >>{killer}; {kill}; sleep 600"), "--", "true"]);

    // Between two supervisors clients wait; one that asks while the supervisor is killed has no answer.
    let state = |id| match daemon.client().request(&Get { id }) {
        Ok(got) => got.record.callbacks[0].state.clone(),
        Err(_) => String::new(),
    };
    wait_until("it is given up", || state(id) == "failed");
    assert_eq!(fs::read_to_string(&killer).unwrap().lines().count(), 2);
    wait_until("the other one, which ran beside it, is delivered", || state(long) == "delivered");
    wait_until("the log tells", || daemon.log().contains("a callback has failed for the last time"));

    let after = daemon.submit(&["--on-done", "true", "--", "true"]);
    wait_until("callbacks are delivered", || state(after) == "delivered");
}
