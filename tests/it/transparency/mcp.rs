//! GHL's MCP server through the gateway.

use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tests::client::{self, KEY, send};
use tests::up::Up;
use tokio::time::timeout;

use super::{AGENCY, ECHO, EchoGateway, PATIENCE, sha256, until_listed};

const LOCATION: &str = "sandboxHarborDental1";

/// A request of a client of the protocol.
fn mcp(up: &Up, method: Method, key: &str, path: &str) -> RequestBuilder {
    let url = format!("{}{path}", up.public);
    let request = client::anonymous().request(method, url).bearer_auth(key);
    request.header("accept", "application/json, text/event-stream")
}

fn message(up: &Up, key: &str, method: &str, params: &Value) -> RequestBuilder {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    mcp(up, Method::POST, key, "/mcp").json(&message)
}

fn initialize(up: &Up, key: &str) -> RequestBuilder {
    message(
        up,
        key,
        "initialize",
        &json!({"protocolVersion": "2025-06-18"}),
    )
}

/// Begins a session. Returns its id.
async fn session(request: RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = client::body(response).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["result"]["serverInfo"]["name"], "sandbox");
    headers["mcp-session-id"].to_str().unwrap().to_owned()
}

/// The answer to a call of a tool, from its stream.
async fn tool_result(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data: "));
    serde_json::from_str(data.unwrap_or_else(|| panic!("{text}"))).unwrap()
}

