//! `poolctl logs`: prints the output of jobs.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, bail};
use clap::Args;
use nix::errno::Errno;
use pool_proto::methods::{Get, Output};
use pool_proto::nouns::OutputFile;
use pool_proto::text::unix_micros;
use pool_proto::{Client, ClientError, Record, Refusal};

use super::Context;
use super::selection::{Named, Scope, Selection, each_of, elements_of, is_unknown};
use crate::cli::UsageError;
use crate::cli::moment::Moment;
use crate::cli::selector::{Selector, selector};
use crate::exit::ExitReason;
use crate::follow::{Follower, Last, Sinks, begin_of, has_times};
use crate::link::connect::Link;
use crate::tell::record::{are_merged, id_of};
use crate::term::outlet::Outlet;
use crate::term::text::{self, CANNOT_WRITE, hint, say};

/// Print the output of jobs
///
/// With several jobs each line begins with the id: `12 | ...`. The output is kept as it was written: the two
/// streams have no order between them, unless the job was submitted with --merge.
#[derive(Debug, Args)]
pub struct LogsOptions {
    /// Jobs by 12, 3-9, last, all, @label, name:x, state:x or pool:x. Of an array the output of all its
    /// elements that have started; 12.4 is one of them
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector())]
    jobs: Vec<Selector>,

    /// Wait for the start, and print until the end, over retries and restarts of poold
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    form: Form,
}

/// What is printed of each job.
#[derive(Debug, Clone, Args)]
struct Form {
    /// Print only the last N lines; with --follow, of what is there, and then what comes
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,

    /// Print only what was written since a time, or so long ago: 09:30, 10m
    ///
    /// Whole lines, and rather more than less: what is longer ago is known less precisely.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Print stderr instead of stdout
    #[arg(long, conflicts_with = "both")]
    stderr: bool,

    /// Print stdout, and stderr to poolctl's stderr
    ///
    /// One after the other; with --follow as they come. Only submit --merge keeps their order.
    #[arg(long)]
    both: bool,

    /// Print the output of all attempts, one after the other; with --follow, also of those that come
    ///
    /// That of the last four is kept. poolctl says which are gone.
    #[arg(long)]
    all_attempts: bool,

    /// Print the output of this attempt, by its number, in place of the latest one
    #[arg(long, value_name = "N", conflicts_with_all = ["all_attempts", "follow"])]
    attempt: Option<u32>,

    /// Begin each line with the id, also of a single job
    #[arg(long, conflicts_with = "no_prefix")]
    prefix: bool,

    /// Print the output of several jobs as it is, one after the other
    #[arg(long, conflicts_with = "follow")]
    no_prefix: bool,
}

/// poold notes when a job writes from its second second on, in microseconds.
const UNTIMED_US: i64 = 2_000_000;

/// So many jobs are followed at a time.
const MOST_FOLLOWED: usize = 64;

impl LogsOptions {
    /// Prints the output of jobs. Those that are named by their ids, and have none, are named.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let scope =
            if self.follow { Scope::LIVING } else { Scope::ANY.with_records(has_output, " that has output") };
        let selection = Selection::find_existing(&mut client, &self.jobs, scope)?;
        let are_several = selection.ids().len() > 1;
        let form = Form { prefix: self.form.prefix || are_several && !self.form.no_prefix, ..self.form };
        if self.follow && are_several {
            return follow_all(&context.link, &form, &selection);
        }

        let singles = singles(&selection);
        let mut exit = selection.exit();
        for &id in selection.ids() {
            let printed = match self.follow {
                true => form.follow(&context.link, id, false),
                false => form.print(&mut client, id),
            };
            match printed {
                Err(error) if are_several && is_refused(&error) => {
                    if singles.contains(&id) {
                        say(format_args!("{error:#}"));
                        exit = ExitReason::Failed;
                    }
                }
                printed => printed?,
            }
        }
        Ok(exit)
    }
}

/// The jobs that are named by their ids.
fn singles(selection: &Selection) -> HashSet<u64> {
    let is_single = |named: &&Named| matches!(named, Named::Range(range) if range.is_single());
    selection.named().iter().filter(is_single).flat_map(Named::ids).collect()
}

