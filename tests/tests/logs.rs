//! What users see of the output of jobs: the end of it, of several jobs, and as it comes.

use std::fs::{self, File, FileTimes};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use pool_proto::text::rfc3339;
use pool_proto::{State, output_times};
use pool_tests::{Daemon, Setup, wait_until};
use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};

fn ended(daemon: &Daemon, script: &str) -> u64 {
    let id = daemon.submit_sh(script);
    daemon.wait_record(id, "it has ended", |record| record.state.is_terminal());
    id
}

/// Follows jobs in the background; what it prints is in the file.
fn follow(daemon: &Daemon, arguments: &[&str], file: &str) -> Child {
    let mut command = daemon.ctl(&[&["logs", "-f"], arguments].concat());
    command.stdout(File::create(daemon.path(file)).unwrap()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn read(daemon: &Daemon, file: &str) -> String {
    fs::read_to_string(daemon.path(file)).unwrap_or_default()
}

#[test]
fn the_end_of_each_stream_is_printed_alone() {
    let daemon = Daemon::start(1);
    ended(&daemon, "seq 5; seq 11 13 >&2");
    assert_eq!(daemon.ok(&["logs", "-n", "2", "1"]), "4\n5\n");
    assert_eq!(daemon.ok(&["logs", "--tail", "0", "1"]), "");
    assert_eq!(daemon.ok(&["logs", "--tail", "99", "--stderr", "last"]), "11\n12\n13\n");
    let said = daemon.run(&["logs", "--both", "-n", "1", "1"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "5\n", "13\n"));
    let said = daemon.run(&["logs", "--both", "--stderr", "1"]);
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn lines_of_several_jobs_say_whose_they_are() {
    let daemon = Daemon::start(1);
    ended(&daemon, "echo a; printf b");
    ended(&daemon, "echo c; echo d >&2");
    assert_eq!(daemon.ok(&["logs", "1-2"]), "1 | a\n1 | b\n2 | c\n");
    assert_eq!(daemon.ok(&["logs", "--no-prefix", "1-2"]), "a\nbc\n");
    assert_eq!(daemon.ok(&["logs", "--prefix", "2"]), "2 | c\n");
    let said = daemon.run(&["logs", "--both", "--prefix", "2"]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("2 | c\n", "2 | d\n"));

    let held = daemon.submit(&["--hold", "--", "true"]);
    assert_eq!(daemon.ok(&["logs", "all"]), "1 | a\n1 | b\n2 | c\n", "one has not started");
    let said = daemon.run(&["logs", "1", &held.to_string(), "2"]);
    assert_eq!((said.code, said.stdout.as_str()), (125, "1 | a\n1 | b\n2 | c\n"));
    assert!(said.stderr.contains("it is held and has not started"), "{said:?}");
    let array = daemon.submit(&["--array", "0-1", "--", "sh", "-c", "echo e$POOL_ARRAY_INDEX"]);
    daemon.ok(&["wait", &array.to_string()]);
    let id = array.to_string();
    assert_eq!(daemon.ok(&["logs", "--prefix", &id]), format!("{id}.0 | e0\n{id}.1 | e1\n"));
    assert_eq!(daemon.ok(&["logs", &id]), "e0\ne1\n");
}

#[test]
fn several_jobs_are_followed_at_the_same_time_over_retries_and_a_restart() {
    let mut daemon = Setup::new().workers(2).start();
    let path = |name: &str| daemon.path_text(name);
    let (gate, other, again, seen) = (path("gate"), path("other"), path("again"), path("seen"));
    let until = |file: &str| format!("until [ -e {file} ]; do sleep 0.02; done");
    let first = format!("echo begun; {}; echo over", until(&gate));
    let second = format!(
        "echo tried; [ -e {again} ] || {{ touch {again}; {}; exit 1; }}; {}; printf end",
        until(&seen),
        until(&other)
    );
    daemon.submit(&["--hold", "-l", "x", "--", "sh", "-c", &first]);
    daemon.submit(&["-l", "x", "--hold", "--retries", "1", "--backoff", "0.1", "--", "sh", "-c", &second]);

    // Before the start.
    let mut several = follow(&daemon, &["@x"], "several");
    let mut tail = follow(&daemon, &["--tail", "1", "1"], "tail");
    daemon.ok(&["release", "all"]);
    let has = |file: &str, line: &str| read(&daemon, file).lines().any(|told| told == line);
    wait_until("both are told", || has("several", "1 | begun") && has("several", "2 | tried"));
    fs::write(daemon.path("seen"), "").unwrap();
    wait_until("the next attempt is told", || read(&daemon, "several").matches("2 | tried").count() == 2);

    // The jobs die with their poold; their next attempts are told from the beginning, and nothing twice.
    daemon.kill_in_one_instant();
    daemon.restart();
    let has = |file: &str, line: &str| read(&daemon, file).lines().any(|told| told == line);
    wait_until("both run again", || {
        let told = read(&daemon, "several");
        told.matches("1 | begun").count() == 2 && told.matches("2 | tried").count() == 3
    });
    fs::write(daemon.path("other"), "").unwrap();
    wait_until("one has ended", || has("several", "2 | end"));
    assert!(!has("several", "1 | over"));
    fs::write(daemon.path("gate"), "").unwrap();
    assert!(several.wait().unwrap().success() && tail.wait().unwrap().success());
    assert_eq!(read(&daemon, "several").lines().count(), 2 + 3 + 2, "{}", read(&daemon, "several"));
    assert!(read(&daemon, "tail").ends_with("begun\nover\n"), "{}", read(&daemon, "tail"));
    assert_eq!(daemon.record(2).state, State::Succeeded);
}

#[test]
fn following_begins_with_the_last_lines_where_somebody_wants_that() {
    let daemon = Daemon::start(1);
    let gate = daemon.path_text("gate");
    let id = daemon.submit_sh(&format!("seq 100; until [ -e {gate} ]; do sleep 0.02; done; echo last"));
    wait_until("it has written", || daemon.run(&["logs", &id.to_string()]).stdout.ends_with("100\n"));
    let mut tail = follow(&daemon, &["-n", "2", &id.to_string()], "tail");
    wait_until("the end is told", || read(&daemon, "tail") == "99\n100\n");
    fs::write(&gate, "").unwrap();
    assert!(tail.wait().unwrap().success());
    assert_eq!(read(&daemon, "tail"), "99\n100\nlast\n");
}

#[test]
fn the_output_of_the_last_attempts_is_kept_and_printed_under_rules() {
    let daemon = Daemon::start(1);
    let script = "printf \"$POOL_ATTEMPT of 6\"; echo err $POOL_ATTEMPT >&2; exit 1";
    let id = daemon.submit(&["--retries", "5", "--backoff", "0", "--", "sh", "-c", script]);
    daemon.wait_record(id, "it has ended", |record| record.state.is_terminal());
    let id = id.to_string();
    let all = |attempts: std::ops::RangeInclusive<u32>, text: &dyn Fn(u32) -> String| -> String {
        attempts.map(|n| format!("==> job {id}, attempt {n} <==\n{}\n", text(n))).collect()
    };
    let said = daemon.run(&["logs", "--all-attempts", &id]);
    assert_eq!((said.code, said.stdout), (0, all(3..=6, &|n| format!("{n} of 6"))));
    let gone = format!("job {id}: the output of the attempts 1 to 2 is gone: poold keeps that");
    assert!(said.stderr.contains(&gone), "{}", said.stderr);
    let stderr = daemon.ok(&["logs", "--all-attempts", "--stderr", &id]);
    assert_eq!(stderr, all(3..=6, &|n| format!("err {n}")));
    let prefixed = daemon.ok(&["logs", "--all-attempts", "--prefix", &id]);
    assert!(
        prefixed.starts_with(&format!("{id} | ==> job {id}, attempt 3 <==\n{id} | 3 of 6\n")),
        "{prefixed}"
    );

    assert_eq!(daemon.ok(&["logs", "--attempt", "4", &id]), "4 of 6");
    assert_eq!(daemon.ok(&["logs", &id]), "6 of 6");
    for (attempt, told) in
        [("2", "the output of attempt 2 is gone"), ("7", "it has had 6 attempts, and no attempt 7")]
    {
        let said = daemon.run(&["logs", "--attempt", attempt, &id]);
        assert!(said.code == 125 && said.stderr.contains(told), "{said:?}");
    }
    let followed = daemon.ok(&["logs", "-f", "--all-attempts", &id]);
    assert_eq!(followed.matches("==> job").count(), 4, "{followed}");

    daemon.ok(&["rm", &id]);
    let left = || fs::read_dir(daemon.path("state/output/0")).map_or(0, Iterator::count);
    wait_until("its files are gone", || left() == 0);
}

#[test]
fn attempts_that_come_are_followed_after_those_that_were() {
    let daemon = Daemon::start(1);
    let (gate, last) = (daemon.path_text("gate"), daemon.path_text("last"));
    let until = |file: &str| format!("until [ -e {file} ]; do sleep 0.02; done");
    let script = format!(
        "echo $POOL_ATTEMPT; case $POOL_ATTEMPT in 1) exit 1;; 2) {}; exit 1;; 3) {};; esac",
        until(&gate),
        until(&last)
    );
    let id = daemon.submit(&["--retries", "2", "--backoff", "0", "--", "sh", "-c", &script]);
    daemon.wait_record(id, "the second runs", |record| record.attempt == 2 && record.state == State::Running);
    let mut child = follow(&daemon, &["--all-attempts", &id.to_string()], "all");
    let rule = |n: u32| format!("==> job {id}, attempt {n} <==\n{n}\n");
    wait_until("two are told", || read(&daemon, "all") == rule(1) + &rule(2));
    fs::write(&gate, "").unwrap();
    wait_until("the third is told", || read(&daemon, "all") == rule(1) + &rule(2) + &rule(3));
    fs::write(&last, "").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_jobs_of_a_schedule_may_have_their_streams_merged() {
    let config =
        "[schedule.one]\nevery = \"1d\"\nmerge = true\ncommand = [\"sh\", \"-c\", \"echo a >&2; echo b\"]\n";
    let daemon = Setup::new().workers(1).config(config).start();
    daemon.ok(&[
        "schedule",
        "add",
        "two",
        "--every",
        "1d",
        "--merge",
        "--",
        "sh",
        "-c",
        "echo a >&2; echo b",
    ]);
    for (name, id) in [("one", "1"), ("two", "2")] {
        daemon.ok(&["schedule", "run", name]);
        assert_eq!(daemon.run(&["wait", id]).code, 0);
        assert_eq!(daemon.ok(&["logs", id]), "a\nb\n", "{name}");
    }
}

#[test]
fn merged_streams_are_one_file_in_the_order_of_time() {
    let daemon = Daemon::start(1);
    let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done";
    let wanted = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    let said = daemon.run(&["run", "--merge", "--", "sh", "-c", script]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), (wanted, ""));
    for arguments in [&["logs", "1"][..], &["logs", "--stderr", "1"], &["logs", "--both", "1"]] {
        assert_eq!(daemon.ok(arguments), wanted, "{arguments:?}");
    }
    let record = daemon.record(1);
    let (stdout, stderr) = (record.stdout.unwrap(), record.stderr.unwrap());
    assert_eq!((stdout.path, stdout.bytes, stderr.bytes), (stderr.path, Some(wanted.len() as u64), Some(0)));

    let array = daemon.submit(&["--merge", "--array", "0-1", "--", "sh", "-c", "echo a; echo b >&2; exit 1"]);
    daemon.run(&["wait", &array.to_string()]);
    assert_eq!(daemon.ok(&["logs", &array.to_string()]), "a\nb\na\nb\n");
    let copied = daemon.ok(&["retry", "--new", "1"]);
    daemon.run(&["wait", copied.trim()]);
    assert_eq!(daemon.ok(&["logs", copied.trim()]), wanted);
    assert_eq!(daemon.run(&["submit", "--merge", "--pty", "--", "true"]).code, 2);
}

fn text_of(time: SystemTime) -> String {
    rfc3339(i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()).unwrap())
}

fn now() -> String {
    text_of(SystemTime::now())
}

#[test]
fn what_was_written_since_a_time_is_printed_of_a_job_that_runs_and_that_has_ended() {
    let daemon = Daemon::start(1);
    let begin = now();
    let (go, end) = (daemon.path_text("go"), daemon.path_text("end"));
    let wait = |path: &str| format!("until [ -e {path} ]; do sleep 0.01; done");
    let id = daemon.submit_sh(&format!("echo old; printf begun; {}; echo ' new'; {}", wait(&go), wait(&end)));
    let id = id.to_string();
    let record = daemon.wait_record(1, "it runs", |record| record.state == State::Running);
    let file = record.stdout.unwrap().path.to_path();
    let probe = daemon.path("probe");
    fs::write(&probe, "").unwrap();
    if let Err(error) = setxattr(&probe, "user.x", b"x", XattrFlags::empty()) {
        eprintln!("not tested: this file system takes no extended attributes ({error})");
        return;
    }
    wait_until("its times are noted", || {
        getxattr(&file, output_times::ATTRIBUTE, &mut [0; output_times::MAX_BYTES]).is_ok()
    });

    let between = now();
    let mut follower = follow(&daemon, &["--since", &between, &id], "followed");
    fs::write(&go, "").unwrap();
    wait_until("the new line", || daemon.ok(&["logs", &id]).ends_with("new\n"));
    for (since, wanted) in
        [(&*begin, "old\nbegun new\n"), ("2h", "old\nbegun new\n"), (&between, "begun new\n")]
    {
        assert_eq!(daemon.ok(&["logs", "--since", since, &id]), wanted, "{since}");
    }
    assert_eq!(daemon.ok(&["logs", "--since", &between, "--tail", "9", &id]), "begun new\n");
    assert_eq!(daemon.ok(&["logs", "--since", &between, "--tail", "0", &id]), "");

    fs::write(&end, "").unwrap();
    assert!(follower.wait().unwrap().success());
    // Whoever follows from before the new part on gets that alone.
    let followed = read(&daemon, "followed");
    assert!(["begun new\n", " new\n"].contains(&&*followed), "{followed:?}");
    assert_eq!(daemon.ok(&["logs", "--since", &between, &id]), "begun new\n");

    let [soon, later] = [1800, 3600].map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
    assert_eq!(daemon.ok(&["logs", "--since", &text_of(soon), &id]), "", "it has written nothing since");

    // As of a poold before, or on another file system.
    removexattr(&file, output_times::ATTRIBUTE).unwrap();
    File::open(&file).unwrap().set_times(FileTimes::new().set_modified(later)).unwrap();
    let said = daemon.run(&["logs", "--since", &text_of(soon), &id]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "old\nbegun new\n"));
    assert!(said.stderr.contains("when job 1 wrote its output is not known"), "{said:?}");
}
