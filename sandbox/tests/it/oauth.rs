//! The token endpoint, and the endpoints for agencies.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use sandbox::Config;
use serde_json::{Value, json};

use crate::harness::{REDIRECT, SCOPE, Sandbox, answer, tokens};

fn invalid_grant() -> Value {
    json!({"statusCode": 400, "message": "Invalid grant: refresh token is invalid"})
}

#[tokio::test]
async fn location_gets_tokens_with_ghls_fields() {
    let sandbox = Sandbox::start().await;
    let code = sandbox.code(&[("locationId", "loc1")]).await;
    let body = sandbox.exchange(&code).await;
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 86_399);
    assert_eq!(body["scope"], SCOPE);
    assert_eq!(body["userType"], "Location");
    assert_eq!(body["locationId"], "loc1");
    assert_eq!(body["companyId"], "sandboxNorthwindHQ01");
    assert_eq!(body["refreshTokenId"].as_str().unwrap().len(), 24);
    assert!(body["userId"].is_string());
}

#[tokio::test]
async fn company_token_has_no_location() {
    let sandbox = Sandbox::start().await;
    let code = sandbox.code(&[("companyId", "comp1")]).await;
    let body = sandbox.exchange(&code).await;
    assert_eq!(body["userType"], "Company");
    assert_eq!(body["companyId"], "comp1");
    assert_eq!(body["isBulkInstallation"], true);
    assert!(body.get("locationId").is_none());
    let refresh = body["refresh_token"].as_str().unwrap();
    let (status, body) = sandbox.refresh(refresh).await;
    assert_eq!(
        (status.as_u16(), &body["userType"]),
        (200, &json!("Company"))
    );
}

#[tokio::test]
async fn access_tokens_are_jwts_of_the_configured_size() {
    for bytes in [1024, 10_000] {
        let sandbox = Sandbox::with(Config {
            token_bytes: bytes,
            ..Config::default()
        })
        .await;
        let access = sandbox.install("loc1").await.access;
        assert!(access.len().abs_diff(bytes) < 32, "{}", access.len());
        let payload = access.split('.').nth(1).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(payload["authClass"], "Location");
        assert_eq!(payload["authClassId"], "loc1");
        let lifetime = payload["exp"].as_u64().unwrap() - payload["iat"].as_u64().unwrap();
        assert_eq!(lifetime, 86_399);
        let call = sandbox.call(Method::GET, "/locations/loc1", &access);
        assert_eq!(answer(call).await.0, 200);
    }
}

#[tokio::test]
async fn code_is_valid_once_and_for_its_redirect_uri() {
    let sandbox = Sandbox::start().await;
    let code = sandbox.code(&[("locationId", "loc1")]).await;
    let (status, body) = answer(sandbox.token(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", "http://elsewhere/"),
    ]))
    .await;
    assert_eq!(status, 400);
    assert_eq!(body["message"], "Invalid parameter: redirectUri");
    sandbox.exchange(&code).await;
    let (status, body) =
        answer(sandbox.token(&[("grant_type", "authorization_code"), ("code", &code)])).await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({"statusCode": 400, "message": "Invalid grant: authorization code is invalid"})
    );
}

#[tokio::test]
async fn replay_in_the_grace_period_returns_the_same_refresh_token() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    let one = tokens(sandbox.refresh(&first.refresh).await.1);
    let two = tokens(sandbox.refresh(&first.refresh).await.1);
    assert_eq!(one.refresh, two.refresh);
    assert_ne!(one.access, two.access);
    sandbox.set(json!({"replay_same_access_token": true})).await;
    let three = tokens(sandbox.refresh(&first.refresh).await.1);
    assert_eq!(three.access, one.access);
    assert_eq!(three.refresh, one.refresh);
}

#[tokio::test]
async fn without_a_grace_period_a_refresh_token_is_valid_once() {
    let sandbox = Sandbox::start().await;
    sandbox.set(json!({"replay_grace_ms": 0})).await;
    let first = sandbox.install("loc1").await;
    let second = tokens(sandbox.refresh(&first.refresh).await.1);
    let (status, body) = sandbox.refresh(&first.refresh).await;
    assert_eq!((status.as_u16(), body), (400, invalid_grant()));
    assert_eq!(sandbox.refresh(&second.refresh).await.0, 200);
}

