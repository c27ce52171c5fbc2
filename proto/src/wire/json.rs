//! JSON that only its sender and its receiver interpret. poold keeps such a value and passes it on unchanged,
//! and never takes it apart.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON value as text, on one line. Two values are equal when their texts are equal.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The value that a text holds.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Box<RawValue>>(text).map(|value| Self(value).on_one_line())
    }

    /// The text of the value.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The same value without line breaks. A line break can only stand outside of strings, where it means the
    /// same as a space (RFC 8259, section 2).
    pub fn on_one_line(self) -> Self {
        if !self.get().contains(['\n', '\r']) {
            return self;
        }
        let text = self.get().replace(['\n', '\r'], " ");
        Self(RawValue::from_string(text).expect("spaces in place of line breaks change no value"))
    }
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
    fn line_breaks_outside_of_strings_go() {
        assert_eq!(Json::parse("[1,\r\n \"a\\nb\"]").unwrap().get(), "[1,   \"a\\nb\"]");
    }
}
