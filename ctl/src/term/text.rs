//! Text for people, on a stdout whose reader may go at any time.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, IsTerminal, Read, StdoutLock, Write};
use std::sync::LazyLock;

use anyhow::Context;
use pool_proto::{Json, terminal};

use super::stream::open_at_start;

/// Longer commands and names are cut in tables, and only there.
pub const LONGEST: usize = 500;

/// Escapes foreign text, so that it can neither leave its line nor control the terminal nor hide. A text
/// longer than `longest` characters is cut.
pub fn printable(text: &str, longest: usize) -> String {
    let end = text.char_indices().nth(longest).map_or(text.len(), |(place, _)| place);
    let cut = if end < text.len() { "..." } else { "" };
    terminal::printable(&text[..end]).into_owned() + cut
}

/// Tells the user something on stderr, on one line. Errors of stderr are ignored: poolctl goes on without it.
pub fn say(message: impl Display) {
    let message = message.to_string();
    _ = writeln!(io::stderr(), "poolctl: {}", terminal::printable(&message));
}

/// The same, but only for somebody who reads it at a terminal.
pub fn hint(message: impl Display) {
    if io::stderr().is_terminal() {
        say(message);
    }
}

/// Prints text as it is.
///
/// # Errors
/// Those of write(2).
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = stdout()?;
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context(CANNOT_WRITE)
}

/// Our stdout.
///
/// # Errors
/// When stdout was closed before poolctl was started.
pub fn stdout() -> anyhow::Result<StdoutLock<'static>> {
    open_at_start().context(CANNOT_WRITE)?;
    Ok(io::stdout().lock())
}

/// The error of a result that could not be printed, of something that was done all the same. Whoever repeats
/// the command does the same thing twice, so this error has an exit code of its own.
#[derive(Debug)]
pub struct Untold(String);

impl Untold {
    /// `error` kept the result from being printed. `done` says what was done all the same.
    pub fn new(error: anyhow::Error, done: impl Display) -> Self {
        Self(format!("{error:#}; {done}"))
    }
}

impl Display for Untold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Untold {}

/// Says what was done, in place of a result that could not be printed.
///
/// # Errors
/// [`Untold`], if `told` is an error.
pub fn or_untold(told: anyhow::Result<()>, done: impl Display) -> anyhow::Result<()> {
    told.map_err(|error| Untold::new(error, done).into())
}

/// A value of a call as one line: as it came, but nothing that a terminal would not show.
pub fn value_line(value: Option<&Json>) -> String {
    // Asked once: a map has many values.
    static IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| io::stdout().is_terminal());
    let value = value.map_or("null", Json::get);
    let shown = if *IS_TERMINAL { terminal::printable_json(value) } else { value.into() };
    format!("{shown}\n")
}

/// Prints everything that a reader gives, byte for byte, and at once.
///
/// # Errors
/// Those of reading and of write(2).
pub fn copy(source: &mut impl Read) -> anyhow::Result<()> {
    let mut stdout = stdout()?;
    io::copy(source, &mut stdout).and_then(|_| stdout.flush()).context(CANNOT_WRITE)
}

/// The message when stdout takes nothing. The reason follows it.
pub const CANNOT_WRITE: &str = "cannot write to standard output";

/// Whether the error says that the reader of our output has gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(printable("a\nb\u{1b}[31m", usize::MAX), "a\\nb\\u{1b}[31m");
        assert_eq!(printable("abcdef", 3), "abc...");
        assert_eq!(printable("abc", 3), "abc");
    }

    #[test]
    fn a_reader_that_has_gone_is_seen_through_the_context() {
        let error = io::Error::from(ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(error).context(CANNOT_WRITE)));
        assert!(!is_broken_pipe(&io::Error::from(ErrorKind::StorageFull).into()));
    }
}
