//! Forwarding of requests and responses.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tests::client::{self, raw, send};
use tests::up::Up;

use super::{json_body, raw_request, sha256};

/// All byte values, several times.
fn all_bytes() -> Vec<u8> {
    (0..=255).cycle().take(256 * 13).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn method_path_query_and_body_are_forwarded_unchanged() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let path = "/_sandbox/echo/a%20b/c%2Fd/%c3%BC//e/./(f)'*~;g=1,2:@!$&+";
    let query = "b=2&a=1&a=&&c&d=%20+%2B%3d&=x&e==&%61=3&arr[]=1&arr[]=2&o={\"x\":1}";
    let query = query.replace(['{', '"', '}'], "%22");
    let body = all_bytes();
    let named = format!("X-Installation-Id: {id}");
    let length = format!("Content-Length: {}", body.len());
    let head = [
        named.as_str(),
        &length,
        "Content-Type: application/octet-stream",
        "Connection: close",
    ];
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let line = format!("{method} /ghl{path}?{query}");
        let (status, response) = raw(&up.public, raw_request(&line, &head, &body)).await;
        assert_eq!(status, 200, "{method}: {response}");
        let arrived = json_body(&response);
        let expected = json!({
            "method": method,
            "path": path,
            "query": query,
            "body_sha256": sha256(&body),
            "body_bytes": body.len(),
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&arrived[field], value, "{method} {field}");
        }
    }

    let mut chunked = Vec::new();
    for chunk in body.chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let head = [&named, "Transfer-Encoding: chunked", "Connection: close"];
    let line = format!("POST /ghl{path}");
    let (status, response) = raw(&up.public, raw_request(&line, &head, &chunked)).await;
    assert_eq!(status, 200, "{response}");
    let arrived = json_body(&response);
    assert_eq!(arrived["body_sha256"], sha256(&body));
    assert_eq!(arrived["query"], Value::Null);

    // Too large to be buffered, so it is streamed.
    let large = body.repeat(1000);
    let url = format!("{}/ghl/_sandbox/echo?installation_id={id}", up.public);
    let (_, arrived) = send(up.client.put(url).body(large.clone())).await;
    assert_eq!(arrived["body_sha256"], sha256(&large), "{arrived}");
    assert_eq!(
        arrived["query"],
        Value::Null,
        "the gateway's own parameter is not forwarded"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn end_to_end_headers_pass_and_hop_by_hop_headers_do_not() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let named = format!("X-Installation-Id: {id}");
    let line = "GET /ghl/_sandbox/echo/x";
    let arrived = async |head: &[&str]| {
        let head = [&[&named, "Connection: close"], head].concat();
        let (status, response) = raw(&up.public, raw_request(line, &head, b"")).await;
        assert_eq!(status, 200, "{response}");
        let headers = json_body(&response)["headers"].clone();
        let headers: BTreeMap<String, String> = serde_json::from_value(headers).unwrap();
        headers
    };
    let map = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let ghl = up.sandbox.url.strip_prefix("http://").unwrap();

    let mut bare = arrived(&[]).await;
    assert!(bare.remove("x-request-id").is_some_and(|id| !id.is_empty()));
    let expected = [
        ("authorization", "Bearer …"),
        ("host", ghl),
        (
            "user-agent",
            concat!("evergreen/", env!("CARGO_PKG_VERSION")),
        ),
        ("version", "2021-07-28"),
    ];
    assert_eq!(bare, map(&expected));

    let full = arrived(&[
        "Version: v3",
        "User-Agent: shop/1.2 (+https://shop.example)",
        "Accept: application/json;q=0.9, */*",
        "Accept-Language: de",
        "Cookie: a=1; evergreen_console_9080=session; b=2",
        "Idempotency-Key: 7",
        "X-Custom:   kept  inside  ",
        "X-Many: a",
        "x-many: b",
        "X-Request-Id: mine-1",
        "Connection: X-Private, keep-alive",
        "Connection: x-also-private",
        "X-Private: 1",
        "X-Also-Private: 2",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "TE: trailers",
        "Trailer: X-End",
        "Upgrade: websocket",
        "Authorization: Bearer the-callers-own",
        "X-Api-Key: the-callers-own",
        "Expect: 100-continue",
    ])
    .await;
    let expected = [
        ("accept", "application/json;q=0.9, */*"),
        ("accept-language", "de"),
        ("authorization", "Bearer …"),
        ("cookie", "a=1; b=2"),
        ("host", ghl),
        ("idempotency-key", "7"),
        ("user-agent", "shop/1.2 (+https://shop.example)"),
        ("version", "v3"),
        ("x-custom", "kept  inside"),
        ("x-many", "a, b"),
        ("x-request-id", "mine-1"),
    ];
    assert_eq!(full, map(&expected));
}

