//! After a 401 for an expired token, the gateway refreshes the token and retries. Other 401s go to the caller.

use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tests::client::{self, get, send};
use tests::up::Up;

use super::{AGENCY, sha256};

async fn generation(up: &Up, id: &str) -> Value {
    let url = format!("{}/api/oauth/status?installation_id={id}", up.public);
    get(&up.client, &url).await.1["generation"].clone()
}

fn echo(up: &Up, id: &str) -> RequestBuilder {
    let url = format!("{}/ghl/_sandbox/echo/x", up.public);
    up.client.post(url).header("x-installation-id", id)
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_token_401_triggers_refresh_and_retry() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let body: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    let products = format!("{}/ghl/products/?locationId=locA", up.public);
    for (round, request) in [
        up.client.get(&products),
        echo(&up, &id).body(body.clone()),
        up.client
            .post(&products)
            .json(&json!({ "name": "p", "locationId": "locA", "productType": "DIGITAL" })),
    ]
    .into_iter()
    .enumerate()
    {
        up.sandbox.steer("expire", "locA").await;
        let (status, response) = send(request).await;
        assert!(matches!(status, 200 | 201), "{status} {response}");
        if let Some(digest) = response.get("body_sha256") {
            assert_eq!(
                digest,
                &json!(sha256(&body)),
                "the retry has the whole body"
            );
        }
        let times = u64::try_from(round).unwrap() + 1;
        assert_eq!(up.sandbox.count("calls_with_expired_token").await, times);
        assert_eq!(up.sandbox.count("refresh_tokens_spent").await, times);
        assert_eq!(generation(&up, &id).await, (times + 1).to_string());
    }
    let (_, page) = get(&up.client, &products).await;
    assert_eq!(page["total"][0]["total"], 1, "created once: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_401s_share_one_refresh() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    for round in 1..=3 {
        up.sandbox.steer("expire", "locA").await;
        let calls = (0..40).map(|_| send(echo(&up, &id).body("x")));
        for (status, response) in join_all(calls).await {
            assert_eq!(status, 200, "{response}");
        }
        assert_eq!(up.sandbox.count("refresh_tokens_spent").await, round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unrelated_401_is_passed_through_without_a_refresh() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    let contacts = format!("{}/ghl/contacts/?locationId=locA", up.public);
    let version = up.client.get(&contacts).header("version", "1999-01-01");
    // A location without an installation, so that the agency's token is sent.
    let class = up
        .client
        .get(format!("{}/ghl/contacts/?locationId=locX", up.public))
        .header("x-installation-id", &agency);
    for (request, message) in [
        (version, "version header is invalid"),
        (
            class,
            "This authClass type is not allowed to access this scope.",
        ),
    ] {
        let expected = json!({ "statusCode": 401, "message": message, "error": "Unauthorized" });
        assert_eq!(send(request).await, (401, expected));
    }
    assert_eq!(up.sandbox.count("refresh_tokens_spent").await, 0);
    assert_eq!(generation(&up, &id).await, "1");
    assert_eq!(generation(&up, &agency).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn persistent_401_triggers_only_one_refresh() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let always = json!([{ "on": "api", "kind": "status", "status": 401, "share": 1.0 }]);
    up.sandbox.faults(always).await;
    for call in 0..10 {
        let (status, response) = send(echo(&up, &id)).await;
        let expected = json!({ "statusCode": 401, "message": "Unauthorized" });
        assert_eq!((status, response), (401, expected), "call {call}");
    }
    let spent = up.sandbox.count("refresh_tokens_spent").await;
    assert_eq!(spent, 1, "one refresh for all calls");
    up.sandbox.faults(json!([])).await;
    assert_eq!(send(echo(&up, &id)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unbuffered_request_gets_503_after_token_refresh() {
    let up = Up::start(&[]).await;
    for (location, size, spent) in [("locA", 100_000, 1), ("locB", 5_000_000, 2)] {
        let id = up.install(location).await;
        up.sandbox.steer("expire", location).await;
        let large = vec![7; size];
        let call = || echo(&up, &id).body(large.clone()).send();
        let refused = call().await.unwrap();
        assert_eq!(refused.status(), 503, "{size}");
        let patience = refused.headers()["retry-after"].to_str().unwrap();
        let patience: u64 = patience.parse().unwrap();
        assert!(patience <= 5, "the token has been refreshed: {patience} s");
        let refusal = client::body(refused).await;
        let message = refusal["message"].as_str().unwrap();
        assert!(message.contains("send the request again"), "{refusal}");
        assert_eq!(up.sandbox.count("refresh_tokens_spent").await, spent);

        let taken = call().await.unwrap();
        assert_eq!(taken.status(), 200);
        assert_eq!(client::body(taken).await["body_sha256"], sha256(&large));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn static_token_401_is_passed_through() {
    let up = Up::start(&[
        ("GHL_ACCESS_TOKEN", "pit-0000"),
        ("GHL_LOCATION_ID", "locS"),
    ])
    .await;
    up.program
        .wait_for_line(
            &["static token enrolled"],
            std::time::Duration::from_secs(30),
        )
        .await;
    let (status, response) = send(echo(&up, "locS")).await;
    assert_eq!((status, &response["message"]), (401, &json!("Invalid JWT")));
    let token_calls = &up.sandbox.ledger().await["token_calls"];
    assert_eq!(token_calls["invalid_grant"], 0, "{token_calls}");
    assert_eq!(token_calls["invalid_request"], 0, "{token_calls}");
    assert_eq!(generation(&up, "locS").await, "1");
}
