//! Fleets under load: no caller sees an authentication failure, and no refresh token is spent twice.

use std::time::Duration;

use tests::fleet::{Fleet, FleetConfig};
use tests::load::{LoadResult, steady_load};
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::time::{Instant, sleep_until};

/// Tokens live for 20 s, so every installation is refreshed four times a minute.
const LIFETIME: &str = "20s";
/// The longest token call. A token has 5 s left when it is refreshed. That must exceed the lease of a dead broker,
/// which is 1.5 times this.
const TOKEN_TIMEOUT: (&str, &str) = ("EVERGREEN_TOKEN_TIMEOUT", "2s");
const RATE: u32 = 50;

/// The ledger shows every refresh token spent once, and no call with an expired token.
async fn expect_clean(sandbox: &Sandbox, installations: usize, length: Duration) {
    let ledger = sandbox.ledger().await;
    for never in [
        "spent_outside_grace",
        "calls_with_expired_token",
        "calls_with_unknown_token",
    ] {
        assert_eq!(ledger[never], 0, "{never}: {ledger}");
    }
    // Every 15 s or a little earlier. A refresh storm would exceed this.
    let rounds = length.as_secs() / 15;
    let spent = ledger["refresh_tokens_spent"].as_u64().unwrap();
    let count = installations as u64;
    assert!(
        spent >= count * rounds.saturating_sub(1),
        "{spent} refreshes: {ledger}"
    );
    assert!(
        spent <= count * (rounds + 2) * 13 / 10,
        "{spent} refreshes: {ledger}"
    );
}

fn expect_calls(result: &LoadResult, length: Duration) {
    result.expect_success();
    let expected = length.as_secs() * u64::from(RATE);
    assert!(
        result.total() >= expected * 9 / 10,
        "{:?} of {expected}",
        result.responses
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn up_serves_20_installations_under_load() {
    let length = tests::length(Duration::from_secs(60));
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", LIFETIME)]).await;
    let mut installations = Vec::new();
    for number in 0..20 {
        installations.push(up.install(&format!("loc{number:03}")).await);
    }
    let result = steady_load(&up.client, &up.public, &installations, RATE, length).await;
    expect_calls(&result, length);
    assert_eq!(
        up.sandbox.count("replays_in_grace").await,
        0,
        "each token exactly once"
    );
    expect_clean(&up.sandbox, 20, length).await;
}

async fn fleet() -> (Fleet, Vec<String>) {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 3,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", LIFETIME)],
        settings: &[TOKEN_TIMEOUT],
    })
    .await;
    let installations = fleet.install(200).await;
    (fleet, installations)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_serve_200_installations_under_load() {
    let length = tests::length(Duration::from_secs(60));
    let (fleet, installations) = fleet().await;
    let result = steady_load(
        &fleet.client,
        &fleet.haproxy.url,
        &installations,
        RATE,
        length,
    )
    .await;
    expect_calls(&result, length);
    assert_eq!(
        fleet.sandbox.count("replays_in_grace").await,
        0,
        "each token exactly once"
    );
    expect_clean(&fleet.sandbox, 200, length).await;
    for broker in &fleet.brokers {
        let refreshed = broker
            .log()
            .iter()
            .filter(|line| line.contains("[REFRESH] "))
            .count();
        assert!(refreshed > 0, "{} refreshed nothing", broker.address);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_survive_kills_of_brokers_a_gateway_and_a_lock_node() {
    let length = tests::length(Duration::from_secs(75));
    let (mut fleet, installations) = fleet().await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    let calls =
        tokio::spawn(
            async move { steady_load(&client, &public, &installations, RATE, length).await },
        );
    let started = Instant::now();
    let at = |share: u32| sleep_until(started + length * share / 10);
    at(1).await;
    fleet.brokers[0].kill().await;
    at(2).await;
    fleet.gateways[1].kill().await;
    at(3).await;
    fleet.redis.locks[2].kill().await;
    at(5).await;
    fleet.brokers[0].launch().await;
    fleet.gateways[1].launch().await;
    fleet.redis.locks[2].restart().await;
    at(7).await;
    fleet.brokers[1].kill().await;
    at(8).await;
    fleet.brokers[1].launch().await;
    let result = calls.await.unwrap();
    expect_calls(&result, length);
    expect_clean(&fleet.sandbox, 200, length).await;
    let replays = fleet.sandbox.count("replays_in_grace").await;
    assert!(
        replays <= 8,
        "{replays} replays: more than two brokers had in flight when they died"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn up_recovers_after_repeated_kills() {
    let mut up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "4s")]).await;
    let id = up.install("locA").await;
    for _ in 0..3 {
        let seen = up.sandbox.count("refresh_tokens_spent").await;
        until("another refresh", Duration::from_secs(20), || async {
            let now = up.sandbox.count("refresh_tokens_spent").await;
            holds(now != seen, now)
        })
        .await;
        up.kill_and_start().await;
    }
    up.program
        .wait_for_line(&["[REFRESH]", &id], Duration::from_secs(20))
        .await;
    let url = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let (status, body) = tests::client::get(&up.client, &url).await;
    assert_eq!(status, 200, "{body}");
}
