//! How far calls have come, for people who wait at a terminal: on stderr, a line for each that runs, written over by what it tells next and gone
//! with its end. Elsewhere nothing.
//!
//! A program may tell more than anybody can read. So what is told is noted, and shown when nothing more is at hand.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pool_proto::interface::CallProgress;

use crate::print;

/// See the module's description.
#[derive(Debug)]
pub struct ProgressLines {
    terminal: Option<MultiProgress>,
    /// Each line says whose it is.
    with_ids: bool,
    lines: BTreeMap<u64, Line>,
}

#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    is_shown: bool,
}

impl ProgressLines {
    /// Of one job.
    pub fn of_one() -> Self {
        let terminal =
            stderr().is_terminal().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { terminal, with_ids: false, lines: BTreeMap::new() }
    }

    /// Of many jobs.
    pub fn of_many() -> Self {
        Self { with_ids: true, ..Self::of_one() }
    }

    /// Of none.
    pub fn hidden() -> Self {
        Self { terminal: None, with_ids: false, lines: BTreeMap::new() }
    }

    /// Whether anybody sees them.
    pub fn are_seen(&self) -> bool {
        self.terminal.is_some()
    }

    /// A call has told how far it has come.
    pub fn note(&mut self, id: u64, progress: &CallProgress) {
        let Some(terminal) = &self.terminal else { return };
        let text = print::progress(progress);
        let text = if self.with_ids { format!("job {id}: {text}") } else { text };
        let line = self.lines.entry(id).or_insert_with(|| {
            let bar = ProgressBar::no_length().with_style(style());
            Line { bar: terminal.add(bar), is_shown: false }
        });
        // Another handle to the same line, whose text is set without its being drawn.
        let _ = line.bar.clone().with_message(text);
        line.is_shown = false;
    }

    /// Shows what has been noted.
    pub fn show(&mut self) {
        for line in self.lines.values_mut().filter(|line| !line.is_shown) {
            line.bar.force_draw();
            line.is_shown = true;
        }
    }

    /// A call has ended.
    pub fn end(&mut self, id: u64) {
        if let Some((terminal, line)) = self.terminal.as_ref().zip(self.lines.remove(&id)) {
            line.bar.finish_and_clear();
            terminal.remove(&line.bar);
        }
    }

    /// All that was known is known no more.
    pub fn clear(&mut self) {
        let ids: Vec<u64> = self.lines.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id));
    }

    /// Does what may write to the terminal, with the lines out of the way.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.terminal {
            Some(terminal) if !self.lines.is_empty() => terminal.suspend(act),
            Some(_) | None => act(),
        }
    }
}

fn style() -> ProgressStyle {
    // As much of it as fits.
    ProgressStyle::with_template("{wide_msg}").expect("the template is sound")
}
