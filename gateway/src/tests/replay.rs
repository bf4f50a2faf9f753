//! 401s: which are cured, and which are the caller's to see.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use store::Status;
use store::record::StoredAccess;

use super::world::{LIFETIME, World, get, json, post, text, with};

const STALE: &str = r#"{"statusCode":401,"message":"Invalid JWT"}"#;
const SCOPE: &str = r#"{"statusCode":401,"message":"The token is not authorized for this scope."}"#;

fn refusal(body: &'static str) -> Response {
    (StatusCode::UNAUTHORIZED, body).into_response()
}

/// GHL takes no token but the second, and echoes the body.
fn takes_the_second_token(world: &World) {
    world.ghl.answers(async |request: Request| {
        if request.headers()["authorization"] == "Bearer token-2" {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Body::from(body))
        } else {
            refusal(STALE)
        }
    });
}

#[tokio::test]
async fn an_expired_token_is_replaced_and_the_request_sent_again() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    takes_the_second_token(&world);
    world.let_broker_refresh(&id);
    let uri = format!("/ghl/contacts/?installation_id={id}");
    let sending = (0..50).map(|_| world.send(post(&uri, "the body")));
    for response in join_all(sending).await {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, "the body");
    }
    assert_eq!(world.broker.lines().len(), 1, "{:?}", world.broker.lines());
}

#[tokio::test]
async fn what_a_fresh_token_does_not_cure_passes_untouched() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.ghl.answers(async |_| refusal(SCOPE));
    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, SCOPE);
    assert_eq!(world.broker.lines(), [""; 0]);
    assert_eq!(world.ghl.lines().len(), 1);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_too_is_not_refreshed_again_and_again() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.ghl.answers(async |_| refusal(STALE));
    world.let_broker_refresh(&id);
    for _ in 0..5 {
        let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(text(response).await, STALE);
    }
    assert_eq!(world.broker.lines().len(), 1);
}

#[tokio::test]
async fn the_token_that_was_refused_is_replaced_and_not_one_before_it() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.let_broker_refresh(&id);
    let (store, refreshed) = (world.store.clone(), id.clone());
    world.ghl.answers(move |request: Request| {
        let answer = match request.headers()["authorization"].to_str().unwrap() {
            "Bearer token-1" => {
                // While the call waits for its next turn.
                let next = |record: &mut StoredAccess| record.generation = record.generation.next();
                store.put(&refreshed, next, LIFETIME);
                StatusCode::TOO_MANY_REQUESTS.into_response()
            }
            "Bearer token-2" => refusal(STALE),
            _ => Response::default(),
        };
        async { answer }
    });
    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(world.broker.lines().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_gone_is_asked_for_again() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    takes_the_second_token(&world);
    world.let_broker_refresh(&id);
    let uri = format!("/ghl/x?installation_id={id}");
    let large = vec![b'x'; 100_000];
    let response = world.send(post(&uri, large.clone())).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let response = world.send(post(&uri, large)).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn without_a_fresh_token_the_caller_is_asked_to_come_again() {
    let world = World::with(&[
        ("EVERGREEN_REFRESH_WAIT", "100ms"),
        ("EVERGREEN_EXPIRED_WAIT", "300ms"),
    ])
    .await;
    let id = world.install(LIFETIME);
    takes_the_second_token(&world);
    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(response).await["statusCode"], 503);
}

#[tokio::test]
async fn a_compressed_refusal_is_asked_for_in_plain_words() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.ghl.answers(async |request: Request| {
        if request.headers()["accept-encoding"] == "identity" {
            refusal(SCOPE)
        } else {
            let encoded = [("content-encoding", "br")];
            (StatusCode::UNAUTHORIZED, encoded, "\u{1}\u{2}").into_response()
        }
    });
    let request = get(&format!("/ghl/x?installation_id={id}"));
    let response = world.send(with(request, "accept-encoding", "br")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, SCOPE);
    assert_eq!(world.broker.lines(), [""; 0]);
}

#[tokio::test]
async fn a_static_token_has_no_successor() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world
        .store
        .put(&id, |record| record.status = Status::Static, LIFETIME);
    world.ghl.answers(async |_| refusal(STALE));
    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, STALE);
    assert_eq!(world.broker.lines(), [""; 0]);
}

#[tokio::test]
async fn a_compressed_401_to_an_upload_costs_one_refresh() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.let_broker_refresh(&id);
    world.ghl.answers(async |_| {
        let encoded = [("content-encoding", "br")];
        (StatusCode::UNAUTHORIZED, encoded, "\u{1}\u{2}").into_response()
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let large = vec![b'x'; 100_000];
    let response = world.send(post(&uri, large.clone())).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..3 {
        let response = world.send(post(&uri, large.clone())).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.broker.lines().len(), 1);
}

#[tokio::test]
async fn a_fresh_token_that_ghl_refuses_everywhere_costs_one_refresh() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.ghl.answers(async |_| refusal(STALE));
    world.let_broker_refresh(&id);
    for route in ["contacts", "opportunities", "calendars", "products"] {
        let uri = format!("/ghl/{route}/?installation_id={id}");
        let response = world.get(&uri).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.broker.lines().len(), 1);
}
