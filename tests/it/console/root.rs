//! `/` of the public listeners, and customers' pages while no broker answers.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::json;
use tests::client::{self, send};
use tests::fleet::Member;
use tests::program::wait_for_port;
use tests::testbed::Testbed;
use tests::up::Up;
use tests::wait::{holds, until};

use super::{Answer, Browser};

const PATIENCE: Duration = Duration::from_secs(30);

/// As a browser asks.
async fn page(request: RequestBuilder) -> Answer {
    let accept = "text/html,application/xhtml+xml,*/*;q=0.8";
    Browser::at("").send(request.header("accept", accept)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn root_of_the_public_listener_says_what_this_is() {
    let up = Up::start(&[]).await;
    let root = || client::anonymous().get(format!("{}/", up.public));
    let well = json!({ "service": "evergreen", "status": "ok" });
    until("it to be ready", PATIENCE, || async {
        let (status, body) = send(root()).await;
        assert_eq!(status, 200);
        holds(body == well, body)
    })
    .await;
    let page = page(root()).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("It is well."), "{}", page.body);
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    // Nothing that tells a stranger more, such as the version.
    for word in ["0.1", "console", "/v1", "sandbox"] {
        assert!(!page.body.contains(word), "{word}: {}", page.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_see_a_page_while_no_broker_answers() {
    let testbed = Testbed::start(1, "1d").await;
    let gateway = testbed
        .gateway()
        .env("EVERGREEN_BROKER_URL", "http://127.0.0.1:9");
    let mut gateway = Member::new(gateway);
    gateway.spawn();
    wait_for_port(gateway.ports()[0]).await;
    for path in ["/oauth/install", "/connect/0123", "/oauth/callback?code=x"] {
        let open = || client::anonymous().get(format!("http://{}{path}", gateway.address));
        let page = page(open()).await;
        assert!(page.status >= 500, "{path}: {page:?}");
        assert!(page.body.contains("<h1>Not connected</h1>"), "{page:?}");
        for word in ["evergreen", "broker", "127.0.0.1"] {
            assert!(!page.body.contains(word), "{word}: {page:?}");
        }
        // Scripts get JSON.
        let (_, body) = send(open()).await;
        assert!(body["code"].is_string(), "{path}: {body}");
    }
}
