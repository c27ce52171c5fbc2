//! What users see of durability: what was accepted runs, whoever dies in between.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_proto::methods::List;
use pool_tests::{Daemon, Setup, handles, line_of, send, wait_until};

/// How often each job has written its line.
fn ledger(daemon: &Daemon, name: &str) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(daemon.path(name)).unwrap_or_default().lines() {
        *counts.entry(line.parse().unwrap()).or_default() += 1;
    }
    counts
}

/// Two jobs that run until they are interrupted, and `count` more behind them; every job and every callback
/// writes down its id.
fn load(daemon: &Daemon, count: usize) {
    let (jobs, callbacks) = (daemon.path_text("jobs"), daemon.path_text("callbacks"));
    let on_done = format!("echo $POOL_JOB_ID >>{callbacks}");
    let blocker = format!("echo $POOL_JOB_ID >>{jobs}; [ $POOL_ATTEMPT -gt 1 ] || exec sleep 600");
    for _ in 0..2 {
        daemon.submit(&["--on-done", &on_done, "--", "sh", "-c", &blocker]);
    }
    let work = serde_json::json!({ "argv": ["sh", "-c", format!("echo $POOL_JOB_ID >>{jobs}")] });
    let lines = format!("{work}\n").repeat(count);
    let mut submit = daemon.ctl(&["submit", "--async", "--on-done", &on_done, "--from", "-"]);
    let mut submit = submit.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    submit.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = submit.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout.split(|&byte| byte == b'\n').count(), count + 1);
    wait_until("both blockers run", || ledger(daemon, "jobs").len() == 2);
    // That they have been tried is on disk, too, so that their attempts count.
    for id in [1, 2] {
        daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    }
}

/// Everything has run and been told of, the two blockers twice.
fn assert_complete(daemon: &Daemon, count: u64) {
    daemon.ok(&["wait", &format!("1-{}", count + 2)]);
    let callbacks = || ledger(daemon, "callbacks");
    // Callbacks run one by one: what is waited for is that they go on.
    for least in (0..count + 2).step_by(50).chain([count + 2]) {
        wait_until("the next callbacks have run", || callbacks().len() as u64 >= least);
    }
    let jobs = ledger(daemon, "jobs");
    for id in 1..=count + 2 {
        assert_eq!(jobs.get(&id), Some(if id <= 2 { &2 } else { &1 }), "job {id}");
        let record = daemon.record(id);
        assert_eq!((record.state, record.attempt), (State::Succeeded, if id <= 2 { 2 } else { 1 }));
    }
    // At least once: no job's end lay so near to the kill that one had to be repeated.
    assert!(callbacks().values().all(|&times| times == 1));
    assert_eq!(daemon.submit(&["--", "true"]), count + 3, "ids go on where they were");
}

#[test]
fn a_killed_supervisor_loses_nothing_of_a_thousand_queued_jobs() {
    let daemon = Daemon::start(2);
    load(&daemon, 1000);
    send(daemon.supervisor(), Signal::SIGKILL);
    assert_complete(&daemon, 1000);
}

#[test]
fn a_killed_daemon_loses_nothing_of_a_thousand_queued_jobs() {
    let mut daemon = Daemon::start(2);
    load(&daemon, 1000);
    daemon.kill_all();
    daemon.restart();
    assert_complete(&daemon, 1000);
}

#[test]
fn an_ordered_end_keeps_the_queue_and_repeats_what_it_interrupted() {
    let mut daemon = Daemon::start(2);
    load(&daemon, 100);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), 0);
    wait_until("nothing is left", || daemon.processes().is_empty());
    daemon.restart();
    assert_complete(&daemon, 100);
    assert_eq!(daemon.record(1).crashes, 0, "that was no crash");
}

#[test]
fn a_second_signal_hurries() {
    let mut daemon = Setup::new().workers(1).config("stop_grace = \"1h\"\nkill_after = \"1h\"\n").start();
    let (ready, warned) = (daemon.path_text("ready"), daemon.path_text("warned"));
    let script = format!(
        "trap 'echo >{warned}' TERM; echo >{ready}; [ $POOL_ATTEMPT -gt 1 ] || while :; do sleep 0.05; done"
    );
    let id = daemon.submit_sh(&script);
    line_of(ready.as_ref());
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    daemon.signal(Signal::SIGTERM);
    wait_until("the job was asked to end", || fs::exists(&warned).unwrap());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), 0);
    daemon.restart();
    daemon.ok(&["wait", &id.to_string()]);
    assert_eq!(daemon.record(id).attempt, 2);
}

