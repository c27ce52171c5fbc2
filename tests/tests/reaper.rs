//! What users see of the reaper: whoever is killed, nothing of the attempt is left. Each job here has a
//! grandchild that was forked twice, leads a session of its own and ignores whatever can be ignored.

use std::fs;

use nix::sys::signal::Signal;
use pool_proto::{Record, State};
use pool_tests::{Daemon, Setup, alive, line_of, send, wait_until};

/// A job and its grandchild, both running.
struct Family {
    id: u64,
    job: i32,
    grandchild: i32,
    worker: i32,
}

impl Family {
    /// The first attempt stays for ever, a second one succeeds at once.
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let (job, grandchild) = (daemon.path_text("job"), daemon.path_text("grandchild"));
        let stay = "while :; do sleep 600; done";
        let script = format!(
            "[ $POOL_ATTEMPT = 1 ] || exit 0
             trap '' TERM INT HUP
             (setsid sh -c \"trap '' TERM INT HUP; echo \\$\\$ >{grandchild}; {stay}\" >/dev/null 2>&1 &)
             until [ -s {grandchild} ]; do sleep 0.01; done
             echo $$ >{job}
             {stay}"
        );
        let id = daemon.submit(&[arguments, &["--kill-after", "50ms", "--", "sh", "-c", &script]].concat());
        let pid = |path: &str| line_of(path.as_ref()).parse().unwrap();
        let (job, grandchild) = (pid(&job), pid(&grandchild));
        let worker =
            daemon.wait_record(id, "it runs", |record| record.state == State::Running).worker_pid.unwrap();
        assert!(alive(job) && alive(grandchild));
        Self { id, job, grandchild, worker }
    }

    fn assert_gone(&self) {
        let left: Vec<i32> = [self.job, self.grandchild].into_iter().filter(|&pid| alive(pid)).collect();
        assert!(left.is_empty(), "{left:?} of job {} and grandchild {} are left", self.job, self.grandchild);
    }

    fn wait_gone(&self) {
        wait_until("job and grandchild are gone", || !alive(self.job) && !alive(self.grandchild));
    }
}

fn ended(daemon: &Daemon, id: u64) -> Record {
    daemon.run(&["wait", &id.to_string()]);
    daemon.record(id)
}

// ---- an attempt ends: when that is told, nothing is left ----

#[test]
fn a_job_that_exits_leaves_nothing() {
    let daemon = Daemon::start(1);
    let stray = daemon.path_text("stray");
    let script = format!(
        "(setsid sh -c 'trap \"\" TERM; echo $$ >{stray}; exec sleep 600' >/dev/null 2>&1 &)
         until [ -s {stray} ]; do sleep 0.01; done"
    );
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", &script]).code, 0);
    assert!(!alive(line_of(stray.as_ref()).parse().unwrap()));
}

#[test]
fn a_job_that_is_killed_leaves_nothing() {
    let daemon = Daemon::start(1);
    let family = Family::start(&daemon, &[]);
    send(family.job, Signal::SIGKILL);
    let record = ended(&daemon, family.id);
    family.assert_gone();
    assert_eq!((record.state, record.signal, record.attempt), (State::Failed, Some(9), 1));
}

#[test]
fn a_cancel_and_a_timeout_leave_nothing() {
    let daemon = Daemon::start(1);
    let family = Family::start(&daemon, &[]);
    daemon.ok(&["cancel", &family.id.to_string()]);
    family.assert_gone();
    for file in ["job", "grandchild"] {
        fs::remove_file(daemon.path(file)).unwrap();
    }
    let family = Family::start(&daemon, &["--timeout", "2s"]);
    let record = ended(&daemon, family.id);
    family.assert_gone();
    assert_eq!(record.state, State::TimedOut);
}

#[test]
fn the_usage_of_the_whole_tree_is_told() {
    let daemon = Daemon::start(1);
    // The orphan uses more memory than the job ever has, and ends before it.
    let done = daemon.path_text("done");
    let hungry = format!("head -c 60000000 /dev/zero | tail -c 60000000 | wc -c >/dev/null; echo >{done}");
    let script = format!("(setsid sh -c '{hungry}' &); until [ -e {done} ]; do sleep 0.01; done");
    let id = daemon.submit_sh(&script);
    let usage = ended(&daemon, id).usage.unwrap();
    assert!(usage.max_rss_bytes > 50_000_000, "{usage:?}");
}

// ---- one of ours is killed ----

/// Kills, and expects that the first attempt is gone, the job is attempted again, and everything goes on.
fn survives(victims: impl Fn(&Daemon, &Family) -> Vec<i32>) {
    let daemon = Daemon::start(1);
    let family = Family::start(&daemon, &[]);
    let victims = victims(&daemon, &family);
    victims.iter().for_each(|&pid| send(pid, Signal::SIGKILL));
    let record = ended(&daemon, family.id);
    family.assert_gone();
    assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 1), "{record:?}");
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 3"]).code, 3);
    assert!(victims.iter().all(|&pid| !alive(pid)));
}

