//! What users see of a running job that is paused: it stands still with all that it has started, says so, and
//! ends like any other.

use std::fs;
use std::time::{Duration, Instant};

use pool_proto::State;
use pool_tests::{Daemon, Setup, alive, wait_until};

/// With control groups where they can be had, and without.
fn both() -> [Daemon; 2] {
    ["auto", "off"].map(|cgroup| {
        let config = format!("cgroup = {cgroup:?}\n[pool.build]\nworkers = 2\n[pool.clock]\nworkers = 1");
        Setup::new().workers(1).config(&config).start()
    })
}

/// Waits as long as another job runs: what is not paused goes on meanwhile.
fn pass(daemon: &Daemon, seconds: &str) {
    daemon.ok(&["run", "-p", "clock", "--", "sleep", seconds]);
}

/// Submits a job whose first process and its child write to files of that name for as long as they can.
fn counting(daemon: &Daemon, pool: &str, name: &str, options: &[&str]) -> u64 {
    let path = daemon.path_text(name);
    let script = format!(
        "count() {{ echo $$ > {path}.pid; while :; do echo >> $1; sleep 0.01; done; }}; \
         setsid sh -c 'echo $$ > {path}.child; while :; do echo >> {path}.2; sleep 0.01; done' & count {path}.1"
    );
    let id = daemon.submit(&[&["-p", pool], options, &["--", "sh", "-c", &script]].concat());
    wait_until("it counts", || size(daemon, name).0 > 0 && size(daemon, name).1 > 0);
    id
}

fn size(daemon: &Daemon, name: &str) -> (u64, u64) {
    let length =
        |end: &str| fs::metadata(daemon.path(&format!("{name}.{end}"))).map_or(0, |metadata| metadata.len());
    (length("1"), length("2"))
}

fn stands_still(daemon: &Daemon, name: &str) {
    wait_until("it stands still", || {
        let before = size(daemon, name);
        pass(daemon, "0.1");
        before == size(daemon, name)
    });
    let before = size(daemon, name);
    pass(daemon, "0.3");
    assert_eq!(size(daemon, name), before);
}

fn goes_on(daemon: &Daemon, name: &str) {
    let before = size(daemon, name);
    wait_until("it goes on", || {
        let now = size(daemon, name);
        now.0 > before.0 && now.1 > before.1
    });
}

#[test]
fn a_paused_job_stands_still_and_says_so_until_it_is_resumed() {
    for daemon in both() {
        let id = counting(&daemon, "default", "count", &[]);
        let (text, shown) = (id.to_string(), |verb: &str| daemon.ok(&[verb, &id.to_string()]));
        daemon.ok(&["pause", &text]);
        stands_still(&daemon, "count");

        assert!(daemon.ok(&["ls"]).lines().any(|line| line.contains(" paused ")), "{}", daemon.ok(&["ls"]));
        assert!(shown("show").contains("running, paused since 20"), "{}", shown("show"));
        let hint = format!("`poolctl resume {id}`");
        assert!(shown("why").contains(&hint) && shown("show").contains(&hint), "{}", shown("why"));
        let record = daemon.record(id);
        assert_eq!((record.state, record.frozen_since.is_some()), (State::Running, true));

        daemon.ok(&["pause", &text]);
        daemon.ok(&["resume", &text]);
        goes_on(&daemon, "count");
        assert_eq!(daemon.record(id).frozen_since, None);
        assert!(!daemon.ok(&["ls"]).contains(" paused "));
        daemon.ok(&["cancel", &text]);
        // Nobody but the user has frozen anything.
        assert!(!daemon.log().contains("cgroup.freeze"), "{}", daemon.log());
        assert_eq!(daemon.run(&["run", "--", "echo", "next"]).stdout, "next\n");
    }
}

#[test]
fn timeouts_of_a_paused_job_stand_still() {
    for daemon in both() {
        let long = ["--", "sleep", "3600"];
        let timed = daemon.submit(&[&["-p", "build", "--timeout", "3s"], &long[..]].concat());
        let idle = daemon.submit(&[&["-p", "build", "--idle-timeout", "3s"], &long[..]].concat());
        let both = [timed, idle].map(|id| id.to_string());
        for id in [timed, idle] {
            daemon.wait_record(id, "it runs", |record| record.state == State::Running);
        }
        daemon.ok(&["pause", &both[0], &both[1]]);
        pass(&daemon, "3.5");
        for id in [timed, idle] {
            let record = daemon.record(id);
            assert_eq!((record.state, record.frozen_since.is_some()), (State::Running, true));
        }
        daemon.ok(&["resume", &format!("{timed}-{idle}")]);
        for id in &both {
            assert_eq!(daemon.run(&["wait", id]).code, 124);
        }
    }
}

