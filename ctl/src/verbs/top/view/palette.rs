//! How tones look here. Without colours everything is told by characters, and the selection is reversed.

use pool_proto::State;
use ratatui::style::{Color, Modifier, Style};

use super::super::job::Job;
use crate::term::style::Tone;

/// See the module's description.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    pub has_color: bool,
}

impl Palette {
    /// The style of a tone.
    pub fn of(self, tone: Tone) -> Style {
        let color = match tone {
            Tone::Heading => return Style::new().add_modifier(Modifier::BOLD),
            Tone::Faint if self.has_color => return Style::new().add_modifier(Modifier::DIM),
            Tone::Plain | Tone::Faint => return Style::new(),
            Tone::Running => Color::Cyan,
            Tone::Waiting => Color::Blue,
            Tone::Attention => Color::Yellow,
            Tone::Good => Color::Green,
            Tone::Bad => Color::Red,
        };
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    /// The style of the row that is selected, or of the tab.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The style of a job's state.
    pub fn of_job(self, job: &Job) -> Style {
        self.of(match job.state {
            State::Running if job.is_frozen => Tone::Attention,
            State::Running => Tone::Running,
            State::Stopping | State::Held => Tone::Attention,
            State::Queued | State::Scheduled | State::Blocked | State::Retrying => Tone::Waiting,
            State::Succeeded => Tone::Good,
            State::Canceled => Tone::Faint,
            State::Failed | State::TimedOut | State::Lost => Tone::Bad,
        })
    }
}
