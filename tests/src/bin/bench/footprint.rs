//! What poold takes while it has nothing to do: the memory of each process, and wake-ups.

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use pool_tests::counters::{memory, switches};
use pool_tests::{Daemon, wait_until};

use super::figures::{Benchmark, Goal, Subject, alternate, compare};
use super::stage::{SLOTS, Stage, no_work, run_all};
use super::yardsticks;

const MIB: &[&str] = &["MiB private", "MiB resident"];

/// After some work, of each kind of process.
pub fn memory_of_each(stage: &Stage) -> Benchmark {
    let daemon = stage.daemon("");
    run_all(&mut daemon.client(), &no_work(), stage.size(2000, 200));
    let waiting = daemon.ctl(&["submit", "--wait", "--", "sleep", "1000000"]).stdin(Stdio::null()).spawn();
    let waiting: Child = waiting.expect("poolctl can be started");
    wait_until("it waits", || !daemon.ok(&["ls", "--state", "running"]).trim().is_empty());

    let (guardian, supervisor, workers) = (daemon.guardian(), daemon.supervisor(), daemon.workers());
    let poolctl = i32::try_from(waiting.id()).expect("pids fit");
    let worker = move || -> Vec<f64> {
        let all: Vec<[f64; 2]> = workers.iter().map(|&pid| mib(pid)).collect();
        (0..2).map(|place| all.iter().map(|one| one[place]).fold(0.0, f64::max)).collect()
    };
    let sides = vec![
        Subject::new("guardian", MIB).run(move || mib(guardian).to_vec()),
        Subject::new("supervisor", MIB).goal(Goal::Most(12.0)).run(move || mib(supervisor).to_vec()),
        Subject::new("the largest worker", MIB).goal(Goal::Most(2.0)).run(worker),
        Subject::new("poolctl submit --wait, waiting", MIB).run(move || mib(poolctl).to_vec()),
    ];
    let benchmark = alternate("memory of each process", stage.rounds, sides);
    yardsticks::end(waiting);
    benchmark
}

fn mib(pid: i32) -> [f64; 2] {
    let memory = memory(pid);
    [memory.private, memory.resident].map(|bytes| bytes as f64 / f64::from(1 << 20))
}

const SWITCHES: &[&str] = &["switches", "of the supervisor"];

/// Daemons that have had some work, all watched in the same seconds: one for each round.
pub fn idle(stage: &Stage) -> Benchmark {
    let seconds = stage.size(60, 5);
    let daemons: Vec<Daemon> = (0..stage.rounds).map(|_| stage.daemon("")).collect();
    daemons.iter().for_each(|daemon| run_all(&mut daemon.client(), &no_work(), 10));
    // What is left to do after work is done by then, such as a checkpoint.
    thread::sleep(Duration::from_secs(2));

    let all = || daemons.iter().map(so_far).collect::<Vec<_>>();
    let before = all();
    thread::sleep(Duration::from_secs(seconds as u64));
    let rounds = before.iter().zip(all()).map(|(before, after)| {
        before.iter().zip(after).map(|(before, after)| (after - before) as f64).collect()
    });
    let what = format!("poold with {SLOTS} slots, {seconds} s");
    let subject = Subject::new(what, SWITCHES).goal(Goal::Most(0.0));
    compare("context switches while idle", vec![(subject, rounds.collect())])
}

/// Of all processes, and of the supervisor.
fn so_far(daemon: &Daemon) -> [u64; 2] {
    let of = |pid| {
        let switches = switches(pid);
        switches.voluntary + switches.involuntary
    };
    let supervisor = of(daemon.supervisor());
    let others: u64 = daemon.workers().into_iter().chain([daemon.guardian()]).map(of).sum();
    [others + supervisor, supervisor]
}
