//! `poolctl stats`: how jobs went over a time, by pool, label or name. All of it is computed from the records
//! that poold keeps, so what the history has forgotten is not in it.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use pool_proto::State;
use pool_proto::methods::Pools;
use pool_proto::nouns::{Entry, SCHEMA};
use pool_proto::text::{rfc3339, unix_micros};
use serde::Serialize;

use super::Context;
use super::selection::{check_pool, each_brief_page};
use crate::cli::period::{Period, PeriodOptions};
use crate::exit::ExitReason;
use crate::tell::when::{local, of_seconds, short};
use crate::term::text::{LONGEST, printable};
use crate::term::width::Size;
use crate::term::{json, table, text};

/// Tell how jobs went, by pool, label or name
///
/// A job counts where it has ended in the period; slots count as used while an attempt ran in it. Of a job
/// that was tried several times only the last attempt is known.
#[derive(Debug, Args)]
pub struct StatsOptions {
    #[command(flatten)]
    period: PeriodOptions,

    /// A row for each of these
    #[arg(long, value_enum, value_name = "WHAT", default_value = "pool")]
    by: By,
}

/// What makes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum By {
    /// The pools
    Pool,
    /// The labels; a job with several counts for each
    Label,
    /// The names of the jobs
    Name,
}

impl StatsOptions {
    /// Prints the statistics.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let period = self.period.period()?;
        let mut client = context.link.connect()?;
        if let Some(pool) = self.period.pool() {
            check_pool(&mut client, pool)?;
        }
        let pools = client.request(&Pools {})?.pools;

        let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
        each_brief_page(&mut client, &self.period.list(period), |jobs| {
            for job in jobs {
                for name in names(job, self.by) {
                    groups.entry(name).or_default().add(job, period);
                }
            }
            Ok::<(), anyhow::Error>(())
        })?;

        let slots = |pool: &str| pools.iter().find(|it| it.name == pool).map(|pool| pool.slots.len());
        let rows: Vec<Row> = groups
            .into_iter()
            .map(|(name, tally)| {
                let slots = if self.by == By::Pool { slots(&name) } else { None };
                tally.row(name, slots, period)
            })
            .collect();
        if context.as_json {
            let (since, until) = (rfc3339(period.from_us), rfc3339(period.to_us));
            json::print(&Statistics { schema: SCHEMA, since, until, by: self.by, rows })?;
        } else {
            text::print(&table_of(self.by, &rows, period))?;
        }
        Ok(ExitReason::Success)
    }
}

/// The rows in which a job counts.
fn names(job: &Entry, by: By) -> Vec<String> {
    match by {
        By::Pool => vec![job.pool.clone()],
        By::Label => job.labels.clone().unwrap_or_default(),
        By::Name => job.name.iter().map(ToString::to_string).collect(),
    }
}

/// The document of `stats --json`.
#[derive(Debug, Serialize)]
struct Statistics {
    schema: u32,
    since: String,
    until: String,
    by: By,
    rows: Vec<Row>,
}

/// How the jobs of one pool, label or name went. Times are in seconds.
#[derive(Debug, Serialize, PartialEq)]
struct Row {
    name: String,
    /// Jobs that have ended in the period, and those among them that have not succeeded.
    ended: usize,
    failed: usize,
    canceled: usize,
    /// Jobs that have ended, per hour of the period.
    per_hour: f64,
    /// From the submission to the start of the last attempt.
    waited_s: Option<Percentiles>,
    /// The last attempt.
    ran_s: Option<Percentiles>,
    /// The time in which attempts ran, all added up.
    busy_s: f64,
    /// Of a pool that is there: the part of its slots' time in which attempts ran, from 0 to 1.
    utilisation: Option<f64>,
}

#[derive(Debug, Serialize, PartialEq)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Percentiles {
    /// By nearest rank. None without values.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let rank = |part: f64| {
            let rank = (part * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied()
        };
        Some(Self { p50: rank(0.5)?, p90: rank(0.9)?, p99: rank(0.99)? })
    }
}

/// What is added up for a row.
#[derive(Debug, Default)]
struct Tally {
    ended: usize,
    failed: usize,
    canceled: usize,
    waited_s: Vec<f64>,
    ran_s: Vec<f64>,
    busy_s: f64,
}

impl Tally {
    fn add(&mut self, job: &Entry, period: Period) {
        let time = |text: &Option<String>| text.as_deref().and_then(unix_micros);
        let (started, ended) = (time(&job.started_at), time(&job.ended_at));
        if let Some(started) = started {
            let until = if job.state.is_terminal() { ended } else { Some(period.to_us) };
            self.busy_s += period.overlap(started, until.unwrap_or(started)) * f64::from(job.slots);
        }
        if !ended.is_some_and(|ended| (period.from_us..period.to_us).contains(&ended)) {
            return;
        }

        self.ended += 1;
        match job.state {
            State::Succeeded => {}
            State::Canceled => self.canceled += 1,
            _ => self.failed += 1,
        }
        let seconds = |from: i64, to: i64| (to - from).max(0) as f64 / 1e6;
        let Some(started) = started else { return };
        self.waited_s.extend(unix_micros(&job.submitted_at).map(|submitted| seconds(submitted, started)));
        self.ran_s.extend(ended.map(|ended| seconds(started, ended)));
    }