#[test]
fn a_job_that_kills_its_worker_each_time_is_lost_and_says_so() {
    let daemon = Daemon::start(1);
    let told = daemon.path_text("told");
    let id = daemon.submit(&[
        "--on-failure",
        &format!("echo $POOL_STATE >{told}"),
        "--",
        "sh",
        "-c",
        "kill -9 $PPID; exec sleep 600",
    ]);
    assert_eq!(line_of(told.as_ref()), "lost");
    let record = daemon.record(id);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Lost, 3, 3));
    assert!(record.reason.unwrap().contains("given up after 3 crashes"));
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 125);
    // The pool has kept its size.
    assert_eq!(daemon.run(&["submit", "--wait", "--", "true"]).code, 0);
}

fn waiting_client(daemon: &Daemon, script: &str) -> Child {
    let mut client = daemon.ctl(&["submit", "--wait", "--", "sh", "-c", script]);
    client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_waiting_client_outlives_the_supervisor() {
    let daemon = Daemon::start(1);
    let (ready, go) = (daemon.path_text("ready"), daemon.path_text("go"));
    let script =
        format!("echo attempt $POOL_ATTEMPT; echo >{ready}; until [ -e {go} ]; do sleep 0.01; done; exit 7");
    let running = waiting_client(&daemon, &script);
    line_of(ready.as_ref());
    daemon.wait_record(1, "it runs", |record| record.state == State::Running);
    let queued = waiting_client(&daemon, "echo queued; exit 8");
    // From then on it takes over signals: that it has been told, not only that it is so.
    let pid = i32::try_from(queued.id()).unwrap();
    wait_until("the second one knows that it is accepted", || handles(pid, Signal::SIGTERM));
    send(daemon.supervisor(), Signal::SIGKILL);
    daemon.wait_record(1, "it runs again", |record| record.state == State::Running && record.attempt == 2);
    fs::write(&go, "").unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(7), b"attempt 1\nattempt 2\n".as_slice()));
    let output = queued.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(8), b"queued\n".as_slice()), "{output:?}");
}

#[test]
fn a_client_that_comes_while_there_is_no_supervisor_waits_for_the_next() {
    let daemon = Daemon::start(1);
    let supervisor = daemon.supervisor();
    for _ in 0..2 {
        send(daemon.supervisor(), Signal::SIGKILL);
        daemon.ok(&["ping"]);
    }
    assert_ne!(daemon.supervisor(), supervisor);
}

#[test]
fn a_callback_that_was_running_is_delivered_after_the_restart() {
    let mut daemon = Daemon::start(1);
    let (began, ledger) = (daemon.path_text("began"), daemon.path_text("ledger"));
    let callback = format!(
        "echo $POOL_CALLBACK_ID $POOL_CALLBACK_ATTEMPT >>{ledger}; [ $POOL_CALLBACK_ATTEMPT -gt 1 ] || {{ echo >{began}; exec sleep 600; }}"
    );
    let id = daemon.submit(&["--on-done", &callback, "--", "true"]);
    line_of(began.as_ref());
    daemon.kill_all();
    daemon.restart();
    let record = daemon.wait_record(id, "delivered", |record| record.callbacks[0].state == "delivered");
    assert_eq!(record.callbacks[0].attempts, 2);
    assert_eq!(fs::read_to_string(&ledger).unwrap(), "1 1\n1 2\n", "the id tells of the repeat");
}

#[test]
fn an_input_that_was_on_its_way_is_not_left_behind() {
    let mut daemon = Daemon::start(1);
    let mut client = daemon.ctl(&["submit", "--wait", "--stdin", "-", "--", "cat"]);
    let mut client = client.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(&[b'x'; 100_000]).unwrap();
    let spooled = || fs::read_dir(daemon.state_dir().join("stdin")).map_or(0, Iterator::count);
    wait_until("there is a file for it", || spooled() == 1);
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    wait_until("nothing is left", || daemon.owned_processes().is_empty());
    daemon.restart();
    assert_eq!(fs::read_dir(daemon.state_dir().join("stdin")).unwrap().count(), 0);
    drop(input);
    client.wait().unwrap();
}

