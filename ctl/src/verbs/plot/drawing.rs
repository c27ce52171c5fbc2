//! A chart as SVG: the number of waiting jobs above, a line a slot below, and the clock between them. It
//! needs nothing but a browser.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pool_proto::State;
use pool_proto::text::rfc3339;
use svg::Document;
use svg::node::element::path::Data;
use svg::node::element::{Group, Line, Path, Rectangle, Style, Text, Title};

use super::chart::{Bar, Chart};
use crate::cli::period::Period;
use crate::tell::when::{local, of_seconds, short};
use crate::term::width;

/// Measures in pixels. The time has [`WIDTH`] of them.
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 70.0;
const QUEUE: f64 = 90.0;
const CLOCK: f64 = 40.0;
const SLOT: f64 = 22.0;
const BETWEEN_POOLS: f64 = 12.0;
const BOTTOM: f64 = 50.0;
const LETTER: f64 = 6.7;

const STYLE: &str = "text { font: 12px sans-serif; fill: #222 } .small { font-size: 11px; fill: #555 } \
    .title { font-size: 16px; font-weight: bold } .grid { stroke: #ddd } .slot { fill: #f5f5f5 } \
    .waiting { fill: #9db8d9; stroke: #4a6fa5 } rect.bar { stroke: #fff; stroke-width: 0.5 } \
    .bar text, text.in { fill: #fff; font-size: 11px; pointer-events: none }";

/// The bars that are kept apart in a line, at most: beyond that there would be more of them than pixels.
const NARROWEST: f64 = 0.5;

/// The drawing of a chart.
pub fn draw(chart: &Chart) -> String {
    let pools = chart.slots.keys().map(|(pool, _)| pool).collect::<std::collections::BTreeSet<_>>().len();
    let lines = chart.slots.len() as f64 * SLOT + pools as f64 * BETWEEN_POOLS;
    let height = TOP + QUEUE + CLOCK + lines + BOTTOM;
    let total = LEFT + WIDTH + RIGHT;
    let scale = Scale { period: chart.period };

    let mut document = Document::new()
        .set("width", total)
        .set("height", height)
        .set("viewBox", (0, 0, total, height))
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("width", total).set("height", height).set("fill", "#fff"))
        .add(text(LEFT, 26.0, "title", "poold: what ran, and when"))
        .add(text(LEFT, 46.0, "", &headline(chart)));

    for (x, word) in scale.ticks() {
        let grid = Line::new().set("class", "grid").set("x1", x).set("x2", x);
        document = document
            .add(grid.set("y1", TOP).set("y2", TOP + QUEUE + CLOCK + lines))
            .add(text(x, TOP + QUEUE + 24.0, "small", &word).set("text-anchor", "middle"));
    }
    document = document.add(queue(chart, scale)).add(slots(chart, scale));
    document = document.add(legend(TOP + QUEUE + CLOCK + lines + 30.0));
    format!("{document}\n")
}

fn headline(chart: &Chart) -> String {
    let (from, to) = (local(&rfc3339(chart.period.from_us)), local(&rfc3339(chart.period.to_us)));
    let jobs = match chart.jobs {
        0 => "no job ran".to_owned(),
        jobs => format!("jobs that ran: {jobs}, {} of them failed", chart.failed),
    };
    format!("{from} to {to} ({}): {jobs}", short(of_seconds(chart.period.seconds())))
}

