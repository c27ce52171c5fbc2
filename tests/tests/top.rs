//! `poolctl top` at a terminal: it draws, keys work, and the terminal is as before however it ends.

use nix::sys::signal::Signal;
use pool_proto::State;
use pool_tests::counters::switches;
use pool_tests::terminal::Terminal;
use pool_tests::{Daemon, Setup, wait_until};

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);

fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

fn top(daemon: &Daemon, size: (u16, u16)) -> Terminal {
    let terminal = Terminal::run(&daemon.ctl(&["top"]), size);
    terminal.wait_text("slots busy");
    assert!(terminal.is_taken());
    terminal
}

#[test]
fn it_draws_and_keys_work() {
    let daemon = Daemon::start(1);
    let running = daemon.submit(&["--name", "it-runs", "--", "sh", "-c", "echo its output; exec sleep 600"]);
    let queued = daemon.submit(&["--name", "it-waits", "--", "true"]);
    daemon.wait_record(running, "it runs", |record| record.state == State::Running);

    for size in [SMALL, LARGE] {
        let mut terminal = top(&daemon, size);
        terminal.wait_text("it-runs");
        terminal.wait_text("1/1 slots busy  1 queued");

        terminal.press("2");
        terminal.wait_text("it-waits");
        terminal.press("h");
        terminal.wait_text(&format!("job {queued} is held"));
        daemon.wait_record(queued, "it is held", |record| record.state == State::Held);
        terminal.wait_text("= held");
        terminal.press("h");
        daemon.wait_record(queued, "it is released", |record| record.state == State::Queued);

        terminal.press("1j\r");
        terminal.wait_text("its output");
        terminal.press("\t");
        terminal.wait_text("submitted");
        terminal.press("\x1b");
        terminal.wait_text("NAME / COMMAND");
        terminal.press("?");
        terminal.wait_text("cancel a job (asks)");
        terminal.press("q");
        terminal.wait_text("NAME / COMMAND");

        terminal.press("q");
        assert_eq!(terminal.wait(), 0);
        terminal.wait_restored();
    }

    let mut terminal = top(&daemon, SMALL);
    terminal.wait_text("it-runs");
    terminal.press("jcn");
    terminal.wait_text("nothing was done");
    terminal.press("cy");
    daemon.wait_record(running, "it is canceled", |record| record.state == State::Canceled);
    terminal.press("3");
    terminal.wait_text("x canceled");
    terminal.wait_text("it-waits");
    // A click on the first tab.
    terminal.press("\x1b[<0;3;2M\x1b[<0;3;2m");
    terminal.wait_text("0/1 busy");
    terminal.press("\x03");
    assert_eq!(terminal.wait(), 0);
    terminal.wait_restored();
}

#[test]
fn a_job_is_edited_on_the_terminal_as_it_was() {
    let daemon = Daemon::start(1);
    let id = daemon.submit(&["--hold", "--name", "it-waits", "--", "true"]);
    let mut terminal =
        Terminal::run(daemon.ctl(&["top"]).env("VISUAL", "sed -i s/it-waits/it-is-edited/"), SMALL);
    terminal.wait_text("slots busy");
    terminal.press("2");
    terminal.wait_text("it-waits");
    terminal.press("e");
    terminal.wait_text("it-is-edited");
    assert!(terminal.is_taken());
    assert_eq!(daemon.record(id).name, Some("it-is-edited".into()));

    // What was wrong is said where it can be read.
    let mut terminal = Terminal::run(daemon.ctl(&["top"]).env("VISUAL", "false"), SMALL);
    terminal.wait_text("slots busy");
    terminal.press("2");
    terminal.wait_text("it-is-edited");
    terminal.press("e");
    terminal.wait_text("Enter goes back");
    assert!(!terminal.is_taken());
    terminal.press("\r");
    terminal.wait_text("NAME / COMMAND");
    terminal.press("q");
    assert_eq!(terminal.wait(), 0);
    terminal.wait_restored();
}

#[test]
fn a_log_is_followed_over_attempts() {
    let daemon = Daemon::start(1);
    let gate = daemon.path_text("gate");
    let script =
        format!("echo attempt $POOL_ATTEMPT; until [ -e {gate} ]; do sleep 0.01; done; echo done; exit 1");
    let id = daemon.submit(&["--retries", "1", "--backoff", "0.01", "--", "sh", "-c", &script]);
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    let mut terminal = top(&daemon, SMALL);
    terminal.wait_text("sh -c");
    terminal.press("jl");
    terminal.wait_text("attempt 1");
    std::fs::write(&gate, "").unwrap();
    terminal.wait_text("attempt 2");
    terminal.wait_text("done");
}

#[test]
fn the_terminal_is_as_before_after_every_signal() {
    let daemon = Daemon::start(1);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let mut terminal = top(&daemon, SMALL);
        terminal.signal(signal);
        assert_eq!(terminal.wait(), 128 + signal as i32);
        terminal.wait_restored();
    }

    let mut terminal = top(&daemon, SMALL);
    terminal.hang_up();
    assert_eq!(terminal.wait(), 128 + Signal::SIGHUP as i32);
}

