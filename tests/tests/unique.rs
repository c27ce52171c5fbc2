//! What users see of unique names: of the jobs of a name one at a time has its turn, whatever happens to
//! poold.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{Daemon, Said, children, handles, run, send, wait_until};

/// A job of the name that runs until the file `go` is there.
fn occupy(daemon: &Daemon) -> u64 {
    let go = daemon.path_text("go");
    let script = format!("echo begun; while [ ! -e {go} ]; do sleep 0.02; done; echo over; exit 3");
    let id = daemon.submit(&["--unique", "nightly", "--", "sh", "-c", &script]);
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    id
}

fn let_go(daemon: &Daemon) {
    fs::write(daemon.path("go"), "").unwrap();
}

/// `poolctl run --unique nightly`, in the background.
fn spawn(daemon: &Daemon, arguments: &[&str]) -> Child {
    let mut command = daemon.ctl(&[&["run", "--unique", "nightly"], arguments].concat());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_job_that_is_there_is_not_submitted_again_unless_it_has_ended() {
    let daemon = Daemon::start(4);
    let first = occupy(&daemon);
    let remark = format!("job {first} (running) has the unique name \"nightly\", so nothing was submitted");

    let Said { code, stdout, stderr } = daemon.run(&["run", "--unique", "nightly", "--", "echo", "second"]);
    assert_eq!((code, stdout.as_str(), stderr.contains(&remark)), (0, "", true), "{stderr}");
    let Said { code, stdout, stderr } = daemon.run(&["submit", "--unique", "nightly", "--", "echo", "third"]);
    assert_eq!((code, stdout, stderr.contains(&remark)), (0, format!("{first}\n"), true), "{stderr}");
    for quiet in ["-q", "--parsable"] {
        let said = daemon.run(&["submit", quiet, "--unique", "nightly", "--", "true"]);
        assert_eq!((said.code, said.stdout, said.stderr.as_str()), (0, format!("{first}\n"), ""));
    }
    let refused = daemon.run(&["run", "-q", "--", "true"]);
    assert!(refused.code == 2 && refused.stderr.contains("leave --quiet out"), "{refused:?}");
    let json: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["--json", "submit", "--unique", "nightly", "--", "true"])).unwrap();
    let wanted = serde_json::json!({
        "schema": 1, "id": first, "existing": true, "skipped": true, "state": "running"
    });
    assert_eq!(json, wanted);
    assert_eq!(daemon.ok(&["ls"]).lines().count(), 2, "no job but the first");
    assert!(daemon.ok(&["show", &first.to_string()]).contains("unique     nightly"));

    let_go(&daemon);
    daemon.run(&["wait", &first.to_string()]);
    let said = daemon.run(&["run", "--unique", "nightly", "--", "echo", "fourth"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "fourth\n", ""));
}

#[test]
fn who_joins_gets_output_end_and_code_of_the_one_that_is_there() {
    let daemon = Daemon::start(4);
    let first = occupy(&daemon);
    let joined = spawn(&daemon, &["--if-exists", "join", "--", "echo", "second"]);
    let id = daemon.submit(&["--unique", "nightly", "--if-exists", "join", "--", "true"]);
    assert_eq!(id, first);
    let_go(&daemon);
    assert_eq!(finish(joined), (Some(3), "begun\nover\n".to_owned(), String::new()));
}

#[test]
fn who_has_joined_leaves_and_the_job_goes_on() {
    let daemon = Daemon::start(4);
    let first = occupy(&daemon);
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        let joined = spawn(&daemon, &["--if-exists", "join", "--", "true"]);
        let pid = i32::try_from(joined.id()).unwrap();
        wait_until("it acts on signals", || handles(pid, Signal::SIGTERM));
        send(pid, signal);
        let output = joined.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.signal(), Some(signal as i32), "{stderr}");
        let is_told = stderr.contains(&format!("job {first} goes on"));
        assert_eq!(is_told, signal != Signal::SIGHUP, "{stderr}");
    }

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut unread = daemon.ctl(&["run", "--unique", "nightly", "--if-exists", "join", "--", "true"]);
    let (_, _, stderr) = finish(unread.stdout(writer).stderr(Stdio::piped()).spawn().unwrap());
    assert!(stderr.contains(&format!("job {first} was accepted and goes on")), "{stderr}");

    assert_eq!(daemon.record(first).state, State::Running);
    let_go(&daemon);
    assert_eq!(daemon.run(&["wait", &first.to_string()]).code, 3, "nobody has ended it");
}

#[test]
fn what_is_queued_runs_after_the_ones_before_over_a_death_of_poold() {
    let daemon = Daemon::start(4);
    let first = occupy(&daemon);
    let order = daemon.path_text("order");
    let ids: Vec<u64> = (0..3)
        .map(|index| {
            let script = format!("echo {index} >>{order}");
            daemon.submit(&["--unique", "nightly", "--if-exists", "queue", "--", "sh", "-c", &script])
        })
        .collect();
    let waiting = daemon.record(ids[1]);
    assert_eq!((waiting.state, waiting.waits_for), (State::Queued, Some(ids[0])));
    let shown = daemon.ok(&["show", &ids[0].to_string()]);
    assert!(shown.contains(&format!("waits for  the end of job {first}")), "{shown}");

    let mut follower = spawn(&daemon, &["--if-exists", "queue", "--", "echo", "last"]);
    wait_until("it is accepted", || daemon.ok(&["ls"]).lines().count() == 6);
    assert_eq!(follower.try_wait().unwrap(), None);
    let supervisor = daemon.supervisor();
    send(supervisor, Signal::SIGKILL);
    wait_until("another supervisor", || children(daemon.guardian()).iter().any(|&pid| pid != supervisor));
    assert_eq!(daemon.record(ids[1]).waits_for, Some(ids[0]));

    let_go(&daemon);
    let (code, stdout, stderr) = finish(follower);
    assert_eq!((code, stdout.as_str()), (Some(0), "last\n"), "{stderr}");
    assert_eq!(fs::read_to_string(daemon.path("order")).unwrap(), "0\n1\n2\n");
}

