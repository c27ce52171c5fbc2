//! Times as people write them, in the time zone of this machine.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::{Timestamp, Zoned};
use pool_proto::text::rfc3339;

const FORMS: &str = "write 2026-12-01T09:00:00Z, '2026-12-01 09:00', 'tomorrow 09:00' or 09:00";

/// A time, as the protocol has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At(String);

impl At {
    /// In UTC, as of RFC 3339.
    pub fn as_rfc3339(&self) -> &str {
        &self.0
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = read(text.trim(), &Zoned::now()).ok_or_else(|| format!("{text:?} is no time: {FORMS}"))?;
        Ok(Self(rfc3339(time.as_microsecond())))
    }
}

/// `now` has the time zone.
fn read(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let local = |time: DateTime| time.to_zoned(now.time_zone().clone()).ok().map(|time| time.timestamp());
    if let Ok(time) = text.parse::<DateTime>() {
        return local(time);
    }
    // A bare number is no time of the day.
    let time_of_day = |text: &str| text.parse::<Time>().ok().filter(|_| text.contains(':'));
    match text.split_once(' ') {
        Some(("today", time)) => local(now.date().to_datetime(time_of_day(time)?)),
        Some(("tomorrow", time)) => local(day_after(now.date())?.to_datetime(time_of_day(time)?)),
        Some(_) => None,
        None => {
            let time = time_of_day(text)?;
            let today = local(now.date().to_datetime(time)).filter(|today| *today > now.timestamp());
            today.or_else(|| local(day_after(now.date())?.to_datetime(time)))
        }
    }
}

fn day_after(date: Date) -> Option<Date> {
    date.tomorrow().ok()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now: Timestamp = "2026-11-29T08:00:00Z".parse().unwrap();
        let now = now.to_zoned(zone); // 10:00
        let cases = [
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01T09:00:00+01:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01 09:00", "2026-12-01T07:00:00Z"),
            ("2026-12-01 09:00:30", "2026-12-01T07:00:30Z"),
            ("2026-12-01T09:00", "2026-12-01T07:00:00Z"),
            ("11:30", "2026-11-29T09:30:00Z"),
            ("09:30", "2026-11-30T07:30:00Z"),
            ("today 09:30", "2026-11-29T07:30:00Z"),
            ("tomorrow 00:00", "2026-11-29T22:00:00Z"),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(text, &now), Some(wanted.parse().unwrap()), "{text}");
        }
        for text in ["", "x", "25:00", "yesterday 9", "2026-13-01 09:00", "12", "2026-02-30 09:00"] {
            assert_eq!(read(text, &now), None, "{text}");
        }
        assert!("soon".parse::<At>().unwrap_err().contains("tomorrow 09:00"));
    }
}
