//! What users see of keys: a submission that is repeated, by a script that does not know or by a poolctl that
//! lost its poold, is one job.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_proto::methods::SubmitMany;
use pool_proto::nouns::Job;
use pool_tests::{Daemon, Said, Setup, children, poolctl, run, send, wait_until};

fn lines(daemon: &Daemon, name: &str) -> usize {
    fs::read_to_string(daemon.path(name)).unwrap_or_default().lines().count()
}

#[test]
fn a_key_names_one_job_whose_id_output_and_end_are_told_to_everybody() {
    let daemon = Daemon::start(2);
    let script = format!("echo run >>{}; echo out; echo err >&2; exit 7", daemon.path_text("runs"));
    let first = daemon.submit(&["--key", "k", "--", "sh", "-c", &script]);
    for command in ["run", "submit"] {
        let wait: &[&str] = if command == "submit" { &["--wait"] } else { &[] };
        let said = daemon.run(&[&[command, "--key", "k"], wait, &["--", "another"]].concat());
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (7, "out\n", "err\n"));
    }
    let json: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["--json", "submit", "--key", "k", "--", "true"])).unwrap();
    assert_eq!(json, serde_json::json!({ "schema": 1, "id": first, "existing": true }));
    assert_eq!(daemon.record(first).key, Some("k".into()));
    assert_eq!(lines(&daemon, "runs"), 1);
}

#[test]
fn a_failed_job_is_run_again_when_asked_and_a_succeeded_one_is_not() {
    let daemon = Daemon::start(1);
    let script = format!("echo run >>{0}; [ $(wc -l <{0}) -ge 2 ]", daemon.path_text("runs"));
    let rerun = || daemon.run(&["run", "--key", "k", "--rerun-failed", "--", "sh", "-c", &script]).code;
    assert_eq!([rerun(), rerun(), rerun()], [1, 0, 0]);
    assert_eq!(lines(&daemon, "runs"), 2);
    let failed = daemon.record(1);
    assert_eq!((failed.state, failed.key), (State::Failed, None));
}

#[test]
fn what_was_submitted_before_a_kill_runs_once_however_often_it_is_repeated() {
    let daemon = Setup::new().config("crash_limit = 100").start();
    let runs = daemon.path_text("runs");
    let job = |index: usize| Job {
        argv: ["sh", "-c", &format!("echo {index} >>{runs}")].map(Into::into).to_vec(),
        key: Some(format!("job {index}").into()),
        round: Some("one".to_owned()),
        ..Job::default()
    };
    let many = SubmitMany { jobs: (0..50).map(job).collect(), defaults: None, obstacles: None };
    let mut ids = Vec::new();
    for round in 0..5 {
        let mut client = daemon.client();
        client.send(&many, false).unwrap();
        if round == 4 {
            ids = client.receive::<SubmitMany>().unwrap().0.ids;
            break;
        }
        // Each time a little later: before it has read it, stored it, run it.
        thread::sleep(Duration::from_millis(round));
        let supervisor = daemon.supervisor();
        send(supervisor, Signal::SIGKILL);
        wait_until("another supervisor", || children(daemon.guardian()).iter().any(|&pid| pid != supervisor));
    }
    ids.iter().for_each(|&id| _ = daemon.wait_record(id, "its end", |record| record.state.is_terminal()));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    let text = fs::read_to_string(daemon.path("runs")).unwrap();
    let mut written: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
    let retried: usize = ids.iter().map(|&id| daemon.record(id).attempt as usize - 1).sum();
    assert!(written.len() <= 50 + retried + 4 * 2, "only what a kill has interrupted ran twice");
    written.sort_unstable();
    written.dedup();
    assert_eq!(written, (0..50).collect::<Vec<_>>());
    assert_eq!(daemon.ok(&["ls"]).lines().count(), 51, "no job but these");
}

/// Stands in for poold until it has had one answer from it, which it does not pass on: then there is only
/// poold itself.
fn lose_the_first_reply(daemon: &Daemon, path: &Path) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    let (path, socket) = (path.to_owned(), daemon.socket());
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut poold = UnixStream::connect(&socket).unwrap();
        let mut frame = Vec::new();
        BufReader::new(&client).read_until(0, &mut frame).unwrap();
        poold.write_all(&frame).unwrap();
        assert!(BufReader::new(&poold).read_until(0, &mut frame).unwrap() > 0);
        fs::remove_file(&path).unwrap();
        symlink(&socket, &path).unwrap();
    })
}

