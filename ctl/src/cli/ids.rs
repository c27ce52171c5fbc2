//! Ids on a command line: single ids, ranges of ids, and elements of arrays.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// An id, or a range of ids; or elements of an array, by their indices, until somebody has looked up their
/// ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    array: Option<u64>,
    first: u64,
    last: u64,
}

impl IdRange {
    /// From one id to another.
    pub fn between(first: u64, last: u64) -> Self {
        Self { array: None, first, last }
    }

    /// The array whose elements these are, by their indices.
    pub fn array(self) -> Option<u64> {
        self.array
    }

    /// The last id.
    pub fn last(self) -> u64 {
        self.last
    }

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
        if let Some(array) = self.array {
            write!(formatter, "{array}.")?;
        }
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// The greatest number of ids in one range.
pub const MAX_IDS: u64 = 1_000_000;

impl FromStr for IdRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let why_not =
                || format!("{text:?} is no id: write 12, or 3-9, or 12.4 for an element of an array");
            part.parse::<u64>().map_err(|_| why_not())
        };
        let (array, range) = match text.split_once('.') {
            Some((array, range)) => (Some(number(array)?), range),
            None => (None, text),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        if last < first {
            return Err(format!("{text:?} is no range: write the smaller id first, {last}-{first}"));
        }
        if last - first >= MAX_IDS {
            return Err(format!(
                "{text:?} names more than {MAX_IDS} ids: name fewer at once, as {first}-{}",
                first + (MAX_IDS - 1)
            ));
        }
        Ok(Self { array, first, last })
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
        let elements: IdRange = "12.4-9".parse().unwrap();
        assert_eq!(
            (elements.array(), elements.first(), elements.to_string()),
            (Some(12), 4, "12.4-9".to_owned())
        );
        for text in ["12.", ".4", "1.2.3", "", "x", "5-3", "3-", "-3", "1-99999999999"] {
            assert!(ids(text).is_err(), "{text}");
        }
        let fault = |text: &str| text.parse::<IdRange>().unwrap_err();
        assert_eq!(fault("5-3"), "\"5-3\" is no range: write the smaller id first, 3-5");
        let told = "\"1-99999999999\" names more than 1000000 ids: name fewer at once, as 1-1000000";
        assert_eq!(fault("1-99999999999"), told);
        assert!("1-1000000".parse::<IdRange>().is_ok());
    }
}
