//! What users see of jobs that are changed before they begin, and of copies of jobs that have ended.

use std::fs::{self, File};

use pool_proto::State;
use pool_tests::{Daemon, Setup, run, wait_until};
use serde_json::Value;

/// A job that runs until the file "gate" is there.
fn occupy(daemon: &Daemon) -> u64 {
    let gate = daemon.path_text("gate");
    let id = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    id
}

#[test]
fn a_queued_job_is_changed_by_options_over_a_kill() {
    let mut daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    let running = occupy(&daemon);
    let id = daemon.submit(&["--name", "old", "--on-done", "true", "--", "false"]);
    let text = id.to_string();
    daemon.ok(&["pool", "pause", "other"]);
    let options = ["--priority", "5", "--timeout", "10m", "--pool", "other", "--label", "gpu", "-E", "A=b c"];
    let rest = ["--unset", "name", "--unset", "on-done", "--", "sh", "-c", "echo $A $HOME"];
    let said = daemon.run(&[&["edit", &text], &options[..], &rest[..]].concat());
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    daemon.kill_in_one_instant();
    daemon.restart();
    let record = daemon.record(id);
    assert_eq!((record.state, record.priority, record.pool.as_str()), (State::Queued, 5, "other"));
    assert_eq!((record.name, record.callbacks.len()), (None, 0));
    assert_eq!(record.labels, Some(vec!["gpu".to_owned()]));
    daemon.ok(&["pool", "resume", "other"]);
    daemon.ok(&["wait", &text]);
    let output = daemon.ok(&["logs", &text]);
    assert!(output.starts_with("b c /"), "it keeps the other variables: {output}");
    File::create(daemon.path("gate")).unwrap();
    daemon.ok(&["wait", &running.to_string()]);
}

#[test]
fn what_a_job_waits_for_is_changed() {
    let daemon = Setup::new().workers(2).start();
    let running = occupy(&daemon);
    let [delayed, blocked, timed] = [
        daemon.submit(&["--delay", "1h", "--", "true"]),
        daemon.submit(&["--after", &running.to_string(), "--", "true"]),
        daemon.submit(&["--delay", "1h", "--", "true"]),
    ];
    daemon.ok(&["edit", &delayed.to_string(), "--unset", "delay"]);
    daemon.ok(&["wait", &delayed.to_string()]);
    daemon.ok(&["edit", &blocked.to_string(), "--unset", "after"]);
    daemon.ok(&["wait", &blocked.to_string()]);
    daemon.ok(&["edit", &timed.to_string(), "--start-within", "100ms"]);
    assert_eq!(daemon.run(&["wait", &timed.to_string()]).code, 124);

    let waiting = daemon.submit(&["--hold", "--", "true"]);
    daemon.ok(&["edit", &waiting.to_string(), "--after", &format!("afternotok:{running}")]);
    daemon.ok(&["release", &waiting.to_string()]);
    assert_eq!(daemon.record(waiting).state, State::Blocked);
    daemon.ok(&["cancel", &running.to_string()]);
    daemon.ok(&["wait", &waiting.to_string()]);
    assert_eq!(daemon.record(waiting).state, State::Succeeded);
}

