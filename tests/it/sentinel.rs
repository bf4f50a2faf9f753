//! Failovers with Sentinel: the master moves, dies, or loses its replicas. No refresh token is lost.

use std::time::Duration;

use serde_json::{Value, json};
use store::InstallationId;
use store::connection::{Address, RedisClient};
use store_writer::backend::redis::RedisBackend;
use store_writer::backend::{Backend, Confirmation};
use tests::client;
use tests::deployed::Deployed;
use tests::fleet::{Fleet, FleetConfig};
use tests::load::steady_load;
use tests::sentinel::Sentinel;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);
/// A quarter of it is left when a token is refreshed. That is more than a failover takes.
const LIFETIME: &str = "32s";
/// Callers call for longer than the lifetime.
const CALLS: Duration = Duration::from_secs(34);
/// A write must be confirmed by one replica.
const CONFIRMED: (&str, &str) = ("EVERGREEN_REDIS_REPLICAS", "1");
const TOKEN_TIMEOUT: (&str, &str) = ("EVERGREEN_TOKEN_TIMEOUT", "2s");

async fn start(brokers: usize, lifetime: &str) -> Fleet<Sentinel> {
    Fleet::start_topology(&FleetConfig {
        brokers,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", lifetime)],
        settings: &[CONFIRMED, TOKEN_TIMEOUT],
    })
    .await
}

/// Requests an immediate refresh from a broker.
async fn refresh(fleet: &Fleet<Sentinel>, id: &str) -> (u16, Value) {
    let url = &fleet.brokers[0].internal;
    let url = format!("{url}/v1/installations/{id}/refresh");
    client::send(fleet.client.post(url)).await
}

async fn spent(fleet: &Fleet<Sentinel>) -> u64 {
    fleet.sandbox.count("refresh_tokens_spent").await
}

