//! The store is away: calls go on with what gateways have, and refreshes catch up.

use std::time::Duration;

use tests::fleet::{Fleet, Shape};
use tests::load::steady;
use tests::wait::{holds, until};
use tokio::time::{Instant, sleep_until};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn thirty_seconds_without_the_store() {
    let _alone = tests::alone().await;
    let mut fleet = Fleet::start(&Shape {
        brokers: 2,
        lock_nodes: 3,
        // Some fall due while the store is away, none expires.
        sandbox: &[("TOKEN_LIFETIME", "80s")],
        settings: &[("EVERGREEN_TOKEN_TIMEOUT", "2s")],
    })
    .await;
    let installations = fleet.install(30).await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    // Every gateway has every token before the store goes.
    for gateway in &fleet.gateways {
        let url = format!("http://{}", gateway.address);
        let warm = steady(
            &client,
            &url,
            &installations,
            100,
            Duration::from_millis(500),
        )
        .await;
        warm.expect_success();
    }
    let length = Duration::from_secs(75);
    let started = Instant::now();
    let calls = tokio::spawn({
        let installations = installations.clone();
        async move { steady(&client, &public, &installations, 50, length).await }
    });
    sleep_until(started + Duration::from_secs(30)).await;
    fleet.redis.store.kill().await;
    sleep_until(started + Duration::from_secs(60)).await;
    fleet.redis.store.resume_process().await;
    let account = calls.await.unwrap();
    account.expect_success();
    until("all to be refreshed", PATIENCE, || async {
        let spent = fleet.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 30, spent)
    })
    .await;
    let ledger = fleet.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    assert_eq!(ledger["calls_with_expired_token"], 0, "{ledger}");
}
