//! What the command lines of several verbs share. This folder is a leaf: it knows words and numbers, but no
//! daemon and no verb.

pub mod after;
pub mod choices;
pub mod fault;
pub mod ids;
pub mod job;
pub mod moment;
pub mod period;
pub mod selector;
pub mod signal;
pub mod states;
pub mod times;
pub mod values;

use std::ffi::OsString;
use std::fmt;

use pool_proto::OsText;

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

/// A command and its arguments, as the protocol carries them.
///
/// # Errors
/// When the program has no name.
pub fn command_words(words: &[OsString]) -> Result<Vec<OsText>, UsageError> {
    if words.first().is_some_and(|program| program.is_empty()) {
        return Err(UsageError::new("the program's name is empty: name a program to run"));
    }
    Ok(words.iter().map(|word| OsText::from(word.as_os_str())).collect())
}
