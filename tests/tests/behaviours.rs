//! The behaviours that poold owes to the process model that it grew out of, each seen from outside.

use std::collections::BTreeSet;
use std::fs;

use pool_proto::{Record, State, text};
use pool_tests::{Daemon, alive, run};

fn interval(record: &Record) -> (std::time::SystemTime, std::time::SystemTime) {
    let time =
        |text: &Option<String>| text::parse_rfc3339(text.as_deref().expect("it has run")).expect("a time");
    (time(&record.started_at), time(&record.ended_at))
}

#[test]
fn a_child_starts_and_its_parent_goes_on() {
    let daemon = Daemon::start(1);
    let go = daemon.path_text("go");
    let id = daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.01; done"));
    // The submit has returned while the job cannot end before we let it.
    assert!(!daemon.record(id).state.is_terminal());
    fs::write(&go, "").unwrap();
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}

#[test]
fn parent_and_child_share_nothing() {
    let daemon = Daemon::start(1);
    let worker = daemon.workers()[0];
    let snapshot = |pid: i32| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap();
        (read("environ"), read("limits"), fs::read_link(format!("/proc/{pid}/cwd")).unwrap())
    };
    let before = snapshot(worker);
    let script = "export LEFT=behind; cd /; umask 077; ulimit -n 64; ulimit -c 0; nice -n 5 true; echo done";
    assert_eq!(daemon.ok(&["submit", "--wait", "--", "sh", "-c", script]), "done\n");
    assert_eq!(snapshot(worker), before, "the worker is as it was");

    let next = "echo LEFT=$LEFT; pwd; umask; ulimit -n";
    let in_place = run(daemon.ctl(&["submit", "--wait", "--", "sh", "-c", next]).current_dir(daemon.dir()));
    let directly = run(std::process::Command::new("sh").args(["-c", next]).current_dir(daemon.dir()));
    assert_eq!(in_place, directly, "the next job finds what its submitter has");
}

#[test]
fn start_many_then_join_all() {
    let daemon = Daemon::start(3);
    let ids: Vec<String> =
        (0..12).map(|n| daemon.submit_sh(&format!("exit {}", n % 2)).to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let said = daemon.run(&[&["wait", "--json"], ids.as_slice()].concat());
    assert_eq!(said.code, 1, "some have failed");
    let ended: BTreeSet<u64> =
        said.stdout.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().id).collect();
    assert_eq!(ended.len(), 12);
}

#[test]
fn a_pool_of_two_runs_two_at_a_time_in_the_same_two_processes() {
    let daemon = Daemon::start(2);
    let ids: Vec<u64> =
        [1.0, 2.0, 3.0, 1.0, 2.0].iter().map(|s| daemon.submit(&["--", "sleep", &s.to_string()])).collect();
    let records: Vec<Record> =
        ids.iter().map(|&id| daemon.wait_record(id, "ended", |record| record.state.is_terminal())).collect();
    assert!(records.iter().all(|record| record.state == State::Succeeded));

    let workers: BTreeSet<Option<i32>> = records.iter().map(|record| record.worker_pid).collect();
    assert_eq!(workers.len(), 2, "the same two processes");
    let intervals: Vec<_> = records.iter().map(interval).collect();
    let at_once = |at| intervals.iter().filter(|(start, end)| *start <= at && at < *end).count();
    assert_eq!(
        intervals.iter().map(|&(start, _)| at_once(start)).max(),
        Some(2),
        "two at a time, never three"
    );
}

#[test]
fn a_synchronous_call_waits_and_returns_the_value_in_order() {
    let daemon = Daemon::start(3);
    let values: Vec<String> = (0..5)
        .map(|n| daemon.ok(&["submit", "--wait", "--", "sh", "-c", &format!("echo $(({n} * {n}))")]))
        .collect();
    assert_eq!(values, ["0\n", "1\n", "4\n", "9\n", "16\n"]);
    let workers: Vec<i32> = (1..=5).map(|id| daemon.record(id).worker_pid.unwrap()).collect();
    assert_eq!(workers[..2], workers[3..], "the three workers in turn");
    assert_eq!(workers.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn asynchronous_calls_tell_of_their_ends_as_they_come_failures_included() {
    let daemon = Daemon::start(2);
    let ledger = daemon.path_text("ledger");
    let callback = format!("echo $POOL_JOB_ID $POOL_RESULT >>{ledger}");
    let ids: Vec<u64> = (0..10)
        .map(|n| {
            let script = format!("sleep 0.{}; exit {}", (n * 7) % 4, n % 3);
            daemon.submit(&["--on-done", &callback, "--", "sh", "-c", &script])
        })
        .collect();
    let mut records: Vec<Record> = ids
        .iter()
        .map(|&id| {
            daemon.wait_record(id, "its callback is delivered", |record| {
                record.callbacks[0].state == "delivered"
            })
        })
        .collect();
    records.sort_by(|a, b| a.ended_at.cmp(&b.ended_at));
    let result = |record: &Record| record.result.unwrap().as_str();
    let expected: Vec<String> =
        records.iter().map(|record| format!("{} {}", record.id, result(record))).collect();
    let told: Vec<String> = fs::read_to_string(&ledger).unwrap().lines().map(ToOwned::to_owned).collect();
    assert_eq!(told, expected, "in the order in which the jobs ended");
}

#[test]
fn a_normal_shutdown_waits_for_every_job_and_callback() {
    let mut daemon = Daemon::start(2);
    let ledger = daemon.path_text("ledger");
    for n in 0..6 {
        let callback = format!("sleep 0.1; echo callback {n} >>{ledger}");
        daemon.submit(&[
            "--on-done",
            &callback,
            "--",
            "sh",
            "-c",
            &format!("sleep 0.2; echo job {n} >>{ledger}"),
        ]);
    }
    let main_process = daemon.guardian();
    daemon.ok(&["shutdown", "--drain"]);
    // `kill -0`: our unreaped child is a zombie by now.
    assert!(!alive(main_process), "shutdown returns when poold is gone");
    let text = fs::read_to_string(&ledger).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("job"), count("callback")), (6, 6), "{text}");
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_draining_daemon_takes_nothing_more_and_says_so() {
    let daemon = Daemon::start(1);
    let go = daemon.path_text("go");
    let id = daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.01; done"));
    let mut shutdown = daemon.ctl(&["shutdown"]).spawn().unwrap();
    let refused = pool_tests::wait_for("a refusal", || {
        Some(daemon.run(&["submit", "--", "true"])).filter(|said| said.code != 0)
    });
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(refused.stderr.contains("try again"), "{refused:?}");
    // Waiting and looking still work.
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    fs::write(&go, "").unwrap();
    assert!(shutdown.wait().unwrap().success());
}

#[test]
fn many_clients_are_served_at_once_several_messages_each() {
    use pool_proto::methods::{Ping, Wait};
    let daemon = Daemon::start(1);
    let go = daemon.path_text("go");
    let id = daemon.submit_sh(&format!("until [ -e {go} ]; do sleep 0.01; done"));
    let mut clients: Vec<_> = (0..50).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.send(&Wait { ids: vec![id], ..Wait::default() }, false).unwrap();
    }
    // None of them has its answer, and others are served all the same.
    let mut other = daemon.client();
    for _ in 0..3 {
        other.request(&Ping {}).unwrap();
    }
    fs::write(&go, "").unwrap();
    for client in &mut clients {
        let (progress, more) = client.receive::<Wait>().unwrap();
        assert_eq!((progress.id, more), (id, false));
        client.request(&Ping {}).unwrap();
    }
}
