//! What was found as a table for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::figures::{Benchmark, Curve, Spread};

pub fn of_benchmark(benchmark: &Benchmark) -> Table {
    let mut table = new(&[&benchmark.title, "", "median", "min to max", "beside", "goal"]);
    let mut last = "";
    for figure in &benchmark.figures {
        let what = if figure.what == last { "" } else { &figure.what };
        last = &figure.what;

        let Spread { median, min, max } = figure.spread;
        let beside = figure.beside.as_ref().map_or_else(String::new, |beside| {
            let Spread { median, min, max } = beside.times;
            format!("x {median:.2} ({min:.2} to {max:.2}) of {}", beside.yardstick)
        });
        let goal = figure.goal.as_ref().map_or_else(String::new, |verdict| {
            format!("{}: {}", verdict.goal, if verdict.is_reached { "reached" } else { "missed" })
        });
        let spread = format!("{} to {}", number(min), number(max));
        table.add_row([what, figure.name, &number(median), &spread, &beside, &goal]);
    }
    align(table)
}

/// A row for each place, a column for each series.
pub fn of_curve(curve: &Curve) -> Table {
    let names = curve.series.iter().map(|series| series.what.as_str());
    let head: Vec<&str> = [curve.x].into_iter().chain(names).collect();
    let mut table = new(&head);
    let places = curve.series.first().map_or(&[][..], |series| &series.points);
    for (row, place) in places.iter().enumerate() {
        let cells = curve.series.iter().map(|series| {
            let Spread { median, min, max } = Spread::of(&series.points[row].rounds);
            format!("{} ({} to {})", number(median), number(min), number(max))
        });
        table.add_row([place.at.to_string()].into_iter().chain(cells));
    }
    align(table)
}

fn new(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(head);
    table
}

/// Text to the left, numbers to the right.
fn align(mut table: Table) -> Table {
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Three digits or so.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}
