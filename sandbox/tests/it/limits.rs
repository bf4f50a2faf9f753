//! Rate limits.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Sandbox, answer, send};

#[tokio::test]
async fn limit_is_per_location_and_shown_in_every_response() {
    let sandbox = Sandbox::start().await;
    sandbox
        .set(json!({"rate_limit": 2, "rate_interval_ms": 60_000}))
        .await;
    let one = sandbox.install("loc1").await.access;
    let two = sandbox.install("loc2").await.access;
    for remaining in ["1", "0"] {
        let response = send(sandbox.call(Method::GET, "/locations/loc1", &one)).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["x-ratelimit-limit-daily"], "200000");
        assert_eq!(headers["x-ratelimit-interval-milliseconds"], "60000");
        assert_eq!(headers["x-ratelimit-max"], "2");
        assert_eq!(headers["x-ratelimit-remaining"], remaining);
        assert!(headers.contains_key("x-ratelimit-daily-remaining"));
    }
    let response = send(sandbox.call(Method::GET, "/locations/loc1", &one)).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["x-ratelimit-remaining"], "0");
    let call = sandbox.call(Method::GET, "/locations/loc2", &two);
    assert_eq!(answer(call).await.0, 200);
    assert_eq!(sandbox.ledger().await["api_calls"]["rate_limited"], 1);

    sandbox.set(json!({"rate_limit": 0})).await;
    let response = send(sandbox.call(Method::GET, "/locations/loc1", &one)).await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("x-ratelimit-max"));
}

#[tokio::test]
async fn daily_limit_is_enforced() {
    let sandbox = Sandbox::start().await;
    sandbox.set(json!({"daily_limit": 1})).await;
    let access = sandbox.install("loc1").await.access;
    let call = || sandbox.call(Method::GET, "/locations/loc1", &access);
    assert_eq!(answer(call()).await.0, 200);
    assert_eq!(answer(call()).await.0, 429);
}

#[tokio::test]
async fn settings_are_shown_and_unknown_ones_refused() {
    let sandbox = Sandbox::start().await;
    let (_, shown) = answer(sandbox.get("/_sandbox/settings")).await;
    assert_eq!(shown["token_lifetime_ms"], 86_399_000);
    assert_eq!(shown["replay_grace_ms"], 30_000);
    let wrong = sandbox
        .put("/_sandbox/settings")
        .json(&json!({"replay_grace": 0}));
    assert_eq!(answer(wrong).await.0, 422);
}
