//! The names of metrics in `docs/metrics.md`, and those that real processes export.

use std::collections::BTreeSet;
use std::path::Path;

use tests::client::get;
use tests::fleet::{Fleet, FleetConfig};
use tests::up::{ENDPOINT_THAT_IS_DOWN, Up};
use tests::wait::{holds, until};

use super::PATIENCE;

/// Metrics that the processes of this test do not export, and the reason.
const NOT_EXPORTED: [(&str, &str); 1] = [(
    "evergreen_tls_certificate_expiry_timestamp_seconds",
    "there is no certificate",
)];

/// The names in the tables of a section of `docs/metrics.md`.
fn documented(section: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let names = cells.flat_map(|cell| cell.split(", ").map(name_of));
    let names: BTreeSet<String> = names.collect();
    assert!(!names.is_empty(), "{section}");
    names
}

/// The name in `` `name{label}` ``.
fn name_of(code: &str) -> String {
    let code = code.trim().trim_matches('`');
    code.split('{').next().unwrap_or(code).to_owned()
}

/// The names of all metrics that a process exports, and of those that it exports while they have a value.
fn exported(exposition: &str) -> BTreeSet<String> {
    let types = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split(' ').next().unwrap_or(line).to_owned())
        .collect()
}

/// Waits until a process exports exactly the metrics of these sections.
async fn until_exported(client: &reqwest::Client, internal: &str, sections: &[&str]) {
    let not_exported = NOT_EXPORTED.map(|(name, _)| name.to_owned());
    let mut expected: BTreeSet<String> = sections.iter().flat_map(|it| documented(it)).collect();
    for name in &not_exported {
        expected.remove(name);
    }
    until(
        &format!("the metrics of {sections:?}"),
        PATIENCE,
        || async {
            let (_, text) = get(client, &format!("{internal}/metrics")).await;
            let found = exported(text.as_str().unwrap_or_default());
            let missing: Vec<&String> = expected.difference(&found).collect();
            let undocumented: Vec<&String> = found.difference(&expected).collect();
            let is_same = missing.is_empty() && undocumented.is_empty();
            holds(
                is_same,
                format!("missing: {missing:?}, undocumented: {undocumented:?}"),
            )
        },
    )
    .await;
}

const FLEET: &str = "The fleet, as one broker counts it";
const ALL: [&str; 4] = [FLEET, "Broker", "Gateway", "Every process"];

#[tokio::test(flavor = "multi_thread")]
async fn up_exports_the_documented_metrics() {
    // A failed delivery is enough to count one.
    let up = Up::start(&ENDPOINT_THAT_IS_DOWN).await;
    let id = up.install("locA").await;
    let products = format!("{}/api/ghl/products?installation_id={id}", up.public);
    assert_eq!(get(&up.client, &products).await.0, 200);
    until_exported(&up.client, &up.internal, &ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_and_gateway_export_the_documented_metrics() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 3,
        sandbox: &[],
        settings: &ENDPOINT_THAT_IS_DOWN,
    })
    .await;
    let ids = fleet.install(1).await;
    fleet.warm_caches(&ids).await;
    let (broker, gateway) = (&fleet.brokers[0].internal, &fleet.gateways[0].internal);
    until_exported(&fleet.client, broker, &[FLEET, "Broker", "Every process"]).await;
    until_exported(&fleet.client, gateway, &["Gateway", "Every process"]).await;
}
