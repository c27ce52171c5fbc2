//! What users see of a start after all of poold has been killed in one instant: who lives is told by facts,
//! what a dead daemon's attempts have left behind goes, and nobody else's process is touched. Without control
//! groups, which would leave nothing to be found.

use std::fs;

use nix::sys::signal::Signal;
use pool_proto::{Record, State};
use pool_tests::{Daemon, Setup, alive, is_root_or_skip, line_of, send, wait_until};
use rusqlite::Connection;

const PLAIN: &str = "cgroup = \"off\"\n";

/// A job whose first attempt leaves a process and stays, and whose second one succeeds at once.
struct Attempt {
    id: u64,
    left: i32,
}

/// What the process does to get away before it says who it is; all of them have been forked twice.
const STAYS: &str = "sh -c";
const CLEARS: &str = "env -i sh -c";
const LEAVES: &str = "setsid sh -c";
const DOES_BOTH: &str = "env -i setsid sh -c";

/// What an attempt's first process does afterwards.
const STAY: &str = "exec sleep 600";

impl Attempt {
    fn start(daemon: &Daemon, disguise: &str) -> Self {
        Self::start_with(daemon, disguise, ">/dev/null 2>&1", STAY)
    }

    fn start_with(daemon: &Daemon, disguise: &str, output: &str, stay: &str) -> Self {
        let pid_file = daemon.path_text("left");
        _ = fs::remove_file(&pid_file);
        let script = format!(
            "[ $POOL_ATTEMPT = 1 ] || exit 0
             ({disguise} 'trap \"\" TERM INT HUP; echo $$ >{pid_file}; while :; do /bin/sleep 600; done' {output} </dev/null &)
             {stay}"
        );
        let id = daemon.submit_sh(&script);
        let left = line_of(pid_file.as_ref()).parse().unwrap();
        daemon.wait_record(id, "its start is written", |record| record.state == State::Running);
        Self { id, left }
    }

    fn is_left(&self) -> bool {
        alive(self.left)
    }
}

/// What nobody knows any more is the test's to bury, with the sleep that it waits for.
impl Drop for Attempt {
    fn drop(&mut self) {
        if alive(self.left) {
            pool_tests::children(self.left)
                .into_iter()
                .chain([self.left])
                .for_each(|pid| send(pid, Signal::SIGKILL));
        }
    }
}

fn start() -> Daemon {
    Setup::new().workers(1).config(PLAIN).start()
}

fn ended(daemon: &Daemon, id: u64) -> Record {
    daemon.run(&["wait", &id.to_string()]);
    daemon.record(id)
}

fn show(daemon: &Daemon, id: u64) -> String {
    daemon.ok(&["show", &id.to_string()])
}

/// Kills, starts anew and expects that what the attempt had left is gone and that it is made again, its death
/// being told.
fn is_found(daemon: &mut Daemon, attempt: &Attempt, known_by: &str) {
    daemon.kill_in_one_instant();
    assert!(attempt.is_left(), "there is something to be swept");
    daemon.restart();
    assert!(!attempt.is_left(), "{}", daemon.log());
    let log = daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains(&format!("pid={} ", attempt.left)))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&format!("known_by={known_by:?}")), "{line}");
    let record = ended(daemon, attempt.id);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 1), "{record:?}");
    assert_eq!(record.last_crash.as_deref(), Some("attempt 1: poold died"));
}

#[test]
fn what_has_kept_its_environment_is_found_whatever_its_session() {
    let mut daemon = start();
    for disguise in [STAYS, LEAVES] {
        let attempt = Attempt::start(&daemon, disguise);
        is_found(&mut daemon, &attempt, "environment");
    }
}

#[test]
fn what_has_cleared_its_environment_is_found_by_its_session_and_output() {
    let mut daemon = start();
    let attempt = Attempt::start_with(&daemon, CLEARS, "", STAY);
    is_found(&mut daemon, &attempt, "session");
}

