//! Requests to the gateway.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tests::client::{get, raw, send, with_key};
use tests::raw_server::RawServer;
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::up_before;

const PATIENCE: Duration = Duration::from_secs(90);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request, the expected status, and the expected request at GHL (`None`: no request).
struct Case {
    name: &'static str,
    sent: String,
    status: u16,
    /// Parts of the request at GHL. A part that begins with `!` must be absent.
    seen: Option<&'static [&'static str]>,
}

fn case(
    name: &'static str,
    head: &str,
    body: &str,
    status: u16,
    seen: Option<&'static [&'static str]>,
) -> Case {
    let head = head.trim_end().replace('\n', "\r\n");
    Case {
        name,
        sent: format!("{head}\r\nX-Installation-Id: locA\r\nConnection: close\r\n\r\n{body}"),
        status,
        seen,
    }
}

fn cases() -> Vec<Case> {
    let many = "X-Many: 1\n".repeat(200);
    let long = "x".repeat(70_000);
    vec![
        case(
            "Content-Length and Transfer-Encoding",
            "POST /ghl/a HTTP/1.1\nHost: g\nContent-Length: 5\nTransfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            200,
            // The gateway removes the length and closes the connection: RFC 9112, 6.3.
            Some(&["abc", "!content-length: 5"]),
        ),
        case(
            "Transfer-Encoding and Content-Length",
            "POST /ghl/a HTTP/1.1\nHost: g\nTransfer-Encoding: chunked\nContent-Length: 5",
            "3\r\nabc\r\n0\r\n\r\n",
            200,
            Some(&["abc", "!content-length: 5"]),
        ),
        case(
            "bytes after such a request are not a request",
            "POST /ghl/a HTTP/1.1\nHost: g\nContent-Length: 30\nTransfer-Encoding: chunked",
            "0\r\n\r\nGET /ghl/smuggled HTTP/1.1\r\nHost: g\r\n\r\n",
            200,
            Some(&["POST /a", "!smuggled"]),
        ),
        case("missing Host", "GET /ghl/a HTTP/1.1", "", 400, None),
        case(
            "duplicate Host",
            "GET /ghl/a HTTP/1.1\nHost: g\nHost: evil.example",
            "",
            400,
            None,
        ),
        case(
            "Transfer-Encoding in HTTP/1.0",
            "POST /ghl/a HTTP/1.0\nHost: g\nTransfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            400,
            None,
        ),
        case(
            "duplicate Content-Length",
            "POST /ghl/a HTTP/1.1\nHost: g\nContent-Length: 3\nContent-Length: 4",
            "abcd",
            400,
            None,
        ),
        case(
            "invalid Content-Length",
            "POST /ghl/a HTTP/1.1\nHost: g\nContent-Length: +3",
            "abc",
            400,
            None,
        ),
        case(
            "chunked is not the last coding",
            "POST /ghl/a HTTP/1.1\nHost: g\nTransfer-Encoding: chunked, gzip",
            "0\r\n\r\n",
            400,
            None,
        ),
        case(
            "unsupported transfer coding",
            "POST /ghl/a HTTP/1.1\nHost: g\nTransfer-Encoding: gzip, chunked",
            "0\r\n\r\n",
            501,
            None,
        ),
        case(
            "space before the colon",
            "GET /ghl/a HTTP/1.1\nHost: g\nX-A : 1",
            "",
            400,
            None,
        ),
        case(
            "folded header",
            "GET /ghl/a HTTP/1.1\nHost: g\nX-A: 1\n folded",
            "",
            400,
            None,
        ),
        case(
            "invalid protocol",
            "GET /ghl/a HTCPCP/1.0\nHost: g",
            "",
            400,
            None,
        ),
        case(
            "too many headers",
            &format!("GET /ghl/a HTTP/1.1\nHost: g\n{many}"),
            "",
            431,
            None,
        ),
        case(
            "too long header",
            &format!("GET /ghl/a HTTP/1.1\nHost: g\nX-Long: {long}"),
            "",
            431,
            None,
        ),
        case(
            "too long path",
            &format!("GET /ghl/{long} HTTP/1.1\nHost: g"),
            "",
            431,
            None,
        ),
        case(
            "host in the request target is not contacted",
            "GET http://evil.example/ghl/a HTTP/1.1\nHost: evil.example",
            "",
            200,
            Some(&["GET /a HTTP/1.1", "host: 127.0.0.1", "!evil"]),
        ),
        case(
            "CONNECT",
            "CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443",
            "",
            405,
            None,
        ),
        case("TRACE", "TRACE /ghl/a HTTP/1.1\nHost: g", "", 405, None),
        case(
            "user name in the target",
            "GET http://me@g/ghl/a HTTP/1.1\nHost: g",
            "",
            400,
            None,
        ),
        case(
            "fragment is not forwarded",
            "GET /ghl/a#b HTTP/1.1\nHost: g",
            "",
            200,
            Some(&["GET /a HTTP/1.1"]),
        ),
        case(
            "asterisk form",
            "OPTIONS * HTTP/1.1\nHost: g",
            "",
            404,
            None,
        ),
        case(
            "path traversal",
            "GET /ghl/a/../../b HTTP/1.1\nHost: g",
            "",
            400,
            None,
        ),
        case(
            "encoded path traversal",
            "GET /ghl/a/%2e%2e/%2E./b HTTP/1.1\nHost: g",
            "",
            400,
            None,
        ),
        case(
            "host in the path",
            "GET /ghl//evil.example/a HTTP/1.1\nHost: g",
            "",
            400,
            None,
        ),
        case(
            "backslash in the path",
            "GET /ghl/\\evil.example/a HTTP/1.1\nHost: g",
            "",
            400,
            None,
        ),
        case(
            "hop-by-hop and forwarding headers are removed",
            "GET /ghl/a HTTP/1.1\nHost: g\nTE: trailers\nTrailer: X-T\nUpgrade: h2c\n\
             Keep-Alive: 5\nProxy-Authorization: Basic x\nForwarded: for=10.0.0.7\n\
             X-Forwarded-For: 10.0.0.7\nX-Forwarded-Host: inside\nX-Forwarded-Proto: http\n\
             X-Real-Ip: 10.0.0.7\nVia: 1.1 balancer",
            "",
            200,
            Some(&[
                "GET /a",
                "!te: ",
                "!trailer:",
                "!upgrade:",
                "!keep-alive:",
                "!proxy-authorization",
                "!forwarded",
                "!10.0.0.7",
                "!inside",
                "!via:",
            ]),
        ),
        case(
            "trailers are not forwarded as headers",
            "POST /ghl/a HTTP/1.1\nHost: g\nTransfer-Encoding: chunked\nTrailer: Authorization",
            "3\r\nabc\r\n0\r\nAuthorization: Bearer mine\r\n\r\n",
            200,
            Some(&["abc", "bearer pit-1", "!mine"]),
        ),
        case(
            "HTTP/1.0",
            "GET /ghl/a HTTP/1.0\nHost: g",
            "",
            200,
            Some(&["GET /a HTTP/1.1"]),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_proxied_or_rejected_per_http() {
    let mut wrong = Vec::new();
    for case in cases() {
        let server = RawServer::responding(OK).await;
        let up = up_before(&server, &[]).await;
        let (status, response) = raw(&up.public, &case.sent).await;
        let requests = server.requests();
        if status != case.status {
            wrong.push(format!("{}: {status}: {response}", case.name));
        }
        match (case.seen, requests.as_slice()) {
            (None, []) => {}
            (Some(parts), [request]) => {
                let request = request.to_lowercase();
                for part in parts {
                    let part = part.to_lowercase();
                    let is_fine = match part.strip_prefix('!') {
                        Some(absent) => !request.contains(absent),
                        None => request.contains(&part),
                    };
                    if !is_fine {
                        wrong.push(format!("{}: {part}: GHL saw {request}", case.name));
                    }
                }
            }
            (expected, seen) => {
                wrong.push(format!("{}: {expected:?}, GHL saw {seen:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_continue_is_answered_by_the_gateway() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let address = up.public.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /ghl/_sandbox/echo HTTP/1.1\r\nHost: g\r\nX-Installation-Id: {id}\r\n\
         Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&with_key(head.as_bytes())).await.unwrap();
    let mut interim = [0; 25];
    let read = timeout(PATIENCE, stream.read_exact(&mut interim)).await;
    read.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let mut response = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut response)).await;
    read.unwrap().unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.contains(r#""body_bytes":3"#), "{response}");
    assert!(!response.to_lowercase().contains("expect"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_is_supported() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("{}/ghl/_sandbox/echo/x", up.public);
    let request = client.post(&url).header("x-installation-id", &id);
    let response = request.body("x".repeat(200_000)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let arrived: Value = response.json().await.unwrap();
    assert_eq!(arrived["body_bytes"], 200_000, "{arrived}");
    // HTTP/1.1 still works on the same port.
    assert_eq!(
        get(&up.client, &format!("{}/health", up.public)).await.0,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_request_is_cancelled_when_caller_disconnects() {
    let server = RawServer::performing(&[tests::raw_server::ServerAction::AwaitClose]).await;
    let up = up_before(&server, &[]).await;
    let address = up.public.strip_prefix("http://").unwrap();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = "GET /ghl/a HTTP/1.1\r\nHost: g\r\nX-Installation-Id: locA\r\n\r\n";
        stream.write_all(&with_key(head.as_bytes())).await.unwrap();
        let seen = server.requests().len();
        tests::wait::until("the request at GHL", PATIENCE, || async {
            let now = server.requests().len();
            tests::wait::holds(now > seen, now)
        })
        .await;
        drop(stream);
    }
    server.wait_for_closed_connections(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dripping_uploads_leave_room_to_another_key() {
    let up = Up::start(&[("EVERGREEN_MAX_REQUESTS", "8")]).await;
    let id = up.install("locA").await;
    let mut keys = Vec::new();
    for name in ["slow", "other"] {
        let made = up.command(&["keys", "create", "--name", name]).run().await;
        keys.push(
            String::from_utf8(made.stdout)
                .unwrap()
                .trim_end()
                .to_owned(),
        );
    }
    let address = up.public.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /ghl/_sandbox/echo/x HTTP/1.1\r\nHost: {address}\r\nX-Api-Key: {}\r\n\
         X-Installation-Id: {id}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        keys[0]
    );
    let mut uploads = Vec::new();
    for _ in 0..8 {
        let mut upload = TcpStream::connect(address).await.unwrap();
        upload.write_all(head.as_bytes()).await.unwrap();
        uploads.push(upload);
    }
    let call = |key: &str| {
        let call = up.client.get(format!("{}/ghl/_sandbox/echo/x", up.public));
        call.header("x-installation-id", &id).bearer_auth(key)
    };
    // The key that drips has no more calls.
    until("its share to be used", Duration::from_secs(20), || async {
        let (status, body) = send(call(&keys[0])).await;
        holds(
            status == 429 && body["code"] == "key_concurrency_exceeded",
            body,
        )
    })
    .await;
    for _ in 0..3 {
        assert_eq!(send(call(&keys[1])).await.0, 200);
    }
}
