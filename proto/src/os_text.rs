//! Text of the operating system: arguments, paths, names and values of variables. Linux allows every byte in
//! them but NUL, and JSON carries UTF-8 alone.
//!
//! So such text has an escaped form: what is UTF-8 stays exactly what it is, and each byte that is not is
//! written as U+0000 and two hexadecimal digits in lower case. `caf\xe9` is `"caf\u0000e9"` in JSON. No text
//! of Linux holds a NUL, so no other text looks like the escaped form, and nothing but those bytes is escaped.

use std::borrow::{Borrow, Cow};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

/// The character before the two digits of a byte.
const ESCAPE: char = '\0';

/// A NUL in the escaped form. Such text cannot be handed to Linux.
const NUL: &str = "\u{0}00";

/// Text that need not be UTF-8, in its escaped form. Each text has one form, so two of them are equal when
/// their bytes are.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct OsText(String);

/// A part of a text.
enum Part<'a> {
    Text(&'a str),
    Byte(u8),
}

impl OsText {
    /// The text of these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut escaped = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            escaped += &escape_nul(chunk.valid());
            chunk.invalid().iter().for_each(|&byte| push_byte(&mut escaped, byte));
        }
        Self(escaped)
    }

    /// Reads the escaped form. An escape character without the digits of such a byte is a NUL.
    pub fn from_escaped(text: String) -> Self {
        if text.contains(ESCAPE) {
            // Another form of the same bytes becomes the one form.
            return Self::from_bytes(&Self(text).to_bytes());
        }
        Self(text)
    }

    /// The escaped form.
    pub fn as_escaped(&self) -> &str {
        &self.0
    }

    /// The bytes of the text.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        if !self.0.contains(ESCAPE) {
            return Cow::Borrowed(self.0.as_bytes());
        }

        let mut bytes = Vec::with_capacity(self.0.len());
        for part in self.parts() {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::Byte(byte) => bytes.push(byte),
            }
        }
        Cow::Owned(bytes)
    }

    /// The text as the operating system takes it.
    pub fn to_os_string(&self) -> OsString {
        OsString::from_vec(self.to_bytes().into_owned())
    }

    /// The path that the text names.
    pub fn to_path(&self) -> PathBuf {
        self.to_os_string().into()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        let escapes = self.0.bytes().filter(|&byte| byte == 0).count();
        self.0.len() - 2 * escapes
    }

    /// Whether the text has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the text holds a NUL, at which system calls would end it.
    pub fn has_nul(&self) -> bool {
        self.0.contains(NUL)
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || {
            let place = rest.find(ESCAPE).unwrap_or(rest.len());
            if place > 0 {
                let (text, after) = rest.split_at(place);
                rest = after;
                return Some(Part::Text(text));
            }

            let after = rest.strip_prefix(ESCAPE)?;
            let byte = after.get(..2).and_then(escaped_byte);
            rest = if byte.is_some() { &after[2..] } else { after };
            Some(Part::Byte(byte.unwrap_or(0)))
        })
    }
}

/// The byte of two digits, if it is one that is escaped.
fn escaped_byte(digits: &str) -> Option<u8> {
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    let byte = digits.bytes().all(is_digit).then(|| u8::from_str_radix(digits, 16).ok()).flatten()?;
    (byte == 0 || !byte.is_ascii()).then_some(byte)
}

fn push_byte(escaped: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("half a byte is one digit");
    escaped.extend([ESCAPE, digit(byte >> 4), digit(byte & 0xf)]);
}

fn escape_nul(text: &str) -> Cow<'_, str> {
    if text.contains(ESCAPE) { text.replace(ESCAPE, NUL).into() } else { text.into() }
}

impl From<&str> for OsText {
    fn from(text: &str) -> Self {
        Self(escape_nul(text).into_owned())
    }
}

