//! Budgets without a clock: what a unit of work costs in system calls, syncs, written bytes, wake-ups and
//! instructions. A change that needs more than a fifth beyond a bound of the table below fails here, however
//! fast or busy the machine is.
//!
//! Each test does a fixed piece of work several times and compares the least that it cost. What has become
//! cheaper is shown with `--nocapture`, in the form of the table: put the new figures there, so that they
//! stay reached.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use pool_proto::Client;
use pool_proto::methods::{Submit, SubmitMany};
use pool_proto::nouns::{Job, ProgressEvent};
use pool_tests::counters::{switches, written_bytes};
use pool_tests::tracer::{self, Calls, Tracer};
use pool_tests::{Daemon, Setup, optimized, skip};

/// A bound for what a unit of work costs.
type Budget = (&'static str, f64);

/// `poolctl submit --wait -- /bin/true`: what poolctl does.
const CLIENT: &[Budget] = &[
    ("poolctl: looks", 1.0),
    ("poolctl: memory", 8.0),
    ("poolctl: open, close", 10.0),
    ("poolctl: others", 22.0),
    ("poolctl: processes", 1.0),
    ("poolctl: reads", 5.0),
    ("poolctl: signals", 5.0),
    ("poolctl: sockets", 6.0),
    ("poolctl: system calls", 62.0),
    ("poolctl: waits", 4.0),
];

/// The same: the instructions of poolctl, optimized and not.
const CLIENT_INSTRUCTIONS: [Budget; 2] = [("optimized", 1_220_000.0), ("unoptimized", 4_000_000.0)];

/// A blocking submit of /bin/true over a kept connection: what poold does.
const BLOCKING_SUBMIT: &[Budget] = &[
    ("bytes written", 34_500.0),
    ("supervisor: futex", 4.4),
    ("supervisor: looks", 4.0),
    ("supervisor: open, close", 6.0),
    ("supervisor: sockets", 7.0),
    ("supervisor: syncs", 2.0),
    ("supervisor: system calls", 47.0),
    ("supervisor: waits", 5.0),
    ("supervisor: wake-ups", 7.0),
    ("supervisor: writes", 19.5),
    ("workers: looks", 10.0),
    ("workers: open, close", 20.7),
    ("workers: others", 3.0),
    ("workers: processes", 4.0),
    ("workers: reads", 8.7),
    ("workers: sockets", 2.0),
    ("workers: system calls", 45.2),
    ("workers: waits", 2.0),
    ("workers: wake-ups", 3.0),
];

/// One of 200 queued jobs of /bin/true in one slot, from one message to the last end: what poold does. How
/// many share a transaction depends on how busy the machine is: on a quiet one it is three fifths of this.
const QUEUED_JOB: &[Budget] = &[
    ("bytes written", 13_000.0),
    ("supervisor: futex", 2.0),
    ("supervisor: looks", 1.6),
    ("supervisor: sockets", 5.0),
    ("supervisor: syncs", 0.8),
    ("supervisor: system calls", 18.0),
    ("supervisor: waits", 2.6),
    ("supervisor: wake-ups", 3.2),
    ("supervisor: writes", 6.5),
    ("workers: looks", 6.9),
    ("workers: open, close", 20.7),
    ("workers: others", 3.0),
    ("workers: processes", 4.0),
    ("workers: reads", 8.7),
    ("workers: sockets", 2.0),
    ("workers: system calls", 45.2),
    ("workers: waits", 2.0),
    ("workers: wake-ups", 3.0),
];

/// One call to a resident program after another, each waited for over a kept connection: what poold does.
const CALL: &[Budget] = &[
    ("bytes written", 26_500.0),
    ("supervisor: futex", 5.5),
    ("supervisor: looks", 5.1),
    ("supervisor: reads", 1.0),
    ("supervisor: sockets", 3.6),
    ("supervisor: syncs", 2.0),
    ("supervisor: system calls", 37.1),
    ("supervisor: waits", 5.1),
    ("supervisor: wake-ups", 6.5),
    ("supervisor: writes", 16.8),
];

/// How far a cost may go beyond its bound; and as far again by chance, where it is almost nothing.
const MARGIN: f64 = 1.2;
const ALMOST_NOTHING: f64 = 0.1;

/// How often each thing is counted: what depends on chance, and what does so less.
const RUNS: usize = 5;
const TRACED_RUNS: usize = 3;

const JOBS: usize = 200;
const SUBMITS: usize = 50;
const CALLS: usize = 100;

/// Where the daemons live: a memory file system. So no speed of a disk decides how much shares a sync, and
/// how often somebody waits for one.
const MEMORY: &str = "/dev/shm";

/// What a unit of work costs, by name.
type Costs = BTreeMap<String, f64>;

#[test]
fn a_blocking_submit_needs_few_system_calls_of_poolctl() {
    let Some(_turn) = turn() else { return };
    let daemon = setup().start();

    let counts: Vec<Costs> = (0..RUNS)
        .map(|_| by_kind("poolctl", &tracer::calls_of(&submission(&daemon), daemon.dir()), 1))
        .collect();

    // A run in which the job happened to take long does more, for the sake of signals.
    check("CLIENT", &lowest(&counts), CLIENT);
}

#[test]
fn a_blocking_submit_needs_few_instructions_of_poolctl() {
    if !tracer::has("valgrind") {
        return skip("valgrind is not here");
    }
    let Some(_turn) = turn() else { return };
    let daemon = setup().start();

    let counts: Vec<u64> = (0..2).map(|_| tracer::instructions_of(&submission(&daemon))).collect();

    let count = *counts.iter().min().expect("there is one");
    let (profile, bound) = CLIENT_INSTRUCTIONS[usize::from(optimized().is_none())];
    println!("CLIENT_INSTRUCTIONS: (\"{profile}\", {count})");
    assert!(count as f64 <= bound * MARGIN, "{count} instructions ({profile}), the budget is {bound}");
}

#[test]
fn a_blocking_submit_costs_poold_little() {
    let Some(_turn) = turn() else { return };
    let daemon = setup().start();
    let mut client = daemon.client();

    let work = || (0..SUBMITS).for_each(|_| submit_and_wait(&mut client, &no_work()));
    let costs = costs_in_poold(&daemon, SUBMITS, work);

    check("BLOCKING_SUBMIT", &costs, BLOCKING_SUBMIT);
}

#[test]
fn a_queued_job_costs_poold_little() {
    let Some(_turn) = turn() else { return };
    let daemon = setup().start();
    let mut client = daemon.client();

    let costs = costs_in_poold(&daemon, JOBS, || run_all(&mut client, &no_work()));

    check("QUEUED_JOB", &costs, QUEUED_JOB);
}

#[test]
fn a_call_costs_poold_little() {
    let Some(_turn) = turn() else { return };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/square.sh");
    let pool = format!("[pool.warm]\nworkers = 1\ncommand = [\"sh\", {program:?}]\n");
    let daemon = setup().config(&pool).start();
    let mut client = daemon.client();
    let call = Job {
        pool: Some("warm".to_owned()),
        method: Some("square".to_owned()),
        params: Some(pool_proto::wire::json::Json::parse("[7]").unwrap()),
        ..Job::default()
    };

    let work = || (0..CALLS).for_each(|_| submit_and_wait(&mut client, &call));
    let costs = costs_in_poold(&daemon, CALLS, work);

    check("CALL", &costs, CALL);
}

/// The daemons that are counted: one slot, so that the order of things is the same in each run.
fn setup() -> Setup {
    let setup = Setup::within(Path::new(MEMORY)).workers(1).quiet();
    match optimized() {
        Some(folder) => setup.binaries(folder),
        None => setup,
    }
}

/// One test at a time: two daemons would take turns with the processor, and wake up more often. Nothing where
/// nothing can be counted.
fn turn() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if !tracer::can_trace() {
        skip("strace is not here, or may not trace");
        return None;
    }
    if !statfs(MEMORY).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC) {
        skip(&format!("{MEMORY} is no memory file system"));
        return None;
    }
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