#[tokio::test]
async fn errors_are_as_documented() {
    let sandbox = Sandbox::start().await;
    let refresh = sandbox.install("loc1").await.refresh;
    let post = |fields: &[(&str, &str)]| sandbox.post("/oauth/token").form(fields);
    let shape_2 = |text| json!({"error": "UnAuthorized!", "error_description": text});
    let shape_1 = |text| json!({"statusCode": 400, "message": text});
    let shape_422 =
        |text| json!({"statusCode": 422, "message": [text], "error": "Unprocessable Entity"});
    let pair = [("client_id", "sandbox-client"), ("client_secret", "wrong")];
    let grant = [("grant_type", "refresh_token"), ("refresh_token", &refresh)];
    for (request, status, expected) in [
        (
            post(&[pair, grant].concat()),
            401,
            shape_2("Invalid client credentials!"),
        ),
        (post(&grant), 400, shape_1("Missing parameter: clientId")),
        (
            sandbox.refresh_request("never-ours"),
            401,
            shape_2("Invalid refresh token"),
        ),
        (
            sandbox.token(&[("grant_type", "refresh_token")]),
            400,
            shape_1("Missing parameter: refreshToken"),
        ),
        (
            sandbox.token(&[("grant_type", "password")]),
            422,
            shape_422("grant_type must be a valid enum value"),
        ),
        (
            sandbox
                .token(&[("grant_type", "password")])
                .header("Version", "v3"),
            400,
            shape_1("Invalid parameter: grantType"),
        ),
        (
            sandbox.token(&[grant[0], grant[1], ("user_type", "Planet")]),
            422,
            shape_422("user_type must be a valid enum value"),
        ),
        (
            sandbox.token(&[grant[0], grant[1], ("user_type", "Company")]),
            400,
            shape_1("Invalid parameter: userType"),
        ),
    ] {
        let (got, body) = answer(request).await;
        assert_eq!((got.as_u16(), body), (status, expected));
    }
    assert_eq!(
        sandbox.refresh(&refresh).await.0,
        200,
        "nothing of this consumed it"
    );
}

#[tokio::test]
async fn json_and_version_3_are_accepted() {
    let sandbox = Sandbox::start().await;
    let code = sandbox.code(&[("locationId", "loc1")]).await;
    let (status, body) = answer(sandbox.post("/oauth/token").header("Version", "v3").json(
        &json!({
            "clientId": "sandbox-client",
            "clientSecret": "sandbox-secret",
            "grantType": "authorization_code",
            "code": code,
            "redirectUri": REDIRECT,
            "userType": "Location",
        }),
    ))
    .await;
    assert_eq!(status, 200, "{body}");
    assert!(body["accessToken"].is_string() && body["refreshToken"].is_string());
    assert_eq!(body["expiresIn"], 86_399);
    assert!(body.get("access_token").is_none());
}

#[tokio::test]
async fn paused_location_refuses_and_consumes_nothing() {
    let sandbox = Sandbox::start().await;
    sandbox.set(json!({"replay_grace_ms": 0})).await;
    let first = sandbox.install("loc1").await;
    sandbox
        .control("pause", json!({"locationId": "loc1"}))
        .await;
    let (status, body) = sandbox.refresh(&first.refresh).await;
    assert_eq!(status, 400);
    assert_eq!(body["message"], "Location is not active");
    sandbox
        .control("resume", json!({"locationId": "loc1"}))
        .await;
    assert_eq!(sandbox.refresh(&first.refresh).await.0, 200);
}

#[tokio::test]
async fn revoked_grant_stays_refused_until_a_new_consent() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    sandbox
        .control("revoke", json!({"locationId": "loc1"}))
        .await;
    let (status, body) = sandbox.refresh(&first.refresh).await;
    assert_eq!((status.as_u16(), body), (400, invalid_grant()));
    let call = sandbox.call(Method::GET, "/locations/loc1", &first.access);
    let (status, body) = answer(call).await;
    assert_eq!(
        (status.as_u16(), &body["message"]),
        (401, &json!("Invalid JWT"))
    );
    let again = sandbox.install("loc1").await;
    assert_eq!(sandbox.refresh(&again.refresh).await.0, 200);
    let nobody = sandbox
        .post("/_sandbox/revoke")
        .json(&json!({"locationId": "nobody"}));
    assert_eq!(answer(nobody).await.0, 404);
}

#[tokio::test]
async fn tokens_survive_a_restart() {
    let sandbox = Sandbox::start().await;
    let first = sandbox.install("loc1").await;
    sandbox.stop().await;
    let sandbox = Sandbox::start().await;
    let call = sandbox.call(Method::GET, "/locations/loc1", &first.access);
    assert_eq!(answer(call).await.0, 200);
    let second = tokens(sandbox.refresh(&first.refresh).await.1);
    assert_eq!(sandbox.refresh(&second.refresh).await.0, 200);
}
