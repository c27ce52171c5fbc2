//! A curve as an SVG file: medians joined by a line, with a bar from the least to the greatest value.

use std::fmt::Debug;
use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use super::figures::{Curve, Spread};

const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 96, 30), RGBColor(44, 140, 60), RGBColor(140, 60, 160)];

/// The places stand side by side, each far greater than the one before it.
pub fn draw(curve: &Curve, file: &Path) -> anyhow::Result<()> {
    draw_on(&SVGBackend::new(file, (800, 450)).into_drawing_area(), curve)
}

fn draw_on<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    curve: &Curve,
) -> anyhow::Result<()> {
    let places: Vec<usize> =
        curve.series.first().iter().flat_map(|series| &series.points).map(|point| point.at).collect();
    let values = curve.series.iter().flat_map(|series| &series.points).flat_map(|point| &point.rounds);
    let top = values.copied().fold(0.0, f64::max) * 1.1;
    let last = places.len().saturating_sub(1) as f64;

    area.fill(&WHITE).map_err(plain)?;
    let mut chart = ChartBuilder::on(area)
        .caption(&curve.title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(50)
        .y_label_area_size(80)
        .build_cartesian_2d(-0.3..last + 0.3, 0.0..top.max(f64::MIN_POSITIVE))
        .map_err(plain)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(places.len() * 10)
        .x_label_formatter(&|place| label(&places, *place))
        .x_desc(curve.x)
        .y_desc(curve.y)
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(plain)?;

    for (series, colour) in curve.series.iter().zip(COLOURS.iter().cycle()) {
        let spreads: Vec<(f64, Spread)> = series
            .points
            .iter()
            .enumerate()
            .map(|(place, point)| (place as f64, Spread::of(&point.rounds)))
            .collect();
        let medians = spreads.iter().map(|(place, spread)| (*place, spread.median));
        chart
            .draw_series(LineSeries::new(medians.clone(), colour.stroke_width(2)))
            .map_err(plain)?
            .label(&series.what)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(medians.map(|point| Circle::new(point, 3, colour.filled()))).map_err(plain)?;
        let bars = spreads.iter().map(|(place, spread)| {
            PathElement::new([(*place, spread.min), (*place, spread.max)], colour.stroke_width(1))
        });
        chart.draw_series(bars).map_err(plain)?;
    }

    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 14))
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()
        .map_err(plain)?;
    area.present().map_err(plain)
}

/// Only whole numbers are places.
fn label(places: &[usize], place: f64) -> String {
    let nearest = place.round();
    let is_one = (place - nearest).abs() < 1e-6 && nearest >= 0.0;
    let at = places.get(nearest as usize).filter(|_| is_one);
    at.map_or_else(String::new, |at| if *at >= 10_000 { format!("{at:e}") } else { at.to_string() })
}

/// The backend's errors borrow what they speak of.
fn plain(error: impl Debug) -> anyhow::Error {
    anyhow!("the curve cannot be drawn: {error:?}")
}
