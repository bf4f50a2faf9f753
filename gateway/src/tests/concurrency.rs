//! More concurrent calls than permits, and what a waiting call holds.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use service::handler::Handler as _;
use store::InstallationId;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::testbed::{LIFETIME, LOCAL, Testbed, get, json, post, text, with};

const SOON: Duration = Duration::from_secs(10);
/// Below the floor of 5 minutes.
const BELOW_FLOOR: Duration = Duration::from_secs(60);
/// The lifetime of a token that expires within a test.
const SHORT_LIFETIME: Duration = Duration::from_secs(2);

async fn testbed_with_one_permit() -> Testbed {
    Testbed::with(&[("EVERGREEN_MAX_REQUESTS", "1")]).await
}

/// A call in its own task.
fn begin(testbed: &Testbed, request: Request) -> JoinHandle<Response> {
    let public = testbed.gateway.public();
    tokio::spawn(async move { public.handle(request, LOCAL).await })
}

async fn status(call: JoinHandle<Response>) -> StatusCode {
    timeout(SOON, call).await.unwrap().unwrap().status()
}

/// Headers of a location that is allowed one call per interval, and has used it.
fn exhausted_for(interval_ms: &'static str) -> [(&'static str, &'static str); 3] {
    [
        ("x-ratelimit-interval-milliseconds", interval_ms),
        ("x-ratelimit-max", "1"),
        ("x-ratelimit-remaining", "0"),
    ]
}

async fn arrived(testbed: &Testbed, count: usize) {
    let arriving = async {
        while testbed.ghl.seen().len() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, arriving).await.unwrap();
}

#[tokio::test]
async fn call_waits_for_a_concurrency_permit_until_its_deadline() {
    let testbed = testbed_with_one_permit().await;
    let id = testbed.install(LIFETIME);
    let may_answer = Arc::new(Semaphore::new(0));
    testbed.ghl.answers({
        let may_answer = Arc::clone(&may_answer);
        move |_| {
            let may_answer = Arc::clone(&may_answer);
            async move {
                may_answer.acquire().await.unwrap().forget();
                Response::default()
            }
        }
    });
    let call = || get(&format!("/ghl/x?installation_id={id}"));
    let first = begin(&testbed, call());
    arrived(&testbed, 1).await;
    let impatient = with(call(), "x-request-timeout", "50ms");
    let refused = timeout(SOON, testbed.send(impatient)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let patient = begin(&testbed, call());
    testbed.process_announcements().await;
    assert_eq!(testbed.ghl.seen().len(), 1);
    may_answer.add_permits(2);
    assert_eq!(status(first).await, StatusCode::OK);
    assert_eq!(status(patient).await, StatusCode::OK);
}

#[tokio::test]
async fn token_that_expires_while_queued_is_refreshed_before_sending() {
    let testbed = testbed_with_one_permit().await;
    let (other, id) = (testbed.install(LIFETIME), InstallationId::random());
    testbed.store.put(
        &id,
        |record| record.lifetime = SHORT_LIFETIME,
        SHORT_LIFETIME,
    );
    testbed.let_broker_refresh(&id);
    testbed.ghl.answers(async |request: Request| {
        if request.uri().path() == "/slow" {
            sleep(SHORT_LIFETIME).await;
        }
        Response::default()
    });
    let slow = begin(&testbed, get(&format!("/ghl/slow?installation_id={other}")));
    arrived(&testbed, 1).await;
    let waiting = begin(&testbed, get(&format!("/ghl/x?installation_id={id}")));
    testbed.process_announcements().await;
    assert_eq!(testbed.broker.lines(), [""; 0], "it has not expired yet");
    assert_eq!(status(slow).await, StatusCode::OK);
    assert_eq!(status(waiting).await, StatusCode::OK);
    let sent = &testbed.ghl.seen()[1];
    assert_eq!(sent.header("authorization"), Some("Bearer token-2"));
}

#[tokio::test]
async fn rate_limited_call_holds_no_concurrency_permit() {
    let testbed = testbed_with_one_permit().await;
    let (used_up, other) = (testbed.install(LIFETIME), testbed.install(LIFETIME));
    testbed
        .ghl
        .answers(async |_| (exhausted_for("60000"), "").into_response());
    let call = |id| {
        let call = get(&format!("/ghl/x?installation_id={id}"));
        with(call, "x-request-timeout", "1h")
    };
    assert_eq!(testbed.send(call(&used_up)).await.status(), StatusCode::OK);
    let waiting = begin(&testbed, call(&used_up));
    testbed.process_announcements().await;
    let passed = timeout(SOON, testbed.send(call(&other))).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK);
    assert!(!waiting.is_finished());
    assert_eq!(testbed.ghl.seen().len(), 2);
}