#[test]
fn what_has_begun_or_does_not_suit_is_not_changed() {
    let daemon = Setup::new().workers(1).start();
    let running = occupy(&daemon);
    let queued = daemon.submit(&["--", "true"]);
    let [of_running, of_queued] = [running.to_string(), queued.to_string()];
    let cases: [(&[&str], i32, &str); 9] = [
        (&[&of_running, "--priority", "1"], 125, "runs, so it cannot be edited: `poolctl cancel"),
        (&["99", "--priority", "1"], 125, "there is no job 99"),
        (&[&of_queued, "--pool", "none"], 125, "there is no pool \"none\""),
        (&[&of_queued, "--retry-on-exit", "3"], 125, "without retries"),
        (&[&of_queued, "--after", &of_queued], 125, "submitted before it"),
        (&[&of_queued, "--unset", "pool"], 125, "cannot be left out"),
        (&[&of_queued, "--key", "k"], 2, "--key of a job stays as it was submitted"),
        (&[&of_queued, "--stdin", "-"], 2, "--stdin of a job stays as it was submitted"),
        (&[&of_queued, "--hold"], 2, "`poolctl hold"),
    ];
    for (options, code, wanted) in cases {
        let said = daemon.run(&[&["edit"], options].concat());
        assert!(said.code == code && said.stderr.contains(wanted), "{options:?}: {said:?}");
    }
    assert_eq!((daemon.record(running).priority, daemon.record(queued).priority), (0, 0));
    File::create(daemon.path("gate")).unwrap();
    daemon.ok(&["wait", &of_queued]);
    let said = daemon.run(&["edit", &of_queued, "--priority", "1"]);
    assert!(said.code == 125 && said.stderr.contains("has ended (succeeded)"), "{said:?}");
}

#[test]
fn a_job_is_changed_in_an_editor() {
    let daemon = Setup::new().workers(1).start();
    occupy(&daemon);
    let id =
        daemon.submit(&["--name", "old", "--timeout", "90m", "--rlimit", "nofile=64", "--", "echo", "a b"]);
    let text = id.to_string();
    let edit = |script: &str| {
        let seen = daemon.path_text("seen");
        let editor = format!("cp_and() {{ cp \"$1\" {seen}; sed -i -e '{script}' \"$1\"; }}; cp_and");
        run(daemon.ctl(&["edit", &text]).env("VISUAL", editor).env("EDITOR", "false"))
    };

    let said = edit("s/nothing/nothing/");
    assert!(said.code == 0 && said.stderr.contains("nothing was changed"), "{said:?}");
    let seen = fs::read_to_string(daemon.path("seen")).unwrap();
    for line in ["command = [\"echo\", \"a b\"]", "timeout = \"90m\"", "name = \"old\"", "# labels = "] {
        assert!(seen.lines().any(|other| other.starts_with(line)), "{line}: {seen}");
    }

    for (script, wanted) in [
        ("s/^name/nmae/", "line 9: unknown field `nmae`"),
        ("s/^priority = 0/priority = x/", "line 10: "),
        ("s/^timeout = .*/timeout = \"soon\"/", "soon"),
        ("s/^pool = .*/pool = \"none\"/", "there is no pool \"none\""),
        ("s/^name/retry-on-exit = \"1\"\\nname/", "without retries"),
    ] {
        let said = edit(script);
        assert!(said.code == 125 && said.stderr.contains(wanted), "{script}: {said:?}");
        assert!(said.stderr.contains(&format!("job {id} was not changed")), "{said:?}");
    }
    let before = daemon.record(id);
    assert_eq!((before.priority, before.name.unwrap().as_escaped()), (0, "old"));

    let said = edit("s/^priority = 0/priority = 3/; s/a b/c/; /^name/d; s/64:64/32:64/");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let record = daemon.record(id);
    assert_eq!((record.priority, record.name), (3, None));
    assert_eq!(record.argv.unwrap()[1].as_escaped(), "c");
    assert_eq!(edit("s/nothing/nothing/").code, 0);
    let seen = fs::read_to_string(daemon.path("seen")).unwrap();
    assert!(seen.contains("32:64") && seen.contains("timeout = \"90m\""), "{seen}");
    let said = run(daemon.ctl(&["edit", &text]).env("VISUAL", "false"));
    assert!(said.code == 125 && said.stderr.contains("the editor false has failed"), "{said:?}");
    File::create(daemon.path("gate")).unwrap();
    daemon.ok(&["wait", &text]);
    assert_eq!(daemon.ok(&["logs", &text]), "c\n");
}

