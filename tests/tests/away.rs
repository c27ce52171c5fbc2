//! What users see of a poolctl whose poold is away: deadlines hold, signals are heard, and what is wrong with
//! a command line is told before any poold is needed.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::{
    Daemon, Setup, handles, install, line_of, poolctl, run, script, send, wait_for, wait_until,
};

/// poolctl waits for a poold that is away up to 30 s; whatever ends well before that has not waited for it.
const LONG_BEFORE_GIVING_UP: Duration = Duration::from_secs(20);

/// Kills the guardian, which takes the others along.
fn kill(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    wait_until("nothing of the daemon is left", || daemon.owned_processes().is_empty());
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn pid(client: &Child) -> i32 {
    i32::try_from(client.id()).unwrap()
}

/// A client that runs a job, or many, and has taken over its signals.
fn at_work(daemon: &Daemon, arguments: &[&str]) -> Child {
    let up = daemon.path("up");
    let _ = fs::remove_file(&up);
    let script = format!("echo >{}; exec sleep 600", up.display());
    let client = spawn(&mut daemon.ctl(&[arguments, &["sh", "-c", &script]].concat()));
    line_of(&up);
    wait_until("the client has taken over its signals", || {
        handles(pid(&client), Signal::SIGINT) && handles(pid(&client), Signal::SIGTERM)
    });
    client
}

/// A client that waits for two jobs, and has been told of the end of the first.
fn waiting(daemon: &Daemon, timeout: &str, second: u64) -> Child {
    let first = daemon.submit_sh("exit 0");
    daemon.wait_record(first, "it has ended", |record| record.state == State::Succeeded);
    let ids = [first.to_string(), second.to_string()];
    let mut client = spawn(&mut daemon.ctl(&["--json", "wait", "--timeout", timeout, &ids[0], &ids[1]]));
    read_until(client.stdout.as_mut().unwrap(), "succeeded");
    client
}

#[test]
fn a_wait_ends_at_its_deadline_though_poold_is_away() {
    let mut daemon = Daemon::start(2);
    let id = daemon.submit_sh("exec sleep 600");
    let begun = Instant::now();
    let client = waiting(&daemon, "3s", id);
    kill(&mut daemon);

    let output = client.wait_with_output().unwrap();
    let took = begun.elapsed();
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    assert!(took >= Duration::from_secs(3) && took < LONG_BEFORE_GIVING_UP, "{took:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let wanted = format!("the time is up: 1 of 2 jobs have not ended, first {id}; poold is away");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn a_wait_goes_on_when_poold_is_back() {
    let mut daemon = Daemon::start(2);
    let go = daemon.path_text("go");
    let id = daemon.submit_sh(&format!("while ! [ -e {go} ]; do sleep 0.02; done; exit 3"));
    let mut client = waiting(&daemon, "10m", id);
    kill(&mut daemon);
    daemon.restart();
    fs::write(&go, "").unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(3));
}

#[test]
fn the_second_signal_ends_a_poolctl_whose_poold_is_away() {
    let cases: [(&[&str], Signal); 4] = [
        (&["run", "--"], Signal::SIGINT),
        (&["run", "--"], Signal::SIGTERM),
        (&["map", "--resume", "m", "-a", "/dev/null", "--"], Signal::SIGINT),
        (&["map", "--resume", "m", "-a", "/dev/null", "--"], Signal::SIGTERM),
    ];
    for (arguments, signal) in cases {
        let mut daemon = Daemon::start(1);
        let items = daemon.path_text("items");
        fs::write(&items, "a\n").unwrap();
        let arguments: Vec<&str> =
            arguments.iter().map(|&word| if word == "/dev/null" { items.as_str() } else { word }).collect();
        let mut client = at_work(&daemon, &arguments);
        kill(&mut daemon);

        let begun = Instant::now();
        let mut said = client.stderr.take().unwrap();
        send(pid(&client), signal);
        read_until(&mut said, "poold is away");
        assert!(client.try_wait().unwrap().is_none(), "{arguments:?}: it waits for poold");
        send(pid(&client), signal);
        let status = client.wait().unwrap();
        let took = begun.elapsed();
        assert_eq!(status.signal(), Some(signal as i32), "{arguments:?}: {status:?}");
        assert!(took < LONG_BEFORE_GIVING_UP, "{arguments:?}: {took:?}");
    }
}

#[test]
fn a_map_whose_poold_is_stopped_hears_signals() {
    let daemon = Daemon::start(1);
    let items = daemon.path_text("items");
    fs::write(&items, "a\n").unwrap();
    let mut client = at_work(&daemon, &["map", "-a", &items, "--"]);
    send(daemon.supervisor(), Signal::SIGSTOP);

    // The third signal that the map hears ends it; signals of one kind may come as one.
    let begun = Instant::now();
    let status = wait_for("the map ends", || {
        send(pid(&client), Signal::SIGINT);
        client.try_wait().unwrap()
    });
    send(daemon.supervisor(), Signal::SIGCONT);
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{status:?}");
    assert!(begun.elapsed() < LONG_BEFORE_GIVING_UP, "{:?}", begun.elapsed());
}

/// Reads until that has come.
fn read_until(from: &mut impl std::io::Read, wanted: &str) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let count = from.read(&mut buffer).unwrap();
        assert!(count > 0, "{wanted:?} never came: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[test]
fn a_signal_that_came_while_poold_was_away_is_told_when_it_is_back() {
    let mut daemon = Daemon::start(1);
    // The next attempt gets the signal, or is canceled when it has not started, or is just about to.
    let cases: [(&[&str], &[i32]); 2] = [
        (&["run", "--kill-after", "100ms", "--"], &[125, 128 + 2, 128 + 15]),
        (&["map", "-a", "ITEMS", "--"], &[128 + 2]),
    ];
    for (arguments, codes) in cases {
        let items = daemon.path_text("items");
        fs::write(&items, "a\n").unwrap();
        let arguments: Vec<&str> =
            arguments.iter().map(|&word| if word == "ITEMS" { items.as_str() } else { word }).collect();
        let mut client = at_work(&daemon, &arguments);
        kill(&mut daemon);
        send(pid(&client), Signal::SIGINT);
        read_until(client.stderr.as_mut().unwrap(), "poold is away");

        daemon.restart();
        let status = client.wait().unwrap();
        let code = status.code().unwrap_or_default();
        assert!(codes.contains(&code), "{arguments:?}: {status:?}");
        wait_for("nothing is left to run", || {
            let left = daemon.ok(&["--json", "ls", "--state", "running", "--state", "queued"]);
            left.contains("\"jobs\":[]").then_some(())
        });
    }
}

#[test]
fn a_wrong_command_line_is_told_before_a_poold_is_started_or_input_is_taken() {
    let setup = Setup::new();
    let home = setup.dir();
    let file = home.join("jobs");
    fs::write(&file, "{\"argv\": 7}\n").unwrap();
    let file = file.to_str().unwrap();

    let cases: [(&[&str], &str); 23] = [
        (&["run", "--async", "--", "true"], "poolctl submit"),
        (&["run", "--async", "--wait", "--", "true"], "--wait"),
        (&["submit", "--stdin", "-", "--tie", "client", "--", "true"], "--wait"),
        (&["submit", "--stdin", "-", "--wait", "--tie", "client", "--key", "k", "--", "true"], "--key"),
        (
            &["submit", "--stdin", "-", "--env", "NO_SUCH_VARIABLE_HERE", "--", "true"],
            "NO_SUCH_VARIABLE_HERE=VALUE",
        ),
        (&["submit", "--from", file], "jobs:1"),
        (&["call", "--params", "7", "p", "m"], "[7]"),
        (&["call", "--params", "{", "p", "m"], "no JSON"),
        (&["call", "--async", "--tie", "client", "p", "m"], "--async"),
        (&["map", "--halt", "later", "echo", ":::", "a"], "never"),
        (&["ls", "--limit", "0"], "write 1 or more"),
        (&["submit", "--stdin", "-", "--tie", "job:x", "--", "true"], "job:12"),
        (&["submit", "--stdin", "-", "--timeout", "0", "--", "true"], "more than 0"),
        (&["submit", "--stdin", "-", "--env", "=x", "--", "true"], "NAME=VALUE"),
        (&["submit", "--stdin", "-", "--key", "", "--", "true"], "1 to 512 bytes"),
        (&["submit", "--stdin", "-", "--on-done", " ", "--", "true"], "write a command"),
        (&["submit", "--stdin", "-", "--", ""], "name a program"),
        (&["submit", "--stdin", "-", "--on-disconnect", "cancel", "--", "true"], "--wait"),
        (&["submit", "--from", "-", "--tie", "client"], "a single job"),
        (&["map", "--resume", "", "echo", ":::", "a"], "bytes"),
        (&["pool", "add", "p", "--workers", "0", "--", "true"], "write 1 or more"),
        (&["pool", "add", "p", "--max-calls", "0", "--", "true"], "write 1 or more"),
        (&["pool", "add", "p", "--max-age", "0", "--", "true"], "more than 0"),
    ];
    for (arguments, wanted) in cases {
        let mut command = Command::new(poolctl());
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home);
        command.env(pool_tests::MARK, setup.mark()).env("XDG_RUNTIME_DIR", home).current_dir(home);
        let said = run(&mut command);
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(wanted), "{arguments:?}: {said:?}");
        assert!(!said.stderr.contains("started poold"), "{arguments:?}: {said:?}");
    }
    assert!(pool_tests::marked(setup.mark()).is_empty(), "no poold was started");

    // What cannot be read is told as early.
    let mut command = Command::new(poolctl());
    command.args(["submit", "--stdin", "no-such-file", "--", "true"]).env_clear().env("HOME", home);
    let said =
        run(command.env("XDG_RUNTIME_DIR", home).env(pool_tests::MARK, setup.mark()).current_dir(home));
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.stderr.contains("cannot read no-such-file") && !said.stderr.contains("started"), "{said:?}");
    assert!(pool_tests::marked(setup.mark()).is_empty(), "no poold was started");
}

#[test]
fn a_start_that_takes_too_long_is_not_waited_for_beyond_the_deadline() {
    let setup = Setup::new();
    // Beside poolctl stands a poold that never gets ready.
    let ours = setup.dir().join("poolctl");
    install(poolctl(), &ours);
    let slow = setup.dir().join("poold");
    script("#!/bin/sh\nexec sleep 600\n", &slow);
    let _cleanup = pool_tests::Cleanup(setup.mark().to_owned());

    let begun = Instant::now();
    let mut command = Command::new(&ours);
    command.args(["wait", "--timeout", "300ms", "7"]).env_clear().env("PATH", "/usr/bin:/bin");
    let said = run(command
        .env("HOME", setup.dir())
        .env("XDG_RUNTIME_DIR", setup.dir())
        .env(pool_tests::MARK, setup.mark()));
    assert_eq!(said.code, 124, "{said:?}");
    assert!(said.stderr.contains("poold could not be asked"), "{said:?}");
    assert!(begun.elapsed() < LONG_BEFORE_GIVING_UP, "{:?}", begun.elapsed());
}
