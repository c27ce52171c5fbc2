//! Ids on a command line: single ids, and ranges of ids.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// An id, or a range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    first: u64,
    last: u64,
}

impl IdRange {
    /// The first id.
    pub fn first(self) -> u64 {
        self.first
    }

    /// Whether this is one id.
    pub fn is_single(self) -> bool {
        self.first == self.last
    }

    /// Whether the id is in the range.
    pub fn contains(self, id: u64) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// All ids of the range.
    pub fn ids(&self) -> RangeInclusive<u64> {
        self.first..=self.last
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// The greatest number of ids in one range.
const MAX_IDS: u64 = 1_000_000;

impl FromStr for IdRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |part: &str| part.parse::<u64>().map_err(|_| format!("{text:?} is no id: write 12, or 3-9"));
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if last < first || last - first >= MAX_IDS {
            return Err(format!(
                "{text:?} is no range of at most {MAX_IDS} ids: write the smaller one first"
            ));
        }
        Ok(Self { first, last })
    }
}

/// The ids as they may be written on a command line: those that follow each other are ranges.
pub fn in_ranges(ids: &[u64]) -> String {
    let is_next = |id: &u64, next: &u64| id.checked_add(1) == Some(*next);
    let range = |ids: &[u64]| match ids {
        [first, .., last] => format!("{first}-{last}"),
        ids => ids.iter().map(u64::to_string).collect(),
    };
    ids.chunk_by(is_next).map(range).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_ranges() {
        let ids = |text: &str| {
            let ranges: Result<Vec<IdRange>, _> = text.split(' ').map(str::parse).collect();
            ranges.map(|ranges| ranges.iter().flat_map(IdRange::ids).collect())
        };
        assert_eq!(ids("12 3-5 12"), Ok::<Vec<u64>, _>(vec![12, 3, 4, 5, 12]));
        assert_eq!(in_ranges(&[12, 3, 4, 5, 12, 13]), "12 3-5 12-13");
        for text in ["", "x", "5-3", "3-", "-3", "1-99999999999"] {
            assert!(ids(text).is_err(), "{text}");
        }
    }
}
