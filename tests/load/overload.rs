//! GHL is overloaded and answers 429.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tests::fleet::{Fleet, FleetConfig};
use tests::load::steady_load;
use tests::up::Up;
use tests::wait::{holds, until};

#[tokio::test(flavor = "multi_thread")]
async fn callers_cause_no_token_calls_during_retry_after() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "4s"),
        ("EVERGREEN_EXPIRED_WAIT", "2s"),
    ])
    .await;
    let id = up.install("locA").await;
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "status", "status": 429, "retry_after": 30, "share": 1.0 }]))
        .await;
    // The token expires during this time, and callers keep calling.
    let calls = steady_load(&up.client, &up.public, &[id], 20, Duration::from_secs(12)).await;
    assert!(calls.responses.contains_key(&503), "{:?}", calls.responses);
    assert!(!calls.responses.contains_key(&401), "{:?}", calls.responses);
    let token_calls = up.sandbox.ledger().await["token_calls"]["faulted"]
        .as_u64()
        .unwrap();
    assert!(
        token_calls <= 2,
        "{token_calls} token calls, although GHL sent Retry-After: 30"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_pause_together_when_ghl_is_overloaded() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 3,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "60s")],
        settings: &[],
    })
    .await;
    fleet.install(10).await;
    let overload = |location: String| {
        json!({
            "on": "token", "kind": "status", "status": 429, "retry_after": 20, "share": 1.0,
            "locationId": location,
        })
    };
    let mut rules: Vec<Value> = (1..10).map(|n| overload(format!("loc{n:03}"))).collect();
    // Meanwhile one refresh succeeds and its response is lost. The pause must not outlast GHL's grace.
    rules.push(json!({
        "on": "token", "kind": "process_then_lose", "next": 1, "locationId": "loc000",
    }));
    fleet.sandbox.faults(json!(rules)).await;
    let log_lines = |word: &str| {
        let log = fleet.broker_logs();
        let mut lines: Vec<String> = log.into_iter().filter(|line| line.contains(word)).collect();
        lines.sort();
        lines
    };
    let retries = || attempts(&log_lines("[REFRESH-RETRY]"));
    until(
        "pauses, and a second attempt",
        Duration::from_secs(150),
        || async {
            let longest = retries().values().map(Vec::len).max();
            let pauses = log_lines("all refreshes pause").len();
            holds(longest >= Some(2) && pauses >= 3, (longest, pauses))
        },
    )
    .await;
    for (id, attempts) in retries() {
        let numbers: Vec<u64> = attempts.iter().map(|(number, _)| *number).collect();
        let in_turn: Vec<u64> = (1..).take(numbers.len()).collect();
        assert_eq!(numbers, in_turn, "{id}: brokers share the attempt count");
        for pair in attempts.windows(2) {
            let apart = pair[1].1.duration_since(pair[0].1).unwrap();
            assert!(apart >= Duration::from_secs(19), "{id}: {apart:?}");
        }
    }
    // Each pause of all brokers is logged once, and few calls are made before all brokers know of it.
    let pauses = log_lines("all refreshes pause");
    for pair in pauses.windows(2) {
        let apart = logged_at(&pair[1])
            .duration_since(logged_at(&pair[0]))
            .unwrap();
        assert!(apart >= Duration::from_secs(9), "{pauses:#?}");
    }
    let ledger = fleet.sandbox.ledger().await;
    let calls = ledger["token_calls"]["faulted"].as_u64().unwrap();
    assert!(
        calls <= 10 * pauses.len() as u64,
        "{calls} calls in {} pauses",
        pauses.len()
    );
    assert_eq!(ledger["replays_in_grace"], 1, "{ledger}");
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    fleet.sandbox.faults(json!([])).await;
    until("all to be refreshed", Duration::from_secs(90), || async {
        let spent = fleet.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 10, spent)
    })
    .await;
}

/// The failed attempts of each installation: attempt numbers and log times.
fn attempts(lines: &[String]) -> BTreeMap<String, Vec<(u64, SystemTime)>> {
    let mut attempts: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for line in lines {
        let id = line.split(' ').find(|word| word.starts_with("install_"));
        let error: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        let number = error["attempt"].as_u64().unwrap();
        let of_one = attempts.entry(id.unwrap().to_owned()).or_default();
        of_one.push((number, logged_at(line)));
    }
    attempts
}

fn logged_at(line: &str) -> SystemTime {
    let time = line.split(' ').next().unwrap();
    humantime::parse_rfc3339(time).unwrap()
}