fn submission(daemon: &Daemon) -> std::process::Command {
    daemon.ctl(&["submit", "--wait", "--", "/bin/true"])
}

fn no_work() -> Job {
    Job { argv: vec!["/bin/true".into()], ..Job::default() }
}

fn submit_and_wait(client: &mut Client, job: &Job) {
    client.send(&Submit { job: job.clone(), on_disconnect: None, obstacles: None }, true).unwrap();
    loop {
        let (progress, _) = client.receive::<Submit>().unwrap();
        for _ in 0..progress.descriptors.unwrap_or(0) {
            client.take_descriptor().unwrap();
        }
        if progress.event == ProgressEvent::Ended {
            return;
        }
    }
}

/// Submits the job many times in one message, and waits for all ends.
fn run_all(client: &mut Client, job: &Job) {
    let jobs = vec![job.clone(); JOBS];
    client.send(&SubmitMany { jobs, defaults: None, obstacles: None }, true).unwrap();
    while client.receive::<SubmitMany>().unwrap().1 {}
}

/// What poold's processes do for `units` of work, each counted in runs of its own: the tracer slows whom it
/// traces.
fn costs_in_poold(daemon: &Daemon, units: usize, mut work: impl FnMut()) -> Costs {
    let (supervisor, workers) = (daemon.supervisor(), daemon.workers());
    let all = [&workers[..], &[supervisor]].concat();
    // What is set up once is no part of what a unit costs.
    work();

    let untraced: Vec<Costs> = (0..RUNS)
        .map(|_| {
            let wakes = |pids: &[i32]| pids.iter().map(|&pid| switches(pid).voluntary).sum::<u64>();
            let bytes = || all.iter().map(|&pid| written_bytes(pid)).sum::<u64>();
            let before = [wakes(&[supervisor]), wakes(&workers), bytes()];
            work();
            let after = [wakes(&[supervisor]), wakes(&workers), bytes()];

            let names = ["supervisor: wake-ups", "workers: wake-ups", "bytes written"];
            let per_unit = |(before, after): (u64, u64)| (after - before) as f64 / units as f64;
            names
                .map(ToOwned::to_owned)
                .into_iter()
                .zip(before.into_iter().zip(after).map(per_unit))
                .collect()
        })
        .collect();
    let mut costs = lowest(&untraced);

    for (name, pids) in [("supervisor", &[supervisor][..]), ("workers", &workers)] {
        let traced: Vec<Costs> = (0..TRACED_RUNS)
            .map(|_| {
                let tracer = Tracer::attach(pids, daemon.dir());
                work();
                by_kind(name, &tracer.finish(), units)
            })
            .collect();
        costs.append(&mut lowest(&traced));
    }
    costs
}

