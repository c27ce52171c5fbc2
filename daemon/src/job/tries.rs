//! How often a job was tried, how often it may be tried, and its place in the queue meanwhile.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::{JobId, Work};

/// Attempts of a job whose output is kept: the latest ones.
pub const KEPT_ATTEMPTS: u32 = 4;

/// What becomes of a job whose attempt has failed or timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// So many attempts may fail and be followed by another.
    pub allowed: u32,
    /// From the first failure to the next attempt; doubled after each.
    pub backoff: Duration,
    /// By so many thousandths of it, at most, each wait is longer; by chance.
    pub jitter: u16,
    /// The codes of attempts that are followed by another.
    pub on: ExitCodes,
}

/// Exit codes as poolctl has them: of an attempt that a signal has ended, 128 and its number; of one that has
/// timed out, 124; of one that has failed without a code, 125.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCodes([u64; 4]);

impl ExitCodes {
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// Numbers and ranges, with commas: `75,100-110`.
    ///
    /// # Errors
    /// What is wrong with the text, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse::<u8>().map_err(|_| Self::fault(text));
        let mut codes = Self([0; 4]);
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if last < first {
                return Err(Self::fault(text));
            }
            (first..=last).for_each(|code| codes.0[usize::from(code / 64)] |= 1 << (code % 64));
        }
        Ok(codes)
    }

    fn fault(text: &str) -> String {
        format!("{text:?} is no list of exit codes: write numbers from 0 to 255 and ranges, as in 75,100-110")
    }

    /// All others.
    pub fn others(self) -> Self {
        Self(self.0.map(|bits| !bits))
    }

    pub fn contains(self, code: u8) -> bool {
        self.0[usize::from(code / 64)] >> (code % 64) & 1 == 1
    }

    /// As [`parse`](Self::parse) reads it; none for all of them.
    pub fn as_text(self) -> Option<String> {
        if self == Self::ALL {
            return None;
        }
        let codes: Vec<u8> = (0..=u8::MAX).filter(|&code| self.contains(code)).collect();
        let ranges = codes.chunk_by(|one, next| one.checked_add(1) == Some(*next)).map(|range| match range {
            [first, .., last] => format!("{first}-{last}"),
            range => range.iter().map(u8::to_string).collect(),
        });
        Some(ranges.collect::<Vec<String>>().join(","))
    }
}

/// No backoff grows longer, unless it was given so.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

impl Retries {
    pub const NONE: Self = Self::new(0, Duration::ZERO);

    /// Whatever the exit code is, and by the backoff alone.
    pub const fn new(allowed: u32, backoff: Duration) -> Self {
        Self { allowed, backoff, jitter: 0, on: ExitCodes::ALL }
    }

    /// Whether an attempt that has failed with this code is followed by another. `retried`: failed attempts
    /// that were followed by another before.
    pub fn follow(&self, retried: u32, code: u8) -> bool {
        retried < self.allowed && self.on.contains(code)
    }

    /// How long that one waits. `chance`: a number of the attempt's own.
    pub fn wait(&self, retried: u32, chance: u64) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << retried.min(30)).min(MAX_BACKOFF.max(self.backoff));
        let longest_us = doubled.as_micros() * u128::from(self.jitter) / 1000;
        let more_us = (longest_us * u128::from(chance)) >> 64;
        doubled.saturating_add(Duration::from_micros(u64::try_from(more_us).unwrap_or(u64::MAX)))
    }
}

/// A job's place in its pool's queue: by priority, the highest first, then in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub priority: Reverse<i32>,
    pub id: JobId,
}

/// How often a job was tried so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Attempts, the one that runs included.
    pub attempts: u32,
    /// Attempts that a dying worker, daemon or machine has taken along.
    pub crashes: u32,
    /// Failed attempts that were followed by another.
    pub retried: u32,
}

/// A job that waits for a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    pub id: JobId,
    pub tries: Tries,
    pub work: Arc<Work>,
}

impl Ready {
    pub fn position(&self) -> Position {
        Position { priority: Reverse(self.work.priority), id: self.id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_read_and_written_in_ranges() {
        let text = |text: &str| ExitCodes::parse(text).unwrap().as_text();
        assert_eq!(text("75,100-110").as_deref(), Some("75,100-110"));
        assert_eq!(text("3, 1,2,255").as_deref(), Some("1-3,255"));
        assert_eq!((text("0-255"), ExitCodes::ALL.others().as_text()), (None, Some(String::new())));
        let codes = ExitCodes::parse("75,100-110").unwrap();
        let has = [74, 75, 76, 99, 100, 110, 111].map(|code| codes.contains(code));
        assert_eq!(has, [false, true, false, false, true, true, false]);
        assert_eq!(codes.others().as_text().as_deref(), Some("0-74,76-99,111-255"));
        for bad in ["", "x", "256", "9-3", "1-", "-1", "1,,2"] {
            assert!(ExitCodes::parse(bad).unwrap_err().contains("75,100-110"), "{bad}");
        }
    }

    #[test]
    fn a_wait_grows_and_is_longer_by_chance() {
        let retries = Retries { jitter: 500, ..Retries::new(9, Duration::from_secs(2)) };
        let seconds = |retried, chance| retries.wait(retried, chance).as_secs_f64();
        assert_eq!([0, 1, 2].map(|retried| seconds(retried, 0)), [2.0, 4.0, 8.0]);
        assert_eq!(seconds(1, 1 << 63), 5.0);
        assert!((5.99..6.0).contains(&seconds(1, u64::MAX)));
        assert_eq!(seconds(40, 0), 3600.0);
        let plain = Retries::new(1, Duration::from_secs(2));
        assert_eq!(plain.wait(0, u64::MAX), Duration::from_secs(2));
        assert!(plain.follow(0, 1) && !plain.follow(1, 1));
    }
}
