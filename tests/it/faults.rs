//! GHL's moods: what a refresh does when the token endpoint misbehaves.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::get;
use tests::load::steady;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(40);

/// Lets the first refresh of one installation meet this fault, and returns the status after it
/// was refreshed all the same.
async fn survives(rule: Value) -> Value {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "12s"),
        ("EVERGREEN_TOKEN_TIMEOUT", "1s"),
    ])
    .await;
    let id = up.install("locA").await;
    let mut rule = rule;
    rule["on"] = json!("token");
    rule["grant"] = json!("refresh_token");
    rule["next"] = json!(1);
    up.sandbox.faults(json!([rule])).await;
    up.program
        .wait_for_line(&["[REFRESH-RETRY]", &id], PATIENCE)
        .await;
    up.program
        .wait_for_line(&["[REFRESH]", &id], PATIENCE)
        .await;
    let url = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let (code, body) = get(&up.client, &url).await;
    assert_eq!(code, 200, "{body}");
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    ledger
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_after_processing_is_asked_for_again_inside_the_grace() {
    let ledger = survives(json!({ "kind": "process_then_lose" })).await;
    assert_eq!(ledger["replays_in_grace"], 1, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_reset_before_processing_is_tried_again() {
    let ledger = survives(json!({ "kind": "reset_before" })).await;
    assert_eq!(ledger["replays_in_grace"], 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_and_an_overload_are_tried_again() {
    for status in [500, 429] {
        survives(json!({ "kind": "status", "status": status })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_answer_is_asked_for_again() {
    let rule = json!({ "kind": "status", "status": 200, "body": "truncated_json" });
    let ledger = survives(rule).await;
    assert_eq!(ledger["replays_in_grace"], 1, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_is_given_up_and_tried_again() {
    survives(json!({ "kind": "hang", "ms": 5000 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_without_any_grace_is_reported_at_once() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "12s"),
        ("EVERGREEN_SANDBOX_REPLAY_GRACE", "0s"),
    ])
    .await;
    let id = up.install("locA").await;
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "process_then_lose", "next": 1 }]))
        .await;
    let line = up
        .program
        .wait_for_line(&["[REFRESH-FAIL]", &id], PATIENCE)
        .await;
    assert!(line.contains(r#""kind":"lost""#), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_pauses_everybody_and_gives_nobody_up() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    for number in 0..10 {
        up.install(&format!("loc{number}")).await;
    }
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]))
        .await;
    up.program
        .wait_for_line(&["check GHL_CLIENT_ID and GHL_CLIENT_SECRET"], PATIENCE)
        .await;
    let metrics = format!("{}/metrics", up.internal);
    until("the breaker to show", PATIENCE, || async {
        let text = get(&up.client, &metrics).await.1;
        let text = text.as_str().unwrap_or_default().to_owned();
        holds(
            text.contains("evergreen_token_endpoint_breaker_open 1"),
            "closed",
        )
    })
    .await;
    let refused = up.sandbox.ledger().await["token_calls"]["faulted"]
        .as_u64()
        .unwrap();
    assert!(
        refused <= 20,
        "{refused} calls of an endpoint that knows us no more"
    );
    let listed = get(&up.client, &format!("{}/v1/installations", up.internal))
        .await
        .1;
    let listed = listed["installations"].as_array().unwrap().clone();
    assert!(
        listed.iter().all(|one| one["tokenStatus"] != "invalid"),
        "{listed:#?}"
    );

    up.sandbox.faults(json!([])).await;
    until(
        "everybody to be refreshed",
        Duration::from_secs(60),
        || async {
            let spent = up.sandbox.count("refresh_tokens_spent").await;
            holds(spent >= 10, spent)
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_refused_alone_stops_nobody_else() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    let healthy = up.install("healthy").await;
    let refused = up.install("refused").await;
    up.sandbox
        .faults(json!([{
            "on": "token", "kind": "invalid_client", "share": 1.0, "locationId": "refused",
        }]))
        .await;
    up.program
        .wait_for_line(&["[REFRESH-FAIL]", &refused], PATIENCE)
        .await;
    let refreshed = || {
        let log = up.program.log();
        log.iter()
            .filter(|line| line.contains(&format!("[REFRESH] {healthy}")))
            .count()
    };
    let seen = refreshed();
    until(
        "the other to be refreshed three times more",
        PATIENCE,
        || async { holds(refreshed() >= seen + 3, refreshed()) },
    )
    .await;
    let log = up.program.log();
    let alarms = log
        .iter()
        .filter(|line| line.contains("check GHL_CLIENT_ID"))
        .count();
    assert_eq!(alarms, 0, "the client pair is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn impatient_callers_do_not_make_an_overload_worse() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "4s"),
        ("EVERGREEN_EXPIRED_WAIT", "2s"),
    ])
    .await;
    let id = up.install("locA").await;
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "status", "status": 429, "retry_after": 30, "share": 1.0 }]))
        .await;
    // The token expires early in this, and callers go on asking.
    let calls = steady(&up.client, &up.public, &[id], 20, Duration::from_secs(12)).await;
    assert!(calls.answers.contains_key(&503), "{:?}", calls.answers);
    assert!(!calls.answers.contains_key(&401), "{:?}", calls.answers);
    let asked = up.sandbox.ledger().await["token_calls"]["faulted"]
        .as_u64()
        .unwrap();
    assert!(
        asked <= 2,
        "{asked} token calls, although GHL asked for 30 s of peace"
    );
}
