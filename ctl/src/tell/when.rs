//! Times and durations as people read them at a glance: `7 ms`, `0.2s`, `12s`, `3 min`, `2 h 10 min`, `3 d`.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A duration in at most ten columns, cut to what matters at its size.
pub fn short(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    let minutes = seconds / 60;
    match millis {
        0 => "<1 ms".to_owned(),
        1..100 => format!("{millis} ms"),
        100..10_000 => format!("{seconds}.{}s", millis % 1000 / 100),
        10_000..60_000 => format!("{seconds}s"),
        _ => match minutes {
            0..60 => format!("{minutes} min"),
            60..600 if minutes.is_multiple_of(60) => format!("{} h", minutes / 60),
            60..600 => format!("{} h {} min", minutes / 60, minutes % 60),
            600..2880 => format!("{} h", minutes / 60),
            _ => format!("{} d", minutes / 1440),
        },
    }
}

/// The same for how long ago something was, where parts of a second tell nothing: `0s`, `12s`, `3 min`.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { short(duration) }
}

/// Seconds of the protocol as a duration. What is negative counts as none.
pub fn of_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// A time of the protocol (RFC 3339). None if it is none.
pub fn parse(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

/// How long ago a time of the protocol was. None if it is no time. A time that is still to come is now:
/// clocks are set.
pub fn since(text: &str, now: SystemTime) -> Option<Duration> {
    Some(now.duration_since(parse(text)?).unwrap_or_default())
}

/// How long it is until a time of the protocol. None if it is no time, or is over.
pub fn until(text: &str, now: SystemTime) -> Option<Duration> {
    parse(text)?.duration_since(now).ok()
}

/// A time of the protocol in this machine's zone: `2026-11-26 20:30:00`. A text that is no time stays.
pub fn local(text: &str) -> String {
    in_zone(text, "%Y-%m-%d %H:%M:%S")
}

/// The time of the day in this machine's zone: `20:30:00`. A text that is no time stays.
pub fn clock(text: &str) -> String {
    in_zone(text, "%H:%M:%S")
}

fn in_zone(text: &str, format: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime(format).to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_at_a_glance() {
        for (millis, wanted) in [
            (0, "<1 ms"),
            (7, "7 ms"),
            (99, "99 ms"),
            (249, "0.2s"),
            (9_999, "9.9s"),
            (12_700, "12s"),
            (59_999, "59s"),
            (60_000, "1 min"),
            (3_599_000, "59 min"),
            (7_200_000, "2 h"),
            (7_800_000, "2 h 10 min"),
            (36_000_000, "10 h"),
            (172_799_000, "47 h"),
            (172_800_000, "2 d"),
            (86_400_000 * 400, "400 d"),
        ] {
            assert_eq!(short(Duration::from_millis(millis)), wanted);
        }
        assert_eq!(age(Duration::from_millis(249)), "0s");
        assert_eq!(age(Duration::from_secs(200)), "3 min");
        assert_eq!((of_seconds(-1.0), of_seconds(1e300)), (Duration::ZERO, Duration::MAX));
    }

    #[test]
    fn times_are_seen_from_now() {
        let at = "2026-11-26T20:30:00.500000Z";
        let now = parse("2026-11-26T20:30:12.500000Z").unwrap();
        assert_eq!(since(at, now), Some(Duration::from_secs(12)));
        assert_eq!(until(at, now), None);
        assert_eq!(since("2026-11-26T20:31:00Z", now), Some(Duration::ZERO));
        assert_eq!(until("2026-11-26T20:31:00Z", now), Some(Duration::from_millis(47_500)));
        assert_eq!((since("soon", now), local("soon")), (None, "soon".to_owned()));
    }
}