#[tokio::test]
async fn call_queued_again_after_429_holds_no_concurrency_permit() {
    let testbed = testbed_with_one_permit().await;
    let (refused, other) = (testbed.install(LIFETIME), testbed.install(LIFETIME));
    testbed.ghl.answers(async |request: Request| {
        if request.uri().path() == "/refused" {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")]).into_response()
        } else {
            Response::default()
        }
    });
    let again = get(&format!("/ghl/refused?installation_id={refused}"));
    let waiting = begin(&testbed, with(again, "x-request-timeout", "1h"));
    arrived(&testbed, 1).await;
    let passed = testbed.send(get(&format!("/ghl/x?installation_id={other}")));
    let passed = timeout(SOON, passed).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK);
    assert!(!waiting.is_finished());
}

#[tokio::test]
async fn queue_wait_does_not_count_against_the_response_timeout() {
    let testbed = Testbed::with(&[("EVERGREEN_RESPONSE_TIMEOUT", "500ms")]).await;
    let id = testbed.install(LIFETIME);
    let first = get(&format!("/ghl/x?installation_id={id}"));
    testbed.ghl.answers(async |request: Request| {
        let whole = request.into_body().collect().await.unwrap().to_bytes();
        (exhausted_for("1000"), whole).into_response()
    });
    assert_eq!(testbed.send(first).await.status(), StatusCode::OK);
    // The body arrives when it is read.
    let body = stream::once(async {
        sleep(Duration::from_millis(50)).await;
        Ok::<_, axum::Error>("the body")
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let response = testbed.send(post(&uri, Body::from_stream(body))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "the body");
}

#[tokio::test]
async fn memory_of_waiting_calls_is_bounded() {
    let hour_long_waits = ["EVERGREEN_REFRESH_WAIT", "EVERGREEN_EXPIRED_WAIT"].map(|it| (it, "1h"));
    let testbed = Testbed::with(&hour_long_waits).await;
    let id = testbed.install(LIFETIME);
    let (old, expired) = (
        testbed.install(BELOW_FLOOR),
        testbed.install(Duration::ZERO),
    );
    testbed
        .ghl
        .answers(async |_| (exhausted_for("1000"), "").into_response());
    testbed.broker.answers(async |_| pending().await);
    let call = || get(&format!("/ghl/x?installation_id={id}"));
    assert_eq!(testbed.send(call()).await.status(), StatusCode::OK);
    let concurrency = &testbed.gateway.api.pipeline.admission.concurrency;
    let all: Vec<_> =
        std::iter::from_fn(|| concurrency.reserve_memory(1024 * 1024, None).ok()).collect();
    assert_eq!(all.len(), 254, "of 256 MiB, and 8 KiB for each");
    let small: Vec<_> = std::iter::from_fn(|| concurrency.reserve_memory(0, None).ok()).collect();
    for to_wait in [call(), get(&format!("/ghl/x?installation_id={expired}"))] {
        let refused = timeout(SOON, testbed.send(to_wait)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        let why = json(refused).await["message"].clone();
        assert_eq!(why, "The gateway is overloaded");
    }
    let old = get(&format!("/ghl/x?installation_id={old}"));
    // Less than the timeout of a hanging broker.
    let at_once = timeout(Duration::from_secs(4), testbed.send(old)).await;
    assert_eq!(at_once.unwrap().status(), StatusCode::OK, "its token works");
    drop((all, small));
    assert_eq!(testbed.send(call()).await.status(), StatusCode::OK);
}
