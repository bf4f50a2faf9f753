//! The shortcut routes below `/api/ghl`.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use store::UserType;

use super::testbed::{LIFETIME, Testbed, get, json, post, post_json, text};

/// Makes GHL echo the request body.
fn echo(testbed: &Testbed) {
    testbed.ghl.answers(async |request: Request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::CREATED;
        response
    });
}

#[tokio::test]
async fn products_are_listed_for_the_installations_location() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let location = testbed.store.location(&id);
    let paging = format!("/api/ghl/products?installation_id={id}&limit=5&offset=10");
    testbed.get(&paging).await;
    testbed
        .get(&format!("/api/ghl/products?locationId={location}"))
        .await;
    let expected = [
        format!("GET /products/?limit=5&offset=10&locationId={location}"),
        format!("GET /products/?locationId={location}"),
    ];
    assert_eq!(testbed.ghl.lines(), expected);
}

#[tokio::test]
async fn created_object_gets_the_installations_location() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let location = testbed.store.location(&id);
    echo(&testbed);
    for (path, ghl) in [("products", "/products/"), ("contacts", "/contacts/")] {
        let uri = format!("/api/ghl/{path}/create?installation_id={id}");
        let response = testbed.send(post_json(&uri, r#"{"name":"x" }"#)).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let expected = format!(r#"{{"locationId":"{location}","name":"x" }}"#);
        assert_eq!(text(response).await, expected);
        let seen = testbed.ghl.seen().pop().unwrap();
        assert_eq!(seen.line, format!("POST {ghl}"));
        assert_eq!(seen.header("content-type"), Some("application/json"));
    }
    let uri = format!("/api/ghl/contacts/create?installation_id={id}");
    for wrong in ["", "[]", "name=x"] {
        let response = testbed.send(post_json(&uri, wrong)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    let form = testbed.send(post(&uri, r#"{"name":"x"}"#)).await;
    assert_eq!(form.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(1024 * 1024));
    let response = testbed.send(post_json(&uri, large)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let elsewhere = testbed
        .send(post_json(&uri, r#"{"locationId":"ELSEWHERE"}"#))
        .await;
    assert_eq!(elsewhere.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn agency_must_name_a_location() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let as_agency = |record: &mut store::record::StoredAccess| {
        record.user_type = UserType::Company;
        record.location = None;
    };
    testbed.store.put(&id, as_agency, LIFETIME);
    echo(&testbed);
    let uri = format!("/api/ghl/products/create?installation_id={id}");
    let response = testbed.send(post_json(&uri, "{}")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let response = testbed
        .get(&format!("/api/ghl/products?installation_id={id}"))
        .await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let named = format!("{uri}&locationId=SOMEWHERE");
    let body = json(testbed.send(post_json(&named, "{}")).await).await;
    assert_eq!(body["locationId"], "SOMEWHERE");
}

#[tokio::test]
async fn test_product_has_a_recognizable_default_name() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    echo(&testbed);
    let uri = format!("/api/ghl/test-product?installation_id={id}");
    let body = json(testbed.send(post_json(&uri, "")).await).await;
    let name = body["name"].as_str().unwrap();
    assert!(name.starts_with("evergreen test product 20"), "{name}");
    assert_eq!(body["productType"], "DIGITAL");
    assert_eq!(body["locationId"], testbed.store.location(&id));
    let own = testbed.send(post_json(&uri, r#"{"name":"mine"}"#)).await;
    assert_eq!(json(own).await["name"], "mine");
}

#[tokio::test]
async fn connection_test_reads_the_installations_own_location() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let location = testbed.store.location(&id);
    let uri = format!("/api/ghl/test-connection?installation_id={id}");
    let response = testbed.get(&uri).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = json(response).await;
    assert_eq!((&body["ok"], &body["status"]), (&json!(true), &json!(200)));
    assert_eq!(body["installation_id"], id.as_str());
    assert_eq!(body["location_id"], location);
    assert!(body["latency_ms"].is_u64());
    assert_eq!(testbed.ghl.lines(), [format!("GET /locations/{location}")]);

    testbed.ghl.answers(async |_| {
        let message = r#"{"statusCode":403,"message":"no access"}"#;
        (StatusCode::FORBIDDEN, message).into_response()
    });
    let response = testbed.send(get(&uri)).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let body = json(response).await;
    assert_eq!((&body["ok"], &body["status"]), (&json!(false), &json!(403)));
    assert_eq!(body["message"], "no access");
}
