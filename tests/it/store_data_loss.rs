//! The store loses confirmed writes, or is another store. Brokers restore the writes in their own store only.

use std::time::Duration;

use serde_json::Value;
use tests::client;
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(40);

/// GHL replays no response, and no refresh falls due during a test.
async fn start(brokers: usize) -> Fleet {
    Fleet::start(&FleetConfig {
        brokers,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "1h"), ("REPLAY_GRACE", "0s")],
        settings: &[("EVERGREEN_TOKEN_TIMEOUT", "2s")],
    })
    .await
}

/// Requests an immediate refresh from a broker.
async fn refresh(fleet: &Fleet, broker: usize, id: &str) -> (u16, Value) {
    let url = &fleet.brokers[broker].internal;
    let url = format!("{url}/v1/installations/{id}/refresh");
    client::send(fleet.client.post(url)).await
}

/// Refreshes all of these, distributed over the brokers.
async fn refresh_all(fleet: &Fleet, installations: &[String]) {
    for (number, id) in installations.iter().enumerate() {
        until("a refresh", PATIENCE, || async {
            let (status, body) = refresh(fleet, number % fleet.brokers.len(), id).await;
            holds(status == 200, body)
        })
        .await;
    }
}

async fn until_generation(fleet: &Fleet, installations: &[String], generation: &str) {
    let operator = fleet.redis.operator();
    for id in installations {
        let partition = &id["install_".len()..][..2];
        let key = format!("ghl:at:{{{partition}}}:{id}");
        until("the lost token to be restored", PATIENCE, || async {
            let ask = ["HGET", &key, "gen"];
            let found = fleet.redis.store.cli(&operator, &ask).await;
            holds(found == generation, (found, fleet.broker_logs()))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_restored_after_store_restarts_without_last_writes() {
    let mut fleet = start(2).await;
    let installations = fleet.install(6).await;
    let copy = fleet.redis.store.copy_data();
    refresh_all(&fleet, &installations).await;
    fleet.redis.store.kill().await;
    fleet.redis.store.restore_data(&copy);
    fleet.redis.store.restart().await;
    // Immediately, and from the broker without the journal entry. It must leave the installation to the other one.
    let (status, body) = refresh(&fleet, 1, &installations[0]).await;
    assert!([200, 503].contains(&status), "{status} {body}");
    until_generation(&fleet, &installations[1..], "2").await;
    refresh_all(&fleet, &installations[1..]).await;
    fleet.expect_no_token_lost().await;
    let restored = fleet.broker_logs();
    let is_one = |line: &&String| line.contains("the store had lost a token");
    assert!(restored.iter().filter(is_one).count() >= 5, "{restored:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_brokers_restore_writes_the_store_lost() {
    let mut fleet = start(2).await;
    let installations = fleet.install(4).await;
    let copy = fleet.redis.store.copy_data();
    refresh_all(&fleet, &installations).await;
    for broker in &mut fleet.brokers {
        broker.kill().await;
    }
    fleet.redis.store.kill().await;
    fleet.redis.store.restore_data(&copy);
    fleet.redis.store.restart().await;
    for broker in &mut fleet.brokers {
        broker.spawn();
    }
    until_generation(&fleet, &installations, "2").await;
    refresh_all(&fleet, &installations).await;
    fleet.expect_no_token_lost().await;
}

/// Starts a broker that is expected to stop, and waits for its end. Returns the line with the reason.
async fn until_stopped(broker: &mut Member) -> String {
    broker.spawn();
    let program = broker.program.as_mut().unwrap();
    let reason = ["does not work with this store"];
    let line = program.wait_for_line(&reason, PATIENCE).await;
    let program = std::cell::RefCell::new(program);
    until("the broker to end", PATIENCE, || async {
        holds(program.borrow_mut().has_ended(), "it runs")
    })
    .await;
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_is_not_replayed_into_another_store() {
    let mut fleet = start(1).await;
    let installations = fleet.install(1).await;
    refresh_all(&fleet, &installations).await;
    let operator = fleet.redis.operator();
    let field = async |fleet: &Fleet, name: &str| {
        let ask = ["HGET", "ghl:store", name];
        fleet.redis.store.cli(&operator, &ask).await
    };
    let own_id = field(&fleet, "id").await;
    assert!(own_id.starts_with("store_"), "{own_id}");
    fleet.brokers[0].kill().await;

    // An emptied store is not treated as a new one.
    fleet.redis.store.kill().await;
    fleet.redis.store.delete_data();
    fleet.redis.store.restart().await;
    let reason_line = until_stopped(&mut fleet.brokers[0]).await;
    assert!(
        reason_line.contains(&own_id) && reason_line.contains("empty"),
        "{reason_line}"
    );
    assert_eq!(field(&fleet, "id").await, "", "nothing was written");

    let mark = ["HSET", "ghl:store", "id", "store_other", "format", "1"];
    fleet.redis.store.cli(&operator, &mark).await;
    let reason_line = until_stopped(&mut fleet.brokers[0]).await;
    for part in [own_id.as_str(), "store_other", "EVERGREEN_DATA_DIR"] {
        assert!(reason_line.contains(part), "{part}: {reason_line}");
    }

    // With an empty data directory the broker starts fresh. It does not change a store of an unknown format.
    fleet.brokers[0].delete_data();
    fleet.brokers[0].launch().await;
    assert_eq!(field(&fleet, "id").await, "store_other");
    fleet.brokers[0].kill().await;
    let newer = ["HSET", "ghl:store", "format", "2"];
    fleet.redis.store.cli(&operator, &newer).await;
    let reason_line = until_stopped(&mut fleet.brokers[0]).await;
    assert!(reason_line.contains("format 2"), "{reason_line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_stops_and_does_not_write_after_store_is_flushed() {
    let mut fleet = start(1).await;
    let installations = fleet.install(1).await;
    refresh_all(&fleet, &installations).await;
    let operator = fleet.redis.operator();
    fleet.redis.store.cli(&operator, &["FLUSHALL"]).await;
    let broker = fleet.brokers[0].program.as_mut().unwrap();
    let reason = ["does not work with this store", "empty"];
    broker.wait_for_line(&reason, PATIENCE).await;
    let broker = std::cell::RefCell::new(broker);
    until("the broker to end", PATIENCE, || async {
        holds(broker.borrow_mut().has_ended(), "it runs")
    })
    .await;
    let keys = fleet.redis.store.cli(&operator, &["KEYS", "*"]).await;
    // The use of a key and the counts of the overview are not in the journal, and may be noted in any store.
    let written: Vec<&str> = keys
        .lines()
        .filter(|it| !it.contains("ghl:key:used") && !it.contains("ghl:stats:"))
        .collect();
    assert!(written.join("").is_empty(), "{written:?}");
}