/// Its first process lives on, which takes some doing: the kernel is told not to kill it with its worker. A
/// process keeps its start time when it executes another program.
#[test]
fn the_recorded_process_is_found_in_any_disguise_and_takes_its_session_along() {
    let mut daemon = start();
    let attempt = Attempt::start_with(
        &daemon,
        CLEARS,
        ">/dev/null 2>&1",
        "exec env -i setpriv --pdeathsig clear sleep 600",
    );
    let job = daemon.record(attempt.id).pid.unwrap();
    // The last in a row of programs: only then is it told so.
    wait_until("it sleeps", || {
        fs::read_to_string(format!("/proc/{job}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    is_found(&mut daemon, &attempt, "session");
    assert!(!alive(job));
    assert!(
        daemon.log().contains(&format!("pid={job} command=\"sleep\" known_by=\"pid and start time\"")),
        "{}",
        daemon.log()
    );
}

/// The limit that README names: of this one nothing is left to tell it by.
#[test]
fn what_has_done_all_of_it_is_left_alone() {
    let mut daemon = start();
    let attempt = Attempt::start(&daemon, DOES_BOTH);
    daemon.kill_in_one_instant();
    daemon.restart();
    assert_eq!(ended(&daemon, attempt.id).attempt, 2);
    assert!(attempt.is_left());
}

#[test]
fn a_daemon_beside_it_keeps_its_jobs() {
    let mut daemon = start();
    let other = start();
    let ours = Attempt::start(&daemon, LEAVES);
    let theirs = Attempt::start(&other, LEAVES);
    daemon.kill_in_one_instant();
    daemon.restart();
    assert!(!ours.is_left() && theirs.is_left());
    let record = other.record(theirs.id);
    assert_eq!((record.state, record.attempt), (State::Running, 1));
    assert!(alive(record.pid.unwrap()));
    assert_eq!(ended(&daemon, ours.id).attempt, 2);
}

/// Whoever had the socket before.
#[test]
fn another_state_directory_at_the_same_socket_is_another_daemon() {
    let mut daemon = start();
    let attempt = Attempt::start(&daemon, STAYS);
    daemon.kill_in_one_instant();
    fs::rename(daemon.state_dir(), daemon.path("aside")).unwrap();
    daemon.restart();
    daemon.ok(&["ping"]);
    assert!(attempt.is_left(), "{}", daemon.log());
    daemon.ok(&["shutdown"]);
    daemon.wait();
    fs::remove_dir_all(daemon.state_dir()).unwrap();
    fs::rename(daemon.path("aside"), daemon.state_dir()).unwrap();
    daemon.restart();
    assert!(!attempt.is_left(), "{}", daemon.log());
    assert_eq!(ended(&daemon, attempt.id).attempt, 2);
}

// ---- facts of another boot, and of another process ----

/// Writes into the database of a daemon that is not running.
fn edit(daemon: &Daemon, statement: &str) {
    let connection = Connection::open(daemon.state_dir().join("poold.db")).unwrap();
    assert_eq!(connection.execute(statement, []).unwrap(), 1, "{statement}");
}

/// A process that has nothing to do with any daemon, as the store believes its attempt's to be.
struct Stranger(std::process::Child);

impl Stranger {
    /// In a session of its own.
    fn start() -> Self {
        Self(std::process::Command::new("setsid").args(["sleep", "600"]).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn start_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has the store take a stranger for an interrupted attempt's process, with this start time, in this boot;
/// whether the start lets it live.
fn is_spared(later: u64, boot: Option<&str>, how: &str) -> bool {
    let mut daemon = start();
    let attempt = Attempt::start(&daemon, STAYS);
    daemon.kill_in_one_instant();
    let stranger = Stranger::start();
    let ticks = stranger.start_ticks() + later;
    edit(
        &daemon,
        &format!("UPDATE jobs SET pid = {}, start_ticks = {ticks} WHERE state = 'running'", stranger.pid()),
    );
    if let Some(boot) = boot {
        edit(&daemon, &format!("UPDATE meta SET boot_id = '{boot}'"));
    }
    daemon.restart();
    let is_spared = alive(stranger.pid());
    assert_eq!(ended(&daemon, attempt.id).last_crash.unwrap(), format!("attempt 1: {how}"));
    // Whose environment says so is ours all the same.
    assert!(!attempt.is_left());
    is_spared
}

#[test]
fn a_pid_that_has_been_given_out_again_is_not_killed() {
    assert!(!is_spared(0, None, "poold died"), "the right start time: this is how it would be found");
    assert!(is_spared(1, None, "poold died"));
}

#[test]
fn after_a_reboot_no_pid_is_looked_for() {
    assert!(is_spared(0, Some("another"), "the machine was restarted or lost power"));
}

#[test]
fn each_start_knows_its_own_boot() {
    let mut daemon = start();
    daemon.submit_sh("true");
    daemon.ok(&["wait", "1"]);
    daemon.kill_in_one_instant();
    edit(&daemon, "UPDATE meta SET boot_id = 'another'");
    daemon.restart();
    let attempt = Attempt::start_with(&daemon, CLEARS, "", STAY);
    is_found(&mut daemon, &attempt, "session");
}

#[test]
fn what_has_become_another_users_is_named_and_not_waited_for() {
    if !is_root_or_skip("become somebody else") {
        return;
    }
    let mut daemon = Setup::new().workers(1).config(PLAIN).user(64_230).start();
    let id: u64 = daemon
        .ok(&["submit", "--", "sh", "-c", "[ $POOL_ATTEMPT = 2 ] || exec sleep 600"])
        .trim_end()
        .parse()
        .unwrap();
    let is_running = || daemon.ok(&["show", &id.to_string()]).contains("state      running");
    wait_until("its start is written", is_running);
    daemon.kill_in_one_instant();
    // As if by way of sudo.
    let stranger = Stranger::start();
    let (pid, ticks) = (stranger.pid(), stranger.start_ticks());
    edit(&daemon, &format!("UPDATE jobs SET pid = {pid}, start_ticks = {ticks} WHERE state = 'running'"));
    daemon.restart();
    assert!(alive(pid));
    let log = daemon.log();
    assert!(
        log.lines().any(|line| line.contains("could not be killed") && line.contains(&format!("pid={pid} "))),
        "{log}"
    );
    assert_eq!(daemon.run(&["wait", &id.to_string()]).code, 0);
}

// ---- how an attempt died ----

#[test]
fn show_tells_how_the_last_crash_came_about() {
    let daemon = start();
    let id = daemon.submit_sh("[ $POOL_ATTEMPT -gt 2 ] && exit 0; exec sleep 600");
    let mut workers = Vec::new();
    for attempt in 1..=2 {
        let runs = |record: &Record| record.state == State::Running && record.attempt == attempt;
        let worker = daemon.wait_record(id, "it runs", runs).worker_pid.unwrap();
        send(worker, Signal::SIGKILL);
        workers.push(worker);
    }
    let record = ended(&daemon, id);
    let how = format!("attempt 2: its worker {} was killed by signal 9", workers[1]);
    assert_eq!(
        (record.state, record.crashes, record.last_crash.as_deref()),
        (State::Succeeded, 2, Some(how.as_str()))
    );
    let text = show(&daemon, id);
    assert!(text.contains(&format!("crashed    {how}")), "{text}");
}

#[test]
fn a_lost_job_says_why() {
    let mut daemon = Setup::new().workers(1).config("cgroup = \"off\"\ncrash_limit = 1\n").start();
    let id = daemon.submit_sh("exec sleep 600");
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    daemon.kill_in_one_instant();
    daemon.restart();
    let record = ended(&daemon, id);
    assert_eq!((record.state, record.crashes), (State::Lost, 1));
    assert_eq!(record.reason.as_deref(), Some("given up after 1 crash; the last: poold died"));
    wait_until("it is listed", || daemon.ok(&["ls", "--state", "lost"]).contains("sleep 600"));
    assert!(
        show(&daemon, id).contains("reason     given up after 1 crash; the last: poold died"),
        "{}",
        show(&daemon, id)
    );
}
