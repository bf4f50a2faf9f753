//! GHL limits the calls of a location per interval and per day. The gateway queues calls over the limit, or rejects
//! them.

mod rejections;

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tests::client::{body, get, send};
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::task::JoinSet;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(90);

/// An `up` with one location, which has this rate limit.
async fn start_with_limit(max: u32, interval_ms: u32) -> (Up, String) {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let limits = json!({ "rate_limit": max, "rate_interval_ms": interval_ms });
    up.sandbox.set(limits).await;
    (up, id)
}

/// A call that the sandbox's echo answers with the request it received.
fn echo(up: &Up, id: &str) -> RequestBuilder {
    up.client
        .get(format!("{}/ghl/_sandbox/echo/x", up.public))
        .header("x-installation-id", id)
}

async fn metric(up: &Up, series: &str) -> u64 {
    let (_, text) = get(&up.client, &format!("{}/metrics", up.internal)).await;
    let mut lines = text.as_str().unwrap().lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Waits until the number of queued calls is as expected.
async fn until_queued(up: &Up, expected: impl Fn(u64) -> bool) {
    until("calls in the queue", PATIENCE, || async {
        let queued = metric(up, "evergreen_gateway_queued").await;
        holds(expected(queued), queued)
    })
    .await;
}

/// The gateway's rejection of a call: `Retry-After` and the body.
async fn rejection(request: RequestBuilder) -> (u64, Value) {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 429);
    (retry_after(&response), body(response).await)
}

fn retry_after(response: &Response) -> u64 {
    let header = response.headers().get("retry-after").expect("Retry-After");
    header.to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_queue_is_fair_between_callers() {
    let (up, id) = start_with_limit(50, 1000).await;
    let mut keys = Vec::new();
    for name in ["busy", "quiet"] {
        let made = up.command(&["keys", "create", "--name", name]).run().await;
        let key = String::from_utf8(made.stdout).unwrap();
        keys.push(key.trim_end().to_owned());
    }
    let mut calls = JoinSet::new();
    let mut call = |key: usize| {
        let request = echo(&up, &id).bearer_auth(&keys[key]);
        calls.spawn(async move { (key, send(request).await) });
    };
    (0..300).for_each(|_| call(0));
    until_queued(&up, |queued| queued > 150).await;
    (0..20).for_each(|_| call(1));
    let mut answered = [0, 0];
    let mut busy_calls_before_last_quiet = 0;
    while let Some(response) = calls.join_next().await {
        let (key, (status, body)) = response.unwrap();
        assert_eq!(status, 200, "{body}");
        answered[key] += 1;
        if key == 1 {
            busy_calls_before_last_quiet = answered[0];
        }
    }
    assert_eq!(answered, [300, 20]);
    assert!(
        busy_calls_before_last_quiet < 250,
        "{busy_calls_before_last_quiet} of the busy caller's calls were sent first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_callers_leave_the_rate_limit_queue() {
    let (up, id) = start_with_limit(5, 60_000).await;
    for _ in 0..5 {
        assert_eq!(send(echo(&up, &id)).await.0, 200);
    }
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        // As long as the interval, so that the gateway queues the call.
        let request = echo(&up, &id).header("x-request-timeout", "5m");
        calls.spawn(async move { send(request).await });
    }
    until_queued(&up, |queued| queued == 20).await;
    calls.shutdown().await;
    until_queued(&up, |queued| queued == 0).await;
}
