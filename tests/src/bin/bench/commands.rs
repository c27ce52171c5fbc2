//! Commands that do nothing: how many a second, how long one takes, and what CPU time it costs whom.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use pool_tests::Daemon;
use pool_tests::counters::{FIRST_THREAD, cpu_by_thread, cpu_of_children};

use super::figures::{Benchmark, Goal, Side, Subject, alternate, p50_p99};
use super::stage::{SLOTS, Stage, Told, connect, no_work, rate, run_all, submit_and_wait, timed_ms};
use super::yardsticks::{self, TaskSpooler};

const XARGS: &str = "xargs -P 2 -n 1";
const TSP: &str = "tsp -nf";
const SPAWN: &str = "posix_spawn and wait";

const RATE: &[&str] = &["jobs/s"];

/// Many jobs through two slots, durable, their output kept.
pub fn throughput(stage: &Stage) -> Benchmark {
    let count = stage.size(2000, 400);
    let daemon = stage.daemon("");
    let mut client = daemon.client();
    let spooler = stage.has_tsp.then(TaskSpooler::start);
    let jobs = daemon.path_text("jobs");
    let line = "{\"argv\":[\"/bin/true\"]}\n";
    fs::write(&jobs, line.repeat(count)).expect("a file can be written");

    let mut sides = vec![
        Subject::new("two loops of posix_spawn", RATE)
            .run(|| vec![rate(count, || yardsticks::spawn_loops(count))]),
    ];
    if stage.has_xargs {
        let xargs = || vec![rate(count, || yardsticks::xargs(count, SLOTS, &["/bin/true"]))];
        sides.push(Subject::new(XARGS, RATE).run(xargs));
    }
    if stage.has_python {
        let threads = || vec![yardsticks::python_threads(count)];
        sides.push(Subject::new("ThreadPoolExecutor(2), subprocess.run", RATE).beside(XARGS).run(threads));
    }
    if let Some(spooler) = &spooler {
        let all = || vec![rate(count, || spooler.run_all(count))];
        sides.push(Subject::new("tsp -n, one by one, to the last end", RATE).beside(XARGS).run(all));
    }
    sides.push(
        Subject::new("poold, one SubmitMany, to the last end", RATE)
            .beside(XARGS)
            .goal(Goal::LeastTimes(1.1))
            .run(|| vec![rate(count, || run_all(&mut client, &no_work(), count))]),
    );
    sides.push(Subject::new("poolctl submit --from FILE, poolctl wait", RATE).beside(XARGS).run(|| {
        vec![rate(count, || {
            let ids = daemon.ok(&["submit", "--from", &jobs]);
            let ids: Vec<&str> = ids.split_whitespace().collect();
            let range = format!("{}-{}", ids[0], ids[ids.len() - 1]);
            daemon.ok(&["wait", &range]);
        })]
    }));
    sides.push(
        Subject::new("poolctl map -- /bin/true", RATE)
            .beside(XARGS)
            .run(|| vec![rate(count, || daemon.ok(&["map", "-a", &jobs, "--", "/bin/true"]))]),
    );
    alternate(format!("{count} x /bin/true, {SLOTS} slots"), stage.rounds, sides)
}

const LATENCY: &[&str] = &["p50 ms", "p99 ms"];
const TOLD: &[&str] = &["p50 ms", "p99 ms", "accepted p50 ms", "started p50 ms"];

