//! Fault injection.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer, send, tokens};

#[tokio::test]
async fn reset_before_does_not_process_the_call() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    sandbox
        .faults(json!([{"on": "token", "kind": "reset_before", "next": 1}]))
        .await;
    let error = sandbox
        .refresh_request(&first.refresh)
        .send()
        .await
        .unwrap_err();
    assert!(error.is_request(), "{error:?}");
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["refresh_tokens_spent"], 0);
    assert_eq!(ledger["token_calls"]["faulted"], 1);
    assert_eq!(sandbox.refresh(&first.refresh).await.0, 200);
}

#[tokio::test]
async fn process_then_lose_processes_the_call() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    let rule = json!([{"on": "token", "kind": "process_then_lose", "next": 1}]);
    sandbox.faults(rule.clone()).await;
    assert!(
        sandbox
            .refresh_request(&first.refresh)
            .send()
            .await
            .is_err()
    );
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["refresh_tokens_spent"], 1);
    assert_eq!(ledger["token_calls"]["refreshed"], 1);
    assert_eq!(ledger["token_calls"]["answers_lost"], 1);
    let second = tokens(sandbox.refresh(&first.refresh).await.1);
    assert_eq!(sandbox.ledger().await["replays_in_grace"], 1);

    sandbox.set(json!({"replay_grace_ms": 0})).await;
    sandbox.faults(rule).await;
    assert!(
        sandbox
            .refresh_request(&second.refresh)
            .send()
            .await
            .is_err()
    );
    assert_eq!(sandbox.refresh(&second.refresh).await.0, 400);
    assert_eq!(sandbox.ledger().await["spent_outside_grace"], 1);
}

#[tokio::test]
async fn connection_faults_also_apply_to_the_api() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let product = json!({"name": "x", "locationId": "loc1", "productType": "DIGITAL"});
    for (kind, made) in [("reset_before", 0), ("process_then_lose", 1)] {
        sandbox
            .faults(json!([{"on": "api", "kind": kind, "next": 1}]))
            .await;
        let call = sandbox.call(Method::POST, "/products/", &access);
        assert!(call.json(&product).send().await.is_err());
        let list = sandbox.call(Method::GET, "/products/?locationId=loc1", &access);
        assert_eq!(answer(list).await.1["total"][0]["total"], made, "{kind}");
    }
}

#[tokio::test]
async fn error_statuses_do_not_process_the_call() {
    let sandbox = Sandbox::start().await;
    sandbox.set(json!({"replay_grace_ms": 0})).await;
    let first = sandbox.install("loc1").await;
    for (rule, status, body) in [
        (
            json!({"kind": "status", "status": 500}),
            500,
            json!({"statusCode": 500, "message": "Internal Server Error"}),
        ),
        (
            json!({"kind": "invalid_grant"}),
            400,
            json!({"statusCode": 400, "message": "Invalid grant: refresh token is invalid"}),
        ),
        (
            json!({"kind": "invalid_client"}),
            401,
            json!({"error": "UnAuthorized!", "error_description": "Invalid client credentials!"}),
        ),
        (
            json!({"kind": "location_inactive"}),
            400,
            json!({"statusCode": 400, "message": "Location is not active"}),
        ),
    ] {
        let mut rule = rule;
        rule["on"] = json!("token");
        rule["next"] = json!(1);
        sandbox.faults(json!([rule])).await;
        let (got, answer) = sandbox.refresh(&first.refresh).await;
        assert_eq!((got.as_u16(), answer), (status, body));
    }
    assert_eq!(sandbox.refresh(&first.refresh).await.0, 200);
}

