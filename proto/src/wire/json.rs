//! JSON that only its sender and its receiver interpret. poold keeps such a value and passes it on unchanged,
//! and never takes it apart.

use std::fmt;
use std::sync::{Arc, Weak};

use memchr::{memchr, memchr2};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value as text, on one line. Two values are equal when their texts are equal. A clone shares the
/// text, which may be long.
///
/// Half of a surrogate pair is no character, and many readers of JSON refuse a whole document for it. So it
/// is U+FFFD here, as in the Encoding Standard.
#[derive(Clone)]
pub struct Json(Arc<Box<RawValue>>);

/// A value that somebody else holds, if anybody still does.
#[derive(Debug, Clone)]
pub struct WeakJson(Weak<Box<RawValue>>);

impl WeakJson {
    /// The value, unless nobody has held it any more.
    pub fn upgrade(&self) -> Option<Json> {
        self.0.upgrade().map(Json)
    }

    /// Whether nobody holds the value any more.
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::well_formed)
    }
}

impl Json {
    /// The value that a text holds.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Self>(text).map(Self::on_one_line)
    }

    /// The same value, which has been read as a part of something else.
    pub fn of(value: &RawValue) -> Self {
        Self::well_formed(value.to_owned()).on_one_line()
    }

    fn well_formed(value: Box<RawValue>) -> Self {
        Self::new(match without_lone_surrogates(value.get()) {
            None => value,
            Some(text) => RawValue::from_string(text).expect("one escape in place of another is JSON"),
        })
    }

    fn new(value: Box<RawValue>) -> Self {
        Self(Arc::new(value))
    }

    /// The value for as long as somebody else holds it.
    pub fn downgrade(&self) -> WeakJson {
        WeakJson(Arc::downgrade(&self.0))
    }

    /// A value whose text is here as a whole, and is not copied.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_text(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self::new)
    }

    /// The text of the value.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The same value without line breaks. A line break can only stand outside of strings, where it means the
    /// same as a space (RFC 8259, section 2).
    pub fn on_one_line(self) -> Self {
        if memchr2(b'\n', b'\r', self.get().as_bytes()).is_none() {
            return self;
        }
        let text = self.get().replace(['\n', '\r'], " ");
        Self::new(RawValue::from_string(text).expect("spaces in place of line breaks change no value"))
    }
}

/// The text with U+FFFD in place of each half of a surrogate pair. None if there is none.
fn without_lone_surrogates(text: &str) -> Option<String> {
    let unit = |place: usize| u16::from_str_radix(text.get(place..place + 4)?, 16).ok();
    let mut fixed = None;
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &text.as_bytes()[at..]) {
        let place = at + found;
        // A backslash and what it escapes; both are ASCII.
        at = place + 2;
        let Some(first) = text[place..].strip_prefix("\\u").and_then(|_| unit(at)) else { continue };

        at = place + 6;
        let second = text[at..].strip_prefix("\\u").and_then(|_| unit(at + 2));
        match first {
            0xd800..=0xdbff if second.is_some_and(|second| (0xdc00..=0xdfff).contains(&second)) => at += 6,
            0xd800..=0xdfff => {
                fixed.get_or_insert_with(|| text.to_owned()).replace_range(place + 2..place + 6, "fffd");
            }
            _ => {}
        }
    }
    fixed
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// Shows the length and not the value, so no payload is ever logged.
impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes of JSON", self.get().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_passed_on_as_it_came() {
        let value = Json::parse(r#"{"n": 1.50, "text": "a\nb"}"#).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"n": 1.50, "text": "a\nb"}"#);
        assert_eq!(format!("{value:?}"), "27 bytes of JSON");
        assert!(Json::parse("[1,").is_err());
        assert!(Json::parse("1 2").is_err());
    }

    #[test]
    fn half_a_character_is_none() {
        let cases = [
            (r#""\ud83d\ude00 \u00e9""#, r#""\ud83d\ude00 \u00e9""#),
            (r#"{"\udce9": ["\ud83d", "\uD83Dx\n"]}"#, r#"{"\ufffd": ["\ufffd", "\ufffdx\n"]}"#),
            (r#""\ud83d\ud83d\ude00\ude00""#, r#""\ufffd\ud83d\ude00\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
        ];
        for (text, wanted) in cases {
            assert_eq!(Json::parse(text).unwrap().get(), wanted);
            assert_eq!(serde_json::from_str::<Json>(text).unwrap().get(), wanted);
            assert!(serde_json::from_str::<serde_json::Value>(wanted).is_ok(), "{wanted}");
        }
    }

    #[test]
    fn line_breaks_outside_of_strings_go() {
        assert_eq!(Json::parse("[1,\r\n \"a\\nb\"]").unwrap().get(), "[1,   \"a\\nb\"]");
    }
}