/// How many jobs waited.
fn queue(chart: &Chart, scale: Scale) -> Group {
    let most = chart.waiting.iter().map(|&(_, count)| count).max().unwrap_or(0);
    let group = Group::new()
        .add(text(LEFT - 10.0, TOP + 12.0, "", "waiting").set("text-anchor", "end"))
        .add(text(LEFT - 10.0, TOP + 28.0, "small", &format!("{most} at most")).set("text-anchor", "end"));
    if most == 0 {
        return group;
    }

    let floor = TOP + QUEUE;
    let y = |count: usize| floor - count as f64 / most as f64 * (QUEUE - 8.0);
    let mut data = Data::new().move_to((LEFT, floor));
    // Of all that falls on one pixel the largest is seen.
    let mut column: Option<(f64, usize, usize)> = None;
    let mut last = 0;
    for &(at, count) in &chart.waiting {
        let x = (scale.x(at) * 2.0).round() / 2.0;
        match &mut column {
            Some((before, largest, latest)) if *before == x => {
                *largest = (*largest).max(count);
                *latest = count;
            }
            _ => {
                if let Some((x, largest, latest)) = column {
                    data = data.line_to((x, y(last))).line_to((x, y(largest))).line_to((x, y(latest)));
                    last = latest;
                }
                column = Some((x, count, count));
            }
        }
    }
    if let Some((x, largest, latest)) = column {
        data = data.line_to((x, y(last))).line_to((x, y(largest))).line_to((x, y(latest)));
        last = latest;
    }
    data = data.line_to((LEFT + WIDTH, y(last))).line_to((LEFT + WIDTH, floor)).close();
    group.add(Path::new().set("class", "waiting").set("d", data))
}

/// The lines of the slots with their bars.
fn slots(chart: &Chart, scale: Scale) -> Group {
    let mut group = Group::new();
    let mut y = TOP + QUEUE + CLOCK;
    let mut pool_before = None;
    for ((pool, slot), bars) in &chart.slots {
        if pool_before != Some(pool) {
            y += if pool_before.is_some() { BETWEEN_POOLS } else { 0.0 };
            pool_before = Some(pool);
        }
        let name = format!("{}/{slot}", width::cell(pool, 18));
        group = group
            .add(text(LEFT - 10.0, y + 15.0, "", &name).set("text-anchor", "end"))
            .add(rectangle(LEFT, y + 1.0, WIDTH, SLOT - 2.0).set("class", "slot"));
        for seen in visible(bars, scale) {
            let mut bar = Group::new().add(
                rectangle(seen.x, y + 2.0, seen.width, SLOT - 4.0)
                    .set("class", "bar")
                    .set("fill", color(seen.state)),
            );
            bar = bar.add(Title::new(seen.note));
            let room = ((seen.width - 8.0) / LETTER) as usize;
            if let Some(label) = label_in(&seen.label, room) {
                bar = bar.add(text(seen.x + 4.0, y + 15.0, "in", &label));
            }
            group = group.add(bar);
        }
        y += SLOT;
    }
    group
}

/// As much of a label as there is room for: all of it, or its begin, or the id alone.
fn label_in(label: &str, room: usize) -> Option<String> {
    let id = label.split(' ').next().unwrap_or_default();
    match room {
        _ if width::columns(label) <= room => Some(label.to_owned()),
        12.. => Some(width::cell(label, room)),
        _ if id.len() <= room => Some(id.to_owned()),
        _ => None,
    }
}

/// A bar as it is seen. Several that fall on one pixel are one.
struct Seen {
    x: f64,
    width: f64,
    state: State,
    label: String,
    note: String,
}

fn visible(bars: &[Bar], scale: Scale) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut hidden = 0;
    for bar in bars {
        let (x, end) = (scale.x(bar.from_us), scale.x(bar.to_us));
        let width = (end - x).max(NARROWEST);
        match seen.last_mut() {
            // What failed is not covered by what did not.
            Some(last) if x < last.x + NARROWEST && width <= NARROWEST * 2.0 => {
                hidden += 1;
                if last.state == State::Succeeded {
                    last.state = bar.state;
                }
                last.note = format!("{} jobs, the last: {}", hidden + 1, bar.note);
            }
            _ => {
                hidden = 0;
                let (label, note) = (bar.label.clone(), bar.note.clone());
                seen.push(Seen { x, width, state: bar.state, label, note });
            }
        }
    }
    seen
}

/// The colours of ends, which can be told apart without red and green, too.
const COLORS: [(&str, &str); 5] = [
    ("#2f8f5b", "succeeded"),
    ("#c0392b", "failed"),
    ("#d98a1f", "timed out"),
    ("#8a8a8a", "canceled"),
    ("#3f76c4", "runs"),
];

fn color(state: State) -> &'static str {
    let [succeeded, failed, timed_out, canceled, runs] = COLORS.map(|(color, _)| color);
    match state {
        State::Succeeded => succeeded,
        State::Failed | State::Lost => failed,
        State::TimedOut => timed_out,
        State::Canceled => canceled,
        _ => runs,
    }
}