#[test]
fn a_cancel_of_a_paused_job_works_at_once_and_lets_it_say_something() {
    for daemon in both() {
        let start = Instant::now();
        let id = counting(&daemon, "default", "count", &[]);
        daemon.ok(&["pause", &id.to_string()]);
        daemon.ok(&["cancel", &id.to_string()]);
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert_eq!(daemon.record(id).state, State::Canceled);

        let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
        let id = daemon.submit_sh(script);
        wait_until("it is ready", || daemon.run(&["logs", &id.to_string()]).stdout == "ready\n");
        daemon.ok(&["pause", &id.to_string()]);
        daemon.ok(&["cancel", &id.to_string()]);
        assert_eq!(daemon.ok(&["logs", &id.to_string()]), "ready\nbye\n");
        assert_eq!(daemon.record(id).exit_code, Some(3));
    }
}

#[test]
fn what_is_paused_dies_with_its_poold_and_the_next_attempt_goes_on() {
    for mut daemon in both() {
        let kills = [Daemon::kill_in_one_instant as fn(&mut Daemon), Daemon::kill_all];
        for (kill, name) in kills.into_iter().zip(["first", "second"]) {
            let id = counting(&daemon, "default", name, &[]);
            daemon.ok(&["pause", &id.to_string()]);
            stands_still(&daemon, name);
            let pid = |end: &str| -> i32 {
                fs::read_to_string(daemon.path(&format!("{name}.{end}"))).unwrap().trim().parse().unwrap()
            };
            let pids = [pid("pid"), pid("child")];
            assert!(pids.iter().all(|&pid| alive(pid)));

            kill(&mut daemon);
            daemon.restart();
            wait_until("nothing of it is left", || !pids.iter().any(|&pid| alive(pid)));
            goes_on(&daemon, name);
            let record = daemon.wait_record(id, "it runs", |record| record.state == State::Running);
            assert_eq!(record.frozen_since, None);
            daemon.ok(&["cancel", &id.to_string()]);
        }
    }
}

#[test]
fn a_pool_is_frozen_with_what_runs_in_it_until_it_is_resumed() {
    for daemon in both() {
        let one = counting(&daemon, "build", "one", &[]);
        let two = counting(&daemon, "build", "two", &[]);
        daemon.ok(&["pause", &two.to_string()]);
        daemon.ok(&["pool", "pause", "build", "--freeze"]);
        stands_still(&daemon, "one");
        stands_still(&daemon, "two");
        assert_eq!(daemon.ok(&["ls"]).matches(" paused ").count(), 2);

        daemon.ok(&["pool", "resume", "build"]);
        goes_on(&daemon, "one");
        stands_still(&daemon, "two");
        daemon.ok(&["resume", &two.to_string()]);
        goes_on(&daemon, "two");
        daemon.ok(&["cancel", &one.to_string(), &two.to_string()]);
    }
}

#[test]
fn what_does_not_run_cannot_be_paused() {
    let daemon = Daemon::start(1);
    let running = daemon.submit(&["--", "sleep", "3600"]).to_string();
    let queued = daemon.submit(&["--", "true"]).to_string();
    daemon.wait_record(1, "it runs", |record| record.state == State::Running);
    let said = daemon.run(&["pause", &queued, &running]);
    assert!(said.code == 125 && said.stderr.contains("queued"), "{said:?}");
    assert!(daemon.record(1).frozen_since.is_some(), "the other one is paused");
    let said = daemon.run(&["resume", "77"]);
    assert!(said.code == 125 && said.stderr.contains("no job 77"), "{said:?}");
    daemon.ok(&["resume", "1-2"]);
    assert_eq!(daemon.record(1).frozen_since, None);
    let said = daemon.run(&["pause", "2-9"]);
    assert!(said.code == 125 && said.stderr.contains("runs"), "{said:?}");
}
