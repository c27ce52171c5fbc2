//! The charts: how many jobs ended each second, and how many were queued.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, RenderDirection, Sparkline, Widget};

use super::super::history::{History, SECONDS, Second};
use super::palette::Palette;
use super::pen::Pen;
use super::text::grouped;
use crate::term::style::Tone;

/// Draws two small charts beside each other, a column a second.
pub fn draw_strip(history: &History, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let [left, _, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let ended = history.passed(usize::from(left.width)).map(|second| second.ended).collect();
    let queued = history.passed(usize::from(right.width)).map(|second| second.queued).collect();
    draw_small("ended each second", ended, palette.of(Tone::Good), palette, left, buffer);
    draw_small("queued", queued, palette.of(Tone::Waiting), palette, right, buffer);
}

fn draw_small(
    title: &str,
    mut values: Vec<u64>,
    style: Style,
    palette: Palette,
    area: Rect,
    buffer: &mut Buffer,
) {
    // The latest comes first, at the right.
    values.reverse();
    let peak = values.iter().max().copied().unwrap_or(0);

    let line = Rect { height: area.height.min(1), ..area };
    let title = format!("{title}, at most {}", grouped(peak));
    Pen::at(buffer, line).write(&title, palette.of(Tone::Faint));
    let below = Rect { y: area.y + line.height, height: area.height - line.height, ..area };
    Sparkline::default()
        .data(values)
        .max(peak.max(1))
        .direction(RenderDirection::RightToLeft)
        .style(style)
        .render(below, buffer);
}

/// Draws both charts, one above the other, of the last ten minutes.
pub fn draw(history: &History, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let [upper, lower] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let points = |value: fn(Second) -> u64| -> Vec<(f64, f64)> {
        let passed = history.passed(SECONDS);
        let first = -(passed.len() as f64);
        passed.enumerate().map(|(place, second)| (first + place as f64, value(second) as f64)).collect()
    };
    let curve = |name, value, tone| Curve { name, points: points(value), tone };
    let mut curves = vec![curve("ended", |second| second.ended, Tone::Good)];
    let failed = curve("failed", |second| second.failed, Tone::Bad);
    if failed.points.iter().any(|(_, count)| *count > 0.0) {
        curves.push(failed);
    }
    draw_chart("Jobs ended each second", &curves, palette, upper, buffer);
    let queued = curve("queued", |second| second.queued, Tone::Waiting);
    draw_chart("Jobs queued", &[queued], palette, lower, buffer);
}

/// A value of each second.
struct Curve {
    name: &'static str,
    points: Vec<(f64, f64)>,
    tone: Tone,
}

fn draw_chart(title: &str, curves: &[Curve], palette: Palette, area: Rect, buffer: &mut Buffer) {
    let line = Rect { height: area.height.min(1), ..area };
    Pen::at(buffer, line).write(title, palette.of(Tone::Heading));
    let below = Rect { y: area.y + line.height, height: area.height - line.height, ..area };

    let values = curves.iter().flat_map(|curve| &curve.points);
    let most = values.map(|(_, value)| *value).fold(2.0, f64::max);
    // At first the time is as long as what is known, and then ten minutes.
    let known = curves.iter().map(|curve| curve.points.len()).max().unwrap_or(0);
    let span = known.clamp(60, SECONDS);
    let times = [span, span / 2, 0].map(|ago| match ago {
        0 => "now".to_owned(),
        _ if ago.is_multiple_of(60) => format!("{} min ago", ago / 60),
        _ => format!("{ago} s ago"),
    });
    let counts = [0, most as u64 / 2, most as u64].map(grouped);
    let faint = palette.of(Tone::Faint);

    let sets = curves.iter().map(|curve| {
        Dataset::default()
            .name(if curves.len() > 1 { curve.name } else { "" })
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(palette.of(curve.tone))
            .data(&curve.points)
    });
    Chart::new(sets.collect())
        .style(Style::new())
        .x_axis(Axis::default().bounds([-(span as f64), -1.0]).labels(times.map(Line::from)).style(faint))
        .y_axis(Axis::default().bounds([0.0, most]).labels(counts.map(Line::from)).style(faint))
        .render(below, buffer);
}
