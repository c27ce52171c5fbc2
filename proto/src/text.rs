//! Durations and times as people and JSON write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest duration, a thousand years. The limit keeps sums of a clock and a duration from an overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(1000 * 31_557_600);

/// A number of seconds as a duration.
///
/// # Errors
/// A sentence that says why: the number is negative, is no number, or is more than [`MAX_DURATION`].
pub fn seconds(seconds: f64) -> Result<Duration, String> {
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|error| format!("{seconds} s is no duration: {error}"))?;
    bounded(duration)
}

/// A duration as people write it: `90`, `1.5` (seconds), `500ms`, `30m`, `1h30m`, `2 days`.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok() {
        return seconds(text.parse().expect("it has just been parsed"));
    }

    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is no duration: write seconds, or 500ms, 30m, 1h30m"))?;
    bounded(duration)
}

fn bounded(duration: Duration) -> Result<Duration, String> {
    if duration <= MAX_DURATION {
        Ok(duration)
    } else {
        Err("a duration is a thousand years at most".to_owned())
    }
}

/// Reads a number of bytes above 0, such as 1048576, 100M or 2GiB. K, M, G and T are powers of 1024; KB, MB,
/// GB and TB are powers of 1000.
///
/// # Errors
/// When the text is no such number.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim().trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let unit = text.trim()[digits.len()..].trim().to_ascii_uppercase();

    let (letter, base) = match unit.strip_suffix("IB") {
        Some(letter) => (letter, 1024_u64),
        None => match unit.strip_suffix('B') {
            Some(letter) if !letter.is_empty() => (letter, 1000),
            Some(_) => ("", 1),
            None => (unit.as_str(), 1024),
        },
    };
    let power = ["", "K", "M", "G", "T"].iter().position(|&known| known == letter);

    let number = digits.parse::<u64>().ok().filter(|&number| number > 0).zip(power);
    let bytes = number.and_then(|(number, power)| number.checked_mul(base.pow(power as u32)));
    bytes.ok_or_else(|| "write a number of bytes above 0, such as 1048576, 100M or 2G".to_owned())
}

/// A point in time in RFC 3339, UTC, to the microsecond: `2026-11-23T18:09:00.000000Z`.
pub fn rfc3339(unix_micros: i64) -> String {
    let since_epoch = Duration::from_micros(unix_micros.max(0).unsigned_abs());
    humantime::format_rfc3339_micros(UNIX_EPOCH + since_epoch).to_string()
}

/// The same for people, to the millisecond, which is left out where it is 0: `2026-11-23T18:09:00Z`.
pub fn rfc3339_short(unix_micros: i64) -> String {
    let millis = (unix_micros.max(0).unsigned_abs() + 500) / 1000;
    let time = UNIX_EPOCH + Duration::from_millis(millis);
    if millis.is_multiple_of(1000) {
        humantime::format_rfc3339_seconds(time).to_string()
    } else {
        humantime::format_rfc3339_millis(time).to_string()
    }
}

/// A point in time that [`rfc3339`] has written, in microseconds since 1970. None if the text cannot be read.
pub fn unix_micros(text: &str) -> Option<i64> {
    let since_epoch = parse_rfc3339(text)?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since_epoch.as_micros()).ok()
}

/// A duration for people, in its two largest units, the rest cut: `2 h 10 min`, `3 min`, `12 s`, `0 s`. From
/// ten minutes on seconds are left out, and from ten days on hours.
pub fn about(duration: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];

    let seconds = duration.as_secs();
    let largest = UNITS.iter().position(|&(_, size)| seconds >= size).unwrap_or(UNITS.len() - 1);
    let (name, size) = UNITS[largest];
    let count = seconds / size;
    let next = UNITS.get(largest + 1).filter(|_| count < 10 || name == "h");
    match next.map(|&(name, next)| (seconds % size / next, name)) {
        Some((rest @ 1.., next_name)) => format!("{count} {name} {rest} {next_name}"),
        Some((0, _)) | None => format!("{count} {name}"),
    }
}

/// The point in time that a text in RFC 3339 names. None if the text cannot be read.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_may_have_a_unit() {
        let cases = [
            ("1", 1),
            ("100M", 100 << 20),
            ("2 GiB", 2 << 30),
            ("3k", 3 << 10),
            ("5MB", 5_000_000),
            ("7b", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "M", "1.5G", "-1", "1X", "1BB", "99999999999T", "1 0"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        let cases = [
            ("90", 90_000),
            ("1.5", 1_500),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("2 days", 172_800_000),
            (" 7 ", 7_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "soon", "-1", "1e400", "nan", "3 parsecs", "1e15", "2000y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_in_utc_and_read_back() {
        let text = rfc3339(1_700_000_000_123_456);
        assert_eq!(text, "2023-11-14T22:13:20.123456Z");
        assert_eq!(parse_rfc3339(&text), Some(UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456)));
        assert_eq!(rfc3339_short(1_700_000_000_123_456), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339_short(1_699_999_999_999_999), "2023-11-14T22:13:20Z");
        assert_eq!((unix_micros(&text), unix_micros("soon")), (Some(1_700_000_000_123_456), None));
    }

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        let cases = [
            (0, "0 s"),
            (12, "12 s"),
            (60, "1 min"),
            (75, "1 min 15 s"),
            (630, "10 min"),
            (7_800, "2 h 10 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
            (864_000 + 7_200, "10 d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(about(Duration::from_secs(seconds)), text);
        }
    }
}
