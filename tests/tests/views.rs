//! What people see at a terminal, and what programs get elsewhere: `ls`, `pool ls`, `poolctl` alone.

use std::io::Read;
use std::process::Stdio;

use nix::sys::signal::Signal;
use pool_tests::{Daemon, Setup, run, send, wait_until};

/// What a command prints at a terminal of 80 columns.
fn at_terminal(daemon: &Daemon, arguments: &[&str]) -> String {
    let said = run(&mut daemon.ctl_at_terminal(&[&["--color", "never"], arguments].concat()));
    said.stdout.replace('\r', "")
}

/// Two jobs that have failed, one that runs, and two that wait.
fn busy() -> Daemon {
    let daemon = Setup::new().workers(1).config("[pool.other]\nworkers = 1\n").start();
    daemon.run(&["run", "--", "sh", "-c", "exit 3"]);
    daemon.run(&["run", "-t", "0.1s", "--name", "slow", "--", "sleep", "9"]);
    daemon.ok(&["run", "--", "true"]);
    let running = daemon.submit(&["--name", "train", "--", "sleep", "600"]);
    daemon.wait_record(running, "it runs", |record| record.started_at.is_some());
    daemon.submit(&["--", "echo", "with", "a", "command", &"that is long ".repeat(20)]);
    daemon.submit(&["--priority", "5", "--name", "urgent", "--label", "ci", "--", "true"]);
    daemon
}

fn ids(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

#[test]
fn at_a_terminal_what_lives_comes_first_and_a_job_is_a_line() {
    let daemon = busy();
    let seen = at_terminal(&daemon, &["ls"]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 8, "{seen}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{seen}");
    assert!(lines[0].contains("NAME / COMMAND"), "{seen}");
    for (line, words) in [
        (1, ["4  > running", "train"]),
        (2, ["6  - queued 1", "priority 5 @ci"]),
        (3, ["5  - queued 1", "..."]),
        (4, ["3  + succeeded", "true"]),
        (5, ["2  x timeout", "slow"]),
        (6, ["1  x exit 3", "sh -c 'exit 3'"]),
        (7, ["1 running, 2 queued, 2 failed, 1 succeeded", ""]),
    ] {
        assert!(words.iter().all(|word| lines[line].contains(word)), "{words:?}: {seen}");
    }

    // Elsewhere: all of them, in full, the oldest first.
    let told = daemon.ok(&["ls"]);
    assert_eq!(ids(&told), [1, 2, 3, 4, 5, 6]);
    assert!(told.contains(&"that is long ".repeat(20)) && !told.contains("..."), "{told}");
}

#[test]
fn colors_are_for_terminals_unless_somebody_wants_them() {
    let daemon = busy();
    let colored = |text: &str| text.contains("\x1b[");
    let mut command = daemon.ctl_at_terminal(&["ls"]);
    assert!(colored(&run(command.env("TERM", "xterm").env_remove("NO_COLOR")).stdout));
    let mut command = daemon.ctl_at_terminal(&["ls"]);
    assert!(!colored(&run(command.env("TERM", "xterm").env("NO_COLOR", "1")).stdout));
    let mut command = daemon.ctl_at_terminal(&["ls", "--color", "never"]);
    assert!(!colored(&run(command.env("TERM", "xterm")).stdout));
    assert!(!colored(&daemon.ok(&["ls"])));
    assert!(colored(&daemon.ok(&["pool", "ls", "--color=always"])));
}

#[test]
fn a_view_that_does_not_fit_says_so() {
    let daemon = Daemon::start(2);
    for _ in 0..30 {
        daemon.submit(&["--", "true"]);
    }
    daemon.ok(&["wait", "1-30"]);
    let seen = at_terminal(&daemon, &["ls"]);
    assert!(seen.lines().count() <= 23, "{seen}");
    assert!(seen.ends_with("30 succeeded (poolctl ls --all)\n"), "{seen}");
    let all = at_terminal(&daemon, &["ls", "--all"]);
    assert_eq!(ids(&all), (1..=30).rev().collect::<Vec<u64>>(), "{all}");
    daemon.submit(&["--name", "held", "--hold", "--", "true"]);
    daemon.submit(&["--after", "31", "--", "true"]);
    let named = at_terminal(&daemon, &["ls", "1-3", "last-2"]);
    assert_eq!(ids(&named), [32, 31, 3, 2, 1], "{named}");
    assert!(named.lines().nth(1).is_some_and(|line| line.ends_with("after 31")), "{named}");
    // All columns begin at the same places, and nothing of the counts is cut off.
    let start = named.lines().next().and_then(|line| line.find("NAME")).unwrap();
    assert!(named.lines().nth(2).is_some_and(|line| line[start..].starts_with("held")), "{named}");
    assert_eq!(at_terminal(&daemon, &["ls", "--all", "-s", "lost"]), "no such jobs\n");
    daemon.ok(&["cancel", "31", "32"]);
    daemon.ok(&["rm", "31-32"]);
    let two = at_terminal(&daemon, &["ls", "-n", "2"]);
    assert_eq!(two.lines().count(), 4, "{two}");
}

#[test]
fn filters_narrow_a_listing_down() {
    let daemon = busy();
    let listed = |arguments: &[&str]| ids(&daemon.ok(&[&["ls", "-q"], arguments].concat()));
    assert_eq!(listed(&["--state", "failed"]), [1, 2]);
    assert_eq!(listed(&["--state", "timed-out"]), [2]);
    assert_eq!(listed(&["--state", "active"]), [4, 5, 6]);
    assert_eq!(listed(&["--state", "waiting,succeeded"]), [3, 5, 6]);
    assert_eq!(listed(&["--name", "tr*"]), [4]);
    assert_eq!(listed(&["--label", "ci"]), [6]);
    assert_eq!(listed(&["--pool", "other"]), [0; 0]);
    assert_eq!(listed(&["--exit-code", "1-9,124"]), [1, 2]);
    assert_eq!(listed(&["--since", "1h", "--state", "ended"]), [1, 2, 3]);
    assert_eq!(listed(&["--until", "1h"]), [0; 0]);
    assert_eq!(listed(&["--sort", "-id", "--limit", "2"]), [6, 5]);
    assert_eq!(listed(&["--sort", "priority", "--limit", "1", "--state", "queued"]), [5]);
    assert_eq!(daemon.ok(&["ls", "--format", "{id}:{name}:{exit_code}", "--name", "slow"]), "2:slow:124\n");
    let columns = daemon.ok(&["ls", "--columns", "id,exit_code,name", "--state", "failed"]);
    assert_eq!(
        columns.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["ID", "EXIT", "CODE", "NAME"]
    );
    let document: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["ls", "--json", "--name", "train"])).unwrap();
    assert_eq!(document["jobs"][0]["id"], 4);

    for (arguments, said) in [
        (&["--state", "x"][..], "or active, waiting, ended"),
        (&["--columns", "naem"], "did you mean name?"),
        (&["--format", "{idd}"], "did you mean id?"),
        (&["--since", "soon"], "such as 2h"),
        (&["--since", "1h", "--until", "2h"], "--until is before --since"),
        (&["--watch"], "needs a terminal"),
    ] {
        let said_to = daemon.run(&[&["ls"], arguments].concat());
        assert!(said_to.code == 2 && said_to.stderr.contains(said), "{said_to:?}");
    }
}

