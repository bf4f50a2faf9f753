//! Responses from GHL.

use std::time::Duration;

use tests::client::raw;
use tests::raw_server::{RawServer, ServerAction};
use tokio::time::Instant;

use super::up_before;

fn request(method: &str) -> String {
    format!(
        "{method} /ghl/a HTTP/1.1\r\nHost: g\r\nX-Installation-Id: locA\r\nConnection: close\r\n\r\n"
    )
}

/// A response of GHL, and the expected status and parts of the gateway's response (`!`: absent).
struct Case {
    name: &'static str,
    method: &'static str,
    sent: &'static str,
    status: u16,
    seen: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "no content",
        method: "GET",
        sent: "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        status: 204,
        seen: &["x-a: 1", "!content-length", "!transfer-encoding"],
    },
    Case {
        name: "not modified",
        method: "GET",
        sent: "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 5\r\n\r\n",
        status: 304,
        seen: &["etag: \"1\""],
    },
    Case {
        name: "response to HEAD",
        method: "HEAD",
        sent: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        status: 200,
        seen: &["content-length: 5"],
    },
    Case {
        name: "interim responses",
        method: "GET",
        sent: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
               HTTP/1.1 100 Continue\r\n\r\n\
               HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        status: 200,
        seen: &["\r\n\r\nok"],
    },
    Case {
        name: "chunked",
        method: "GET",
        sent: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        status: 200,
        seen: &["ok"],
    },
    Case {
        name: "body delimited by the end of the connection",
        method: "GET",
        sent: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it",
        status: 200,
        seen: &["all of it"],
    },
    Case {
        name: "hop-by-hop headers are removed",
        method: "GET",
        sent: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Private\r\nX-Private: 1\r\n\
               Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-RateLimit-Remaining: 7\r\n\r\nok",
        status: 200,
        seen: &[
            "x-ratelimit-remaining: 7",
            "!x-private",
            "!keep-alive",
            "!proxy-authenticate",
        ],
    },
    Case {
        name: "duplicate Content-Length",
        method: "GET",
        sent: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        status: 502,
        seen: &[],
    },
    Case {
        name: "not HTTP",
        method: "GET",
        sent: "SSH-2.0-OpenSSH\r\n\r\n",
        status: 502,
        seen: &[],
    },
    Case {
        name: "no response",
        method: "POST",
        sent: "",
        status: 502,
        seen: &[],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_proxied_or_rejected_per_http() {
    let mut wrong = Vec::new();
    for case in CASES {
        let server = RawServer::responding(case.sent).await;
        let up = up_before(&server, &[]).await;
        let (status, response) = raw(&up.public, request(case.method)).await;
        if status != case.status {
            wrong.push(format!("{}: {status}: {response}", case.name));
        }
        let response = response.to_lowercase();
        for part in case.seen {
            let is_fine = match part.strip_prefix('!') {
                Some(absent) => !response.contains(absent),
                None => response.contains(part),
            };
            if !is_fine {
                wrong.push(format!("{}: {part}: {response}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A response that announces ten bytes, sends two, and then stalls.
const STALLING: &[ServerAction] = &[
    ServerAction::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"),
    ServerAction::AwaitClose,
];

#[tokio::test(flavor = "multi_thread")]
async fn stalled_response_is_cut_off_by_idle_timeout() {
    let server = RawServer::performing(STALLING).await;
    let up = up_before(&server, &[("EVERGREEN_IDLE_TIMEOUT", "1s")]).await;
    let began = Instant::now();
    let (status, response) = raw(&up.public, request("GET")).await;
    assert!(
        status == 200 && response.ends_with("\r\n\r\nok"),
        "{response}"
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
    server.wait_for_closed_connections(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_response_is_cut_off_by_total_timeout() {
    const DRIP: [ServerAction; 2] = [
        ServerAction::Send(b"1\r\nx\r\n"),
        ServerAction::Pause(Duration::from_millis(200)),
    ];
    let head = ServerAction::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut actions = vec![head];
    actions.extend(DRIP.repeat(100));
    let server = RawServer::performing(&actions).await;
    let settings = [
        ("EVERGREEN_TOTAL_TIMEOUT", "2s"),
        ("EVERGREEN_IDLE_TIMEOUT", "1s"),
    ];
    let up = up_before(&server, &settings).await;
    let began = Instant::now();
    let (status, response) = raw(&up.public, request("GET")).await;
    let took = began.elapsed();
    assert_eq!(status, 200);
    assert!(
        !response.ends_with("0\r\n\r\n"),
        "the response was cut off: {response}"
    );
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(15)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn response_timeout_is_a_504() {
    let server = RawServer::performing(&[ServerAction::AwaitClose]).await;
    let up = up_before(&server, &[("EVERGREEN_RESPONSE_TIMEOUT", "1s")]).await;
    let (status, response) = raw(&up.public, request("GET")).await;
    assert_eq!(status, 504, "{response}");
    assert_eq!(server.requests().len(), 1, "no time was left for a retry");
    server.wait_for_closed_connections(1).await;
}
