//! Callbacks a second, in order and two at a time.

use pool_proto::Client;
use pool_proto::methods::Get;
use pool_proto::nouns::Job;
use pool_tests::{Daemon, wait_until};

use super::figures::{Benchmark, Subject, alternate};
use super::stage::{Stage, no_work, rate, submit_all};
use super::yardsticks;

const RATE: &[&str] = &["callbacks/s"];
const ONE: &str = "xargs -P 1 -n 1 sh -c :";
const TWO: &str = "xargs -P 2 -n 1 sh -c :";

/// From the submits of jobs that do nothing to the delivery of the last callback.
pub fn callbacks(stage: &Stage) -> Benchmark {
    let count = stage.size(1000, 200);
    let [ordered, wide] = [1, 2].map(|width| stage.daemon(&format!("[callbacks]\nworkers = {width}\n")));
    let job = Job { on_done: Some(vec![":".into()]), ..no_work() };

    let mut sides = Vec::new();
    for (name, width) in [(ONE, 1), (TWO, 2)] {
        if stage.has_xargs {
            let shells = move || vec![rate(count, || yardsticks::xargs(count, width, &["sh", "-c", ":"]))];
            sides.push(Subject::new(name, RATE).run(shells));
        }
    }
    for (name, yardstick, daemon) in
        [("poold, in order", ONE, &ordered), ("poold, callbacks.workers = 2", TWO, &wide)]
    {
        let job = &job;
        let deliver = move || vec![rate(count, || deliver(daemon, job, count))];
        sides.push(Subject::new(name, RATE).beside(yardstick).run(deliver));
    }
    alternate("callbacks, jobs included", stage.rounds, sides)
}

/// The lane takes callbacks in the order in which the jobs have ended, so that the last ones are looked at first.
fn deliver(daemon: &Daemon, job: &Job, count: usize) {
    let mut client = daemon.client();
    let mut waiting = submit_all(&mut client, job, count);
    wait_until("all callbacks are delivered", || {
        while waiting.last().is_some_and(|&id| is_delivered(&mut client, id)) {
            waiting.pop();
        }
        waiting.is_empty()
    });
}

fn is_delivered(client: &mut Client, id: u64) -> bool {
    let record = client.request(&Get { id }).expect("the job is known").record;
    record.callbacks.iter().all(|callback| callback.state == "delivered")
}
