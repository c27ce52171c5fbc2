//! The progress of calls, for people who wait at a terminal. Each running call has a line on stderr, which
//! shows the latest progress and disappears when the call ends. Without a terminal nothing is shown.
//!
//! A program may send more progress than anybody can read. So progress is noted first, and is shown when no
//! more replies are at hand.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pool_proto::nouns::CallProgress;

use super::bar::Bar;
use super::text::printable;
use super::width::{Size, cut};

/// See the module's description.
#[derive(Debug)]
pub struct ProgressLines {
    terminal: Option<MultiProgress>,
    /// Each line names its job.
    with_ids: bool,
    lines: BTreeMap<u64, ProgressLine>,
    /// A bar stands among the lines.
    has_bar: bool,
}

#[derive(Debug)]
struct ProgressLine {
    bar: ProgressBar,
    is_shown: bool,
}

impl ProgressLines {
    /// The line of one job.
    pub fn of_one() -> Self {
        let terminal =
            stderr().is_terminal().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { terminal, with_ids: false, lines: BTreeMap::new(), has_bar: false }
    }

    /// The lines of many jobs.
    pub fn of_many() -> Self {
        Self { with_ids: true, ..Self::of_one() }
    }

    /// No lines.
    pub fn hidden() -> Self {
        Self { terminal: None, with_ids: false, lines: BTreeMap::new(), has_bar: false }
    }

    /// A bar for so many jobs, which stands among the lines.
    pub fn bar(&mut self, total: u64) -> Bar {
        let Some(terminal) = &self.terminal else { return Bar::hidden() };
        self.has_bar = true;
        Bar::among(terminal, total)
    }

    /// Whether the lines are on a terminal.
    pub fn are_seen(&self) -> bool {
        self.terminal.is_some()
    }

    /// Notes the progress of a call.
    pub fn note(&mut self, id: u64, progress: &CallProgress) {
        self.note_line(id, describe(progress));
    }

    /// Notes something else about a job.
    pub fn note_text(&mut self, id: u64, text: &str) {
        self.note_line(id, printable(text, usize::MAX));
    }

    fn note_line(&mut self, id: u64, text: String) {
        let Some(terminal) = &self.terminal else { return };
        let text = if self.with_ids { format!("job {id}: {text}") } else { text };
        // The last column stays free: not every terminal stays on the line after it.
        let text = cut(&text, Size::of_stderr().columns.saturating_sub(1)).into_owned();

        let line = self.lines.entry(id).or_insert_with(|| {
            let bar = ProgressBar::no_length().with_style(style());
            ProgressLine { bar: terminal.add(bar), is_shown: false }
        });

        // This is another handle to the same line. It sets the text without drawing the line.
        let _ = line.bar.clone().with_message(text);
        line.is_shown = false;
    }

    /// Shows all noted progress.
    pub fn show(&mut self) {
        for line in self.lines.values_mut().filter(|line| !line.is_shown) {
            line.bar.force_draw();
            line.is_shown = true;
        }
    }

    /// Removes the line of a call that has ended.
    pub fn end(&mut self, id: u64) {
        if let Some((terminal, line)) = self.terminal.as_ref().zip(self.lines.remove(&id)) {
            line.bar.finish_and_clear();
            terminal.remove(&line.bar);
        }
    }

    /// Removes all lines.
    pub fn clear(&mut self) {
        let ids: Vec<u64> = self.lines.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id));
    }

    /// Calls `act`, which may write to the terminal, with the lines removed for that time.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.terminal {
            Some(terminal) if self.has_bar || !self.lines.is_empty() => terminal.suspend(act),
            Some(_) | None => act(),
        }
    }
}

/// The progress of a call in a few words.
pub fn describe(progress: &CallProgress) -> String {
    let percent = progress.fraction.map(|fraction| format!("{:.0} %", fraction * 100.0));
    let text = progress.text.as_ref().map(|text| printable(text, usize::MAX));
    [percent, text].into_iter().flatten().collect::<Vec<String>>().join("  ")
}

fn style() -> ProgressStyle {
    // The text is cut to the width of the terminal.
    ProgressStyle::with_template("{wide_msg}").expect("the template is sound")
}
