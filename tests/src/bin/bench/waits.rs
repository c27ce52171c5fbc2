//! What becomes slower, or larger, as more and more jobs wait: in ten thousand lines, for a time, or for
//! another job. And a chain of jobs, each after the one before it.

use pool_proto::Client;
use pool_proto::methods::{Cancel, Release, SetLabelLimit, Submit, Wait, Why};
use pool_proto::nouns::{Dependency, Job, On};
use pool_proto::{Record, State};
use pool_tests::counters::memory;
use pool_tests::{Daemon, wait_until};

use super::figures::{Benchmark, Curve, Goal, Series, Subject, compare, p50_p99, quantile};
use super::stage::{BATCH, Stage, connect, no_work, rate, submit, submit_and_wait, timed_ms};

/// How often each thing is done at each level.
const TIMES: usize = 200;

/// The labels of the lines. All but one have limits, beside that of [`GATE`].
const LINES: usize = 10_000;

/// The label that all lines share: one job at a time may run, and one that does not end does.
const GATE: &str = "gate";

/// A second pool, for what the others wait for, and for bystanders.
const ASIDE: &str = "[pool.aside]\nworkers = 1\n";

/// Unanswered submissions on one connection; poold reads 256 at most.
const UNDER_WAY: usize = 200;

/// What the jobs wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lines,
    Time,
    Job,
}

const KINDS: [(Kind, &str); 3] =
    [(Kind::Lines, "in 10,000 lines"), (Kind::Time, "scheduled"), (Kind::Job, "blocked after one job")];

/// What is measured: the curve's file, its title, and its unit.
const CURVES: [(&str, &str, &str); 4] = [
    ("waits-submit", "Submit", "milliseconds, p50"),
    ("waits-dispatch", "A blocking submit of another job", "milliseconds, p50"),
    ("waits-why", "Why of one that waits", "milliseconds, p50"),
    ("waits-memory", "The supervisor's memory", "MiB resident"),
];

pub fn waits(stage: &Stage) -> (Benchmark, Vec<Curve>) {
    let levels: &[usize] =
        if stage.is_quick { &[0, 1000, 10_000, 50_000] } else { &[0, 10_000, 100_000, 1_000_000] };
    let series = || KINDS.map(|(_, name)| Series::new(name, levels));
    let mut found: Vec<[Series; 3]> = CURVES.iter().map(|_| series()).collect();
    for _ in 0..stage.rounds {
        for (of_kind, (kind, _)) in KINDS.into_iter().enumerate() {
            let mut crowd = Crowd::new(stage, kind);
            for (place, &level) in levels.iter().enumerate() {
                let values = crowd.at(level);
                for (curve, value) in found.iter_mut().zip(values) {
                    curve[of_kind].points[place].rounds.push(value);
                }
            }
        }
    }

    let rows = rows(&found, levels);
    let curves = found.into_iter().zip(CURVES).map(|(series, (name, title, y))| Curve {
        name,
        title: format!("{title} as more jobs wait"),
        x: "jobs that wait",
        y,
        series: series.into(),
    });
    (rows, curves.collect())
}

/// The two ends of the curves, with their goals.
fn rows(found: &[[Series; 3]], levels: &[usize]) -> Benchmark {
    const MS: &[&str] = &["p50 ms"];
    const MIB: &[&str] = &["MiB resident"];
    const NONE: [[&str; 3]; 3] = [
        ["Submit: in lines, none", "Submit: scheduled, none", "Submit: blocked, none"],
        ["dispatch: in lines, none", "dispatch: scheduled, none", "dispatch: blocked, none"],
        ["Why: in lines, none", "Why: scheduled, none", "Why: blocked, none"],
    ];
    let last = levels.len() - 1;
    let rounds = |series: &Series, place: usize| -> Vec<Vec<f64>> {
        series.points[place].rounds.iter().map(|&value| vec![value]).collect()
    };
    let mut subjects = Vec::new();
    for (curve, none) in found.iter().zip(NONE) {
        for (series, none) in curve.iter().zip(none) {
            let full = format!("{}, {}", none.strip_suffix(", none").expect("it says so"), levels[last]);
            subjects.push((Subject::new(none, MS), rounds(series, 0)));
            let full = Subject::new(full, MS).beside(none).goal(Goal::MostTimes(1.5));
            subjects.push((full, rounds(series, last)));
        }
    }
    for series in found.last().expect("the last curve is that of the memory") {
        let what = format!("supervisor, {} {}", levels[last], series.what);
        subjects.push((Subject::new(what, MIB).goal(Goal::Most(40.0)), rounds(series, last)));
    }
    compare("as more jobs wait", subjects)
}

