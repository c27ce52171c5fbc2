//! What users see of schedules: jobs that come again and again, once for each time, over kills and restarts.

use std::collections::BTreeSet;
use std::fs::{self, File};

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{Daemon, Setup, wait_until};
use serde_json::Value;

/// A schedule, as `schedule show --json` has it.
fn schedule(daemon: &Daemon, name: &str) -> Value {
    serde_json::from_str(&daemon.ok(&["schedule", "show", name, "--json"])).unwrap()
}

/// The jobs of that name: the number of each, and its state.
fn jobs(daemon: &Daemon, name: &str) -> Vec<(u64, State)> {
    let listed: Value = serde_json::from_str(&daemon.ok(&["ls", "--json"])).unwrap();
    let records = listed["jobs"].as_array().unwrap().iter();
    let named = records.filter(|record| record["name"] == name);
    let of = |record: &Value| {
        (record["id"].as_u64().unwrap(), serde_json::from_value(record["state"].clone()).unwrap())
    };
    let mut jobs: Vec<(u64, State)> = named.map(of).collect();
    jobs.sort_unstable_by_key(|&(id, _)| id);
    jobs
}

fn reload(daemon: &Daemon, config: &str) {
    fs::write(daemon.path("config.toml"), config).unwrap();
    daemon.signal(Signal::SIGHUP);
}

#[test]
fn each_time_has_one_job_over_kills_at_any_moment() {
    let mut daemon = Daemon::start(2);
    let ran = daemon.path_text("ran");
    daemon.ok(&[
        "schedule",
        "add",
        "often",
        "--every",
        "1s",
        "--overlap",
        "allow",
        "--",
        "sh",
        "-c",
        &format!("echo $POOL_JOB_ID >> {ran}"),
    ]);
    for count in 1..=4 {
        wait_until("the next time comes", || jobs(&daemon, "often").len() >= count);
        daemon.kill_in_one_instant();
        daemon.restart();
    }
    daemon.ok(&["schedule", "pause", "often"]);
    let all = jobs(&daemon, "often");
    for &(id, _) in &all {
        daemon.wait_record(id, "it ends", |record| record.state == State::Succeeded);
    }
    let keys: Vec<String> =
        all.iter().map(|&(id, _)| daemon.record(id).key.expect("each has a key").to_string()).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:?}");
    let have_run: BTreeSet<u64> =
        fs::read_to_string(&ran).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(have_run, all.iter().map(|&(id, _)| id).collect());

    let shown = schedule(&daemon, "often");
    assert_eq!((&shown["paused"], &shown["next"]), (&true.into(), &Value::Array(vec![])));
    assert_eq!(shown["last"]["id"].as_u64(), all.last().map(|&(id, _)| id));
}

#[test]
fn a_job_that_is_not_over_has_the_next_time_skipped_or_wait() {
    let daemon = Daemon::start(4);
    let gate = daemon.path_text("gate");
    let script = format!("until [ -e {gate} ]; do sleep 0.02; done");
    for overlap in ["skip", "queue"] {
        daemon.ok(&[
            "schedule",
            "add",
            overlap,
            "--every",
            "1s",
            "--overlap",
            overlap,
            "--",
            "sh",
            "-c",
            &script,
        ]);
    }
    wait_until("a time is skipped", || schedule(&daemon, "skip")["last"]["skipped"] == true);
    assert_eq!(jobs(&daemon, "skip").len(), 1);
    let said = daemon.run(&["schedule", "run", "skip"]);
    assert_eq!(said.stdout.trim(), jobs(&daemon, "skip")[0].0.to_string());
    assert!(said.stderr.contains("nothing was submitted"), "{}", said.stderr);

    wait_until("the second one waits", || jobs(&daemon, "queue").len() >= 2);
    let states: Vec<State> = jobs(&daemon, "queue").into_iter().map(|(_, state)| state).collect();
    assert!(states[..2] == [State::Running, State::Queued], "{states:?}");
    daemon.ok(&["schedule", "rm", "skip", "queue"]);
    File::create(&gate).unwrap();
    for (id, _) in jobs(&daemon, "queue") {
        daemon.wait_record(id, "it ends", |record| record.state == State::Succeeded);
    }
    assert_eq!(daemon.ok(&["schedule", "ls"]).lines().count(), 1, "its heading");
}

#[test]
fn a_schedule_of_the_configuration_comes_and_goes_with_it_and_is_paused_for_good() {
    let with = "[schedule.hourly]\ncron = \"@hourly\"\ncommand = [\"true\"]\n";
    let mut daemon = Setup::new().workers(1).config(with).start();
    assert_eq!(schedule(&daemon, "hourly")["configured"], true);
    for verb in [&["rm", "hourly"][..], &["add", "hourly", "--every", "1m", "--", "true"]] {
        let said = daemon.run(&[&["schedule"], verb].concat());
        assert!(said.code == 125 && said.stderr.contains("configuration file"), "{}", said.stderr);
    }
    daemon.ok(&["schedule", "pause", "hourly"]);
    daemon.kill_in_one_instant();
    daemon.restart();
    assert_eq!(schedule(&daemon, "hourly")["paused"], true);

    reload(&daemon, "");
    wait_until("it is gone", || daemon.run(&["schedule", "show", "hourly"]).code == 125);
    reload(&daemon, with);
    wait_until("it is back", || daemon.run(&["schedule", "show", "hourly"]).code == 0);
    assert_eq!(schedule(&daemon, "hourly")["paused"], false, "it is another one");
}

