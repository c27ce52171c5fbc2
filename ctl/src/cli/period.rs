//! A time that has been, and the jobs in it: what `stats` and `plot` look at.

use std::time::Duration;

use clap::Args;
use pool_proto::methods::List;
use pool_proto::text::rfc3339;

use super::UsageError;
use super::moment::Moment;
use super::values::parse_label;

/// The options that name a period, and which of its jobs count.
#[derive(Debug, Args)]
pub struct PeriodOptions {
    /// From this time on: 2h (ago), 09:00, '2026-12-01 09:00' [default: a day ago]
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Up to this time [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,

    /// Only jobs of this pool
    #[arg(short, long)]
    pool: Option<String>,

    /// Only jobs with this label
    #[arg(short, long, value_parser = parse_label)]
    label: Option<String>,
}

/// From when to when, in microseconds since 1970. It is never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its begin.
    pub from_us: i64,
    /// Its end.
    pub to_us: i64,
}

impl Period {
    /// How long it is, in seconds.
    pub fn seconds(self) -> f64 {
        (self.to_us - self.from_us) as f64 / 1e6
    }

    /// What lies in it of the time from one moment to another, in seconds.
    pub fn overlap(self, from_us: i64, to_us: i64) -> f64 {
        (to_us.min(self.to_us) - from_us.max(self.from_us)).max(0) as f64 / 1e6
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl PeriodOptions {
    /// The period.
    ///
    /// # Errors
    /// When its end is not after its begin.
    pub fn period(&self) -> Result<Period, UsageError> {
        let now = || Moment::before_now(Duration::ZERO).unix_micros();
        let from_us =
            self.since.as_ref().map_or_else(|| Moment::before_now(DAY).unix_micros(), Moment::unix_micros);
        let to_us = self.until.as_ref().map_or_else(now, Moment::unix_micros);
        if from_us >= to_us {
            return Err(UsageError::new(
                "the period ends before it begins: --since has to be before --until, and before now",
            ));
        }
        Ok(Period { from_us, to_us })
    }

    /// The pool whose jobs alone count.
    pub fn pool(&self) -> Option<&str> {
        self.pool.as_deref()
    }

    /// The request for the jobs that had not ended before the period, and were submitted before its end.
    pub fn list(&self, period: Period) -> List {
        List {
            pool: self.pool.clone(),
            label: self.label.clone(),
            since: Some(rfc3339(period.from_us)),
            until: Some(rfc3339(period.to_us)),
            ..List::default()
        }
    }
}
