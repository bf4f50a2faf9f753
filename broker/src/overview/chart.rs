//! Charts of a day as SVG: a stack of bars for each five minutes. A pure function of the counts.
//!
//! The page's policy allows no style in an attribute, so colours come from the classes of `assets/console.css`. Without it
//! the bars have the colour of the text.

use std::fmt::Write;

use store::Timestamp;
use store_writer::writer::Bucket;

/// The width of a bar.
const BAR: usize = 2;
const BARS: usize = Bucket::DAY as usize;
/// The place of the first bar, of the top line, and of the base line.
const LEFT: usize = 44;
const TOP: usize = 14;
const BASE: usize = 134;
const WIDTH: usize = LEFT + BAR * BARS + 20;
const HEIGHT: usize = 156;
/// The hours between two marks of the time.
const MARK_HOURS: i64 = 4;
const HOUR_MS: i64 = 3_600_000;
/// The tenths of a unit that the highest stack may have.
const TENTHS: u64 = 10 * (BASE - TOP) as u64;

/// One of the things that a chart shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    /// The counted thing, for people.
    pub(crate) label: &'a str,
    /// Of the stylesheet: `good`, `warn`, `bad` or `calls`.
    pub(crate) class: &'a str,
    /// The counts of all buckets, the newest last.
    pub(crate) counts: &'a [u64],
}

/// The counts of a day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chart<'a> {
    /// Of the element, and unique on the page.
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    /// From the base of the stack upwards.
    pub(crate) series: &'a [Series<'a>],
    /// The newest bucket.
    pub(crate) last: Bucket,
}

impl Chart<'_> {
    /// The chart.
    pub(crate) fn svg(&self) -> String {
        let most = self.most();
        let mut svg = self.head();
        if most == 0 {
            let (x, y) = (WIDTH / 2, (TOP + BASE) / 2);
            let _ = write!(
                svg,
                r#"<text x="{x}" y="{y}" text-anchor="middle" fill="currentColor">No data yet</text>"#
            );
        } else {
            let top = round_up(most);
            self.scale(&mut svg, top);
            self.bars(&mut svg, top);
        }
        self.hours(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    /// The chart in words, for those who do not see it.
    pub(crate) fn summary(&self) -> String {
        if self.most() == 0 {
            return "No data yet.".to_owned();
        }
        let sums = self.series.iter().map(|series| {
            let sum: u64 = series.counts.iter().sum();
            format!("{}: {sum}", series.label)
        });
        let sums: Vec<String> = sums.collect();
        format!(
            "In the last 24 hours: {}. At most {} within five minutes.",
            sums.join(", "),
            self.most()
        )
    }

    /// The highest stack.
    fn most(&self) -> u64 {
        let stack = |at| {
            let counts = self.series.iter().map(|series| count(series, at));
            counts.fold(0, u64::saturating_add)
        };
        (0..BARS).map(stack).max().unwrap_or_default()
    }

    fn head(&self) -> String {
        let (id, title) = (escape(self.id), escape(self.title));
        let summary = escape(&self.summary());
        format!(
            r#"<svg class="chart" id="{id}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{title}</title><desc id="{id}-desc">{summary}</desc>"#
        )
    }

    /// The lines of the scale, and its numbers.
    fn scale(&self, svg: &mut String, top: u64) {
        let (right, label) = (LEFT + BAR * BARS, LEFT - 6);
        for y in [TOP, usize::midpoint(TOP, BASE), BASE] {
            let _ = write!(
                svg,
                r#"<line class="gridline" x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="currentColor" stroke-opacity="0.2"/>"#
            );
        }
        for (y, number) in [(TOP + 4, short(top)), (BASE + 4, "0".to_owned())] {
            let _ = write!(
                svg,
                r#"<text x="{label}" y="{y}" text-anchor="end" fill="currentColor">{number}</text>"#
            );
        }
    }

    fn bars(&self, svg: &mut String, top: u64) {
        let mut heights = [0; BARS];
        for series in self.series {
            let mut path = String::new();
            for (at, below) in heights.iter_mut().enumerate() {
                let number = count(series, at);
                if number == 0 {
                    continue;
                }
                // A single failure among many refreshes must be seen.
                let tenths = (u128::from(number) * u128::from(TENTHS) / u128::from(top)).max(10);
                let tenths = u64::try_from(tenths).unwrap_or(TENTHS);
                let (x, y) = (LEFT + BAR * at, 10 * BASE as u64 - *below);
                *below = (*below + tenths).min(10 * BASE as u64);
                let (y, height) = (decimal(y), decimal(tenths));
                let _ = write!(path, "M{x} {y}v-{height}h{BAR}v{height}z");
            }
            let class = escape(series.class);
            let _ = write!(
                svg,
                r#"<path class="bar {class}" d="{path}" fill="currentColor"/>"#
            );
        }
    }

    /// The marks of the time, which are UTC.
    fn hours(&self, svg: &mut String) {
        let first = self.last.first_of(Bucket::DAY);
        for at in 0..BARS {
            let begin = first.begin() + Bucket::LENGTH * u32::try_from(at).unwrap_or_default();
            let is_marked = begin.as_millis() % (MARK_HOURS * HOUR_MS) == 0;
            if !is_marked {
                continue;
            }
            let (x, y) = (LEFT + BAR * at, BASE + 18);
            let _ = write!(
                svg,
                r#"<line class="gridline" x1="{x}" y1="{BASE}" x2="{x}" y2="{}" stroke="currentColor" stroke-opacity="0.2"/><text x="{x}" y="{y}" text-anchor="middle" fill="currentColor">{}</text>"#,
                BASE + 4,
                hour(begin)
            );
        }
    }
}

fn count(series: &Series<'_>, at: usize) -> u64 {
    series.counts.get(at).copied().unwrap_or_default()
}

/// The hour of the day in UTC.
fn hour(at: Timestamp) -> String {
    let hour = at.as_millis().rem_euclid(24 * HOUR_MS) / HOUR_MS;
    format!("{hour:02}:00")
}

/// Tenths as a number.
fn decimal(tenths: u64) -> String {
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        rest => format!("{}.{rest}", tenths / 10),
    }
}

