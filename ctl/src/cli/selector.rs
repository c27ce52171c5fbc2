//! Selectors: the words by which a command line names jobs. What they come to, poold knows; see
//! `verbs/selection/`.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use pool_proto::OsText;

use super::ids::IdRange;
use super::signal::SignalNumber;
use super::states::StateGroup;
use super::values::parse_label;

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// `12`, `3-9`, `12.4`.
    Ids(IdRange),
    /// `last`: the job that was submitted last.
    Last,
    /// `last-3`: so many jobs, those that were submitted last.
    Newest(u32),
    /// `all`: all with which the verb can do something.
    All,
    /// `@label`.
    Label(String),
    /// `name:build`, in which `*` stands for any text and `?` for one character.
    Name(OsText),
    /// `state:failed`, and the word itself.
    State(StateGroup, String),
    /// `pool:gpu`.
    Pool(String),
}

/// The greatest number behind `last-`.
const MOST_NEWEST: u32 = 100_000;

impl Selector {
    /// The ids, where poold need not be asked which jobs these are.
    pub fn ids(&self) -> Option<IdRange> {
        match self {
            Self::Ids(range) if range.array().is_none() => Some(*range),
            _ => None,
        }
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(label) = text.strip_prefix('@') {
            return parse_label(label).map(Self::Label).map_err(|error| format!("{text:?}: {error}"));
        }
        match text.split_once(':') {
            Some(("name", name)) if !name.is_empty() => return Ok(Self::Name(name.into())),
            Some(("state", state)) => {
                let group = state.parse().map_err(|error: String| format!("{text:?}: {error}"))?;
                return Ok(Self::State(group, state.to_owned()));
            }
            Some(("pool", pool)) if !pool.is_empty() => return Ok(Self::Pool(pool.to_owned())),
            _ => {}
        }
        match text {
            "all" => return Ok(Self::All),
            "last" => return Ok(Self::Last),
            _ => {}
        }
        if let Some(count) = text.strip_prefix("last-") {
            let count = count.parse().ok().filter(|count| (1..=MOST_NEWEST).contains(count));
            let why = || format!("{text:?}: write a number from 1 to {MOST_NEWEST} behind last-");
            return count.map(Self::Newest).ok_or_else(why);
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return text.parse().map(Self::Ids);
        }
        Err(format!(
            "{text:?} names no job: write 12, 3-9, 12.4, last, all, @label, name:x, state:failed or pool:x"
        ))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids(range) if range.is_single() && range.array().is_none() => {
                write!(formatter, "{}", range.first())
            }
            Self::Ids(range) => range.fmt(formatter),
            Self::Last => formatter.write_str("last"),
            Self::Newest(count) => write!(formatter, "last-{count}"),
            Self::All => formatter.write_str("all"),
            Self::Label(label) => write!(formatter, "@{label}"),
            Self::Name(name) => write!(formatter, "name:{name}"),
            Self::State(_, word) => write!(formatter, "state:{word}"),
            Self::Pool(pool) => write!(formatter, "pool:{pool}"),
        }
    }
}

/// A selector on a command line. A name need not be UTF-8.
pub fn selector() -> impl TypedValueParser<Value = Selector> {
    OsStringValueParser::new().try_map(read)
}

/// A selector before a signal. Whoever knows kill(1) writes the signal first.
pub fn selector_before_signal() -> impl TypedValueParser<Value = Selector> {
    OsStringValueParser::new().try_map(|text| match text.to_str().map(SignalNumber::from_str) {
        Some(Ok(_)) if text.to_str().is_some_and(|text| text.parse::<u32>().is_err()) => {
            Err(format!("{text:?} is a signal: the signal comes last, as in `poolctl signal 12 USR1`"))
        }
        _ => read(text),
    })
}

/// A selector that can name one job alone.
pub fn one_selector() -> impl TypedValueParser<Value = Selector> {
    OsStringValueParser::new().try_map(|text| {
        let selector = read(text)?;
        let are_several = match &selector {
            Selector::Ids(range) => !range.is_single(),
            Selector::Newest(_) | Selector::All => true,
            _ => false,
        };
        if are_several {
            return Err(format!("{selector} is more than one job: write 12, 12.4, last or name:x"));
        }
        Ok(selector)
    })
}

/// The selector that is written so.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn read(text: OsString) -> Result<Selector, String> {
    if let Some(name) = text.as_bytes().strip_prefix(b"name:").filter(|name| !name.is_empty()) {
        return Ok(Selector::Name(OsText::from(OsString::from_vec(name.to_vec()))));
    }
    text.to_string_lossy().parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_written_as_they_are_read() {
        let words = [
            "12",
            "12.4-9",
            "3-9",
            "last",
            "last-3",
            "all",
            "@gpu",
            "@a:b",
            "name:build*",
            "name:a:b",
            "state:failed",
            "state:queued",
            "pool:gpu",
        ];
        for word in words {
            assert_eq!(word.parse::<Selector>().map(|read| read.to_string()), Ok(word.to_owned()));
        }
        assert_eq!("last".parse(), Ok(Selector::Last));
        assert_eq!("3-9".parse::<Selector>().unwrap().ids(), Some(IdRange::between(3, 9)));
        for word in ["12.4", "last", "@gpu"] {
            assert_eq!(word.parse::<Selector>().unwrap().ids(), None, "poold is to be asked: {word}");
        }
    }

    #[test]
    fn what_is_none_says_what_to_write() {
        let fault = |text: &str| text.parse::<Selector>().unwrap_err();
        for text in ["", "x", "name:", "pool:", "build", "Last", "-3", "first"] {
            assert!(fault(text).contains("names no job: write 12, 3-9"), "{text}");
        }
        assert!(fault("5-3").contains("write the smaller id first, 3-5"));
        assert!(fault("state:done").contains("there is no state \"done\""));
        assert!(fault("@a b").contains("write 1 to"));
        for text in ["last-0", "last-", "last-x", "last--1", "last-100001"] {
            assert!(fault(text).contains("from 1 to 100000"), "{text}");
        }
    }

    #[test]
    fn a_name_need_not_be_utf_8() {
        let name = OsString::from_vec(b"name:caf\xe9".to_vec());
        let wanted = OsText::from(OsString::from_vec(b"caf\xe9".to_vec()));
        assert_eq!(read(name), Ok(Selector::Name(wanted)));
    }
}
