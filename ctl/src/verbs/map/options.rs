//! The command line of `map`: its options, the command, and where the items come from.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use pool_proto::OsText;

use super::halt::{Ends, Halt, Urgency};
use super::items::Items;
use crate::cli::job::JobOptions;
use crate::cli::values::{os_text_by, parse_map_name};
use crate::cli::{UsageError, command_words};

/// Run a command for each item, through a pool. The items follow `:::`, or come from a file or stdin, one a
/// line
#[derive(Debug, Args)]
pub struct MapOptions {
    /// Print output in the order of the items, not in the order in which jobs end
    #[arg(short, long)]
    pub keep_order: bool,

    /// Print the item and a tab before each line of its output
    #[arg(long)]
    pub tag: bool,

    /// Show progress, rate and the time left on stderr, if stderr is a terminal
    #[arg(long)]
    pub bar: bool,

    /// Read the items from a file, or - for stdin [default: stdin]
    #[arg(short = 'a', long, value_name = "FILE|-")]
    pub arg_file: Option<PathBuf>,

    /// NUL bytes separate the items that are read, not newlines
    #[arg(short = '0', long)]
    pub null: bool,

    /// When to start no more jobs, and what happens to running ones. soon lets them end, now ends them; WHAT
    /// is fail, success or done, and N how many: soon,fail=1
    #[arg(
        long,
        value_name = "never|soon,WHAT=N|now,WHAT=N",
        default_value_t = Halt::Never,
        conflicts_with = "max_fails"
    )]
    pub halt: Halt,

    /// N items may fail: the same as --halt now,fail=N+1
    #[arg(long, value_name = "N")]
    pub max_fails: Option<u64>,

    /// Exit with the number of items that failed; 101 stands for more than 100
    #[arg(long)]
    pub fail_count: bool,

    /// Give the map a name. When it is cut off, the same command shows what has succeeded and runs the rest
    #[arg(long, value_name = "NAME", value_parser = os_text_by(parse_map_name))]
    pub resume: Option<OsText>,

    /// Call a method of a warm pool's program for each item. The item is the one parameter: a JSON value a
    /// line in, a JSON value a line out
    #[arg(long, num_args = 2, value_names = ["POOL", "METHOD"], conflicts_with = "pool")]
    pub call: Option<Vec<String>>,

    #[command(flatten)]
    pub job: JobOptions,

    /// The command, which no shell reads, with {} for the item and {#} for its number; then `:::` and the
    /// items, unless they are read
    #[arg(trailing_var_arg = true, required_unless_present = "call", value_name = "COMMAND [::: ITEM]")]
    pub command: Vec<OsString>,
}

/// The word before the items on the command line.
const SEPARATOR: &str = ":::";

impl MapOptions {
    /// The command, and where its items come from.
    ///
    /// # Errors
    /// When the words contradict each other or the options, or the items cannot be read.
    pub fn split(&self) -> anyhow::Result<(Vec<OsText>, Items)> {
        let mut words = command_words(&self.command)?;

        let place = words.iter().position(|word| *word == SEPARATOR);
        let given = place.map(|place| words.split_off(place).split_off(1));

        if self.call.is_some() && !words.is_empty() {
            bail!(UsageError(
                "--call names what is called, so there is no command besides: leave the command out"
                    .to_owned()
            ));
        }
        if words.is_empty() && self.call.is_none() {
            bail!(UsageError(
                "there is no command before the items: write `poolctl map -- COMMAND ::: ITEM...`".to_owned()
            ));
        }

        let items = match given {
            Some(_) if self.arg_file.is_some() => {
                bail!(UsageError(
                    "items come from --arg-file or after `:::`, not from both: leave one out".to_owned()
                ))
            }
            Some(items) if items.iter().any(|item| *item == SEPARATOR) => {
                bail!(UsageError(
                    "`:::` may be given once: there are no combinations of several lists of items".to_owned()
                ))
            }
            Some(items) => Items::given(items),
            None => Items::read(self.arg_file.as_deref(), if self.null { 0 } else { b'\n' })?,
        };
        Ok((words, items))
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
