//! 401 responses of GHL: which are retried with a fresh token, and which are delivered.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use store::Status;
use store::record::StoredAccess;

use super::testbed::{LIFETIME, Testbed, get, json, post, text, with};

const STALE: &str = r#"{"statusCode":401,"message":"Invalid JWT"}"#;
const SCOPE: &str = r#"{"statusCode":401,"message":"The token is not authorized for this scope."}"#;

fn refusal(body: &'static str) -> Response {
    (StatusCode::UNAUTHORIZED, body).into_response()
}

/// Makes GHL accept only the second token, and echo the body.
fn accept_only_second_token(testbed: &Testbed) {
    testbed.ghl.answers(async |request: Request| {
        if request.headers()["authorization"] == "Bearer token-2" {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Body::from(body))
        } else {
            refusal(STALE)
        }
    });
}

#[tokio::test]
async fn expired_token_is_refreshed_and_the_request_retried() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    accept_only_second_token(&testbed);
    testbed.let_broker_refresh(&id);
    let uri = format!("/ghl/contacts/?installation_id={id}");
    let sending = (0..50).map(|_| testbed.send(post(&uri, "the body")));
    for response in join_all(sending).await {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, "the body");
    }
    assert_eq!(
        testbed.broker.lines().len(),
        1,
        "{:?}",
        testbed.broker.lines()
    );
}

#[tokio::test]
async fn scope_401_passes_through_without_a_refresh() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.ghl.answers(async |_| refusal(SCOPE));
    let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, SCOPE);
    assert_eq!(testbed.broker.lines(), [""; 0]);
    assert_eq!(testbed.ghl.lines().len(), 1);
}

#[tokio::test]
async fn persistent_401_is_refreshed_only_once() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.ghl.answers(async |_| refusal(STALE));
    testbed.let_broker_refresh(&id);
    for _ in 0..5 {
        let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(text(response).await, STALE);
    }
    assert_eq!(testbed.broker.lines().len(), 1);
}

#[tokio::test]
async fn refresh_replaces_the_token_that_got_the_401() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.let_broker_refresh(&id);
    let (store, refreshed) = (testbed.store.clone(), id.clone());
    testbed.ghl.answers(move |request: Request| {
        let answer = match request.headers()["authorization"].to_str().unwrap() {
            "Bearer token-1" => {
                // While the call is queued again.
                let next = |record: &mut StoredAccess| record.generation = record.generation.next();
                store.put(&refreshed, next, LIFETIME);
                StatusCode::TOO_MANY_REQUESTS.into_response()
            }
            "Bearer token-2" => refusal(STALE),
            _ => Response::default(),
        };
        async { answer }
    });
    let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(testbed.broker.lines().len(), 1);
}

#[tokio::test]
async fn request_without_held_body_gets_503_after_the_refresh() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    accept_only_second_token(&testbed);
    testbed.let_broker_refresh(&id);
    let uri = format!("/ghl/x?installation_id={id}");
    let large = vec![b'x'; 100_000];
    let response = testbed.send(post(&uri, large.clone())).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let response = testbed.send(post(&uri, large)).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn failed_refresh_after_401_gets_503() {
    let testbed = Testbed::with(&[
        ("EVERGREEN_REFRESH_WAIT", "100ms"),
        ("EVERGREEN_EXPIRED_WAIT", "300ms"),
    ])
    .await;
    let id = testbed.install(LIFETIME);
    accept_only_second_token(&testbed);
    let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(response).await["statusCode"], 503);
}

#[tokio::test]
async fn compressed_401_is_retried_uncompressed() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.ghl.answers(async |request: Request| {
        if request.headers()["accept-encoding"] == "identity" {
            refusal(SCOPE)
        } else {
            let encoded = [("content-encoding", "br")];
            (StatusCode::UNAUTHORIZED, encoded, "\u{1}\u{2}").into_response()
        }
    });
    let request = get(&format!("/ghl/x?installation_id={id}"));
    let response = testbed.send(with(request, "accept-encoding", "br")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, SCOPE);
    assert_eq!(testbed.broker.lines(), [""; 0]);
}

#[tokio::test]
async fn static_token_is_not_refreshed_after_401() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed
        .store
        .put(&id, |record| record.status = Status::Static, LIFETIME);
    testbed.ghl.answers(async |_| refusal(STALE));
    let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, STALE);
    assert_eq!(testbed.broker.lines(), [""; 0]);
}

#[tokio::test]
async fn compressed_401_to_an_upload_causes_one_refresh() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.let_broker_refresh(&id);
    testbed.ghl.answers(async |_| {
        let encoded = [("content-encoding", "br")];
        (StatusCode::UNAUTHORIZED, encoded, "\u{1}\u{2}").into_response()
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let large = vec![b'x'; 100_000];
    let response = testbed.send(post(&uri, large.clone())).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..3 {
        let response = testbed.send(post(&uri, large.clone())).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(testbed.broker.lines().len(), 1);
}

#[tokio::test]
async fn token_refused_on_every_route_causes_one_refresh() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.ghl.answers(async |_| refusal(STALE));
    testbed.let_broker_refresh(&id);
    for route in ["contacts", "opportunities", "calendars", "products"] {
        let uri = format!("/ghl/{route}/?installation_id={id}");
        let response = testbed.get(&uri).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(testbed.broker.lines().len(), 1);
}
