//! The access log of a gateway.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tests::client::{self, KEY, send};
use tests::up::Up;

const PATIENCE: Duration = Duration::from_secs(90);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// How each access token of the sandbox begins.
const TOKEN: &str = "eyJhbGciOi";

/// An `up` with these further settings, one location, and a key with the name `shop`.
async fn start(settings: &[(&str, &str)]) -> (Up, String, String) {
    let settings = [settings, &[("EVERGREEN_LOG_FORMAT", "json")]].concat();
    let up = Up::start(&settings).await;
    let id = up.install("locA").await;
    let made = up
        .command(&["keys", "create", "--name", "shop"])
        .run()
        .await;
    let key = String::from_utf8(made.stdout).unwrap();
    (up, id, key.trim_end().to_owned())
}

/// A call with this request id.
fn call(up: &Up, path: &str, key: &str, request_id: &str) -> RequestBuilder {
    let url = format!("{}{path}", up.public);
    let call = client::anonymous().get(url).bearer_auth(key);
    call.header("x-request-id", request_id)
}

/// The line of the request with this id.
async fn line(up: &Up, request_id: &str) -> (Value, String) {
    let quoted = format!("\"{request_id}\"");
    let words = ["\"evergreen::access\"", &quoted];
    let line = up.program.wait_for_line(&words, PATIENCE).await;
    (serde_json::from_str(&line).unwrap(), line)
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_call_is_found_by_its_request_id_and_healthy_ones_are_not_logged() {
    let (up, id, key) = start(&[]).await;
    let path = format!("/ghl/contacts/?installation_id={id}&email=private%40example.com");
    let healthy = format!("/ghl/_sandbox/echo/x?installation_id={id}");
    assert_eq!(send(call(&up, &healthy, &key, "healthy-1")).await.0, 200);
    let fault = json!([{ "on": "api", "kind": "status", "status": 500, "next": 1 }]);
    up.sandbox.faults(fault).await;
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let failing = call(&up, &path, &key, "failed-1").header("traceparent", traceparent);
    assert_eq!(send(failing).await.0, 500);
    let unknown = "/ghl/contacts/?installation_id=nowhere";
    assert_eq!(send(call(&up, unknown, &key, "refused-1")).await.0, 400);

    let (failed, text) = line(&up, "failed-1").await;
    for (name, expected) in [
        ("key", json!("shop")),
        ("app", json!("default")),
        ("installation", json!(id)),
        ("trace_id", json!(TRACE)),
        ("method", json!("GET")),
        ("path", json!("/ghl/contacts/")),
        ("status", json!(500)),
        ("ghl_status", json!(500)),
        ("attempts", json!(1)),
    ] {
        assert_eq!(failed[name], expected, "{name} of {text}");
    }
    let (whole, at_ghl) = (failed["ms"].as_u64(), failed["ghl_ms"].as_u64());
    assert!(at_ghl.is_some() && at_ghl <= whole, "{text}");
    for secret in ["private", &key, KEY, TOKEN] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let (refused, text) = line(&up, "refused-1").await;
    assert_eq!(refused["code"], "installation_not_found", "{text}");
    assert_eq!(refused["key"], "shop", "{text}");
    assert_eq!(refused["attempts"], 0, "{text}");
    assert_eq!(up.program.line(&["healthy-1"]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_requests_are_logged_if_asked_for_without_the_secrets_of_links() {
    // Another filter does not turn the access log off.
    let settings = [("EVERGREEN_ACCESS_LOG", "all"), ("EVERGREEN_LOG", "error")];
    let (up, id, key) = start(&settings).await;
    let healthy = format!("/ghl/_sandbox/echo/x?installation_id={id}");
    assert_eq!(send(call(&up, &healthy, &key, "healthy-1")).await.0, 200);
    send(call(&up, "/connect/s3cret-of-a-link", &key, "link-1")).await;
    let (healthy, text) = line(&up, "healthy-1").await;
    assert_eq!(healthy["status"], 200, "{text}");
    assert_eq!(healthy["installation"], json!(id), "{text}");
    let (link, text) = line(&up, "link-1").await;
    assert_eq!(link["path"], "/connect/-", "{text}");
    assert_eq!(up.program.line(&["s3cret-of-a-link"]), None);
}
