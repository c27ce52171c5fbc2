//! A job that is open.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::super::job::Job;
use super::super::model::Model;
use super::super::plan::Plan;
use super::super::story::{Pane, Story};
use super::palette::Palette;
use super::pen::Pen;
use crate::tell::when;
use crate::term::style::Tone;

/// Draws its story and its log, or the one of both that was chosen.
pub fn draw(story: &Story, model: &Model, palette: Palette, plan: &Plan, buffer: &mut Buffer) {
    match plan.panes() {
        [Some(left), Some(right)] => {
            draw_story(story, model, palette, left, buffer);
            draw_log(story, palette, right, buffer);
            for y in plan.body.top()..plan.body.bottom() {
                buffer.set_stringn(left.right(), y, "|", 1, palette.of(Tone::Faint));
            }
        }
        _ => match story.pane {
            Pane::Log => draw_log(story, palette, plan.body, buffer),
            Pane::Story => draw_story(story, model, palette, plan.body, buffer),
        },
    }
}

fn split(area: Rect) -> (Rect, Rect) {
    let line = Rect { height: area.height.min(1), ..area };
    (line, Rect { y: area.y + line.height, height: area.height - line.height, ..area })
}

fn draw_story(story: &Story, model: &Model, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let (line, below) = split(area);
    let mut pen = Pen::at(buffer, line);
    pen.write(&format!("Job {}  ", story.shown_id()), palette.of(Tone::Heading));
    if let Some(record) = &story.record {
        let job = Job::of(record);
        pen.write(&format!("{} {}  ", job.mark(), job.word()), palette.of_job(&job));
        let time = job.ran_us(model.now).map(|time| std::time::Duration::from_micros(time.unsigned_abs()));
        let time = if job.is_active() { time.map(when::age) } else { time.map(when::short) };
        pen.write(&time.unwrap_or_default(), Style::new());
    }
    let lines: Vec<Line<'_>> = story.lines.iter().map(|line| Line::from(line.as_str())).collect();
    Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .scroll((story.story_top as u16, 0))
        .render(below, buffer);
}

fn draw_log(story: &Story, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let (line, below) = split(area);
    let mut pen = Pen::at(buffer, line);
    pen.write(&format!("Job {}, ", story.shown_id()), palette.of(Tone::Heading));
    pen.write(["stdout", "stderr"][story.stream], palette.of(Tone::Heading));
    if let Some(attempt) = story.attempt.filter(|attempt| *attempt > 1) {
        pen.write(&format!(", attempt {attempt}"), Style::new());
    }
    let lines = story.log_lines(usize::from(below.height));
    let others = story.logs[1 - story.stream].len();
    let other = ["stderr", "stdout"][story.stream];
    let hint = match story.is_following {
        true => "  (at the end)",
        false => "  (f goes to the end)",
    };
    pen.write(hint, palette.of(Tone::Faint));
    if others > 0 {
        pen.write(&format!("  o shows {other}"), palette.of(Tone::Attention));
    }

    let nothing = match (&story.no_log, story.attempt) {
        (Some(reason), _) => reason.as_str(),
        (None, Some(_)) => "nothing was written so far",
        (None, None) => "reading ...",
    };
    if lines.is_empty() {
        Pen::at(buffer, Rect { height: below.height.min(1), ..below }).rest(nothing, palette.of(Tone::Faint));
    }
    for (place, text) in lines.iter().enumerate().take(usize::from(below.height)) {
        let line = Rect { y: below.y + place as u16, height: 1, ..below };
        Pen::at(buffer, line).rest(text, Style::new());
    }
}
