//! Submitting many: one JSON object a line, sent in batches, each accepted whole or not at all. Lines are read as they are needed, and ids
//! printed as they come, so that the input may be endless.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};
use pool_proto::interface::{Job, SubmitMany};
use pool_proto::{Client, ClientError, Refusal};

use crate::cli::UsageError;
use crate::connect::Link;
use crate::print;

/// A batch is sent when it has so many jobs, or so many bytes of input.
const BATCH_JOBS: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;

/// Jobs read and not sent, each with the number of its line.
#[derive(Debug, Default)]
struct Batch {
    jobs: Vec<Job>,
    lines: Vec<usize>,
    bytes: usize,
}

/// Submits all lines of `path`, or of stdin for `-`.
///
/// # Errors
/// What is wrong with a line, and how many jobs before it were accepted.
pub fn run(link: &Link, path: &Path, defaults: Job, as_json: bool) -> anyhow::Result<u8> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?)
    };
    let mut source = BufReader::with_capacity(BATCH_BYTES, source);
    let mut bulk =
        Bulk { client: link.connect()?, name: path.display().to_string(), defaults, as_json, accepted: 0 };
    let mut batch = Batch::default();
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let count = source.read_line(&mut line).map_err(|error| bulk.wrong(number, &error.to_string()))?;
        if !line.trim().is_empty() {
            let job =
                serde_json::from_str(&line).map_err(|error| bulk.wrong(number, &without_line(&error)))?;
            batch.jobs.push(job);
            batch.lines.push(number);
            batch.bytes += line.len();
        }
        // What has come is not kept waiting for what may come.
        let is_full =
            batch.jobs.len() >= BATCH_JOBS || batch.bytes >= BATCH_BYTES || source.buffer().is_empty();
        if is_full && !batch.jobs.is_empty() {
            bulk.send(std::mem::take(&mut batch))?;
        }
        if count == 0 {
            break;
        }
    }
    Ok(0)
}

/// serde_json counts lines, too, but it is given only one.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", ", column ")
}

struct Bulk {
    client: Client,
    name: String,
    defaults: Job,
    as_json: bool,
    accepted: usize,
}

impl Bulk {
    fn send(&mut self, batch: Batch) -> anyhow::Result<()> {
        let many = SubmitMany { jobs: batch.jobs, defaults: Some(self.defaults.clone()) };
        let submitted = match self.client.call(&many) {
            Ok(submitted) => submitted,
            Err(ClientError::Refused(Refusal::InvalidJob { index, field, reason })) => {
                let line = batch.lines.get(index).copied().unwrap_or_default();
                bail!(self.wrong(line, &format!("{field}: {reason}")));
            }
            Err(error) => {
                let accepted = self.accepted;
                return Err(error).with_context(|| format!("{accepted} jobs had been accepted before"));
            }
        };
        self.accepted += submitted.ids.len();
        let lines = submitted
            .ids
            .iter()
            .map(|id| if self.as_json { format!("{{\"id\":{id}}}\n") } else { format!("{id}\n") });
        print::text(&lines.collect::<String>())
    }

    fn wrong(&self, line: usize, reason: &str) -> anyhow::Error {
        let Self { name, accepted, .. } = self;
        UsageError(format!("{name}:{line}: {reason}; {accepted} jobs were accepted, none from this batch on"))
            .into()
    }
}