#[test]
fn a_copy_of_a_job_is_a_job_of_its_own() {
    let daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    let told = daemon.path_text("told");
    let submit = |rest: &[&str]| {
        let callback = format!("echo $POOL_JOB_ID >>{told}");
        let options =
            ["--pool", "other", "-E", "A=x y", "--key", "k", "--priority", "3", "--on-done", &callback];
        daemon.submit(&[&options[..], rest].concat())
    };
    let id = submit(&["--", "sh", "-c", "echo $A; exit 3"]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 3);

    let said = daemon.run(&["retry", "--new", &id.to_string()]);
    let copy: u64 = said.stdout.trim().parse().unwrap_or_else(|_| panic!("{said:?}"));
    assert!(said.code == 0 && copy > id, "{said:?}");
    assert_eq!(daemon.run(&["wait", &copy.to_string()]).code, 3);
    let record = daemon.record(copy);
    assert_eq!((record.pool.as_str(), record.priority, record.key), ("other", 3, None));
    assert_eq!(daemon.ok(&["logs", &copy.to_string()]), "x y\n");
    assert_eq!(daemon.record(id).reruns, 0, "the job itself stays as it is");
    wait_until("the callback of the copy", || {
        fs::read_to_string(daemon.path("told"))
            .is_ok_and(|told| told.lines().any(|line| line == copy.to_string()))
    });

    let said = daemon.run(&["--json", "retry", "--new", "failed"]);
    let lines: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of: Vec<u64> = lines.iter().map(|line| line["copy_of"].as_u64().unwrap()).collect();
    assert_eq!(of, [id, copy], "{said:?}");

    fs::write(daemon.path("input"), "text").unwrap();
    let with_input = daemon.submit(&["--stdin", &daemon.path_text("input"), "--", "cat"]);
    let held = daemon.submit(&["--hold", "--", "true"]);
    daemon.ok(&["wait", &with_input.to_string()]);
    let said = daemon.run(&["retry", "--new", &with_input.to_string(), &held.to_string(), "99"]);
    assert_eq!((said.code, said.stdout.as_str()), (125, ""));
    for wanted in ["was removed when it ended", "held, and has not ended", "there is no job 99"] {
        assert!(said.stderr.contains(wanted), "{wanted}: {said:?}");
    }
}

#[test]
fn an_element_does_not_wait_for_its_own_array() {
    let daemon = Daemon::start(1);
    occupy(&daemon);
    let array = daemon.submit(&["--name", "a", "--array", "0-3%1", "--", "true"]);
    wait_until("its elements are there", || daemon.run(&["show", &format!("{array}.3")]).code == 0);
    let edit = |which: &str, after: &str| daemon.run(&["edit", &format!("{array}{which}"), "--after", after]);
    for after in [format!("{array}"), format!("afterany:{array}")] {
        let said = edit(".3", &after);
        assert!(said.code == 125 && said.stderr.contains("is its array, or"), "{said:?}");
    }
    // Of what is looked up the array is not meant.
    for after in ["afterany:name:a", "afterany:all"] {
        assert_eq!(edit(".3", after).code, 0, "{after}");
    }
    assert_eq!(edit(".2", &format!("afterany:{array}.1")).code, 0, "elements may wait for earlier ones");
    File::create(daemon.path("gate")).unwrap();
    assert_eq!(daemon.run(&["wait", &array.to_string()]).code, 0);

    let held = daemon.submit(&["--hold", "--array", "0-3", "--", "true"]);
    let said = daemon.run(&["edit", &held.to_string(), "--after", &format!("{held}.2")]);
    assert!(said.code == 125 && said.stderr.contains("submitted before it"), "{said:?}");
}

#[test]
fn a_copy_of_an_element_has_its_index() {
    let daemon = Daemon::start(1);
    let script = "echo $POOL_ARRAY_INDEX of $POOL_ARRAY_COUNT; exit 1";
    let array = daemon.submit(&["--array", "7-8", "--", "sh", "-c", script]);
    daemon.run(&["wait", &array.to_string()]);
    let copy = daemon.ok(&["retry", "--new", &format!("{array}.8")]);
    assert_eq!(daemon.run(&["wait", copy.trim()]).code, 1);
    assert_eq!(daemon.ok(&["logs", copy.trim()]), "8 of 1\n");
}
