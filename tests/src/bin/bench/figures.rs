//! What a benchmark has found: figures of several rounds, each beside the yardstick of its round; and curves.

use serde::Serialize;

/// What is measured, by one or several figures.
#[derive(Debug)]
pub struct Subject {
    what: String,
    names: &'static [&'static str],
    beside: Option<&'static str>,
    goal: Option<Goal>,
}

/// A subject, and what is run once a round: it gives a value for each of the subject's figures.
pub struct Side<'a> {
    subject: Subject,
    run: Box<dyn FnMut() -> Vec<f64> + 'a>,
}

/// What the first figure of a subject has to reach.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// So many times the yardstick's.
    LeastTimes(f64),
    MostTimes(f64),
    /// The yardstick's and so much more.
    MostMore(f64),
    /// No yardstick is needed.
    Least(f64),
    Most(f64),
}

impl Subject {
    /// `names` are the figures' names with their units.
    pub fn new(what: impl Into<String>, names: &'static [&'static str]) -> Self {
        Self { what: what.into(), names, beside: None, goal: None }
    }

    /// Compares each figure with that of the same name of another subject, the yardstick.
    pub fn beside(mut self, yardstick: &'static str) -> Self {
        self.beside = Some(yardstick);
        self
    }

    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    pub fn run<'a>(self, run: impl FnMut() -> Vec<f64> + 'a) -> Side<'a> {
        Side { subject: self, run: Box::new(run) }
    }
}

/// A benchmark with all of its figures.
#[derive(Debug, Serialize)]
pub struct Benchmark {
    pub title: String,
    pub figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
pub struct Figure {
    pub what: String,
    /// The name, with the unit.
    pub name: &'static str,
    pub rounds: Vec<f64>,
    pub spread: Spread,
    pub beside: Option<Beside>,
    pub goal: Option<Verdict>,
}

/// The figure as a multiple of the yardstick's, each of the same round.
#[derive(Debug, Serialize)]
pub struct Beside {
    pub yardstick: &'static str,
    pub times: Spread,
}

#[derive(Debug, Serialize)]
pub struct Verdict {
    pub goal: String,
    pub is_reached: bool,
}

/// The middle of several values, and how far they reach.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// # Panics
    /// When there are no values.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        Self { median: quantile(&sorted, 0.5), min, max }
    }
}

/// A value below which that part of the sorted values is.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The medians and the 99th percentiles of durations, which are given and returned in one unit.
pub fn p50_p99(mut taken: Vec<f64>) -> [f64; 2] {
    taken.sort_by(f64::total_cmp);
    [quantile(&taken, 0.5), quantile(&taken, 0.99)]
}

/// Runs all sides once a round, by turns: what else the machine does changes from minute to minute.
pub fn alternate(title: impl Into<String>, rounds: usize, mut sides: Vec<Side<'_>>) -> Benchmark {
    let mut found: Vec<Vec<Vec<f64>>> = vec![Vec::new(); sides.len()];
    for _ in 0..rounds {
        sides.iter_mut().zip(&mut found).for_each(|(side, rounds)| rounds.push((side.run)()));
    }
    compare(title, sides.into_iter().map(|side| side.subject).zip(found).collect())
}

/// Compares what has been found of each subject: for each round a value for each of its figures.
pub fn compare(title: impl Into<String>, found: Vec<(Subject, Vec<Vec<f64>>)>) -> Benchmark {
    let figures = found.iter().flat_map(|(subject, rounds)| {
        subject.names.iter().enumerate().map(|(place, &name)| {
            let base = yardstick(&found, subject, name);
            figure(subject, name, place, rounds.iter().map(|round| round[place]).collect(), base)
        })
    });
    Benchmark { title: title.into(), figures: figures.collect() }
}

/// The yardstick's values of that name.
fn yardstick(found: &[(Subject, Vec<Vec<f64>>)], subject: &Subject, name: &str) -> Option<Vec<f64>> {
    let (other, rounds) = found.iter().find(|(other, _)| Some(other.what.as_str()) == subject.beside)?;
    let place = other.names.iter().position(|&its| its == name)?;
    Some(rounds.iter().map(|round| round[place]).collect())
}

fn figure(
    subject: &Subject,
    name: &'static str,
    place: usize,
    rounds: Vec<f64>,
    base: Option<Vec<f64>>,
) -> Figure {
    let spread = Spread::of(&rounds);
    let times: Option<Spread> = base.as_ref().map(|base| {
        Spread::of(&rounds.iter().zip(base).map(|(value, base)| value / base).collect::<Vec<f64>>())
    });
    let goal = subject.goal.filter(|_| place == 0);
    Figure {
        what: subject.what.clone(),
        name,
        spread,
        goal: goal.and_then(|goal| goal.judge(spread, base.as_deref().map(Spread::of), times)),
        beside: subject
            .beside
            // A yardstick may use none of what is measured.
            .zip(times.filter(|times| times.median.is_finite()))
            .map(|(yardstick, times)| Beside { yardstick, times }),
        rounds,
    }
}

impl Goal {
    /// None where the yardstick is missing.
    fn judge(self, figure: Spread, yardstick: Option<Spread>, times: Option<Spread>) -> Option<Verdict> {
        let times = times.map(|times| times.median);
        let (goal, is_reached) = match self {
            Self::LeastTimes(bound) => (format!("at least x {bound}"), times? >= bound),
            Self::MostTimes(bound) => (format!("at most x {bound}"), times? <= bound),
            Self::MostMore(bound) => {
                (format!("at most + {bound}"), figure.median <= yardstick?.median + bound)
            }
            Self::Least(bound) => (format!("at least {bound}"), figure.median >= bound),
            Self::Most(bound) => (format!("at most {bound}"), figure.median <= bound),
        };
        Some(Verdict { goal, is_reached })
    }
}

/// How something grows: a line for each series.
#[derive(Debug, Serialize)]
pub struct Curve {
    /// The name of its file.
    pub name: &'static str,
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub series: Vec<Series>,
}

#[derive(Debug, Serialize)]
pub struct Series {
    pub what: String,
    pub points: Vec<Point>,
}

#[derive(Debug, Serialize)]
pub struct Point {
    pub at: usize,
    pub rounds: Vec<f64>,
}

impl Series {
    /// With a point at each of these places, still without values.
    pub fn new(what: impl Into<String>, places: &[usize]) -> Self {
        let points = places.iter().map(|&at| Point { at, rounds: Vec::new() }).collect();
        Self { what: what.into(), points }
    }
}
