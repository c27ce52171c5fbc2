//! Foreign text on its way to a terminal. A control character moves the cursor or more, a bidirectional one
//! turns the text around it, and an invisible one makes two names look the same. So none of them reaches a
//! terminal as it is: each is escaped.

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fmt::Write;

use crate::os_text::OsText;

/// Characters that nobody sees though the standard library takes most of them for printable: Unicode's property
/// Default_Ignorable_Code_Point, and the blank of Braille.
const INVISIBLE: [(char, char); 13] = [
    ('\u{34f}', '\u{34f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a terminal shows the character as itself.
pub fn is_shown(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    if INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&c)) {
        return false;
    }

    // After another character, the standard library escapes those alone that are not printable. At the
    // beginning of a text it would escape marks as well, of which decomposed letters are made.
    let mut buffer = [0; 5];
    buffer[0] = b'a';
    let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
    let text = std::str::from_utf8(&buffer[..length]).expect("two characters are text");
    text.escape_debug().nth(1) == Some(c)
}

/// The text on one line, in which everything that cannot be seen is escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_shown, |c, escaped| escaped.extend(c.escape_default()))
}

/// The text on its lines, in which everything else that cannot be seen is escaped.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || is_shown(c), |c, escaped| escaped.extend(c.escape_default()))
}

/// The same JSON, in which everything that cannot be seen is escaped. Such characters stand in strings alone.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let is_kept = |c| matches!(c, '\n' | '\r' | '\t') || is_shown(c);
    escape(json, is_kept, |c, escaped| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(escaped, "\\u{unit:04x}").expect("a string takes everything");
        }
    })
}

/// The arguments of this process as text that can be shown. None if they can be shown as they are. For the
/// message about an argument, which repeats it.
pub fn shown_arguments() -> Option<Vec<String>> {
    let arguments: Vec<OsString> = env::args_os().collect();
    let is_plain = |argument: &OsString| argument.to_str().is_some_and(|text| text.chars().all(is_shown));
    let show = |argument: OsString| printable(&OsText::from(argument).to_string()).into_owned();
    (!arguments.iter().all(is_plain)).then(|| arguments.into_iter().map(show).collect())
}

fn escape(text: &str, is_kept: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(|c| !is_kept(c)) else { return Cow::Borrowed(text) };
    let mut escaped = text[..first].to_owned();
    for c in text[first..].chars() {
        if is_kept(c) { escaped.push(c) } else { write(c, &mut escaped) }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_seen_stays() {
        for text in ["", "a b\\\"'", "caf\u{e9} cafe\u{301}", "日本語", "עברית", "\u{1f600}", "~"] {
            assert_eq!(printable(text), text);
            assert_eq!(printable_json(text), text);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let hidden = "\n\t\r\u{1b}\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}\
                      \u{3164}\u{fe0f}\u{feff}\u{e0041}\u{a0}";
        for c in hidden.chars() {
            assert!(!is_shown(c), "{c:?}");
            assert_eq!(printable(&format!("a{c}b")), format!("a{}b", c.escape_default()));
        }
        assert_eq!(printable("a\nb\u{1b}[31m\u{202e}"), "a\\nb\\u{1b}[31m\\u{202e}");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "a\u{202e}": ["\u{e0041}\u{7f}\u{9b}", "caf\u{e9}\n"] });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let printed = printable_json(&text);
        assert!(printed.chars().all(|c| c == '\n' || is_shown(c)), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
        assert!(printed.contains(r#""a\u202e": ["#) && printed.contains(r"\udb40\udc41\u007f\u009b"));
    }
}
