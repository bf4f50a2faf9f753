//! Tokens for internal services.

use std::time::Duration;

use http::StatusCode;
use store::Scope;

use super::world::{LIFETIME, World, get, json, with};

#[tokio::test]
async fn a_service_gets_a_token_by_installation_or_location() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    for name in [id.to_string(), world.store.location(&id)] {
        let uri = format!("/v1/installations/{name}/token");
        let response = world.internal(get(&uri)).await;
        assert_eq!(response.headers()["etag"], "\"1\"");
        let body = json(response).await;
        assert_eq!(body["access_token"], "token-1");
        assert_eq!(body["installation_id"], id.as_str());
        let known = with(get(&uri), "if-none-match", "\"1\"");
        assert_eq!(
            world.internal(known).await.status(),
            StatusCode::NOT_MODIFIED
        );
    }
    let unknown = get("/v1/installations/nowhere/token");
    assert_eq!(
        world.internal(unknown).await.status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_wish_for_a_longer_life_is_met_by_a_refresh() {
    let world = World::new().await;
    let id = world.install(Duration::from_secs(3600));
    world.let_broker_refresh(&id);
    let wish = |min_ttl: &str| get(&format!("/v1/installations/{id}/token?min_ttl={min_ttl}"));
    let body = json(world.internal(wish("30m")).await).await;
    assert_eq!(body["generation"], "1", "there is enough left");
    let body = json(world.internal(wish("2h")).await).await;
    assert_eq!(
        (&body["generation"], &body["access_token"]),
        (&"2".into(), &"token-2".into())
    );
    for impossible in ["25h", "10"] {
        let response = world.internal(wish(impossible)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{impossible}");
    }
    assert_eq!(world.broker.lines().len(), 1);
}

#[tokio::test]
async fn tokens_need_their_scope() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.store.put_caller("evg_proxy", &[Scope::Proxy], None);
    world.store.put_caller("evg_tokens", &[Scope::Tokens], None);
    world.heard().await;
    let uri = format!("/v1/installations/{id}/token");
    for (key, status) in [("evg_proxy", 403), ("evg_tokens", 200), ("evg_none", 401)] {
        let response = world.internal(with(get(&uri), "x-api-key", key)).await;
        assert_eq!(response.status(), status, "{key}");
    }
}
