//! GHL receives the caller's request unchanged, and the caller receives GHL's response unchanged.

mod adapters;
mod body_selection;
mod client_docs;
mod forwarding;
mod installation_selection;
mod mcp;
mod missing_location_id;
mod paths;
mod retry_after_401;
mod sample_product;
mod sdk;

use std::time::Duration;

use reqwest::RequestBuilder;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tests::client::{get, send};
use tests::sandbox::{AGENCY, Sandbox};
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

/// An `up` whose GHL base URL is the sandbox's echo. It answers every call with the request it received.
struct EchoGateway {
    up: Up,
    sandbox: Sandbox,
    /// The installations of `locA` and of its agency.
    location: String,
    agency: String,
}

impl EchoGateway {
    async fn new() -> Self {
        let sandbox = Sandbox::start(&[]).await;
        let up = Up::start(&[]).await.against(&sandbox).await;
        let location = up.install("locA").await;
        let agency = tests::client::install_agency(&up.client, &up.public, AGENCY).await;
        until_listed(&up, &agency).await;
        let mut up = up.with("GHL_API_URL", format!("{}{ECHO}", sandbox.url));
        up.restart().await;
        Self {
            up,
            sandbox,
            location,
            agency,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.up.client.get(format!("{}{path}", self.up.public))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.up.client.post(format!("{}{path}", self.up.public))
    }

    /// The request that the sandbox received.
    async fn arrived(&self, request: RequestBuilder) -> Value {
        let what = format!("{request:?}");
        let (status, arrived) = send(request).await;
        assert_eq!(status, 200, "{what}: {arrived}");
        arrived
    }
}

/// Waits until the locations of an agency are listed.
async fn until_listed(up: &Up, agency: &str) {
    let shown = format!("{}/v1/installations/{agency}", up.internal);
    until("the list of locations", PATIENCE, || async {
        let (_, seen) = get(&up.client, &shown).await;
        holds(seen["locations"]["listedAt"].is_string(), seen)
    })
    .await;
}

/// The sandbox's echo endpoint.
const ECHO: &str = "/_sandbox/echo";

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// A request as bytes. `head` is a list of header lines without line breaks.
fn raw_request(line: &str, head: &[&str], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nHost: gateway.test\r\n").into_bytes();
    for header in head {
        request.extend_from_slice(header.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    request
}

/// The JSON body of a raw response.
fn json_body(response: &str) -> Value {
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {response}"))
}
