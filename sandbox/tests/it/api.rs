//! The API: authentication, and errors.

use reqwest::Method;
use ring::digest;
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer, send};

fn invalid_jwt() -> Value {
    json!({"statusCode": 401, "message": "Invalid JWT", "error": "Unauthorized"})
}

#[tokio::test]
async fn invalid_tokens_get_one_response_and_separate_counts() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let call = |token: &str| sandbox.call(Method::GET, "/locations/loc1", token);
    assert_eq!(answer(call(&access)).await.0, 200);
    sandbox
        .control("expire", json!({"locationId": "loc1"}))
        .await;
    for request in [
        call(&access),
        call("never-ours"),
        sandbox.get("/locations/loc1").header("Version", "v3"),
    ] {
        let (status, body) = answer(request).await;
        assert_eq!((status.as_u16(), body), (401, invalid_jwt()));
    }
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["calls_ok"], 1);
    assert_eq!(ledger["calls_with_expired_token"], 1);
    assert_eq!(ledger["calls_with_unknown_token"], 2);
}

#[tokio::test]
async fn tokens_expire() {
    let sandbox = Sandbox::start().await;
    sandbox.set(json!({"token_lifetime_ms": 0})).await;
    let access = sandbox.install("loc1").await.access;
    let call = sandbox.call(Method::GET, "/locations/loc1", &access);
    assert_eq!(answer(call).await.0, 401);
    assert_eq!(sandbox.ledger().await["calls_with_expired_token"], 1);
}

#[tokio::test]
async fn version_header_is_required() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let request = || sandbox.get("/locations/loc1").bearer_auth(&access);
    for (request, message) in [
        (request(), "version header was not found."),
        (
            request().header("Version", "1999-01-01"),
            "version header is invalid",
        ),
    ] {
        let (status, body) = answer(request).await;
        assert_eq!(status, 401);
        assert_eq!(body["message"], message);
    }
}

#[tokio::test]
async fn token_is_valid_only_for_its_location() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let product = json!({"name": "x", "locationId": "loc2", "productType": "DIGITAL"});
    for request in [
        sandbox.call(Method::GET, "/locations/loc2", &access),
        sandbox.call(Method::GET, "/products/?locationId=loc2", &access),
        sandbox.call(Method::GET, "/contacts/?locationId=loc2", &access),
        sandbox
            .call(Method::POST, "/products/", &access)
            .json(&product),
    ] {
        let (status, body) = answer(request).await;
        assert_eq!(status, 403);
        assert_eq!(
            body,
            json!({
                "statusCode": 403,
                "message": "The token does not have access to this location.",
                "error": "Forbidden",
            })
        );
    }
    assert_eq!(sandbox.ledger().await["api_calls"]["forbidden"], 4);
}

#[tokio::test]
async fn products_can_be_created_listed_shown_and_deleted() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let call = |method, path: &str| sandbox.call(method, path, &access);
    for name in ["Gloves", "Hats", "Scarves"] {
        let product = json!({"name": name, "locationId": "loc1", "productType": "PHYSICAL"});
        // With and without the slash it is the same.
        let (status, body) = answer(call(Method::POST, "/products").json(&product)).await;
        assert_eq!(status, 201, "{body}");
    }
    let path = "/products/?locationId=loc1&limit=1&offset=1";
    let (status, body) = answer(call(Method::GET, path)).await;
    assert_eq!(status, 200);
    assert_eq!(body["total"], json!([{"total": 3}]));
    assert_eq!(body["products"].as_array().unwrap().len(), 1);
    assert_eq!(body["products"][0]["name"], "Hats");
    let empty = "/products?locationId=loc1&limit=&offset=";
    let (_, body) = answer(call(Method::GET, empty)).await;
    assert_eq!(body["products"].as_array().unwrap().len(), 3);

    let id = body["products"][0]["_id"].as_str().unwrap().to_owned();
    let path = format!("/products/{id}?locationId=loc1");
    assert_eq!(answer(call(Method::GET, &path)).await.1["name"], "Scarves");
    let (status, body) = answer(call(Method::DELETE, &path)).await;
    assert_eq!((status.as_u16(), body), (200, json!({"status": true})));
    let (status, body) = answer(call(Method::GET, &path)).await;
    assert_eq!(status, 404);
    assert_eq!(body["statusCode"], 404);
    assert_eq!(body["error"], "Not Found");
}

#[tokio::test]
async fn invalid_product_gets_every_error() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let call = sandbox
        .call(Method::POST, "/products/", &access)
        .json(&json!({"locationId": "loc1", "productType": "SOUP"}));
    let (status, body) = answer(call).await;
    assert_eq!(status, 422);
    assert_eq!(
        body["message"],
        json!([
            "name must be a string",
            "name should not be empty",
            "productType must be one of the following values: \
             DIGITAL, PHYSICAL, SERVICE, PHYSICAL/DIGITAL",
        ])
    );
    let call = sandbox
        .call(Method::POST, "/products/", &access)
        .header("Content-Type", "application/json")
        .body("{");
    assert_eq!(answer(call).await.0, 400);
}

