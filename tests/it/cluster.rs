//! Failover of one shard of a Redis Cluster.

use std::sync::Arc;
use std::time::Duration;

use store::freshness::Lead;
use store::{KeyRing, keys};
use store_writer::{Rings, Store};
use tests::cluster::Cluster;
use tests::deployed::Deployed;
use tests::fleet::{Fleet, FleetConfig};
use tests::load::steady_load;
use tests::sandbox::Sandbox;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);
/// A quarter of it is left when a token is refreshed. That is more than a failover takes plus the last 2 s, in which
/// a token is not used.
const LIFETIME: &str = "32s";
/// Callers call for longer than the lifetime.
const CALLS: Duration = Duration::from_secs(35);

/// Forty installations are refreshed and called for. Meanwhile one of the three masters fails and returns as a
/// replica.
async fn refreshes_survive(
    fail: impl AsyncFnOnce(&mut Cluster),
    recover: impl AsyncFnOnce(&mut Cluster),
) {
    let mut fleet = Fleet::<Cluster>::start_topology(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", LIFETIME)],
        settings: &[
            ("EVERGREEN_REDIS_REPLICAS", "1"),
            ("EVERGREEN_TOKEN_TIMEOUT", "2s"),
        ],
    })
    .await;
    let installations = fleet.install(40).await;
    fleet.warm_caches(&installations).await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    let calls =
        tokio::spawn(async move { steady_load(&client, &public, &installations, 40, CALLS).await });
    let sandbox = Sandbox::at(&fleet.sandbox.url);
    let spent = async || sandbox.count("refresh_tokens_spent").await;
    until("the first refreshes", PATIENCE, || async {
        let spent = spent().await;
        holds(spent > 5, spent)
    })
    .await;
    fail(&mut fleet.redis.store).await;
    until("its replica to take over", PATIENCE, || async {
        let is_master = fleet.redis.store.is_master(3).await;
        holds(is_master, "a replica")
    })
    .await;
    recover(&mut fleet.redis.store).await;
    fleet.redis.store.wait_for_replica(3).await;
    let before = spent().await;
    until("refreshes to continue", PATIENCE, || async {
        let spent = spent().await;
        holds(spent >= before + 20, spent)
    })
    .await;
    calls.await.unwrap().expect_success();
    fleet.expect_no_token_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_continue_when_a_master_is_killed() {
    refreshes_survive(
        async |store: &mut Cluster| store.nodes[0].kill().await,
        async |store: &mut Cluster| store.nodes[0].restart().await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_continue_when_a_master_hangs() {
    refreshes_survive(
        async |store: &mut Cluster| store.nodes[0].hang(),
        async |store: &mut Cluster| store.nodes[0].resume(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_slot_is_followed_during_and_after_migration() {
    let deployed = Deployed::<Cluster>::start_topology(0).await;
    let cluster = &deployed.store;
    let rings = Rings {
        access: Arc::new(KeyRing::generate("a")),
        refresh: Arc::new(KeyRing::generate("r")),
    };
    let store = Store::redis(&deployed.broker_url, rings, Lead::Auto).unwrap();
    assert!(store.writer.use_consent_state("one").await.unwrap());

    let slot = cluster
        .run(0, &["CLUSTER", "KEYSLOT", &keys::consent("one")])
        .await;
    let from = cluster.master_of(slot.parse().unwrap());
    let to = (from + 1) % 3;
    let mut ids = Vec::new();
    for node in [from, to] {
        ids.push(cluster.run(node, &["CLUSTER", "MYID"]).await);
    }
    cluster
        .run(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]])
        .await;
    cluster
        .run(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]])
        .await;
    // For a key that has already moved, the old master redirects to the new one with ASK.
    cluster.run(from, &["DEL", &keys::consent("one")]).await;
    assert!(store.writer.use_consent_state("one").await.unwrap());
    assert!(!store.writer.use_consent_state("one").await.unwrap());

    for node in [to, from] {
        cluster
            .run(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]])
            .await;
    }
    assert!(!store.writer.use_consent_state("one").await.unwrap());
}
