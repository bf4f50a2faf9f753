//! The Model Context Protocol.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer, send};

const ACCEPT: &str = "application/json, text/event-stream";

impl Sandbox {
    fn mcp(&self, access: &str, method: &str) -> RequestBuilder {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method});
        let request = self.request(Method::POST, "/mcp/").bearer_auth(access);
        request.header("accept", ACCEPT).json(&message)
    }
}

#[tokio::test]
async fn token_must_be_that_of_the_named_location() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let agency = sandbox.install_agency("sandboxNorthwindHQ01").await.access;
    let start = |access: &str| sandbox.mcp(access, "initialize");
    for (request, status) in [
        (start(&access).header("locationId", "loc1"), 200),
        (start(&access), 400),
        (start(&access).header("locationId", "loc2"), 403),
        (
            start(&agency).header("locationId", "sandboxHarborDental1"),
            401,
        ),
        (start("never-ours").header("locationId", "loc1"), 401),
        (sandbox.call(Method::PUT, "/mcp/", &access), 404),
    ] {
        let what = format!("{request:?}");
        assert_eq!(answer(request).await.0, status, "{what}");
    }
}

#[tokio::test]
async fn session_begins_and_ends_and_is_of_one_location() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let other = sandbox.install("loc2").await.access;
    let begun = send(
        sandbox
            .mcp(&access, "initialize")
            .header("locationId", "loc1"),
    )
    .await;
    let session = begun.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let in_session = |request: RequestBuilder, location: &str| {
        request
            .header("locationId", location)
            .header("mcp-session-id", &session)
    };
    let (status, listed) = answer(in_session(sandbox.mcp(&access, "tools/list"), "loc1")).await;
    assert_eq!(
        (
            status.as_u16(),
            listed["result"]["tools"].as_array().unwrap().len()
        ),
        (200, 2)
    );
    let (_, unknown) = answer(in_session(sandbox.mcp(&access, "no/such"), "loc1")).await;
    assert_eq!(unknown["error"]["code"], -32601);
    let call = send(in_session(sandbox.mcp(&access, "tools/call"), "loc1")).await;
    assert_eq!(call.headers()["content-type"], "text/event-stream");
    let text = call.text().await.unwrap();
    let data: Value = serde_json::from_str(text.split("data: ").nth(1).unwrap()).unwrap();
    assert_eq!(data["error"]["message"], "Unknown tool");

    let without = sandbox
        .mcp(&access, "tools/list")
        .header("locationId", "loc1");
    assert_eq!(answer(without).await.0, 400);
    assert_eq!(
        answer(in_session(sandbox.mcp(&other, "ping"), "loc2"))
            .await
            .0,
        404
    );
    let end = sandbox
        .request(Method::DELETE, "/mcp/")
        .bearer_auth(&access);
    assert_eq!(answer(in_session(end, "loc1")).await.0, 204);
    assert_eq!(
        answer(in_session(sandbox.mcp(&access, "ping"), "loc1"))
            .await
            .0,
        404
    );
}
