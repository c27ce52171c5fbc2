//! The command line of `map`: its options, the command, and where the items come from.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use pool_proto::OsText;
use pool_proto::text::parse_duration;
use regex::bytes::{Regex, RegexBuilder};

use super::halt::{Ends, Halt, Urgency};
use super::items::Items;
use super::sources;
use super::window::Pace;
use crate::cli::job::JobOptions;
use crate::cli::values::{os_text_by, parse_map_name};
use crate::cli::{UsageError, command_words};

/// Run a command for each item, as GNU parallel does
///
/// The items follow `:::`, or come from a file or stdin, one a line. What GNU parallel calls by the same name
/// works alike.
#[derive(Debug, Args)]
pub struct MapOptions {
    /// Print output in the order of the items
    #[arg(short, long)]
    pub keep_order: bool,

    /// Print the item and a tab before each line of its output
    #[arg(long)]
    pub tag: bool,

    /// Show progress on stderr, if it is a terminal
    #[arg(long)]
    pub bar: bool,

    /// Run at most N jobs of the map at a time [default: all slots]
    #[arg(short, long, visible_short_alias = 'P', value_name = "N", value_parser = parse_jobs)]
    pub jobs: Option<usize>,

    /// Wait so long from one submission to the next
    ///
    /// None is submitted ahead of a free slot.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub delay: Option<Duration>,

    /// Print the commands instead of running them
    #[arg(long)]
    pub dry_run: bool,

    /// Write a line for each job that has ended
    ///
    /// In the columns of GNU parallel's log. +FILE adds to a file.
    #[arg(long, value_name = "[+]FILE", conflicts_with = "call")]
    pub joblog: Option<PathBuf>,

    /// Run the items in random order, after all are read
    #[arg(long)]
    pub shuf: bool,

    /// Split each value into columns {1}, {2} and so on
    ///
    /// Wherever the regular expression matches.
    #[arg(long, value_name = "REGEX", value_parser = parse_column_separator)]
    pub colsep: Option<Regex>,

    /// Read the items from a file, or - for stdin [default: stdin]
    #[arg(short = 'a', long, value_name = "FILE|-")]
    pub arg_file: Option<PathBuf>,

    /// NUL bytes end the items that are read, not newlines
    #[arg(short = '0', long)]
    pub null: bool,

    /// Stop early: soon,fail=1; now,success=2; soon,done=9
    ///
    /// soon lets running jobs end, now ends them; fail, success or done is what is counted.
    #[arg(
        long,
        value_name = "never|soon,WHAT=N|now,WHAT=N",
        default_value_t = Halt::Never,
        conflicts_with = "max_fails"
    )]
    pub halt: Halt,

    /// Stop when more than N items fail: --halt now,fail=N+1
    #[arg(long, value_name = "N")]
    pub max_fails: Option<u64>,

    /// Exit with the number of failures, at most 101
    #[arg(long)]
    pub fail_count: bool,

    /// Name the map, and skip what has succeeded under this name
    ///
    /// When it is cut off, the same command shows what has succeeded and runs the rest.
    #[arg(long, value_name = "NAME", value_parser = os_text_by(parse_map_name))]
    pub resume: Option<OsText>,

    /// Call a method of a warm pool for each item
    ///
    /// The item's values are the parameters: a JSON value a line in, a JSON value a line out.
    #[arg(long, num_args = 2, value_names = ["POOL", "METHOD"], conflicts_with = "pool")]
    pub call: Option<Vec<String>>,

    #[command(flatten)]
    pub job: JobOptions,

    /// The command with {} for the item, then `:::` and the items
    ///
    /// No shell reads it. {.} {/} {//} {/.} are parts of the item, {1} {2} its values, and {#} its number.
    /// Without `:::` the items are read. Several `:::` make an item of each combination, `:::+` links two;
    /// `::::` is followed by files.
    #[arg(trailing_var_arg = true, required_unless_present = "call", value_name = "COMMAND [::: ITEM]")]
    pub command: Vec<OsString>,
}

/// What the words after the options say.
#[derive(Debug)]
pub struct Asked {
    /// The command, with its places. Empty for calls.
    pub command: Vec<OsText>,
    pub items: Items,
    /// The number of values of each item, if it is known.
    pub values: Option<usize>,
}

impl MapOptions {
    /// The command, and its items.
    ///
    /// # Errors
    /// When the words contradict each other or the options, or the items cannot be read.
    pub fn asked(&self) -> anyhow::Result<Asked> {
        let mut command = command_words(&self.command)?;
        let sources = sources::take_off(&mut command);

        if self.call.is_some() && !command.is_empty() {
            bail!(UsageError(
                "--call names what is called, so there is no command besides: leave the command out"
                    .to_owned()
            ));
        }
        if command.is_empty() && self.call.is_none() {
            bail!(UsageError(
                "there is no command before the items: write `poolctl map -- COMMAND ::: ITEM...`".to_owned()
            ));
        }

        let separator = if self.null { 0 } else { b'\n' };
        let (mut items, count) = match sources {
            Some(_) if self.arg_file.is_some() => {
                bail!(UsageError(
                    "items come from --arg-file or after the command, not from both: write `:::: FILE` there \
                     for one source among others"
                        .to_owned()
                ))
            }
            Some(sources) => sources::items(&sources, separator)?,
            None => (Items::read(self.arg_file.as_deref(), separator)?, 1),
        };

        if let Some(column_separator) = self.colsep.clone() {
            items = items.split(column_separator);
        }
        if self.shuf {
            items = items.shuffled()?;
        }
        let values = self.colsep.is_none().then_some(count);
        Ok(Asked { command, items, values })
    }

    /// How fast jobs are submitted.
    pub fn pace(&self) -> Pace {
        Pace { at_a_time: self.jobs, delay: self.delay.unwrap_or_default() }
    }

    /// When the map starts no more jobs.
    pub fn halt(&self) -> Halt {
        match self.max_fails {
            Some(count) => {
                Halt::After { urgency: Urgency::Now, ends: Ends::Fail, count: count.saturating_add(1) }
            }
            None => self.halt,
        }
    }
}

fn parse_jobs(text: &str) -> Result<usize, String> {
    // GNU parallel takes +2 as two more than there are processors.
    let count = text.parse().ok().filter(|&count| count > 0 && !text.starts_with('+'));
    count.ok_or_else(|| {
        "write 1 or more, or leave the option out for as many as the pool has slots".to_owned()
    })
}

/// Reads an expression that matches bytes, as items need not be UTF-8.
///
/// # Errors
/// When it is none, or matches an empty text.
pub fn parse_column_separator(text: &str) -> Result<Regex, String> {
    let regex = RegexBuilder::new(text).unicode(false).build().map_err(|error| {
        format!("{error}; write what stands between columns: , or '\\t' or '\\s+', and '\\|' for a |")
    })?;
    if regex.is_match(b"") {
        return Err(
            "this pattern also matches an empty text, and so between any two bytes: write what stands \
                    between columns, such as , or '\\t' or '\\s+', and '\\|' for a |"
                .to_owned(),
        );
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_options() {
        assert_eq!(parse_jobs("3"), Ok(3));
        for text in ["0", "-1", "50%", "+2", "x", ""] {
            assert!(parse_jobs(text).is_err(), "{text}");
        }
        for text in [",", r"\t", " +", r"\|", "é", "[;:]"] {
            assert_eq!(parse_column_separator(text).err(), None, "{text}");
        }
        for text in ["", "|", " *", "(", "["] {
            assert!(parse_column_separator(text).unwrap_err().contains("write"), "{text}");
        }
    }
}
