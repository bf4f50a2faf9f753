//! Framing of requests and responses, and the requests that are rejected.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::SOON;
use super::server::{Server, read, rest};
use crate::http::stream;

const LAST: &str = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const LAST_ANSWER: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\n/last";

#[tokio::test]
async fn responses_are_framed_and_the_connection_is_reused() {
    let server = Server::start().await;
    for (request, answer) in [
        (
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "200 OK\r\ncontent-length: 2\r\n\r\n/a",
        ),
        (
            "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "200 OK\r\ncontent-length: 2\r\n\r\n",
        ),
        (
            "GET /chunks HTTP/1.1\r\nHost: h\r\n\r\n",
            "200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
        ),
        (
            "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
            "204 No Content\r\n\r\n",
        ),
        (
            "GET /unchanged HTTP/1.1\r\nHost: h\r\n\r\n",
            "304 Not Modified\r\n\r\n",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            "200 OK\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nab\r\n1\r\nc\r\n0\r\nX-T: 1\r\n\r\n",
            "200 OK\r\ncontent-length: 3\r\n\r\nabc",
        ),
        // A body that the handler does not read.
        (
            "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            "200 OK\r\ncontent-length: 2\r\n\r\n/b",
        ),
        (
            "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n/a",
        ),
    ] {
        let stream = server.send(&format!("{request}{request}{LAST}")).await;
        let version = if request.contains("HTTP/1.0") {
            "1.0"
        } else {
            "1.1"
        };
        let expected = format!("HTTP/{version} {answer}HTTP/{version} {answer}{LAST_ANSWER}");
        assert_eq!(rest(stream).await, expected, "{request}");
    }
}

#[tokio::test]
async fn unframed_or_incomplete_response_closes_the_connection() {
    let server = Server::start().await;
    let stream = server.send("GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = rest(stream.await).await;
    assert_eq!(answer, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nabcde");
    let stream = server.send("GET /fails HTTP/1.0\r\n\r\n").await;
    let reset = timeout(SOON, read(stream)).await.unwrap();
    assert_eq!(reset.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let short = format!("GET /short HTTP/1.1\r\nHost: h\r\n\r\n{LAST}");
    let answer = rest(server.send(&short).await).await;
    assert!(!answer.contains("/last"), "{answer}");
}

#[tokio::test]
async fn no_request_is_served_after_invalid_or_ambiguous_framing() {
    let server = Server::start().await;
    for (request, expected) in [
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 501 Not Implemented\r\n",
        ),
        // The length is ignored, and the connection is closed (RFC 9112, 6.3).
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n\
             2\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 422 Unprocessable",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK",
        ),
    ] {
        let mut stream = server.send(&format!("{request}{LAST}")).await;
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with(expected), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(!answer.contains("/last"), "{answer}");
    }
}

#[tokio::test]
async fn rejected_request_gets_a_json_error() {
    let server = Server::start().await;
    let mut stream = server.send("GET / HTTP/1.1\r\n\r\n").await;
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "statusCode": 400,
        "code": "host_invalid",
        "message": "Exactly one valid Host header is required",
        "error": "Bad Request",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn http2_is_detected_by_its_preface() {
    const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let server = Server::start().await;
    for cut in [1, 10, 16, PREFACE.len()] {
        let (start, end) = PREFACE.split_at(cut);
        let mut stream = server.send(start).await;
        tokio::task::yield_now().await;
        // With an empty SETTINGS frame.
        let frame = [end.as_bytes(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
        stream.write_all(&frame).await.unwrap();
        let mut answer = [0; 9];
        timeout(SOON, stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer[3], 4, "SETTINGS: {answer:?}");
    }
    let late = format!("GET /a HTTP/1.1\r\nHost: h\r\n\r\n{PREFACE}");
    let mut stream = server.send(&late).await;
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.ends_with("\r\n\r\n/a"), "{answer}");
}

#[tokio::test]
async fn continue_100_is_sent_only_if_the_body_is_read() {
    let server = Server::start().await;
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\
                Connection: close\r\n\r\n";
    let mut stream = server.send(head).await;
    let mut interim = [0; 25];
    timeout(SOON, stream.read_exact(&mut interim))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    assert!(rest(stream).await.ends_with("\r\n\r\nabc"));

    // If the body is not read, there is no `100 Continue` and no wait for the body.
    let asked = Instant::now();
    let stream = server.send(&head.replace("/echo", "/refused")).await;
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(asked.elapsed() < stream::LINGER / 2);
}