#[test]
fn it_stops_and_goes_on() {
    let daemon = Daemon::start(1);
    let mut terminal = top(&daemon, SMALL);
    for stop in ["the key", "the signal"] {
        match stop {
            "the key" => terminal.press("\x1a"),
            _ => terminal.signal(Signal::SIGTSTP),
        }
        wait_until(stop, || is_stopped(terminal.pid()));
        terminal.wait_restored();
        terminal.signal(Signal::SIGCONT);
        wait_until("it goes on", || terminal.is_taken());
        terminal.wait_text("slots busy");
    }
    terminal.press("q");
    assert_eq!(terminal.wait(), 0);
    terminal.wait_restored();
}

#[test]
fn it_waits_for_the_next_poold() {
    let mut daemon = Daemon::start(1);
    let mut terminal = top(&daemon, SMALL);
    terminal.wait_text("0/1 slots busy");
    daemon.kill_in_one_instant();
    terminal.wait_text("poold has been away");
    daemon.restart();
    terminal.wait_screen("that it is back", |shown| shown.contains("0/1 slots busy"));
    let id = daemon.submit(&["--name", "after-it", "--", "sleep", "600"]);
    terminal.wait_text("after-it");
    daemon.ok(&["cancel", &id.to_string()]);

    // One that ends well is no other case, and meanwhile the keys work.
    daemon.ok(&["shutdown"]);
    terminal.wait_text("poold has been away");
    terminal.press("?");
    terminal.wait_text("this help");
    terminal.press("?q");
    assert_eq!(terminal.wait(), 0);
    terminal.wait_restored();
}

#[test]
fn it_follows_the_size_of_its_terminal() {
    let daemon = Daemon::start(1);
    let mut terminal = top(&daemon, LARGE);
    terminal.wait_text("LABELS");
    terminal.resize(SMALL);
    terminal.wait_screen("a narrow screen", |shown| !shown.contains("LABELS") && shown.contains("? help"));
    terminal.resize((30, 6));
    terminal.wait_screen("a tiny screen", |shown| shown.lines().count() <= 6);
    terminal.resize(LARGE);
    terminal.wait_text("LABELS");
    terminal.press("q");
    assert_eq!(terminal.wait(), 0);
    terminal.wait_restored();
}

#[test]
fn a_key_that_comes_with_another_size_is_read() {
    let daemon = Daemon::start(1);
    let mut terminal = top(&daemon, SMALL);
    terminal.wait_text("0/1 busy");
    for (key, text, size) in [("2", "no job waits", LARGE), ("1", "0/1 busy", SMALL)] {
        terminal.signal(Signal::SIGSTOP);
        wait_until("it is stopped", || is_stopped(terminal.pid()));
        terminal.resize(size);
        terminal.press(key);
        terminal.signal(Signal::SIGCONT);
        terminal.wait_text(text);
    }
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let daemon = Daemon::start(1);
    daemon.run(&["submit", "--wait", "--", "false"]);
    let has_color = |command: &std::process::Command| {
        let mut terminal = Terminal::run(command, SMALL);
        terminal.wait_text("slots busy");
        terminal.press("3");
        terminal.wait_text("x exit 1");
        let screen = terminal.screen();
        let cells = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
        cells.into_iter().any(|(row, column)| {
            screen.cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        })
    };
    assert!(has_color(&daemon.ctl(&["top"])));
    assert!(!has_color(daemon.ctl(&["top"]).env("NO_COLOR", "1")));
    assert!(!has_color(&daemon.ctl(&["top", "--color", "never"])));
}

#[test]
fn where_nothing_happens_it_does_nothing() {
    let daemon = Setup::new().workers(1).quiet().start();
    let terminal = top(&daemon, SMALL);
    terminal.wait_text("0/1 busy");
    let mut before = switches(terminal.pid()).voluntary;
    // The first readings may still come.
    let mut rounds = 0;
    wait_until("a second without a wake-up", || {
        rounds += 1;
        std::thread::sleep(std::time::Duration::from_secs(1));
        let now = switches(terminal.pid()).voluntary;
        let has_slept = std::mem::replace(&mut before, now) == now;
        has_slept || rounds > 20
    });
    assert!(rounds <= 20, "it wakes up although nothing happens");
}

#[test]
fn without_a_terminal_it_says_what_to_do_instead() {
    let daemon = Daemon::start(1);
    let said = daemon.run(&["top"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains("top needs a terminal") && said.stderr.contains("poolctl ls"), "{said:?}");
    let said = daemon.run(&["top", "--json"]);
    assert!(said.code == 2 && said.stderr.contains("events --json"), "{said:?}");

    let mut dumb = Terminal::run(daemon.ctl(&["top"]).env("TERM", "dumb"), SMALL);
    assert_eq!(dumb.wait(), 2);
    dumb.wait_text("TERM is dumb");
    dumb.wait_restored();
}
