//! What users see of labels and their limits: how many jobs of a label run at a time, over all pools, and who
//! is told what.

use std::fs::File;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::gate::{self, open, runs, state, wait};
use pool_tests::{Daemon, Setup, run, wait_until};
use serde_json::{Value, json};

const BUILD: &str = "[pool.build]\nworkers = 2\n";

/// A job with these options that runs until the test makes the file of that name.
fn gated(daemon: &Daemon, options: &[&str], gate: &str) -> u64 {
    gate::gated(daemon, options, "", gate)
}

fn limits(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.ok(&["limit", "ls", "--json"])).unwrap()
}

#[test]
fn so_many_of_a_label_run_over_all_pools_and_a_kill_and_others_go_past_them() {
    let mut daemon = Setup::new().workers(2).config(BUILD).start();
    daemon.ok(&["limit", "set", "gpu", "2"]);
    let first = gated(&daemon, &["-l", "gpu"], "first");
    let second = gated(&daemon, &["--label", "gpu", "--label", "big", "--pool", "build"], "second");
    runs(&daemon, first);
    runs(&daemon, second);
    let third = gated(&daemon, &["-l", "gpu"], "first");
    let fourth = gated(&daemon, &["-l", "gpu", "-p", "build"], "second");
    assert_eq!(daemon.run(&["run", "--", "true"]).code, 0, "another job goes past");
    assert_eq!(daemon.run(&["run", "--pool", "build", "-l", "big", "--", "true"]).code, 0);
    assert_eq!((state(&daemon, third), state(&daemon, fourth)), (State::Queued, State::Queued));

    let said = daemon.ok(&["why", &third.to_string()]);
    assert_eq!(said, format!("job {third} is 1st in line; limit gpu: 2 of 2 run ({first}, {second})\n"));
    let document: Value = serde_json::from_str(&daemon.ok(&["why", "--json", &third.to_string()])).unwrap();
    assert_eq!(
        (&document["kind"], &document["label"], &document["limit"], &document["busy"]),
        (&json!("limit"), &json!("gpu"), &json!(2), &json!([first, second]))
    );
    let shown = daemon.ok(&["show", &second.to_string()]);
    assert!(shown.contains("labels     big, gpu\n"), "{shown}");
    let listed = daemon.ok(&["ls"]);
    assert!(listed.contains("[big, gpu]\n"), "{listed}");
    assert_eq!(daemon.record(second).labels, Some(vec!["big".to_owned(), "gpu".to_owned()]));
    let listed = json!([{"label": "gpu", "limit": 2, "source": "set", "running": [first, second]}]);
    assert_eq!(limits(&daemon), json!({"schema": 1, "limits": listed}));
    let table = daemon.ok(&["limit", "ls"]);
    assert!(table.lines().nth(1).unwrap().ends_with(&format!("{first}, {second}")), "{table}");

    daemon.kill_in_one_instant();
    daemon.restart();
    let running = || limits(&daemon)["limits"][0]["running"].as_array().unwrap().len();
    wait_until("two of them run, and not more", || running() == 2);
    open(&daemon, "first");
    open(&daemon, "second");
    wait(&daemon, &[first, second, third, fourth]);
    assert_eq!(limits(&daemon)["limits"][0]["running"], json!([]));
}

