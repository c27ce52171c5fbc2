//! What jobs, administrators and service managers may do to a slot from outside: no slot is broken for good,
//! and what was done is told.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{Daemon, Setup, alive, children, send, skip, wait_until};

/// The control group of a slot, where this machine has groups.
fn slot_group_or_skip(daemon: &Daemon, name: &str) -> Option<PathBuf> {
    let note = fs::read_to_string(daemon.state_dir().join("cgroup"));
    let group = note.ok().map(|note| PathBuf::from(note.trim_end()).join(name));
    if group.is_none() {
        skip("control groups cannot be written here");
    }
    group
}

fn doctor(daemon: &Daemon) -> String {
    daemon.run(&["doctor", "-v"]).stdout
}

#[track_caller]
fn runs_a_job(daemon: &Daemon) {
    let said = daemon.run(&["run", "-t", "30s", "--", "sh", "-c", "echo ran; grep ^0:: /proc/self/cgroup"]);
    assert_eq!((said.code, said.stdout.lines().next()), (0, Some("ran")), "{said:?}\n{}", daemon.log());
}

#[track_caller]
fn is_told(daemon: &Daemon, what: &str) {
    let told = doctor(daemon);
    assert!(told.contains(what), "{what} in\n{told}");
    assert!(daemon.log().contains(what), "{what} in\n{}", daemon.log());
}

// ---- control groups ----

#[test]
fn a_job_that_kills_its_own_group_costs_no_other_job() {
    let daemon = Daemon::start(1);
    let Some(group) = slot_group_or_skip(&daemon, "pool-default-0") else { return };
    for _ in 0..3 {
        let job = daemon.run(&["run", "--", "sh", "-c", &format!("echo 1 >{}/cgroup.kill", group.display())]);
        assert_eq!(job.code, 137, "{job:?}");
        runs_a_job(&daemon);
    }
}

#[test]
fn a_group_that_was_harmed_while_its_slot_was_idle_is_made_anew() {
    let daemon = Daemon::start(1);
    let Some(group) = slot_group_or_skip(&daemon, "pool-default-0") else { return };
    runs_a_job(&daemon);

    let write = |name: &str, text: &str| fs::write(group.join(name), text);
    write("cgroup.kill", "1").unwrap();
    runs_a_job(&daemon);
    is_told(&daemon, "was killed (cgroup.kill)");

    write("cgroup.freeze", "1").unwrap();
    runs_a_job(&daemon);
    is_told(&daemon, "was frozen (cgroup.freeze)");

    fs::remove_dir(&group).unwrap();
    runs_a_job(&daemon);
    is_told(&daemon, "was removed");

    fs::create_dir(group.join("somebodys")).unwrap();
    runs_a_job(&daemon);
    is_told(&daemon, "held groups");

    // Where there is no other controller, this limit is there all the same.
    write("cgroup.max.depth", "0").unwrap();
    wait_until("the limit is seen, which takes a moment", || {
        runs_a_job(&daemon);
        doctor(&daemon).contains("other limits (cgroup.max.depth)")
    });
    let said = daemon.run(&["run", "--", "cat", &format!("{}/cgroup.max.depth", group.display())]);
    assert_eq!(said.stdout, "max\n");
}

#[test]
fn a_job_that_was_killed_before_it_was_executed_has_not_run() {
    let daemon = Setup::new().workers(1).config("crash_limit = 1\n").start();
    let Some(group) = slot_group_or_skip(&daemon, "pool-default-0") else { return };
    for _ in 0..5 {
        fs::write(group.join("cgroup.kill"), "1").unwrap();
        let id = daemon.submit(&["--on-crash", "fail", "--", "true"]);
        assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
        assert_eq!(daemon.record(id).attempt, 1);
    }
}

#[test]
fn a_frozen_job_is_told_and_can_be_canceled() {
    let daemon = Daemon::start(1);
    let Some(group) = slot_group_or_skip(&daemon, "pool-default-0") else { return };
    let id = daemon.submit(&["--kill-after", "100ms", "--", "sleep", "600"]);
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    assert!(doctor(&daemon).contains("no slot stands still"));

    fs::write(group.join("cgroup.freeze"), "1").unwrap();
    wait_until("the log tells", || daemon.log().contains("is frozen (cgroup.freeze)"));
    let told = doctor(&daemon);
    assert!(told.contains("warning  stuck") && told.contains("is frozen, so that"), "{told}");

    daemon.ok(&["cancel", &id.to_string()]);
    assert_eq!(daemon.record(id).state, State::Canceled);
    runs_a_job(&daemon);
    assert!(doctor(&daemon).contains("no slot stands still"));
}

