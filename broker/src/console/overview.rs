//! The first page: problems, charts of the last day, and the state of everything.

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::installations;
use super::prose::Prose;
use super::{Console, Page, ROOT, Section, Time, Viewer, render};
use crate::Broker;
use crate::api::status::TokenStatus;
use crate::overview::advice::Advice;
use crate::overview::chart::{Chart, Series};
use crate::overview::{History, Overview, gather};

pub(super) fn routes() -> Router<Console> {
    Router::new().route(ROOT, get(show))
}

#[derive(Template)]
#[template(path = "console/overview.html")]
struct OverviewPage {
    page: Page,
    problems: Vec<(Advice, Prose)>,
    charts: Vec<ChartView>,
    states: Vec<StateView>,
    expiries: Vec<ExpiryView>,
    processes: Vec<ProcessView>,
    /// How long ago the installations were counted by state, if that is long.
    minutes_ago: Option<u64>,
    facts: Overview,
}

async fn show(State(broker): State<Broker>, viewer: Viewer) -> Response {
    let facts = gather::overview(&broker).await;
    render(&OverviewPage {
        page: viewer.page("Overview", Section::Overview),
        problems: problems(&facts),
        charts: facts.history.as_ref().map(charts).unwrap_or_default(),
        states: states(&facts),
        expiries: expiries(&facts),
        processes: processes(&facts),
        minutes_ago: minutes_ago(&facts),
        facts,
    })
}

/// Each problem, with what to do about it.
fn problems(facts: &Overview) -> Vec<(Advice, Prose)> {
    let all = facts.advice.iter();
    all.map(|it| (it.clone(), Prose::from(it.to_do))).collect()
}

/// A chart and its legend.
struct ChartView {
    title: &'static str,
    svg: Svg,
    legend: Vec<LegendEntry>,
}

/// A series of a chart, with its sum.
struct LegendEntry {
    class: &'static str,
    label: &'static str,
    total: u64,
}

/// The result of [`Chart::svg`].
struct Svg(String);

impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The chart escapes its texts.
impl HtmlSafe for Svg {}

/// Of series of the history: the class and the label of each, and the names of what is added up in it.
type Parts = &'static [(&'static str, &'static str, &'static [&'static str])];

const REFRESHES: Parts = &[
    ("good", "refreshed", &["refreshed", "minted"]),
    ("warn", "GHL did not answer", &["unreachable"]),
    (
        "bad",
        "refused, or failed here",
        &["refused", "credentials", "own"],
    ),
];

const CALLS: Parts = &[
    ("calls", "forwarded", &["forwarded"]),
    ("warn", "refused here", &["call_refused"]),
    ("bad", "failed here", &["call_failed"]),
];

const ERRORS: Parts = &[
    ("warn", "4xx of GHL", &["ghl_4xx"]),
    ("calls", "429 of GHL", &["ghl_429"]),
    ("bad", "5xx of GHL, or no answer", &["ghl_5xx"]),
];

fn charts(history: &History) -> Vec<ChartView> {
    vec![
        chart(history, "refreshes", "Refreshes", REFRESHES),
        chart(history, "calls", "Calls", CALLS),
        chart(history, "errors", "Errors of GHL", ERRORS),
    ]
}

fn chart(history: &History, id: &str, title: &'static str, parts: Parts) -> ChartView {
    let sums: Vec<Vec<u64>> = parts
        .iter()
        .map(|(_, _, names)| sum(history, names))
        .collect();
    let series: Vec<Series<'_>> = parts
        .iter()
        .zip(&sums)
        .map(|((class, label, _), counts)| Series {
            label,
            class,
            counts,
        })
        .collect();
    let chart = Chart {
        id,
        title,
        series: &series,
        last: history.last,
    };
    let legend = parts.iter().zip(&sums);
    ChartView {
        title,
        svg: Svg(chart.svg()),
        legend: legend
            .map(|((class, label, _), counts)| LegendEntry {
                class,
                label,
                total: counts.iter().sum(),
            })
            .collect(),
    }
}

/// The counts of several series, added up.
fn sum(history: &History, names: &[&str]) -> Vec<u64> {
    let mut sums = Vec::new();
    for name in names {
        let counts = history.of(name);
        sums.resize(counts.len().max(sums.len()), 0);
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    sums
}

/// How many installations are in a state.
struct StateView {
    /// As a filter of the list.
    name: &'static str,
    words: &'static str,
    class: &'static str,
    count: u64,
}

fn states(facts: &Overview) -> Vec<StateView> {
    let counted = facts.installations.as_ref();
    let counted = counted.and_then(|it| it.by_state.as_ref());
    let counted = counted.into_iter().flatten();
    let shown = counted.filter(|(_, count)| **count > 0);
    let view = |(name, count): (&&'static str, &u64)| {
        let status = TokenStatus::parse(name);
        let (words, class) = status.map_or((*name, ""), installations::label);
        StateView {
            name,
            words,
            class,
            count: *count,
        }
    };
    shown.map(view).collect()
}

fn minutes_ago(facts: &Overview) -> Option<u64> {
    let minutes = facts.installations.as_ref()?.age? / 60;
    (minutes > 0).then_some(minutes)
}

/// An access token that expires soon.
struct ExpiryView {
    id: String,
    name: String,
    app: String,
    at: Option<Time>,
}

fn expiries(facts: &Overview) -> Vec<ExpiryView> {
    let all = facts.expiries.iter().flatten();
    all.map(|it| ExpiryView {
        id: it.installation_id.clone(),
        name: it.name.clone(),
        app: it.app.clone(),
        at: Time::parse(&it.expires_at),
    })
    .collect()
}

/// A process that runs.
struct ProcessView {
    kind: &'static str,
    name: String,
    version: String,
    started: Option<Time>,
}

fn processes(facts: &Overview) -> Vec<ProcessView> {
    let all = facts.processes.iter().flatten();
    all.map(|it| ProcessView {
        kind: it.kind.as_str(),
        name: it.name.clone(),
        version: it.version.clone(),
        started: Time::parse(&it.started_at),
    })
    .collect()
}
