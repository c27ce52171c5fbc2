//! The command line of `map`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::halt::Halt;
use crate::cli::JobOptions;

#[derive(Debug, Args)]
pub struct MapOptions {
    /// Print in the order of the items, not in that of the ends
    #[arg(short, long)]
    pub keep_order: bool,

    /// Put the item and a tab before each line of its output
    #[arg(long)]
    pub tag: bool,

    /// Show progress, rate and the time left on stderr, if that is a terminal
    #[arg(long)]
    pub bar: bool,

    /// Read the items from a file, or - for stdin [default: stdin]
    #[arg(short = 'a', long, value_name = "FILE|-")]
    pub arg_file: Option<PathBuf>,

    /// What is read is separated by NUL bytes, not by newlines
    #[arg(short = '0', long)]
    pub null: bool,

    /// When to start nothing more: never, or soon (let what runs end) or now (end it), and after how many ends: soon,fail=1
    #[arg(long, value_name = "never|soon,WHAT=N|now,WHAT=N", default_value_t = Halt::Never, conflicts_with = "max_fails")]
    pub halt: Halt,

    /// Up to so many items may fail: the same as --halt now,fail=N+1
    #[arg(long, value_name = "N")]
    pub max_fails: Option<u64>,

    /// Exit with the number of items that failed, 101 for more than 100
    #[arg(long)]
    pub fail_count: bool,

    /// A map of this name can be cut off and given again: what has succeeded is shown, not run
    #[arg(long, value_name = "NAME")]
    pub resume: Option<String>,

    /// Call a method of a warm pool's program for each item, which is its one parameter: a JSON value a line in, a JSON value a line out
    #[arg(long, num_args = 2, value_names = ["POOL", "METHOD"], conflicts_with = "pool")]
    pub call: Option<Vec<String>>,

    #[command(flatten)]
    pub job: JobOptions,

    /// The command, {} for the item and {#} for its number; then, unless they are read, `:::` and the items. No shell is put between
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "call",
        value_name = "COMMAND [::: ITEM]"
    )]
    pub command: Vec<OsString>,
}
