//! Printing to stdout, whose reader may go at any time.

use std::io::{self, ErrorKind, Write};

use pool_proto::interface::CallProgress;
use serde::Serialize;

use crate::list::printable;

/// Prints a value as one line of JSON.
///
/// # Errors
/// Those of write(2).
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, value).map_err(io::Error::from)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

/// Prints text as it is.
///
/// # Errors
/// Those of write(2).
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// How far a call has come, on a line.
pub fn progress(progress: &CallProgress) -> String {
    let percent = progress.fraction.map(|fraction| format!("{:.0} %", fraction * 100.0));
    let text = progress.text.as_ref().map(|text| printable(text, usize::MAX));
    [percent, text].into_iter().flatten().collect::<Vec<String>>().join("  ")
}

/// Whether the reader of our output has gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
