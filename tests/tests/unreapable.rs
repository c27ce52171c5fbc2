//! What users see when a process cannot be reaped though it was killed. A tracer from outside makes such
//! processes: poold's own processes and jobs are seized with ptrace(2) by a thread of the test, which never
//! lets go by itself.
//!
//! * A *held* process stops right before its end (`PTRACE_EVENT_EXIT`). No second SIGKILL moves it; it has
//!   its memory and its children, is in its control group, and looks to poold like a process that waits in
//!   the kernel and cannot be interrupted.
//! * A *kept* process ends, and stays a zombie: its parent cannot reap it before its tracer has.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pool_proto::State;
use pool_tests::{Daemon, Setup, alive, line_of, send, wait_until};

/// Bounded is well below what a test would wait for a condition.
const BOUNDED: Duration = Duration::from_secs(30);

/// A thread that traces a process and does nothing else. A tracer is a thread: all that it traces is let go
/// when it ends.
struct Tracer {
    end: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Tracer {
    /// The process will stop right before its end.
    fn hold(pid: i32) -> Self {
        Self::seize(pid, Options::PTRACE_O_TRACEEXIT)
    }

    /// The process will end, and will not be reaped.
    fn keep(pid: i32) -> Self {
        Self::seize(pid, Options::empty())
    }

    fn seize(pid: i32, options: Options) -> Self {
        let (end, is_over) = channel();
        let (seized, is_seized) = channel();
        let thread = thread::spawn(move || {
            ptrace::seize(Pid::from_raw(pid), options).expect("the test may trace what it has started");
            seized.send(()).expect("somebody waits for it");
            // Until the sender is dropped.
            let _ = is_over.recv();
        });
        is_seized.recv().expect("the process is traced");
        Self { end, thread: Some(thread) }
    }

    /// Lets the process go.
    fn end(self) {}
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.end = channel().0;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the tracer has ended in order");
        }
    }
}

/// A job that stays, and its pid.
fn staying_job(daemon: &Daemon, name: &str, arguments: &[&str]) -> (u64, i32) {
    let path = daemon.path_text(name);
    let script = format!("[ $POOL_ATTEMPT = 1 ] || exit 0; echo $$ >{path}; while :; do sleep 600; done");
    let id = daemon.submit(&[arguments, &["--kill-after", "50ms", "--", "sh", "-c", &script]].concat());
    let pid = line_of(path.as_ref()).parse().unwrap();
    daemon.wait_record(id, "it runs", |record| record.state == State::Running);
    (id, pid)
}

fn worker_of(daemon: &Daemon, id: u64) -> i32 {
    daemon.record(id).worker_pid.expect("a running job has a worker")
}

fn runs(daemon: &Daemon) {
    let start = Instant::now();
    assert_eq!(daemon.run(&["submit", "--wait", "--", "sh", "-c", "exit 3"]).code, 3, "{}", daemon.log());
    assert!(start.elapsed() < BOUNDED, "{:?}", start.elapsed());
}

fn is_told(daemon: &Daemon, pid: i32) {
    let told = daemon.log().lines().any(|line| {
        line.contains("a killed process does not end")
            && line.contains(&format!("pid={pid} "))
            && line.contains(&format!("process {} traces it", std::process::id()))
    });
    assert!(told, "pid {pid}:\n{}", daemon.log());
}

/// Every way to make such a process, with and without control groups, each with a daemon of its own: most of
/// the time is waiting.
fn each_way(check: impl Fn(Daemon, fn(i32) -> Tracer) + Sync) {
    thread::scope(|scope| {
        for config in ["", "cgroup = \"off\""] {
            for seize in [Tracer::hold as fn(i32) -> Tracer, Tracer::keep] {
                let check = &check;
                scope.spawn(move || check(Setup::new().workers(1).config(config).start(), seize));
            }
        }
    });
}

