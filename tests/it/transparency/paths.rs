//! Path traversal, and attempts to choose the upstream host.

use std::net::TcpListener;

use tests::client::raw;

use super::{ECHO, EchoGateway, json_body, raw_request};

#[tokio::test(flavor = "multi_thread")]
async fn path_traversal_is_rejected() {
    let gateway = EchoGateway::new().await;
    let named = format!("X-Installation-Id: {}", gateway.location);
    let ask = async |line: &str| {
        let head = [named.as_str(), "Connection: close"];
        raw(&gateway.up.public, raw_request(line, &head, b"")).await
    };
    let before = gateway.sandbox.count("calls_ok").await;
    for path in [
        "/..",
        "/../ledger",
        "/../../_sandbox/ledger",
        "/a/../../ledger",
        "/%2e%2e/ledger",
        "/%2E./ledger",
        "/.%2e/ledger",
        "/a%2f..%2f..%2fledger",
        "/..%2fledger",
        "/..%5cledger",
        "/..\\ledger",
        "/a\\b",
        "//evil.example/x",
        "/%2fevil.example/x",
        "/a/..?x=1",
    ] {
        let (status, response) = ask(&format!("GET /ghl{path}")).await;
        assert_eq!(status, 400, "{path}: {response}");
    }
    // Paths outside of /ghl.
    for path in [
        "/ghl/../_sandbox/ledger",
        "/ghl",
        "/GHL/x",
        "/_sandbox/ledger",
    ] {
        let (status, response) = ask(&format!("GET {path}")).await;
        assert!(matches!(status, 400 | 404), "{path}: {response}");
    }
    let after = gateway.sandbox.count("calls_ok").await;
    assert_eq!(after, before, "no request reached GHL");

    for path in [
        "/a..b/..c/...",
        "/@evil.example/",
        "/http://evil.example/x",
        "/a;..;b",
        "/%252e%252e/x",
    ] {
        let (status, response) = ask(&format!("GET /ghl{path}")).await;
        assert_eq!(status, 200, "{path}: {response}");
        assert_eq!(json_body(&response)["path"], format!("{ECHO}{path}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_cannot_choose_the_upstream_host() {
    let gateway = EchoGateway::new().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let host = elsewhere.local_addr().unwrap();
    let named = format!("X-Installation-Id: {}", gateway.location);
    let forwarded = format!("X-Forwarded-Host: {host}");
    let head = [named.as_str(), &forwarded, "Connection: close"];
    let absolute = raw_request(&format!("GET http://{host}/ghl/x"), &head, b"");
    let as_host = String::from_utf8(raw_request("GET /ghl/x", &head, b"")).unwrap();
    let as_host = as_host
        .replace("gateway.test", &host.to_string())
        .into_bytes();
    let ghl = gateway.sandbox.url.strip_prefix("http://").unwrap();
    for request in [absolute, as_host] {
        let (status, response) = raw(&gateway.up.public, request).await;
        assert_eq!(status, 200, "{response}");
        let arrived = json_body(&response);
        assert_eq!(arrived["path"], format!("{ECHO}/x"));
        assert_eq!(arrived["headers"]["host"], ghl);
    }
    let not_called = elsewhere.accept().unwrap_err();
    assert_eq!(not_called.kind(), std::io::ErrorKind::WouldBlock);
}