#[tokio::test]
async fn status_fault_can_set_retry_after_html_and_broken_json() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    sandbox
        .faults(json!([
            {"on": "token", "kind": "status", "status": 429, "retry_after": 7, "next": 1},
            {"on": "token", "kind": "status", "status": 502, "body": "html", "next": 1},
            {"on": "token", "kind": "status", "status": 503, "body": "truncated_json", "next": 1},
        ]))
        .await;
    let limited = send(sandbox.refresh_request(&first.refresh)).await;
    assert_eq!(limited.status(), 429);
    assert_eq!(limited.headers()["retry-after"], "7");
    let html = send(sandbox.refresh_request(&first.refresh)).await;
    assert_eq!(html.status(), 502);
    let content_type = html.headers()["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("text/html"));
    let broken = send(sandbox.refresh_request(&first.refresh)).await;
    assert_eq!(broken.status(), 503);
    let text = broken.text().await.unwrap();
    assert!(text.starts_with('{') && !text.ends_with('}'), "{text}");
    assert_eq!(sandbox.ledger().await["refresh_tokens_spent"], 0);
}

#[tokio::test]
async fn successful_responses_can_be_broken() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    let rule = |body: &str| json!([{"on": "token", "kind": "status", "status": 200, "body": body, "next": 1}]);

    sandbox.faults(rule("truncated_json")).await;
    let response = send(sandbox.refresh_request(&first.refresh)).await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_err());
    assert_eq!(sandbox.ledger().await["refresh_tokens_spent"], 1);

    let second = tokens(sandbox.refresh(&first.refresh).await.1);
    sandbox.faults(rule("missing_fields")).await;
    let (_, body) = sandbox.refresh(&second.refresh).await;
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    let third = tokens(body);

    sandbox.set(json!({"replay_grace_ms": 0})).await;
    sandbox.faults(rule("missing_refresh_token")).await;
    let (status, body) = sandbox.refresh(&third.refresh).await;
    assert_eq!(status, 200);
    assert!(body["access_token"].is_string() && body.get("refresh_token").is_none());
    assert_eq!(sandbox.ledger().await["refreshed_without_rotation"], 1);
    assert_eq!(
        sandbox.refresh(&third.refresh).await.0,
        200,
        "it stayed good"
    );
}

#[tokio::test]
async fn successful_responses_can_have_undocumented_shapes() {
    let sandbox = Sandbox::start().await;
    let refresh = sandbox.install("loc1").await.refresh;
    let odd = async |rule: Value| {
        let mut rule = rule;
        rule["on"] = json!("token");
        rule["kind"] = json!("odd_answer");
        rule["next"] = json!(1);
        sandbox.faults(json!([rule])).await;
        // Inside the grace: the same answer each time.
        let response = send(sandbox.refresh_request(&refresh)).await;
        assert_eq!(response.status(), 200, "{rule}");
        response.bytes().await.unwrap()
    };
    let json = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
    let oddity = |name: &str| json!({ "oddity": name });
    let scopes = json(&odd(oddity("scope_array")).await);
    assert!(scopes["scope"].as_array().is_some_and(|all| all.len() > 1));
    let booleans = json(&odd(oddity("booleans_as_text")).await);
    assert_eq!(booleans["isBulkInstallation"], "false");
    let camel = json(&odd(oddity("camel_case")).await);
    assert!(camel["accessToken"].is_string() && camel.get("access_token").is_none());
    let marked = odd(oddity("byte_order_mark")).await;
    assert!(marked.starts_with(b"\xef\xbb\xbf{"));
    assert!(json(&odd(oddity("wrapped")).await)["data"]["access_token"].is_string());
    assert!(odd(oddity("gzip")).await.starts_with(b"\x1f\x8b"));
    let soon = json(&odd(json!({ "oddity": "expires_in", "value": ["soon"] })).await);
    assert_eq!(soon["expires_in"], json!(["soon"]));
    assert!(odd(oddity("unreadable")).await.starts_with(b"<html>"));
    assert_eq!(
        json(&odd(oddity("foreign")).await)["locationId"],
        "somebody-else"
    );
    assert_eq!(sandbox.ledger().await["refresh_tokens_spent"], 1);
}