/// The system calls of a process for one of `units`, by kind, and all of them.
fn by_kind(process: &str, calls: &Calls, units: usize) -> Costs {
    let mut costs = Costs::new();
    for (name, &count) in calls {
        for kind in [kind_of(name), "system calls"] {
            *costs.entry(format!("{process}: {kind}")).or_default() += count as f64 / units as f64;
        }
    }
    costs
}

fn kind_of(call: &str) -> &'static str {
    match call {
        "fsync" | "fdatasync" | "sync_file_range" | "syncfs" => "syncs",
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => "writes",
        "read" | "pread64" | "readv" | "preadv" | "getdents64" => "reads",
        "open" | "openat" | "openat2" | "creat" | "close" | "close_range" | "dup" | "dup3" | "fcntl" => {
            "open, close"
        }
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "access" | "faccessat2" | "readlink" => "looks",
        "unlink" | "unlinkat" | "rename" | "renameat" | "renameat2" | "link" | "linkat" | "mkdirat" => {
            "names"
        }
        "mmap" | "munmap" | "mprotect" | "mremap" | "madvise" | "brk" => "memory",
        "rt_sigaction" | "rt_sigprocmask" | "sigaltstack" | "signalfd4" => "signals",
        "clone" | "clone3" | "vfork" | "execve" | "wait4" | "waitid" | "kill" | "pidfd_open" => "processes",
        "futex" => "futex",
        "poll" | "ppoll" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => "waits",
        "sendto" | "sendmsg" | "recvfrom" | "recvmsg" | "socket" | "socketpair" | "connect" | "accept4" => {
            "sockets"
        }
        _ => "others",
    }
}

/// The lowest of each cost over several runs, since whatever else the machine is doing only adds to it. In a
/// run that does not name it, it was nothing.
fn lowest(runs: &[Costs]) -> Costs {
    let names = runs.iter().flat_map(BTreeMap::keys);
    let lowest = |name: &String| {
        let costs = runs.iter().map(|run| run.get(name).copied().unwrap_or(0.0));
        costs.min_by(f64::total_cmp).unwrap_or(0.0)
    };
    names.map(|name| (name.clone(), lowest(name))).collect()
}

/// Compares costs with their budgets; a cost without a budget is nothing.
fn check(table: &str, costs: &Costs, budgets: &[Budget]) {
    println!("{table}:");
    costs.iter().for_each(|(name, cost)| println!("    (\"{name}\", {cost:.2}),"));

    let bound = |name: &str| budgets.iter().find(|budget| budget.0 == name).map_or(0.0, |budget| budget.1);
    let allowed = |name: &str| bound(name) * MARGIN + ALMOST_NOTHING;
    let exceeded = costs.iter().filter(|(name, cost)| **cost > allowed(name));
    let exceeded: Vec<String> =
        exceeded.map(|(name, cost)| format!("{name} {cost:.2}, the budget is {}", bound(name))).collect();
    assert!(exceeded.is_empty(), "{table}: {exceeded:#?}");
}
