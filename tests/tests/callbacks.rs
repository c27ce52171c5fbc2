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
    let daemon = Setup::new().workers(1).config("[callbacks]\ntimeout = \"2s\"\nattempts = 1\n").start();
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

/// The lines of a table, without its heading.
fn rows(text: &str) -> Vec<String> {
    text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_was_given_up_is_seen_and_can_be_run_again() {
    let daemon = Setup::new().config("[callbacks]\nbackoff = \"10ms\"\nattempts = 2\n").start();
    let (ledger, gate) = (daemon.path_text("ledger"), daemon.path_text("gate"));
    let command = format!("echo $POOL_CALLBACK_ATTEMPT >>{ledger}; echo shut >&2; test -e {gate}");
    let id = daemon.submit(&["-n", "build", "--on-done", &command, "--", "true"]);
    daemon.wait_record(id, "given up", |record| states(record) == ["failed"]);

    // Whoever does not look for it is told.
    let doctor = daemon.run(&["doctor"]);
    let told = "1 callback failed each time and was given up; `poolctl callbacks ls --failed` shows them";
    assert!(doctor.code == 1 && doctor.stdout.contains(told), "{doctor:?}");
    let overview = daemon.ok(&[]);
    assert!(overview.contains("1 callback has failed (poolctl callbacks ls --failed)\n"), "{overview}");
    assert!(daemon.log().contains("see `poolctl callbacks show 1`"), "{}", daemon.log());

    let listed = daemon.ok(&["callbacks", "ls", "--failed"]);
    assert!(rows(&listed)[0].starts_with(&format!("1 failed done {id} 2 1 ")), "{listed}");
    let shown = daemon.ok(&["callbacks", "show", "1"]);
    for line in
        ["state     failed\n", "attempts  2\n", &format!("job       {id} (build), success"), "  shut\n"]
    {
        assert!(shown.contains(line), "{line:?} is in {shown}");
    }

    // Once more in vain, over a death of poold, and then with success.
    daemon.ok(&["callbacks", "retry", "1"]);
    daemon.wait_record(id, "given up", |record| {
        states(record) == ["failed"] && record.callbacks[0].attempts == 4
    });
    fs::write(&gate, "").unwrap();
    daemon.ok(&["callbacks", "retry", "failed"]);
    daemon.wait_record(id, "delivered", |record| states(record) == ["delivered"]);
    assert_eq!(fs::read_to_string(&ledger).unwrap(), "1\n2\n3\n4\n5\n");
    assert_eq!(rows(&daemon.ok(&["callbacks", "ls"])), [""; 0]);
    assert_eq!(daemon.run(&["doctor"]).code, 0);
    assert!(!daemon.ok(&[]).contains("callback"), "there is nothing to be reminded of");
}

#[test]
fn a_callback_is_dropped_for_good_and_a_kill_of_poold_changes_nothing() {
    let mut daemon = Setup::new().workers(1).config("[callbacks]\nbackoff = \"1h\"\n").start();
    let ledger = daemon.path_text("ledger");
    let id = daemon.submit(&["--on-done", &format!("echo >>{ledger}; exit 1"), "--", "true"]);
    let waits = |record: &Record| record.callbacks[0].exit_code == Some(1);
    daemon.wait_record(id, "its next attempt is in an hour", waits);
    assert!(rows(&daemon.ok(&["callbacks", "ls"]))[0].starts_with("1 pending, next in 59 min done"));
    assert_eq!(daemon.run(&["rm", &id.to_string()]).code, 125, "its callback is to be delivered");

    daemon.ok(&["callbacks", "drop", "1"]);
    daemon.kill_in_one_instant();
    daemon.restart();
    daemon.wait_record(id, "it is back", |record| states(record) == ["dropped"]);
    daemon.ok(&["callbacks", "drop", "1-9"]);
    daemon.ok(&["callbacks", "retry", "1"]);
    wait_until("it has run again", || fs::read_to_string(&ledger).unwrap().lines().count() == 2);
    daemon
        .wait_record(id, "it waits again", |record| record.callbacks[0].state == "pending" && waits(record));
    daemon.ok(&["callbacks", "drop", "1"]);
    daemon.ok(&["rm", &id.to_string()]);
}

#[test]
fn callbacks_that_cannot_be_changed_are_named() {
    let daemon = Daemon::start(1);
    let id = daemon.submit(&["--on-success", "true", "--on-failure", "true", "--", "true"]);
    daemon.wait_record(id, "settled", settled);
    for (arguments, code, told) in [
        (&["callbacks", "retry", "1"][..], 125, "callback 1 was delivered, so it does not run again"),
        (&["callbacks", "drop", "1", "2"], 125, "callback 2 was skipped: it is for another end of its job"),
        (&["callbacks", "drop", "1-2"], 125, "none of the callbacks 1-2 can be dropped"),
        (
            &["callbacks", "retry", "9"],
            125,
            "there is no callback 9: it never existed, or was pruned with its job",
        ),
        (&["callbacks", "show", "9"], 125, "there is no callback 9: `poolctl callbacks ls` lists callbacks"),
        (&["callbacks", "show", "8-9"], 125, "none of the callbacks 8-9 exists"),
        (&["callbacks", "ls", "@none"], 125, "@none names no job"),
        (&["callbacks", "retry", "job:1"], 125, "none of the callbacks of 1 can be run again"),
        (
            &["callbacks", "retry", "1.2"],
            2,
            "\"1.2\" names no callback: write its id, as 7 or 3-9; failed; or",
        ),
        (&["callbacks", "drop"], 2, "<CALLBACK>"),
    ] {
        let said = daemon.run(arguments);
        assert!(said.code == code && said.stderr.contains(told), "{arguments:?}: {said:?}");
    }
    assert_eq!(daemon.run(&["callbacks", "retry", "failed"]).code, 0, "there is none");
    assert_eq!(states(&daemon.record(id)), ["delivered", "skipped"]);
}

#[test]
fn callbacks_are_named_by_their_jobs_as_well() {
    let daemon = Setup::new().config("[callbacks]\nattempts = 1\n").start();
    let gate = daemon.path_text("gate");
    let first = daemon.submit(&["-l", "x", "--on-done", &format!("test -e {gate}"), "--", "true"]);
    let plain = daemon.submit(&["-l", "x", "--", "true"]);
    let last = daemon.submit(&["-n", "b", "--on-done", "true", "--on-success", "false", "--", "true"]);
    for id in [first, last] {
        daemon.wait_record(id, "settled", settled);
    }
    let listed = |selectors: &[&str]| -> Vec<String> {
        let text = daemon.ok(&[&["callbacks", "ls"], selectors].concat());
        rows(&text).iter().map(|row| row.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(listed(&["@x"]), ["1 failed"]);
    assert_eq!(listed(&["last", &first.to_string()]), ["1 failed", "2 delivered", "3 failed"]);
    assert_eq!(listed(&["--failed", "state:succeeded"]), ["1 failed", "3 failed"]);
    let said = daemon.run(&["callbacks", "ls", &plain.to_string()]);
    assert!(said.code == 125 && said.stderr.contains("2: no callbacks"), "{said:?}");

    let shown = daemon.ok(&["callbacks", "show", "name:b"]);
    assert!(shown.contains("callback  2\n") && shown.contains("\n\ncallback  3\n"), "{shown}");
    fs::write(&gate, "").unwrap();
    daemon.ok(&["callbacks", "retry", "@x"]);
    daemon.wait_record(first, "it has run again", |record| states(record) == ["delivered"]);
    daemon.ok(&["callbacks", "drop", &format!("job:{last}")]);
    assert_eq!(states(&daemon.record(last)), ["delivered", "dropped"]);
}