/// Forty installations are refreshed and called for while another server becomes the master.
async fn refreshes_survive(disturb: impl AsyncFnOnce(&mut Sentinel, usize)) {
    let mut fleet = start(2, LIFETIME).await;
    let installations = fleet.install(40).await;
    fleet.warm_caches(&installations).await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    let calls =
        tokio::spawn(async move { steady_load(&client, &public, &installations, 40, CALLS).await });
    until("the first refreshes", PATIENCE, || async {
        let spent = spent(&fleet).await;
        holds(spent > 5, spent)
    })
    .await;
    let store = &mut fleet.redis.store;
    let master = store.master().await;
    disturb(store, master).await;
    store.wait_for_failover(master).await;
    let before = spent(&fleet).await;
    until("refreshes to continue", PATIENCE, || async {
        let spent = spent(&fleet).await;
        holds(spent >= before + 20, spent)
    })
    .await;
    calls.await.unwrap().expect_success();
    fleet.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_continue_when_the_master_is_killed() {
    refreshes_survive(async |store: &mut Sentinel, master: usize| {
        store.servers[master].kill().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_continue_when_the_master_hangs() {
    refreshes_survive(async |store: &mut Sentinel, master: usize| {
        store.servers[master].hang();
        store.wait_for_failover(master).await;
        // It still acts as a master until the Sentinels reconfigure it.
        store.servers[master].resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_continue_after_planned_failover() {
    refreshes_survive(async |store: &mut Sentinel, _| store.fail_over().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_spent_without_an_in_sync_replica() {
    let fleet = start(1, "1h").await;
    let id = fleet.install(1).await.remove(0);
    let (store, master) = (&fleet.redis.store, fleet.redis.store.master().await);
    // The master itself would accept writes.
    let alone = ["CONFIG", "SET", "min-replicas-to-write", "0"];
    store.run(master, &alone).await;
    let replicas: Vec<_> = (0..3).filter(|server| *server != master).collect();
    for replica in &replicas {
        store.servers[*replica].hang();
    }
    for _ in 0..3 {
        let (status, body) = refresh(&fleet, &id).await;
        assert_eq!(status, 503, "{body}");
    }
    assert_eq!(
        spent(&fleet).await,
        0,
        "no token is spent whose successor might be lost"
    );
    for replica in &replicas {
        store.servers[*replica].resume();
    }
    until("a refresh", PATIENCE, || async {
        let (status, body) = refresh(&fleet, &id).await;
        holds(status == 200, body)
    })
    .await;
    assert_eq!(spent(&fleet).await, 1);
    fleet.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_write_is_not_confirmed_by_in_sync_replicas() {
    let deployed = Deployed::<Sentinel>::start_topology(0).await;
    let link = RedisClient::open(Address::parse(&deployed.broker_url).unwrap()).unwrap();
    let backend = RedisBackend::new(link, 1).unwrap();
    let id = InstallationId::random();
    let confirmation = backend.confirm(&id, b"never written").await.unwrap();
    assert_eq!(confirmation, Confirmation::Overwritten);
}

#[tokio::test(flavor = "multi_thread")]
async fn unconfirmed_commit_is_rewritten_from_journal_after_failover() {
    let mut fleet = start(1, "1h").await;
    let id = fleet.install(1).await.remove(0);
    let master = fleet.redis.store.master().await;
    fleet
        .sandbox
        .faults(json!([{
            "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 1500, "next": 1,
        }]))
        .await;
    let url = format!(
        "{}/v1/installations/{id}/refresh",
        fleet.brokers[0].internal
    );
    let request = tokio::spawn(client::send(fleet.client.post(url)));
    until("the token to be spent", PATIENCE, || async {
        let spent = spent(&fleet).await;
        holds(spent == 1, spent)
    })
    .await;
    // Between GHL's response and the commit. From here on, writes reach only the master.
    let store = &mut fleet.redis.store;
    for replica in (0..3).filter(|server| *server != master) {
        store.servers[replica].hang();
    }
    for command in [
        ["CONFIG", "SET", "min-replicas-to-write", "0"].as_slice(),
        &["CLIENT", "KILL", "TYPE", "replica"],
    ] {
        store.run(master, command).await;
    }
    until("the commit to reach the master", PATIENCE, || async {
        let log = fleet.brokers[0].log();
        let is_kept = |line: &String| {
            line.contains("a granted token waits in the journal") && line.contains(&id)
        };
        holds(log.iter().any(is_kept), log.last())
    })
    .await;
    let store = &mut fleet.redis.store;
    store.servers[master].kill().await;
    for replica in (0..3).filter(|server| *server != master) {
        store.servers[replica].resume();
    }
    let next = store.wait_for_failover(master).await;
    request.await.unwrap();
    until("the commit to reach the new master", PATIENCE, || async {
        let log = fleet.brokers[0].log();
        let is_written = |line: &String| line.contains("a kept response reached");
        holds(log.iter().any(is_written), log.last())
    })
    .await;
    let store = &fleet.redis.store;
    let partition = &id["install_".len()..][..2];
    let key = format!("ghl:at:{{{partition}}}:{id}");
    assert_eq!(store.run(next, &["HGET", &key, "gen"]).await, "2");
    assert_eq!(spent(&fleet).await, 1);
    // The next refresh spends the new token. If no replica confirms the write in time, the response is 503.
    until("a refresh", PATIENCE, || async {
        let (status, body) = refresh(&fleet, &id).await;
        holds(status == 200, body)
    })
    .await;
    assert_eq!(fleet.sandbox.count("replays_in_grace").await, 0);
    fleet.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_write_lost_in_failover_is_restored() {
    let mut fleet = start(1, "1h").await;
    let id = fleet.install(1).await.remove(0);
    let store = &mut fleet.redis.store;
    let master = store.master().await;
    let (behind, ahead) = ((master + 1) % 3, (master + 2) % 3);
    // One replica receives no more writes. The other one confirms them.
    store.servers[behind].hang();
    store
        .run(master, &["CLIENT", "KILL", "TYPE", "replica"])
        .await;
    store.wait_for_replicas(master, 1).await;
    let (status, body) = refresh(&fleet, &id).await;
    assert_eq!(status, 200, "{body}");

    let store = &mut fleet.redis.store;
    store.servers[master].kill().await;
    store.servers[ahead].kill().await;
    store.servers[behind].resume();
    let next = store.wait_for_failover(master).await;
    assert_eq!(next, behind);
    let partition = &id["install_".len()..][..2];
    let key = format!("ghl:at:{{{partition}}}:{id}");
    assert_eq!(store.run(next, &["HGET", &key, "gen"]).await, "1");

    // With a replica, the new master accepts writes again.
    store.servers[master].restart().await;
    until("the commit to reach the new master", PATIENCE, || async {
        let generation = store.run(next, &["HGET", &key, "gen"]).await;
        holds(generation == "2", generation)
    })
    .await;
    assert_eq!(spent(&fleet).await, 1);
    // A refresh that no replica confirms in time is answered with 503, although it is committed.
    until("a refresh", PATIENCE, || async {
        let (status, body) = refresh(&fleet, &id).await;
        holds(status == 200, body)
    })
    .await;
    assert_eq!(fleet.sandbox.count("replays_in_grace").await, 0);
    fleet.expect_no_token_lost().await;
}