/// Follows several jobs at the same time, each on a thread with a connection of its own.
fn follow_all(link: &Link, form: &Form, selection: &Selection) -> anyhow::Result<ExitReason> {
    let count = selection.ids().len();
    if count > MOST_FOLLOWED {
        bail!(UsageError(format!(
            "these are {count} jobs, and logs -f follows {MOST_FOLLOWED} at a time: name fewer"
        )));
    }
    let (sender, receiver) = mpsc::channel();
    for &id in selection.ids() {
        let (link, form, sender) = (link.clone(), form.clone(), sender.clone());
        thread::spawn(move || {
            // Nobody listens any more where poolctl ends for another one's error.
            let _ = sender.send((id, form.follow(&link, id, true)));
        });
    }
    drop(sender);

    let singles = singles(selection);
    let mut exit = selection.exit();
    for (id, followed) in receiver {
        match followed {
            Err(error) if is_refused(&error) => {
                if singles.contains(&id) {
                    say(format_args!("{error:#}"));
                    exit = ExitReason::Failed;
                }
            }
            followed => followed?,
        }
    }
    Ok(exit)
}

impl Form {
    /// What is printed of the output that is there.
    fn lasts(&self) -> Vec<Last> {
        let lines = self.tail.map(Last::Lines);
        let since = self.since.as_ref().map(|since| Last::Since(since.unix_micros()));
        lines.into_iter().chain(since).collect()
    }

    fn sinks(&self, record: &Record) -> Sinks {
        let sinks = if self.both { Sinks::both() } else { Sinks::one(self.stderr && !are_merged(record)) };
        sinks.with_prefix(self.prefix.then(|| format!("{} | ", id_of(record))))
    }

    /// Follows a job, or the elements of an array, one after the other.
    fn follow(&self, link: &Link, id: u64, beside_others: bool) -> anyhow::Result<()> {
        let mut client = link.connect()?;
        let record = client.request(&Get { id })?.record;
        let Some(elements) = elements_of(&record) else {
            let follower = Follower::of_job(link, client, self.sinks(&record), id).showing_last(self.lasts());
            let follower = if beside_others { follower.beside_others() } else { follower };
            if !self.all_attempts {
                follower.attend()?;
                return Ok(());
            }

            let (mut other, mut is_first) = (link.connect()?, true);
            let before = |attempt: u32| {
                if std::mem::take(&mut is_first) {
                    self.print_attempts(&mut other, &record, attempt.saturating_sub(1))?;
                }
                self.print_rule(&record, attempt)
            };
            follower.announcing(before).attend()?;
            return Ok(());
        };
        for element in elements.ids() {
            self.follow(link, element, beside_others)?;
        }
        Ok(())
    }

    /// Prints the output of a job, or of the elements of an array that have started.
    fn print(&self, client: &mut Client, id: u64) -> anyhow::Result<()> {
        let record = client.request(&Get { id })?.record;
        let Some(elements) = elements_of(&record) else {
            self.print_one(client, &record)?;
            self.hint_at_stderr(&record);
            return Ok(());
        };
        let mut started = Vec::new();
        each_of(client, elements, |element| {
            started.extend(has_output(element).then_some(element.id));
        })?;
        for id in started {
            let printed = match client.request(&Get { id }) {
                Ok(got) => self.print_one(client, &got.record),
                Err(error) => Err(error.into()),
            };
            match printed {
                // It has been pruned in this moment.
                Err(error) if error.downcast_ref().is_some_and(is_unknown) => {}
                printed => printed?,
            }
        }
        Ok(())
    }

    /// Nothing was printed, and it is in the other stream that something can be seen.
    fn hint_at_stderr(&self, record: &Record) {
        let bytes = |file: &Option<OutputFile>| file.as_ref().and_then(|file| file.bytes).unwrap_or(0);
        let is_stdout = !self.stderr && !self.both && !self.prefix && self.attempt.is_none();
        if is_stdout && record.state.is_terminal() && bytes(&record.stdout) == 0 && bytes(&record.stderr) > 0
        {
            let id = id_of(record);
            hint(format_args!(
                "job {id} wrote nothing to stdout: `poolctl logs --stderr {id}` prints its stderr"
            ));
        }
    }

    fn print_one(&self, client: &mut Client, record: &Record) -> anyhow::Result<()> {
        if self.all_attempts && record.attempt > 0 && !record.output_pruned {
            return self.print_attempts(client, record, record.attempt);
        }
        self.print_attempt(client, record, self.attempt)
    }

