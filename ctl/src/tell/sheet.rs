//! Rows of jobs, laid out for a terminal: one line a job, cut at its width.

use std::time::SystemTime;

use super::record::work_line;
use super::row::{Column, Row};
use crate::term::style::Tone;
use crate::term::width::{cell, columns, left, right};

/// Between two columns.
const GAP: &str = "  ";

/// The least that a column of any length is given.
const LEAST: usize = 12;

/// From so many columns on the command stands behind the name.
const WIDE: usize = 110;

/// How wide each column is.
#[derive(Debug, Clone)]
pub struct Sheet {
    columns: Vec<(Column, usize)>,
    /// The columns of the terminal.
    width: usize,
    /// What of the last column is kept for notes.
    notes: usize,
    has_color: bool,
    now: SystemTime,
}

impl Sheet {
    /// A layout for these rows. Rows that come later may need more; then they are cut, or move the rest of
    /// their own line.
    pub fn of(shown: &[Column], rows: &[Row], width: usize, has_color: bool, now: SystemTime) -> Self {
        let natural = |column: Column| {
            let cells = rows.iter().map(|row| columns(&cell(&row.cell(column, now), width)));
            cells.max().unwrap_or(0).max(columns(&column.heading()))
        };
        let mut widths: Vec<(Column, usize)> =
            shown.iter().map(|&column| (column, natural(column))).collect();
        let taken: usize =
            widths.iter().filter(|(column, _)| !column.is_long()).map(|(_, width)| width).sum();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let mut room = width.saturating_sub(taken + gaps);
        let mut left_over = widths.iter().filter(|(column, _)| column.is_long()).count();
        for (_, width) in widths.iter_mut().filter(|(column, _)| column.is_long()) {
            let share = if left_over == 1 { room } else { (room / left_over).max(LEAST) };
            *width = (*width).min(share).max(LEAST.min(share));
            room = room.saturating_sub(*width);
            left_over -= 1;
        }

        let notes = match widths.last() {
            Some(&(Column::Work, _)) => {
                let notes = rows.iter().map(|row| columns(&cell(&row.notes(now), width)));
                notes.max().unwrap_or(0)
            }
            _ => 0,
        };
        Self { columns: widths, width, notes, has_color, now }
    }

    /// The line of the headings, with its newline.
    pub fn heading(&self) -> String {
        let mut line = String::new();
        for &(column, width) in &self.columns {
            let heading = column.heading();
            let heading = if column.is_right() { right(&heading, width) } else { left(&heading, width) };
            line += &heading;
            line += GAP;
        }
        let line = cell(line.trim_end(), self.width);
        format!("{}\n", Tone::Faint.paint(&line, self.has_color))
    }

    /// The line of a job, with its newline.
    pub fn line(&self, row: &Row) -> String {
        let mut line = String::new();
        let mut taken = 0;
        for (place, &(column, width)) in self.columns.iter().enumerate() {
            if place > 0 {
                line += GAP;
                taken += GAP.len();
            }
            let room = self.width.saturating_sub(taken);
            if column == Column::Work && place + 1 == self.columns.len() {
                line += &self.work(row, room);
                break;
            }
            let most = if column.is_long() { width.min(room) } else { room };
            let text = cell(&row.cell(column, self.now), most);
            let padded = if column.is_right() { right(&text, width) } else { left(&text, width) };
            taken += columns(&padded);
            line += &match column {
                Column::State => row.tone().paint(&padded, self.has_color),
                Column::Age => Tone::Faint.paint(&padded, self.has_color),
                _ => padded.as_str().into(),
            };
        }
        format!("{}\n", line.trim_end())
    }

