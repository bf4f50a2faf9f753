//! GHL refuses the client credentials of a fleet.

use std::time::Duration;

use serde_json::json;
use tests::client::{gauge, get};
use tests::fleet::{Fleet, FleetConfig};
use tests::wait::{holds, until};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(40);
const BREAKER: &str = "evergreen_token_endpoint_breaker_open{app=\"default\"}";
const ALARM: &str = "check GHL_CLIENT_ID and GHL_CLIENT_SECRET";

#[tokio::test(flavor = "multi_thread")]
async fn refused_client_credentials_cost_a_fleet_one_call_per_pause() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 3,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "20s")],
        settings: &[],
    })
    .await;
    let installations = fleet.install(30).await;
    fleet
        .sandbox
        .faults(json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]))
        .await;
    let count_lines = |word: &str| {
        let log = fleet.broker_logs();
        log.into_iter().filter(|line| line.contains(word)).count()
    };
    let all_show = async |value: &str| {
        for broker in &fleet.brokers {
            until("the breaker to show", PATIENCE, || async {
                let open = gauge(&fleet.client, &broker.internal, BREAKER).await;
                holds(open.as_deref() == Some(value), open)
            })
            .await;
        }
    };
    let refused = async || {
        let ledger = fleet.sandbox.ledger().await;
        ledger["token_calls"]["faulted"].as_u64().unwrap()
    };
    until("the alarm", PATIENCE, || async {
        holds(count_lines(ALARM) == 1, count_lines("[REFRESH-FAIL]"))
    })
    .await;
    all_show("1").await;
    let at_once = refused().await;
    assert!(at_once <= 30, "{at_once} calls before all brokers paused");

    // From now on one broker probes for all.
    let first_probe = until("a probe", PATIENCE, || async {
        let now = refused().await;
        holds(now > at_once, now).map(|()| Instant::now())
    })
    .await;
    assert_eq!(refused().await, at_once + 1);
    let second_probe = until("another probe", PATIENCE, || async {
        let now = refused().await;
        holds(now > at_once + 1, now).map(|()| Instant::now())
    })
    .await;
    assert_eq!(refused().await, at_once + 2, "one call per pause");
    let apart = second_probe - first_probe;
    assert!(apart >= Duration::from_secs(28), "{apart:?}");
    assert_eq!(count_lines(ALARM), 1, "one alarm");

    fleet.sandbox.faults(json!([])).await;
    until("all to be refreshed", PATIENCE * 2, || async {
        let spent = fleet.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 30, spent)
    })
    .await;
    all_show("0").await;
    assert_eq!(count_lines("accepts the client id and secret again"), 1);
    assert_eq!(count_lines(ALARM), 1);
    for id in installations {
        let url = format!(
            "{}/api/ghl/products?installation_id={id}",
            fleet.haproxy.url
        );
        let (code, body) = get(&fleet.client, &url).await;
        assert_eq!(code, 200, "no installation became invalid: {body}");
    }
}
