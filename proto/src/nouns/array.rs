//! Job arrays: which elements an array has, and what a record tells of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many elements one array can have.
pub const MAX_ELEMENTS: u32 = 10_000_000;

/// How many numbers and ranges the indices of one array can be written as.
pub const MAX_SPANS: usize = 10_000;

/// The indices of an array's elements, in order, each once. As text numbers and ranges, with commas between:
/// `0-99`, `0-99:10`, `1,3,20-29`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indices(Vec<Span>);

/// Every `step`-th number from `first` on; `last` is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u32,
    last: u32,
    step: u32,
}

impl Span {
    fn count(self) -> u32 {
        // Less than 2^32: a span of all numbers is refused.
        (self.last - self.first) / self.step + 1
    }
}

impl Indices {
    /// How many elements there are: from 1 to [`MAX_ELEMENTS`].
    pub fn count(&self) -> u32 {
        self.0.iter().map(|span| span.count()).sum()
    }

    /// The index of the element at that place, counted from 0.
    pub fn at(&self, place: u32) -> Option<u32> {
        let mut left = place;
        for span in &self.0 {
            if left < span.count() {
                return Some(span.first + left * span.step);
            }
            left -= span.count();
        }
        None
    }

    /// The place of the element with that index, counted from 0.
    pub fn place_of(&self, index: u32) -> Option<u32> {
        let mut before = 0;
        for span in &self.0 {
            if (span.first..=span.last).contains(&index) {
                let from_first = index - span.first;
                return from_first.is_multiple_of(span.step).then(|| before + from_first / span.step);
            }
            before += span.count();
        }
        None
    }
}

impl FromStr for Indices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spans: Vec<Span> = Vec::new();
        let mut count = 0_u64;
        for part in text.split(',') {
            let span = parse_span(part)?;
            if spans.last().is_some_and(|before| before.last >= span.first) {
                return Err(format!(
                    "{part:?} does not come after what is before it: write the indices in order, each once"
                ));
            }
            count += u64::from(span.last - span.first) / u64::from(span.step) + 1;
            spans.push(span);
        }
        if count > u64::from(MAX_ELEMENTS) {
            return Err(format!("an array has at most {MAX_ELEMENTS} elements, these are {count}"));
        }
        if spans.len() > MAX_SPANS {
            return Err(format!(
                "takes at most {MAX_SPANS} numbers and ranges, these are {}: write ranges",
                spans.len()
            ));
        }
        Ok(Self(spans))
    }
}

fn parse_span(part: &str) -> Result<Span, String> {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| {
            format!("{part:?} is no index: write numbers and ranges, such as 0-99, 0-99:10 or 1,3,20-29")
        })
    };
    let (range, step) = match part.split_once(':') {
        Some((range, step)) => (range, number(step)?),
        None => (part, 1),
    };
    if step == 0 {
        return Err(format!("{part:?} has the step 0: write 1 or more, or leave it out"));
    }
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if last < first {
        return Err(format!("{part:?} ends before it begins: write the smaller index first"));
    }
    Ok(Span { first, last: last - (last - first) % step, step })
}

impl fmt::Display for Indices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Span { first, last, step }) in self.0.iter().enumerate() {
            if place > 0 {
                formatter.write_str(",")?;
            }
            match (first == last, step) {
                (true, _) => write!(formatter, "{first}")?,
                (false, 1) => write!(formatter, "{first}-{last}")?,
                (false, step) => write!(formatter, "{first}-{last}:{step}")?,
            }
        }
        Ok(())
    }
}

/// The elements of an array, and how many of them run at a time: `0-99%8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArraySpec {
    /// Which elements there are.
    pub indices: Indices,
    /// How many of them run at a time; none where that is not bounded.
    pub at_once: Option<u32>,
}

impl FromStr for ArraySpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((indices, at_once)) = text.split_once('%') else {
            return Ok(Self { indices: text.parse()?, at_once: None });
        };
        let at_once = at_once.parse().ok().filter(|&at_once| at_once > 0).ok_or_else(|| {
            format!("{at_once:?} after % is no number of elements: write 1 or more, such as 0-99%8")
        })?;
        Ok(Self { indices: indices.parse()?, at_once: Some(at_once) })
    }
}

impl fmt::Display for ArraySpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.indices)?;
        self.at_once.map_or(Ok(()), |at_once| write!(formatter, "%{at_once}"))
    }
}

/// Whose ends the callbacks of an array tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackFor {
    /// That of the whole array, once.
    #[default]
    Array,
    /// That of each element.
    Element,
}

/// What a record tells of an array, or of the array that a job is an element of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each field means")]
pub struct ArrayInfo {
    pub id: u64,
    pub elements: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indices: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfolded: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceled: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(text: &str) -> Indices {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn indices_are_read_and_counted() {
        for (text, written, all) in [
            ("0-3", "0-3", vec![0, 1, 2, 3]),
            ("0-35:10", "0-30:10", vec![0, 10, 20, 30]),
            ("1,3,7-9", "1,3,7-9", vec![1, 3, 7, 8, 9]),
            ("5", "5", vec![5]),
            ("4294967295", "4294967295", vec![u32::MAX]),
        ] {
            let indices = indices(text);
            assert_eq!(indices.to_string(), written);
            assert_eq!(indices.count() as usize, all.len(), "{text}");
            let read: Vec<u32> = (0..).map_while(|place| indices.at(place)).collect();
            assert_eq!(read, all, "{text}");
            for (place, &index) in all.iter().enumerate() {
                assert_eq!(indices.place_of(index), Some(place as u32), "{text}: {index}");
            }
        }
        assert_eq!(indices("0-99:10,200").place_of(5), None);
        assert_eq!(indices("0-99:10,200").place_of(200), Some(10));
    }

    #[test]
    fn what_is_no_array_is_told() {
        for (text, said) in [
            ("", "is no index"),
            ("a", "is no index"),
            ("1-", "is no index"),
            ("3-1", "smaller index first"),
            ("0-9:0", "step 0"),
            ("0-9,5", "in order, each once"),
            ("2,1", "in order, each once"),
            ("0-4294967295", "at most 10000000"),
            ("0-9%0", "after %"),
            ("0-9%", "after %"),
        ] {
            let error = text.parse::<ArraySpec>().expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        let spec: ArraySpec = "0-99%8".parse().expect("it is one");
        assert_eq!((spec.indices.count(), spec.at_once, spec.to_string()), (100, Some(8), "0-99%8".into()));
    }
}
