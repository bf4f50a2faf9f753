//! Calls that the gateway or GHL rejects.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn call_that_cannot_be_sent_in_time_is_rejected_immediately() {
    let (up, id) = start_with_limit(5, 20_000).await;
    for left in (0..5).rev() {
        let response = echo(&up, &id).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-ratelimit-max"], "5");
        assert_eq!(
            response.headers()["x-ratelimit-remaining"],
            left.to_string().as_str()
        );
    }
    let started = Instant::now();
    let (seconds, body) = rejection(echo(&up, &id).header("x-request-timeout", "500ms")).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{started:?}");
    assert!((5..=20).contains(&seconds), "{seconds}");
    assert_eq!(body["limit"], "interval", "{body}");
    assert!(
        body["message"].to_string().contains("5 calls per 20s"),
        "{body}"
    );
    assert_eq!(
        up.sandbox.rate_limited_calls().await,
        0,
        "no call reached GHL"
    );
    let series = r#"evergreen_gateway_limited_total{limit="interval"}"#;
    assert_eq!(metric(&up, series).await, 1);
    let (status, body) = send(echo(&up, &id).header("x-request-timeout", "soon")).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn daily_limit_rejection_names_the_limit() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    up.sandbox.set(json!({ "daily_limit": 10 })).await;
    for _ in 0..10 {
        let response = echo(&up, &id).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let left = response.headers()["x-ratelimit-daily-remaining"].to_str();
        if left.unwrap() == "0" {
            break;
        }
    }
    let (seconds, body) = rejection(echo(&up, &id)).await;
    assert!(seconds >= 1, "{seconds}");
    assert_eq!(body["limit"], "day", "{body}");
    assert_eq!(
        up.sandbox.rate_limited_calls().await,
        0,
        "no call reached GHL"
    );
    let series = r#"evergreen_gateway_limited_total{limit="day"}"#;
    assert_eq!(metric(&up, series).await, 1);
}

/// GHL answers the next call with 429, and asks for a delay of one second.
async fn fail_next_with_429(up: &Up) {
    let rule = json!({
        "on": "api", "kind": "status", "status": 429, "retry_after": 1, "next": 1,
    });
    up.sandbox.faults(json!([rule])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_is_retried_with_its_body_after_429() {
    let (up, id) = start_with_limit(100, 1000).await;
    let url = format!("{}/ghl/_sandbox/echo/x", up.public);
    let post = || up.client.post(&url).header("x-installation-id", &id);
    for (request, bytes) in [(echo(&up, &id), 0), (post().body("the body"), 8)] {
        fail_next_with_429(&up).await;
        let started = Instant::now();
        let (status, arrived) = send(request).await;
        assert_eq!(status, 200, "{arrived}");
        assert_eq!(arrived["body_bytes"], bytes);
        assert!(
            started.elapsed() >= Duration::from_secs(1),
            "the delay that GHL asked for"
        );
    }
    assert_eq!(metric(&up, "evergreen_gateway_ghl_refused_total").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn non_replayable_or_late_request_gets_ghls_429() {
    let (up, id) = start_with_limit(100, 1000).await;
    let url = format!("{}/ghl/_sandbox/echo/x", up.public);
    let large = up.client.post(&url).body(vec![b'x'; 100_000]);
    let large = large.header("x-installation-id", &id);
    let hurried = echo(&up, &id).header("x-request-timeout", "200ms");
    for request in [large, hurried] {
        fail_next_with_429(&up).await;
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(retry_after(&response), 1);
        let body = body(response).await;
        assert!(
            body.get("limit").is_none(),
            "GHL's body, not the gateway's: {body}"
        );
        // Wait until that second is over.
        assert_eq!(send(echo(&up, &id)).await.0, 200);
    }
}
