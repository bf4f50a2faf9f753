//! Calls whose attempts fail in different ways, one after another.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::testbed::{LIFETIME, Testbed, get, post, with};

const STALE: &str = r#"{"statusCode":401,"message":"Invalid JWT"}"#;

/// Makes GHL send these responses in order, and 200 after them.
async fn testbed_with(answers: Vec<Answer>) -> (Testbed, String) {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.let_broker_refresh(&id);
    let next = AtomicUsize::new(0);
    testbed.ghl.answers(move |_| {
        let answer = answers.get(next.fetch_add(1, Ordering::SeqCst));
        let answer = answer.map_or_else(Response::default, |answer| answer());
        async { answer }
    });
    (testbed, format!("/ghl/x?installation_id={id}"))
}

type Answer = fn() -> Response;

fn bad_gateway() -> Response {
    StatusCode::BAD_GATEWAY.into_response()
}

fn expired() -> Response {
    (StatusCode::UNAUTHORIZED, STALE).into_response()
}

fn too_many() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response()
}

#[tokio::test]
async fn each_failure_is_handled_after_each_other() {
    let failures: [(&str, Answer); 3] = [("502", bad_gateway), ("401", expired), ("429", too_many)];
    for (first_name, first) in failures {
        for (second_name, second) in failures {
            // A 401 that persists with a fresh token is delivered.
            if (first_name, second_name) == ("401", "401") {
                continue;
            }
            let (testbed, uri) = testbed_with(vec![first, second]).await;
            let response = testbed.send(get(&uri)).await;
            let status = response.status();
            assert_eq!(status, StatusCode::OK, "{first_name}, {second_name}");
            assert_eq!(testbed.ghl.lines().len(), 3);
        }
    }
}

#[tokio::test]
async fn retry_counts_against_the_rate_limit() {
    fn bad_gateway_with_two_left() -> Response {
        let left = [
            ("x-ratelimit-max", "3"),
            ("x-ratelimit-interval-milliseconds", "60000"),
            ("x-ratelimit-remaining", "2"),
        ];
        (StatusCode::BAD_GATEWAY, left).into_response()
    }
    fn bad_gateway_with_none_left() -> Response {
        let left = [
            ("x-ratelimit-max", "3"),
            ("x-ratelimit-interval-milliseconds", "60000"),
            ("x-ratelimit-remaining", "0"),
        ];
        (StatusCode::BAD_GATEWAY, left).into_response()
    }
    let (testbed, uri) =
        testbed_with(vec![bad_gateway_with_two_left, bad_gateway_with_none_left]).await;
    let request = with(get(&uri), "x-request-timeout", "5s");
    let response = testbed.send(request).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(
        testbed.ghl.lines().len(),
        2,
        "a third would exceed the limit"
    );
}

#[tokio::test]
async fn post_is_not_retried_after_502() {
    let (testbed, uri) = testbed_with(vec![bad_gateway]).await;
    let response = testbed.send(post(&uri, "body")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(testbed.ghl.lines().len(), 1);
}
