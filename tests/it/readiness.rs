//! `/readyz` closes and opens with what a process needs, and HAProxy follows it.

use std::time::Duration;

use reqwest::Client;
use secrecy::ExposeSecret;
use serde_json::Value;
use tests::client::{self, get, send};
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::load::steady_load;
use tests::redis::cli;
use tests::redis_fault_proxy::{Dropped, RedisFaultProxy};
use tests::testbed::Testbed;
use tests::wait::{holds, until};

/// A process says within seconds that it is not ready. A machine with other work needs longer.
const NOTICED: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(90);
const LOAD: Duration = Duration::from_secs(3);

/// Waits until the reasons not to be ready are exactly these. Returns the answer.
async fn until_reasons(client: &Client, internal: &str, names: &[&str]) -> Value {
    let url = format!("{internal}/readyz");
    until(&format!("{names:?}"), NOTICED, || async {
        let (status, body) = get(client, &url).await;
        let is_status = status == if names.is_empty() { 200 } else { 503 };
        let is_found = body["waiting_for"] == Value::from(names);
        holds(is_status && is_found, (status, &body)).map(|()| body)
    })
    .await
}

/// The text of the reason with this name.
fn message(body: &Value, name: &str) -> String {
    let reasons = body["reasons"].as_array().unwrap();
    let reason = reasons.iter().find(|reason| reason["name"] == name);
    let text = reason.and_then(|reason| reason["message"].as_str());
    text.unwrap_or_else(|| panic!("no reason {name}: {body}"))
        .to_owned()
}

fn config() -> FleetConfig<'static> {
    FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    }
}

/// Starts a gateway again with its store behind a proxy that can drop all answers.
async fn behind_proxy(fleet: &mut Fleet, number: usize) -> RedisFaultProxy {
    let proxy = RedisFaultProxy::to(fleet.redis.store.port()).await;
    let url = fleet.redis.gateway_url.expose_secret();
    let (login, _) = url.rsplit_once('@').unwrap();
    let (_, address) = proxy.url.rsplit_once('/').unwrap();
    let gateway = &mut fleet.gateways[number];
    gateway.kill().await;
    gateway.unset("EVERGREEN_REDIS_URL_FILE");
    gateway.set([("EVERGREEN_REDIS_URL", format!("{login}@{address}"))]);
    gateway.launch().await;
    proxy
}

