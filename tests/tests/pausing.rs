//! What users see of a pool that is paused: it starts nothing, says so to everybody who asks or waits, and is
//! paused after any restart as before. And of one that is made wider and narrower.

use std::fs::File;
use std::process::Stdio;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::gate::state;
use pool_tests::{Daemon, Setup, run, wait_until};
use serde_json::Value;

const BUILD: &str = "[pool.build]\nworkers = 1\n";

fn pool(daemon: &Daemon, name: &str) -> Value {
    let document: Value = serde_json::from_str(&daemon.ok(&["pool", "ls", "--json"])).unwrap();
    document["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap().clone()
}

fn kill_and_restart(daemon: &mut Daemon) {
    daemon.kill_in_one_instant();
    daemon.restart();
}

/// What is submitted to another pool has been started and has ended: so would what is paused.
fn is_passed_by(daemon: &Daemon) {
    assert_eq!(daemon.run(&["run", "--pool", "build", "--", "true"]).code, 0);
}

#[test]
fn a_paused_pool_finishes_what_it_runs_and_starts_nothing_over_a_kill_until_it_is_resumed() {
    let mut daemon = Setup::new().workers(1).config(BUILD).start();
    let gate = daemon.path_text("gate");
    let running = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    daemon.wait_record(running, "it runs", |record| record.state == State::Running);
    let queued = daemon.submit(&["--", "true"]);

    daemon.ok(&["pool", "pause", "default"]);
    let told = pool(&daemon, "default");
    assert_eq!((&told["paused"], &told["running"], &told["queued"]), (&true.into(), &1.into(), &1.into()));
    assert_eq!(told["paused_by"], nix::unistd::getuid().as_raw());
    let since = told["paused_since"].as_str().unwrap().to_owned();
    assert!(daemon.ok(&["pool", "ls"]).contains(&since));
    File::create(&gate).unwrap();
    daemon.ok(&["wait", &running.to_string()]);
    is_passed_by(&daemon);
    let later = daemon.submit(&["--", "true"]);

    daemon.ok(&["pool", "pause", "default"]);
    kill_and_restart(&mut daemon);
    is_passed_by(&daemon);
    assert_eq!((state(&daemon, queued), state(&daemon, later)), (State::Queued, State::Queued));
    assert_eq!(
        pool(&daemon, "default")["paused_since"],
        since.as_str(),
        "paused twice, it is paused since then"
    );
    let doctor = daemon.run(&["doctor"]).stdout;
    assert!(doctor.contains("2 queued jobs wait, because the pool is paused since"), "{doctor}");
    assert!(doctor.contains("poolctl pool resume default"), "{doctor}");

    daemon.ok(&["pool", "resume", "default"]);
    daemon.ok(&["wait", &queued.to_string(), &later.to_string()]);
    kill_and_restart(&mut daemon);
    let told = pool(&daemon, "default");
    assert_eq!((&told["paused"], &told["paused_since"]), (&false.into(), &Value::Null));
    assert_eq!(daemon.run(&["run", "--", "true"]).code, 0);
}

#[test]
fn who_waits_or_listens_is_told_of_the_pause() {
    let daemon = Setup::new().workers(1).config(BUILD).start();
    let heard = daemon.path("heard");
    let mut events = daemon.ctl(&["events"]);
    events.stdout(File::create(&heard).unwrap()).stderr(Stdio::null());
    let mut events = events.spawn().unwrap();
    let hears = |words: &str| {
        wait_until(words, || std::fs::read_to_string(&heard).unwrap().contains(words));
    };
    hears("listening");

    daemon.ok(&["pool", "pause", "build", "default"]);
    hears("pool default  paused");
    hears("pool build    paused");
    let stderr = daemon.path("stderr");
    let mut waits = daemon.ctl(&["submit", "--wait", "--", "true"]);
    waits.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr).unwrap());
    let mut waits = waits.spawn().unwrap();
    wait_until("it is told why its job waits", || {
        let said = std::fs::read_to_string(&stderr).unwrap();
        said.contains("pool default is paused since 2") && said.contains("`poolctl pool resume default`")
    });
    daemon.ok(&["pool", "resume", "default", "build"]);
    hears("pool default  goes on");
    assert_eq!(waits.wait().unwrap().code(), Some(0));
    events.kill().unwrap();
    events.wait().unwrap();
}

