//! Which requests the gateway retries.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tests::client::{get, send};
use tests::up::Up;

async fn fail_next(up: &Up, count: u32, fault: Value) {
    let mut rule = fault;
    rule["on"] = json!("api");
    rule["next"] = json!(count);
    up.sandbox.faults(json!([rule])).await;
}

fn echo(up: &Up, id: &str, method: Method) -> RequestBuilder {
    let url = format!("{}/ghl/_sandbox/echo/x", up.public);
    let request = up.client.request(method, url);
    request.header("x-installation-id", id)
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_requests_are_retried_after_transient_failures() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    for fault in [
        json!({ "kind": "status", "status": 502 }),
        json!({ "kind": "status", "status": 503 }),
        json!({ "kind": "status", "status": 504 }),
        json!({ "kind": "reset_before" }),
        json!({ "kind": "process_then_lose" }),
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            fail_next(&up, 2, fault.clone()).await;
            let (status, response) = send(echo(&up, &id, method.clone())).await;
            assert_eq!(status, 200, "{method} {fault}: {response}");
            fail_next(&up, 9, fault.clone()).await;
            let (status, response) = send(echo(&up, &id, method.clone())).await;
            assert!(
                status >= 502,
                "{method} {fault}, repeatedly: {status} {response}"
            );
        }
        for method in [Method::POST, Method::PATCH] {
            fail_next(&up, 1, fault.clone()).await;
            let (status, response) = send(echo(&up, &id, method.clone())).await;
            assert!(status >= 502, "{method} {fault}: {status} {response}");
            fail_next(&up, 1, fault.clone()).await;
            let keyed = echo(&up, &id, method.clone()).header("idempotency-key", "7");
            let (status, response) = send(keyed.body("abc")).await;
            assert_eq!(status, 200, "{method} {fault}, with a key: {response}");
            assert_eq!(response["body_bytes"], 3, "the retry has the whole body");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_errors_and_500_are_not_retried() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    for status in [400, 404, 409, 500] {
        fail_next(&up, 1, json!({ "kind": "status", "status": status })).await;
        let (seen, response) = send(echo(&up, &id, Method::GET)).await;
        assert_eq!(seen, status, "{response}");
        let (seen, _) = send(echo(&up, &id, Method::GET)).await;
        assert_eq!(seen, 200, "only the first call failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn post_is_not_retried_after_lost_response() {
    let up = Up::start(&[]).await;
    up.install("locA").await;
    let products = format!("{}/ghl/products/?locationId=locA", up.public);
    fail_next(&up, 1, json!({ "kind": "process_then_lose" })).await;
    let product = json!({ "name": "p", "locationId": "locA", "productType": "DIGITAL" });
    let (status, response) = send(up.client.post(&products).json(&product)).await;
    assert_eq!(status, 502, "the outcome is unknown: {response}");
    let (_, page) = get(&up.client, &products).await;
    assert_eq!(page["total"][0]["total"], 1, "{page}");
}
