//! The results, as Markdown and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::idle::Idle;
use super::instructions::Counted;
use super::proxy::Kind;
use super::sample::{FIGURES, Figure, Series, median};
use super::workload::Workload;
use crate::bench::wrk::Seen;

/// The results of all proxies under one workload.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) workload: &'static Workload,
    pub(super) series: Vec<Series>,
    /// The upstream without a proxy, by round. Empty unless the workload measures it.
    pub(super) direct: Vec<Seen>,
}

impl Measured {
    /// The base of all ratios.
    pub(super) fn nginx(&self) -> &Series {
        let is_nginx = |series: &&Series| series.kind == Kind::Nginx;
        self.series.iter().find(is_nginx).expect("always there")
    }

    /// The latency that a proxy adds to the median, by round.
    fn added_us(&self, series: &Series) -> Vec<f64> {
        let rounds = series.samples.iter().zip(&self.direct);
        rounds
            .map(|(with, without)| with.p50_us - without.p50_us)
            .collect()
    }
}

/// A Markdown table. Each cell has the median of all rounds, and the median of the ratios to nginx in the same
/// round.
pub(super) fn table(measured: &Measured) -> String {
    let mut head = vec![measured.workload.title.to_owned(), "upstream".to_owned()];
    head.extend(FIGURES.iter().map(|figure| figure.name.to_owned()));
    if !measured.direct.is_empty() {
        head.push("added to p50, µs".to_owned());
    }
    let base = measured.nginx();
    let base_added = measured.added_us(base);
    let mut rows = Vec::new();
    for series in &measured.series {
        let mut row = vec![series.kind.name().to_owned(), series.protocol.clone()];
        row.extend(FIGURES.iter().map(|figure| {
            let Figure { decimals, .. } = *figure;
            cell(series.median(figure), decimals, series.ratio(base, figure))
        }));
        let added = measured.added_us(series);
        if !added.is_empty() {
            let ratios = added.iter().zip(&base_added).map(|(own, base)| own / base);
            row.push(cell(median(added.iter().copied()), 0, median(ratios)));
        }
        rows.push(row);
    }
    markdown(&head, &rows)
}

pub(super) fn idle_table(idle: &[Idle]) -> String {
    let head = [
        "1,000 idle connections",
        "started, MB",
        "with them, MB",
        "kB each",
    ];
    let base = idle.first().map_or(f64::NAN, Idle::kb_each);
    let rows: Vec<Vec<String>> = idle
        .iter()
        .map(|one| {
            vec![
                one.kind.name().to_owned(),
                format!("{:.1}", one.before_mb),
                format!("{:.1}", one.after_mb),
                cell(one.kb_each(), 1, one.kb_each() / base),
            ]
        })
        .collect();
    markdown(&head.map(str::to_owned), &rows)
}

pub(super) fn instructions_table(counted: &[Counted]) -> String {
    let head = ["instructions of its own", "per request"];
    let base = counted.first().map_or(f64::NAN, |one| one.per_request);
    let rows: Vec<Vec<String>> = counted
        .iter()
        .map(|one| {
            let ratio = one.per_request / base;
            vec![one.kind.name().to_owned(), cell(one.per_request, 0, ratio)]
        })
        .collect();
    markdown(&head.map(str::to_owned), &rows)
}

fn cell(figure: f64, decimals: usize, ratio: f64) -> String {
    format!("{figure:.decimals$} ({ratio:.2} ×)")
}

pub(in crate::bench) fn markdown(head: &[String], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    line(head);
    line(&vec!["---".to_owned(); head.len()]);
    rows.iter().for_each(|row| line(row));
    text
}

pub(super) fn json(measured: &[Measured], idle: &[Idle], counted: &[Counted]) -> Value {
    json!({
        "workloads": measured.iter().map(workload_as_json).collect::<Value>(),
        "idle": idle.iter().map(idle_as_json).collect::<Value>(),
        "instructions_per_request": counted
            .iter()
            .map(|one| (one.kind.name().to_owned(), json!(one.per_request)))
            .collect::<Value>(),
    })
}

fn workload_as_json(measured: &Measured) -> Value {
    json!({
        "workload": measured.workload.name,
        "title": measured.workload.title,
        "proxies": measured.series.iter().map(|series| proxy_as_json(measured, series)).collect::<Value>(),
    })
}

fn proxy_as_json(measured: &Measured, series: &Series) -> Value {
    let base = measured.nginx();
    let rounds = series.samples.iter();
    json!({
        "proxy": series.kind.name(),
        "upstream_protocol": series.protocol,
        "median": figures(|figure| series.median(figure)),
        "ratio_to_nginx": figures(|figure| series.ratio(base, figure)),
        "rounds": rounds.map(|sample| figures(|figure| (figure.of)(sample))).collect::<Value>(),
        "added_to_p50_us": measured.added_us(series),
    })
}

fn figures(of: impl Fn(&Figure) -> f64) -> Value {
    let named = FIGURES.iter();
    named
        .map(|figure| (figure.key.to_owned(), json!(of(figure))))
        .collect()
}

fn idle_as_json(idle: &Idle) -> Value {
    json!({
        "proxy": idle.kind.name(),
        "started_mb": idle.before_mb,
        "with_connections_mb": idle.after_mb,
        "kb_each": idle.kb_each(),
    })
}