fn submit(socket: &Path, arguments: &[&str]) -> Said {
    run(Command::new(poolctl()).arg("--socket").arg(socket).arg("submit").args(arguments))
}

#[test]
fn poolctl_repeats_a_submission_whose_reply_was_lost() {
    for (wait, wanted) in [("--async", "1\n"), ("--wait", "ran\n")] {
        let daemon = Daemon::start(1);
        let path = daemon.path("proxy");
        let proxy = lose_the_first_reply(&daemon, &path);
        let said = submit(&path, &[wait, "--key", "k", "--", "sh", "-c", "echo ran"]);
        proxy.join().unwrap();
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, wanted, ""));
        assert_eq!(daemon.ok(&["ls"]).lines().count(), 2, "one job");
    }
    let daemon = Daemon::start(1);
    let path = daemon.path("proxy");
    let proxy = lose_the_first_reply(&daemon, &path);
    let said = submit(&path, &["--", "true"]);
    proxy.join().unwrap();
    assert!(
        said.code == 125 && said.stderr.contains("not known whether"),
        "without a key nothing is repeated: {said:?}"
    );
}

#[test]
fn bad_keys_are_refused() {
    let daemon = Daemon::start(1);
    let long = "x".repeat(513);
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--key", "", "--", "true"], 2, "1 to 512 bytes"),
        (&["--key", &long, "--", "true"], 2, "1 to 512 bytes"),
        (&["--rerun-failed", "--", "true"], 2, "--key"),
        (&["--wait", "--key", "k", "--tie", "client", "--", "true"], 2, "--tie"),
        (&["--wait", "--key", "k", "--on-disconnect", "cancel", "--", "true"], 2, "--on-disconnect"),
    ];
    for (arguments, code, message) in cases {
        let said = daemon.run(&[&["submit"], arguments].concat());
        assert!(said.code == code && said.stderr.contains(message), "{arguments:?}: {said:?}");
    }
    assert!(daemon.ok(&["ls"]).lines().count() <= 1, "nothing was accepted");
}

#[test]
fn a_repetition_is_answered_though_its_pool_is_gone_or_its_label_wrong_or_the_queue_full() {
    let daemon = Setup::new().workers(1).config("max_queued = 2\n[pool.extra]\nworkers = 1\n").start();
    let extra = daemon.submit(&["--key", "e", "--pool", "extra", "--", "sh", "-c", "exit 3"]);
    daemon.run(&["wait", &extra.to_string()]);
    fs::write(daemon.path("config.toml"), "max_queued = 2\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the pool is gone", || !daemon.ok(&["pool", "ls"]).contains("extra"));
    let repeated = ["--key", "e", "--pool", "extra", "--", "true"];
    assert_eq!(daemon.submit(&repeated), extra);
    assert_eq!(daemon.run(&[&["run"], &repeated[..]].concat()).code, 3, "it is waited for, too");
    let said = daemon.run(&["submit", "--key", "new", "--pool", "extra", "--", "true"]);
    assert!(said.code == 125 && said.stderr.contains("extra"), "{said:?}");
    // Another round is another job.
    let said = daemon.run(&["submit", "--rerun-failed", "--key", "e", "--pool", "extra", "--", "true"]);
    assert_eq!(said.code, 125, "{said:?}");

    daemon.ok(&["limit", "set", "gpu", "2"]);
    let blocker = daemon.submit_sh("exec sleep 600");
    daemon.wait_record(blocker, "it runs", |record| record.state == State::Running);
    let [first, second] = ["a", "b"].map(|key| daemon.submit(&["--key", key, "--", "true"]));
    assert_eq!(daemon.run(&["submit", "--key", "c", "--", "true"]).code, 75, "the queue is full");
    assert_eq!(daemon.submit(&["--key", "a", "--", "true"]), first);
    assert_eq!(daemon.submit(&["--key", "b", "--exclusive", "gpu", "--", "true"]), second);
    let said = daemon.run(&["submit", "--key", "c", "--exclusive", "gpu", "--", "true"]);
    assert!(said.code == 125 && said.stderr.contains("gpu"), "{said:?}");
    let from =
        "{\"argv\":[\"true\"],\"key\":\"a\"}\n{\"argv\":[\"true\"],\"key\":\"e\",\"pool\":\"extra\"}\n";
    fs::write(daemon.path("jobs"), from).unwrap();
    let ids = daemon.ok(&["submit", "--from", &daemon.path_text("jobs")]);
    assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), [first.to_string(), extra.to_string()]);
}
