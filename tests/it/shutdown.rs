//! SIGTERM: calls in flight are completed, and a sent refresh is committed.

use std::time::Duration;

use serde_json::json;
use tests::client;
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_commits_refresh_in_flight() {
    let sandbox = tests::sandbox::Sandbox::start(&[]).await;
    let mut up = Up::start(&[]).await.against(&sandbox).await;
    let id = up.install("locA").await;
    // The token call is slow, and SIGTERM arrives while it is in flight.
    sandbox
        .faults(json!([{ "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 1500, "next": 1 }]))
        .await;
    let refresh = up.command(&["installations", "refresh", &id]);
    let request = tokio::spawn(async move { refresh.run().await });
    until("the call to be in flight", PATIENCE, || async {
        let spent = sandbox.count("refresh_tokens_spent").await;
        holds(spent == 1, spent)
    })
    .await;
    let (code, log) = up.restart().await;
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(
        log.iter()
            .any(|line| line.contains(&format!("[REFRESH] {id}"))),
        "{log:#?}"
    );
    assert!(
        request.await.unwrap().status.success(),
        "the operator's request was answered"
    );
    let refreshed = up.command(&["installations", "refresh", &id]).run().await;
    assert!(refreshed.status.success(), "{refreshed:?}");
    assert_eq!(
        sandbox.count("replays_in_grace").await,
        0,
        "no response was requested again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_completes_calls_in_flight() {
    let sandbox = tests::sandbox::Sandbox::start(&[("LATENCY", "1s")]).await;
    let mut up = Up::start(&[]).await.against(&sandbox).await;
    let id = up.install("locA").await;
    let url = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let client = up.client.clone();
    let call = tokio::spawn(async move { tests::client::get(&client, &url).await });
    let before = sandbox.count("calls_ok").await;
    until("the call to be in flight", PATIENCE, || async {
        let metrics = tests::client::get(&up.client, &format!("{}/metrics", up.internal))
            .await
            .1;
        let text = metrics.as_str().unwrap_or_default();
        holds(
            text.contains("evergreen_gateway_cache_total{result=\"miss\"} 1"),
            before,
        )
    })
    .await;
    let (code, log) = up.restart().await;
    assert_eq!(code, Some(0), "{log:#?}");
    assert_eq!(call.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_process_is_unready_first_and_ends_its_metrics_last() {
    let sandbox = Sandbox::start(&[]).await;
    let up = Up::start(&[]).await.with("EVERGREEN_DRAIN", "1h");
    let up = up.against(&sandbox).await;
    let id = up.install("locA").await;
    let products = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let readyz = format!("{}/readyz", up.internal);
    assert_eq!(client::get(&up.client, &products).await.0, 200);

    up.program.signal(15);
    until("not to be ready", PATIENCE, || async {
        let (status, body) = client::get(&up.client, &readyz).await;
        holds(
            status == 503 && body["waiting_for"] == json!(["stopping"]),
            body,
        )
    })
    .await;
    // It serves all the same.
    let health = format!("{}/health", up.public);
    assert_eq!(client::get(&client::anonymous(), &health).await.0, 200);
    sandbox
        .faults(json!([{ "on": "api", "kind": "slow_body", "ms": 10_000, "next": 1 }]))
        .await;
    let call = tokio::spawn({
        let client = up.client.clone();
        async move { client::get(&client, &products).await }
    });
    until("the call to be in flight", PATIENCE, || async {
        let faults = sandbox.shown_faults().await;
        holds(faults[0]["fired"] == 1, faults)
    })
    .await;

    up.program.signal(15);
    let public = up.public.strip_prefix("http://").unwrap().to_owned();
    until("no new connections", PATIENCE, || async {
        let connected = TcpStream::connect(&public).await;
        holds(connected.is_err(), connected)
    })
    .await;
    assert!(!call.is_finished(), "the call was to outlast the listener");
    let metrics = format!("{}/metrics", up.internal);
    assert_eq!(client::get(&client::new(), &metrics).await.0, 200);
    assert_eq!(client::get(&client::new(), &readyz).await.0, 503);
    assert_eq!(call.await.unwrap().0, 200);
    let (code, log) = up.program.wait_for_exit(PATIENCE).await;
    assert_eq!(code, Some(0), "{log:#?}");
}

/// `EVERGREEN_SHUTDOWN_TIMEOUT` is 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn incomplete_request_head_does_not_delay_shutdown() {
    let mut up = Up::start(&[]).await;
    let address = up.public.strip_prefix("http://").unwrap().to_owned();
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(b"GET /health HT").await.unwrap();
    // Connections are accepted in order. So the incomplete head has arrived when later requests are answered.
    for _ in 0..20 {
        let mut whole = TcpStream::connect(&address).await.unwrap();
        let head = "GET /health HTTP/1.1\r\nHost: g\r\n\r\n";
        whole.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 15];
        whole.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
    }
    let stopped = Instant::now();
    let (code, log) = up.restart().await;
    assert_eq!(code, Some(0), "{log:#?}");
    // This includes the start of the next process.
    assert!(stopped.elapsed() < Duration::from_secs(15));
}