#[tokio::test]
async fn hang_and_slow_body_delay_the_response() {
    let sandbox = Sandbox::start().await;
    let refresh = sandbox.install("loc1").await.refresh;
    for kind in ["hang", "slow_body"] {
        sandbox
            .faults(json!([{"on": "token", "kind": kind, "ms": 200, "next": 1}]))
            .await;
        let started = Instant::now();
        assert_eq!(sandbox.refresh(&refresh).await.0, 200);
        assert!(started.elapsed() >= Duration::from_millis(200), "{kind}");
    }
}

#[tokio::test]
async fn disconnecting_during_a_hang_cancels_the_call() {
    let sandbox = Sandbox::start().await;
    let refresh = sandbox.install("loc1").await.refresh;
    sandbox
        .faults(json!([{"on": "token", "kind": "hang", "ms": 300, "next": 2}]))
        .await;
    let impatient = sandbox
        .refresh_request(&refresh)
        .timeout(Duration::from_millis(50));
    assert!(impatient.send().await.unwrap_err().is_timeout());
    // This call hangs as long and starts later. At its end the first one would have been processed.
    sandbox.refresh_request("never-ours").send().await.unwrap();
    assert_eq!(sandbox.ledger().await["refresh_tokens_spent"], 0);
}

#[tokio::test]
async fn rule_can_be_limited_to_one_location() {
    let sandbox = Sandbox::start().await;
    let one = sandbox.install("loc1").await;
    let two = sandbox.install("loc2").await;
    sandbox
        .faults(json!([
            {"on": "token", "kind": "status", "status": 500, "share": 1.0, "locationId": "loc1"},
            {"on": "api", "kind": "status", "status": 503, "share": 1.0, "locationId": "loc1"},
        ]))
        .await;
    assert_eq!(sandbox.refresh(&one.refresh).await.0, 500);
    assert_eq!(sandbox.refresh(&two.refresh).await.0, 200);
    let call = |location: &str, access: &str| {
        sandbox.call(Method::GET, &format!("/locations/{location}"), access)
    };
    assert_eq!(answer(call("loc1", &one.access)).await.0, 503);
    assert_eq!(answer(call("loc2", &two.access)).await.0, 200);
    let (_, shown) = answer(sandbox.get("/_sandbox/faults")).await;
    assert_eq!(
        (&shown[0]["fired"], &shown[1]["fired"]),
        (&json!(1), &json!(1))
    );
    let cleared = send(sandbox.request(Method::DELETE, "/_sandbox/faults")).await;
    assert_eq!(cleared.status(), 204);
    assert_eq!(sandbox.refresh(&one.refresh).await.0, 200);
}

#[tokio::test]
async fn invalid_rules_are_refused_and_the_old_ones_stay() {
    let sandbox = Sandbox::start().await;
    sandbox
        .faults(json!([{"on": "api", "kind": "reset_before", "next": 1}]))
        .await;
    let bad = sandbox
        .put("/_sandbox/faults")
        .json(&json!([{"on": "token", "kind": "hang", "next": 1}, {"on": "api", "kind": "status", "next": 1}]));
    let (status, body) = answer(bad).await;
    assert_eq!(status, 422);
    assert_eq!(
        body["message"],
        json!(["rule 0: needs `ms`", "rule 1: needs `status`"])
    );
    let (_, shown) = answer(sandbox.get("/_sandbox/faults")).await;
    assert_eq!(shown[0]["kind"], "reset_before");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_hanging_calls() {
    let sandbox = Sandbox::start().await;
    let refresh = sandbox.install("loc1").await.refresh;
    sandbox
        .faults(json!([{"on": "token", "kind": "hang", "ms": 3_600_000, "next": 1}]))
        .await;
    let hanging = tokio::spawn(sandbox.refresh_request(&refresh).send());
    let deadline = Instant::now() + Duration::from_secs(5);
    while answer(sandbox.get("/_sandbox/faults")).await.1[0]["fired"] != 1 {
        assert!(Instant::now() < deadline, "the fault never struck");
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    sandbox.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(hanging.await.unwrap().is_err());
}
