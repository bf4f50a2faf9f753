//! Web pages that call from a browser (CORS).

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tests::client::{self, KEY};
use tests::program::Start;
use tests::raw_server::RawServer;
use tests::scratch::Scratch;
use tests::up::Up;

use super::{create_key, echo_of};

const APP: &str = "https://app.example.com";
const ORIGINS: (&str, &str) = (
    "EVERGREEN_CORS_ORIGINS",
    "https://app.example.com,http://localhost:3000",
);

/// A preflight, as a browser sends it: without the key.
fn preflight(up: &Up, path: &str, origin: &str) -> RequestBuilder {
    let url = format!("{}{path}", up.public);
    client::anonymous()
        .request(Method::OPTIONS, url)
        .header("origin", origin)
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "cors")
        .header("access-control-request-method", "PUT")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        )
}

/// A call of a page of this origin.
fn of_page(request: RequestBuilder, origin: &str) -> RequestBuilder {
    let request = request.header("origin", origin);
    request.header("sec-fetch-site", "cross-site")
}

async fn answer(request: RequestBuilder) -> (u16, HeaderMap, Value) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, client::body(response).await)
}

fn allowed_origin(headers: &HeaderMap) -> Option<&str> {
    let allowed = headers.get("access-control-allow-origin");
    allowed.map(|allowed| allowed.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_a_listed_origin_can_call_with_a_key() {
    let up = Up::start(&[ORIGINS]).await;
    let id = up.install("locA").await;
    let key = create_key(&up, &["--name", "page", "--installation", &id]).await;
    for path in [
        "/ghl/contacts/?locationId=locA",
        "/api/ghl/products",
        "/api/oauth/status",
    ] {
        let (status, headers, _) = answer(preflight(&up, path, APP)).await;
        assert_eq!(
            (status, allowed_origin(&headers)),
            (204, Some(APP)),
            "{path}"
        );
        let methods = headers["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.contains("PUT"), "{methods}");
        assert_eq!(
            headers["access-control-allow-headers"],
            "authorization,content-type"
        );
        let vary = headers["vary"].to_str().unwrap();
        assert!(vary.contains("Origin"), "{vary}");
        assert!(!headers.contains_key("access-control-allow-credentials"));
        assert!(headers.contains_key("access-control-max-age"));
    }
    let status_url = format!("{}/api/oauth/status?installation_id={id}", up.public);
    let get = |url: String| client::anonymous().get(url);
    for (request, expected) in [
        (echo_of(&up, &id).bearer_auth(&key), 200),
        (get(status_url.clone()).bearer_auth(&key), 200),
        // Also errors can be read.
        (echo_of(&up, &id), 401),
        (echo_of(&up, "locB").bearer_auth(&key), 403),
        (get(format!("{}/api/ghl/nothing", up.public)), 404),
    ] {
        let what = format!("{request:?}");
        let (status, headers, body) = answer(of_page(request, APP)).await;
        assert_eq!(
            (status, allowed_origin(&headers)),
            (expected, Some(APP)),
            "{what}: {body}"
        );
        let exposed = headers["access-control-expose-headers"].to_str().unwrap();
        for name in ["X-Request-Id", "Retry-After", "X-RateLimit-Remaining"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        assert_eq!(headers["vary"], "Origin");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_another_origin_gets_nothing() {
    let up = Up::start(&[ORIGINS]).await;
    let id = up.install("locA").await;
    let status_url = format!("{}/api/oauth/status?installation_id={id}", up.public);
    let tokens_url = format!("{}/ghl/oauth/locationToken", up.public);
    for origin in [
        "https://evil.example",
        "https://app.example.com:8443",
        "null",
    ] {
        let (status, headers, _) = answer(preflight(&up, "/ghl/contacts/", origin)).await;
        assert_eq!((status, allowed_origin(&headers)), (401, None), "{origin}");
        let request = echo_of(&up, &id).bearer_auth(KEY);
        let (_, headers, _) = answer(of_page(request, origin)).await;
        assert_eq!(allowed_origin(&headers), None, "{origin}");
        assert_eq!(headers["vary"], "Origin");
        let (status, headers, body) = answer(of_page(up.client.get(&status_url), origin)).await;
        assert_eq!((status, allowed_origin(&headers)), (403, None), "{origin}");
        assert_eq!(body["code"], "cross_site_request");
    }
    // Not even a listed origin's page can administer, or read tokens.
    for path in [
        "/v1/keys".to_owned(),
        format!("/v1/installations/{id}/token"),
    ] {
        let request = up.client.get(format!("{}{path}", up.internal));
        let (status, headers, _) = answer(of_page(request, APP)).await;
        assert_eq!((status, allowed_origin(&headers)), (403, None), "{path}");
    }
    let (_, headers, _) = answer(of_page(up.client.post(tokens_url), APP)).await;
    assert_eq!(allowed_origin(&headers), None);
    // Over the sandbox a program on this machine needs no key. A page does.
    let (status, ..) = answer(of_page(echo_of(&up, &id), APP)).await;
    assert_eq!(status, 401);
    // A name that was rebound to this machine is none of its own.
    let rebound = of_page(up.client.get(&status_url), APP).header("host", "evil.example");
    assert_eq!(answer(rebound).await.2["code"], "host_not_allowed");
}

/// A response with GHL's CORS headers and a rate limit header.
const OF_GHL: &str = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n\
    Access-Control-Allow-Credentials: true\r\nX-RateLimit-Remaining: 7\r\nContent-Length: 2\r\n\r\n{}";

#[tokio::test(flavor = "multi_thread")]
async fn ghls_decisions_about_origins_pass_only_without_the_setting() {
    let server = RawServer::responding(OF_GHL).await;
    let token = [("GHL_ACCESS_TOKEN", "pit-1"), ("GHL_LOCATION_ID", "locA")];
    for (settings, expected) in [
        (vec![], [Some("*"), Some("*")]),
        (vec![ORIGINS], [Some(APP), None]),
    ] {
        let settings = [token.as_slice(), &settings].concat();
        let sandbox = tests::sandbox::Sandbox::at(&server.url);
        let up = Up::start(&settings).await.against(&sandbox).await;
        for (origin, expected) in [APP, "https://evil.example"].into_iter().zip(expected) {
            let request = || {
                let url = format!("{}/ghl/x?locationId=locA", up.public);
                of_page(up.client.get(url), origin)
            };
            tests::wait::until("the installation", super::PATIENCE, || async {
                let (status, ..) = answer(request()).await;
                tests::wait::holds(status == 200, status)
            })
            .await;
            let (_, headers, _) = answer(request()).await;
            assert_eq!(allowed_origin(&headers), expected, "{settings:?} {origin}");
            let of_ghl = headers.contains_key("access-control-allow-credentials");
            assert_eq!(of_ghl, expected == Some("*"));
            assert_eq!(headers["x-ratelimit-remaining"], "7");
        }
        // A preflight is a call like any other, unless the gateway answers it.
        let before = server.requests().len();
        let (status, ..) = answer(preflight(&up, "/ghl/x?locationId=locA", APP)).await;
        let with_key = preflight(&up, "/ghl/x?locationId=locA", APP).bearer_auth(KEY);
        let (with_key, ..) = answer(with_key).await;
        let forwarded = server.requests().len() - before;
        let is_set = settings.contains(&ORIGINS);
        let seen = if is_set { (204, 204, 0) } else { (401, 200, 1) };
        assert_eq!((status, with_key, forwarded), seen);
    }
}

#[tokio::test]
async fn invalid_origins_are_refused_at_the_start() {
    let scratch = Scratch::new();
    for (origins, reason) in [
        ("*", "any web page"),
        (
            "https://app.example.com/",
            "a browser writes https://app.example.com",
        ),
        (
            "https://app.example.com,app.example.com",
            "such as https://",
        ),
    ] {
        for command in ["up", "gateway"] {
            let start = Start::evergreen(&[command])
                .env("EVERGREEN_CORS_ORIGINS", origins)
                .env("EVERGREEN_DATA_DIR", scratch.join("data"));
            let output = start.run().await;
            assert_eq!(output.status.code(), Some(64), "{output:?}");
            let message = String::from_utf8(output.stderr).unwrap();
            let line = message
                .lines()
                .find(|it| it.contains("EVERGREEN_CORS_ORIGINS"));
            assert!(line.is_some_and(|line| line.contains(reason)), "{message}");
        }
    }
}