#[test]
fn who_waits_in_turn_is_told_for_whom() {
    let daemon = Daemon::start(4);
    let first = occupy(&daemon);
    let (said, told) = (daemon.path("said"), daemon.path("told"));
    let read = |path| fs::read_to_string(path).unwrap();
    let mut events = daemon.ctl(&["--json", "events"]);
    let mut events = events.stdout(File::create(&told).unwrap()).spawn().unwrap();
    wait_until("events are told", || read(&told).contains("listening"));
    let mut follower =
        daemon.ctl(&["run", "--unique", "nightly", "--if-exists", "queue", "--", "echo", "its turn"]);
    let follower = follower.stdout(Stdio::piped()).stderr(File::create(&said).unwrap()).spawn().unwrap();
    let wanted = format!("waits until job {first}, which has the unique name \"nightly\" too, has ended");
    wait_until("it is told why", || read(&said).contains(&wanted));

    let_go(&daemon);
    let (code, stdout, _) = finish(follower);
    assert_eq!((code, stdout.as_str()), (Some(0), "its turn\n"));
    let lines = [format!("waits until job {first} has ended"), format!("job {first} has ended")];
    let is_told = |event: &str, reason: &str| {
        read(&told).lines().any(|line| line.contains(event) && line.contains(reason))
    };
    wait_until("both events", || is_told("submitted", &lines[0]) && is_told("released", &lines[1]));
    events.kill().unwrap();
    events.wait().unwrap();
}

#[test]
fn what_is_replaced_is_canceled_and_told_why() {
    let daemon = Daemon::start(4);
    let running = spawn(&daemon, &["--", "sleep", "1000"]);
    daemon.wait_record(1, "it runs", |record| record.state == State::Running);
    let waiting = daemon.submit(&["--unique", "nightly", "--if-exists", "queue", "--", "echo", "never"]);
    let said = daemon.run(&["run", "--unique", "nightly", "--if-exists", "replace", "--", "echo", "new"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "new\n", ""));

    let (code, _, stderr) = finish(running);
    let why = "job 3, which has the same unique name, has taken its place";
    assert!(code == Some(143) && stderr.contains(why), "{code:?}, {stderr}");
    let record = daemon.record(waiting);
    assert_eq!((record.state, record.reason.as_deref()), (State::Canceled, Some(why)));
}

#[test]
fn of_submissions_at_the_same_time_one_is_added() {
    let daemon = Daemon::start(4);
    let submit = || {
        let mut command = daemon.ctl(&["--json", "submit", "--unique", "nightly", "--", "sleep", "1000"]);
        run(&mut command).stdout.contains("skipped")
    };
    let skipped: Vec<bool> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(submit)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(skipped.iter().filter(|&&skipped| !skipped).count(), 1, "{skipped:?}");
    assert_eq!(daemon.ok(&["ls"]).lines().count(), 2);
    daemon.ok(&["cancel", "1"]);
}

#[test]
fn of_the_lines_of_a_file_those_that_are_skipped_are_named() {
    let daemon = Daemon::start(1);
    let line = |name: &str| format!(r#"{{"argv":["sleep","1000"],"unique":"{name}"}}"#) + "\n";
    fs::write(daemon.path("jobs"), [line("a"), line("b"), line("a")].concat()).unwrap();
    let file = daemon.path_text("jobs");
    let said = daemon.run(&["submit", "--from", &file]);
    let remark = format!("poolctl: {file}:3: job 1 has the unique name, so nothing was submitted\n");
    assert_eq!((said.code, said.stdout.as_str(), said.stderr), (0, "1\n2\n1\n", remark));
    daemon.ok(&["cancel", "1-2"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let daemon = Daemon::start(1);
    let cases: [(&[&str], &str); 5] = [
        (&["--unique", "", "--", "true"], "1 to 512 bytes"),
        (&["--if-exists", "queue", "--", "true"], "--unique"),
        (&["--unique", "u", "--if-exists", "wait", "--", "true"], "queue"),
        (&["--wait", "--unique", "u", "--tie", "client", "--", "true"], "--unique"),
        (&["--wait", "--unique", "u", "--on-disconnect", "cancel", "--", "true"], "--on-disconnect"),
    ];
    for (arguments, message) in cases {
        let said = daemon.run(&[&["submit"], arguments].concat());
        assert!(said.code == 2 && said.stderr.contains(message), "{arguments:?}: {said:?}");
    }
    assert!(daemon.ok(&["ls"]).lines().count() <= 1, "nothing was accepted");
}
