//! What users see when something does not go on: a job that is waited for, a daemon that is to end, a daemon
//! that does not answer. They are told why, and nothing that cannot run holds a shutdown.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use pool_proto::methods::{SubmitMany, Wait};
use pool_proto::nouns::{Job, ProgressEvent};
use pool_proto::{Client, State};
use pool_tests::{Daemon, Setup, handles, run, send, wait_for, wait_until};

/// A poolctl in the background, and what it has said on stderr.
struct Waiting {
    child: Child,
    stderr: PathBuf,
}

impl Waiting {
    fn start(daemon: &Daemon, name: &str, arguments: &[&str]) -> Self {
        let stderr = daemon.path(&format!("{name}.err"));
        let mut command = daemon.ctl(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr).unwrap());
        Self { child: command.spawn().unwrap(), stderr }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    fn says(&self, words: &str) {
        wait_until(&format!("it says {words:?}; it has said {:?}", self.said()), || {
            self.said().contains(words)
        });
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal once it has been taken over: before, it would end the client.
    fn signal(&self, signal: Signal) {
        wait_until("the client has taken over its signals", || handles(self.pid(), signal));
        send(self.pid(), signal);
    }

    /// Sends a signal again and again, until the client has ended: two that come at once are one, and a client
    /// that has no turn at the processor gets them at once.
    fn signal_until_it_ends(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        let ended = wait_for(&format!("{signal} ends it"), || {
            send(self.pid(), signal);
            self.child.try_wait().unwrap()
        });
        ended.code()
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pool whose program does not exist, and whose calls wait for it all the same.
const MISSING: &str =
    "[pool.missing]\nworkers = 1\ncommand = [\"/no/such/program\"]\nstart_attempts = 100000\n";

/// A job that is held, after its worker was killed.
fn held_job(daemon: &Daemon) -> u64 {
    let id = daemon.submit(&["--on-crash", "hold", "--", "sleep", "1000"]);
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    daemon.workers().into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    daemon.wait_record(id, "it is held", |record| record.state == State::Held);
    id
}

/// The program of the pool says why, and dies.
const DYING: &str = "[pool.dying]\nworkers = 2\n\
    command = [\"sh\", \"-c\", \"sleep 0.3; echo there is no model >&2; exit 3\"]\nready = \"notify\"\n";

#[test]
fn a_map_says_that_its_program_cannot_start_and_ends() {
    let daemon = Setup::new().config(&format!("{DYING}start_attempts = 8\n")).start();
    let numbers = (0..10_000).map(|number| format!("{number}\n")).collect::<String>();
    fs::write(daemon.path("numbers"), numbers).unwrap();
    let mut map =
        Waiting::start(&daemon, "map", &["map", "-a", &daemon.path_text("numbers"), "--call", "dying", "m"]);
    map.says("no program of the pool \"dying\" is up");
    assert!(map.said().contains("there is no model"), "with its last words: {}", map.said());

    assert_eq!(map.code(), Some(125));
    let said = map.said();
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("poolctl: the program of the pool \"dying\" cannot be started: "), "{said}");
    assert!(last.contains("there is no model") && last.contains("no more were submitted"), "{said}");
    assert!(said.lines().count() <= 3, "once, not for each item: {said}");
}

/// A pool that has been in trouble before somebody asks for it needs no more patience.
#[test]
fn of_a_pool_that_cannot_start_for_long_it_is_said_that_this_lasts() {
    let daemon = Setup::new().config(MISSING).start();
    wait_until("it has been tried several times", || daemon.ok(&["pool", "ls"]).contains("failed"));
    let mut client = daemon.client();
    let job = Job { pool: Some("missing".into()), method: Some("m".into()), ..Job::default() };
    client.send(&SubmitMany { jobs: vec![job; 2], defaults: None, obstacles: Some(true) }, true).unwrap();
    let obstacle =
        wait_for("an obstacle", || client.receive::<SubmitMany>().unwrap().0.obstacles?.into_iter().next());
    assert_eq!(obstacle.lasts, Some(true), "{obstacle:?}");
}

#[test]
fn a_drain_keeps_what_cannot_run() {
    let config = format!("{MISSING}\n[callbacks]\nbackoff = \"1h\"\nattempts = 5\n");
    let mut daemon = Setup::new().config(&config).start();
    daemon.ok(&["pool", "add", "removed", "--", "/no/such/program"]);
    let missing: u64 = daemon.ok(&["call", "--async", "missing", "m"]).trim().parse().unwrap();
    let removed: u64 = daemon.ok(&["call", "--async", "removed", "m"]).trim().parse().unwrap();
    daemon.ok(&["pool", "rm", "removed"]);
    let retried = daemon.submit(&["--retries", "1", "--backoff", "1h", "--", "false"]);
    daemon.wait_record(retried, "it waits", |record| record.state == State::Retrying);
    let told = daemon.submit(&["--on-done", "exit 1", "--", "true"]);
    daemon.wait_record(told, "its callback has failed", |record| record.callbacks[0].attempts == 1);
    // What can run is waited for: also a retry that is due soon.
    let soon = daemon.path_text("soon");
    let script = format!("[ -e {soon} ] || {{ touch {soon}; exit 1; }}");
    let near = daemon.submit(&["--retries", "1", "--backoff", "500ms", "--", "sh", "-c", &script]);

    let said = daemon.run(&["shutdown"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("4 jobs and callbacks are kept for its next start"), "{said:?}");
    daemon.wait();

    daemon.restart();
    for id in [missing, removed, retried] {
        let state = daemon.record(id).state;
        assert!(matches!(state, State::Queued | State::Retrying), "job {id} is {state:?}");
    }
    assert_eq!(daemon.record(told).callbacks[0].state, "pending");
    assert_eq!(daemon.record(near).state, State::Succeeded);
    daemon.ok(&["cancel", &missing.to_string(), &removed.to_string(), &retried.to_string()]);
}

#[test]
fn a_shutdown_says_what_it_waits_for() {
    let mut daemon = Daemon::start(1);
    let id = daemon.submit(&["--", "sleep", "1000"]);
    let queued = daemon.submit(&["--", "true"]);
    let mut shutdown = Waiting::start(&daemon, "shutdown", &["shutdown"]);
    shutdown.says(&format!("poold ends after job {id}, which runs, 1 queued job"));
    shutdown.says("poolctl shutdown --now");
    daemon.ok(&["cancel", &id.to_string()]);
    assert_eq!(shutdown.code(), Some(0));
    assert_eq!(daemon.wait(), 0);
    daemon.restart();
    assert_eq!(daemon.record(queued).state, State::Succeeded);
}

/// A client that poold has heard, and that is to be told what is in the way of this job.
fn waiting_client(daemon: &Daemon, id: u64) -> Client {
    let mut client = daemon.client();
    client.send(&Wait { ids: vec![id], obstacles: Some(true), ..Wait::default() }, true).unwrap();
    assert_eq!(client.receive::<Wait>().unwrap().0.event, ProgressEvent::Waiting);
    client
}

fn next_obstacle(client: &mut Client) -> String {
    client.receive::<Wait>().unwrap().0.obstacle.expect("an obstacle").reason
}

/// Whether it is the last end or the last hold that leaves nothing but held elements, and for who comes later.
#[test]
fn who_waits_for_an_array_whose_last_elements_are_held_is_told() {
    let daemon = Daemon::start(1);
    let gate = daemon.path_text("gate");
    let script = format!("until [ -e {gate} ]; do sleep 0.02; done");
    let id = daemon.submit(&["--array", "0-3", "--", "sh", "-c", &script]);
    let told = format!(
        "array {id} waits: all of its elements that have not ended are held; `poolctl release {id}.0-3` lets \
         them go"
    );
    let (array, element) = (id.to_string(), |index: u32| format!("{id}.{index}"));
    daemon.wait_record(id + 1, "it runs", |record| record.state == State::Running);
    daemon.ok(&["hold", &element(1), &element(3)]);
    let mut by_end = waiting_client(&daemon, id);
    fs::write(&gate, "").unwrap();
    assert_eq!(next_obstacle(&mut by_end), told, "nothing before");
    assert!(daemon.ok(&["show", &array]).contains("2 succeeded, 2 held\n"));

    let said = format!("poolctl: {told}\n");
    let mut late = Waiting::start(&daemon, "late", &["wait", &array]);
    late.says(&said);
    // One of them goes on, and is held again: that is not said again.
    daemon.ok(&["pool", "pause", "default"]);
    daemon.ok(&["release", &element(3)]);
    let mut by_hold = waiting_client(&daemon, id);
    daemon.ok(&["hold", &element(3)]);
    assert_eq!(next_obstacle(&mut by_hold), told);

    daemon.ok(&["pool", "resume", "default"]);
    daemon.ok(&["release", &format!("{id}.0-3")]);
    assert_eq!((late.code(), late.said()), (Some(0), said));
}

/// An attempt is interrupted, and the job's crash policy holds the last element.
#[test]
fn who_waits_for_an_array_is_told_when_a_crash_has_its_last_element_held() {
    let daemon = Daemon::start(1);
    let id = daemon.submit(&["--array", "0", "--on-crash", "hold", "--", "sleep", "1000"]);
    daemon.wait_record(id + 1, "it runs", |record| record.state == State::Running);
    let mut client = waiting_client(&daemon, id);
    daemon.workers().into_iter().for_each(|worker| send(worker, Signal::SIGKILL));
    let told = next_obstacle(&mut client);
    assert!(told.ends_with(&format!("are held; `poolctl release {id}.0` lets it go")), "{told}");
}

#[test]
fn who_waits_for_a_held_job_is_told() {
    let daemon = Daemon::start(1);
    let id = held_job(&daemon);
    let held = format!("job {id} is held");
    let waiting = [
        Waiting::start(&daemon, "wait", &["wait", &id.to_string()]),
        Waiting::start(&daemon, "logs", &["logs", "-f", &id.to_string()]),
    ];
    for waiting in &waiting {
        waiting.says(&held);
        waiting.says(&format!("poolctl release {id}"));
        assert_eq!(waiting.said().lines().count(), 1, "{}", waiting.said());
    }
    daemon.ok(&["cancel", &id.to_string()]);

    // One that is held while somebody waits.
    let mut run = Waiting::start(&daemon, "run", &["run", "--on-crash", "hold", "--", "sleep", "1000"]);
    let id = id + 1;
    wait_until("it is there", || daemon.run(&["show", &id.to_string()]).code == 0);
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    daemon.workers().into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    run.says(&format!("job {id} is held"));
    daemon.ok(&["cancel", &id.to_string()]);
    assert_ne!(run.code(), Some(0));
}

#[test]
fn who_waits_for_a_pool_that_cannot_start_is_told() {
    let daemon = Setup::new().config(MISSING).start();
    let call = Waiting::start(&daemon, "call", &["call", "missing", "m"]);
    call.says("job 1 waits: no program of the pool \"missing\" is up");
    call.says("/no/such/program");

    let wait = Waiting::start(&daemon, "wait", &["wait", "1"]);
    wait.says("no program of the pool \"missing\" is up");
    let map = Waiting::start(&daemon, "map", &["map", "--call", "missing", "m", ":::", "1", "2"]);
    map.says("no program of the pool \"missing\" is up");
}

#[test]
fn who_waits_for_the_next_attempt_is_told() {
    let daemon = Daemon::start(1);
    let run = Waiting::start(&daemon, "run", &["run", "--retries", "2", "--backoff", "1h", "--", "false"]);
    run.says("job 1 waits for its next attempt, due at ");
    let id = daemon.submit(&["--retries", "2", "--backoff", "1h", "--", "false"]);
    // Of several with the same obstacle that is told which is heard of first.
    daemon.wait_record(id, "it waits for its next attempt", |record| record.state == State::Retrying);
    let wait = Waiting::start(&daemon, "wait", &["wait", &id.to_string(), "1"]);
    wait.says("job 1 waits for its next attempt");
}

#[test]
fn who_waits_for_an_end_that_cannot_be_written_is_told_and_can_leave() {
    let daemon = Daemon::start(3);
    let go = daemon.path_text("go");
    let script = format!("until [ -e {go} ]; do sleep 0.01; done");
    let mut interrupted = Waiting::start(&daemon, "one", &["run", "--", "sh", "-c", &script]);
    let mut terminated = Waiting::start(&daemon, "two", &["run", "--", "sh", "-c", &script]);
    wait_until("both are there", || daemon.run(&["show", "2"]).code == 0);
    let blocker = daemon.submit(&["--", "sleep", "1000"]);
    let queued = daemon.submit(&["--", "true"]);
    for id in [1, 2, blocker] {
        daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    }
    let mut logs = Waiting::start(&daemon, "logs", &["logs", "-f", "1"]);
    let wait = Waiting::start(&daemon, "wait", &["wait", "1"]);
    // Both are heard before the directory is gone: descriptors of output cannot be opened then.
    daemon.run(&["ping"]);

    fs::rename(daemon.state_dir(), daemon.path("elsewhere")).unwrap();
    fs::write(&go, "").unwrap();
    for waiting in [&interrupted, &terminated, &logs, &wait] {
        waiting.says("is over, but poold cannot write that into its database");
    }
    // Those who come later, and other verbs.
    let later = Waiting::start(&daemon, "later", &["wait", "2"]);
    let cancel = Waiting::start(&daemon, "cancel", &["cancel", &queued.to_string()]);
    for waiting in [&later, &cancel] {
        waiting.says("is over, but poold cannot write that into its database");
    }

    assert_eq!(interrupted.signal_until_it_ends(Signal::SIGINT), None, "SIGINT has ended it");
    assert_eq!(terminated.signal_until_it_ends(Signal::SIGTERM), None, "SIGTERM has ended it");

    fs::rename(daemon.path("elsewhere"), daemon.state_dir()).unwrap();
    assert_eq!(logs.code(), Some(0), "nothing is missing");
    daemon.ok(&["cancel", &blocker.to_string()]);
}

#[test]
fn who_ends_poold_now_is_told_what_the_jobs_have_got() {
    let mut daemon = Setup::new().workers(1).config("stop_grace = \"6s\"\n").start();
    let ready = daemon.path_text("ready");
    let script = format!("trap '' TERM; echo >{ready}; while :; do sleep 0.1; done");
    daemon.submit(&["--", "sh", "-c", &script]);
    wait_until("it runs", || daemon.path("ready").exists());
    let mut shutdown = Waiting::start(&daemon, "shutdown", &["shutdown", "--now"]);
    shutdown.says("poold ends after job 1, which runs; what runs has got SIGTERM");
    assert!(!shutdown.said().contains("shutdown --now"), "{}", shutdown.said());
    assert_eq!(shutdown.code(), Some(0));
    daemon.wait();
}

#[test]
fn every_verb_that_waits_for_a_write_says_so() {
    let daemon = Daemon::start(1);
    let ended = daemon.submit(&["--", "false"]);
    daemon.wait_record(ended, "it has ended", |record| record.state == State::Failed);
    let blocker = daemon.submit(&["--", "sleep", "1000"]);
    daemon.wait_record(blocker, "it runs", |record| record.state == State::Running);
    let queued = daemon.submit(&["--", "true"]).to_string();
    let held = daemon.submit(&["--hold", "--", "true"]).to_string();
    let ended = ended.to_string();

    fs::rename(daemon.state_dir(), daemon.path("elsewhere")).unwrap();
    let verbs: [&[&str]; 7] = [
        &["hold", &queued],
        &["move", &queued, "--pool", "default"],
        &["edit", &queued, "--timeout", "1h"],
        &["release", &held],
        &["retry", &ended],
        &["rm", &ended],
        &["prune", "--state", "failed", "-y"],
    ];
    let verbs: Vec<Waiting> = verbs.iter().map(|verb| Waiting::start(&daemon, verb[0], verb)).collect();
    for verb in &verbs {
        verb.says("has not answered for 3 s");
    }
    fs::rename(daemon.path("elsewhere"), daemon.state_dir()).unwrap();
}

#[test]
fn a_stopped_supervisor_is_said_and_ends_when_told_to() {
    let mut daemon = Daemon::start(1);
    let mut run = Waiting::start(&daemon, "run", &["run", "--", "sleep", "1000"]);
    wait_until("it is there", || daemon.run(&["show", "1"]).code == 0);
    daemon.wait_record(1, "it runs", |record| record.state == State::Running);
    send(daemon.supervisor(), Signal::SIGSTOP);

    let ping = daemon.run(&["ping", "--timeout", "100ms"]);
    assert_eq!(ping.code, 124, "{ping:?}");
    assert!(ping.stderr.contains("has not answered within 0.1 s"), "{ping:?}");
    let id = "1";
    let verbs: [&[&str]; 8] = [
        &["ls"],
        &["show", id],
        &["wait", id],
        &["logs", "-f", id],
        &["cancel", id],
        &["submit", "--", "true"],
        &["pool", "ls"],
        &["events"],
    ];
    let verbs: Vec<Waiting> = verbs.iter().map(|verb| Waiting::start(&daemon, verb[0], verb)).collect();
    for verb in &verbs {
        verb.says("has not answered for 3 s");
    }

    run.signal(Signal::SIGINT);
    run.says("poold does not answer");
    run.signal(Signal::SIGINT);
    assert_eq!(run.code(), None, "the second one ends it");

    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_supervisor_that_does_not_end_is_killed() {
    let mut daemon = Daemon::start(1);
    let supervisor = daemon.supervisor();
    // It is stopped again each time that it is continued, which takes a third signal to end.
    let script = format!("while kill -STOP {supervisor} 2>/dev/null; do :; done");
    let mut stopper = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
    // Two signals that come at once are one.
    wait_until("it ends", || {
        daemon.signal(Signal::SIGTERM);
        run(daemon.ctl(&["ping", "--timeout", "50ms"]).stdout(Stdio::null()));
        !daemon.is_running()
    });
    stopper.wait().unwrap();
}

#[test]
fn a_job_that_ends_well_at_our_sigterm_was_interrupted() {
    let mut daemon = Setup::new().workers(3).start();
    let ready = |name: &str| daemon.path_text(name);
    let script =
        |name: &str| format!("trap 'exit 0' TERM; echo >{}; while :; do sleep 0.02; done", ready(name));
    let again = daemon.submit(&["--", "sh", "-c", &script("again")]);
    let fail = daemon.submit(&["--on-crash", "fail", "--", "sh", "-c", &script("fail")]);
    let hold = daemon.submit(&["--on-crash", "hold", "--", "sh", "-c", &script("hold")]);
    for name in ["again", "fail", "hold"] {
        wait_until("it runs", || daemon.path(name).exists());
        fs::remove_file(daemon.path(name)).unwrap();
    }
    daemon.ok(&["shutdown", "--now"]);
    daemon.wait();
    daemon.restart();
    daemon.wait_record(again, "it runs again", |record| record.state == State::Running);
    let states = [again, fail, hold].map(|id| daemon.record(id).state);
    assert_eq!(states, [State::Running, State::Failed, State::Held]);
    assert_eq!(daemon.record(again).attempt, 2);
    assert!(daemon.record(fail).reason.unwrap().contains("poold was told to end"));
}
