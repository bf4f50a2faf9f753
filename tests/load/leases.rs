//! Redlock on real nodes. Held, unreachable and misconfigured are distinguished, and one failed node of three
//! changes nothing.

use std::time::Duration;

use secrecy::SecretString;
use store::InstallationId;
use store_writer::{Leases, LockNodes, NotLeased};
use tests::redis::Redis;
use tests::wait::{holds, until};
use tokio::time::Instant;

const TTL: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(90);

async fn nodes(count: usize) -> Vec<Redis> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Redis::start().await);
    }
    nodes
}

fn watch(nodes: &[Redis], memory: Duration) -> LockNodes {
    let urls: Vec<SecretString> = nodes.iter().map(|node| node.url().into()).collect();
    LockNodes::start(&urls, "test", memory).unwrap()
}

fn leases(nodes: &[Redis]) -> Leases {
    Leases::redlock(watch(nodes, TTL))
}

fn states(watched: &LockNodes) -> Vec<&'static str> {
    let health = watched.health();
    health.iter().map(|(_, node)| node.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_is_exclusive_until_released() {
    for count in [1, 3] {
        let nodes = nodes(count).await;
        let (one, two) = (leases(&nodes), leases(&nodes));
        let id = InstallationId::random();
        let lease = one.take(&id, TTL).await.unwrap();
        assert!(lease.remaining() > TTL - Duration::from_secs(3));
        assert_eq!(two.take(&id, TTL).await.unwrap_err(), NotLeased::Held);
        assert!(
            two.take(&InstallationId::random(), TTL).await.is_ok(),
            "another installation is free"
        );
        one.release(lease).await;
        let lease = two.take(&id, TTL).await.unwrap();
        two.release(lease).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_leases_expire() {
    let leases = Leases::local();
    let id = InstallationId::random();
    let short = Duration::from_millis(100);
    let first = leases.take(&id, short).await.unwrap();
    assert_eq!(leases.take(&id, TTL).await.unwrap_err(), NotLeased::Held);
    let second = until("the lease to run out", PATIENCE, || async {
        leases
            .take(&id, TTL)
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    leases.release(first).await;
    let third = leases.take(&id, TTL).await;
    assert_eq!(
        third.unwrap_err(),
        NotLeased::Held,
        "the first holder cannot end the second's"
    );
    leases.release(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_need_two_of_three_lock_nodes() {
    let mut nodes = nodes(3).await;
    let leases = leases(&nodes);
    // Open the connections first, as in a running broker.
    let lease = leases.take(&InstallationId::random(), TTL).await.unwrap();
    leases.release(lease).await;

    nodes[0].hang();
    until("the hung node to be excluded", PATIENCE, || async {
        let started = Instant::now();
        let lease = leases.take(&InstallationId::random(), TTL).await;
        let lease = lease.map_err(|error| error.to_string())?;
        leases.release(lease).await;
        let took = started.elapsed();
        holds(took < Duration::from_millis(100), took)
    })
    .await;

    nodes[1].kill().await;
    until("two of three to be too few", PATIENCE, || async {
        match leases.take(&InstallationId::random(), TTL).await {
            Err(NotLeased::Unreachable {
                reachable: 1,
                nodes: 3,
                needed: 2,
            }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    nodes[0].resume();
    nodes[1].restart().await;
    until("leases again", PATIENCE, || async {
        let lease = leases.take(&InstallationId::random(), TTL).await;
        lease.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_excludes_other_brokers_after_node_failure() {
    let mut nodes = nodes(3).await;
    let (one, two) = (leases(&nodes), leases(&nodes));
    let id = InstallationId::random();
    let lease = one.take(&id, TTL).await.unwrap();
    nodes[2].kill().await;
    until(
        "the second broker to see the node gone",
        PATIENCE,
        || async {
            let lease = two.take(&InstallationId::random(), TTL).await;
            lease.map(drop).map_err(|error| error.to_string())
        },
    )
    .await;
    assert_eq!(two.take(&id, TTL).await.unwrap_err(), NotLeased::Held);
    one.release(lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_lock_password_is_reported_as_misconfiguration() {
    let node = Redis::start_with(&["--requirepass", "right"]).await;
    let url = node.url().replace("redis://", "redis://:wrong@");
    let leases = Leases::redlock(LockNodes::start(&[url.into()], "one", TTL).unwrap());
    let reason = until("the refusal", PATIENCE, || async {
        match leases.take(&InstallationId::random(), TTL).await {
            Err(NotLeased::Misconfigured(reason)) => Ok(reason),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(!reason.contains("wrong@"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_lock_node_is_excluded_until_old_locks_expire() {
    let mut nodes = nodes(3).await;
    let memory = Duration::from_secs(5);
    let watched = watch(&nodes, memory);
    let leases = Leases::redlock(watched.clone());
    let id = InstallationId::random();
    let lease = leases.take(&id, memory).await.unwrap();
    let is = |state: &'static str| {
        let states = states(&watched);
        async move { holds(states[0] == state, states) }
    };
    until("the node to be known", PATIENCE, || is("up")).await;

    nodes[0].kill().await;
    nodes[0].delete_data();
    nodes[0].restart().await;
    until("the loss to be detected", PATIENCE, || is("forgot")).await;
    let detected = Instant::now();
    // The two nodes with their data are enough.
    let other = leases.take(&InstallationId::random(), TTL).await.unwrap();
    leases.release(other).await;
    until("the node to be used again", PATIENCE, || is("up")).await;
    let excluded = detected.elapsed();
    assert!(excluded >= memory - Duration::from_secs(1), "{excluded:?}");
    leases.release(lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_node_failures_are_named_and_leases_continue() {
    let mut nodes = nodes(3).await;
    let watched = watch(&nodes, TTL);
    let leases = Leases::redlock(watched.clone());
    let is = |state: &'static str| {
        let states = states(&watched);
        async move { holds(states[2] == state, states) }
    };
    until("the node to be known", PATIENCE, || is("up")).await;
    let take = async || {
        let started = Instant::now();
        let lease = leases.take(&InstallationId::random(), TTL).await.unwrap();
        leases.release(lease).await;
        started.elapsed()
    };

    nodes[2].kill().await;
    until("a refused connection", PATIENCE, || is("away")).await;
    take().await;
    nodes[2].restart_with(&["--requirepass", "another"]).await;
    until("a wrong password", PATIENCE, || is("refuses")).await;
    take().await;
    nodes[2].restart_with(&[]).await;
    until("the node to recover", PATIENCE, || is("up")).await;
    nodes[2].hang();
    until("a timeout", PATIENCE, || is("away")).await;
    take().await;
    nodes[2].resume();
    until("the node to recover again", PATIENCE, || is("up")).await;
    take().await;
}