/// The next 1, 2 or 5 with zeros.
fn round_up(number: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for step in [1, 2, 5] {
            let top = unit.saturating_mul(step);
            if top >= number {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// A rounded number with few digits.
fn short(number: u64) -> String {
    match number {
        0..=9_999 => number.to_string(),
        10_000..=999_999 => format!("{}k", number / 1_000),
        _ => format!("{}M", number / 1_000_000),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 13:42 on a day.
    fn last() -> Bucket {
        Bucket::of(Timestamp::from_millis(1_796_132_520_000))
    }

    fn chart<'a>(series: &'a [Series<'a>]) -> Chart<'a> {
        Chart {
            id: "refreshes",
            title: "Refreshes & failures",
            series,
            last: last(),
        }
    }

    fn counts(at: usize, number: u64) -> Vec<u64> {
        let mut counts = vec![0; BARS];
        counts[at] = number;
        counts
    }

    #[test]
    fn chart_without_counts_says_so() {
        let counts = vec![0; BARS];
        let series = [Series {
            label: "refreshed",
            class: "good",
            counts: &counts,
        }];
        let svg = chart(&series).svg();
        assert!(svg.contains(">No data yet</text>"), "{svg}");
        assert!(!svg.contains("<path"), "{svg}");
        assert!(svg.contains("<title id=\"refreshes-title\">Refreshes &amp; failures</title>"));
        assert_eq!(chart(&[]).summary(), "No data yet.");
    }

    #[test]
    fn bars_are_stacked_and_scaled_to_the_next_round_number() {
        let (good, bad) = (counts(287, 30), counts(287, 10));
        let series = [
            Series {
                label: "refreshed",
                class: "good",
                counts: &good,
            },
            Series {
                label: "failed",
                class: "bad",
                counts: &bad,
            },
        ];
        let chart = chart(&series);
        let svg = chart.svg();
        // 40 of 50: the last bar has 72 and 24 of 120 units.
        assert!(
            svg.contains(r#"<path class="bar good" d="M618 134v-72h2v72z""#),
            "{svg}"
        );
        assert!(
            svg.contains(r#"<path class="bar bad" d="M618 62v-24h2v24z""#),
            "{svg}"
        );
        assert!(
            svg.contains(">50</text>") && svg.contains(">0</text>"),
            "{svg}"
        );
        assert_eq!(
            chart.summary(),
            "In the last 24 hours: refreshed: 30, failed: 10. At most 40 within five minutes."
        );
    }

    #[test]
    fn single_failure_among_many_refreshes_is_seen() {
        let (good, bad) = (counts(0, 1_000_000), counts(0, 1));
        let series = [
            Series {
                label: "refreshed",
                class: "good",
                counts: &good,
            },
            Series {
                label: "failed",
                class: "bad",
                counts: &bad,
            },
        ];
        let svg = chart(&series).svg();
        assert!(svg.contains("v-1h2v1z"), "{svg}");
        assert!(svg.contains(">2M</text>"), "{svg}");
    }

    #[test]
    fn hours_are_marked_and_nothing_has_a_style_attribute() {
        let most = vec![u64::MAX / 600; BARS];
        let series = [Series {
            label: "a",
            class: "good",
            counts: &most,
        }];
        let svg = chart(&series).svg();
        for hour in ["00:00", "04:00", "08:00", "12:00", "16:00", "20:00"] {
            assert_eq!(svg.matches(&format!(">{hour}</text>")).count(), 1, "{hour}");
        }
        assert!(!svg.contains("style="), "{svg}");
        assert!(svg.len() < 64 * 1024, "{}", svg.len());
    }

    #[test]
    fn numbers_of_the_scale_are_round_and_short() {
        for (number, top, text) in [
            (1, 1, "1"),
            (3, 5, "5"),
            (51, 100, "100"),
            (12_345, 20_000, "20k"),
            (u64::MAX, u64::MAX, "18446744073709M"),
        ] {
            assert_eq!(round_up(number), top);
            assert_eq!(short(top), text);
        }
    }
}
