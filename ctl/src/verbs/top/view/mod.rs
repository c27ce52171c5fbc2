//! The picture of the model: a function of the model, the palette and the size.

mod charts;
pub mod palette;
mod pen;
mod rows;
mod story;
mod text;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use self::palette::Palette;
use self::pen::Pen;
use self::text::{grouped, rate};
use super::keys::BINDINGS;
use super::model::{Mode, Model, Presence};
use super::plan::{Plan, Tab};
use crate::tell::when;
use crate::term::style::Tone;

/// The keys that are named at the bottom, as many as there is room for.
const HINTS: [&str; 10] = [
    "? help",
    "q quit",
    "Enter open",
    "/ filter",
    "s sort",
    "p pause",
    "h hold",
    "c cancel",
    "r retry",
    "e edit",
];
const STORY_HINTS: [&str; 9] = [
    "? help",
    "Esc back",
    "Tab log/story",
    "f to the end",
    "o other stream",
    "p pause",
    "c cancel",
    "r retry",
    "q quit",
];

/// Draws everything.
pub fn draw(model: &Model, palette: Palette, buffer: &mut Buffer) {
    let plan = model.plan();
    draw_header(model, palette, plan.header, buffer);
    draw_tabs(model, palette, plan.tabs, buffer);
    match (&model.mode, &model.story) {
        (Mode::Help, _) => draw_help(palette, plan.body, buffer),
        (_, Some(open)) => story::draw(open, model, palette, &plan, buffer),
        (_, None) => draw_tab(model, palette, &plan, buffer),
    }
    draw_footer(model, palette, plan.footer, buffer);
}

fn draw_tab(model: &Model, palette: Palette, plan: &Plan, buffer: &mut Buffer) {
    if model.tab == Tab::Charts {
        return charts::draw(&model.history, palette, plan.body, buffer);
    }
    rows::draw(model, palette, plan, buffer);
    if let Some(strip) = plan.strip {
        charts::draw_strip(&model.history, palette, strip, buffer);
    }
}

fn draw_header(model: &Model, palette: Palette, line: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::at(buffer, line);
    if let Presence::Away(since) = model.presence {
        let away = std::time::Duration::from_micros((model.now - since).max(0).unsigned_abs());
        let said = format!(" poold has been away for {}: top goes on when it is back ", when::age(away));
        pen.write(&said, palette.of(Tone::Attention).patch(palette.selected()));
        return;
    }
    let (slots, busy) = model.pools.slots();
    pen.write(&format!(" poold {}  ", model.version), palette.of(Tone::Heading));
    pen.write(&format!("{busy}/{slots} slots busy  "), palette.of(Tone::Running));
    pen.write(&format!("{} queued  ", grouped(model.pools.queued())), palette.of(Tone::Waiting));
    pen.write(&format!("{} ended", rate(model.history.rate())), palette.of(Tone::Good));
    if let Some(warning) = &model.warning {
        pen.write("  ", Style::new()).rest(warning, palette.of(Tone::Bad));
    }
}

fn draw_tabs(model: &Model, palette: Palette, line: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::at(buffer, line);
    for tab in Tab::ALL {
        let is_open = tab == model.tab && model.mode != Mode::Help;
        pen.write(tab.title(), if is_open { palette.selected() } else { Style::new() });
    }
    if !model.filter.is_empty() {
        pen.write("  filter: ", palette.of(Tone::Faint))
            .rest(model.filter.text(), palette.of(Tone::Attention));
    }
    let (place, count) = model.place();
    if model.story.is_none() && model.mode == Mode::Look && count > 0 {
        let more = if model.tab == Tab::Queue && model.queue.rest.is_some() { "+" } else { "" };
        pen.end(&format!("{}/{count}{more} ", place + 1), palette.of(Tone::Faint));
    }
}

fn draw_help(palette: Palette, area: Rect, buffer: &mut Buffer) {
    for (place, binding) in BINDINGS.iter().enumerate().take(usize::from(area.height)) {
        let line = Rect { y: area.y + place as u16, height: 1, ..area };
        let mut pen = Pen::at(buffer, line);
        pen.write(" ", Style::new()).left(binding.name, 18, palette.of(Tone::Heading));
        pen.write(binding.help, Style::new());
    }
    let below = area.y + BINDINGS.len() as u16 + 1;
    let more = [
        "Mouse: a click selects, a second one opens; with Shift it selects text.",
        "States: > runs, - waits, = paused or held, ! is ended now, + success, x none.",
    ];
    for (y, text) in (below..area.bottom()).zip(more) {
        Pen::at(buffer, Rect { y, height: 1, ..area }).write(&format!(" {text}"), palette.of(Tone::Faint));
    }
}

fn draw_footer(model: &Model, palette: Palette, line: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::at(buffer, line);
    match (&model.mode, &model.message) {
        (Mode::Confirm(question, _), _) => {
            pen.write(" ", Style::new())
                .write(question, palette.of(Tone::Attention).patch(palette.selected()));
        }
        (Mode::Filter(_), _) => {
            pen.write(" /", palette.of(Tone::Attention)).rest(model.filter.text(), Style::new());
            pen.write(" ", palette.selected());
        }
        (Mode::Help, _) => _ = pen.write(" any key goes back", palette.of(Tone::Faint)),
        (Mode::Look, Some((message, _))) => {
            pen.write(" ", Style::new()).rest(message, palette.of(Tone::Attention));
        }
        (Mode::Look, None) => {
            let hints = if model.story.is_some() { &STORY_HINTS[..] } else { &HINTS };
            pen.write(" ", Style::new());
            for hint in hints {
                if hint.len() > pen.room() {
                    break;
                }
                pen.write(hint, palette.of(Tone::Faint)).write("  ", Style::new());
            }
        }
    }
}
