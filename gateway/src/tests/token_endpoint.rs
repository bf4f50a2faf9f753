//! The token endpoint for internal services.

use std::time::Duration;

use http::StatusCode;
use store::record::StoredAccess;
use store::{Scope, Status};

use super::testbed::{LIFETIME, Testbed, get, json, with};

#[tokio::test]
async fn token_is_served_by_installation_id_or_location() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    for name in [id.to_string(), testbed.store.location(&id)] {
        let uri = format!("/v1/installations/{name}/token");
        let response = testbed.internal(get(&uri)).await;
        assert_eq!(response.headers()["etag"], "\"1\"");
        let body = json(response).await;
        assert_eq!(body["access_token"], "token-1");
        assert_eq!(body["installation_id"], id.as_str());
        let known = with(get(&uri), "if-none-match", "\"1\"");
        assert_eq!(
            testbed.internal(known).await.status(),
            StatusCode::NOT_MODIFIED
        );
    }
    let unknown = get("/v1/installations/nowhere/token");
    assert_eq!(
        testbed.internal(unknown).await.status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn min_ttl_above_the_remaining_lifetime_triggers_a_refresh() {
    let testbed = Testbed::new().await;
    let id = testbed.install(Duration::from_secs(3600));
    testbed.let_broker_refresh(&id);
    let request = |min_ttl: &str| get(&format!("/v1/installations/{id}/token?min_ttl={min_ttl}"));
    let body = json(testbed.internal(request("30m")).await).await;
    assert_eq!(body["generation"], "1", "there is enough left");
    let body = json(testbed.internal(request("2h")).await).await;
    assert_eq!(
        (&body["generation"], &body["access_token"]),
        (&"2".into(), &"token-2".into())
    );
    for impossible in ["25h", "10"] {
        let response = testbed.internal(request(impossible)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{impossible}");
    }
    assert_eq!(testbed.broker.lines().len(), 1);
}

#[tokio::test]
async fn refused_token_is_refreshed_at_once_if_it_is_the_current_one() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.let_broker_refresh(&id);
    let report = async |refused: &str| {
        let uri = format!("/v1/installations/{id}/token?refused={refused}");
        json(testbed.internal(get(&uri)).await).await["generation"].clone()
    };
    for (refused, current) in [("7", "1"), ("1", "2"), ("1", "2")] {
        assert_eq!(report(refused).await, current, "{refused}");
    }
    assert_eq!(testbed.broker.lines().len(), 1);
    // The fresh token is refused, too: another one would not help.
    for _ in 0..3 {
        assert_eq!(report("2").await, "2");
    }
    assert_eq!(testbed.broker.lines().len(), 1);
    let unreadable = get(&format!("/v1/installations/{id}/token?refused=x"));
    let response = testbed.internal(unreadable).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json(response).await["code"], "refused_invalid");
}

#[tokio::test]
async fn refused_private_token_is_not_refreshed() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let private = |record: &mut StoredAccess| record.status = Status::Static;
    testbed.store.put(&id, private, LIFETIME);
    testbed.process_announcements().await;
    let uri = format!("/v1/installations/{id}/token?refused=1");
    let body = json(testbed.internal(get(&uri)).await).await;
    assert_eq!(body["generation"], "1", "{body}");
    assert_eq!(testbed.broker.lines(), [""; 0]);
}

#[tokio::test]
async fn tokens_scope_is_required() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_proxy", &[Scope::Proxy], None);
    testbed
        .store
        .put_caller("evg_tokens", &[Scope::Tokens], None);
    testbed.process_announcements().await;
    let uri = format!("/v1/installations/{id}/token");
    for (key, status) in [("evg_proxy", 403), ("evg_tokens", 200), ("evg_none", 401)] {
        let response = testbed.internal(with(get(&uri), "x-api-key", key)).await;
        assert_eq!(response.status(), status, "{key}");
    }
}
