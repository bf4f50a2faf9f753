//! A bar chart of the ratios to nginx, as SVG.

use std::fmt::Write;

use super::proxy::Kind;
use super::report::Measured;
use super::sample::{FIGURES, Figure, Series};

const WIDTH: u32 = 720;
const NAMES: u32 = 150;
/// The width of a ratio of 1.
const UNIT: f64 = 180.0;
/// Longer bars are truncated.
const LONGEST: f64 = 2.5;
const BAR: u32 = 18;
const GAP: u32 = 6;
const MARGIN: u32 = 16;

/// A group of bars for each figure, with a bar for each proxy.
pub(super) fn bars(measured: &Measured) -> String {
    let mut body = String::new();
    let mut y = MARGIN + BAR;
    text(&mut body, MARGIN, y, "title", measured.workload.title);
    y += BAR;
    text(
        &mut body,
        MARGIN,
        y,
        "note",
        "medians, and in parentheses ratios to nginx in the same round",
    );
    for figure in &FIGURES {
        y += 2 * BAR;
        text(&mut body, MARGIN, y, "group", figure.name);
        y += GAP;
        for series in &measured.series {
            bar(&mut body, y, figure, series, measured.nginx());
            y += BAR + GAP;
        }
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>text {{ font: 13px sans-serif; fill: #333 }} .title {{ font-weight: bold; \
         font-size: 15px }} .group {{ font-weight: bold }} .note {{ fill: #777 }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn bar(body: &mut String, y: u32, figure: &Figure, series: &Series, base: &Series) {
    let ratio = series.ratio(base, figure);
    let (length, is_cut) = (ratio.min(LONGEST) * UNIT, ratio > LONGEST);
    let decimals = figure.decimals;
    let median = series.median(figure);
    let baseline = y + BAR - GAP + 1;
    text(body, MARGIN, baseline, "name", series.kind.name());
    let _ = writeln!(
        body,
        "<rect x=\"{NAMES}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
        color(series.kind)
    );
    let end = f64::from(NAMES) + length;
    if is_cut {
        // A slanted gap marks a truncated bar.
        let _ = writeln!(
            body,
            "<path d=\"M{:.1} {} l8 -{BAR}\" stroke=\"#fff\" stroke-width=\"5\"/>",
            end - 24.0,
            y + BAR
        );
    }
    let _ = writeln!(
        body,
        "<text x=\"{:.1}\" y=\"{baseline}\">{median:.decimals$} ({ratio:.2} ×)</text>",
        end + f64::from(GAP)
    );
}

fn text(body: &mut String, x: u32, y: u32, class: &str, words: &str) {
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{words}</text>"
    );
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Nginx => "#8fa3ad",
        Kind::Haproxy => "#b5c2c9",
        Kind::Gateway => "#2e8b57",
        Kind::Express => "#d9a05b",
    }
}