    /// What the job is called or does, and its notes, which stand below each other where there is room.
    fn work(&self, row: &Row, room: usize) -> String {
        let notes = cell(&row.notes(self.now), room / 2);
        let for_work = match columns(&notes) {
            0 => room,
            taken => room.saturating_sub(taken + GAP.len()),
        };
        let mut work = cell(&row.work(), for_work);
        if row.record.name.is_some() && self.width >= WIDE {
            let left = for_work.saturating_sub(columns(&work) + GAP.len());
            if left >= LEAST {
                let command = cell(&work_line(&row.record), left);
                work = format!("{work}{GAP}{}", Tone::Faint.paint(&command, self.has_color));
            }
        }
        if notes.is_empty() {
            return work;
        }
        let aligned = room.saturating_sub(self.notes.min(room / 2) + GAP.len()).min(for_work);
        // A colour takes no column.
        let shown = columns(&work) - if work.contains('\x1b') { "[2m[0m".len() } else { 0 };
        let gap = aligned.saturating_sub(shown) + GAP.len();
        format!("{work}{:gap$}{}", "", Tone::Attention.paint(&notes, self.has_color))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tell::when;

    fn rows() -> Vec<Row> {
        let record = |members: serde_json::Value| {
            let mut value = serde_json::json!({
                "schema": 1, "id": 5, "state": "running", "pool": "default", "cwd": "/", "attempt": 1,
                "crashes": 0, "on_crash": "requeue", "submitted_at": "2026-11-26T20:30:00Z", "callbacks": [],
            });
            let members = members.as_object().expect("members").clone();
            value.as_object_mut().expect("it is one").extend(members);
            Row::of(serde_json::from_value(value).expect("it is a record"))
        };
        let mut flaky = record(serde_json::json!({
            "id": 10, "state": "queued", "pool": "gpu", "name": "flaky", "argv": ["true"], "priority": 5,
        }));
        flaky.place = Some(1);
        vec![
            record(serde_json::json!({
                "pool": "gpu", "name": "train", "argv": ["python", "train.py"],
                "started_at": "2026-11-26T20:30:00Z",
            })),
            record(serde_json::json!({
                "id": 6, "argv": ["sh", "-c", "sleep 500; rsync -a /srv/data/ backup:/srv/data/"],
                "started_at": "2026-11-26T20:30:00Z",
            })),
            flaky,
            record(serde_json::json!({
                "id": 4, "state": "timed_out", "result": "timeout", "argv": ["sleep", "9"], "wall_s": 0.2031,
            })),
            record(serde_json::json!({
                "id": 2, "state": "failed", "result": "exit-code", "exit_code": 101, "wall_s": 0.007,
                "name": "a\u{1b}[31m\n日本語日本語日本語", "argv": ["x"], "labels": ["ci"],
            })),
        ]
    }

    fn drawn(width: usize, has_color: bool) -> String {
        let now = when::parse("2026-11-26T20:30:12Z").expect("it is a time");
        let rows = rows();
        let sheet = Sheet::of(&Column::USUAL, &rows, width, has_color, now);
        sheet.heading() + &rows.iter().map(|row| sheet.line(row)).collect::<String>()
    }

    #[test]
    fn a_row_is_a_line_at_each_width() {
        let expected = "\
ID  STATE       POOL     TIME  AGE  NAME / COMMAND
 5  > running   gpu       12s  12s  train
 6  > running   default   12s  12s  sh -c 'sleep 500; rsync -a /srv/data/ bac...
10  - queued 1  gpu            12s  flaky                             priority 5
 4  x timeout   default  0.2s  12s  sleep 9
 2  x exit 101  default  7 ms  12s  a\\u{1b}[31m\\n日本語日本語日本語   @ci
";
        assert_eq!(drawn(80, false), expected);
        for width in [10, 20, 40, 80, 200] {
            let drawn = drawn(width, false);
            assert_eq!(drawn.lines().count(), 6);
            let most = if width < 60 { 60 } else { width };
            assert!(drawn.lines().all(|line| columns(line) <= most), "{width}: {drawn}");
        }
        let wide = drawn(200, false);
        assert!(wide.contains("train  python train.py") && wide.contains("backup:/srv/data/'"), "{wide}");
    }

    #[test]
    fn colors_change_no_place() {
        let plain = drawn(80, false);
        let mut colored = drawn(80, true);
        for code in ["0", "2", "31", "32", "33", "34", "36"] {
            colored = colored.replace(&format!("\x1b[{code}m"), "");
        }
        let trimmed =
            |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<String>>();
        assert_eq!(trimmed(&colored), trimmed(&plain));
    }
}