#[test]
fn a_job_that_cannot_be_reaped_is_canceled_and_its_slot_goes_on() {
    each_way(|daemon, seize| {
        let (id, pid) = staying_job(&daemon, "job", &[]);
        let worker = worker_of(&daemon, id);
        let tracer = seize(pid);
        let start = Instant::now();
        daemon.ok(&["cancel", &id.to_string()]);
        let record = daemon.wait_record(id, "it is over", |record| record.state.is_terminal());
        assert_eq!((record.state, record.attempt, record.crashes), (State::Canceled, 1, 0), "{record:?}");
        assert!(start.elapsed() < BOUNDED, "{:?}", start.elapsed());
        is_told(&daemon, pid);

        // The same worker goes on, and waits for that process no more.
        let start = Instant::now();
        for _ in 0..3 {
            runs(&daemon);
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(alive(worker), "{}", daemon.log());

        tracer.end();
        wait_until("the process is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
        runs(&daemon);
    });
}

#[test]
fn what_a_dead_worker_leaves_behind_holds_up_its_own_end_for_a_while_and_no_other_workers() {
    for seize in [Tracer::hold as fn(i32) -> Tracer, Tracer::keep] {
        let daemon = Setup::new().workers(2).start();
        let (first, pid) = staying_job(&daemon, "first", &[]);
        let (second, other_pid) = staying_job(&daemon, "second", &[]);
        let (first_worker, second_worker) = (worker_of(&daemon, first), worker_of(&daemon, second));
        let _tracer = seize(pid);

        send(first_worker, Signal::SIGKILL);
        wait_until("the worker is known to be dead", || daemon.log().contains("worker dead"));
        // Its slot still waits. Another worker's end is told at once.
        let start = Instant::now();
        send(second_worker, Signal::SIGKILL);
        let record = daemon.wait_record(second, "it is over", |record| record.state.is_terminal());
        assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 1), "{record:?}");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}\n{}", start.elapsed(), daemon.log());
        assert!(!alive(other_pid));

        let record = daemon.wait_record(first, "it is over", |record| record.state.is_terminal());
        assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 1), "{record:?}");
        assert!(start.elapsed() < BOUNDED, "{:?}", start.elapsed());
        is_told(&daemon, pid);

        // Nobody waits for it again.
        let third = staying_job(&daemon, "third", &[]).0;
        let start = Instant::now();
        send(worker_of(&daemon, third), Signal::SIGKILL);
        daemon.wait_record(third, "it is over", |record| record.state == State::Succeeded);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}\n{}", start.elapsed(), daemon.log());
    }
}

#[test]
fn a_worker_that_cannot_be_reaped_is_replaced_and_what_it_ran_is_killed() {
    each_way(|daemon, seize| {
        let (id, pid) = staying_job(&daemon, "job", &[]);
        let worker = worker_of(&daemon, id);
        let _tracer = seize(worker);
        let start = Instant::now();
        send(worker, Signal::SIGKILL);
        if alive(worker) {
            // It is held right before its end, so that nothing but its deafness gives it away.
            daemon.run(&["cancel", &id.to_string()]);
        }
        let record = daemon.wait_record(id, "it is over", |record| record.state.is_terminal());
        assert!(start.elapsed() < BOUNDED, "{:?}", start.elapsed());
        assert!(matches!(record.state, State::Canceled | State::Succeeded), "{record:?}");
        assert!(!alive(pid), "what it ran is gone");
        is_told(&daemon, worker);
        runs(&daemon);
    });
}

#[test]
fn a_shutdown_ends_though_such_a_process_lives() {
    each_way(|mut daemon, seize| {
        let (_, pid) = staying_job(&daemon, "job", &[]);
        let tracer = seize(pid);
        let start = Instant::now();
        daemon.ok(&["shutdown", "--now"]);
        assert_eq!(daemon.wait(), 0, "{}", daemon.log());
        assert!(start.elapsed() < BOUNDED, "{:?}", start.elapsed());
        is_told(&daemon, pid);

        // Nor does the next start wait for it for long.
        let start = Instant::now();
        daemon.restart();
        assert!(start.elapsed() < BOUNDED, "{:?}", start.elapsed());
        runs(&daemon);
        tracer.end();
    });
}

#[test]
fn the_guardian_goes_on_though_such_a_process_lives() {
    each_way(|daemon, seize| {
        let (id, pid) = staying_job(&daemon, "job", &[]);
        let tracer = seize(pid);
        let start = Instant::now();
        send(daemon.supervisor(), Signal::SIGKILL);
        let record = daemon.wait_record(id, "it is over", |record| record.state.is_terminal());
        assert_eq!((record.state, record.attempt, record.crashes), (State::Succeeded, 2, 1), "{record:?}");
        assert!(start.elapsed() < BOUNDED, "{:?}", start.elapsed());
        runs(&daemon);
        tracer.end();
    });
}