/// A daemon in which jobs wait, and whose slots are free.
struct Crowd {
    daemon: Daemon,
    client: Client,
    kind: Kind,
    /// What does not end.
    first: u64,
    count: usize,
    last: u64,
}

impl Crowd {
    fn new(stage: &Stage, kind: Kind) -> Self {
        let limits: String = match kind {
            Kind::Lines => (1..LINES).map(|line| format!("[limit.line-{line}]\nrunning = 1\n")).collect(),
            Kind::Time | Kind::Job => String::new(),
        };
        let daemon = stage.daemon(&format!("{ASIDE}{limits}"));
        let mut client = daemon.client();
        let labels = (kind == Kind::Lines).then(|| vec![GATE.to_owned()]);
        if kind == Kind::Lines {
            let gate = SetLabelLimit { label: GATE.to_owned(), limit: Some(1) };
            client.request(&gate).expect("poold keeps limits");
        }
        let argv = vec!["sleep".into(), "1000000".into()];
        let first = Job { argv, labels, pool: Some("aside".to_owned()), ..Job::default() };
        let first = submit(&mut client, &first);
        wait_until("it runs", || daemon.record(first).state == State::Running);
        Self { daemon, client, kind, first, count: 0, last: 0 }
    }

    /// What [`CURVES`] says, with so many jobs that wait.
    fn at(&mut self, level: usize) -> [f64; 4] {
        while self.count < level {
            let jobs = (0..BATCH.min(level - self.count)).map(|_| self.next()).collect();
            self.last = *submit_each(&mut self.client, jobs).last().expect("there are some");
        }
        let memory = memory(self.daemon.supervisor()).resident as f64 / f64::from(1 << 20);

        let submits = (0..TIMES).map(|_| {
            let job = self.next();
            timed_ms(|| self.last = submit(&mut self.client, &job))
        });
        let submit = p50_p99(submits.collect())[0];
        let whys = (0..TIMES).map(|_| {
            let why = Why { ids: vec![self.last] };
            timed_ms(|| self.client.request(&why).expect("it waits"))
        });
        let why = p50_p99(whys.collect())[0];
        let dispatches = (0..TIMES).map(|_| submit_and_wait(&mut self.client, &no_work()).ended);
        [submit, p50_p99(dispatches.collect())[0], why, memory]
    }

    /// The next job that waits.
    fn next(&mut self) -> Job {
        self.count += 1;
        match self.kind {
            Kind::Lines => {
                let line = format!("line-{}", self.count % LINES);
                Job { labels: Some(vec![GATE.to_owned(), line]), ..no_work() }
            }
            Kind::Time => Job { delay_s: Some(1e6), ..no_work() },
            Kind::Job => after(self.first),
        }
    }
}

fn after(id: u64) -> Job {
    Job { after: Some(vec![Dependency { id, on: Some(On::Success) }]), ..no_work() }
}

/// Submits these jobs at once; returns their ids.
fn submit_each(client: &mut Client, jobs: Vec<Job>) -> Vec<u64> {
    let many = pool_proto::methods::SubmitMany { jobs, defaults: None, obstacles: None };
    client.request(&many).expect("poold accepts jobs").ids
}