#[test]
fn the_worker_is_killed() {
    survives(|_, family| vec![family.worker]);
}

#[test]
fn the_worker_and_the_job_are_killed() {
    survives(|_, family| vec![family.worker, family.job]);
}

#[test]
fn the_supervisor_is_killed() {
    survives(|daemon, _| vec![daemon.supervisor()]);
}

#[test]
fn the_supervisor_and_the_worker_are_killed() {
    survives(|daemon, family| vec![daemon.supervisor(), family.worker]);
}

#[test]
fn the_worker_and_the_supervisor_are_killed_in_the_other_order() {
    survives(|daemon, family| vec![family.worker, daemon.supervisor()]);
}

/// Kills, and expects that nothing at all is left, and that the next start takes the job up again.
fn ends(victims: impl Fn(&Daemon, &Family) -> Vec<i32>) {
    let mut daemon = Daemon::start(1);
    let family = Family::start(&daemon, &[]);
    victims(&daemon, &family).iter().for_each(|&pid| send(pid, Signal::SIGKILL));
    assert_eq!(daemon.wait(), 128 + 9);
    family.wait_gone();
    wait_until("nothing is left", || daemon.processes().is_empty());
    daemon.restart();
    let record = ended(&daemon, family.id);
    assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 1), "{record:?}");
}

#[test]
fn the_guardian_is_killed() {
    ends(|daemon, _| vec![daemon.guardian()]);
}

#[test]
fn the_guardian_and_the_supervisor_are_killed() {
    ends(|daemon, _| {
        let supervisor = daemon.supervisor();
        vec![daemon.guardian(), supervisor]
    });
}

#[test]
fn the_supervisor_and_the_guardian_are_killed() {
    ends(|daemon, _| vec![daemon.supervisor(), daemon.guardian()]);
}

#[test]
fn the_guardian_and_the_worker_are_killed() {
    ends(|daemon, family| vec![daemon.guardian(), family.worker]);
}

#[test]
fn every_worker_and_the_supervisor_are_killed() {
    survives(|daemon, _| [daemon.workers(), vec![daemon.supervisor()]].concat());
}

#[test]
fn a_worker_that_is_stopped_cannot_keep_its_job_alive() {
    let daemon = Daemon::start(1);
    let pid_file = daemon.path_text("pid");
    let script = format!("echo $$ >{pid_file}; sleep 0.1; kill -STOP $PPID; exec sleep 600");
    let id = daemon.submit(&["--timeout", "2s", "--kill-after", "50ms", "--", "sh", "-c", &script]);
    let record = ended(&daemon, id);
    assert_eq!(record.state, State::TimedOut);
    assert!(!alive(line_of(pid_file.as_ref()).parse().unwrap()));
    assert_eq!(daemon.run(&["submit", "--wait", "--", "true"]).code, 0);
}

#[test]
fn what_nobody_was_left_to_kill_goes_with_the_next_start() {
    let mut daemon = Daemon::start(1);
    let family = Family::start(&daemon, &[]);
    daemon.kill_in_one_instant();
    assert!(alive(family.grandchild), "there is something to be swept");
    daemon.restart();
    family.assert_gone();
    let record = ended(&daemon, family.id);
    assert_eq!((record.state, record.attempt), (State::Succeeded, 2));
}

// ---- a client is killed ----

#[test]
fn a_job_outlives_its_client_unless_it_was_tied_to_it() {
    let daemon = Daemon::start(2);
    for (on_disconnect, stays) in [("detach", true), ("cancel", false)] {
        let pid_file = daemon.path_text(on_disconnect);
        let script = format!("echo $$ >{pid_file}; while :; do sleep 600; done");
        let arguments = ["submit", "--wait", "--on-disconnect", on_disconnect, "--", "sh", "-c", &script];
        let mut client = daemon.ctl(&arguments).spawn().unwrap();
        let job: i32 = line_of(pid_file.as_ref()).parse().unwrap();
        client.kill().unwrap();
        client.wait().unwrap();
        if stays {
            daemon.ok(&["ping"]);
            assert!(alive(job));
        } else {
            wait_until("the job is gone", || !alive(job));
        }
    }
}

// ---- the guardian's patience ----

#[test]
fn a_supervisor_that_keeps_dying_is_given_up_with_an_error() {
    let mut daemon = Setup::new().start();
    let guardian = daemon.guardian();
    let mut last = 0;
    while alive(guardian) {
        if let Some(&supervisor) = pool_tests::children(guardian).first()
            && supervisor != last
        {
            send(supervisor, Signal::SIGKILL);
            last = supervisor;
        }
        std::thread::yield_now();
    }
    assert_eq!(daemon.wait(), 1);
    assert!(daemon.log().contains("supervisor"), "{}", daemon.log());
    wait_until("nothing is left", || daemon.processes().is_empty());
}
