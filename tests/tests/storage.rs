//! What users see when the state directory is not as it should be: at the start, and while poold works in it.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_proto::methods::Backup;
use pool_tests::{Daemon, Said, Setup, line_of, run, send, wait_until};

/// Runs until told to go, then ends with 3.
fn waiting_job(daemon: &Daemon, name: &str) -> u64 {
    let (go, told) = (daemon.path_text(name), daemon.path_text(&format!("{name}-told")));
    let script = format!("until [ -e {go} ]; do sleep 0.01; done; echo done; exit 3");
    let id =
        daemon.submit(&["--on-done", &format!("echo $POOL_EXIT_CODE >{told}"), "--", "sh", "-c", &script]);
    let running = daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    let output = running.stdout.unwrap().path;
    wait_until("its output has its name", || output.to_path().exists());
    id
}

fn let_go(daemon: &Daemon, name: &str) {
    fs::write(daemon.path(name), "").unwrap();
}

fn assert_refused(said: &Said, words: &[&str]) {
    assert_eq!((said.code, said.stdout.as_str()), (125, ""), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is missing: {said:?}");
    }
}

#[test]
fn a_state_directory_that_is_moved_away_is_said_and_loses_nothing_when_it_is_back() {
    let daemon = Daemon::start(2);
    let running = waiting_job(&daemon, "go");
    let blocker = waiting_job(&daemon, "stop");
    let queued = daemon.submit(&["--", "sh", "-c", "exit 4"]);
    let elsewhere = daemon.path("elsewhere");
    fs::rename(daemon.state_dir(), &elsewhere).unwrap();

    let said = daemon.run(&["submit", "--", "true"]);
    assert_refused(&said, &["nothing was accepted", "was removed, moved or replaced", "put it back"]);
    assert_refused(&daemon.run(&["submit", "--stdin", "/dev/null", "--", "true"]), &["state"]);
    let_go(&daemon, "go");
    // The slot is free, but the next job has nowhere to write to.
    wait_until("the queued job is tried", || daemon.log().contains("its output files could not be created"));
    assert!(!daemon.state_dir().exists(), "nothing is made anew in its place");
    assert_eq!(daemon.record(running).state, State::Running, "an end that is not written is not told");

    fs::rename(&elsewhere, daemon.state_dir()).unwrap();
    assert_eq!(daemon.run(&["wait", &running.to_string()]).code, 3);
    assert_eq!(line_of(&daemon.path("go-told")), "3");
    assert_eq!(daemon.run(&["wait", &queued.to_string()]).code, 4, "it waited");
    assert_eq!(daemon.ok(&["logs", &running.to_string()]), "done\n");
    wait_until("that is said, too", || daemon.log().contains("the store can be written again"));
    let_go(&daemon, "stop");
    assert_eq!(daemon.run(&["wait", &blocker.to_string()]).code, 3);
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 5"]).code, 5);
}

#[test]
fn a_removed_state_directory_is_no_place_to_accept_jobs_into() {
    let mut daemon = Daemon::start(1);
    let running = waiting_job(&daemon, "go");
    fs::remove_dir_all(daemon.state_dir()).unwrap();
    assert_refused(&daemon.run(&["submit", "--", "true"]), &["nothing was accepted", "was removed"]);
    assert_eq!(daemon.record(running).state, State::Running, "what is known can still be asked for");
    let_go(&daemon, "go");
    wait_until("the running job has ended", || {
        daemon.ok(&["pool", "ls", "--json"]).contains("\"running\":0")
    });
    daemon.run(&["shutdown", "--now"]);
    assert_eq!(daemon.wait(), 1, "not all could be written");
    assert!(daemon.log().contains("could not be written"), "{}", daemon.log());
    assert!(!daemon.state_dir().exists());
}

#[test]
fn a_supervisor_that_finds_another_state_directory_does_not_begin_anew() {
    let mut daemon = Daemon::start(1);
    waiting_job(&daemon, "go");
    fs::rename(daemon.state_dir(), daemon.path("elsewhere")).unwrap();
    fs::create_dir(daemon.state_dir()).unwrap();
    send(daemon.supervisor(), Signal::SIGKILL);
    assert_eq!(daemon.wait(), 1);
    assert!(
        daemon.log().contains("was removed, moved or replaced while poold ran: put it back"),
        "{}",
        daemon.log()
    );
    let made: Vec<_> = fs::read_dir(daemon.state_dir()).unwrap().flatten().map(|made| made.path()).collect();
    assert!(made.is_empty(), "{made:?} was made in it");
    fs::remove_dir(daemon.state_dir()).unwrap();
    fs::rename(daemon.path("elsewhere"), daemon.state_dir()).unwrap();
    daemon.restart();
    let_go(&daemon, "go");
    assert_eq!(daemon.run(&["wait", "1"]).code, 3, "its second attempt");
}

