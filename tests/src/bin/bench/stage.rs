//! What the benchmarks share: how much is to be done, what is missing here, a daemon, and work for it.

use std::path::Path;
use std::time::{Duration, Instant};

use pool_proto::Client;
use pool_proto::methods::{Cancel, Pools, Submit, SubmitMany};
use pool_proto::nouns::{Job, ProgressEvent};
use pool_tests::{Daemon, Setup, tracer, wait_until};

/// Slots of the pool "default", as the yardsticks have.
pub const SLOTS: u32 = 2;

/// The length of a batch in `SubmitMany`.
pub const BATCH: usize = 1000;

#[derive(Debug)]
pub struct Stage {
    pub rounds: usize,
    pub is_quick: bool,
    pub has_xargs: bool,
    pub has_tsp: bool,
    pub has_python: bool,
}

impl Stage {
    pub fn new(rounds: usize, is_quick: bool) -> Self {
        let [has_xargs, has_tsp, has_python] = ["xargs", "tsp", "python3"].map(tracer::has);
        Self { rounds, is_quick, has_xargs, has_tsp, has_python }
    }

    /// The yardsticks that are not here.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [("xargs", self.has_xargs), ("tsp", self.has_tsp), ("python3", self.has_python)];
        all.into_iter().filter(|(_, is_here)| !is_here).map(|(name, _)| name).collect()
    }

    /// How much of something: for figures worth keeping, and for a look.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.is_quick { quick } else { full }
    }

    /// A daemon with such a configuration.
    pub fn daemon(&self, config: &str) -> Daemon {
        Setup::new().workers(SLOTS).config(config).quiet().start()
    }
}

/// /bin/true, which the yardsticks run as well.
pub fn no_work() -> Job {
    Job { argv: vec!["/bin/true".into()], ..Job::default() }
}

/// How long something takes; what comes of it is dropped after that.
pub fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let _done = work();
    start.elapsed()
}

/// How long something takes, in milliseconds.
pub fn timed_ms<T>(work: impl FnOnce() -> T) -> f64 {
    timed(work).as_secs_f64() * 1e3
}

/// How often a second it was done, if `count` of it were done.
pub fn rate<T>(count: usize, work: impl FnOnce() -> T) -> f64 {
    count as f64 / timed(work).as_secs_f64()
}

/// A client of a daemon at that socket.
pub fn connect(socket: &Path) -> Client {
    Client::connect(socket).expect("the daemon accepts clients")
}

/// Submits the job so many times and waits for all ends, over one connection.
pub fn run_all(client: &mut Client, job: &Job, count: usize) {
    client
        .send(&SubmitMany { jobs: vec![job.clone(); count], defaults: None, obstacles: None }, true)
        .expect("poold reads");
    while client.receive::<SubmitMany>().expect("poold accepts the jobs").1 {}
}

/// Submits the job so many times in batches; nobody waits for it. Returns the ids.
pub fn submit_all(client: &mut Client, job: &Job, count: usize) -> Vec<u64> {
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let jobs = vec![job.clone(); BATCH.min(count - ids.len())];
        ids.extend(
            client
                .request(&SubmitMany { jobs, defaults: None, obstacles: None })
                .expect("poold accepts jobs")
                .ids,
        );
    }
    ids
}

/// Submits a job without waiting for it; returns its id.
pub fn submit(client: &mut Client, job: &Job) -> u64 {
    let submit = Submit { job: job.clone(), on_disconnect: None, obstacles: None };
    client.request(&submit).expect("poold accepts the job").id
}

/// When a blocking submit was told what, from its request on, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    pub accepted: f64,
    pub started: f64,
    pub ended: f64,
}

/// Submits a job and waits for its end, over a connection that is kept.
pub fn submit_and_wait(client: &mut Client, job: &Job) -> Told {
    let start = Instant::now();
    client
        .send(&Submit { job: job.clone(), on_disconnect: None, obstacles: None }, true)
        .expect("poold reads");
    let mut told = Told::default();
    loop {
        let (progress, _) = client.receive::<Submit>().expect("poold accepts the job");
        for _ in 0..progress.descriptors.unwrap_or(0) {
            drop(client.take_descriptor().expect("descriptors come with their reply"));
        }
        let now = start.elapsed().as_secs_f64() * 1e3;
        match progress.event {
            ProgressEvent::Accepted => told.accepted = now,
            ProgressEvent::Started => told.started = now,
            ProgressEvent::Skipped | ProgressEvent::Progress | ProgressEvent::Waiting => {}
            ProgressEvent::Ended => {
                told.ended = now;
                return told;
            }
        }
    }
}

/// Jobs that fill all slots of the pool "default", so that what comes after them stays queued.
#[derive(Debug)]
pub struct Blockers(Vec<u64>);

impl Blockers {
    /// Waits until they run.
    pub fn start(client: &mut Client) -> Self {
        let argv = vec!["sleep".into(), "1000000".into()];
        let job = Job { argv, priority: Some(1000), ..Job::default() };
        let blockers = Self(submit_all(client, &job, SLOTS as usize));
        blockers.wait_until_they_run(client);
        blockers
    }

    pub fn wait_until_they_run(&self, client: &mut Client) {
        wait_until("the slots are full", || {
            let pools = client.request(&Pools {}).expect("poold lists its pools").pools;
            let default = pools.iter().find(|pool| pool.name == "default").expect("it is always there");
            default.slots.iter().all(|slot| slot.job.is_some_and(|job| self.0.contains(&job)))
        });
    }

    /// Lets the queue run.
    pub fn cancel(self, client: &mut Client) {
        client.send(&Cancel { ids: self.0, unstarted: None, obstacles: None }, false).expect("poold reads");
        client.receive::<Cancel>().expect("they run");
    }
}

/// How many jobs are queued in the pool "default".
pub fn queued(client: &mut Client) -> usize {
    let pools = client.request(&Pools {}).expect("poold lists its pools").pools;
    let default = pools.iter().find(|pool| pool.name == "default").expect("it is always there");
    usize::try_from(default.queued).expect("it fits")
}
