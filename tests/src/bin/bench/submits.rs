//! Submitting without waiting: in batches, one by one, and by many clients; and many that wait.

use std::path::Path;
use std::thread;

use pool_proto::Client;
use pool_proto::methods::Submit;
use pool_proto::nouns::ProgressEvent;
use pool_tests::Daemon;

use super::figures::{Benchmark, Curve, Goal, Series, Subject, alternate, p50_p99};
use super::stage::{
    BATCH, Blockers, Stage, connect, no_work, rate, submit, submit_all, submit_and_wait, timed_ms,
};
use super::yardsticks::SyncedFile;

const SYNC: &str = "4 KiB appended and synced";

/// The queue grows meanwhile, since nothing runs.
pub fn submits(stage: &Stage) -> Benchmark {
    let (many, few) = (stage.size(100_000, 10_000), stage.size(500, 100));
    let daemon = stage.daemon("");
    let mut client = daemon.client();
    let _blockers = Blockers::start(&mut client);
    let mut single = daemon.client();
    let mut file = SyncedFile::new(daemon.path("synced"));

    let batches = Subject::new(format!("SubmitMany of {BATCH}"), &["jobs/s"]);
    let sides = vec![
        Subject::new(SYNC, &["p50 ms", "p99 ms"]).run(|| p50_p99(file.append(few)).to_vec()),
        Subject::new("Submit, one by one", &["p50 ms", "p99 ms"])
            .beside(SYNC)
            .goal(Goal::MostTimes(2.0))
            .run(|| {
                p50_p99((0..few).map(|_| timed_ms(|| submit(&mut single, &no_work()))).collect()).to_vec()
            }),
        batches
            .goal(Goal::Least(100_000.0))
            .run(|| vec![rate(many, || submit_all(&mut client, &no_work(), many))]),
    ];
    alternate("submits over one connection, nobody waits", stage.rounds, sides)
}

/// Many clients, each with a request under way all the time.
pub fn clients(stage: &Stage) -> Vec<Curve> {
    let numbers: &[usize] = if stage.is_quick { &[1, 10, 100] } else { &[1, 10, 100, 1000] };
    let requests = stage.size(20_000, 1000);
    let series = |what: &str| Series::new(what, numbers);
    let [mut accepted, mut ended] = [series("Submit, until accepted"), series("Submit, until ended")];
    let [mut p50, mut p99] = [series("until accepted, p50"), series("until accepted, p99")];

    let queueing = stage.daemon("");
    let _blockers = Blockers::start(&mut queueing.client());
    let running = stage.daemon("");
    for _ in 0..stage.rounds {
        for (place, &number) in numbers.iter().enumerate() {
            let submit = |client: &mut Client| {
                submit(client, &no_work());
            };
            let (rate, taken) = at_once(&queueing, number, requests, submit);
            accepted.points[place].rounds.push(rate);
            let [middle, high] = p50_p99(taken);
            p50.points[place].rounds.push(middle);
            p99.points[place].rounds.push(high);

            let run = |client: &mut Client| {
                submit_and_wait(client, &no_work());
            };
            ended.points[place].rounds.push(at_once(&running, number, requests / 5, run).0);
        }
    }
    let curve =
        |name, title: &str, y, series| Curve { name, title: title.to_owned(), x: "clients", y, series };
    vec![
        curve("clients-rate", "Requests of many clients", "requests a second", vec![accepted, ended]),
        curve("clients-latency", "One of many clients submits a job", "milliseconds", vec![p50, p99]),
    ]
}

/// What all clients together reach in a second, and how long each request takes, in milliseconds.
fn at_once(
    daemon: &Daemon,
    clients: usize,
    requests: usize,
    request: impl Fn(&mut Client) + Sync,
) -> (f64, Vec<f64>) {
    let each = (requests / clients).max(2);
    let mut clients: Vec<Client> = (0..clients).map(|_| daemon.client()).collect();
    let mut taken = Vec::new();
    let count = each * clients.len();
    let rate = rate(count, || {
        thread::scope(|scope| {
            let request = &request;
            let threads: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    let work = move || (0..each).map(|_| timed_ms(|| request(client))).collect::<Vec<f64>>();
                    thread::Builder::new().stack_size(512 * 1024).spawn_scoped(scope, work)
                })
                .collect();
            for thread in threads {
                let thread = thread.expect("there is room for a thread");
                taken.extend(thread.join().expect("no request fails"));
            }
        });
    });
    (rate, taken)
}

/// Clients that block, each for a job of its own, all at once.
pub fn waiters(stage: &Stage) -> Benchmark {
    let count = stage.size(5000, 500);
    let subject = Subject::new(format!("{count} blocked clients"), &["told the end", "ends/s"]);
    let run = || {
        let daemon = stage.daemon("");
        let mut client = daemon.client();
        let blockers = Blockers::start(&mut client);
        let mut waiting: Vec<Client> = (0..count).map(|_| blocked(&daemon.socket())).collect();

        let mut told = 0;
        let rate = rate(count, || {
            blockers.cancel(&mut client);
            told = waiting.iter_mut().map(end).filter(|&is_told| is_told).count();
        });
        vec![told as f64, rate]
    };
    let sides = vec![subject.goal(Goal::Least(count as f64)).run(run)];
    alternate("waiters", stage.rounds, sides)
}

/// A client whose job is accepted.
fn blocked(socket: &Path) -> Client {
    let mut client = connect(socket);
    client.send(&Submit { job: no_work(), on_disconnect: None, obstacles: None }, true).expect("poold reads");
    let (progress, _) = client.receive::<Submit>().expect("poold accepts the job");
    assert_eq!(progress.event, ProgressEvent::Accepted);
    client
}

/// Whether it is told the end of its job.
fn end(client: &mut Client) -> bool {
    loop {
        match client.receive::<Submit>() {
            Ok((progress, _)) if progress.event == ProgressEvent::Ended => return true,
            Ok((progress, _)) => {
                for _ in 0..progress.descriptors.unwrap_or(0) {
                    drop(client.take_descriptor());
                }
            }
            Err(_) => return false,
        }
    }
}