#[test]
fn a_limit_changes_while_jobs_run_and_the_configurations_comes_back() {
    let daemon = Setup::new().workers(3).config("[limit.gpu]\nrunning = 1\n").start();
    let jobs = ["a", "b", "c"].map(|gate| gated(&daemon, &["-l", "gpu"], gate));
    runs(&daemon, jobs[0]);
    let refused = daemon.run(&["limit", "rm", "gpu"]);
    assert!(refused.code == 125 && refused.stderr.contains("configuration file"), "{refused:?}");
    daemon.ok(&["limit", "set", "gpu", "3"]);
    jobs.iter().for_each(|&id| runs(&daemon, id));
    daemon.ok(&["limit", "set", "gpu", "1"]);
    assert_eq!(limits(&daemon)["limits"][0]["running"], json!(jobs), "what runs goes on");
    daemon.ok(&["limit", "rm", "gpu"]);
    assert_eq!(limits(&daemon)["limits"][0]["source"], "config");
    let later = daemon.submit(&["-l", "gpu", "--", "true"]);
    open(&daemon, "a");
    open(&daemon, "b");
    wait(&daemon, &jobs[..2]);
    assert_eq!(state(&daemon, later), State::Queued);

    std::fs::write(daemon.path("config.toml"), "[limit.gpu]\nrunning = 2\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait(&daemon, &[later]);
    assert_eq!(state(&daemon, jobs[2]), State::Running);
    open(&daemon, "c");
    wait(&daemon, &[jobs[2]]);
}

#[test]
fn a_job_that_is_exclusive_runs_alone() {
    let daemon = Daemon::start(3);
    let first = gated(&daemon, &["--exclusive", "db"], "first");
    runs(&daemon, first);
    let second = daemon.submit(&["--exclusive", "db", "--", "true"]);
    let third = daemon.submit(&["--label", "db", "--", "true"]);
    let said = daemon.ok(&["why", &third.to_string()]);
    assert!(said.ends_with(&format!("limit db: 1 of 1 runs ({first})\n")), "{said}");
    open(&daemon, "first");
    wait(&daemon, &[first, second, third]);
    assert_eq!(limits(&daemon)["limits"][0]["limit"], 1, "the limit stays");

    daemon.ok(&["limit", "set", "db", "2"]);
    let refused = daemon.run(&["submit", "--exclusive", "db", "--", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("`poolctl limit set db 1`"), "{refused:?}");
    daemon.ok(&["limit", "rm", "db"]);
    assert_eq!(limits(&daemon)["limits"], json!([]));
}

#[test]
fn every_way_to_submit_takes_labels() {
    let warm = "[pool.cat]\nworkers = 1\ncommand = [\"cat\"]\n";
    let daemon = Setup::new().workers(2).config(warm).start();
    let of = |id: u64| daemon.record(id).labels.unwrap_or_default().join(",");
    let text = "{\"argv\":[\"true\"],\"labels\":[\"own\",\"own\"]}\n{\"argv\":[\"true\"]}\n";
    std::fs::write(daemon.path("jobs"), text).unwrap();
    let ids = daemon.ok(&["submit", "-l", "given", "--from", &daemon.path_text("jobs")]);
    let ids: Vec<u64> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert_eq!([of(ids[0]), of(ids[1])], ["own", "given"]);
    assert_eq!(daemon.run(&["run", "-l", "r", "--", "true"]).code, 0);
    assert_eq!(of(ids[1] + 1), "r");
    daemon.ok(&["limit", "set", "m", "1"]);
    assert_eq!(daemon.run(&["map", "-l", "m", "--", "true", ":::", "1", "2", "3"]).code, 0);
    assert_eq!(of(ids[1] + 4), "m");
    let call = daemon.ok(&["call", "--async", "-l", "c", "cat", "m"]);
    assert_eq!(of(call.trim().parse().unwrap()), "c");
    daemon.ok(&["cancel", call.trim()]);
}

#[test]
fn what_is_no_label_and_no_limit_is_refused_and_changes_nothing() {
    let daemon = Daemon::start(1);
    for (words, said) in [
        (&["submit", "-l", "a b", "--", "true"][..], "letters, digits"),
        (&["submit", "--label", "", "--", "true"], "letters, digits"),
        (&["limit", "set", "gpu", "0"], "write 1 or more"),
        (&["limit", "set", "gpu", "many"], "write 1 or more"),
        (&["limit", "set", "g,u", "1"], "letters, digits"),
        (&["limit", "rm", "gpu"], "no limit of the label \"gpu\" was set"),
    ] {
        let refused = daemon.run(words);
        assert!(refused.code != 0 && refused.stderr.contains(said), "{words:?}: {refused:?}");
    }
    let many: Vec<String> = (0..17).map(|label| format!("-l{label}")).collect();
    let words: Vec<&str> = ["submit"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let refused = daemon.run(&[&words[..], &["--", "true"]].concat());
    assert!(refused.stderr.contains("16 labels at most"), "{refused:?}");

    for text in ["[limit.gpu]\nrunning = 0\n", "[limit.gpu]\n", "[limit.\"a b\"]\nrunning = 1\n"] {
        let said = run(&mut Setup::new().config(text).command());
        assert!(
            said.code != 0 && said.stderr.contains("running") | said.stderr.contains("[limit]"),
            "{said:?}"
        );
    }
    assert_eq!(limits(&daemon)["limits"], json!([]));
    assert!(!daemon.ok(&["ls"]).contains("true"), "nothing was submitted");
}

#[test]
fn a_shutdown_waits_for_what_a_limit_holds_back_and_a_stop_does_not() {
    let mut daemon = Daemon::start(2);
    daemon.ok(&["limit", "set", "gpu", "1"]);
    let first = gated(&daemon, &["-l", "gpu"], "first");
    runs(&daemon, first);
    let second = gated(&daemon, &["-l", "gpu"], "second");
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    daemon.restart();
    runs(&daemon, first);
    assert_eq!(state(&daemon, second), State::Queued);

    let mut shutdown = daemon.ctl(&["shutdown"]).spawn().unwrap();
    open(&daemon, "first");
    wait_until("it is its turn", || state(&daemon, second) == State::Running);
    open(&daemon, "second");
    assert_eq!(shutdown.wait().unwrap().code(), Some(0));
    daemon.wait();
}

#[test]
fn a_job_after_a_label_waits_for_all_that_have_it_and_have_not_ended() {
    let daemon = Setup::new().workers(3).config(BUILD).start();
    daemon.ok(&["run", "-l", "night", "--", "true"]);
    let first = gated(&daemon, &["-l", "night"], "first");
    let second = gated(&daemon, &["-l", "night", "-l", "x", "-p", "build"], "second");
    let other = gated(&daemon, &["-l", "nightly"], "other");
    let after = daemon.submit(&["-d", "afterany:@night", "--", "true"]);
    let dependencies = daemon.record(after).after.unwrap_or_default();
    assert_eq!(dependencies.iter().map(|one| one.id).collect::<Vec<_>>(), [first, second]);
    let listed: Value = serde_json::from_str(&daemon.ok(&["ls", "--label", "night", "--json"])).unwrap();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 3);

    open(&daemon, "first");
    wait(&daemon, &[first]);
    assert_eq!(state(&daemon, after), State::Blocked);
    open(&daemon, "second");
    wait(&daemon, &[second, after]);
    open(&daemon, "other");
    wait(&daemon, &[other]);
    let free = daemon.submit(&["-d", "@nobody", "--", "true"]);
    wait(&daemon, &[free]);
    assert_eq!(daemon.run(&["submit", "-d", "@a b", "--", "true"]).code, 2);
}

#[test]
fn why_tells_all_that_keeps_a_job_of_a_label_waiting() {
    let daemon = Setup::new().workers(1).config(BUILD).start();
    for label in ["a", "b"] {
        daemon.ok(&["limit", "set", label, "1"]);
    }
    let first = gated(&daemon, &["-l", "b"], "first");
    runs(&daemon, first);
    let second = daemon.submit(&["-l", "b", "--", "true"]);
    let busy = format!("limit b: 1 of 1 runs ({first}); pool default: 1 of 1 slot is busy (job {first})");
    assert_eq!(
        daemon.ok(&["why", &second.to_string()]),
        format!("job {second} is 1st in line; {busy}\n"),
        "a place alone would not start it"
    );

    let insisting = daemon.submit(&["-p", "build", "-l", "a", "-l", "b", "--", "true"]);
    for _ in 0..16 {
        daemon.ok(&["run", "-p", "build", "-l", "a", "--", "true"]);
    }
    let third = daemon.submit(&["-p", "build", "-l", "a", "--", "true"]);
    let said = daemon.ok(&["why", &third.to_string()]);
    assert!(said.contains("are kept for a job with several labels that was passed often"), "{said}");
    File::create(daemon.path("first")).unwrap();
    daemon.ok(&["wait", &insisting.to_string(), &third.to_string()]);
}
