//! The overview and `evergreen status`, with real processes: the numbers add up, and problems are named.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tests::client::{self, get, send};
use tests::fleet::{Fleet, FleetConfig};
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};

/// Gateways report every 15 s, and brokers write as often.
const PATIENCE: Duration = Duration::from_secs(90);

async fn overview(client: &Client, internal: &str) -> Value {
    let (status, body) = get(client, &format!("{internal}/v1/overview")).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// The counts of the last day that are not 0.
fn totals(overview: &Value) -> BTreeMap<String, u64> {
    let totals = overview["history"]["totals"].as_object();
    let totals = totals.unwrap_or_else(|| panic!("no counts in {overview}"));
    let totals = totals
        .iter()
        .map(|(name, count)| (name.clone(), count.as_u64().unwrap()));
    totals.filter(|(_, count)| *count > 0).collect()
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

fn kinds(overview: &Value) -> Vec<&str> {
    let advice = overview["advice"].as_array().unwrap();
    advice
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect()
}

/// Waits until the broker shows these counts, and no others.
async fn until_counted(client: &Client, internal: &str, expected: &[(&str, u64)]) -> Value {
    let expected = counts(expected);
    until(&format!("the counts {expected:?}"), PATIENCE, || async {
        let overview = overview(client, internal).await;
        let totals = totals(&overview);
        let is_known = overview["unknown"] == json!([]);
        holds(totals == expected && is_known, totals).map(|()| overview)
    })
    .await
}

/// Calls GHL for an installation. Returns the status.
async fn call(client: &Client, public: &str, id: &str) -> u16 {
    let url = format!("{public}/api/ghl/products?installation_id={id}");
    send(client.get(url)).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_add_up_and_survive_restarts() {
    let sandbox = Sandbox::start(&[]).await;
    let mut up = Up::start(&[]).await.against(&sandbox).await;
    let (one, _) = (up.install("locA").await, up.install("locB").await);
    for _ in 0..3 {
        assert_eq!(call(&up.client, &up.public, &one).await, 200);
    }
    let unknown = call(&up.client, &up.public, "install_unknown").await;
    assert!((400..500).contains(&unknown), "{unknown}");
    let fault = |on: &str, status: u16| json!([{ "on": on, "kind": "status", "status": status, "next": 1 }]);
    sandbox.faults(fault("api", 422)).await;
    assert_eq!(call(&up.client, &up.public, &one).await, 422);
    let refresh = up.command(&["installations", "refresh", &one]).run().await;
    assert!(refresh.status.success(), "{refresh:?}");

    let expected = [
        ("connected", 2),
        ("refreshed", 1),
        ("forwarded", 4),
        ("call_refused", 1),
        ("ghl_4xx", 1),
    ];
    let overview = until_counted(&up.client, &up.internal, &expected).await;
    assert_eq!(
        overview["installations"]["byState"]["valid"], 2,
        "{overview}"
    );
    assert_eq!(overview["installations"]["total"], 2, "{overview}");
    let expiries = overview["expiries"].as_array().unwrap().iter();
    let mut soonest: Vec<&str> = expiries.map(|it| it["name"].as_str().unwrap()).collect();
    soonest.sort_unstable();
    assert_eq!(soonest, ["locA", "locB"], "{overview}");
    assert_eq!(overview["unknown"], json!([]), "{overview}");
    let processes = overview["processes"].as_array().unwrap();
    let processes: Vec<&Value> = processes.iter().map(|it| &it["kind"]).collect();
    assert_eq!(processes, ["broker", "gateway"], "{overview}");
    let series = overview["history"]["series"].as_object().unwrap();
    for (name, series) in series {
        assert_eq!(series.as_array().unwrap().len(), 288, "{name}");
    }

    // None of the last calls is lost, though no report of them was due.
    for _ in 0..5 {
        assert_eq!(call(&up.client, &up.public, &one).await, 200);
    }
    let (code, log) = up.restart().await;
    assert_eq!(code, Some(0), "{log:#?}");
    let expected = [
        ("connected", 2),
        ("refreshed", 1),
        ("forwarded", 9),
        ("call_refused", 1),
        ("ghl_4xx", 1),
    ];
    until_counted(&up.client, &up.internal, &expected).await;
    up.kill_and_start().await;
    // Everything was in the store.
    until_counted(&up.client, &up.internal, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_wrong_and_fails_only_for_what_loses_calls() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let text = until("it to be ready", PATIENCE, || async {
        let status = up.command(&["status"]).run().await;
        let text = String::from_utf8(status.stdout).unwrap();
        let is_well = status.status.code() == Some(0) && text.contains("All is well.");
        holds(is_well, &text).map(|()| text)
    })
    .await;
    assert!(text.contains("1: 1 valid"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text}");

    up.sandbox
        .faults(json!([{
            "on": "token", "grant": "refresh_token", "locationId": "locA", "kind": "invalid_grant", "share": 1.0
        }]))
        .await;
    let url = format!("{}/v1/installations/{id}", up.internal);
    until("the third refusal", PATIENCE, || async {
        send(up.client.post(format!("{url}/refresh"))).await;
        let (_, shown) = get(&up.client, &url).await;
        holds(shown["tokenStatus"] == "invalid", shown)
    })
    .await;
    // An overview is shown for two seconds.
    let text = until("the problem", PATIENCE, || async {
        let status = up.command(&["status"]).run().await;
        let text = String::from_utf8(status.stdout).unwrap();
        let is_wrong =
            status.status.code() == Some(1) && text.starts_with("CRITICAL  1 installation");
        holds(is_wrong, &text).map(|()| text)
    })
    .await;
    assert!(text.contains("reconnect-link"), "{text}");
    let json = up.command(&["status", "--output", "json"]).run().await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(kinds(&json), ["needs_consent"], "{json}");
    assert!(totals(&json)["refused"] >= 3, "{json}");
    let quiet = up.command(&["status", "--quiet"]).run().await;
    assert_eq!(quiet.stdout, b"needs_consent\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_may_only_look_sees_the_overview_and_no_key() {
    let up = Up::start(&[]).await;
    let url = format!("{}/v1/keys", up.internal);
    for (scope, expected) in [
        ("view", 200),
        ("admin", 200),
        ("proxy", 403),
        ("metrics", 403),
    ] {
        let body = json!({ "name": scope, "scopes": [scope] });
        let (status, made) = send(up.client.post(&url).json(&body)).await;
        assert_eq!(status, 201, "{made}");
        let client = client::of_key(made["key"].as_str().unwrap());
        let seen = get(&client, &format!("{}/v1/overview", up.internal)).await;
        assert_eq!(seen.0, expected, "{scope}: {seen:?}");
        let keys = get(&client, &url).await.0;
        assert_eq!(keys, if scope == "admin" { 200 } else { 403 }, "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broker_of_a_fleet_shows_the_same_counts() {
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[],
        settings: &[],
    })
    .await;
    let ids = fleet.install(3).await;
    for gateway in &fleet.gateways {
        let public = format!("http://{}", gateway.address);
        for id in &ids {
            assert_eq!(call(&fleet.client, &public, id).await, 200);
        }
    }
    let expected = [("connected", 3), ("forwarded", 9)];
    for broker in &fleet.brokers {
        let overview = until_counted(&fleet.client, &broker.internal, &expected).await;
        assert_eq!(overview["store"]["kind"], "redis", "{overview}");
        assert_eq!(
            overview["installations"]["byState"]["valid"], 3,
            "{overview}"
        );
        assert_eq!(overview["lockNodes"]["needed"], 2, "{overview}");
        assert_eq!(overview["lockNodes"]["nodes"].as_array().unwrap().len(), 3);
    }
    let first = fleet.brokers[0].internal.clone();
    let names = async || {
        let overview = overview(&fleet.client, &first).await;
        let processes = overview["processes"].as_array().unwrap().clone();
        processes
            .iter()
            .map(|it| format!("{} {}", it["kind"], it["name"]))
            .collect::<Vec<String>>()
    };
    until("all processes to be seen", PATIENCE, || async {
        let names = names().await;
        let brokers = names.iter().filter(|it| it.contains("broker-")).count();
        holds(names.len() == 5 && brokers == 2, names)
    })
    .await;
    // A bucket ends by itself.
    let store = &fleet.redis.store;
    let login = fleet.redis.operator();
    let buckets = store.cli(&login, &["KEYS", "ghl:stats:0*"]).await;
    for bucket in buckets.lines() {
        let ttl = store.cli(&login, &["TTL", bucket]).await;
        let ttl: u64 = ttl.parse().unwrap_or_else(|_| panic!("{bucket}: {ttl}"));
        assert!((80_000..=90_000).contains(&ttl), "{bucket}: {ttl}");
    }

    // A broker that stops takes leave, and loses no count.
    let second = fleet.brokers[1].internal.clone();
    let url = format!("{second}/v1/installations/{}/refresh", ids[0]);
    let (status, body) = send(fleet.client.post(url)).await;
    assert_eq!(status, 200, "{body}");
    fleet.brokers[1].stop().await;
    let expected = [("connected", 3), ("forwarded", 9), ("refreshed", 1)];
    until_counted(&fleet.client, &first, &expected).await;
    until("the second broker to be gone", PATIENCE, || async {
        let processes = overview(&fleet.client, &first).await["processes"].to_string();
        let is_gone = processes.contains("broker-0") && !processes.contains("broker-1");
        holds(is_gone, processes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_lock_nodes_and_store_are_named() {
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await;
    fleet.install(1).await;
    fleet.redis.locks[0].kill().await;
    let internal = fleet.brokers[0].internal.clone();
    until("the lock node to be missed", PATIENCE, || async {
        let overview = overview(&fleet.client, &internal).await;
        let kinds = kinds(&overview).join(" ");
        holds(kinds.contains("lock_nodes_lost"), kinds)
    })
    .await;
    fleet.redis.store.kill().await;
    until("the store to be missed", PATIENCE, || async {
        let overview = overview(&fleet.client, &internal).await;
        let is_named = kinds(&overview)[0] == "not_ready";
        let unknown = overview["unknown"].to_string();
        let is_unknown = unknown.contains("history") && overview["history"].is_null();
        holds(is_named && is_unknown, overview)
    })
    .await;
}