/// One blocking job after another.
pub fn latency(stage: &Stage) -> Benchmark {
    let count = stage.size(300, 60);
    let [power, crash] = ["power", "crash"].map(|name| stage.daemon(&format!("durability = \"{name}\"")));
    let spooler = stage.has_tsp.then(TaskSpooler::start);
    let each = |work: &mut dyn FnMut()| p50_p99((0..count).map(|_| timed_ms(&mut *work)).collect()).to_vec();

    let mut sides = vec![Subject::new(SPAWN, LATENCY).run(|| each(&mut yardsticks::spawn))];
    if let Some(spooler) = &spooler {
        sides.push(Subject::new(TSP, LATENCY).run(|| each(&mut || spooler.submit_and_wait())));
    }
    sides.push(
        Subject::new("poolctl --version", LATENCY)
            .beside(SPAWN)
            .run(|| each(&mut || drop(power.ctl(&["--version"]).output().expect("poolctl can be started")))),
    );
    let submit = |daemon: &Daemon| {
        let status = daemon.ctl(&["submit", "--wait", "--", "/bin/true"]).status();
        assert!(status.expect("poolctl can be started").success());
    };
    let ours = Subject::new("poolctl submit --wait, \"power\"", LATENCY).beside(TSP);
    sides.push(ours.goal(Goal::MostTimes(1.0)).run(|| each(&mut || submit(&power))));
    let ours = Subject::new("poolctl submit --wait, \"crash\"", LATENCY).beside(TSP);
    sides.push(ours.run(|| each(&mut || submit(&crash))));
    sides.push(kept("kept connection, \"power\"", &power, count));
    sides.push(kept("kept connection, \"crash\"", &crash, count));
    alternate("one job of /bin/true, waited for", stage.rounds, sides)
}

/// The same over a connection that is kept.
fn kept<'a>(what: &str, daemon: &Daemon, count: usize) -> Side<'a> {
    let mut client = connect(&daemon.socket());
    let subject = Subject::new(what, TOLD).beside(SPAWN).goal(Goal::MostMore(0.4));
    subject.run(move || {
        let told: Vec<Told> = (0..count).map(|_| submit_and_wait(&mut client, &no_work())).collect();
        let of = |when: fn(&Told) -> f64| p50_p99(told.iter().map(when).collect());
        let [p50, p99] = of(|told| told.ended);
        vec![p50, p99, of(|told| told.accepted)[0], of(|told| told.started)[0]]
    })
}

const CPU: &[&str] =
    &["us per job, in all", "the jobs", "workers", "supervisor's loop", "store", "other threads", "guardian"];

/// The CPU time of a job, by process.
pub fn cpu(stage: &Stage) -> Benchmark {
    let count = stage.size(2000, 500);
    let daemon = stage.daemon("");
    let mut client = daemon.client();
    // What is set up once is no part of what a job costs.
    run_all(&mut client, &no_work(), 10);

    let mut sides = Vec::new();
    if stage.has_xargs {
        sides.push(Subject::new(XARGS, &CPU[..1]).run(|| {
            let before = cpu_of_our_children();
            yardsticks::xargs(count, SLOTS, &["/bin/true"]);
            vec![(cpu_of_our_children() - before).as_secs_f64() * 1e6 / count as f64]
        }));
    }
    sides.push(Subject::new("poold, one SubmitMany", CPU).beside(XARGS).run(|| {
        let before = cpu_by_part(&daemon);
        run_all(&mut client, &no_work(), count);
        let after = cpu_by_part(&daemon);
        let parts: Vec<f64> = before.iter().zip(&after).map(|(b, a)| (a - b) * 1e6 / count as f64).collect();
        [parts.iter().sum()].into_iter().chain(parts).collect()
    }));
    alternate(format!("CPU time, {count} x /bin/true"), stage.rounds, sides)
}

fn cpu_of_our_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it is known");
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(value.tv_sec().unsigned_abs(), 0)
            + Duration::from_micros(value.tv_usec().unsigned_abs())
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// CPU seconds so far, in the order of [`CPU`] from its second name on.
fn cpu_by_part(daemon: &Daemon) -> [f64; 6] {
    let workers = daemon.workers();
    let own = |pid| cpu_by_thread(pid).values().sum::<Duration>().as_secs_f64();
    let jobs = workers.iter().map(|&pid| cpu_of_children(pid).as_secs_f64()).sum();
    let of_workers = workers.iter().map(|&pid| own(pid)).sum();

    let mut threads = cpu_by_thread(daemon.supervisor());
    let mut take = |name: &str| threads.remove(name).unwrap_or_default().as_secs_f64();
    let (main, store) = (take(FIRST_THREAD), take("store"));
    let rest = threads.values().sum::<Duration>().as_secs_f64();
    [jobs, of_workers, main, store, rest, own(daemon.guardian())]
}
