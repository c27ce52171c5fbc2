//! What others' work does to a client that waits for one job of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pool_proto::Client;
use pool_proto::nouns::Job;
use pool_proto::wire::json::Json;
use pool_tests::Daemon;

use super::calls;
use super::figures::{Benchmark, Goal, Subject, alternate, p50_p99};
use super::stage::{Stage, connect, no_work, queued, submit_all, submit_and_wait};

const FIGURES: &[&str] = &["p50 ms", "p99 ms"];
const IDLE: &str = "an idle poold";

/// A second pool, for the client beside the crowd.
const ASIDE: &str = "[pool.aside]\nworkers = 1\n";

/// While a long queue of asynchronous jobs is worked off.
pub fn fairness(stage: &Stage) -> Benchmark {
    let (crowd, count) = (stage.size(100_000, 5000), stage.size(200, 40));
    let [idle, busy] = [ASIDE, ASIDE].map(|config| stage.daemon(config));
    let aside = Job { pool: Some("aside".to_owned()), ..no_work() };
    let urgent = Job { priority: Some(1), ..no_work() };

    // The crowd is there, and as large, at each beginning.
    let fill = || {
        let mut client = busy.client();
        let missing = crowd.saturating_sub(queued(&mut client));
        submit_all(&mut client, &no_work(), missing);
    };
    let [mut alone, mut beside, mut among] = [&idle, &busy, &busy].map(Daemon::client);
    let sides = vec![
        Subject::new(IDLE, FIGURES).run(|| each(&mut alone, &aside, count)),
        Subject::new(format!("{crowd} jobs in another pool"), FIGURES).beside(IDLE).run(|| {
            fill();
            each(&mut beside, &aside, count)
        }),
        Subject::new(format!("{crowd} jobs of a lower priority"), FIGURES).beside(IDLE).run(|| {
            fill();
            each(&mut among, &urgent, count)
        }),
    ];
    alternate("a blocking submit beside asynchronous jobs", stage.rounds, sides)
}

/// While two other clients make calls with parameters and values of 15 MiB, kept in memory or on disk.
pub fn large(stage: &Stage) -> Benchmark {
    let count = stage.size(200, 40);
    let config = format!("{ASIDE}{}{}", calls::pool("memory", "none"), calls::pool("disk", "disk"));
    let [idle, busy] = [&config, &config].map(|config| stage.daemon(config));
    let aside = Job { pool: Some("aside".to_owned()), ..no_work() };
    let text = "x".repeat(15 << 20);
    let params = Json::parse(&format!("[\"{text}\"]")).expect("it is JSON");
    let [in_memory, on_disk] = ["memory", "disk"].map(|pool| Job {
        pool: Some(pool.to_owned()),
        method: Some("echo".to_owned()),
        params: Some(params.clone()),
        ..Job::default()
    });

    let [mut alone, mut beside, mut beside_disk] = [&idle, &busy, &busy].map(Daemon::client);
    let beside_calls = |what| Subject::new(what, FIGURES).beside(IDLE).goal(Goal::MostTimes(3.0));
    let sides = vec![
        Subject::new(IDLE, FIGURES).run(|| each(&mut alone, &aside, count)),
        beside_calls("two clients with calls of 15 MiB")
            .run(|| while_two_call(&busy, &in_memory, || each(&mut beside, &aside, count))),
        beside_calls("two clients with durable ones")
            .run(|| while_two_call(&busy, &on_disk, || each(&mut beside_disk, &aside, count))),
    ];
    alternate("a blocking submit beside large messages", stage.rounds, sides)
}

fn each(client: &mut Client, job: &Job, count: usize) -> Vec<f64> {
    p50_p99((0..count).map(|_| submit_and_wait(client, job).ended).collect()).to_vec()
}

/// Does the work while two clients make one such call after another.
fn while_two_call<T>(daemon: &Daemon, call: &Job, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = connect(&daemon.socket());
                while !is_over.load(Ordering::Relaxed) {
                    submit_and_wait(&mut client, call);
                }
            });
        }
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}