#[test]
fn a_signal_that_comes_when_there_is_no_supervisor_is_not_lost() {
    let mut daemon = Daemon::start(1);
    send(daemon.supervisor(), Signal::SIGKILL);
    daemon.signal(Signal::SIGTERM);
    // It ends, whichever of the two came first; it neither goes on nor hangs.
    daemon.wait();
    wait_until("nothing is left", || daemon.processes().is_empty());
}

#[test]
fn history_is_pruned_with_its_output() {
    let daemon = Setup::new().workers(1).config("[history]\nmax_jobs = 3\n").start();
    let ids: Vec<u64> = (0..10).map(|_| daemon.submit(&["--", "echo", "output"])).collect();
    daemon.run(&["wait", &ids[9].to_string()]);
    let listed = || daemon.client().request(&List::default()).unwrap().jobs;
    wait_until("three jobs are kept", || listed().len() == 3);
    assert_eq!(listed().iter().map(|record| record.id).collect::<Vec<u64>>(), ids[7..]);
    let gone = daemon.run(&["show", &ids[0].to_string()]);
    assert_eq!(gone.code, 125);
    assert!(gone.stderr.contains("job 1 has been pruned"), "{gone:?}");
    assert_eq!(daemon.ok(&["logs", &ids[9].to_string()]), "output\n");
    let files = || walk(&daemon.state_dir().join("output/0"));
    wait_until("their files are gone", || files() == 3);
}

fn walk(dir: &std::path::Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}

#[test]
fn a_hangup_reads_the_configuration_anew() {
    let daemon = Setup::new().workers(1).start();
    let blocker = daemon.submit_sh("exec sleep 600");
    daemon.wait_record(blocker, "it runs", |record| record.state == State::Running);
    // `--workers` on the command line outranks the file for the default pool; other pools come and go with
    // it.
    fs::write(daemon.path("config.toml"), "[pool.extra]\nworkers = 2\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the new pool is there", || daemon.ok(&["pool", "ls"]).contains("extra"));
    assert_eq!(daemon.run(&["submit", "--wait", "--pool", "extra", "--", "sh", "-c", "exit 4"]).code, 4);
    // One that cannot be read changes nothing, and says so.
    fs::write(daemon.path("config.toml"), "wrokers = 2\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the mistake is in the log", || daemon.log().contains("wrokers"));
    assert!(daemon.ok(&["pool", "ls"]).contains("extra"));
    assert_eq!(daemon.record(blocker).state, State::Running);
}

#[test]
fn a_supervisor_that_is_restarted_goes_on_with_the_last_good_configuration() {
    let daemon = Setup::new().workers(1).start();
    fs::write(daemon.path("config.toml"), "[pool.extra]\nworkers = 2\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the new pool is there", || daemon.ok(&["pool", "ls"]).contains("extra"));

    // One mistake is found by a SIGHUP, the other one by the next supervisor alone.
    fs::write(daemon.path("config.toml"), "wrokers = 2\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the mistake is in the log", || daemon.log().contains("wrokers"));
    for mistake in ["wrokers = 2\n", "[pool.extra]\nworkers = \"two\"\n"] {
        fs::write(daemon.path("config.toml"), mistake).unwrap();
        let supervisor = daemon.supervisor();
        send(supervisor, Signal::SIGKILL);
        wait_until("the next one is there", || daemon.supervisor() != supervisor);
        assert_eq!(daemon.run(&["submit", "--wait", "--pool", "extra", "--", "sh", "-c", "exit 4"]).code, 4);
        let doctor = daemon.run(&["doctor"]);
        assert_eq!(doctor.code, 1);
        assert!(
            doctor.stdout.contains("the last good configuration is in force: in the configuration"),
            "{}",
            doctor.stdout
        );
    }
    assert!(daemon.log().contains("poold goes on with the last good configuration"));

    fs::write(daemon.path("config.toml"), "[pool.other]\nworkers = 1\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("it has been mended", || daemon.ok(&["pool", "ls"]).contains("other"));
    assert!(!daemon.ok(&["doctor"]).contains("last good"));
}
