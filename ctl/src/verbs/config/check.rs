//! `poolctl config check`: reads a configuration as poold does, by poold itself.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::Args;
use pool_proto::OsText;
use pool_proto::location::default_config;
use pool_proto::nouns::SCHEMA;
use serde_json::json;

use super::super::Context;
use crate::cli::UsageError;
use crate::exit::ExitReason;
use crate::link::connect::daemon_program;
use crate::term::json;
use crate::term::text::{print, printable, say};

/// Read a configuration as poold does, and say what is wrong
///
/// Says line, column and what to do. The code is 1 if something is wrong. What poold takes although its
/// schedules name what their pools do not have is said, too, and the code is 0.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// The file [default: that which your poold reads]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl CheckOptions {
    /// Has poold read the file.
    ///
    /// # Errors
    /// When there is no poold to read it, or the file that poold would read cannot be told.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let is_named = self.file.is_some();
        let Some(file) = self.file.or_else(default_config) else {
            bail!(UsageError::new("you have no home directory, and so no configuration: name a file"));
        };
        let program = daemon_program();
        let mut poold = Command::new(&program);
        let said = poold.arg("--check-config").arg(&file).stdin(Stdio::null()).output();
        let said =
            said.with_context(|| format!("cannot run {}, which checks the file", program.display()))?;

        let message = String::from_utf8_lossy(&said.stderr);
        let message = message.trim_end().strip_prefix("poold: ").unwrap_or(message.trim_end());
        let is_valid = said.status.success();
        let defaults = "there is none, so poold has its defaults; `poolctl config init` prints one";
        let message = if is_named || file.exists() { message } else { defaults };
        let name = OsText::from(file.as_path());
        let doubts = String::from_utf8_lossy(&said.stdout);
        let doubts: Vec<&str> = doubts.lines().collect();
        if context.as_json {
            let message = (!is_valid).then_some(message);
            let document = json!({
                "schema": SCHEMA, "file": name, "valid": is_valid, "message": message, "warnings": doubts,
            });
            json::print(&document)?;
        } else if is_valid && !doubts.is_empty() {
            doubts.iter().for_each(say);
            print(&format!("{}: poold takes it as it is\n", printable(&name.to_string(), usize::MAX)))?;
        } else if is_valid {
            print(&format!("{}: nothing is wrong\n", printable(&name.to_string(), usize::MAX)))?;
        } else {
            // Some faults show the line, below the sentence.
            let subject = if message == defaults { format!("{}: ", file.display()) } else { String::new() };
            (subject + message).lines().for_each(say);
        }
        Ok(if is_valid { ExitReason::Success } else { ExitReason::Unwell })
    }
}