    fn row(self, name: String, slots: Option<usize>, period: Period) -> Row {
        Row {
            name,
            ended: self.ended,
            failed: self.failed,
            canceled: self.canceled,
            per_hour: self.ended as f64 * 3600.0 / period.seconds(),
            waited_s: Percentiles::of(self.waited_s),
            ran_s: Percentiles::of(self.ran_s),
            busy_s: self.busy_s,
            utilisation: slots
                .filter(|&slots| slots > 0)
                .map(|slots| self.busy_s / (slots as f64 * period.seconds())),
        }
    }
}

/// The columns of the 90th percentiles.
const NINETIETH: [usize; 2] = [5, 8];

/// The column of the jobs an hour.
const PER_HOUR: usize = 3;

fn table_of(by: By, rows: &[Row], period: Period) -> String {
    let (from, to) = (local(&rfc3339(period.from_us)), local(&rfc3339(period.to_us)));
    let head = format!("{from} to {to}, {}\n", short(of_seconds(period.seconds())));
    if rows.is_empty() {
        return format!("{head}no job had an attempt or an end in this time\n");
    }

    let heading = match by {
        By::Pool => "POOL",
        By::Label => "LABEL",
        By::Name => "NAME",
    };
    let head_row = [
        heading,
        "ENDED",
        "FAILED",
        "PER HOUR",
        "WAITED 50%",
        "90%",
        "99%",
        "RAN 50%",
        "90%",
        "99%",
        "SLOTS USED",
    ];
    let mut lines = vec![head_row.map(ToOwned::to_owned)];
    for row in rows {
        let times = |times: &Option<Percentiles>| match times {
            Some(times) => [times.p50, times.p90, times.p99].map(|seconds| short(of_seconds(seconds))),
            None => Default::default(),
        };
        let ([waited_50, waited_90, waited_99], [ran_50, ran_90, ran_99]) =
            (times(&row.waited_s), times(&row.ran_s));
        lines.push([
            printable(&row.name, LONGEST),
            row.ended.to_string(),
            row.failed.to_string(),
            format!("{:.1}", row.per_hour),
            waited_50,
            waited_90,
            waited_99,
            ran_50,
            ran_90,
            ran_99,
            row.utilisation.map(|part| format!("{:.1} %", part * 100.0)).unwrap_or_default(),
        ]);
    }

    let of = |left_out: &[usize]| {
        let mut table = table::empty();
        for line in &lines {
            let cells = line.iter().enumerate().filter(|(column, _)| !left_out.contains(column));
            table.add_row(cells.map(|(_, cell)| cell));
        }
        table
    };
    // What a narrow terminal has no room for: first the middle percentiles.
    let room = Size::of_stdout().map_or(usize::MAX, |size| size.columns);
    let tables = [of(&[]), of(&NINETIETH), of(&[&NINETIETH[..], &[PER_HOUR]].concat())];
    let fitting = tables.iter().find(|table| table::width(table) <= room).unwrap_or(&tables[2]);
    head + &table::lines(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: &str, submitted: i64, started: Option<i64>, ended: Option<i64>) -> Entry {
        let time = |second: i64| rfc3339(second * 1_000_000);
        serde_json::from_value(serde_json::json!({
            "id": 7, "pool": "default", "slots": 1, "state": state, "submitted_at": time(submitted),
            "started_at": started.map(time), "ended_at": ended.map(time),
        }))
        .unwrap()
    }

    #[test]
    fn jobs_are_counted_by_their_ends_and_slots_by_what_lies_in_the_period() {
        let period = Period { from_us: 1_000_000_000, to_us: 1_100_000_000 };
        let mut tally = Tally::default();
        tally.add(&job("succeeded", 990, Some(995), Some(1005)), period);
        tally.add(&job("failed", 1000, Some(1010), Some(1040)), period);
        tally.add(&job("canceled", 1000, None, Some(1050)), period);
        tally.add(&job("running", 1000, Some(1090), None), period);
        tally.add(&job("succeeded", 1000, Some(1095), Some(1120)), period);

        let row = tally.row("default".to_owned(), Some(2), period);
        assert_eq!((row.ended, row.failed, row.canceled), (3, 1, 1));
        assert_eq!(row.busy_s, 5.0 + 30.0 + 10.0 + 5.0);
        assert_eq!(row.utilisation, Some(0.25));
        assert_eq!(row.per_hour, 108.0);
        assert_eq!(row.waited_s, Some(Percentiles { p50: 5.0, p90: 10.0, p99: 10.0 }));
        assert_eq!(row.ran_s, Some(Percentiles { p50: 10.0, p90: 30.0, p99: 30.0 }));
    }

    #[test]
    fn without_values_there_are_no_percentiles() {
        assert_eq!(Percentiles::of(Vec::new()), None);
        let values = (1..=100).map(f64::from).rev().collect();
        assert_eq!(Percentiles::of(values), Some(Percentiles { p50: 50.0, p90: 90.0, p99: 99.0 }));
    }
}
