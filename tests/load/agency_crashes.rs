//! A broker dies after each step of an agency's consent, of the list of its locations, and of a mint. It is started again
//! on its disk. No location is lost, and none gets two installations.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use reqwest::Client;
use serde_json::{Value, json};
use tests::client::{self, get};
use tests::sandbox::AGENCY;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(120);
const LOCATIONS: [&str; 3] = [
    "sandboxHarborDental1",
    "sandboxMapleYoga0002",
    "sandboxOakEmberCafe3",
];
/// Cases at a time.
const AT_ONCE: usize = 3;
const STEPS: [&str; 8] = [
    "consent-journaled",
    "consent-stored",
    "page-listed",
    "list-recorded",
    "leased",
    "minted",
    "mint-stored",
    "released",
];

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_dies_at_any_step_loses_no_location_of_an_agency() {
    let cases = stream::iter(STEPS).map(|step| async move {
        // In a task of its own, so that a failed case does not stop the others.
        let ran = tokio::spawn(run(step)).await;
        ran.err().map(|error| format!("{step}: {error}"))
    });
    let failed: Vec<String> = cases
        .buffer_unordered(AT_ONCE)
        .filter_map(|failed| async { failed })
        .collect()
        .await;
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn run(step: &str) {
    // GHL outlives the process that dies.
    let sandbox = tests::sandbox::Sandbox::start(&[]).await;
    let mut up = Up::with_crash_points().await.against(&sandbox).await;
    up = up.with("TEST_CRASH_POINT", format!("{step} kill"));
    up.restart().await;
    // The other steps come with the consent and the list that follows it.
    let is_in_mint = step.starts_with("mint");
    let consented = client::consented(&up.client, &up.public, ("companyId", AGENCY))
        .await
        .unwrap();
    // The browser may see a broken connection.
    let connected = consented.send().await;
    if is_in_mint {
        connected.expect("the consent does not reach the step");
        until_listed(&up).await;
        // The process dies with this call.
        let _ = call(&up.client, &up.public, LOCATIONS[0]).await;
    }
    until(&format!("the death after {step}"), PATIENCE, || {
        let has_ended = up.program.has_ended();
        async move { holds(has_ended, "running") }
    })
    .await;
    up = up.with("TEST_CRASH_POINT", "");
    up.start_again().await;

    until_listed(&up).await;
    for location in LOCATIONS {
        until(&format!("a token for {location}"), PATIENCE, || async {
            let seen = call(&up.client, &up.public, location).await;
            holds(
                seen.as_ref().is_some_and(|(status, _)| *status == 200),
                seen,
            )
        })
        .await;
    }
    let (_, listed) = get(
        &up.client,
        &format!("{}/v1/installations?limit=100", up.internal),
    )
    .await;
    let listed = listed["installations"].as_array().cloned().unwrap();
    let owners: Vec<&str> = listed
        .iter()
        .filter_map(|one| one["locationId"].as_str().or(one["companyId"].as_str()))
        .collect();
    let distinct: BTreeSet<&str> = owners.iter().copied().collect();
    assert_eq!(
        (owners.len(), distinct.len()),
        (4, 4),
        "one installation each: {owners:?}"
    );
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    let minted = ledger["location_tokens_minted"].as_u64().unwrap();
    assert!(
        (3..=4).contains(&minted),
        "one is repeated at most: {ledger}"
    );
}

async fn until_listed(up: &Up) {
    let url = format!("{}/v1/installations/{AGENCY}", up.internal);
    until("the list of locations", PATIENCE, || async {
        let (_, seen) = get(&up.client, &url).await;
        let list = &seen["locations"];
        holds(
            list["listedAt"].is_string() && list["count"] == json!(3),
            seen,
        )
    })
    .await;
}

/// `None` without an answer.
async fn call(client: &Client, public: &str, location: &str) -> Option<(u16, Value)> {
    let url = format!("{public}/ghl/contacts/?locationId={location}&limit=1");
    let response = client.get(url).send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, client::body(response).await))
}
