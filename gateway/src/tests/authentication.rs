//! API keys, scopes, quotas and restricted keys.

use std::time::{Duration, Instant};

use axum::extract::Request;
use http::StatusCode;
use store::{InstallationId, Scope};

use super::testbed::{LIFETIME, Testbed, get, json, with};

fn call(id: &InstallationId, key: &str) -> Request {
    let request = get(&format!("/ghl/x?installation_id={id}"));
    with(request, "authorization", &format!("Bearer {key}"))
}

#[tokio::test]
async fn api_key_is_accepted_in_both_headers_and_a_wrong_one_is_refused() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed.process_announcements().await;

    // A wrong key is refused even where none is needed.
    let response = testbed.send(call(&id, "evg_2")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let body = json(response).await;
    assert_eq!(
        (&body["statusCode"], &body["error"]),
        (&401.into(), &"Unauthorized".into())
    );
    assert!(body["hint"].as_str().unwrap().contains("keys create"));
    assert_eq!(
        testbed.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    let own_header = get(&format!("/ghl/x?installation_id={id}"));
    let own_header = with(own_header, "x-api-key", "evg_1");
    assert_eq!(testbed.send(own_header).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn request_without_a_key_must_come_directly_from_this_machine() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let open = || get(&format!("/ghl/x?installation_id={id}"));
    assert_eq!(testbed.send(open()).await.status(), StatusCode::OK);
    for (name, value) in [
        ("host", "tokens.example.com"),
        ("x-forwarded-for", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
        ("via", "1.1 proxy"),
        ("origin", "http://127.0.0.1:8080"),
    ] {
        let status = testbed.send(with(open(), name, value)).await.status();
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{name}: {value}");
    }
}

#[tokio::test]
async fn key_makes_only_the_calls_that_it_is_allowed_to() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed
        .store
        .allow_calls("evg_1", &["GET /contacts/*", "POST /products"]);
    testbed.process_announcements().await;
    let send = async |method: &str, path: &str| {
        let mut request = get(&format!("{path}?installation_id={id}"));
        *request.method_mut() = method.parse().unwrap();
        let request = with(request, "authorization", "Bearer evg_1");
        let request = with(request, "content-type", "application/json");
        testbed.send(request).await
    };
    for (method, path) in [
        ("GET", "/ghl/contacts/1"),
        ("HEAD", "/ghl/contacts/"),
        ("POST", "/ghl/products/"),
        ("POST", "/api/ghl/test-product"),
        ("GET", "/api/ghl/test-connection"),
    ] {
        let status = send(method, path).await.status();
        assert_ne!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    for (method, path) in [
        ("POST", "/ghl/contacts/"),
        ("GET", "/ghl/products/"),
        ("GET", "/ghl/users/"),
        ("GET", "/ghl/contacts/%252e%252e/users/"),
        ("GET", "/api/ghl/products"),
        ("POST", "/api/ghl/contacts/create"),
        ("POST", "/api/ghl/medias/upload-file"),
    ] {
        let response = send(method, path).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(json(response).await["code"], "call_not_allowed", "{path}");
    }
}

#[tokio::test]
async fn ghls_paths_that_give_tokens_need_the_scope_for_tokens() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed.store.put_caller("evg_2", &[Scope::Tokens], None);
    testbed.process_announcements().await;
    let ask = async |key: &str| {
        let request = get(&format!("/ghl/oauth/locationToken?installation_id={id}"));
        let request = with(request, "x-api-key", key);
        testbed.send(request).await.status()
    };
    assert_eq!(ask("evg_1").await, StatusCode::FORBIDDEN);
    assert_eq!(ask("evg_2").await, StatusCode::OK);
}

#[tokio::test]
async fn requests_of_foreign_pages_are_refused() {
    let testbed = Testbed::new().await;
    for (path, name, value) in [
        ("/oauth/install", "origin", "http://evil.example"),
        ("/oauth/install", "sec-fetch-site", "cross-site"),
        ("/api/oauth/status", "origin", "http://evil.example"),
    ] {
        let status = testbed.send(with(get(path), name, value)).await.status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{path} {name}: {value}");
    }
    let token = get("/v1/installations/locA/token");
    let token = with(token, "origin", "http://evil.example");
    assert_eq!(
        testbed.internal(token).await.status(),
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn revoked_key_is_rejected() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed.process_announcements().await;
    assert_eq!(
        testbed.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    testbed.store.revoke_caller("evg_1");
    testbed.process_announcements().await;
    assert_eq!(
        testbed.send(call(&id, "evg_1")).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn restricted_key_selects_its_installation_and_hides_others() {
    let testbed = Testbed::new().await;
    let (own, other) = (testbed.install(LIFETIME), testbed.install(LIFETIME));
    let only = Some(vec![own.clone()]);
    testbed.store.put_caller("evg_1", &[Scope::Proxy], only);
    testbed.process_announcements().await;
    let unnamed = with(get("/ghl/x"), "x-api-key", "evg_1");
    assert_eq!(testbed.send(unnamed).await.status(), StatusCode::OK);
    assert_eq!(
        testbed.send(call(&own, "evg_1")).await.status(),
        StatusCode::OK
    );

    let existing = json(testbed.send(call(&other, "evg_1")).await).await;
    let missing = json(testbed.send(call(&InstallationId::random(), "evg_1")).await).await;
    assert_eq!(existing["statusCode"], 403);
    assert_eq!(existing, missing);

    let by_location = |name: &str| {
        with(
            get(&format!("/ghl/x?locationId={name}")),
            "x-api-key",
            "evg_1",
        )
    };
    let elsewhere = testbed.store.location(&other);
    assert_eq!(
        testbed.send(by_location(&elsewhere)).await.status(),
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn proxy_scope_is_required() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_1", &[Scope::Tokens], None);
    testbed.process_announcements().await;
    let response = testbed.send(call(&id, "evg_1")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn spent_quota_survives_rereading_the_key() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    for key in ["evg_1", "evg_2", "evg_3"] {
        testbed.store.put_caller(key, &[Scope::Proxy], None);
    }
    for key in ["evg_1", "evg_2"] {
        testbed.store.put_quota(key, "2/1h".parse().unwrap());
    }
    let status = async |key: &str| testbed.send(call(&id, key)).await.status();
    for _ in 0..2 {
        testbed.process_announcements().await;
        assert_eq!(status("evg_1").await, StatusCode::OK);
        testbed.store.put_quota("evg_1", "2/1h".parse().unwrap());
    }
    testbed.process_announcements().await;
    let refused = testbed.send(call(&id, "evg_1")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1800");
    assert_eq!(json(refused).await["limit"], "quota");
    assert_eq!(testbed.ghl.seen().len(), 2, "GHL was not asked");
    for _ in 0..2 {
        assert_eq!(status("evg_2").await, StatusCode::OK);
        assert_eq!(status("evg_3").await, StatusCode::OK);
    }
    assert_eq!(status("evg_2").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(status("evg_3").await, StatusCode::OK);
}

#[tokio::test]
async fn cached_keys_are_accepted_while_the_store_is_down() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed.process_announcements().await;
    assert_eq!(
        testbed.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    testbed.store.go_down();
    testbed.process_announcements().await;
    assert_eq!(
        testbed.send(call(&id, "evg_1")).await.status(),
        StatusCode::OK
    );
    let unknown = testbed.send(call(&id, "evg_2")).await;
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn key_that_cannot_be_read_again_ends() {
    let testbed = Testbed::with(&[("EVERGREEN_KEY_STALENESS", "1500ms")]).await;
    let id = testbed.install(LIFETIME);
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed.process_announcements().await;
    let status = async || testbed.send(call(&id, "evg_1")).await.status();
    assert_eq!(status().await, StatusCode::OK);
    testbed.store.go_down();
    testbed.process_announcements().await;
    assert_eq!(status().await, StatusCode::OK);
    let patience = Instant::now() + Duration::from_secs(20);
    while status().await != StatusCode::SERVICE_UNAVAILABLE {
        assert!(Instant::now() < patience, "it is still accepted");
        tokio::task::yield_now().await;
    }
}