#[test]
fn what_is_wrong_with_a_schedule_is_told_and_changes_nothing() {
    let daemon = Daemon::start(1);
    for (arguments, said) in [
        (&["add", "a b", "--every", "1m"][..], "cannot be named"),
        (&["add", "a", "--every", "10ms"], "a second is the shortest"),
        (&["add", "a", "--cron", "61 * * * *"], "--cron: \"61 * * * *\" cannot be read: "),
        (&["add", "a", "--cron", "* * *"], "has 3 fields, and needs five"),
        (&["add", "a", "--cron", "0 0 30 2 *"], "a day that never comes"),
        (&["add", "a", "--cron", "@daily", "--tz", "Mars/Olympus"], "--tz: there is no time zone"),
        (&["add", "a", "--every", "1m", "--pool", "none"], "there is no pool \"none\""),
        (&["add", "a", "--every", "1m", "--timeout", "0"], "timeout"),
    ] {
        let told = daemon.run(&[&["schedule"], arguments, &["--", "true"]].concat());
        assert!(told.code != 0 && told.stderr.contains(said), "{arguments:?}: {}", told.stderr);
    }
    for verb in ["show", "run", "pause", "resume", "rm"] {
        let told = daemon.run(&["schedule", verb, "nothing"]);
        assert!(told.code == 125 && told.stderr.contains("there is no schedule \"nothing\""), "{verb}");
    }
    daemon.ok(&["schedule", "add", "a", "--every", "1h", "--", "true"]);
    daemon.ok(&["schedule", "add", "a", "--every", "1h", "--", "true"]);
    let told = daemon.run(&["schedule", "add", "a", "--every", "2h", "--", "true"]);
    assert!(told.stderr.contains("--replace"), "{}", told.stderr);
    daemon.ok(&["schedule", "add", "a", "--every", "2h", "--replace", "--", "true"]);
    assert_eq!(schedule(&daemon, "a")["schedule"]["every_s"], 7200.0);
    assert_eq!(jobs(&daemon, "a"), []);
}

#[test]
fn a_time_that_has_just_passed_is_not_missed_and_what_is_for_schedules_is_for_nobody_else() {
    let mut daemon = Daemon::start(2);
    for missed in ["run-once", "skip", "run-all"] {
        let words = ["schedule", "add", missed, "--every", "1s", "--overlap", "allow", "--missed", missed];
        daemon.ok(&[&words[..], &["--", "true"]].concat());
    }
    wait_until("a time comes", || !jobs(&daemon, "skip").is_empty());
    let before = ["run-once", "skip", "run-all"].map(|name| jobs(&daemon, name).len());
    daemon.kill_in_one_instant();
    std::thread::sleep(std::time::Duration::from_secs(3));
    daemon.restart();
    for (name, before) in ["run-once", "skip", "run-all"].into_iter().zip(before) {
        wait_until("those that have passed are made up for", || jobs(&daemon, name).len() >= before + 3);
    }
    let all = ["run-once", "skip", "run-all"].map(|name| {
        let key = |(id, _)| daemon.record(id).key.expect("each has a key").to_string();
        let time = |key: String| pool_proto::text::unix_micros(key.split_once('@').unwrap().1).unwrap();
        jobs(&daemon, name).into_iter().map(key).map(time).collect::<Vec<_>>()
    });
    for times in all {
        assert!(times.windows(2).all(|two| two[1] - two[0] <= 1_500_000), "{times:?}");
    }
    for words in [["--key", "schedule:a@b"], ["--unique", "schedule:a"]] {
        let told = daemon.run(&[&["submit"], &words[..], &["--", "true"]].concat());
        assert!(told.code != 0 && told.stderr.contains("is for schedules"), "{}", told.stderr);
    }
    assert_eq!(daemon.run(&["retry", "--pool", "default", "1"]).code, 2);
    let pruned: Value = serde_json::from_str(&daemon.ok(&["prune", "--older", "1h", "--json"])).unwrap();
    assert_eq!(pruned["ids"], Value::Array(vec![]));
}

#[test]
fn a_schedule_that_was_refused_by_a_drain_fires_when_the_pool_is_resumed() {
    let daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    daemon.ok(&["pool", "drain", "other"]);
    daemon.ok(&["schedule", "add", "a", "--every", "1s", "--pool", "other", "--", "true"]);
    wait_until("it is refused", || daemon.ok(&["schedule", "show", "a"]).contains("drained"));
    daemon.ok(&["pool", "resume", "other"]);
    // Otherwise it would be tried again after a minute.
    wait_until("it has fired", || !jobs(&daemon, "a").is_empty());
}

#[test]
fn schedules_that_do_not_exist_are_named_and_the_rest_is_done() {
    let daemon =
        Setup::new().workers(1).config("[schedule.fixed]\nevery = \"1h\"\ncommand = [\"true\"]\n").start();
    for name in ["a", "b"] {
        daemon.ok(&["schedule", "add", name, "--every", "1h", "--", "true"]);
    }
    for verb in ["pause", "resume", "rm"] {
        let said = daemon.run(&["schedule", verb, "nope", "a", "neither", "b"]);
        assert_eq!(said.code, 125, "{verb}: {said:?}");
        for name in ["nope", "neither"] {
            assert!(said.stderr.contains(&format!("there is no schedule {name:?}")), "{verb}: {said:?}");
        }
        if verb != "rm" {
            assert_eq!(schedule(&daemon, "b")["paused"], verb == "pause", "{verb}");
        }
    }
    assert_eq!(daemon.run(&["schedule", "show", "a"]).code, 125);
    daemon.ok(&["schedule", "add", "a", "--every", "1h", "--", "true"]);
    let said = daemon.run(&["schedule", "rm", "fixed", "a"]);
    assert_eq!(said.code, 125);
    assert!(said.stderr.contains("is defined in the configuration file"), "{said:?}");
    assert!(!daemon.ok(&["schedule", "ls"]).lines().any(|line| line.starts_with("a ")));
}
