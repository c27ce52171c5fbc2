//! Tables for people: columns below each other, without lines between them.

use comfy_table::{ContentArrangement, Table, presets};

/// A table without rows.
pub fn empty() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// The lines of a table, without spaces at their ends.
pub fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}
