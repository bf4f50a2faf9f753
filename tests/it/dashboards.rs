//! The dashboards of `deploy/grafana` and the rules of `deploy/prometheus`, with a real Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::get;
use tests::prometheus::Prometheus;
use tests::up::{ENDPOINT_THAT_IS_DOWN, Up};
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

/// Expressions that have no data in this test, and the reason.
const WITHOUT_DATA: [(&str, &str); 3] = [
    (
        "evergreen_tls_certificate_expiry_timestamp_seconds",
        "`up` has no certificate here",
    ),
    (
        "evergreen_gateway_queue_duration_seconds_bucket",
        "no call waits for its turn, since the sandbox has no limit",
    ),
    (
        "evergreen_gateway_token_wait_duration_seconds_bucket",
        "no call waits for a token, since all are fresh",
    ),
];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|reason| panic!("{path}: {reason}"))
}

/// Each dashboard by the name of its file.
fn dashboards() -> BTreeMap<String, Value> {
    let directory = fs::read_dir(root().join("deploy/grafana/dashboards")).unwrap();
    let files = directory.map(|entry| {
        let path = entry.unwrap().path();
        let content = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (path.file_name().unwrap().display().to_string(), content)
    });
    files.collect()
}

/// The panels that show something, each after the name of its dashboard.
fn panels() -> Vec<(String, Value)> {
    let mut panels = Vec::new();
    for (file, dashboard) in dashboards() {
        let all = dashboard["panels"].as_array().unwrap().clone();
        let shown = all.into_iter().filter(|panel| panel["type"] != "row");
        panels.extend(shown.map(|panel| (file.clone(), panel)));
    }
    panels
}

/// Each expression after the dashboard and the panel that it is from.
fn expressions() -> Vec<(String, String)> {
    let mut expressions = Vec::new();
    for (file, panel) in panels() {
        let place = format!("{file}: {}", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap().to_owned();
            expressions.push((place.clone(), expression));
        }
    }
    expressions
}

/// As Grafana asks, with the app of `up`.
fn with_variables(expression: &str) -> String {
    expression.replace("$app", "default")
}

/// The names of metrics and of recorded rules in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
    words.filter(|word| word.starts_with("evergreen"))
}

/// The queries of all runbooks, each after the name of its page.
fn queries_of_runbooks() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let path = entry.unwrap().path();
        let page = fs::read_to_string(&path).unwrap();
        for block in page.split("```promql\n").skip(1) {
            let (block, _) = block.split_once("```").unwrap();
            let lines = block.lines();
            queries.extend(lines.map(|line| (path.display().to_string(), line.to_owned())));
        }
    }
    queries
}

