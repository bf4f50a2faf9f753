//! An agency's grant that fails, and a mint that fails.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn location_lives_on_its_own_token_when_the_agencys_grant_is_gone() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "15s"),
        ("EVERGREEN_SANDBOX_REPLAY_GRACE", "0s"),
    ])
    .await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    until_call_is(&up, LOCATIONS[0], 200).await;
    // GHL refuses the agency's refresh token for good, and mints nothing for it any more.
    up.sandbox
        .faults(json!([{
            "on": "token", "kind": "invalid_grant", "next": 1000, "locationId": AGENCY, "grant": "refresh_token",
        }]))
        .await;
    until(
        "the agency's grant to be gone",
        Duration::from_secs(240),
        || async {
            let seen = shown(&up, &agency).await;
            holds(seen["tokenStatus"] == "invalid", seen)
        },
    )
    .await;
    until("a token of the location's own", PATIENCE, || async {
        let (status, body) = call(&up, LOCATIONS[0]).await;
        let seen = shown(&up, LOCATIONS[0]).await;
        let is_refreshed = up.sandbox.count("refresh_tokens_spent").await > 0;
        holds(
            status == 200 && seen["tokenStatus"] == "valid" && is_refreshed,
            (status, body, seen),
        )
    })
    .await;
    let (status, body) = call(&up, LOCATIONS[1]).await;
    assert_eq!(status, 503, "it has no token of its own: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_scope_is_named() {
    let up = Up::start(&[("GHL_SCOPES", "contacts.readonly oauth.readonly")]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    let (status, body) = call(&up, LOCATIONS[0]).await;
    assert_eq!(status, 503);
    assert!(body.to_string().contains("oauth.write"), "{body}");
    let error = shown(&up, LOCATIONS[0]).await["lastError"].clone();
    assert_eq!(error["kind"], "scope_missing", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("oauth.write"),
        "{error}"
    );

    let up = Up::start(&[("GHL_SCOPES", "contacts.readonly oauth.write")]).await;
    let agency = consent(&up).await;
    until("the reason why there is no list", PATIENCE, || async {
        let seen = shown(&up, &agency).await;
        let message = seen["locations"]["lastError"]["message"]
            .as_str()
            .unwrap_or_default();
        holds(message.contains("oauth.readonly"), &seen)
    })
    .await;
    // Locations are found by asking, without a list.
    until_call_is(&up, LOCATIONS[0], 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mints_that_ghl_does_not_answer_are_repeated_by_later_calls() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    up.sandbox
        .faults(json!([{ "on": "api", "kind": "status", "status": 502, "next": 2 }]))
        .await;
    let started = std::time::Instant::now();
    until_call_is(&up, LOCATIONS[0], 200).await;
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "pauses after failures are short at first"
    );
    assert_eq!(shown(&up, LOCATIONS[0]).await["lastError"], Value::Null);
}