fn legend(y: f64) -> Group {
    COLORS.iter().enumerate().fold(Group::new(), |group, (index, (color, word))| {
        let x = LEFT + index as f64 * 110.0;
        group.add(rectangle(x, y - 10.0, 12.0, 12.0).set("fill", *color)).add(text(
            x + 18.0,
            y,
            "small",
            word,
        ))
    })
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    Rectangle::new()
        .set("x", rounded(x))
        .set("y", rounded(y))
        .set("width", rounded(width))
        .set("height", rounded(height))
}

fn text(x: f64, y: f64, class: &str, words: &str) -> Text {
    let text = Text::new(words).set("x", (x * 100.0).round() / 100.0).set("y", y);
    if class.is_empty() { text } else { text.set("class", class) }
}

/// From times to places.
#[derive(Debug, Clone, Copy)]
struct Scale {
    period: Period,
}

impl Scale {
    fn x(self, at_us: i64) -> f64 {
        let part = (at_us - self.period.from_us) as f64 / (self.period.to_us - self.period.from_us) as f64;
        LEFT + part.clamp(0.0, 1.0) * WIDTH
    }

    /// Round times, some ten of them, with the words for them in this machine's zone.
    fn ticks(self) -> Vec<(f64, String)> {
        const STEPS: [i64; 21] = [
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
            172_800, 604_800, 2_592_000,
        ];
        let seconds = self.period.seconds();
        let step = STEPS.into_iter().find(|&step| seconds / step as f64 <= 12.0).unwrap_or(31_536_000);
        let zone = TimeZone::system();
        let Ok(begin) = Timestamp::from_microsecond(self.period.from_us) else { return Vec::new() };
        let offset = i64::from(zone.to_offset(begin).seconds());

        let first = (self.period.from_us / 1_000_000 + offset).div_euclid(step) + 1;
        let times = (first..).map(|count| count * step - offset);
        times
            .take_while(|&time| time * 1_000_000 < self.period.to_us)
            .filter_map(|time| {
                let at = Timestamp::from_second(time).ok()?.to_zoned(zone.clone());
                let format = match step {
                    86_400.. => "%Y-%m-%d",
                    60.. if seconds > 86_400.0 => "%m-%d %H:%M",
                    60.. => "%H:%M",
                    _ => "%H:%M:%S",
                };
                Some((self.x(time * 1_000_000), at.strftime(format).to_string()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(from_us: i64, to_us: i64, state: State) -> Bar {
        Bar { from_us, to_us, state, label: "7 a<b".to_owned(), note: "job 7".to_owned() }
    }

    #[test]
    fn foreign_text_is_no_markup() {
        let mut chart = Chart::of(Period { from_us: 0, to_us: 60_000_000 });
        chart.add_pool("<script>", 1);
        chart.slots.insert(("p".to_owned(), 0), vec![bar(0, 60_000_000, State::Failed)]);
        let drawing = draw(&chart);
        assert!(!drawing.contains("<script>") && !drawing.contains("a<b"), "{drawing}");
        assert!(drawing.contains("7 a&lt;b"), "{drawing}");
    }

    #[test]
    fn so_many_bars_that_there_are_no_pixels_for_them_are_few() {
        let scale = Scale { period: Period { from_us: 0, to_us: 1_000_000_000 } };
        let mut bars: Vec<Bar> =
            (0..100_000).map(|at| bar(at * 10_000, at * 10_000 + 5_000, State::Succeeded)).collect();
        bars[5].state = State::Failed;
        let seen = visible(&bars, scale);
        assert!(seen.len() <= 2 * WIDTH as usize + 1, "{}", seen.len());
        assert_eq!(seen[0].state, State::Failed);
    }

    #[test]
    fn ticks_are_round_and_few() {
        for seconds in [3, 60, 3600, 86_400, 86_400 * 30, 86_400 * 400] {
            let scale = Scale {
                period: Period {
                    from_us: 1_795_725_000_123_456,
                    to_us: 1_795_725_000_123_456 + seconds * 1_000_000,
                },
            };
            let ticks = scale.ticks();
            assert!((1..=13).contains(&ticks.len()), "{seconds}: {ticks:?}");
        }
    }
}