#[test]
fn dashboards_are_those_that_the_script_makes() {
    let check = Command::new(root().join("deploy/grafana/make"))
        .arg("--check")
        .output()
        .expect("python3");
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn each_panel_has_a_title_a_description_and_a_unit() {
    let dashboards = dashboards();
    let files: Vec<&String> = dashboards.keys().collect();
    assert_eq!(files, ["app.json", "fleet.json", "gateway.json"]);
    let mut titles = BTreeSet::new();
    for (file, panel) in panels() {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        assert!(!title.is_empty(), "{file}: {panel:#}");
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(
            description.len() > 20 && description.ends_with('.'),
            "{file}: {title}"
        );
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(unit.is_some_and(|unit| !unit.is_empty()), "{file}: {title}");
        let is_new = titles.insert((file.clone(), title.clone()));
        assert!(is_new, "{file} has two panels {title}");
    }
    assert!(titles.len() > 30, "{titles:#?}");
}

#[test]
fn dashboards_use_documented_metrics() {
    let documented = read("docs/metrics.md");
    let rules = read("deploy/prometheus/rules.yml");
    for (place, expression) in expressions() {
        for name in names(&expression) {
            let of_histogram = name.strip_suffix("_bucket").or(name.strip_suffix("_count"));
            let metric = of_histogram.unwrap_or(name);
            let is_known = documented.contains(&format!("`{metric}`"))
                || documented.contains(&format!("`{metric}{{"))
                || rules.contains(&format!("- record: {metric}\n"));
            assert!(is_known, "{place}: {name}");
        }
    }
}

/// Waits until an expression has a value that is right.
async fn until_value(prometheus: &Prometheus, expression: &str, is_right: impl Fn(f64) -> bool) {
    until(expression, PATIENCE, || async {
        let samples = prometheus.query(expression).await?;
        holds(samples.iter().any(|(_, value)| is_right(*value)), samples)
    })
    .await;
}

async fn refresh(up: &Up, installation: &str) {
    let refresh = up.command(&["installations", "refresh", installation]);
    refresh.run().await;
}

/// Two rounds of calls and refreshes, each seen by Prometheus: a rate needs a series that is there before it grows.
async fn make_traffic(up: &Up, prometheus: &Prometheus) {
    let id = up.install("locA").await;
    let products = format!("{}/api/ghl/products?installation_id={id}", up.public);
    for round in [1.0, 2.0] {
        assert_eq!(get(&up.client, &products).await.0, 200);
        refresh(up, &id).await;
        let calls = r#"max(evergreen_gateway_request_duration_seconds_count{route="products"})"#;
        until_value(prometheus, calls, |count| count >= round).await;
        let refreshes = "max(evergreen_refresh_duration_seconds_count)";
        until_value(prometheus, refreshes, |count| count >= round).await;
    }
    let faults = json!([
        { "on": "token", "kind": "invalid_grant", "next": 1 },
        { "on": "api", "kind": "status", "status": 500, "next": 1 },
    ]);
    up.sandbox.faults(faults).await;
    refresh(up, &id).await;
    assert_eq!(get(&up.client, &products).await.0, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_dashboards_and_rules_have_data() {
    // A failed delivery is enough to count one.
    let up = Up::start(&ENDPOINT_THAT_IS_DOWN).await;
    // `up` is a broker and a gateway.
    let target = up.internal.strip_prefix("http://").unwrap();
    let prometheus = Prometheus::start(&[("broker", target), ("gateway", target)]).await;
    until_value(&prometheus, "sum(up)", |count| count == 2.0).await;
    make_traffic(&up, &prometheus).await;

    // These show what was just done.
    for (panel, label) in [
        ("Refreshes that failed", r#"outcome="suspect""#),
        ("5xx of GHL by route", r#"route="products""#),
        ("Calls by status", r#"status_class="2xx""#),
    ] {
        let expressions = expressions();
        let of_panel = expressions.iter().find(|(place, _)| place.contains(panel));
        let (_, expression) = of_panel.unwrap_or_else(|| panic!("no panel {panel}"));
        let labels = format!("{label} in {expression}");
        until(&labels, PATIENCE, || async {
            let samples = prometheus.query(expression).await?;
            let (name, wanted) = label.split_once('=').unwrap();
            let wanted = wanted.trim_matches('"');
            let is_there = samples
                .iter()
                .any(|(labels, value)| labels[name] == wanted && *value > 0.0);
            holds(is_there, samples)
        })
        .await;
    }

    for (place, expression) in expressions() {
        let asked = with_variables(&expression);
        let reason = WITHOUT_DATA
            .iter()
            .find(|(metric, _)| expression.contains(metric));
        if let Some((_, reason)) = reason {
            let samples = prometheus.query(&asked).await;
            let samples = samples.unwrap_or_else(|error| panic!("{place}: {error}"));
            // The quantile of a histogram without samples is not a number.
            let is_empty = samples.iter().all(|(_, value)| value.is_nan());
            assert!(is_empty, "{place}: {reason}, but {samples:?}");
            continue;
        }
        until(&format!("data of {place}: {asked}"), PATIENCE, || async {
            let samples = prometheus.query(&asked).await?;
            holds(samples.iter().any(|(_, value)| !value.is_nan()), samples)
        })
        .await;
    }

    for (page, query) in queries_of_runbooks() {
        let answer = prometheus.query(&query).await;
        assert!(answer.is_ok(), "{page}: {query}: {answer:?}");
    }

    until("all rules to be evaluated", PATIENCE, || async {
        let rules = prometheus.rules().await;
        let sick: Vec<&Value> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
        holds(rules.len() > 25 && sick.is_empty(), (rules.len(), sick))
    })
    .await;
    for rule in prometheus.rules().await {
        let query = rule["query"].as_str().unwrap();
        let samples = prometheus.query(query).await;
        let samples = samples.unwrap_or_else(|error| panic!("{}: {error}", rule["name"]));
        assert_eq!(rule["lastError"].as_str().unwrap_or_default(), "");
        if rule["type"] == "recording" {
            assert!(!samples.is_empty(), "{} has no data", rule["name"]);
        }
    }
}
