//! Prometheus metrics, and whether the documentation and the rules in `deploy/` use existing metrics.

mod documentation;
mod fleet_count;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tests::client::get;
use tests::up::{ENDPOINT_THAT_IS_DOWN, Up};
use tests::wait::{holds, until};
use tokio::io::AsyncWriteExt;

const PATIENCE: Duration = Duration::from_secs(90);

async fn scrape(up: &Up) -> String {
    let (code, text) = get(&up.client, &format!("{}/metrics", up.internal)).await;
    assert_eq!(code, 200);
    text.as_str().unwrap().to_owned()
}

/// The value of one series, as text.
fn value<'a>(metrics: &'a str, series: &str) -> Option<&'a str> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_refreshes_and_calls_and_probes_are_ready() {
    let up = Up::start(&[]).await;
    for path in ["livez", "readyz"] {
        until(path, PATIENCE, || async {
            let (code, body) = get(&up.client, &format!("{}/{path}", up.internal)).await;
            holds(code == 200, body)
        })
        .await;
    }
    let before = scrape(&up).await;
    let refreshed = r#"evergreen_refresh_total{outcome="refreshed"}"#;
    assert_eq!(
        value(&before, refreshed),
        Some("0"),
        "the series exists before its first event"
    );
    let id = up.install("locA").await;
    assert!(
        up.command(&["installations", "refresh", &id])
            .run()
            .await
            .status
            .success()
    );
    let products = format!("{}/api/ghl/products?installation_id={id}", up.public);
    for _ in 0..3 {
        assert_eq!(get(&up.client, &products).await.0, 200);
    }
    let after = scrape(&up).await;
    assert_eq!(value(&after, refreshed), Some("1"));
    assert_eq!(
        value(&after, "evergreen_refresh_duration_seconds_count"),
        Some("1")
    );
    let calls = r#"evergreen_gateway_requests_total{route="products",status_class="2xx",by="ghl"}"#;
    assert_eq!(value(&after, calls), Some("3"));
    let hits = value(&after, r#"evergreen_gateway_cache_total{result="hit"}"#).unwrap();
    assert!(hits.parse::<u64>().unwrap() >= 2, "{hits}");
    assert!(!after.contains(&id), "labels contain no installation");
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_rules_use_existing_metrics_and_promtool_accepts_them() {
    // A failed delivery is enough to count one.
    let up = Up::start(&ENDPOINT_THAT_IS_DOWN).await;
    let id = up.install("locA").await;
    up.command(&["installations", "refresh", &id]).run().await;
    get(
        &up.client,
        &format!("{}/api/ghl/products?installation_id={id}", up.public),
    )
    .await;
    let attempted = ["a message was not delivered"];
    up.program
        .wait_for_line(&attempted, Duration::from_secs(60))
        .await;
    let metrics = scrape(&up).await;
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/rules.yml");
    let rules = std::fs::read_to_string(rules).unwrap();
    let named: BTreeSet<&str> = rules
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("evergreen_"))
        .collect();
    assert!(named.len() >= 5, "{named:?}");
    let unknown: Vec<&&str> = named
        .iter()
        .filter(|name| !metrics.contains(**name))
        .collect();
    assert!(
        unknown.is_empty(),
        "rules.yml uses unknown metrics {unknown:?}"
    );

    let mut promtool = tokio::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of the package prometheus");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).await.unwrap();
    drop(input);
    let verdict = promtool.wait_with_output().await.unwrap();
    assert!(verdict.status.success(), "{verdict:?}");
}
