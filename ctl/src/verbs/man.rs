//! `poolctl man`: prints a manual page, or writes all of them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::Context;
use super::nearest::near;
use crate::cli::UsageError;
use crate::exit::ExitReason;
use crate::help::{dressed, man};
use crate::term::text::{self, say};

/// Print a manual page, or write all of them
///
/// They are poolctl(1), a page of each verb, such as poolctl-submit(1), a page of each topic of `poolctl
/// help`, such as poolctl-exit-codes(7), poold(8), and poold.toml(5).
#[derive(Debug, Args)]
pub struct ManOptions {
    /// Write all pages, into man1, man5, man7 and man8 below this directory
    #[arg(long, value_name = "DIR", conflicts_with = "words")]
    dir: Option<PathBuf>,

    /// The words of a verb, a topic, poold, or poold.toml [default: poolctl]
    #[arg(value_name = "PAGE")]
    words: Vec<String>,
}

impl ManOptions {
    /// Prints a page, or writes all of them.
    ///
    /// # Errors
    /// When there is no such page, or a file cannot be written.
    pub fn run(self, _context: &Context) -> anyhow::Result<ExitReason> {
        let pages = man::pages(dressed(super::command()))?;
        let Some(dir) = self.dir else {
            let name = man::name_of(&self.words);
            let Some(page) = pages.iter().find(|page| page.name == name) else {
                // All pages begin with the same word, which says nothing.
                let bare = |name: &'_ str| name.strip_prefix("poolctl-").unwrap_or(name).to_owned();
                let names: Vec<String> = pages.iter().map(|page| bare(&page.name)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let near = near(&bare(&name), &names).map(|near| format!("did you mean {near}?"));
                let hint = near.unwrap_or_else(|| {
                    "there is a page for each verb and topic of `poolctl --help`, and poold and poold.toml".to_owned()
                });
                bail!(UsageError::new(format!("there is no page {name}: {hint}")));
            };
            text::print(&page.text)?;
            return Ok(ExitReason::Success);
        };

        for page in &pages {
            let section = dir.join(format!("man{}", page.section));
            fs::create_dir_all(&section).with_context(|| format!("cannot make {}", section.display()))?;
            let file = section.join(page.file());
            fs::write(&file, &page.text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        say(format_args!("wrote {} pages below {}", pages.len(), dir.display()));
        Ok(ExitReason::Success)
    }
}
