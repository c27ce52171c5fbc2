//! Submitting many jobs: one JSON object a line. The jobs are sent in batches, and poold accepts each batch
//! whole or not at all. Lines are read when they are needed, and ids are printed as they come, so the input
//! may be endless.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, bail};
use pool_proto::methods::SubmitMany;
use pool_proto::nouns::{Job, SCHEMA};
use pool_proto::{Client, ClientError, Refusal};

use crate::cli::UsageError;
use crate::cli::ids::in_ranges;
use crate::exit::ExitReason;
use crate::follow::HeldSignals;
use crate::link::connect::Link;
use crate::term::text::{self, say};
use crate::verbs::Context;
use crate::verbs::nearest::near;

/// A batch is sent when it has this many jobs, or this many bytes of input.
const BATCH_JOBS: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;

/// Jobs that are read and not sent yet, with the numbers of their lines.
#[derive(Debug, Default)]
struct JobBatch {
    jobs: Vec<Job>,
    lines: Vec<usize>,
    bytes: usize,
}

/// Submits all lines of the file; `-` stands for stdin. `is_quiet`: lines that were skipped are not named.
///
/// # Errors
/// When a line is wrong or refused. The message says how many jobs were accepted before.
pub fn run(context: &Context, path: &Path, defaults: Job, is_quiet: bool) -> anyhow::Result<ExitReason> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?)
    };
    let mut source = BufReader::with_capacity(BATCH_BYTES, source);
    let mut bulk = Bulk {
        link: &context.link,
        client: None,
        name: path.display().to_string(),
        defaults,
        as_json: context.as_json,
        is_quiet,
        accepted: 0,
    };

    let mut batch = JobBatch::default();

    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let count = source.read_line(&mut line).map_err(|error| bulk.wrong(number, &error.to_string()))?;

        if !line.trim().is_empty() {
            let job = serde_json::from_str(&line).map_err(|error| bulk.wrong(number, &fault(&error)))?;
            batch.jobs.push(job);
            batch.lines.push(number);
            batch.bytes += line.len();
        }

        // A job that has come does not wait for jobs that may come.
        let is_full =
            batch.jobs.len() >= BATCH_JOBS || batch.bytes >= BATCH_BYTES || source.buffer().is_empty();
        if is_full && !batch.jobs.is_empty() {
            bulk.send(std::mem::take(&mut batch))?;
        }

        if count == 0 {
            break;
        }
    }
    Ok(ExitReason::Success)
}

/// What is wrong with a line, without the line's number, which serde_json counts from each line anew. Of a
/// member that does not exist all others are its message: the nearest one says more.
fn fault(error: &serde_json::Error) -> String {
    let message = error.to_string().replace(" at line 1 column ", ", column ");
    let named: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match named[..] {
        [unknown, ref known @ ..] if message.starts_with("unknown field") => {
            let near = near(unknown, known).map(|near| format!("did you mean {near:?}?"));
            let hint = near.unwrap_or_else(|| "`poolctl schema` has all of them, of `Job`".to_owned());
            format!("a job has no member {unknown:?} ({hint})")
        }
        _ if message.contains("expected struct Job") => {
            r#"no JSON object: write a job a line, such as {"argv": ["make", "all"]}"#.to_owned()
        }
        _ if error.is_eof() => "the line ends within its JSON".to_owned(),
        _ => message,
    }
}

struct Bulk<'a> {
    link: &'a Link,
    /// The connection, from the first batch on. A fault in the first lines is told before a poold is started.
    client: Option<Client>,
    name: String,
    defaults: Job,
    as_json: bool,
    is_quiet: bool,
    accepted: usize,
}

impl Bulk<'_> {
    fn send(&mut self, batch: JobBatch) -> anyhow::Result<()> {
        let many = SubmitMany { jobs: batch.jobs, defaults: Some(self.defaults.clone()), obstacles: None };

        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(self.link.connect()?),
        };

        let held = HeldSignals::hold()?;
        let submitted = match held.request(client, &many) {
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

        let skipped = submitted.skipped.unwrap_or_default();
        self.accepted += submitted.ids.len() - skipped.len();

        let is_skipped = |place: &usize| skipped.binary_search(place).is_ok();
        let lines =
            submitted.ids.iter().enumerate().map(|(place, id)| match (self.as_json, is_skipped(&place)) {
                (true, true) => format!("{{\"id\":{id},\"schema\":{SCHEMA},\"skipped\":true}}\n"),
                (true, false) => format!("{{\"id\":{id},\"schema\":{SCHEMA}}}\n"),
                (false, _) => format!("{id}\n"),
            });
        let last = in_ranges(&submitted.ids);
        let done = format!("{} jobs were accepted, the last ones are {last}", self.accepted);
        let told = held.print(&lines.collect::<String>(), &done);
        text::or_untold(told, done)?;
        let jobs = batch.lines.iter().zip(&submitted.ids).enumerate();
        for (_, (line, id)) in jobs.filter(|(place, _)| !self.is_quiet && is_skipped(place)) {
            let name = &self.name;
            say(format_args!("{name}:{line}: job {id} has the unique name, so nothing was submitted"));
        }
        Ok(())
    }

    fn wrong(&self, line: usize, reason: &str) -> anyhow::Error {
        let Self { name, accepted, .. } = self;
        UsageError(format!("{name}:{line}: {reason}; {accepted} jobs were accepted, none from this batch on"))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_line_is_told_in_short() {
        let of = |line: &str| fault(&serde_json::from_str::<Job>(line).unwrap_err());
        let misspelt = of(r#"{"argv":["true"],"nmae":"x"}"#);
        assert_eq!(misspelt, r#"a job has no member "nmae" (did you mean "name"?)"#);
        let strange = of(r#"{"argv":["true"],"colour":"red"}"#);
        assert!(strange.starts_with(r#"a job has no member "colour" (`poolctl schema`"#), "{strange}");
        assert!(of("true").starts_with("no JSON object: write a job a line"), "{}", of("true"));
        assert_eq!(of(r#"{"argv":["true"]"#), "the line ends within its JSON");
        assert!(of("make all").contains(", column "), "{}", of("make all"));
    }
}
