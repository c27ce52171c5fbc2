//! `poolctl config show`: the settings that are in force.

use std::fmt::Write;

use clap::Args;
use pool_proto::OsText;
use pool_proto::methods::{Settings, SettingsListed};
use pool_proto::nouns::{SCHEMA, Setting, SettingSource};
use serde::Serialize;

use super::super::Context;
use crate::exit::ExitReason;
use crate::term::text::printable;
use crate::term::{json, text};

/// Show the settings that are in force, and where each comes from
///
/// In the form of the configuration's file. Pools and schedules that were added at run time are in `pool ls`
/// and `schedule ls`.
#[derive(Debug, Args)]
pub struct ShowConfigOptions {}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct SettingsDocument<'a> {
    schema: u32,
    #[serde(flatten)]
    listed: &'a SettingsListed,
}

impl ShowConfigOptions {
    /// Shows the settings.
    ///
    /// # Errors
    /// When poold has gone, or stdout takes nothing.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let listed = context.link.connect()?.request(&Settings {})?;
        match context.as_json {
            true => json::print(&SettingsDocument { schema: SCHEMA, listed: &listed })?,
            false => text::print(&as_file(&listed))?,
        }
        Ok(ExitReason::Success)
    }
}

/// The settings as a file, with their sources as comments.
fn as_file(listed: &SettingsListed) -> String {
    let file = listed.config.as_ref().map_or("the configuration".to_owned(), OsText::to_string);
    let file = printable(&file, usize::MAX);
    let mut text = String::new();
    // Those of no table come first: in TOML they would belong to the table above them.
    let mut settings: Vec<(&str, &str, &Setting)> = listed
        .settings
        .iter()
        .map(|setting| {
            let (table, name) = setting.name.rsplit_once('.').unwrap_or(("", &setting.name));
            (table, name, setting)
        })
        .collect();
    settings.sort_by_key(|(table, _, _)| *table);
    let width = settings.iter().map(|(_, name, setting)| name.len() + setting.value.len() + 3);
    let width = width.filter(|&width| width < 48).max().unwrap_or(0);

    let mut above = "";
    for (table, name, setting) in settings {
        if table != above {
            _ = writeln!(text, "\n[{}]", printable(table, usize::MAX));
            above = table;
        }
        let source = match (setting.source, setting.line) {
            (SettingSource::Default, _) => "default".to_owned(),
            (SettingSource::File, Some(line)) => format!("{file}, line {line}"),
            (SettingSource::File, None) => file.clone(),
            (SettingSource::Option, _) => format!("poold --{name}"),
            (SettingSource::Set, _) if table.starts_with("limit") => "poolctl limit set".to_owned(),
            (SettingSource::Set, _) => "poolctl pool set".to_owned(),
        };
        let line = printable(&format!("{name} = {}", setting.value), usize::MAX);
        _ = writeln!(text, "{line:width$}  # {source}");
    }
    text
}