#[tokio::test]
async fn duplicate_contacts_are_refused() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let call = |method, path: &str| sandbox.call(method, path, &access);
    let contact = json!({"locationId": "loc1", "firstName": "Ada", "email": "ada@example.com"});
    let (status, body) = answer(call(Method::POST, "/contacts/").json(&contact)).await;
    assert_eq!(status, 201);
    let id = body["contact"]["id"].as_str().unwrap().to_owned();

    let doubled = json!({"locationId": "loc1", "email": "ADA@example.com"});
    let (status, body) = answer(call(Method::POST, "/contacts/").json(&doubled)).await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({
            "statusCode": 400,
            "message": "This location does not allow duplicated contacts.",
            "meta": {"contactId": id, "matchingField": "email"},
        })
    );

    let change = json!({"locationId": "loc1", "email": "ada@example.com", "lastName": "L"});
    let (status, body) = answer(call(Method::POST, "/contacts/upsert").json(&change)).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&body["new"], &body["contact"]["id"]),
        (&json!(false), &json!(id))
    );
    assert!(body["traceId"].is_string());
    let fresh = json!({"locationId": "loc1", "phone": "+1555"});
    let (_, body) = answer(call(Method::POST, "/contacts/upsert/").json(&fresh)).await;
    assert_eq!(body["new"], true);

    let (_, body) = answer(call(Method::GET, &format!("/contacts/{id}"))).await;
    assert_eq!(body["contact"]["lastName"], "L");
    let path = "/contacts/?locationId=loc1&query=ada";
    let (_, body) = answer(call(Method::GET, path)).await;
    assert_eq!(
        (&body["count"], &body["contacts"][0]["id"]),
        (&json!(1), &json!(id))
    );
    let path = "/contacts/?locationId=loc1&limit=1";
    let (_, first) = answer(call(Method::GET, path)).await;
    let last = first["contacts"][0]["id"].as_str().unwrap();
    let (_, next) = answer(call(Method::GET, &format!("{path}&startAfterId={last}"))).await;
    assert_eq!(next["contacts"][0]["id"], json!(id));
}

#[tokio::test]
async fn agency_sees_its_company_and_searches_locations() {
    let sandbox = Sandbox::start().await;
    let company = "sandboxNorthwindHQ01";
    let agency = sandbox.install_agency(company).await.access;
    let (status, body) =
        answer(sandbox.call(Method::GET, &format!("/companies/{company}"), &agency)).await;
    assert_eq!(
        (status.as_u16(), &body["company"]["id"]),
        (200, &json!(company))
    );
    let path = "/locations/search?limit=2&order=desc";
    let (_, body) = answer(sandbox.call(Method::GET, path, &agency)).await;
    assert_eq!(body["locations"].as_array().unwrap().len(), 2);
    assert_eq!(body["locations"][0]["id"], "sandboxOakEmberCafe3");

    let own = sandbox.install("sandboxMapleYoga0002").await.access;
    let (_, body) = answer(sandbox.call(Method::GET, "/locations/search", &own)).await;
    assert_eq!(body["locations"].as_array().unwrap().len(), 1);
    let foreign = sandbox.call(Method::GET, &format!("/companies/{company}"), &own);
    let (status, body) = answer(foreign).await;
    assert_eq!(status, 401);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .starts_with("This authClass type"),
        "{body}"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_get_ghls_error() {
    let sandbox = Sandbox::start().await;
    for (method, path) in [
        (Method::GET, "/no/such/path"),
        (Method::PATCH, "/oauth/token"),
    ] {
        let (status, body) = answer(sandbox.request(method.clone(), path)).await;
        assert_eq!(status, 404);
        assert_eq!(body["message"], format!("Cannot {method} {path}"));
    }
}

#[tokio::test]
async fn echo_returns_the_request() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let body = vec![7_u8; 300_000];
    let path = "/_sandbox/echo/a%20b/c?x=1&y=%26";
    let call = sandbox
        .call(Method::PATCH, path, &access)
        .header("X-Twice", "one")
        .header("X-Twice", "two")
        .body(body.clone());
    let (status, echo) = answer(call).await;
    assert_eq!(status, 200);
    assert_eq!(echo["method"], "PATCH");
    assert_eq!(echo["path"], "/_sandbox/echo/a%20b/c");
    assert_eq!(echo["query"], "x=1&y=%26");
    assert_eq!(echo["body_bytes"], 300_000);
    assert_eq!(echo["headers"]["x-twice"], "one, two");
    assert_eq!(echo["headers"]["authorization"], "Bearer …");
    assert_eq!(echo["authClassId"], "loc1");
    let digest = digest::digest(&digest::SHA256, &body);
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(echo["body_sha256"], hex);

    let head = sandbox.call(Method::HEAD, "/_sandbox/echo/x", &access);
    assert_eq!(send(head).await.status(), 200);
    assert_eq!(answer(sandbox.get("/_sandbox/echo/x")).await.0, 401);
}
