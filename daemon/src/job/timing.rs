//! When the times of a schedule are. All of it is the wall's clock, in microseconds since 1970.

use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::place::micros;

/// Times that come again and again.
#[derive(Debug, Clone)]
pub enum Timing {
    /// At multiples of this, in microseconds, from the schedule's beginning.
    Every(i64),
    Cron(Box<Cron>),
}

/// Times by crontab(5).
#[derive(Debug, Clone)]
pub struct Cron {
    /// Read as if all of the world were in UTC: it tells dates and times of day, not moments.
    civil: Crontab,
    /// In the zone.
    zoned: Crontab,
    zone: TimeZone,
    /// The hours are not named, so the minutes that come count, whatever the zone's clocks say.
    is_any_hour: bool,
}

/// What is wrong with a timing: the member at fault, and why.
pub type TimingFault = (&'static str, String);

/// The shortest time between two firings.
const SHORTEST: Duration = Duration::from_secs(1);

impl Timing {
    /// From the members of the protocol's schedule.
    ///
    /// # Errors
    /// The member at fault, and why, as a sentence.
    pub fn new(
        every: Option<Duration>,
        cron: Option<&str>,
        time_zone: Option<&str>,
    ) -> Result<Self, TimingFault> {
        match (every, cron) {
            (Some(every), None) if every < SHORTEST => {
                Err(("every_s", "a second is the shortest: name a longer time".to_owned()))
            }
            (Some(_), None) if time_zone.is_some() => {
                Err(("time_zone", "only --cron has a time zone: leave it out".to_owned()))
            }
            (Some(every), None) => Ok(Self::Every(micros(every))),
            (None, Some(cron)) => Cron::new(cron, time_zone).map(|cron| Self::Cron(Box::new(cron))),
            (Some(_), Some(_)) => {
                Err(("cron", "a schedule has one timing: leave --every or --cron out".to_owned()))
            }
            (None, None) => Err(("cron", "a schedule needs its times: name --every or --cron".to_owned())),
        }
    }

    /// The first time after that moment. None where there is none within four years. `from_us`: when the
    /// schedule has begun.
    pub fn next_after(&self, us: i64, from_us: i64) -> Option<i64> {
        match self {
            Self::Every(every) => {
                let passed = us.max(from_us).checked_sub(from_us)? / every;
                from_us.checked_add(passed.checked_add(1)?.checked_mul(*every)?)
            }
            Self::Cron(cron) => cron.next_after(us),
        }
    }

    /// The latest time after one moment and not after another one.
    pub fn latest(&self, after_us: i64, until_us: i64, from_us: i64) -> Option<i64> {
        let next = |us| self.next_after(us, from_us).filter(|&due| due <= until_us);
        next(after_us)?;
        // From further and further back, since there may be very many.
        let mut back = micros(SHORTEST);
        let mut latest = loop {
            let start = until_us.saturating_sub(back).max(after_us);
            match next(start) {
                Some(due) => break due,
                None => back = back.saturating_mul(2),
            }
        };
        while let Some(due) = next(latest) {
            latest = due;
        }
        Some(latest)
    }
}

impl Cron {
    fn new(text: &str, time_zone: Option<&str>) -> Result<Self, TimingFault> {
        let zone = match time_zone {
            Some(name) => TimeZone::get(name).map_err(|_| {
                let reason = format!(
                    "there is no time zone {name:?}: use a name like Europe/Berlin (`timedatectl \
                     list-timezones` lists them)"
                );
                ("time_zone", reason)
            })?,
            None => TimeZone::system(),
        };
        let text = text.trim();
        if text.starts_with('@') && expanded(text) == text {
            let reason = format!(
                "{text:?} names no times: write @hourly, @daily, @weekly, @monthly or @yearly, or five \
                 fields (minute, hour, day of the month, month, day of the week); what is to run when the machine \
                 starts is for `crontab`, or for a unit of systemd, with `poolctl submit`"
            );
            return Err(("cron", reason));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != 5 && !text.starts_with('@') {
            let reason = format!(
                "{text:?} has {} fields, and needs five: minute, hour, day of the month, month, day of the week",
                fields.len()
            );
            return Err(("cron", reason));
        }

        let read = |zone: &str| {
            let mut options = ParseOptions::default();
            options.fallback_timezone_option = FallbackTimezoneOption::System;
            let text = format!("{} {zone}", expanded(text));
            parse_crontab_with(text.trim_end(), options)
        };
        let fault = |error: cronexpr::Error| {
            // The last line tells what is wrong, below a mark of the place.
            let told = error.to_string();
            let said = told.lines().last().unwrap_or_default().trim().trim_start_matches("^ ");
            ("cron", format!("{text:?} cannot be read: {said}"))
        };
        let (civil, zoned) =
            (read("UTC").map_err(fault)?, read(time_zone.unwrap_or_default()).map_err(fault)?);
        let is_any_hour = expanded(text).split_whitespace().nth(1).is_some_and(|hour| hour.starts_with('*'));
        let cron = Self { civil, zoned, zone, is_any_hour };
        // One moment is as good as another: the years go round.
        if cron.next_after(0).is_none() {
            return Err(("cron", format!("{text:?} names a day that never comes")));
        }
        Ok(cron)
    }

    fn next_after(&self, us: i64) -> Option<i64> {
        let moment = Timestamp::from_microsecond(us).ok()?;
        if self.is_any_hour {
            return Some(self.zoned.find_next(MakeTimestamp(moment)).ok()?.timestamp().as_microsecond());
        }

        // What the zone's clocks leave out is as much later, and what they show twice is taken once. So the
        // search goes from one date and time of day to the next, and not from one moment to the next.
        let mut civil = self.zone.to_datetime(moment);
        loop {
            civil = self.next_civil(civil)?;
            let due = self.zone.to_timestamp(civil).ok()?.as_microsecond();
            if due > us {
                return Some(due);
            }
        }
    }

    fn next_civil(&self, after: DateTime) -> Option<DateTime> {
        let after = TimeZone::UTC.to_timestamp(after).ok()?;
        Some(self.civil.find_next(MakeTimestamp(after)).ok()?.datetime())
    }
}

/// The five fields, in place of a word that stands for them.
fn expanded(text: &str) -> &str {
    match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn cron(text: &str, zone: &str) -> Timing {
        Timing::new(None, Some(text), Some(zone)).unwrap()
    }

    /// The next times after a moment, in UTC.
    fn times(timing: &Timing, after: &str, count: usize) -> Vec<String> {
        let mut at = us(after);
        let mut next = || {
            at = timing.next_after(at, 0).unwrap();
            Timestamp::from_microsecond(at).unwrap().to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn every_so_often_counts_from_the_beginning() {
        let timing = Timing::new(Some(Duration::from_secs(600)), None, None).unwrap();
        let minutes = |count: i64| count * 60_000_000;
        let from = 17;
        for (after, next) in [(0, 10), (9, 10), (10, 20), (11, 20), (20, 30)] {
            assert_eq!(timing.next_after(from + minutes(after), from), Some(from + minutes(next)), "{after}");
        }
        assert_eq!(timing.next_after(0, from), Some(from + minutes(10)), "never before the beginning");
        let year = minutes(60 * 24 * 365);
        assert_eq!(timing.latest(from, from + year + minutes(3), from), Some(from + year));
        assert_eq!(timing.latest(from, from + minutes(9), from), None);
        assert_eq!(timing.latest(from + minutes(10), from + minutes(19), from), None);
    }

    #[test]
    fn a_time_of_day_that_a_zone_leaves_out_comes_later_and_one_that_it_has_twice_comes_once() {
        let night = cron("30 2 * * *", "Europe/Berlin");
        // On 2026-03-29 there is no 02:30 in Berlin, and on 2026-10-25 there are two.
        assert_eq!(
            times(&night, "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times(&night, "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(times(&night, "2026-10-25T00:30:00Z", 1), ["2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn minutes_of_any_hour_come_whatever_the_clocks_say() {
        let often = cron("*/30 * * * *", "Europe/Berlin");
        let hours = ["00:30", "01:00", "01:30", "02:00"].map(|time| format!("2026-10-25T{time}:00Z"));
        assert_eq!(times(&often, "2026-10-25T00:00:00Z", 4), hours);
        let hours = ["00:30", "01:00", "01:30", "02:00"].map(|time| format!("2026-03-29T{time}:00Z"));
        assert_eq!(times(&often, "2026-03-29T00:00:00Z", 4), hours);
    }

    #[test]
    fn the_latest_of_many_times_is_found() {
        let minutely = cron("* * * * *", "UTC");
        let (after, until) = (us("2020-01-01T00:00:00Z"), us("2026-05-05T05:05:05Z"));
        assert_eq!(minutely.latest(after, until, 0), Some(us("2026-05-05T05:05:00Z")));
        let yearly = cron("@yearly", "UTC");
        assert_eq!(yearly.latest(after, until, 0), Some(us("2026-01-01T00:00:00Z")));
        assert_eq!(yearly.latest(us("2026-01-01T00:00:00Z"), until, 0), None);
        let days = cron("0 3 L * MON-FRI", "UTC");
        assert!(days.latest(after, until, 0).is_some_and(|due| due <= until));
    }

    #[test]
    fn what_is_no_timing_is_refused_with_what_to_do() {
        let minute = Some(Duration::from_secs(60));
        for (every, cron, zone, field, said) in [
            (None, None, None, "cron", "name --every or --cron"),
            (minute, Some("@daily"), None, "cron", "leave --every or --cron out"),
            (Some(Duration::from_millis(999)), None, None, "every_s", "a second is the shortest"),
            (minute, None, Some("UTC"), "time_zone", "leave it out"),
            (None, Some("0 3 * *"), None, "cron", "has 4 fields"),
            (None, Some("0 3 * * * UTC"), None, "cron", "has 6 fields"),
            (None, Some("61 3 * * *"), None, "cron", "cannot be read"),
            (None, Some("@never"), None, "cron", "names no times: write @hourly"),
            (None, Some("0 0 31 2 *"), None, "cron", "never comes"),
            (None, Some("@daily"), Some("Europe/Atlantis"), "time_zone", "no time zone"),
        ] {
            let (at_fault, why) = Timing::new(every, cron, zone).unwrap_err();
            assert_eq!(at_fault, field, "{why}");
            assert!(why.contains(said), "{why}");
        }
    }
}