#[test]
fn a_shutdown_keeps_the_jobs_of_a_paused_pool_and_neither_it_nor_a_reload_ends_the_pause() {
    let mut daemon = Setup::new().workers(1).config(BUILD).start();
    daemon.ok(&["pool", "pause", "default"]);
    let queued = daemon.submit(&["--", "true"]);
    daemon.signal(Signal::SIGHUP);
    is_passed_by(&daemon);
    assert_eq!(pool(&daemon, "default")["paused"], true);

    let said = daemon.run(&["shutdown"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("1 job"), "what is kept is told: {said:?}");
    daemon.wait();
    daemon.restart();
    is_passed_by(&daemon);
    assert_eq!(state(&daemon, queued), State::Queued);
    daemon.ok(&["pool", "resume", "default"]);
    daemon.ok(&["wait", &queued.to_string()]);
}

#[test]
fn a_warm_pool_that_is_paused_keeps_its_program_and_a_pool_that_is_removed_its_pause_no_longer() {
    let daemon = Setup::new().workers(1).config(BUILD).start();
    let program = r#"while read -r call; do id=${call##*'"id":'}; echo '{"jsonrpc":"2.0","id":'"${id%%[,\}]*}"',"result":1}'; done"#;
    daemon.ok(&["pool", "add", "one", "--", "sh", "-c", program]);
    assert_eq!(daemon.run(&["call", "one", "m"]).stdout.trim(), "1");
    let pid = pool(&daemon, "one")["slots"][0]["program_pid"].clone();

    daemon.ok(&["pool", "pause", "one"]);
    let id: u64 = daemon.ok(&["call", "--async", "one", "m"]).trim().parse().unwrap();
    let bounded = daemon.submit(&["--pool", "build", "--deadline", "300ms", "--", "sleep", "100"]);
    daemon.run(&["wait", &bounded.to_string()]);
    assert_eq!(state(&daemon, id), State::Queued);
    assert_eq!(pool(&daemon, "one")["slots"][0]["program_pid"], pid);

    daemon.ok(&["pool", "rm", "one"]);
    daemon.ok(&["pool", "add", "one", "--", "sh", "-c", program]);
    daemon.ok(&["wait", &id.to_string()]);
}

#[test]
fn a_deadline_ends_what_is_queued_in_a_paused_pool_and_unknown_pools_are_named() {
    let daemon = Setup::new().workers(1).config(BUILD).start();
    daemon.ok(&["pool", "pause", "default"]);
    let id = daemon.submit(&["--deadline", "200ms", "--", "true"]);
    daemon.run(&["wait", &id.to_string()]);
    assert_eq!(state(&daemon, id), State::TimedOut);

    for unknown in ["none", "callbacks"] {
        let said = run(&mut daemon.ctl(&["pool", "pause", "build", unknown]));
        assert_eq!(said.code, 125, "{said:?}");
        assert!(said.stderr.contains(&format!("there is no pool {unknown:?}")), "{said:?}");
    }
    assert_eq!(pool(&daemon, "build")["paused"], false, "all or none");
}

#[test]
fn a_pool_is_made_wider_and_narrower_at_run_time_and_stays_so() {
    let mut daemon = Setup::new().workers(1).config(BUILD).start();
    let gate = daemon.path_text("gate");
    let script = format!("until [ -e {gate} ]; do sleep 0.02; done");
    let jobs = [0; 3].map(|_| daemon.submit_sh(&script));
    daemon.wait_record(jobs[0], "it runs", |record| record.state == State::Running);
    assert_eq!(state(&daemon, jobs[1]), State::Queued);

    daemon.ok(&["pool", "set", "default", "--workers", "3"]);
    for id in jobs {
        daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    }
    // What runs goes on, and nothing takes the place of the ones too many.
    daemon.ok(&["pool", "set", "default", "--workers", "1"]);
    let last = daemon.submit(&["--", "true"]);
    assert!(jobs.iter().all(|&id| state(&daemon, id) == State::Running));
    File::create(&gate).unwrap();
    daemon.wait_record(last, "it ends", |record| record.state == State::Succeeded);
    wait_until("one is left", || pool(&daemon, "default")["slots"].as_array().unwrap().len() == 1);

    daemon.ok(&["pool", "set", "build", "--workers", "2"]);
    kill_and_restart(&mut daemon);
    assert_eq!(
        (&pool(&daemon, "default")["workers"], &pool(&daemon, "build")["workers"]),
        (&1.into(), &2.into())
    );
    daemon.ok(&["pool", "set", "build", "--reset"]);
    wait_until("it is as configured", || pool(&daemon, "build")["workers"] == 1);

    for (arguments, said) in [
        (&["none", "--workers", "1"][..], "there is no pool \"none\""),
        (&["build", "--workers", "5000"], "--workers: from 1 to 4096"),
    ] {
        let told = daemon.run(&[&["pool", "set"], arguments].concat());
        assert!(told.code != 0 && told.stderr.contains(said), "{}", told.stderr);
    }
}

#[test]
fn a_drained_pool_works_off_what_it_has_and_takes_nothing_new_until_it_is_resumed() {
    let daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    let gate = daemon.path_text("gate");
    let running = daemon.submit_sh(&format!("until [ -e {gate} ]; do sleep 0.02; done"));
    let queued = daemon.submit(&["--", "true"]);
    let held = daemon.submit(&["--hold", "--", "true"]);
    let elsewhere = daemon.submit(&["--pool", "other", "--hold", "--", "true"]);

    let said = daemon.run(&["pool", "drain", "--timeout", "100ms", "default"]);
    assert!(said.code == 124 && said.stderr.contains("is not empty yet, and takes no new jobs"), "{said:?}");
    let said = daemon.run(&["submit", "--", "true"]);
    assert!(said.code == 75 && said.stderr.contains("pool resume default"), "{said:?}");
    let said = daemon.run(&["move", &elsewhere.to_string(), "--pool", "default"]);
    assert!(said.code == 75 && said.stderr.contains("is being drained"), "{said:?}");
    let said = daemon.run(&["edit", &elsewhere.to_string(), "--pool", "default"]);
    assert!(said.code == 75 && said.stderr.contains("is being drained"), "{said:?}");
    let ended = daemon.submit(&["--pool", "other", "--", "true"]);
    daemon.ok(&["wait", &ended.to_string()]);
    daemon.ok(&["pool", "drain", "other"]);
    let said = daemon.run(&["retry", &ended.to_string()]);
    assert!(said.code == 125 && said.stderr.contains("its pool \"other\" is being drained"), "{said:?}");
    assert!(said.stderr.contains("`poolctl pool resume other`"), "{said:?}");
    daemon.ok(&["pool", "resume", "other"]);
    daemon.ok(&["retry", &ended.to_string()]);
    let said = daemon.run(&["release", &held.to_string()]);
    assert!(said.code == 75 && said.stderr.contains("is being drained"), "{said:?}");
    let why = daemon.ok(&["why", &held.to_string(), &queued.to_string()]);
    let told = ["after `poolctl pool resume default`", "takes no new jobs: it works off what it has"];
    assert!(why.lines().zip(told).all(|(line, told)| line.contains(told)), "{why}");
    assert!(daemon.ok(&["pool", "ls"]).contains("draining since"));
    assert!(daemon.run(&["doctor"]).stdout.contains("takes no new jobs"));
    daemon.ok(&["run", "--pool", "other", "--", "true"]);

    let mut draining = daemon.ctl(&["pool", "drain", "default"]).spawn().unwrap();
    assert!(draining.try_wait().unwrap().is_none());
    File::create(daemon.path("gate")).unwrap();
    assert!(draining.wait().unwrap().success());
    for id in [running, queued] {
        assert_eq!(daemon.record(id).state, State::Succeeded, "{id}");
    }
    assert_eq!(daemon.record(held).state, State::Held);
    assert_eq!(daemon.run(&["pool", "drain", "default"]).code, 0, "it is empty");
    assert_eq!(daemon.run(&["pool", "drain", "none"]).code, 125);

    daemon.ok(&["pool", "resume", "default"]);
    daemon.ok(&["release", &held.to_string()]);
    daemon.ok(&["wait", &held.to_string()]);
    daemon.ok(&["run", "--", "true"]);
}

#[test]
fn who_waits_for_a_drain_is_told_that_it_was_ended() {
    let daemon = Setup::new().workers(1).start();
    daemon.submit(&["--", "sleep", "1000"]);
    daemon.run(&["pool", "drain", "--timeout", "1ms", "default"]);
    let draining = daemon.ctl(&["pool", "drain", "default"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = None;
    let mut draining = Some(draining);
    wait_until("the drain is over", || {
        // It may not have asked yet.
        daemon.ok(&["pool", "resume", "default"]);
        if draining.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
            said = draining.take().map(|child| child.wait_with_output().unwrap());
        }
        said.is_some()
    });
    let said = said.unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.code() == Some(125) && text.contains("its drain is over"), "{text}");
}
