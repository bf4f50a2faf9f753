//! Outages of GHL: it is slow, loses responses, or refuses valid tokens. Only installations with a refresh in flight
//! may be lost.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use store::Timestamp;
use tests::client::{gauge, get};
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};

use super::{PATIENCE, lines};

/// A refused token is retried for a minute before its installation becomes invalid.
const UNTIL_INVALID: Duration = Duration::from_secs(100);

#[tokio::test(flavor = "multi_thread")]
async fn late_response_is_used_and_token_is_sent_once() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "60s"),
        ("EVERGREEN_SANDBOX_REPLAY_GRACE", "0s"),
        ("EVERGREEN_TOKEN_TIMEOUT", "1s"),
    ])
    .await;
    let id = up.install("locA").await;
    let slow = json!([{
        "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 6000, "next": 1,
    }]);
    up.sandbox.faults(slow).await;
    // The operator's request times out, but the broker keeps reading GHL's response.
    let output = up.command(&["installations", "refresh", &id]).run().await;
    assert!(!output.status.success(), "{output:?}");
    up.program
        .wait_for_line(&["a response of GHL came late", &id], PATIENCE)
        .await;
    let late = gauge(&up.client, &up.internal, "evergreen_late_answers_total").await;
    assert_eq!(late.as_deref(), Some("1"));
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["refresh_tokens_spent"], 1, "{ledger}");
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    let again = up.command(&["installations", "refresh", &id]).run().await;
    assert!(again.status.success(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_that_loses_responses_is_contained() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "90s"),
        ("EVERGREEN_SANDBOX_REPLAY_GRACE", "0s"),
        ("EVERGREEN_REFRESH_LEAD", "70s"),
    ])
    .await;
    let names: Vec<String> = (0..30).map(|number| format!("loc{number}")).collect();
    join_all(names.iter().map(|name| up.install(name))).await;
    let lose = json!([{
        "on": "token", "grant": "refresh_token", "kind": "process_then_lose", "share": 1.0,
    }]);
    up.sandbox.faults(lose).await;
    until("the outage to be detected", UNTIL_INVALID, || async {
        let contained = gauge(&up.client, &up.internal, "evergreen_refresh_contained").await;
        holds(contained.as_deref() == Some("1"), contained)
    })
    .await;
    // All of them fall due within the lead's jitter, and no new token is sent.
    let nearest = "evergreen_nearest_expiry_timestamp_seconds";
    until("all to be due", UNTIL_INVALID, || async {
        let at = gauge(&up.client, &up.internal, nearest).await;
        let at: Option<f64> = at.and_then(|at| at.parse().ok());
        let now = Duration::from_millis(Timestamp::of_this_machine().as_millis().unsigned_abs());
        let left = at.map(|at| at - now.as_secs_f64());
        holds(left.is_some_and(|left| left < 55.0), left)
    })
    .await;
    let spent = up.sandbox.count("refresh_tokens_spent").await;
    assert!(
        (3..=8).contains(&spent),
        "{spent} tokens were spent during the outage"
    );
    up.sandbox.faults(json!([])).await;
    until("the others to be refreshed", UNTIL_INVALID, || async {
        let spent = up.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 30, spent)
    })
    .await;
    let contained = gauge(&up.client, &up.internal, "evergreen_refresh_contained").await;
    assert_eq!(contained.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn single_refusal_marks_suspect_which_serves_and_recovers() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "120s")]).await;
    let id = up.install("locA").await;
    let refuse = json!([{ "on": "token", "kind": "invalid_grant", "next": 1 }]);
    up.sandbox.faults(refuse).await;
    up.command(&["installations", "refresh", &id]).run().await;
    let status = format!("{}/api/oauth/status?installation_id={id}", up.public);
    let (_, seen) = get(&up.client, &status).await;
    assert_eq!(seen["tokenStatus"], "suspect", "{seen}");
    let call = format!("{}/api/ghl/products?installation_id={id}", up.public);
    assert_eq!(
        get(&up.client, &call).await.0,
        200,
        "a suspect installation still serves calls"
    );
    up.program
        .wait_for_line(&["[REFRESH-RECOVERED]", &id, "was suspect"], PATIENCE)
        .await;
    assert!(lines(&up.program, "[REFRESH-FAIL]").is_empty());
    let (_, seen) = get(&up.client, &status).await;
    assert_eq!(seen["tokenStatus"], "valid", "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_refresh_recovers_invalid_installation() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "200s")]).await;
    let id = up.install("locA").await;
    let refuse = json!([{ "on": "token", "kind": "invalid_grant", "next": 3 }]);
    up.sandbox.faults(refuse).await;
    up.command(&["installations", "refresh", &id]).run().await;
    up.program
        .wait_for_line(&["[REFRESH-FAIL]", &id], UNTIL_INVALID)
        .await;
    let output = up.command(&["installations", "refresh", &id]).run().await;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && message.contains("--force"),
        "{message}"
    );
    let forced = up
        .command(&["installations", "refresh", &id, "--force"])
        .run()
        .await;
    assert!(forced.status.success(), "{forced:?}");
    up.program
        .wait_for_line(&["[REFRESH-RECOVERED]", &id, "was invalid"], PATIENCE)
        .await;
    assert_eq!(lines(&up.program, "[REFRESH-FAIL]").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn next_client_secret_is_tried_after_refusal() {
    let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "60s")]).await;
    let up = Up::start(&[]).await.against(&sandbox).await;
    let mut up = up.with("GHL_CLIENT_SECRET", "of-tomorrow, sandbox-secret");
    up.restart().await;
    let id = up.install("locA").await;
    let output = up.command(&["installations", "refresh", &id]).run().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        lines(&up.program, "accepts another one of GHL_CLIENT_SECRET").len(),
        1
    );
}