#[test]
fn folders_that_are_missing_are_made_and_links_in_their_place_are_not_followed() {
    let daemon = Daemon::start(1);
    for folder in ["output", "stdin"] {
        fs::remove_dir_all(daemon.state_dir().join(folder)).unwrap();
    }
    let said = daemon.run(&["submit", "--wait", "--stdin", "/dev/null", "--", "echo", "there"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "there\n"), "{said:?}");

    let (output, outside) = (daemon.state_dir().join("output"), daemon.path("outside"));
    fs::create_dir(&outside).unwrap();
    fs::rename(&output, daemon.path("kept")).unwrap();
    symlink(&outside, &output).unwrap();
    let id = daemon.submit(&["--", "echo", "here"]);
    let waiting = daemon.wait_record(id, "it waits", |record| record.state == State::Retrying);
    assert!(waiting.reason.unwrap().contains("mend \"output\" in poold's state directory"));
    fs::remove_file(&output).unwrap();
    fs::rename(daemon.path("kept"), &output).unwrap();
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    assert_eq!(daemon.ok(&["logs", &id.to_string()]), "here\n");

    let stdin = daemon.state_dir().join("stdin");
    fs::remove_dir(&stdin).unwrap();
    symlink(&outside, &stdin).unwrap();
    assert_refused(&daemon.run(&["submit", "--stdin", "/dev/null", "--", "cat"]), &["standard input"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was written through a link");
}

#[test]
fn what_a_killed_attempt_had_written_stays_beside_what_the_next_one_writes() {
    let daemon = Daemon::start(1);
    let script = "echo attempt $POOL_ATTEMPT; [ $POOL_ATTEMPT -gt 1 ] || exec sleep 600";
    let id = daemon.submit_sh(script);
    let running = daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    let first = running.stdout.unwrap().path.to_path();
    assert_eq!(line_of(&first), "attempt 1");
    send(running.worker_pid.unwrap(), Signal::SIGKILL);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    let record = daemon.record(id);
    let second = record.stdout.unwrap();
    assert_eq!((record.attempt, second.bytes), (2, Some(10)));
    assert_ne!(first, second.path.to_path());
    assert_eq!(fs::read_to_string(&first).unwrap(), "attempt 1\n");
    assert_eq!(daemon.ok(&["logs", "--attempt", "1", &id.to_string()]), "attempt 1\n");
    assert_eq!(daemon.ok(&["logs", &id.to_string()]), "attempt 2\n");
}

#[test]
fn a_backup_that_a_signal_ends_leaves_nothing() {
    let daemon = Daemon::start(1);
    let (file, part) = (daemon.path_text("copy"), daemon.path("copy.part"));
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        send(daemon.supervisor(), Signal::SIGSTOP);
        let mut client = daemon.ctl(&["backup", &file]).spawn().unwrap();
        wait_until("it has begun", || part.exists());
        send(i32::try_from(client.id()).unwrap(), signal);
        let status = client.wait().unwrap();
        assert_eq!((status.signal(), part.exists()), (Some(signal as i32), false));
        send(daemon.supervisor(), Signal::SIGCONT);
    }
    daemon.ok(&["backup", &file]);
}

#[test]
fn a_backup_made_at_work_holds_every_job_accepted_before_and_can_be_started_on() {
    let daemon = Daemon::start(2);
    let running = waiting_job(&daemon, "go");
    let ended = daemon.submit(&["--", "sh", "-c", "echo so; exit 4"]);
    assert_eq!(daemon.run(&["wait", &ended.to_string()]).code, 4);
    let lines = format!("{}\n", serde_json::json!({ "argv": ["true", "x".repeat(500)] })).repeat(200);
    fs::write(daemon.path("lines"), lines).unwrap();
    let mut feeds: Vec<_> =
        (0..4).map(|_| daemon.ctl(&["submit", "--from", &daemon.path_text("lines")])).collect();
    let mut feeds: Vec<_> =
        feeds.iter_mut().map(|feed| feed.stdout(Stdio::null()).spawn().unwrap()).collect();
    let accepted = daemon.submit(&["--", "true"]);

    let (file, text) = (daemon.path("backup"), daemon.path_text("backup"));
    let said = daemon.ok(&["backup", &text]);
    assert!(said.contains("jobs, callbacks and environments, without output"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(feeds.iter_mut().all(|feed| feed.wait().unwrap().success()), "nobody was held up or refused");
    let before = fs::read(&file).unwrap();
    assert_refused(&daemon.run(&["backup", &text]), &["exists already", "name a new file"]);
    assert!(fs::read(&file).unwrap() == before && !daemon.path("backup.part").exists());

    // Restored beside it: what ran then is attempted again.
    let restored = Setup::new().workers(2);
    let state_dir = restored.dir().join("state");
    fs::DirBuilder::new().mode(0o700).create(&state_dir).unwrap();
    fs::copy(&file, state_dir.join("poold.db")).unwrap();
    let_go(&daemon, "go");
    let restored = restored.start();
    assert_eq!(restored.run(&["wait", &running.to_string()]).code, 3);
    assert_eq!(restored.record(ended).exit_code, Some(4));
    assert_eq!(
        restored.run(&["wait", &format!("1-{accepted}")]).code,
        3,
        "job 1 is the first that did not succeed"
    );
    assert!(restored.submit(&["--", "true"]) > accepted);
    assert_refused(&restored.run(&["logs", &ended.to_string()]), &["its files cannot be opened"]);
}

#[test]
fn a_backup_whose_client_dies_holds_up_nobody() {
    let daemon = Daemon::start(1);
    let mut client = daemon.client();
    let begun = client.request(&Backup {}).unwrap();
    assert_eq!(begun.path.to_path(), daemon.state_dir().join("poold.db"));
    let said = daemon.run(&["backup", &daemon.path_text("one")]);
    assert_eq!(said.code, 75, "{said:?}");
    assert!(
        said.stderr.contains("another backup is under way") && !daemon.path("one.part").exists(),
        "{said:?}"
    );
    drop(client);
    wait_until("the next one succeeds", || daemon.run(&["backup", &daemon.path_text("two")]).code == 0);
}

/// poold in the state directory of a daemon that has ended; it is not to start.
fn refused_start(daemon: &mut Daemon, prepare: impl FnOnce(&Path)) -> Said {
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), 0);
    let file = daemon.state_dir().join("poold.db");
    prepare(&file);
    let before = fs::read(&file).unwrap();
    let said = run(&mut daemon.setup().command());
    assert_eq!(said.code, 1, "{said:?}");
    assert!(fs::read(&file).unwrap() == before, "the file was changed: {said:?}");
    said
}

#[test]
fn a_damaged_database_and_a_newer_one_are_refused_at_the_start() {
    let mut daemon = Daemon::start(1);
    daemon.ok(&["submit", "--wait", "--", "true"]);
    let said = refused_start(&mut daemon, |file| {
        let opened = File::options().write(true).open(file).unwrap();
        let pages = opened.metadata().unwrap().len() / 4096;
        (1..pages).for_each(|page| opened.write_all_at(&[0xA5; 4096], page * 4096).unwrap());
    });
    assert!(
        said.stderr.contains("is damaged") && said.stderr.contains("restore it from a backup"),
        "{said:?}"
    );

    let mut daemon = Daemon::start(1);
    // In the header, big-endian: https://www.sqlite.org/fileformat.html#user_version_number
    let newer = |file: &Path| {
        File::options().write(true).open(file).unwrap().write_all_at(&[0, 0, 0, 99], 60).unwrap()
    };
    let said = refused_start(&mut daemon, newer);
    assert!(
        said.stderr.contains("was written by a newer poold") && said.stderr.contains("--state-dir"),
        "{said:?}"
    );
}

#[test]
fn damage_that_is_found_while_poold_runs_refuses_new_jobs_and_lets_the_rest_go_on() {
    let mut daemon = Setup::new().workers(1).start();
    let lines = format!("{}\n", serde_json::json!({ "argv": ["true", "x".repeat(3000)] })).repeat(500);
    let running = waiting_job(&daemon, "go");
    fs::write(daemon.path("lines"), lines).unwrap();
    daemon.ok(&["submit", "--from", &daemon.path_text("lines")]);
    // Everything but what the daemon has read is in the log, or was.
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), 0);
    daemon.restart();
    daemon.wait_record(running, "it runs", |record| record.state == State::Running);
    let file = File::options().write(true).open(daemon.state_dir().join("poold.db")).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    // Far from the first jobs, which are in the daemon's memory, and from the roots of the tables.
    (pages / 2..pages).for_each(|page| file.write_all_at(&[0xA5; 4096], page * 4096).unwrap());
    assert_refused(
        &daemon.run(&["ls"]),
        &["cannot read its store", "is damaged", "restore the file from a backup"],
    );
    assert_refused(&daemon.run(&["submit", "--", "true"]), &["nothing was accepted", "is damaged"]);
    assert_eq!(daemon.record(running).state, State::Running);
    daemon.ok(&["ping"]);
    let_go(&daemon, "go");
    wait_until("the running job has ended", || {
        daemon.log().contains("report=Ended { claim: Claim { unit: Job(JobId(1))")
    });
}