#[test]
fn while_all_groups_are_frozen_jobs_wait() {
    let daemon = Daemon::start(1);
    let Some(group) = slot_group_or_skip(&daemon, "pool-default-0") else { return };
    let all = group.parent().unwrap().join("cgroup.freeze");
    if group.parent().unwrap().join("main").exists() {
        return skip("poold itself is in these groups");
    }
    // So that its worker has started: one that starts tries the group with a process of its own.
    runs_a_job(&daemon);
    fs::write(&all, "1").unwrap();
    let id = daemon.submit(&["--", "true"]);
    let record = daemon.wait_record(id, "it says why", |record| record.reason.is_some());
    assert!(record.reason.unwrap().contains("frozen"));
    fs::write(&all, "0").unwrap();
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}

#[test]
fn the_group_of_a_resident_program_may_be_killed_again_and_again() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/square.py");
    let config = format!("[pool.square]\nworkers = 1\ncommand = [\"python3\", \"{program}\"]\n");
    let daemon = Setup::new().config(&config).start();
    if slot_group_or_skip(&daemon, "").is_none() {
        return;
    }
    for _ in 0..2 {
        assert_eq!(daemon.ok(&["call", "square", "square", "7"]).trim(), "49");
        let pools: serde_json::Value = serde_json::from_str(&daemon.ok(&["pool", "ls", "--json"])).unwrap();
        let pools = pools["pools"].as_array().unwrap();
        let pool = pools.iter().find(|pool| pool["name"] == "square").unwrap();
        let worker = i32::try_from(pool["slots"][0]["pid"].as_i64().unwrap()).unwrap();
        let program = children(worker)[0];
        let membership = fs::read_to_string(format!("/proc/{program}/cgroup")).unwrap();
        let name = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
        let all = slot_group_or_skip(&daemon, "").unwrap();
        let group = all.join(name.rsplit('/').next().unwrap());
        fs::write(group.join("cgroup.kill"), "1").unwrap();
        wait_until("the program is dead", || !alive(program));
    }
    assert_eq!(daemon.ok(&["call", "square", "square", "7"]).trim(), "49");
}

// ---- stopped workers ----

#[test]
fn a_job_may_stop_its_worker() {
    let daemon = Daemon::start(1);
    let said = daemon.run(&["run", "-t", "30s", "--", "sh", "-c", "kill -STOP $PPID; echo on"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "on\n"), "{}", daemon.log());
    runs_a_job(&daemon);
    is_told(&daemon, "was found stopped (SIGSTOP)");
}

#[test]
fn a_worker_that_is_stopped_again_and_again_is_replaced() {
    let daemon = Setup::new().workers(1).config("crash_limit = 1\n").start();
    let id = daemon.submit_sh("while kill -STOP $PPID; do sleep 0.01; done");
    let said = daemon.run(&["wait", &id.to_string()]);
    assert_eq!(daemon.record(id).state, State::Lost, "{said:?}");
    runs_a_job(&daemon);
    is_told(&daemon, "again and again");
}

#[test]
fn an_idle_worker_that_is_stopped_goes_on() {
    let daemon = Daemon::start(1);
    runs_a_job(&daemon);
    for worker in daemon.workers() {
        send(worker, Signal::SIGSTOP);
    }
    runs_a_job(&daemon);
}

// ---- odd files ----

#[test]
fn whatever_is_planted_at_the_output_of_a_job_is_replaced() {
    let daemon = Daemon::start(1);
    runs_a_job(&daemon);
    let folder = daemon.state_dir().join("output/0");
    let victim = daemon.path("victim");
    fs::write(&victim, "precious").unwrap();

    let plants: [&str; 5] = [
        "mkfifo $F",
        "mkdir $F && echo >$F/inner",
        "ln -s $V $F",
        "ln $V $F",
        "python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $F",
    ];
    for (next, plant) in (2..).zip(plants) {
        for stream in ["out", "err"] {
            let file = folder.join(format!("{next}.1.{stream}"));
            let script = plant.replace("$F", file.to_str().unwrap()).replace("$V", victim.to_str().unwrap());
            let planted = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
            assert!(planted.success(), "{script}");
        }
        runs_a_job(&daemon);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{plant}");
    }
    is_told(&daemon, "no plain file");
}

#[test]
fn whatever_is_planted_at_the_folder_of_outputs_is_replaced() {
    let daemon = Daemon::start(1);
    let folder = daemon.state_dir().join("output/0");
    fs::write(&folder, "no folder").unwrap();
    runs_a_job(&daemon);
}

#[test]
fn odd_files_in_the_state_directory_hold_up_no_start() {
    let mut daemon = Daemon::start(1);
    let id = daemon.submit(&["--", "true"]);
    daemon.ok(&["wait", &id.to_string()]);
    for name in ["cgroup", "poold.log", "stdin/odd", "output/0/odd", "output/odd"] {
        daemon.ok(&["shutdown"]);
        daemon.wait();
        let path = daemon.state_dir().join(name);
        let _ = fs::remove_file(&path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        daemon.restart();
        runs_a_job(&daemon);
    }
}

// ---- numbers without sense ----

#[test]
fn a_million_workers_are_refused_at_once() {
    for workers in [0, 1_000_000] {
        let setup = Setup::new().workers(workers);
        let said = pool_tests::run(&mut setup.command());
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains("write 1 to 4096"), "{said:?}");
    }
}