    /// Prints the output of the attempts up to that one, each under a rule. Those that are gone are named.
    fn print_attempts(&self, client: &mut Client, record: &Record, last: u32) -> anyhow::Result<()> {
        let mut first = 1;
        while first <= last && !is_kept(client, record.id, first)? {
            first += 1;
        }
        tell_gone(record, first - 1);
        for attempt in first..=last {
            self.print_rule(record, attempt)?;
            self.print_attempt(client, record, Some(attempt))?;
        }
        Ok(())
    }

    /// What stands between the output of attempts.
    fn print_rule(&self, record: &Record, attempt: u32) -> anyhow::Result<()> {
        let Some(mut outlet) = self.sinks(record).rule() else { return Ok(()) };
        let rule = format!("==> job {}, attempt {attempt} <==\n", id_of(record));
        outlet.write(rule.as_bytes()).map_err(cannot_write)
    }

    /// All is printed, though the job had begun before, since nobody knows when it wrote.
    fn tell_unknown_times(&self, record: &Record, file: &File) -> anyhow::Result<()> {
        let Some(since) = &self.since else { return Ok(()) };
        let started_us = record.started_at.as_deref().and_then(unix_micros).unwrap_or(i64::MAX);
        let is_old = started_us.saturating_add(UNTIMED_US) < since.unix_micros();
        if is_old && file.metadata().context(CANNOT_READ)?.len() > 0 && !has_times(file) {
            let id = id_of(record);
            say(format_args!("when job {id} wrote its output is not known: all of it is printed"));
        }
        Ok(())
    }

    /// Prints the output of one attempt: of the latest one, if it is not named.
    fn print_attempt(
        &self,
        client: &mut Client,
        record: &Record,
        attempt: Option<u32>,
    ) -> anyhow::Result<()> {
        client.request(&Output { id: record.id, attempt })?;
        let files = [File::from(client.take_descriptor()?), File::from(client.take_descriptor()?)];
        for (mut file, outlet) in files.into_iter().zip(self.sinks(record).outlets()) {
            let Some(mut outlet) = outlet else { continue };
            let begin = begin_of(&file, &self.lasts()).context(CANNOT_READ)?;
            if begin > 0 {
                file.seek(SeekFrom::Start(begin)).context(CANNOT_READ)?;
            } else {
                self.tell_unknown_times(record, &file)?;
            }
            // As it is, the kernel copies it.
            match self.prefix || self.both {
                true => pass(&mut file, &mut outlet)?,
                false => text::copy(&mut file)?,
            }
            if self.all_attempts && !self.prefix && !ends_with_newline(&file)? {
                outlet.write(b"\n").map_err(cannot_write)?;
            }
        }
        Ok(())
    }
}

/// Whether the output of an attempt is kept.
fn is_kept(client: &mut Client, id: u64, attempt: u32) -> Result<bool, ClientError> {
    match client.request(&Output { id, attempt: Some(attempt) }) {
        Ok(_) => {
            drop((client.take_descriptor()?, client.take_descriptor()?));
            Ok(true)
        }
        Err(ClientError::Refused(Refusal::NoOutput { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

fn tell_gone(record: &Record, gone: u32) {
    let (id, kept) = (id_of(record), "poold keeps that of a job's last four attempts");
    match gone {
        0 => {}
        1 => say(format_args!("job {id}: the output of attempt 1 is gone: {kept}")),
        gone => say(format_args!("job {id}: the output of the attempts 1 to {gone} is gone: {kept}")),
    }
}

/// Whether the file is empty, or its last line has an end: a rule begins a line.
fn ends_with_newline(file: &File) -> anyhow::Result<bool> {
    let length = file.metadata().context(CANNOT_READ)?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_at(&mut last, length - 1).context(CANNOT_READ)?;
    }
    Ok(last == [b'\n'])
}

const CANNOT_READ: &str = "cannot read the job's output";

fn cannot_write(error: Errno) -> anyhow::Error {
    anyhow::Error::from(std::io::Error::from(error)).context(CANNOT_WRITE)
}

fn pass(file: &mut File, outlet: &mut Outlet) -> anyhow::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer).context(CANNOT_READ)?;
        if count == 0 {
            return outlet.finish().map_err(cannot_write);
        }
        outlet.write(&buffer[..count]).map_err(cannot_write)?;
    }
}

/// Whether there is output of the job itself.
fn has_output(record: &Record) -> bool {
    record.attempt > 0 && !record.output_pruned && elements_of(record).is_none()
}

fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused(_)))
}