async fn key_for(up: &Up, more: &[&str]) -> String {
    let create = [&["keys", "create", "--name", "mcp"], more].concat();
    let made = up.command(&create).run().await;
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

fn tool(up: &Up, key: &str) -> RequestBuilder {
    let params = json!({"name": "locations_get-location", "arguments": {}});
    message(up, key, "tools/call", &params)
}

#[tokio::test(flavor = "multi_thread")]
async fn client_uses_the_tools_of_the_location_that_its_key_is_for() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    up.install("locB").await;
    let key = key_for(&up, &["--installation", &id]).await;
    let session = session(initialize(&up, &key)).await;
    let in_session = |request: RequestBuilder| request.header("mcp-session-id", &session);
    let list = message(&up, &key, "tools/list", &json!({}));
    let (status, listed) = send(in_session(list)).await;
    assert_eq!(
        (status, &listed["result"]["tools"][0]["name"]),
        (200, &json!("contacts_get-contacts"))
    );
    let answer = tool_result(in_session(tool(&up, &key))).await;
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("\"id\":\"locA\""), "{text}");

    // The client does not notice that the token had expired.
    up.sandbox.steer("expire", "locA").await;
    tool_result(in_session(tool(&up, &key))).await;
    assert_eq!(up.sandbox.count("calls_with_expired_token").await, 1);

    // Another location has no part in the session, and this key none in the other location.
    let other = in_session(tool(&up, KEY)).header("locationId", "locB");
    assert_eq!(send(other).await.0, 404);
    let other = in_session(tool(&up, &key)).header("locationId", "locB");
    assert_eq!(send(other).await.0, 403);
    let end = in_session(mcp(&up, Method::DELETE, &key, "/mcp/"));
    assert_eq!(send(end).await.0, 204);
    assert_eq!(send(in_session(tool(&up, &key))).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn location_is_named_by_a_header_and_an_agency_needs_one() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    until_listed(&up, &agency).await;
    let of_agency = key_for(&up, &["--installation", &agency]).await;
    let start = |key: &str| initialize(&up, key);
    for request in [
        start(KEY).header("locationId", "locA"),
        start(KEY).header("x-location-id", "locA"),
        start(KEY).header("x-installation-id", &id),
        start(KEY).query(&[("locationId", "locA")]),
        start(&of_agency).header("locationId", LOCATION),
        start(KEY)
            .header("x-installation-id", &agency)
            .header("locationId", LOCATION),
    ] {
        session(request).await;
    }
    for (request, status, code) in [
        (start(KEY), 400, "installation_not_named"),
        (
            start(KEY).header("x-installation-id", &agency),
            400,
            "location_not_named",
        ),
        (start(&of_agency), 400, "location_not_named"),
        (
            start(KEY)
                .header("x-installation-id", &id)
                .header("locationId", LOCATION),
            400,
            "installation_conflict",
        ),
        (
            start(KEY).header("locationId", "locX"),
            400,
            "installation_not_found",
        ),
        (start("evg_1"), 401, "api_key_invalid"),
    ] {
        let what = format!("{request:?}");
        let (answered, refusal) = send(request).await;
        assert_eq!(
            (answered, &refusal["code"]),
            (status, &json!(code)),
            "{what}: {refusal}"
        );
    }
    let (_, refusal) = send(start(&of_agency)).await;
    assert!(refusal["hint"].as_str().unwrap().contains("locationId"));
    assert!(refusal["message"].as_str().unwrap().contains("MCP"));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_limited_to_calls_needs_those_of_the_protocol() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let posts = key_for(&up, &["--installation", &id, "--allow", "POST /mcp"]).await;
    let session = session(initialize(&up, &posts)).await;
    let listen = mcp(&up, Method::GET, &posts, "/mcp").header("mcp-session-id", session);
    assert_eq!(send(listen).await.1["code"], "call_not_allowed");
    let create = [
        "keys",
        "create",
        "--name",
        "contacts",
        "--allow",
        "GET /contacts/*",
    ];
    let made = up.command(&create).run().await;
    let contacts = String::from_utf8(made.stdout).unwrap();
    let refused = initialize(&up, contacts.trim_end()).header("locationId", "locA");
    assert_eq!(send(refused).await.1["code"], "call_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_messages_of_the_protocol_pass() {
    let gateway = EchoGateway::new().await;
    for (path, expected) in [
        ("/mcp", "/mcp/"),
        ("/mcp/", "/mcp/"),
        ("/mcp/a%20b", "/mcp/a%20b"),
    ] {
        let text = r#"{"jsonrpc":"2.0", "id":1,"method":"ping"}"#;
        let request = gateway
            .post(&format!("{path}?installation_id=locA&x=1"))
            .header("mcp-session-id", "s-1")
            .header("mcp-protocol-version", "2025-06-18")
            .header("last-event-id", "7")
            .header("location-id", "locA")
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        let arrived = gateway.arrived(request.body(text)).await;
        assert_eq!(arrived["path"], format!("{ECHO}{expected}"));
        assert_eq!(arrived["query"], "x=1");
        assert_eq!(arrived["authClassId"], "locA");
        assert_eq!(arrived["body_sha256"], sha256(text.as_bytes()));
        for (name, value) in [
            ("locationid", json!("locA")),
            ("location-id", Value::Null),
            ("mcp-session-id", json!("s-1")),
            ("mcp-protocol-version", json!("2025-06-18")),
            ("last-event-id", json!("7")),
            ("accept", json!("application/json, text/event-stream")),
        ] {
            assert_eq!(arrived["headers"][name], value, "{name}");
        }
    }
    let escaping = gateway.post("/mcp/a%2f..%2f..%2foauth/token?installation_id=locA");
    assert_eq!(send(escaping).await.1["code"], "path_not_forwardable");
}

#[tokio::test(flavor = "multi_thread")]
async fn message_is_not_sent_twice_after_a_502() {
    let up = Up::start(&[]).await;
    up.install("locA").await;
    let fault = json!([{"on": "api", "kind": "status", "status": 502, "next": 1, "path": "/mcp/"}]);
    let url = format!("{}/_sandbox/faults", up.sandbox.url);
    assert_eq!(send(up.client.put(&url).json(&fault)).await.0, 200);
    let start = || initialize(&up, KEY).header("locationId", "locA");
    assert_eq!(send(start()).await.0, 502);
    session(start()).await;
}

/// The next part of a stream.
async fn next(events: &mut (impl StreamExt<Item = String> + Unpin)) -> Option<String> {
    let next = timeout(PATIENCE, events.next()).await;
    next.expect("the stream goes on or ends")
}

/// The parts of a stream that did not break off.
fn parts(response: Response) -> impl StreamExt<Item = String> + Unpin {
    let parts = response.bytes_stream();
    Box::pin(parts.map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_outlives_the_timeouts_of_calls_and_ends_with_the_process() {
    let short = ["EVERGREEN_IDLE_TIMEOUT", "EVERGREEN_TOTAL_TIMEOUT"].map(|name| (name, "3s"));
    let mut up = Up::start(&short).await;
    let id = up.install("locA").await;
    let id = id.as_str();
    let named = |request: RequestBuilder| request.header("x-installation-id", id);
    let session = session(named(initialize(&up, KEY))).await;
    let in_session = |request| named(request).header("mcp-session-id", &session);
    let listen = |up: &Up| in_session(mcp(up, Method::GET, KEY, "/mcp")).timeout(PATIENCE);
    let response = listen(&up).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = parts(response);
    assert_eq!(next(&mut events).await.as_deref(), Some(": open\n\n"));

    // A call that began later is cut off by both timeouts, and the stream is not.
    let fault =
        json!([{"on": "api", "kind": "slow_body", "ms": 60_000, "next": 1, "path": "/contacts"}]);
    let url = format!("{}/_sandbox/faults", up.sandbox.url);
    assert_eq!(send(up.client.put(&url).json(&fault)).await.0, 200);
    let slow = up
        .client
        .get(format!("{}/ghl/contacts/?locationId=locA", up.public));
    let cut_off = slow.send().await.unwrap().bytes().await.unwrap_err();
    assert!(!cut_off.is_timeout(), "of this client: {cut_off:?}");
    tool_result(in_session(tool(&up, KEY))).await;
    let event = next(&mut events).await.unwrap();
    assert!(
        event.contains("id: 1\n") && event.contains("locations_get-location"),
        "{event}"
    );

    // A client that lost its stream goes on after the last event that it has.
    let again = listen(&up)
        .header("last-event-id", "0")
        .send()
        .await
        .unwrap();
    let mut again = parts(again);
    assert_eq!(next(&mut again).await.as_deref(), Some(": open\n\n"));
    assert_eq!(next(&mut again).await, Some(event));

    let (code, _) = up.restart().await;
    assert_eq!(code, Some(0));
    assert_eq!(
        next(&mut events).await,
        None,
        "it ended, and did not break off"
    );
}