async fn products(client: &Client, gateway: &Member, id: &str) -> u16 {
    let address = &gateway.address;
    let url = format!("http://{address}/api/ghl/products?installation_id={id}&limit=5&offset=0");
    get(client, &url).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_without_its_store_is_unready_and_two_others_take_all_calls() {
    let mut fleet = Fleet::start(&config()).await;
    let proxy = behind_proxy(&mut fleet, 0).await;
    let ids = fleet.install(4).await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    let cut_off = &fleet.gateways[0];
    until_reasons(&client, &cut_off.internal, &[]).await;
    fleet.haproxy.until_serving(0, true, NOTICED).await;
    assert_eq!(products(&client, cut_off, &ids[0]).await, 200);

    proxy.drop_replies(Dropped::Everything);
    let unready = until_reasons(&client, &cut_off.internal, &["store"]).await;
    let text = message(&unready, "store");
    assert!(text.contains("EVERGREEN_REDIS_URL"), "{text}");
    assert_eq!(unready["ready"], false);
    fleet.haproxy.until_serving(0, false, NOTICED).await;
    // It has read one of the four tokens.
    let through_lb = steady_load(&client, &public, &ids, 40, LOAD).await;
    through_lb.expect_success();
    assert_eq!(products(&client, cut_off, &ids[0]).await, 200);
    assert_ne!(products(&client, cut_off, &ids[1]).await, 200);
    let health = format!("http://{}/health", cut_off.address);
    assert_eq!(get(&client, &health).await.0, 200);

    proxy.drop_replies(Dropped::Nothing);
    until_reasons(&client, &cut_off.internal, &[]).await;
    fleet.haproxy.until_serving(0, true, NOTICED).await;
    assert_eq!(products(&client, cut_off, &ids[1]).await, 200);
    let healed = steady_load(&client, &public, &ids, 40, LOAD).await;
    healed.expect_success();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_gateways_are_used_if_none_is_ready() {
    let mut fleet = Fleet::start(&config()).await;
    let ids = fleet.install(3).await;
    fleet.warm_caches(&ids).await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    fleet.redis.store.kill().await;
    for (number, gateway) in fleet.gateways.iter().enumerate() {
        until_reasons(&client, &gateway.internal, &["store"]).await;
        fleet.haproxy.until_serving(number, false, NOTICED).await;
    }
    let from_memory = steady_load(&client, &public, &ids, 40, LOAD).await;
    from_memory.expect_success();
    fleet.redis.store.restart().await;
    for gateway in &fleet.gateways {
        until_reasons(&client, &gateway.internal, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_names_lost_lock_nodes_a_stalled_store_and_a_wrong_ring() {
    let mut bed = Testbed::start(3, "24h").await;
    let page = format!("{}/v2/oauth/chooselocation", bed.sandbox.url);
    let broker = bed.broker("only", &[("GHL_AUTHORIZE_URL", page)]).await;
    let client = client::new();
    let health = format!("http://{}/health", broker.address);
    assert_eq!(get(&client, &health).await.0, 200);
    until_reasons(&client, &broker.internal, &[]).await;
    let public = format!("http://{}", broker.address);
    let id = client::install(&client, &public, "locA").await;
    let refresh = format!("{}/v1/installations/{id}/refresh", broker.internal);

    for lock in &mut bed.locks[..2] {
        lock.kill().await;
    }
    let lost = until_reasons(&client, &broker.internal, &["locks"]).await;
    let text = message(&lost, "locks");
    assert!(text.contains("1 of 3 lock nodes"), "{text}");
    let dead = format!("127.0.0.1:{}", bed.locks[0].port());
    assert!(text.contains(&dead), "{text}");
    let line = ["this broker is not ready", "lock nodes"];
    let program = broker.program.as_ref().unwrap();
    program.wait_for_line(&line, PATIENCE).await;
    // The failure is counted by its cause, and not as one of the store.
    let (status, body) = send(client.post(&refresh)).await;
    assert_eq!(status, 503, "{body}");
    for (metric, value) in [
        (r#"evergreen_refresh_total{outcome="no_quorum"}"#, "1"),
        (r#"evergreen_store_errors_total{operation="refresh"}"#, "0"),
        (r#"evergreen_unready{reason="locks"}"#, "1"),
    ] {
        let seen = client::gauge(&client, &broker.internal, metric).await;
        assert_eq!(seen.as_deref(), Some(value), "{metric}");
    }
    for lock in &mut bed.locks[..2] {
        lock.restart().await;
    }
    until_reasons(&client, &broker.internal, &[]).await;

    bed.store.hang();
    until_reasons(&client, &broker.internal, &["store"]).await;
    bed.store.resume();
    until_reasons(&client, &broker.internal, &[]).await;

    let ring = WrongRing::make(&bed, "ghl:seal:refresh", "r1").await;
    let wrong = until_reasons(&client, &broker.internal, &["sealing_keys"]).await;
    let text = message(&wrong, "sealing_keys");
    assert!(text.contains("EVERGREEN_REFRESH_KEYS"), "{text}");
    ring.mend(&bed).await;
    until_reasons(&client, &broker.internal, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_whose_ring_does_not_fit_any_more_is_unready_and_goes_on() {
    let bed = Testbed::start(0, "24h").await;
    let broker = bed.broker("only", &[]).await;
    let broker_url = format!("http://{}", broker.address);
    let start = bed.gateway().env("EVERGREEN_BROKER_URL", broker_url);
    let gateway = Member::start(start).await;
    let client = client::new();
    let ring = WrongRing::make(&bed, "ghl:seal:access", "a1").await;
    let wrong = until_reasons(&client, &gateway.internal, &["sealing_keys"]).await;
    let text = message(&wrong, "sealing_keys");
    assert!(text.contains("EVERGREEN_ACCESS_KEYS"), "{text}");
    ring.mend(&bed).await;
    until_reasons(&client, &gateway.internal, &[]).await;
}

/// A store that says that a key of a running process is another one.
struct WrongRing {
    list: &'static str,
    id: &'static str,
    right: String,
}

impl WrongRing {
    async fn make(bed: &Testbed, list: &'static str, id: &'static str) -> Self {
        let port = bed.store.port();
        let right = cli(port, None, &["hget", list, id]).await;
        cli(port, None, &["hset", list, id, "00 needed"]).await;
        Self { list, id, right }
    }

    async fn mend(self, bed: &Testbed) {
        let Self { list, id, right } = self;
        cli(bed.store.port(), None, &["hset", list, id, &right]).await;
    }
}
