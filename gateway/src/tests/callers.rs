//! Who may call, and for which installation.

use axum::extract::Request;
use http::StatusCode;
use store::{InstallationId, Scope};

use super::world::{LIFETIME, World, get, json, with};
use crate::Exposed;

fn call(id: &InstallationId, key: &str) -> Request {
    let request = get(&format!("/ghl/x?installation_id={id}"));
    with(request, "authorization", &format!("Bearer {key}"))
}

#[tokio::test]
async fn the_first_key_closes_the_door() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    let open = get(&format!("/ghl/x?installation_id={id}"));
    assert_eq!(world.send(open).await.status(), StatusCode::OK);
    world.store.put_caller("evg_1", &[Scope::Proxy], None);
    world.heard().await;

    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let body = json(response).await;
    assert_eq!(
        (&body["statusCode"], &body["error"]),
        (&401.into(), &"Unauthorized".into())
    );
    assert!(body["hint"].as_str().unwrap().contains("keys create"));
    assert_eq!(
        world.send(call(&id, "evg_2")).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        world.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    let own_header = get(&format!("/ghl/x?installation_id={id}"));
    let own_header = with(own_header, "x-api-key", "evg_1");
    assert_eq!(world.send(own_header).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_key_opens_nothing() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.store.put_caller("evg_1", &[Scope::Proxy], None);
    world.heard().await;
    assert_eq!(
        world.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    world.store.revoke_caller("evg_1");
    world.heard().await;
    assert_eq!(
        world.send(call(&id, "evg_1")).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_key_for_one_installation_means_it_and_sees_no_other() {
    let world = World::new().await;
    let (own, other) = (world.install(LIFETIME), world.install(LIFETIME));
    let only = Some(vec![own.clone()]);
    world.store.put_caller("evg_1", &[Scope::Proxy], only);
    world.heard().await;
    let unnamed = with(get("/ghl/x"), "x-api-key", "evg_1");
    assert_eq!(world.send(unnamed).await.status(), StatusCode::OK);
    assert_eq!(
        world.send(call(&own, "evg_1")).await.status(),
        StatusCode::OK
    );

    let there_is = json(world.send(call(&other, "evg_1")).await).await;
    let there_is_not = json(world.send(call(&InstallationId::random(), "evg_1")).await).await;
    assert_eq!(there_is["statusCode"], 403);
    assert_eq!(there_is, there_is_not);

    let place = |name: &str| {
        with(
            get(&format!("/ghl/x?locationId={name}")),
            "x-api-key",
            "evg_1",
        )
    };
    let elsewhere = world.store.location(&other);
    assert_eq!(
        world.send(place(&elsewhere)).await.status(),
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_scope_is_needed() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.store.put_caller("evg_1", &[Scope::Admin], None);
    world.heard().await;
    let response = world.send(call(&id, "evg_1")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_spent_of_a_quota_stays_spent_when_the_key_is_read_again() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    for key in ["evg_1", "evg_2", "evg_3"] {
        world.store.put_caller(key, &[Scope::Proxy], None);
    }
    for key in ["evg_1", "evg_2"] {
        world.store.put_quota(key, "2/1h".parse().unwrap());
    }
    let status = async |key: &str| world.send(call(&id, key)).await.status();
    for _ in 0..2 {
        world.heard().await;
        assert_eq!(status("evg_1").await, StatusCode::OK);
        world.store.put_quota("evg_1", "2/1h".parse().unwrap());
    }
    world.heard().await;
    let refused = world.send(call(&id, "evg_1")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1800");
    assert_eq!(json(refused).await["limit"], "quota");
    assert_eq!(world.ghl.seen().len(), 2, "GHL was not asked");
    for _ in 0..2 {
        assert_eq!(status("evg_2").await, StatusCode::OK);
        assert_eq!(status("evg_3").await, StatusCode::OK);
    }
    assert_eq!(status("evg_2").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status("evg_3").await, StatusCode::OK);
}

#[tokio::test]
async fn without_the_store_known_keys_go_on_opening() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.store.put_caller("evg_1", &[Scope::Proxy], None);
    world.heard().await;
    assert_eq!(
        world.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    world.store.go_away();
    world.heard().await;
    assert_eq!(
        world.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    let unknown = world.send(call(&id, "evg_2")).await;
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn without_keys_only_this_host_may_reach_it() {
    let world = World::new().await;
    let (here, everywhere) = ("127.0.0.1:8080".parse(), "0.0.0.0:8080".parse());
    let (here, everywhere) = (here.unwrap(), everywhere.unwrap());
    assert!(world.gateway.check_exposure(here).await.is_ok());
    let refused = world.gateway.check_exposure(everywhere).await;
    assert!(matches!(refused, Err(Exposed::NoKeys(_))));
    world.store.put_caller("evg_1", &[Scope::Proxy], None);
    assert!(world.gateway.check_exposure(everywhere).await.is_ok());
    world.store.go_away();
    let unknown = world.gateway.check_exposure(everywhere).await;
    assert!(matches!(unknown, Err(Exposed::Unknown(..))));
}
