//! Which row is selected, and which rows are on the screen. Rows come and go: a selected row stays selected
//! wherever it is, and where it is gone, the row in its place is.

use std::ops::Range;

/// A row, by what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Pool(String),
    /// A slot, whatever job it has.
    Slot(String, u32),
    Job(u64),
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Cursor {
    selected: Option<Row>,
    index: usize,
    top: usize,
}

impl Cursor {
    /// The row that is selected.
    pub fn selected(&self) -> Option<&Row> {
        self.selected.as_ref()
    }

    /// The place of the selected row among all.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Finds the selected row again among the rows of now.
    pub fn settle(&mut self, rows: &[Row], height: usize) {
        // A selection at the top stays there: what comes in above it is what somebody waits to see.
        let found =
            rows.iter().position(|row| Some(row) == self.selected.as_ref()).filter(|_| self.index > 0);
        self.index = found.unwrap_or(self.index).min(rows.len().saturating_sub(1));
        self.selected = rows.get(self.index).cloned();

        let last_top = rows.len().saturating_sub(height);
        let least = (self.index + 1).saturating_sub(height);
        self.top = self.top.clamp(least, self.index.max(least)).min(last_top.max(least));
    }

    /// Selects the row so many rows below, or above.
    pub fn step(&mut self, rows: &[Row], by: isize) {
        self.select(rows, self.index.saturating_add_signed(by));
    }

    /// Selects the row at that place, or the last.
    pub fn select(&mut self, rows: &[Row], index: usize) {
        self.index = index.min(rows.len().saturating_sub(1));
        self.selected = rows.get(self.index).cloned();
    }

    /// The places of the rows on a screen with room for so many.
    pub fn seen(&self, rows: usize, height: usize) -> Range<usize> {
        self.top.min(rows)..(self.top + height).min(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(ids: impl IntoIterator<Item = u64>) -> Vec<Row> {
        ids.into_iter().map(Row::Job).collect()
    }

    #[test]
    fn a_selection_goes_with_its_row() {
        let mut cursor = Cursor::default();
        let rows = jobs(0..100);
        cursor.settle(&rows, 10);
        assert_eq!((cursor.selected(), cursor.seen(100, 10)), (Some(&Row::Job(0)), 0..10));
        cursor.step(&rows, 12);
        cursor.settle(&rows, 10);
        assert_eq!((cursor.selected(), cursor.seen(100, 10)), (Some(&Row::Job(12)), 3..13));

        let rows = jobs(5..100);
        cursor.settle(&rows, 10);
        assert_eq!((cursor.selected(), cursor.index()), (Some(&Row::Job(12)), 7));
        let rows = jobs(13..100);
        cursor.settle(&rows, 10);
        assert_eq!(cursor.selected(), Some(&Row::Job(20)), "the one in its place");
        cursor.settle(&jobs(0..3), 10);
        assert_eq!((cursor.selected(), cursor.seen(3, 10)), (Some(&Row::Job(2)), 0..3));
        cursor.settle(&[], 10);
        assert_eq!((cursor.selected(), cursor.seen(0, 10)), (None, 0..0));
    }

    #[test]
    fn a_selection_at_the_top_stays_there() {
        let mut cursor = Cursor::default();
        cursor.settle(&jobs(1..3), 10);
        cursor.settle(&jobs(0..3), 10);
        assert_eq!(cursor.selected(), Some(&Row::Job(0)));
    }
}
