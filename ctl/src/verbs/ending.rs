//! What a job has come to, in one document: its record, and the ends of its output. `wait --tail` prints it,
//! and `submit --wait --json`.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use pool_proto::methods::{Get, Output};
use pool_proto::nouns::{OutputFile, SCHEMA};
use pool_proto::{Client, ClientError, Record};
use serde::Serialize;

/// So much of a stream is told at most, in bytes.
const MOST: u64 = 256 * 1024;

/// The document.
#[derive(Debug, Serialize)]
pub struct Endings {
    schema: u32,
    /// The time was up before all had ended that was waited for.
    pub timed_out: bool,
    pub jobs: Vec<Ending>,
}

/// A job with the ends of its output.
#[derive(Debug, Serialize)]
pub struct Ending {
    pub record: Record,
    /// None where the job has no output: it has not begun, or its output is gone.
    pub stdout: Option<String>,
    pub stderr: Option<String>,
}

impl Endings {
    /// The document of these jobs.
    pub fn new(timed_out: bool, jobs: Vec<Ending>) -> Self {
        Self { schema: SCHEMA, timed_out, jobs }
    }
}

impl Ending {
    /// What a job has come to by now. `lines`: so many lines of each stream, or all that fit.
    ///
    /// # Errors
    /// When the job does not exist, or poold has gone.
    pub fn read(client: &mut Client, id: u64, lines: Option<usize>) -> Result<Self, ClientError> {
        let record = *client.request(&Get { id })?.record;
        let (stdout, stderr) = match client.request(&Output { id, attempt: None }) {
            Ok(_) => {
                let (stdout, stderr) = (client.take_descriptor()?, client.take_descriptor()?);
                (last(&File::from(stdout), lines), last(&File::from(stderr), lines))
            }
            Err(ClientError::Refused(_)) => (None, None),
            Err(error) => return Err(error),
        };
        Ok(Self { record, stdout, stderr })
    }
}

/// Opens a file of output by its name. None where nothing was written, or the file cannot be read. What else
/// may be in its place is not waited for.
pub fn open(named: &OutputFile) -> Option<File> {
    let path = named.path.to_path();
    File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).ok()
}

/// The last lines of a file, of which some may be cut off where they are long. Bytes that are no UTF-8 are
/// U+FFFD.
pub fn last(file: &File, lines: Option<usize>) -> Option<String> {
    let length = file.metadata().ok()?.len();
    let begin = length.saturating_sub(MOST);
    let mut bytes = vec![0; usize::try_from(length - begin).ok()?];
    file.read_exact_at(&mut bytes, begin).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(match lines {
        Some(lines) => last_lines(&text, lines).to_owned(),
        None => text.into_owned(),
    })
}

fn last_lines(text: &str, lines: usize) -> &str {
    let ends = text.strip_suffix('\n').unwrap_or(text).rmatch_indices('\n');
    let begin = match lines {
        0 => text.len(),
        _ => ends.map(|(place, _)| place + 1).nth(lines - 1).unwrap_or(0),
    };
    &text[begin..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_the_last() {
        for (text, lines, wanted) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 9, "a\nb\n"),
            ("a\n\n", 1, "\n"),
            ("a\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(last_lines(text, lines), wanted, "{text:?}, {lines}");
        }
    }
}