impl From<String> for OsText {
    fn from(text: String) -> Self {
        if text.contains(ESCAPE) { Self::from(text.as_str()) } else { Self(text) }
    }
}

impl From<&OsStr> for OsText {
    fn from(text: &OsStr) -> Self {
        Self::from_bytes(text.as_bytes())
    }
}

impl From<OsString> for OsText {
    fn from(text: OsString) -> Self {
        text.into_string().map_or_else(|text| Self::from(text.as_os_str()), Self::from)
    }
}

impl From<&Path> for OsText {
    fn from(path: &Path) -> Self {
        Self::from(path.as_os_str())
    }
}

impl From<PathBuf> for OsText {
    fn from(path: PathBuf) -> Self {
        Self::from(path.into_os_string())
    }
}

/// Equal and ordered as the escaped form is. So a variable is found by its name.
impl Borrow<str> for OsText {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for OsText {
    fn eq(&self, other: &str) -> bool {
        self.to_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for OsText {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl<'de> Deserialize<'de> for OsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from_escaped)
    }
}

/// For people: a byte that is no UTF-8 is shown as `\xe9`.
impl fmt::Display for OsText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().try_for_each(|part| match part {
            Part::Text(text) => formatter.write_str(text),
            Part::Byte(byte) => write!(formatter, "\\x{byte:02x}"),
        })
    }
}

/// In quotes, with everything escaped that cannot be seen.
impl fmt::Debug for OsText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        self.parts().try_for_each(|part| match part {
            Part::Text(text) => write!(formatter, "{}", text.escape_debug()),
            Part::Byte(byte) => write!(formatter, "\\x{byte:02x}"),
        })?;
        formatter.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_out_as_it_went_in() {
        let all: Vec<u8> = (0..=255).collect();
        let texts: [&[u8]; 9] = [
            b"",
            "caf\u{e9} \\xe9 %E9 \\u0000e9 \u{fffd}".as_bytes(),
            b"caf\xe9",
            b"\xe9e9",
            b"\xf0\x9f\x98",
            b"\xed\xa0\x80 \xc0\xaf",
            b"\xff\xfe\xe9\xe9",
            b"a\0e9",
            &all,
        ];
        for bytes in texts {
            let text = OsText::from_bytes(bytes);
            assert_eq!(text.to_bytes(), bytes);
            assert_eq!((text.len(), text.has_nul()), (bytes.len(), bytes.contains(&0)), "{text:?}");

            let json = serde_json::to_string(&text).unwrap();
            let back: OsText = serde_json::from_str(&json).unwrap();
            assert_eq!((back.to_bytes().as_ref(), &back), (bytes, &text), "{json}");
        }
    }

    #[test]
    fn what_is_utf8_stays_what_it_is() {
        for text in ["", "plain", "caf\u{e9}", "\\xe9", "$'\\351'", "\u{f7e9}", "\u{202e}"] {
            assert_eq!(OsText::from(text).as_escaped(), text);
            assert_eq!(serde_json::from_value::<OsText>(text.into()).unwrap(), OsText::from(text));
        }
        assert_eq!(serde_json::to_string(&OsText::from_bytes(b"caf\xe9")).unwrap(), r#""caf\u0000e9""#);
    }

    #[test]
    fn each_text_has_one_form() {
        let read = |text: &str| OsText::from_escaped(text.to_owned());
        assert_eq!(read("\0c3\0a9").as_escaped(), "\u{e9}");
        for nul in ["\0", "\0e", "\x0041", "\0E9", "\0\u{e9}", "a\0"] {
            assert!(read(nul).has_nul(), "{nul:?}");
        }
    }

    #[test]
    fn people_see_what_cannot_be_text() {
        let text = OsText::from_bytes(b"\"caf\xe9\"\x1b");
        assert_eq!(text.to_string(), "\"caf\\xe9\"\u{1b}");
        assert_eq!(format!("{text:?}"), r#""\"caf\xe9\"\u{1b}""#);
    }
}