/// A chain is accepted, runs down, and is given up when its first job is canceled; a bystander submits jobs
/// of its own all the while.
pub fn chain(stage: &Stage) -> Benchmark {
    let (length, run) = (stage.size(100_000, 5000), stage.size(2000, 500));
    const RATE: &[&str] = &["jobs/s"];
    const LATENCY: &[&str] = &["p50 ms", "p99 ms", "most ms"];
    const IDLE: &str = "a bystander, nothing else";
    let mut found = [(); 5].map(|()| Vec::new());
    for _ in 0..stage.rounds {
        let daemon = stage.daemon(ASIDE);
        let mut client = daemon.client();
        let mut bystander = Bystander(connect(&daemon.socket()));
        let idle = bystander.submit(TIMES, || false);

        let short = link(&mut client, run);
        let ran = rate(run, || {
            client.request(&Release { ids: vec![short[0]] }).expect("it is held");
            wait_for(&mut client, short[run - 1]);
        });

        let mut chain = Vec::new();
        let accepted = rate(length, || chain = link(&mut client, length));
        let last = chain[length - 1];
        client.send(&Cancel { ids: vec![chain[0]], ..Cancel::default() }, false).expect("poold reads");
        let mut observer = connect(&daemon.socket());
        let mut beside = Vec::new();
        let resolved = rate(length, || {
            beside = bystander.submit(usize::MAX, || state_of(&mut observer, last).is_terminal());
        });
        client.receive::<Cancel>().expect("it is held");
        assert_eq!(daemon.record(last).state, State::Canceled, "its predecessor never ran");

        for (rounds, round) in
            found.iter_mut().zip([vec![accepted], vec![ran], vec![resolved], figures(idle), figures(beside)])
        {
            rounds.push(round);
        }
    }

    let [accepted, ran, resolved, idle, beside] = found;
    compare(
        format!("a chain of {length} jobs"),
        vec![
            (Subject::new("accepted", RATE), accepted),
            (Subject::new(format!("{run} run, one after the other"), RATE), ran),
            (Subject::new("end, since the first one was canceled", RATE), resolved),
            (Subject::new(IDLE, LATENCY), idle),
            (Subject::new("a bystander meanwhile", LATENCY).beside(IDLE), beside),
        ],
    )
}

/// Submits a chain, whose first job is held. Its ids are foretold, since nobody else submits anything: so the
/// jobs need not be sent one by one.
fn link(client: &mut Client, length: usize) -> Vec<u64> {
    let first = submit(client, &Job { hold: Some(true), ..no_work() });
    let ids: Vec<u64> = (first..).take(length).collect();
    for some in ids[1..].chunks(UNDER_WAY) {
        for id in some {
            let submit = Submit { job: after(id - 1), on_disconnect: None, obstacles: None };
            client.send(&submit, false).expect("poold reads");
        }
        for &id in some {
            let (accepted, _) = client.receive::<Submit>().expect("poold accepts the job");
            assert_eq!(accepted.id, id, "nobody else submits anything");
        }
    }
    ids
}

fn wait_for(client: &mut Client, id: u64) {
    client.request(&Wait { ids: vec![id], ..Wait::default() }).expect("the job is known");
}

fn state_of(client: &mut Client, id: u64) -> State {
    let Record { state, .. } = *client.request(&pool_proto::methods::Get { id }).expect("it is known").record;
    state
}

/// Somebody with a slot of their own.
struct Bystander(Client);

impl Bystander {
    /// How long jobs take, one after the other, until so many have ended or it is over.
    fn submit(&mut self, most: usize, mut is_over: impl FnMut() -> bool) -> Vec<f64> {
        let job = Job { pool: Some("aside".to_owned()), ..no_work() };
        let mut taken = Vec::new();
        while taken.is_empty() || taken.len() < most && !is_over() {
            taken.push(submit_and_wait(&mut self.0, &job).ended);
        }
        taken
    }
}

fn figures(mut taken: Vec<f64>) -> Vec<f64> {
    taken.sort_by(f64::total_cmp);
    vec![quantile(&taken, 0.5), quantile(&taken, 0.99), taken[taken.len() - 1]]
}
