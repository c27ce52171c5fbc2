//! What is drawn, as plain data: bars in the lines of slots, and how many jobs waited.

use std::collections::BTreeMap;

use pool_proto::text::unix_micros;
use pool_proto::{Record, State};

use crate::cli::period::Period;
use crate::tell::outcome::summary;
use crate::tell::record::work_line;
use crate::term::width::cell;

/// See the module's description. Times are in microseconds since 1970.
#[derive(Debug)]
pub struct Chart {
    pub period: Period,
    /// The slots by pool and number, with their bars in the order of time.
    pub slots: BTreeMap<(String, u32), Vec<Bar>>,
    /// From each of these times on, so many jobs waited.
    pub waiting: Vec<(i64, usize)>,
    /// How many jobs have bars, and how many of them have not succeeded.
    pub jobs: usize,
    pub failed: usize,
    /// When jobs began to wait, and when they no longer did. [`Chart::finish`] adds these up.
    changes: Vec<(i64, isize)>,
}

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub from_us: i64,
    pub to_us: i64,
    pub state: State,
    /// What stands in the bar.
    pub label: String,
    /// What is shown when somebody points at it.
    pub note: String,
}

impl Chart {
    /// An empty one.
    pub fn of(period: Period) -> Self {
        Self { period, slots: BTreeMap::new(), waiting: Vec::new(), jobs: 0, failed: 0, changes: Vec::new() }
    }

    /// Adds the slots of a pool, which have lines even if nothing ran in them.
    pub fn add_pool(&mut self, name: &str, slots: usize) {
        for slot in 0..slots {
            self.slots.entry((name.to_owned(), slot as u32)).or_default();
        }
    }

    /// Adds the last attempt of a job, and the time for which the job waited.
    pub fn add(&mut self, job: &Record) {
        let time = |text: &Option<String>| text.as_deref().and_then(unix_micros);
        let (started, ended) = (time(&job.started_at), time(&job.ended_at));
        let to_us = match (job.state.is_terminal(), ended) {
            (true, Some(ended)) => ended,
            _ => self.period.to_us,
        };

        if let Some(submitted) = unix_micros(&job.submitted_at).max(time(&job.due_at)) {
            let until = started.unwrap_or(to_us);
            if until > self.period.from_us && submitted < self.period.to_us && submitted < until {
                self.changes.push((submitted.max(self.period.from_us), 1));
                self.changes.push((until, -1));
            }
        }

        let (Some(from_us), Some(slot)) = (started, job.slot) else { return };
        if to_us <= self.period.from_us || from_us >= self.period.to_us {
            return;
        }
        self.jobs += 1;
        self.failed += usize::from(matches!(job.state, State::Failed | State::TimedOut | State::Lost));
        let work = job.name.as_ref().map_or_else(|| work_line(job), ToString::to_string);
        let end = if job.state.is_terminal() { summary(job) } else { job.state.as_str().to_owned() };
        let took = (to_us - from_us) as f64 / 1e6;
        let bar = Bar {
            from_us: from_us.max(self.period.from_us),
            to_us: to_us.min(self.period.to_us),
            state: job.state,
            label: format!("{} {}", job.id, cell(&work, LABEL)),
            note: format!("job {}, {end}, {took:.3} s: {}", job.id, cell(&work, NOTE)),
        };
        self.slots.entry((job.pool.clone(), slot)).or_default().push(bar);
    }

    /// Puts all in the order of time.
    pub fn finish(mut self) -> Self {
        for bars in self.slots.values_mut() {
            bars.sort_by_key(|bar| bar.from_us);
        }

        self.changes.sort_unstable();
        let mut count = 0;
        for (at, change) in self.changes.drain(..) {
            count += change;
            let count = count.max(0) as usize;
            match self.waiting.last_mut() {
                Some((last, waiting)) if *last == at => *waiting = count,
                Some(_) | None => self.waiting.push((at, count)),
            }
        }
        self
    }
}

/// The columns of a label, of which a bar shows as much as fits, and of a note.
const LABEL: usize = 60;
const NOTE: usize = 200;

#[cfg(test)]
mod tests {
    use pool_proto::text::rfc3339;

    use super::*;

    fn job(id: u64, state: &str, submitted: i64, started: Option<i64>, ended: Option<i64>) -> Record {
        let time = |second: i64| rfc3339(second * 1_000_000);
        serde_json::from_value(serde_json::json!({
            "schema": 1, "id": id, "pool": "default", "slot": 0, "argv": ["make"], "cwd": "/", "attempt": 1,
            "crashes": 0, "on_crash": "requeue", "callbacks": [], "state": state,
            "submitted_at": time(submitted), "started_at": started.map(time), "ended_at": ended.map(time),
        }))
        .unwrap()
    }

    #[test]
    fn bars_end_with_the_period_and_waits_are_counted() {
        let mut chart = Chart::of(Period { from_us: 100_000_000, to_us: 200_000_000 });
        chart.add_pool("default", 2);
        chart.add(&job(2, "running", 120, Some(150), None));
        chart.add(&job(1, "failed", 90, Some(95), Some(150)));
        chart.add(&job(3, "queued", 130, None, None));
        chart.add(&job(4, "succeeded", 50, Some(60), Some(70)));
        let chart = chart.finish();

        let bars: Vec<(i64, i64)> =
            chart.slots[&("default".to_owned(), 0)].iter().map(|bar| (bar.from_us, bar.to_us)).collect();
        assert_eq!(bars, [(100_000_000, 150_000_000), (150_000_000, 200_000_000)]);
        assert!(chart.slots[&("default".to_owned(), 1)].is_empty());
        assert_eq!((chart.jobs, chart.failed), (2, 1));
        let waiting = [(120_000_000, 1), (130_000_000, 2), (150_000_000, 1), (200_000_000, 0)];
        assert_eq!(chart.waiting, waiting);
    }
}
