//! Old and expired tokens, and a store or broker that is down.

use std::time::Duration;

use axum::response::Response;
use futures_util::future::join_all;
use http::StatusCode;
use store::Status;
use store::record::StoredAccess;
use tokio::time::Instant;

use super::testbed::{LIFETIME, Testbed, json};

/// Below the floor of 5 minutes.
const BELOW_FLOOR: Duration = Duration::from_secs(60);

#[tokio::test]
async fn old_token_is_refreshed_once_for_concurrent_calls() {
    for left in [BELOW_FLOOR, Duration::ZERO] {
        let testbed = Testbed::new().await;
        let id = testbed.install(left);
        testbed.let_broker_refresh(&id);
        let uri = format!("/ghl/x?installation_id={id}");
        for response in join_all((0..50).map(|_| testbed.get(&uri))).await {
            assert_eq!(response.status(), StatusCode::OK);
        }
        let expected = format!("POST /v1/installations/{id}/refresh?generation=1");
        assert_eq!(testbed.broker.lines(), [expected]);
        for seen in testbed.ghl.seen() {
            assert_eq!(seen.header("authorization"), Some("Bearer token-2"));
        }
        let mac = testbed.broker.seen()[0]
            .header("authorization")
            .unwrap()
            .to_owned();
        assert!(mac.starts_with("Evergreen "), "{mac}");
    }
}

#[tokio::test]
async fn valid_token_is_used_when_the_broker_fails() {
    let testbed = Testbed::new().await;
    let id = testbed.install(BELOW_FLOOR);
    let uri = format!("/ghl/x?installation_id={id}");
    let asked = Instant::now();
    for _ in 0..20 {
        assert_eq!(testbed.get(&uri).await.status(), StatusCode::OK);
    }
    assert!(asked.elapsed() < Duration::from_millis(900));
    assert_eq!(
        testbed.broker.lines().len(),
        1,
        "not asked again for a while"
    );
}

#[tokio::test]
async fn hanging_broker_delays_a_valid_token_once_by_the_refresh_wait() {
    let testbed = Testbed::with(&[("EVERGREEN_REFRESH_WAIT", "300ms")]).await;
    let id = testbed.install(BELOW_FLOOR);
    testbed
        .broker
        .answers(async |_| std::future::pending().await);
    let uri = format!("/ghl/x?installation_id={id}");
    let asked = Instant::now();
    assert_eq!(testbed.get(&uri).await.status(), StatusCode::OK);
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(2));
    let asked = Instant::now();
    assert_eq!(testbed.get(&uri).await.status(), StatusCode::OK);
    assert!(asked.elapsed() < Duration::from_millis(200), "waited once");
}

#[tokio::test]
async fn an_expired_token_is_never_sent() {
    let testbed = Testbed::with(&[
        ("EVERGREEN_REFRESH_WAIT", "100ms"),
        ("EVERGREEN_EXPIRED_WAIT", "400ms"),
    ])
    .await;
    let id = testbed.install(Duration::ZERO);
    let asked = Instant::now();
    let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(asked.elapsed() >= Duration::from_millis(400));
    assert_eq!(testbed.ghl.lines(), [""; 0]);
}

#[tokio::test]
async fn refresh_is_noticed_without_its_announcement() {
    let testbed = Testbed::new().await;
    let id = testbed.install(BELOW_FLOOR);
    let uri = format!("/ghl/x?installation_id={id}");
    testbed.process_announcements().await;
    testbed.store.stop_announcing();
    testbed.let_broker_refresh(&id);
    assert_eq!(testbed.get(&uri).await.status(), StatusCode::OK);
    let sent = testbed.ghl.seen().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some("Bearer token-2"));
}

#[tokio::test]
async fn rolled_back_generation_is_used_once_the_newer_token_expired() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let uri = format!("/ghl/x?installation_id={id}");
    let put = |generation: &str, left| {
        let set = |record: &mut StoredAccess| record.generation = generation.parse().unwrap();
        testbed.store.put(&id, set, left);
    };
    let sent = async || {
        testbed.process_announcements().await;
        testbed.get(&uri).await;
        let seen = testbed.ghl.seen().pop().unwrap();
        seen.header("authorization").unwrap().to_owned()
    };
    put("3", Duration::from_millis(2500));
    assert_eq!(sent().await, "Bearer token-3");
    put("2", LIFETIME);
    testbed.store.interrupt_announcements();
    assert_eq!(sent().await, "Bearer token-3");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sent().await, "Bearer token-2");
}

#[tokio::test]
async fn refresh_by_another_broker_is_used() {
    let testbed = Testbed::new().await;
    let id = testbed.install(Duration::ZERO);
    let uri = format!("/ghl/x?installation_id={id}");
    let commit = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = |record: &mut StoredAccess| {
            record.generation = record.generation.next();
        };
        testbed.store.put(&id, next, LIFETIME);
    };
    let (response, ()) = tokio::join!(testbed.get(&uri), commit);
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        testbed.ghl.seen()[0].header("authorization"),
        Some("Bearer token-2")
    );
}

#[tokio::test]
async fn conflict_response_of_the_broker_ends_the_wait() {
    let testbed = Testbed::new().await;
    let id = testbed.install(Duration::ZERO);
    let (store, invalid) = (testbed.store.clone(), id.clone());
    testbed.broker.answers(move |_| {
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
    let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json(response).await["reconnect"], "/oauth/install");
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn paused_location_is_not_refreshed() {
    let testbed = Testbed::new().await;
    let id = testbed.install(BELOW_FLOOR);
    testbed
        .store
        .put(&id, |record| record.status = Status::Paused, BELOW_FLOOR);
    let uri = format!("/ghl/x?installation_id={id}");
    assert_eq!(testbed.get(&uri).await.status(), StatusCode::OK);
    testbed
        .store
        .put(&id, |record| record.status = Status::Paused, Duration::ZERO);
    testbed.process_announcements().await;
    let response = testbed.get(&uri).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = json(response).await;
    assert_eq!(body["message"], "The location is not active at GHL");
    assert_eq!(testbed.broker.lines(), [""; 0]);
}

#[tokio::test]
async fn cached_tokens_are_used_while_the_store_is_down() {
    let testbed = Testbed::new().await;
    let (known, unknown) = (testbed.install(LIFETIME), testbed.install(LIFETIME));
    let location = testbed.store.location(&known);
    let uris = [
        format!("/ghl/x?installation_id={known}"),
        format!("/ghl/x?locationId={location}"),
    ];
    for uri in &uris {
        assert_eq!(testbed.get(uri).await.status(), StatusCode::OK);
    }
    testbed.store.go_down();
    testbed.process_announcements().await;
    for _ in 0..20 {
        for uri in &uris {
            assert_eq!(testbed.get(uri).await.status(), StatusCode::OK);
        }
    }
    let response = testbed
        .get(&format!("/ghl/x?installation_id={unknown}"))
        .await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        json(response).await["message"],
        "The token store cannot answer"
    );
}

#[tokio::test]
async fn announced_token_is_used_immediately() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let uri = format!("/ghl/x?installation_id={id}");
    for generation in 1..20 {
        testbed.get(&uri).await;
        let sent = testbed.ghl.seen().pop().unwrap();
        let expected = format!("Bearer token-{generation}");
        assert_eq!(sent.header("authorization"), Some(expected.as_str()));
        let next = |record: &mut StoredAccess| {
            record.generation = record.generation.next();
        };
        testbed.store.put(&id, next, LIFETIME);
        testbed.process_announcements().await;
    }
}
