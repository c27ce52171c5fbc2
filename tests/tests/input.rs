//! What a job reads while it runs: what is sent to it, and what is typed at its terminal.

use std::fs::{self, File};

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::terminal::Terminal;
use pool_tests::{Daemon, Setup, send, wait_until};

const SMALL: (u16, u16) = (80, 24);

fn start(daemon: &Daemon, arguments: &[&str]) -> u64 {
    let id = daemon.submit(arguments);
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    id
}

fn at_terminal(daemon: &Daemon, script: &str) -> u64 {
    start(daemon, &["--pty", "--", "sh", "-c", script])
}

fn attach(daemon: &Daemon, id: u64, size: (u16, u16)) -> Terminal {
    Terminal::run(&daemon.ctl(&["attach", &id.to_string()]), size)
}

#[test]
fn what_is_sent_is_read_and_the_end_is_one() {
    let daemon = Daemon::start(2);
    let id = start(&daemon, &["--stdin", "open", "--", "sh", "-c", "cat; echo end"]).to_string();
    daemon.ok(&["send", &id, "two", "words"]);
    daemon.ok(&["send", &id, "--no-newline", "no "]);
    let text: String = (0..3000).map(|line| format!("line {line}\n")).collect();
    std::fs::write(daemon.path("text"), &text).unwrap();
    let file = File::open(daemon.path("text")).unwrap();
    let sent = daemon.ctl(&["send", &id, "--eof"]).stdin(file).status().unwrap();
    assert!(sent.success());
    daemon.ok(&["wait", &id]);
    assert_eq!(daemon.ok(&["logs", &id]), format!("two words\nno {text}end\n"));

    let said = daemon.run(&["send", &id, "late"]);
    assert_eq!(
        (said.code, said.stderr.contains("has ended (succeeded), and this takes a running job")),
        (125, true),
        "{said:?}"
    );
}

#[test]
fn what_has_no_open_input_is_refused_and_goes_on() {
    let daemon = Setup::new().workers(1).config("[pool.warm]\nworkers = 1\ncommand = [\"cat\"]").start();
    let closed = start(&daemon, &["--", "sleep", "600"]).to_string();
    let said = daemon.run(&["send", &closed, "x"]);
    assert!(said.code == 125 && said.stderr.contains("--stdin open"), "{said:?}");
    let queued = daemon.submit(&["--stdin", "open", "--", "cat"]).to_string();
    let said = daemon.run(&["send", &queued, "x"]);
    assert!(said.code == 125 && said.stderr.contains("is queued, and this takes a running job"), "{said:?}");
    let said = daemon.run(&["submit", "--pty", "--stdin", "-", "--", "cat"]);
    assert_eq!(said.code, 2, "{said:?}");
    let call = "{\"method\":\"m\",\"pool\":\"warm\",\"input\":\"pipe\"}\n";
    std::fs::write(daemon.path("jobs"), call).unwrap();
    let said = daemon.run(&["submit", "--from", &daemon.path_text("jobs")]);
    assert!(said.code != 0 && said.stderr.contains("hand it parameters"), "{said:?}");

    daemon.ok(&["cancel", &closed]);
    daemon.wait_record(queued.parse().unwrap(), "it runs", |record| record.state == State::Running);
    daemon.ok(&["send", &queued, "x", "--eof"]);
    let said = daemon.run(&["wait", &queued]);
    assert_eq!((said.code, daemon.ok(&["logs", &queued]).as_str()), (0, "x\n"));
}

