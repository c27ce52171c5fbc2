//! What users see of jobs that take several slots of their pool.

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::gate::{self, open, runs, state, wait};
use pool_tests::{Daemon, Setup, run, wait_until};
use serde_json::Value;

/// A job with these options that runs until the test makes the file of that name.
fn gated(daemon: &Daemon, options: &[&str], gate: &str) -> u64 {
    gate::gated(daemon, options, "echo $POOL_SLOTS; ", gate)
}

fn pool(daemon: &Daemon) -> Value {
    let pools: Value = serde_json::from_str(&daemon.ok(&["pool", "ls", "--json"])).unwrap();
    pools["pools"][0].clone()
}

/// The jobs in the slots of the default pool.
fn in_slots(daemon: &Daemon) -> Vec<Option<u64>> {
    let pool = pool(daemon);
    pool["slots"].as_array().unwrap().iter().map(|slot| slot["job"].as_u64()).collect()
}

fn why(daemon: &Daemon, id: u64) -> String {
    daemon.ok(&["why", &id.to_string()])
}

#[test]
fn slots_are_gathered_shown_and_given_back_also_after_a_kill() {
    let mut daemon = Daemon::start(3);
    let first = gated(&daemon, &[], "first");
    runs(&daemon, first);
    let wide = gated(&daemon, &["--slots", "3"], "wide");
    let behind = daemon.submit(&["--", "true"]);
    assert_eq!((state(&daemon, wide), state(&daemon, behind)), (State::Queued, State::Queued));
    assert_eq!(pool(&daemon)["gathering_for"].as_u64(), Some(wide));
    let said = why(&daemon, wide);
    assert!(said.contains("it takes 3 slots, and those that become free are kept for it"), "{said}");
    let said = why(&daemon, behind);
    assert!(said.contains(&format!("free slots are kept for job {wide}")), "{said}");

    daemon.kill_in_one_instant();
    daemon.restart();
    runs(&daemon, first);
    open(&daemon, "first");
    runs(&daemon, wide);
    assert_eq!(in_slots(&daemon), [Some(wide); 3]);
    assert_eq!(state(&daemon, behind), State::Queued);
    assert!(why(&daemon, behind).contains(&format!("3 of 3 slots are busy (job {wide})")));
    let shown = daemon.ok(&["show", &wide.to_string()]);
    assert!(shown.contains("slots      3\n"), "{shown}");
    assert_eq!(daemon.record(wide).slots, 3);
    open(&daemon, "wide");
    wait(&daemon, &[first, wide, behind]);
    assert_eq!(daemon.ok(&["logs", &wide.to_string()]), "3\n");
    assert_eq!(daemon.ok(&["logs", &first.to_string()]), "1\n");
    wait_until("all slots are free", || in_slots(&daemon) == [None; 3]);
}

#[test]
fn every_way_to_submit_takes_slots() {
    let daemon = Daemon::start(2);
    let show = ["sh", "-c", "echo $POOL_SLOTS"];
    let said = daemon.run(&[&["run", "--slots", "2", "--"][..], &show].concat());
    assert_eq!((said.code, said.stdout.as_str()), (0, "2\n"));
    let said =
        daemon.ok(&["map", "-k", "--slots", "2", "--", "sh", "-c", "echo $POOL_SLOTS {}", ":::", "a", "b"]);
    assert_eq!(said, "2 a\n2 b\n");
    let text = "{\"argv\":[\"true\"]}\n{\"argv\":[\"true\"],\"slots\":1}\n";
    std::fs::write(daemon.path("jobs"), text).unwrap();
    let ids = daemon.ok(&["submit", "--slots", "2", "--from", &daemon.path_text("jobs")]);
    let ids: Vec<u64> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    wait(&daemon, &ids);
    assert_eq!([daemon.record(ids[0]).slots, daemon.record(ids[1]).slots], [2, 1]);
    daemon.ok(&["schedule", "add", "often", "--every", "1h", "--slots", "2", "--", "true"]);
    let id: u64 = daemon.ok(&["schedule", "run", "often"]).trim().parse().unwrap();
    assert_eq!(daemon.record(id).slots, 2);
    wait(&daemon, &[id]);
    // A job inside of such a job takes one.
    let inner = "poolctl run -- sh -c 'echo $POOL_SLOTS'";
    let path = format!(
        "PATH={}:{}",
        pool_tests::poolctl().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    daemon.ok(&["pool", "set", "default", "--workers", "3"]);
    let said = daemon.run(&["run", "--slots", "2", "--env", &path, "--", "sh", "-c", inner]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "1\n"), "{said:?}");
}

