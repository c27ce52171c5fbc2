//! What becomes slower, or larger, as the queue grows.

use std::time::Duration;

use nix::sys::signal::Signal;
use pool_proto::Client;
use pool_proto::methods::Wait;
use pool_tests::Daemon;
use pool_tests::counters::memory;

use super::figures::{Benchmark, Curve, Goal, Point, Series, Subject, compare, p50_p99};
use super::stage::{Blockers, Stage, connect, no_work, queued, rate, submit, submit_all, timed, timed_ms};

/// Jobs that are dispatched at each length of the queue.
const DISPATCHED: usize = 500;

/// Jobs that are submitted one by one.
const SUBMITTED: usize = 100;

/// What is listed: a screen or two.
const LISTED: &str = "100";

/// What is measured: the curve's file, its title, and its unit.
const CURVES: [(&str, &str, &str); 5] = [
    ("growth-submit", "Submit", "milliseconds, p50"),
    ("growth-dispatch", "Dispatch", "jobs a second"),
    ("growth-ls", "poolctl ls --limit 100", "milliseconds"),
    ("growth-start", "Start until ready", "milliseconds"),
    ("growth-memory", "The supervisor's memory", "MiB resident"),
];

pub fn growth(stage: &Stage) -> (Benchmark, Vec<Curve>) {
    let levels: &[usize] =
        if stage.is_quick { &[0, 1000, 10_000, 50_000] } else { &[0, 10_000, 100_000, 1_000_000] };
    let mut series: Vec<Series> = CURVES.iter().map(|curve| Series::new(curve.1, levels)).collect();
    for _ in 0..stage.rounds {
        let mut queue = Queue::new(stage.daemon(""));
        for (place, &level) in levels.iter().enumerate() {
            let found = queue.at(level);
            series.iter_mut().zip(found).for_each(|(series, value)| series.points[place].rounds.push(value));
        }
    }

    let rows = rows(&series, levels);
    let curves = series.into_iter().zip(CURVES).map(|(series, (name, title, y))| Curve {
        name,
        title: format!("{title} as the queue grows"),
        x: "jobs queued",
        y,
        series: vec![series],
    });
    (rows, curves.collect())
}

/// The two ends of the curves, with their goals. For a list it is the second
/// point: a list of none is short.
fn rows(series: &[Series], levels: &[usize]) -> Benchmark {
    let most = levels[levels.len() - 1];
    let between = |first: usize, place: usize| {
        let points = &series[place].points;
        [&points[first], &points[points.len() - 1]].map(|point: &Point| point.rounds.clone())
    };
    let ends = |place| between(0, place);
    let each = |rounds: &[f64]| rounds.iter().map(|&value| vec![value]).collect::<Vec<_>>();
    let [submit, full_submit] = ends(0);
    let [dispatch, full_dispatch] = ends(1);
    let [ls, full_ls] = between(1, 2);
    let [start, full_start] = ends(3);
    let [idle, full] = ends(4);
    let more: Vec<f64> = full.iter().zip(&idle).map(|(full, idle)| full - idle).collect();

    let row = |what: &str, name, rounds: &[f64]| (Subject::new(what, name), each(rounds));
    let beside = |what: String, name, yardstick, goal, rounds: &[f64]| {
        (Subject::new(what, name).beside(yardstick).goal(goal), each(rounds))
    };
    const LS: &str = "poolctl ls -l 100, few queued";
    const MS: &[&str] = &["p50 ms"];
    const RATE: &[&str] = &["jobs/s"];
    const READY: &[&str] = &["ms"];
    const MIB: &[&str] = &["MiB resident"];
    compare(
        "as the queue grows",
        vec![
            row("Submit, none queued", MS, &submit),
            beside(
                format!("Submit, {most} queued"),
                MS,
                "Submit, none queued",
                Goal::MostTimes(1.2),
                &full_submit,
            ),
            row("dispatch, none queued", RATE, &dispatch),
            beside(
                format!("dispatch, {most} queued"),
                RATE,
                "dispatch, none queued",
                Goal::LeastTimes(0.8),
                &full_dispatch,
            ),
            row(LS, READY, &ls),
            beside(format!("poolctl ls -l 100, {most} queued"), READY, LS, Goal::MostTimes(2.0), &full_ls),
            row("start, none queued", READY, &start),
            (Subject::new(format!("start, {most} queued"), READY).goal(Goal::Most(500.0)), each(&full_start)),
            (Subject::new("supervisor, idle", MIB).goal(Goal::Most(12.0)), each(&idle)),
            (
                Subject::new(format!("supervisor, {most} queued, more"), MIB).goal(Goal::Most(40.0)),
                each(&more),
            ),
        ],
    )
}

/// A daemon whose slots are full, and the jobs behind them in their order.
struct Queue {
    daemon: Daemon,
    client: Client,
    blockers: Option<Blockers>,
    ids: Vec<u64>,
}

impl Queue {
    fn new(daemon: Daemon) -> Self {
        let mut client = daemon.client();
        let blockers = Some(Blockers::start(&mut client));
        Self { daemon, client, blockers, ids: Vec::new() }
    }

    /// What [`CURVES`] says, with so many jobs queued.
    fn at(&mut self, level: usize) -> [f64; 5] {
        self.fill(level);
        // One that has been there for a while is what is asked for, not one that has just taken all of this in.
        let start = self.restart();
        let memory = memory(self.daemon.supervisor()).resident as f64 / f64::from(1 << 20);
        let ls = self.list();
        let submit = self.submit();
        self.fill(level + DISPATCHED);
        [submit, self.dispatch(), ls, start, memory]
    }

    fn fill(&mut self, level: usize) {
        let missing = level.saturating_sub(self.ids.len());
        self.ids.extend(submit_all(&mut self.client, &no_work(), missing));
    }

    fn submit(&mut self) -> f64 {
        let taken = (0..SUBMITTED).map(|_| timed_ms(|| self.ids.push(submit(&mut self.client, &no_work()))));
        p50_p99(taken.collect())[0]
    }

    fn list(&self) -> f64 {
        let list = || timed_ms(|| self.daemon.ok(&["ls", "--state", "queued", "--limit", LISTED]));
        p50_p99((0..5).map(|_| list()).collect())[0]
    }

    /// How fast the first of the queue run; afterwards the slots are full again.
    fn dispatch(&mut self) -> f64 {
        let last = self.ids[DISPATCHED - 1];
        let blockers = self.blockers.take().expect("the slots are full");
        let rate = rate(DISPATCHED, || {
            blockers.cancel(&mut self.client);
            let wait = Wait {
                ids: vec![last],
                any: None,
                output: None,
                progress: None,
                on_disconnect: None,
                obstacles: None,
            };
            self.client.request(&wait).expect("the job is known");
        });
        self.blockers = Some(Blockers::start(&mut self.client));
        let left = queued(&mut self.client);
        self.ids.drain(..self.ids.len() - left);
        rate
    }

    /// How long a start takes until poold serves, in milliseconds.
    fn restart(&mut self) -> f64 {
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.wait();
        let taken: Duration = timed(|| self.daemon.restart());
        self.client = connect(&self.daemon.socket());
        self.blockers.as_ref().expect("the slots are full").wait_until_they_run(&mut self.client);
        taken.as_secs_f64() * 1e3
    }
}
