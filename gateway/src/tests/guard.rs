//! Tokens that are old, and a store or a broker that is away.

use std::time::Duration;

use axum::response::Response;
use futures_util::future::join_all;
use http::StatusCode;
use store::Status;
use store::record::StoredAccess;
use tokio::time::Instant;

use super::world::{LIFETIME, World, json};

/// Under the floor of 5 minutes.
const LITTLE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_old_token_is_refreshed_once_before_it_is_used() {
    for left in [LITTLE, Duration::ZERO] {
        let world = World::new().await;
        let id = world.install(left);
        world.let_broker_refresh(&id);
        let uri = format!("/ghl/x?installation_id={id}");
        for response in join_all((0..50).map(|_| world.get(&uri))).await {
            assert_eq!(response.status(), StatusCode::OK);
        }
        let expected = format!("POST /v1/installations/{id}/refresh?generation=1");
        assert_eq!(world.broker.lines(), [expected]);
        for seen in world.ghl.seen() {
            assert_eq!(seen.header("authorization"), Some("Bearer token-2"));
        }
        let pass = world.broker.seen()[0]
            .header("authorization")
            .unwrap()
            .to_owned();
        assert!(pass.starts_with("Evergreen "), "{pass}");
    }
}

#[tokio::test]
async fn a_token_that_still_works_is_used_when_the_broker_fails() {
    let world = World::new().await;
    let id = world.install(LITTLE);
    let uri = format!("/ghl/x?installation_id={id}");
    let asked = Instant::now();
    for _ in 0..20 {
        assert_eq!(world.get(&uri).await.status(), StatusCode::OK);
    }
    assert!(asked.elapsed() < Duration::from_millis(900));
    assert_eq!(world.broker.lines().len(), 1, "not asked again for a while");
}

#[tokio::test]
async fn a_broker_that_hangs_costs_a_working_token_no_more_than_the_wait() {
    let world = World::with(&[("EVERGREEN_REFRESH_WAIT", "300ms")]).await;
    let id = world.install(LITTLE);
    world.broker.answers(async |_| std::future::pending().await);
    let uri = format!("/ghl/x?installation_id={id}");
    let asked = Instant::now();
    assert_eq!(world.get(&uri).await.status(), StatusCode::OK);
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(2));
    let asked = Instant::now();
    assert_eq!(world.get(&uri).await.status(), StatusCode::OK);
    assert!(asked.elapsed() < Duration::from_millis(200), "waited once");
}

#[tokio::test]
async fn an_expired_token_is_never_sent() {
    let world = World::with(&[
        ("EVERGREEN_REFRESH_WAIT", "100ms"),
        ("EVERGREEN_EXPIRED_WAIT", "400ms"),
    ])
    .await;
    let id = world.install(Duration::ZERO);
    let asked = Instant::now();
    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(asked.elapsed() >= Duration::from_millis(400));
    assert_eq!(world.ghl.lines(), [""; 0]);
}

#[tokio::test]
async fn a_refresh_whose_announcement_is_lost_is_found() {
    let world = World::new().await;
    let id = world.install(LITTLE);
    let uri = format!("/ghl/x?installation_id={id}");
    world.heard().await;
    world.store.mute();
    world.let_broker_refresh(&id);
    assert_eq!(world.get(&uri).await.status(), StatusCode::OK);
    let sent = world.ghl.seen().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some("Bearer token-2"));
}

#[tokio::test]
async fn a_store_that_rolled_back_is_followed_once_the_newer_token_is_dead() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    let uri = format!("/ghl/x?installation_id={id}");
    let put = |generation: &str, left| {
        let set = |record: &mut StoredAccess| record.generation = generation.parse().unwrap();
        world.store.put(&id, set, left);
    };
    let sent = async || {
        world.heard().await;
        world.get(&uri).await;
        let seen = world.ghl.seen().pop().unwrap();
        seen.header("authorization").unwrap().to_owned()
    };
    put("3", Duration::from_millis(2500));
    assert_eq!(sent().await, "Bearer token-3");
    put("2", LIFETIME);
    world.store.interrupt();
    assert_eq!(sent().await, "Bearer token-3");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sent().await, "Bearer token-2");
}

#[tokio::test]
async fn another_brokers_refresh_is_as_good() {
    let world = World::new().await;
    let id = world.install(Duration::ZERO);
    let uri = format!("/ghl/x?installation_id={id}");
    let commit = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = |record: &mut StoredAccess| {
            record.generation = record.generation.next();
        };
        world.store.put(&id, next, LIFETIME);
    };
    let (response, ()) = tokio::join!(world.get(&uri), commit);
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        world.ghl.seen()[0].header("authorization"),
        Some("Bearer token-2")
    );
}

#[tokio::test]
async fn a_broker_that_knows_better_is_believed_at_once() {
    let world = World::new().await;
    let id = world.install(Duration::ZERO);
    let (store, invalid) = (world.store.clone(), id.clone());
    world.broker.answers(move |_| {
        store.put(
            &invalid,
            |record| record.status = Status::Invalid,
            Duration::ZERO,
        );
        let mut refusal = Response::default();
        *refusal.status_mut() = StatusCode::CONFLICT;
        std::future::ready(refusal)
    });
    let asked = Instant::now();
    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json(response).await["reconnect"], "/oauth/install");
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_paused_location_is_left_alone() {
    let world = World::new().await;
    let id = world.install(LITTLE);
    world
        .store
        .put(&id, |record| record.status = Status::Paused, LITTLE);
    let uri = format!("/ghl/x?installation_id={id}");
    assert_eq!(world.get(&uri).await.status(), StatusCode::OK);
    world
        .store
        .put(&id, |record| record.status = Status::Paused, Duration::ZERO);
    world.heard().await;
    let response = world.get(&uri).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = json(response).await;
    assert_eq!(body["message"], "The location is not active at GHL");
    assert_eq!(world.broker.lines(), [""; 0]);
}

#[tokio::test]
async fn without_the_store_known_tokens_go_on_working() {
    let world = World::new().await;
    let (known, unknown) = (world.install(LIFETIME), world.install(LIFETIME));
    let location = world.store.location(&known);
    let uris = [
        format!("/ghl/x?installation_id={known}"),
        format!("/ghl/x?locationId={location}"),
    ];
    for uri in &uris {
        assert_eq!(world.get(uri).await.status(), StatusCode::OK);
    }
    world.store.go_away();
    world.heard().await;
    for _ in 0..20 {
        for uri in &uris {
            assert_eq!(world.get(uri).await.status(), StatusCode::OK);
        }
    }
    let response = world
        .get(&format!("/ghl/x?installation_id={unknown}"))
        .await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        json(response).await["message"],
        "The token store cannot answer"
    );
}

#[tokio::test]
async fn a_new_token_is_used_as_soon_as_it_is_announced() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    let uri = format!("/ghl/x?installation_id={id}");
    for generation in 1..20 {
        world.get(&uri).await;
        let sent = world.ghl.seen().pop().unwrap();
        let expected = format!("Bearer token-{generation}");
        assert_eq!(sent.header("authorization"), Some(expected.as_str()));
        let next = |record: &mut StoredAccess| {
            record.generation = record.generation.next();
        };
        world.store.put(&id, next, LIFETIME);
        world.heard().await;
    }
}