#[test]
fn what_a_pool_cannot_take_is_refused_and_changes_nothing() {
    let warm = "[pool.cat]\nworkers = 4\ncommand = [\"cat\"]\n";
    let daemon = Setup::new().workers(2).config(warm).start();
    for (words, said) in [
        (&["submit", "--slots", "3", "--", "true"][..], "the pool \"default\" has 2"),
        (&["submit", "--slots", "3", "--", "true"], "`poolctl pool set default --workers 3`"),
        (&["submit", "--slots", "0", "--", "true"], "write 1 or more"),
        (&["submit", "--slots", "many", "--", "true"], "write 1 or more"),
        (&["call", "--slots", "2", "cat", "m"], "--slots"),
    ] {
        let refused = daemon.run(words);
        assert!(refused.code != 0 && refused.stderr.contains(said), "{words:?}: {refused:?}");
    }
    assert!(!daemon.ok(&["ls"]).contains("true"), "nothing was submitted");
    let text = format!("{warm}backfill = true\n");
    let said = run(&mut Setup::new().config(&text).command());
    assert!(said.code != 0 && said.stderr.contains("backfill"), "{said:?}");
}

#[test]
fn with_backfill_others_use_what_is_free() {
    let daemon = Setup::new().workers(3).config("[pool.default]\nbackfill = true\n").start();
    let first = gated(&daemon, &[], "first");
    runs(&daemon, first);
    let wide = gated(&daemon, &["--slots", "3"], "wide");
    assert_eq!(daemon.run(&["run", "--slots", "2", "--", "true"]).code, 0, "it fits, and passes");
    assert_eq!(state(&daemon, wide), State::Queued);
    for _ in 0..15 {
        assert_eq!(daemon.run(&["run", "--", "true"]).code, 0);
    }
    let late = daemon.submit(&["--", "true"]);
    let said = why(&daemon, late);
    assert!(said.contains(&format!("free slots are kept for job {wide}")), "sixteen have passed: {said}");
    open(&daemon, "first");
    runs(&daemon, wide);
    assert_eq!(state(&daemon, late), State::Queued);
    open(&daemon, "wide");
    wait(&daemon, &[first, wide, late]);
}

#[test]
fn a_pool_that_has_become_too_small_tells_so_and_goes_on_with_the_others() {
    let mut daemon = Daemon::start(3);
    let first = gated(&daemon, &[], "first");
    runs(&daemon, first);
    let wide = daemon.submit(&["--slots", "3", "--", "true"]);
    let second = gated(&daemon, &[], "second");
    daemon.ok(&["pool", "set", "default", "--workers", "2"]);
    runs(&daemon, second);
    let said = why(&daemon, wide);
    assert!(said.contains("it takes 3 slots, and the pool \"default\" has 2"), "{said}");
    assert!(said.contains("`poolctl pool set default --workers 3`"), "{said}");
    open(&daemon, "first");
    open(&daemon, "second");
    wait(&daemon, &[first, second]);

    // Nobody waits for what cannot run, and it is kept.
    daemon.ok(&["shutdown"]);
    daemon.wait();
    daemon.restart();
    assert_eq!(state(&daemon, wide), State::Queued);
    daemon.ok(&["pool", "set", "default", "--workers", "3"]);
    wait(&daemon, &[wide]);
}

#[test]
fn who_waits_for_a_job_that_its_pool_cannot_take_is_told() {
    let daemon = Daemon::start(2);
    let first = gated(&daemon, &[], "first");
    runs(&daemon, first);
    let wide = daemon.submit(&["--slots", "2", "--", "true"]);
    daemon.ok(&["pool", "set", "default", "--workers", "1"]);
    open(&daemon, "first");
    wait(&daemon, &[first]);
    let mut waiting =
        daemon.ctl(&["wait", &wide.to_string()]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let stderr = std::io::BufReader::new(waiting.stderr.take().unwrap());
    let said = std::io::BufRead::lines(stderr).next().unwrap().unwrap();
    assert!(said.contains("it takes 2 slots, and the pool \"default\" has 1"), "{said}");
    daemon.ok(&["pool", "set", "default", "--reset"]);
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn a_worker_that_dies_gives_all_slots_of_its_job_back() {
    let daemon = Daemon::start(2);
    let wide = gated(&daemon, &["--slots", "2", "--on-crash", "fail"], "never");
    runs(&daemon, wide);
    let behind = daemon.submit(&["--", "true"]);
    let worker = daemon.record(wide).worker_pid.unwrap();
    pool_tests::send(worker, Signal::SIGKILL);
    wait(&daemon, &[behind]);
    assert_eq!(state(&daemon, wide), State::Failed);
    assert_eq!(daemon.run(&["run", "--slots", "2", "--", "true"]).code, 0);
}
