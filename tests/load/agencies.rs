//! An agency with many locations, over three brokers and three gateways.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::client::{self, get};
use tests::fleet::{Fleet, FleetConfig};
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(240);
const AGENCY: &str = "bigAgency00000000001";
const LOCATIONS: u64 = 1_500;

fn location(number: u64) -> String {
    format!("{AGENCY}Loc{number:05}")
}

async fn call(fleet: &Fleet, location: &str) -> (u16, Value) {
    let url = format!(
        "{}/ghl/contacts/?locationId={location}&limit=1",
        fleet.haproxy.url
    );
    get(&fleet.client, &url).await
}

async fn expect_success(fleet: &Fleet, location: &str) {
    let (status, body) = call(fleet, location).await;
    assert_eq!(status, 200, "{location}: {body}");
}

async fn agency_counts(fleet: &Fleet) -> Value {
    fleet.sandbox.ledger().await["companies"][AGENCY].clone()
}

/// GHL's rate limit applies, of 100 calls in 10 s for the agency.
async fn fleet_with_agency() -> (Fleet, String) {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 3,
        lock_nodes: 3,
        sandbox: &[("RATE_LIMIT", "100")],
        settings: &[],
    })
    .await;
    let agency = json!({ "companyId": AGENCY, "locations": LOCATIONS });
    let url = format!("{}/_sandbox/agencies", fleet.sandbox.url);
    let (status, body) = client::send(fleet.client.post(url).json(&agency)).await;
    assert_eq!(status, 200, "{body}");
    let id = client::install_agency(&fleet.client, &fleet.haproxy.url, AGENCY).await;
    (fleet, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn locations_of_a_large_agency_get_tokens_when_called_within_its_rate_limit() {
    let (fleet, agency) = fleet_with_agency().await;
    // Before the list is complete, a location is found by asking.
    expect_success(&fleet, &location(LOCATIONS)).await;
    let url = format!("{}/v1/installations/{agency}", fleet.brokers[0].internal);
    until("the list of locations", PATIENCE, || async {
        let (_, seen) = get(&fleet.client, &url).await;
        holds(
            seen["locations"]["count"] == LOCATIONS && seen["locations"]["listedAt"].is_string(),
            seen,
        )
    })
    .await;
    let list = format!(
        "{}/v1/installations?parent={agency}&limit=1000",
        fleet.brokers[1].internal
    );
    let (_, first) = get(&fleet.client, &list).await;
    assert_eq!(
        first["installations"].as_array().map(Vec::len),
        Some(1000),
        "the first page"
    );

    let called = 150;
    for number in 1..=called {
        expect_success(&fleet, &location(number)).await;
    }
    // All at once, and each twice.
    let rest: Vec<String> = (called + 1..=called + 100).map(location).collect();
    join_all(
        rest.iter()
            .chain(&rest)
            .map(|location| expect_success(&fleet, location)),
    )
    .await;

    let counts = agency_counts(&fleet).await;
    assert_eq!(counts["rate_limited_calls"], 0, "{counts}");
    assert_eq!(counts["locations_minted"], called + 101, "{counts}");
    assert_eq!(counts["most_minted_of_a_location"], 1, "{counts}");
    assert_eq!(fleet.sandbox.count("location_tokens_refused").await, 0);
}
