//! GHL refuses the client id and secret, for all installations or for one.

use std::time::Duration;

use serde_json::json;
use tests::client::{gauge, get};
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::time::Instant;

use super::{PATIENCE, lines};

const BREAKER: &str = "evergreen_token_endpoint_breaker_open{app=\"default\"}";
const ALARM: &str = "check GHL_CLIENT_ID and GHL_CLIENT_SECRET";

#[tokio::test(flavor = "multi_thread")]
async fn refused_client_credentials_pause_refreshes_and_invalidate_none() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    for number in 0..10 {
        up.install(&format!("loc{number}")).await;
    }
    up.sandbox
        .faults(json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]))
        .await;
    up.program.wait_for_line(&[ALARM], PATIENCE).await;
    until("the breaker to show", PATIENCE, || async {
        let open = gauge(&up.client, &up.internal, BREAKER).await;
        holds(open.as_deref() == Some("1"), open)
    })
    .await;
    let refused = up.sandbox.ledger().await["token_calls"]["faulted"]
        .as_u64()
        .unwrap();
    assert!(refused <= 20, "{refused} calls with refused credentials");
    let listed = get(&up.client, &format!("{}/v1/installations", up.internal))
        .await
        .1;
    let listed = listed["installations"].as_array().unwrap().clone();
    assert!(
        listed.iter().all(|one| one["tokenStatus"] != "invalid"),
        "{listed:#?}"
    );

    up.sandbox.faults(json!([])).await;
    until("all to be refreshed", Duration::from_secs(60), || async {
        let spent = up.sandbox.count("refresh_tokens_spent").await;
        holds(spent >= 10, spent)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_response_is_recovered_while_credentials_are_refused() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    for number in 0..10 {
        up.install(&format!("loc{number}")).await;
    }
    up.sandbox
        .faults(json!([
            { "on": "token", "kind": "process_then_lose", "next": 3, "grant": "refresh_token" },
            { "on": "token", "kind": "invalid_client", "share": 1.0 },
        ]))
        .await;
    up.program.wait_for_line(&[ALARM], PATIENCE).await;
    let refused = Instant::now();
    up.sandbox.faults(json!([])).await;
    until("the lost responses to be replayed", PATIENCE, || async {
        let repeated = up.sandbox.count("replays_in_grace").await;
        holds(repeated >= 3, repeated)
    })
    .await;
    // All other refreshes pause for longer.
    assert!(refused.elapsed() < Duration::from_secs(15));
    assert_eq!(up.sandbox.count("spent_outside_grace").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_refused_for_one_installation_affect_no_others() {
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
    let refreshed = || lines(&up.program, &format!("[REFRESH] {healthy}")).len();
    let seen = refreshed();
    until(
        "the other to be refreshed three times more",
        PATIENCE,
        || async { holds(refreshed() >= seen + 3, refreshed()) },
    )
    .await;
    assert_eq!(
        up.program.line(&[ALARM]),
        None,
        "the client credentials are accepted for others"
    );
}
