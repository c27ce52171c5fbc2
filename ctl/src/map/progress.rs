//! The bar of `--bar`: how many items have ended and failed, how fast, and when all will have.

use std::fmt;
use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// See the module's description. Without a terminal it is not there.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn hidden() -> Self {
        Self { bar: None }
    }

    /// `total`: how many items there are, if that is known yet.
    pub fn on_stderr(total: Option<u64>) -> Self {
        if !stderr().is_terminal() {
            return Self::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{pos} done{msg}, {rate}, {elapsed}"));
        let progress = Self { bar: Some(bar) };
        total.into_iter().for_each(|total| progress.set_total(total));
        progress
    }

    pub fn set_total(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_style(style("[{wide_bar}] {pos}/{len}{msg}, {rate}, {eta} left"));
        }
    }

    pub fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    pub fn update(&self, done: u64, failed: u64) {
        if let Some(bar) = &self.bar {
            if failed > 0 {
                bar.set_message(format!(", {failed} failed"));
            }
            bar.set_position(done);
        }
    }

    /// The time has gone on, if nothing else.
    pub fn tick(&self) {
        self.bar.iter().for_each(ProgressBar::tick);
    }

    /// Does what writes to the terminal, with the bar out of the way.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(act),
            None => act(),
        }
    }

    /// Leaves the last state of it where it is.
    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::abandon);
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is sound");
    style
        .with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
            _ = write_rate(state.per_sec(), text)
        })
        .progress_chars("=> ")
}

/// In two digits at least, and not in more than are known.
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
        let progress = Progress { bar: Some(bar) };
        progress.update(1, 0);
        progress.set_total(3);
        progress.update(2, 1);
        progress.finish();
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
