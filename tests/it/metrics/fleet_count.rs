//! Counts of the fleet: by one broker at a time, and as the store has them.

use std::time::Duration;

use serde_json::json;
use store::keys;
use tests::client::{self, get};
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::redis::cli;
use tests::testbed::Testbed;
use tests::up::Up;
use tests::wait::{holds, until};

use super::{PATIENCE, scrape, value};

const VALID: &str = r#"evergreen_installations{state="valid"}"#;
const INVALID: &str = r#"evergreen_installations{state="invalid"}"#;

/// The value of a series at each of these brokers.
async fn values(fleet: &Fleet, brokers: &[Member], series: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for broker in brokers {
        let url = format!("{}/metrics", broker.internal);
        let (_, text) = get(&fleet.client, &url).await;
        let text = text.as_str().unwrap_or_default().to_owned();
        values.push(value(&text, series).map(str::to_owned));
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_counts_the_fleet_and_another_takes_over() {
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[],
        settings: &[],
    })
    .await;
    fleet.install(3).await;
    let three = Some("3".to_owned());
    until("one broker to count", PATIENCE, || async {
        let found = values(&fleet, &fleet.brokers, VALID).await;
        let counting = found.iter().flatten().count();
        holds(counting == 1 && found.contains(&three), found)
    })
    .await;
    let found = values(&fleet, &fleet.brokers, VALID).await;
    let counting = found.iter().position(Option::is_some).unwrap();
    let counted = "evergreen_fleet_counted_timestamp_seconds";
    let others = values(&fleet, &fleet.brokers, counted).await;
    assert_eq!(others[1 - counting], None, "{others:?}");

    fleet.brokers[counting].kill().await;
    until("the other broker to count", PATIENCE, || async {
        let left = &fleet.brokers[1 - counting..=1 - counting];
        let found = values(&fleet, left, VALID).await;
        holds(found[0] == three, found)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_and_expiries_are_those_of_the_installations() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "240s")]).await;
    let ids = [up.install("locA").await, up.install("locB").await];
    let refused = json!([{
        "on": "token", "grant": "refresh_token", "kind": "invalid_grant", "share": 1.0, "locationId": "locA",
    }]);
    let soon = r#"evergreen_tokens_at_risk{state="expires_in_5m"}"#;
    until("both to be counted", PATIENCE, || async {
        let metrics = scrape(&up).await;
        let found = (value(&metrics, VALID), value(&metrics, soon));
        holds(found == (Some("2"), Some("2")), found)
    })
    .await;
    let metrics = scrape(&up).await;
    assert_eq!(value(&metrics, INVALID), Some("0"));
    let nearest = value(&metrics, "evergreen_nearest_expiry_timestamp_seconds").unwrap();
    let counted = value(&metrics, "evergreen_fleet_counted_timestamp_seconds").unwrap();
    let [nearest, counted] = [nearest, counted].map(|it| it.parse::<f64>().unwrap());
    let left = nearest - counted;
    assert!((60.0..=240.0).contains(&left), "{left}");

    up.sandbox.faults(refused).await;
    up.command(&["installations", "refresh", &ids[0]])
        .run()
        .await;
    until(
        "the refused one to be counted",
        Duration::from_secs(240),
        || async {
            let metrics = scrape(&up).await;
            let found = (value(&metrics, VALID), value(&metrics, INVALID));
            holds(found == (Some("1"), Some("1")), found)
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_entries_that_are_no_ids_does_not_end_a_count() {
    const FILL: &str = "for i = 1, 500 do redis.call('ZADD', KEYS[1], 1, 'none-' .. i) end";
    let testbed = Testbed::start(0, "24h").await;
    testbed.seed(3, "0s").await;
    for id in testbed.installations(3).await {
        let set = keys::expiry(id.partition());
        cli(testbed.store.port(), None, &["eval", FILL, "1", &set]).await;
    }
    let broker = testbed.broker("first", &[]).await;
    let client = client::new();
    until("all to be counted", PATIENCE, || async {
        let (_, text) = get(&client, &format!("{}/metrics", broker.internal)).await;
        let text = text.as_str().unwrap_or_default().to_owned();
        let found = value(&text, VALID).map(str::to_owned);
        holds(found.as_deref() == Some("3"), found)
    })
    .await;
}
