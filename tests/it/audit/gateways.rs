//! Gateways report to brokers over Redis.

use tests::fleet::{Fleet, FleetConfig, Member};
use tests::program::Start;
use tokio::time::Instant;

use super::*;

async fn fleet() -> (Fleet, String) {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await;
    let id = client::install(&fleet.client, &fleet.haproxy.url, "locA").await;
    (fleet, id)
}

async fn entries(fleet: &Fleet) -> Vec<Value> {
    let url = format!("{}/v1/audit?limit=10000", fleet.brokers[0].internal);
    let (status, body) = client::get(&fleet.client, &url).await;
    assert_eq!(status, 200, "{body}");
    body["entries"].as_array().unwrap().clone()
}

async fn create_key(fleet: &Fleet, name: &str) -> String {
    let url = format!("{}/v1/keys", fleet.brokers[0].internal);
    let body = json!({ "name": name, "scopes": ["tokens"] });
    let (status, made) = send(fleet.client.post(url).json(&body)).await;
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().unwrap().to_owned()
}

async fn fetch_at(gateway: &Member, id: &str, key: &str) {
    let url = format!("{}/v1/installations/{id}/token", gateway.internal);
    let (status, body) = send(client::anonymous().get(url).bearer_auth(key)).await;
    assert_eq!(status, 200, "{body}");
}

/// Waits until this many fetches of the key are in the log.
async fn until_fetched(fleet: &Fleet, key: &str, count: usize) -> Vec<Value> {
    until("the fetches", Duration::from_secs(60), || async {
        let all = entries(fleet).await;
        let is_fetch = |it: &&Value| it["action"] == "token_fetched" && it["by"]["name"] == key;
        let fetched: Vec<Value> = all.iter().filter(is_fetch).cloned().collect();
        holds(fetched.len() == count, &all).map(|()| fetched)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_report_and_wait_for_a_broker_that_is_away() {
    let (mut fleet, id) = fleet().await;
    let (crm, erp) = (
        create_key(&fleet, "crm").await,
        create_key(&fleet, "erp").await,
    );
    for gateway in &fleet.gateways[..2] {
        fetch_at(gateway, &id, &crm).await;
    }
    let fetched = until_fetched(&fleet, "crm", 2).await;
    assert!(
        fetched.iter().all(|it| it["installation"] == id),
        "{fetched:#?}"
    );
    assert!(
        fetched.iter().all(|it| it["address"] == "127.0.0.1"),
        "{fetched:#?}"
    );

    fleet.brokers[0].kill().await;
    let before = Instant::now();
    fetch_at(&fleet.gateways[0], &id, &erp).await;
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "the caller waits for nothing"
    );
    let gateway = fleet.gateways[0].program.as_ref().unwrap();
    gateway
        .wait_for_line(&["reports for the audit log, trying again"], PATIENCE)
        .await;
    fleet.brokers[0].launch().await;
    let fetched = until_fetched(&fleet, "erp", 1).await;
    assert_eq!(fetched[0]["count"], 1);
    // The earlier reports are there, too.
    until_fetched(&fleet, "crm", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn report_without_the_access_keys_is_refused() {
    let (fleet, _) = fleet().await;
    let before = entries(&fleet).await;
    let hash = store::audit::BodyHash::of(b"{}");
    let now = store::Timestamp::of_this_machine().as_millis();
    let url = format!(
        "http://{}/v1/audit?at={now}&sha256={hash}",
        fleet.brokers[0].address
    );
    for mac in ["", "Evergreen a1:AAAA", &format!("Bearer {KEY}")] {
        let request = client::anonymous().post(&url).body("{}");
        let (status, body) = send(request.header("authorization", mac)).await;
        assert_eq!(
            (status, &body["code"]),
            (401, &json!("report_not_allowed")),
            "{mac}"
        );
    }
    // The log is for administrators, and not on the listener for gateways.
    let public = format!("http://{}/v1/audit", fleet.brokers[0].address);
    assert_eq!(client::get(&fleet.client, &public).await.0, 405);
    let internal = format!("{}/v1/audit", fleet.brokers[0].internal);
    assert_eq!(client::get(&client::anonymous(), &internal).await.0, 401);
    let after = entries(&fleet).await;
    let is_new = |it: &&Value| it["action"] != "request_refused";
    assert_eq!(after.iter().filter(is_new).count(), before.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_an_operator_makes_in_redis_leaves_an_entry() {
    let (fleet, _) = fleet().await;
    let keys = |args: &[&str]| {
        Start::evergreen(&["keys"]).args(args).env(
            "EVERGREEN_REDIS_URL_FILE",
            fleet.redis.file("broker-redis-url"),
        )
    };
    for args in [&["create", "--name", "ops"][..], &["revoke", "ops"]] {
        let output = keys(args).run().await;
        assert!(output.status.success(), "{output:?}");
    }
    let all = entries(&fleet).await;
    let of_ops: Vec<_> = all.iter().filter(|it| it["key"]["name"] == "ops").collect();
    let actions: Vec<_> = of_ops
        .iter()
        .map(|it| it["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["key_revoked", "key_created"]);
    assert!(
        of_ops.iter().all(|it| it["by"]["kind"] == "operator"),
        "{of_ops:#?}"
    );
}