#[test]
fn a_watch_draws_what_changes_and_gives_the_terminal_back() {
    let daemon = Daemon::start(1);
    let mut command = daemon.ctl_at_terminal(&["ls", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let reader = {
        let seen = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        })
    };
    let shows = |what: &str| wait_until(what, || seen.lock().unwrap().contains(what));
    shows("no jobs");
    let id = daemon.submit(&["--name", "watched", "--", "sleep", "600"]);
    shows("> running");
    daemon.ok(&["cancel", &id.to_string()]);
    shows("/ canceled");
    let ctl = pool_tests::marked(daemon.mark())
        .into_iter()
        .find(|&pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("poolctl") && line.contains("--watch") && !line.contains("script")
        })
        .expect("it watches");
    send(ctl, Signal::SIGTERM);
    child.wait().unwrap();
    reader.join().unwrap();
    let seen = seen.lock().unwrap();
    assert!(
        seen.contains("\x1b[?1049h") && seen.ends_with("\x1b[?25h\x1b[?1049l"),
        "{:?}",
        &seen[seen.len() - 40..]
    );
}

#[test]
fn poolctl_alone_says_what_is_so_and_what_comes_next() {
    let setup = Setup::new();
    let mut command = setup.program("poolctl");
    command.args(["--socket", "/nonexistent/poold.sock"]).env_remove("POOL_SOCKET");
    let said = run(&mut command);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.starts_with("No poold is running") && said.stdout.contains("poolctl submit"),
        "{said:?}"
    );

    let daemon = busy();
    let told = daemon.ok(&[]);
    for wanted in ["Running\n", "Waiting\n", "Failed\n", "2 failed", "poolctl show 2", "poolctl retry 2"] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let document: serde_json::Value = serde_json::from_str(&daemon.ok(&["--json"])).unwrap();
    assert_eq!((&document["is_up"], document["next"].as_array().unwrap().len()), (&true.into(), 3));
    assert_eq!(document["failed"].as_array().unwrap().len(), 2);
}

#[test]
fn words_of_other_queues_and_slips_lead_on() {
    let daemon = busy();
    assert_eq!(daemon.ok(&["status", "-q"]), daemon.ok(&["ls", "-q"]));
    assert!(daemon.ok(&["info", "4"]).contains("train"));
    assert_eq!(daemon.ok(&["group", "ls"]), daemon.ok(&["pool", "ls"]));
    assert_eq!(daemon.ok(&["restart", "1"]), "");
    let said = daemon.run(&["submit", "--pool", "othr", "--", "true"]);
    assert!(said.code == 125 && said.stderr.contains("did you mean other?"), "{said:?}");
}

#[test]
fn a_pool_is_a_line_and_its_slots_are_shown_on_request() {
    let daemon = Setup::new().workers(64).config("[pool.other]\nworkers = 1\n").start();
    assert_eq!(daemon.ok(&["pool", "ls"]).lines().count(), 3);
    assert_eq!(daemon.ok(&["pool", "ls", "--slots"]).lines().count(), 66);
    daemon.ok(&["run", "--", "true"]);
    let seen = at_terminal(&daemon, &["stats"]);
    assert!(seen.lines().all(|line| line.len() <= 80) && seen.contains("SLOTS USED"), "{seen}");
    assert!(!seen.contains("90%") && daemon.ok(&["stats"]).contains("90%"), "{seen}");
    let seen = at_terminal(&daemon, &["pool", "ls", "--slots"]);
    assert!(seen.lines().all(|line| line.len() <= 80), "{seen}");
    assert!(!seen.contains("PROGRAM") && daemon.ok(&["pool", "ls", "--slots"]).contains("PROGRAM"), "{seen}");
    daemon.ok(&["pool", "pause", "other"]);
    let told = daemon.ok(&["pool", "ls"]);
    assert!(told.lines().any(|line| line.starts_with("other") && line.contains("paused since 2")), "{told}");
    assert!(at_terminal(&daemon, &["ls"]).contains("paused: other"));
}
