//! Timeouts, disconnects and closes, and the responses that still arrive.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::server::{Server, rest};
use super::{BUFFERED, LARGE, SOON};
use crate::limits::{ANSWER_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT};

#[tokio::test]
async fn response_arrives_after_an_unread_upload() {
    let server = Server::start().await;
    for path in ["/no", "/no", "/no", "/large"] {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\n\r\n");
        let mut stream = server.send(&head).await;
        let body = vec![7; LARGE];
        let sent = timeout(SOON, stream.write_all(&body)).await;
        sent.unwrap().unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nconnection: close"), "{head}");
        assert!(body == path || body.len() == LARGE, "{}", body.len());
    }
}

/// The caller sends a body without waiting for `100 Continue`, or one with invalid chunks.
#[tokio::test]
async fn response_arrives_after_an_unexpected_or_malformed_upload() {
    let server = Server::start().await;
    let head = format!(
        "PUT /no HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\nExpect: 100-continue\r\n\r\n"
    );
    for begun in [
        &head[..],
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ] {
        let mut stream = server.send(begun).await;
        let body = vec![7; LARGE];
        let sent = timeout(SOON, stream.write_all(&body)).await;
        sent.unwrap().unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn handler_is_dropped_when_its_caller_disconnects() {
    let server = Server::start().await;
    let stream = server.send("GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").await;
    server.entered.hanging.wait_for_one().await;
    drop(stream);
    server.entered.dropped.wait_for_one().await;
}

#[tokio::test(start_paused = true)]
async fn idle_and_head_timeouts_close_the_connection() {
    let server = Server::start().await;
    for (begun, patience) in [("", IDLE_TIMEOUT), ("GET / HT", HEAD_TIMEOUT)] {
        let since = Instant::now();
        let mut stream = server.send(begun).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "");
        let waited = since.elapsed();
        assert!((patience..patience + SOON).contains(&waited), "{waited:?}");
    }
    // A request in flight has no idle timeout. It starts anew after the response.
    let since = Instant::now();
    let mut stream = server.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("at last"), "{answer}");
    let waited = since.elapsed();
    assert!(
        (IDLE_TIMEOUT * 3..IDLE_TIMEOUT * 3 + SOON).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test]
async fn bytes_after_the_last_request_do_not_truncate_the_response() {
    let server = Server::start().await;
    for _ in 0..20 {
        let mut stream = server.send("GET /some HTTP/1.0\r\n\r\n").await;
        let mut start = [0; 1000];
        for _ in 0..10 {
            stream.read_exact(&mut start).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.write_all(b"\r\n").await.unwrap();
        assert!(rest(stream).await.len() > BUFFERED - 10 * 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn unread_response_is_cut_off_at_the_response_timeout() {
    let server = Server::start().await;
    let stream = server.send("GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let mut stream = stream.await;
    // The caller does not read for this time.
    sleep(ANSWER_TIMEOUT + SOON).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < LARGE, "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_drops_an_incomplete_head_after_a_second() {
    let server = Server::start().await;
    let mut stream = server.send("GET / HTTP/1.1\r\nHo").await;
    // The server runs on this thread. It has accepted and read after some polls.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let stopped = Instant::now();
    server.shutdown.start();
    assert!(server.shutdown.finished(SOON).await);
    assert!(stopped.elapsed() <= Duration::from_millis(1100));
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert_eq!(answer, "");
}
