//! What the command lines of several verbs share. This folder is a leaf: it knows words and numbers, but no
//! daemon and no verb.

pub mod choices;
pub mod fault;
pub mod ids;
pub mod job;
pub mod values;

use std::ffi::{OsStr, OsString};
use std::fmt;

/// The error of a command line that clap accepts although it makes no sense. The message says what to write
/// instead.
#[derive(Debug)]
pub struct UsageError(pub String);

impl UsageError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for UsageError {}

/// Turns a word of the command line into the text that the protocol carries. `what` names the word in the
/// message.
///
/// # Errors
/// When the word is not UTF-8. The message says what to do.
pub fn utf8(what: &str, text: &OsStr) -> anyhow::Result<String> {
    OsString::from(text).into_string().map_err(|text| {
        let message = format!(
            "the {what} {} is not UTF-8, which is all that poold carries: pass it through a file or --stdin",
            text.display()
        );
        UsageError(message).into()
    })
}

/// Turns a command and its arguments into the texts that the protocol carries.
///
/// # Errors
/// Those of [`utf8`], and a program without a name.
pub fn utf8_words(words: &[OsString]) -> anyhow::Result<Vec<String>> {
    if words.first().is_some_and(|program| program.is_empty()) {
        return Err(UsageError::new("the program's name is empty: name a program to run").into());
    }
    words.iter().map(|word| utf8("argument", word)).collect()
}
