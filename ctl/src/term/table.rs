//! Tables for people: columns below each other, without lines between them.

use comfy_table::{ContentArrangement, Table, presets};

use super::width::{Size, columns, cut};

/// A table without rows.
pub fn empty() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// The lines of a table, without spaces at their ends. On a terminal they are cut at its width.
pub fn lines(table: &Table) -> String {
    let width = Size::of_stdout().map_or(usize::MAX, |size| size.columns);
    table.lines().map(|line| format!("{}\n", cut(line.trim(), width))).collect()
}

/// The columns that the longest line of a table takes.
pub fn width(table: &Table) -> usize {
    table.lines().map(|line| columns(line.trim())).max().unwrap_or(0)
}
