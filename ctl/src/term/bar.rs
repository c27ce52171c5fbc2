//! The bar of `map --bar`, `wait` and `shutdown`: how many items have ended and failed, how fast, and how
//! long the rest will take.

use std::cell::Cell;
use std::fmt;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

/// See the module's description. Without a terminal there is no bar.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    /// It has been seen, and counts how fast items end.
    has_begun: Cell<bool>,
}

/// A bar among other lines is seen after this time.
const UNSEEN: Duration = Duration::from_millis(300);

impl Bar {
    /// A bar that nobody sees.
    pub fn hidden() -> Self {
        Self { bar: None, has_begun: Cell::new(true) }
    }

    /// A bar on stderr. `total`: the number of items, if it is known yet.
    pub fn on_stderr(total: Option<u64>) -> Self {
        if !stderr().is_terminal() {
            return Self::hidden();
        }
        let shown = Self::unseen(total);
        shown.bar.iter().for_each(|bar| bar.set_draw_target(ProgressDrawTarget::stderr()));
        shown
    }

    /// A bar among other lines. It is seen when it has lasted for a moment; what has ended by then had ended
    /// before, or came at once, and says nothing of how fast the rest goes.
    pub fn among(lines: &MultiProgress, total: u64) -> Self {
        let Self { bar, .. } = Self::unseen(Some(total));
        Self { bar: bar.map(|bar| lines.add(bar)), has_begun: Cell::new(false) }
    }

    /// A bar that was not drawn yet.
    fn unseen(total: Option<u64>) -> Self {
        let bar = ProgressBar::hidden();
        bar.unset_length();
        bar.set_style(style("{pos} done{msg}, {rate}, {elapsed}"));
        let unseen = Self { bar: Some(bar), has_begun: Cell::new(true) };
        total.into_iter().for_each(|total| unseen.set_total(total));
        unseen
    }

    /// From now on the number of items is known.
    pub fn set_total(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_style(style("[{wide_bar}] {pos}/{len}{msg}, {rate}, {left} left"));
        }
    }

    /// Whether the bar is on a terminal.
    pub fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows how many items have ended, and how many of these have failed.
    pub fn update(&self, done: u64, failed: u64) {
        let Some(bar) = &self.bar else { return };
        let begins = !self.has_begun.get();
        if begins && bar.elapsed() < UNSEEN {
            return;
        }
        bar.set_position(done);
        if begins {
            bar.reset_eta();
            self.has_begun.set(true);
        }
        if failed > 0 {
            bar.set_message(format!(", {failed} failed"));
        }
    }

    /// Shows the time that has passed.
    pub fn tick(&self) {
        self.bar.iter().filter(|_| self.has_begun.get()).for_each(ProgressBar::tick);
    }

    /// Calls `act`, which writes to the terminal, with the bar removed for that time.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(act),
            None => act(),
        }
    }

    /// Leaves the last state of the bar on the terminal, if it was seen.
    pub fn finish(&self) {
        match &self.bar {
            Some(bar) if self.has_begun.get() => bar.abandon(),
            Some(bar) => bar.finish_and_clear(),
            None => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is sound");
    style
        .with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
            _ = write_rate(state.per_sec(), text)
        })
        .with_key("left", |state: &ProgressState, text: &mut dyn fmt::Write| {
            // Nobody knows how long an item takes before one has ended.
            let is_known = state.per_sec() > 0.0 || state.len() == Some(state.pos());
            _ = match is_known {
                false => text.write_char('?'),
                true => write!(text, "{:#}", HumanDuration(state.eta())),
            }
        })
        .progress_chars("=> ")
}

/// Writes a rate: with one decimal below 10, and without decimals above.
fn write_rate(per_second: f64, text: &mut dyn fmt::Write) -> fmt::Result {
    let decimals = if per_second < 10.0 { 1 } else { 0 };
    write!(text, "{per_second:.decimals$}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_sound() {
        let bar = ProgressBar::hidden();
        bar.set_style(style("{pos} done{msg}, {rate}, {elapsed}"));
        let shown = Bar { bar: Some(bar), has_begun: Cell::new(false) };
        shown.update(1, 0);
        shown.set_total(3);
        shown.update(2, 1);
        shown.finish();
    }

    #[test]
    fn rates_are_told_as_exactly_as_they_are_known() {
        let rate = |per_second| {
            let mut text = String::new();
            write_rate(per_second, &mut text).unwrap();
            text
        };
        assert_eq!(
            [0.0, 0.25, 9.5, 247.5875, 12345.6].map(rate),
            ["0.0/s", "0.2/s", "9.5/s", "248/s", "12346/s"]
        );
    }
}
