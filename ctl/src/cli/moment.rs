//! Times that lie behind us, as people write them: a time, or how long ago it was.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use pool_proto::text::{parse_duration, rfc3339, unix_micros};

use super::times::At;

/// A time of the protocol, from a time or from how long ago it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment(String);

impl Moment {
    /// So long before now.
    pub fn before_now(ago: Duration) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(rfc3339(i64::try_from(now.saturating_sub(ago).as_micros()).unwrap_or(i64::MAX)))
    }

    /// In UTC, as of RFC 3339.
    pub fn as_rfc3339(&self) -> &str {
        &self.0
    }

    /// In microseconds since 1970.
    pub fn unix_micros(&self) -> i64 {
        unix_micros(&self.0).unwrap_or_default()
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::before_now(ago));
        }
        let at: At = text.parse().map_err(|error: String| format!("{error}; or how long ago, such as 2h"))?;
        let at = at.as_rfc3339();
        // A time of the day is the last one of that name, not the next.
        let is_of_day = text.contains(':') && !text.trim().contains(['-', ' ']);
        let now_us = Self::before_now(Duration::ZERO).unix_micros();
        match unix_micros(at) {
            Some(us) if is_of_day && us > now_us => Ok(Self(rfc3339(us - DAY_US))),
            _ => Ok(Self(at.to_owned())),
        }
    }
}

const DAY_US: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ago_or_the_last_of_their_name() {
        let read = |text: &str| text.parse::<Moment>().map(|moment| moment.unix_micros());
        let now = Moment::before_now(Duration::ZERO).unix_micros();
        let ago = now - read("2h").unwrap();
        assert!((7_199_000_000..7_201_000_000).contains(&ago), "{ago}");
        for text in ["00:00", "12:00", "23:59:59"] {
            let ago = now - read(text).unwrap();
            assert!((0..=90_000_000_000).contains(&ago), "{text}: {ago}");
        }
        assert_eq!(read("2026-11-26T20:30:00Z"), Ok(1_795_725_000_000_000));
        assert!(read("soon").unwrap_err().contains("2h"));
    }
}
