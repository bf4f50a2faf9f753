//! Store outages: calls use cached tokens, and refreshes catch up afterwards.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;
use store::{KeyHash, KeyRing, Timestamp, TokenReader};
use tests::client;
use tests::fleet::{Fleet, FleetConfig};
use tests::load::steady_load;
use tests::redis::Redis;
use tests::testbed::Testbed;
use tests::wait::{holds, until};
use tokio::time::{Instant, sleep_until};

const PATIENCE: Duration = Duration::from_secs(90);

async fn until_committed(fleet: &Fleet, id: &str) {
    until("the response to be committed", PATIENCE, || async {
        let log = fleet.broker_logs();
        let is_committed = |line: &String| line.contains(&format!("[REFRESH] {id}"));
        holds(log.iter().any(is_committed), log)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_succeed_during_30_s_store_outage() {
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        // Some tokens fall due during the outage, none expires.
        sandbox: &[("TOKEN_LIFETIME", "80s")],
        settings: &[("EVERGREEN_TOKEN_TIMEOUT", "2s")],
    })
    .await;
    let installations = fleet.install(30).await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    // All gateways have cached all tokens before the outage.
    fleet.warm_caches(&installations).await;
    let length = Duration::from_secs(75);
    let started = Instant::now();
    let calls = tokio::spawn({
        let installations = installations.clone();
        async move { steady_load(&client, &public, &installations, 50, length).await }
    });
    sleep_until(started + Duration::from_secs(30)).await;
    fleet.redis.store.kill().await;
    sleep_until(started + Duration::from_secs(60)).await;
    fleet.redis.store.restart().await;
    let result = calls.await.unwrap();
    result.expect_success();
    until("all to be refreshed", PATIENCE, || async {
        let spent = fleet.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 30, spent)
    })
    .await;
    let ledger = fleet.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    assert_eq!(ledger["calls_with_expired_token"], 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn call_succeeds_after_the_store_has_closed_the_connection() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await;
    let installations = fleet.install(4).await;
    fleet.warm_caches(&installations[..1]).await;
    let operator = fleet.redis.operator();
    for id in &installations[1..] {
        // As when its users are loaded again, or an idle connection is closed on the way.
        let kill = ["CLIENT", "KILL", "TYPE", "normal"];
        fleet.redis.store.cli(&operator, &kill).await;
        for gateway in &fleet.gateways {
            let url = format!(
                "http://{}/api/ghl/products?installation_id={id}",
                gateway.address
            );
            let (status, body) = client::get(&fleet.client, &url).await;
            assert_eq!(status, 200, "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_received_during_store_outage_is_committed_afterwards() {
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "60s"), ("REPLAY_GRACE", "5s")],
        settings: &[("EVERGREEN_TOKEN_TIMEOUT", "4s")],
    })
    .await;
    let id = fleet.install(1).await.remove(0);
    let slow = json!([{
        "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 2000, "next": 1,
    }]);
    fleet.sandbox.faults(slow).await;
    until("the token to be spent", Duration::from_secs(70), || async {
        let spent = fleet.sandbox.count("refresh_tokens_spent").await;
        holds(spent == 1, spent)
    })
    .await;
    // Between GHL's response and the commit. The outage is longer than GHL's grace.
    fleet.redis.store.kill().await;
    let end_of_outage = Instant::now() + Duration::from_secs(35);
    sleep_until(end_of_outage).await;
    fleet.redis.store.restart().await;
    until_committed(&fleet, &id).await;
    let log = fleet.broker_logs();
    let failed: Vec<_> = log
        .iter()
        .filter(|line| line.contains("[REFRESH-FAIL]"))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let ledger = fleet.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    let url = format!(
        "{}/api/ghl/products?installation_id={id}",
        fleet.haproxy.url
    );
    // A gateway without a cached token must reconnect to the store by itself.
    until("a call to work", PATIENCE, || async {
        let (code, body) = client::get(&fleet.client, &url).await;
        holds(code == 200, body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_response_is_recovered_during_store_outage() {
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "20s")],
        settings: &[("EVERGREEN_TOKEN_TIMEOUT", "2s")],
    })
    .await;
    let id = fleet.install(1).await.remove(0);
    let lose = json!([{
        "on": "token", "grant": "refresh_token", "kind": "process_then_lose", "share": 1.0,
    }]);
    fleet.sandbox.faults(lose).await;
    until("a response to be lost", PATIENCE, || async {
        let log = fleet.broker_logs();
        let is_lost = |line: &String| line.contains("[REFRESH-RETRY]");
        holds(log.iter().any(is_lost), log)
    })
    .await;
    fleet.redis.store.kill().await;
    fleet.sandbox.faults(json!([])).await;
    until("the response to be replayed", PATIENCE, || async {
        let tally = fleet.sandbox.chain("loc000").await;
        let log = fleet.broker_logs();
        let is_kept = |line: &String| line.contains("outside the schedule");
        holds(log.iter().any(is_kept), (tally, log))
    })
    .await;
    // Wait until the grace is over, after which GHL replays nothing.
    sleep_until(Instant::now() + Duration::from_secs(30)).await;
    fleet.redis.store.restart().await;
    until_committed(&fleet, &id).await;
    fleet.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_response_recovery_waits_for_refresh_concurrency() {
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "1h")],
        settings: &[
            ("EVERGREEN_TOKEN_TIMEOUT", "8s"),
            ("EVERGREEN_REFRESH_CONCURRENCY", "1"),
        ],
    })
    .await;
    let installed = fleet.install(2).await;
    let refresh = |id: &String| {
        let url = &fleet.brokers[0].internal;
        let url = format!("{url}/v1/installations/{id}/refresh");
        client::send(fleet.client.post(url))
    };
    let rule = |location, kind| {
        json!({
            "on": "token", "grant": "refresh_token", "kind": kind, "locationId": location,
            "next": 1,
        })
    };
    let mut hang = rule("loc001", "hang");
    hang["ms"] = json!(60_000);
    let rules = json!([rule("loc000", "process_then_lose"), hang]);
    fleet.sandbox.faults(rules).await;
    let (code, lost) = refresh(&installed[0]).await;
    assert_ne!(code, 200, "{lost}");
    // It holds the only permit for longer than lost responses are left to the schedule.
    let hanging = tokio::spawn(refresh(&installed[1]));
    until("the other to hang", PATIENCE, || async {
        let faults = fleet.sandbox.shown_faults().await;
        holds(faults[1]["fired"] == 1, faults)
    })
    .await;
    fleet.redis.store.kill().await;
    until("the lost response to be replayed", PATIENCE, || async {
        let log = fleet.broker_logs();
        let is_kept =
            |line: &String| line.contains("outside the schedule") && line.contains(&installed[0]);
        holds(log.iter().any(is_kept), log)
    })
    .await;
    hanging.await.unwrap();
    fleet.redis.store.restart().await;
    for id in &installed {
        until_committed(&fleet, id).await;
    }
    fleet.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_reconnects_after_redis_password_is_corrected() {
    let mut server = Redis::start_with(&["--requirepass", "another"]).await;
    let url = SecretString::from(server.url().replace("redis://", "redis://:right@"));
    let reader = TokenReader::redis(&url, Arc::new(KeyRing::generate("a"))).unwrap();
    let refused = reader.ping().await.unwrap_err();
    assert!(refused.is_unavailable());
    server.restart_with(&["--requirepass", "right"]).await;
    until("the login", PATIENCE, || async {
        reader.ping().await.map_err(|error| format!("{error:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_administrator_acts_without_the_store_unless_revoked() {
    let bed = Testbed::start(0, "24h").await;
    let broker = bed.broker("only", &[]).await;
    let status = async |path: &str, key: &str| {
        let request = client::anonymous().get(format!("{}{path}", broker.internal));
        client::send(request.bearer_auth(key)).await.0
    };
    assert_eq!(status("/v1/installations/locX", client::KEY).await, 400);
    bed.store.hang();
    // 503: it came in, and the store is asked for the installation.
    assert_eq!(status("/v1/installations/locX", client::KEY).await, 503);
    assert_eq!(status("/v1/installations/locX", "evg_wrong").await, 503);
    let keys = status("/v1/keys", client::KEY).await;
    assert_eq!(keys, 503, "the store decides about keys");
    bed.store.resume();
    let revoked = bed.writer();
    let hash = KeyHash::of(client::KEY);
    until("the store", PATIENCE, || async {
        let done = revoked
            .revoke_caller(&hash, Timestamp::of_this_machine())
            .await;
        done.map_err(|error| error.to_string())
    })
    .await;
    until("the refusal", PATIENCE, || async {
        let status = status("/v1/installations/locX", client::KEY).await;
        holds(status == 401, status)
    })
    .await;
    bed.store.hang();
    assert_eq!(status("/v1/installations/locX", client::KEY).await, 401);
    bed.store.resume();
}