/// A whole response, except for headers that differ between two responses.
async fn seen(request: RequestBuilder) -> (u16, BTreeMap<String, String>, Vec<u8>) {
    const OF_THIS_ANSWER: [&str; 4] = [
        "date",
        "x-request-id",
        "x-ratelimit-remaining",
        "x-ratelimit-daily-remaining",
    ];
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| !OF_THIS_ANSWER.contains(&name.as_str()))
        .collect();
    (status, headers, response.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_and_errors_are_forwarded_unchanged() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_RATE_LIMIT", "1000")]).await;
    let id = up.install("locA").await;
    up.install("locB").await;
    let token = format!("{}/v1/installations/{id}/token", up.internal);
    let (_, token) = client::get(&up.client, &token).await;
    let token = token["access_token"].as_str().unwrap();
    let both = |method: Method, path: &str| {
        let direct = up
            .client
            .request(method.clone(), format!("{}{path}", up.sandbox.url));
        let direct = direct.bearer_auth(token).header("version", "2021-07-28");
        let through = up
            .client
            .request(method, format!("{}/ghl{path}", up.public));
        (direct, through.header("x-installation-id", &id))
    };

    let contact = json!({ "locationId": "locA", "email": "a@example.com" });
    let (made, _) = both(Method::POST, "/contacts/");
    assert_eq!(send(made.json(&contact)).await.0, 201);
    let nothing = json!({});
    let cases = [
        (200, Method::GET, "/locations/locA", None),
        (200, Method::GET, "/contacts/?locationId=locA", None),
        (200, Method::HEAD, "/contacts/?locationId=locA", None),
        (404, Method::GET, "/no/such/path", None),
        (404, Method::GET, "/products/nope?locationId=locA", None),
        (422, Method::GET, "/products/", None),
        (422, Method::POST, "/products/", Some(&nothing)),
        (400, Method::POST, "/contacts/", Some(&contact)),
        (404, Method::DELETE, "/contacts/nope", None),
    ];
    for (expected, method, path, body) in cases {
        let (direct, through) = both(method.clone(), path);
        let with_body = |request: RequestBuilder| match body {
            Some(body) => request.json(body),
            None => request,
        };
        let direct = seen(with_body(direct)).await;
        assert_eq!(direct.0, expected, "{method} {path}");
        assert_eq!(seen(with_body(through)).await, direct, "{method} {path}");
    }

    // Failures of GHL: one for each of the two calls. A third call would succeed.
    for fault in [
        json!({ "status": 403 }),
        json!({ "status": 500 }),
        json!({ "status": 502, "body": "html" }),
        json!({ "status": 503, "retry_after": 1 }),
        json!({ "status": 200, "body": "html" }),
        json!({ "status": 500, "body": "truncated_json" }),
        // The last one, since GHL accepts no calls for seven seconds after it.
        json!({ "status": 429, "retry_after": 7 }),
    ] {
        let mut rule = json!({ "on": "api", "kind": "status", "next": 2 });
        let more = fault.as_object().unwrap().clone();
        rule.as_object_mut().unwrap().extend(more);
        up.sandbox.faults(json!([rule])).await;
        // A POST is not retried, and its timeout is shorter than the delay after a 429.
        let (direct, through) = both(Method::POST, "/contacts/");
        let through = through.header("x-request-timeout", "1s");
        let direct = seen(direct).await;
        assert_eq!(json!(direct.0), fault["status"]);
        assert_eq!(seen(through).await, direct, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_headers_reach_the_caller() {
    let up = Up::start(&[
        ("EVERGREEN_SANDBOX_RATE_LIMIT", "3"),
        ("EVERGREEN_SANDBOX_RATE_INTERVAL", "1h"),
    ])
    .await;
    let id = up.install("locA").await;
    let url = format!("{}/ghl/locations/locA?installation_id={id}", up.public);
    for remaining in ["2", "1", "0"] {
        let response = up.client.get(&url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-ratelimit-max"], "3");
        assert_eq!(response.headers()["x-ratelimit-remaining"], remaining);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_response_to_post_is_a_502_without_retry() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let lose = json!([{ "on": "api", "kind": "process_then_lose", "next": 1 }]);
    up.sandbox.faults(lose).await;
    let product = json!({ "name": "p", "locationId": "locA", "productType": "DIGITAL" });
    let url = format!("{}/ghl/products/?installation_id={id}", up.public);
    let (status, refusal) = send(up.client.post(&url).json(&product)).await;
    assert_eq!((status, &refusal["statusCode"]), (502, &json!(502)));
    assert!(refusal["message"].to_string().contains("GHL"), "{refusal}");
    let url = format!("{}/ghl/products/?locationId=locA", up.public);
    let (_, page) = client::get(&up.client, &url).await;
    assert_eq!(page["total"][0]["total"], 1, "created once: {page}");
}