#[test]
fn each_attempt_begins_with_nothing_over_a_kill_of_poold() {
    let mut daemon = Daemon::start(1);
    let id = start(&daemon, &["--stdin", "open", "--", "sh", "-c", "read a; echo $a; read b; echo $b"]);
    daemon.ok(&["send", &id.to_string(), "lost"]);
    wait_until("it has read", || daemon.ok(&["logs", &id.to_string()]) == "lost\n");
    daemon.kill_in_one_instant();
    daemon.restart();
    daemon.wait_record(id, "it runs again", |record| record.state == State::Running && record.attempt == 2);
    daemon.ok(&["send", &id.to_string(), "1"]);
    daemon.ok(&["send", &id.to_string(), "2"]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
    assert_eq!(daemon.ok(&["logs", &id.to_string()]), "1\n2\n");
}

#[test]
fn a_terminal_is_typed_into_left_and_gone_on_with() {
    let daemon = Daemon::start(1);
    let script = "tty; read a; echo got $a; trap 'echo interrupted' INT; sleep 600; \
                  stty size; read b; echo and $b; exit 7";
    let id = at_terminal(&daemon, script);

    let mut terminal = attach(&daemon, id, SMALL);
    terminal.wait_text("/dev/pts/");
    terminal.press("one\r");
    terminal.wait_text("got one");
    terminal.press("\x1c");
    assert_eq!(terminal.wait(), 0);
    terminal.wait_restored();
    terminal.wait_text("goes on");
    assert_eq!(daemon.record(id).state, State::Running);

    let mut terminal = attach(&daemon, id, (100, 30));
    terminal.wait_text("got one");
    terminal.press("\x03");
    terminal.wait_text("interrupted");
    terminal.wait_text("30 100");
    terminal.press("two\r");
    terminal.wait_text("and two");
    assert_eq!(terminal.wait(), 7, "as the job");
    terminal.wait_restored();
    assert!(daemon.ok(&["logs", &id.to_string()]).contains("and two\r\n"));
}

#[test]
fn a_client_that_dies_leaves_the_terminal_and_the_job() {
    let daemon = Daemon::start(1);
    let id = at_terminal(&daemon, "echo here; read a; echo got $a");
    let mut terminal = attach(&daemon, id, SMALL);
    terminal.wait_text("here");
    terminal.signal(Signal::SIGTERM);
    assert_ne!(terminal.wait(), 0);
    terminal.wait_restored();
    let mut hung = attach(&daemon, id, SMALL);
    hung.wait_text("here");
    hung.hang_up();
    assert_eq!(daemon.record(id).state, State::Running);
    daemon.ok(&["send", &id.to_string(), "it"]);
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}

#[test]
fn a_job_may_have_our_terminal_from_its_beginning() {
    let daemon = Daemon::start(1);
    let arguments = ["submit", "--wait", "--pty", "--", "sh", "-c", "stty size; read a; echo got $a; exit 3"];
    let mut terminal = Terminal::run(&daemon.ctl(&arguments), SMALL);
    terminal.wait_text("24 80");
    terminal.press("it\r");
    terminal.wait_text("got it");
    assert_eq!(terminal.wait(), 3);
    terminal.wait_restored();
}

#[test]
fn nothing_of_a_job_at_a_terminal_outlives_it() {
    let daemon = Daemon::start(1);
    let id = at_terminal(&daemon, "sleep 600 & setsid sleep 600 & echo ready; read a");
    wait_until("it has begun", || daemon.run(&["logs", &id.to_string()]).stdout.contains("ready"));
    let worker = daemon.workers()[0];
    send(worker, Signal::SIGKILL);
    daemon.wait_record(id, "it runs again", |record| record.attempt == 2 && record.state == State::Running);
    daemon.ok(&["cancel", &id.to_string()]);
    wait_until("nothing is left", || {
        let left = daemon.owned_processes();
        !left.iter().any(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with("sleep"))
        })
    });
}

#[test]
fn an_array_is_not_attached_to_and_its_elements_are() {
    let daemon = Daemon::start(2);
    let id = daemon.submit(&["--array", "0-1", "--stdin", "open", "--", "sh", "-c", "read a; echo got $a"]);
    daemon.wait_record(id + 2, "it runs", |record| record.state == State::Running);
    for verb in ["attach", "send"] {
        let said = daemon.run(&[verb, &id.to_string()]);
        assert_eq!(said.code, 125, "{said:?}");
        let words = format!("job {id} is an array: name one of its elements");
        assert!(said.stderr.contains(&words), "{said:?}");
    }
    for index in 0..2 {
        daemon.ok(&["send", &format!("{id}.{index}"), "it"]);
    }
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}

#[test]
fn who_sends_more_than_the_job_reads_is_told() {
    let daemon = Daemon::start(1);
    let id = start(&daemon, &["--stdin", "open", "--", "sh", "-c", "read a; exec <&-; sleep 1000"]);
    let text = daemon.path("text");
    fs::write(&text, "line\n".repeat(100_000)).unwrap();
    let mut send = daemon.ctl(&["send", &id.to_string()]);
    let said = send.stdin(File::open(&text).unwrap()).output().unwrap();
    assert_eq!(said.status.code(), Some(125), "{said:?}");
    let words = format!("job {id} does not read all of that: it has ended, or closed its standard input");
    assert!(String::from_utf8_lossy(&said.stderr).contains(&words), "{said:?}");
    daemon.ok(&["cancel", &id.to_string()]);
}
