//! The equity of the desk over time, as SVG.

use std::error::Error;

use plotters::prelude::*;

use crate::desk::Halt;
use crate::market::Market;
use crate::money::Money;

const SIZE: (u32, u32) = (1100, 520);

/// Draws the equity at the end of each day, with the time of every halt shaded.
pub fn equity_svg(
    market: &Market,
    equity: &[Money],
    halts: &[Halt],
) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let last = equity.len().saturating_sub(1).max(1);
        let thousands = |money: &Money| money.as_dollars() / 1_000.0;
        let low = equity.iter().map(thousands).fold(f64::INFINITY, f64::min);
        let high = equity
            .iter()
            .map(thousands)
            .fold(f64::NEG_INFINITY, f64::max);
        let margin = ((high - low) * 0.05).max(1.0);
        let (low, high) = (low - margin, high + margin);
        let mut chart = ChartBuilder::on(&area)
            .caption("Trading desk: equity, halts shaded", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(76)
            .build_cartesian_2d(0..last, low..high)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(8)
            .x_label_formatter(&|day| market.date(*day).to_owned())
            .y_desc("thousand dollars")
            .draw()?;
        chart.draw_series(halts.iter().map(|halt| {
            let until = halt.cleared.unwrap_or(last);
            Rectangle::new([(halt.raised, low), (until, high)], RED.mix(0.15).filled())
        }))?;
        let line = equity
            .iter()
            .enumerate()
            .map(|(day, money)| (day, thousands(money)));
        chart.draw_series(LineSeries::new(line, BLUE.stroke_width(2)))?;
        area.present()?;
    }
    Ok(svg)
}
