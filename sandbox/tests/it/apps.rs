//! Several apps, and several client credentials of one app.

use reqwest::RequestBuilder;
use sandbox::{ClientCredentials, Config};
use serde_json::{Value, json};

use crate::harness::{REDIRECT, Sandbox, answer, consent_query, parameter, tokens};

const COMPANY: &str = "sandboxNorthwindHQ01";
const HARBOR: &str = "sandboxHarborDental1";

async fn sandbox() -> Sandbox {
    let pair = |client_id: &str, secret: &str| ClientCredentials {
        client_id: client_id.to_owned(),
        client_secret: secret.into(),
    };
    Sandbox::with(Config {
        apps: vec![pair("second-a", "secret-a"), pair("second-b", "secret-b")],
        ..Config::default()
    })
    .await
}

async fn code(sandbox: &Sandbox, client_id: &str, choice: (&str, &str)) -> String {
    let mut fields = consent_query().to_vec();
    fields.retain(|(name, _)| *name != "client_id");
    fields.extend([("client_id", client_id), choice]);
    let response = sandbox
        .post("/oauth/chooselocation")
        .form(&fields)
        .send()
        .await
        .unwrap();
    let url = response.headers()["location"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    parameter(&url, "code").unwrap()
}

fn token(sandbox: &Sandbox, pair: (&str, &str), fields: &[(&str, &str)]) -> RequestBuilder {
    let pair = [("client_id", pair.0), ("client_secret", pair.1)];
    let fields: Vec<_> = pair.iter().chain(fields).collect();
    sandbox.post("/oauth/token").form(&fields)
}

async fn exchange(sandbox: &Sandbox, pair: (&str, &str), code: &str) -> (u16, Value) {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
    ];
    let (status, body) = answer(token(sandbox, pair, &fields)).await;
    (status.as_u16(), body)
}

async fn refresh(sandbox: &Sandbox, pair: (&str, &str), refresh: &str) -> (u16, Value) {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let (status, body) = answer(token(sandbox, pair, &fields)).await;
    (status.as_u16(), body)
}

const DEFAULT: (&str, &str) = ("sandbox-client", "sandbox-secret");
const A: (&str, &str) = ("second-a", "secret-a");
const B: (&str, &str) = ("second-b", "secret-b");

#[tokio::test]
async fn code_and_refresh_token_work_only_with_their_own_credentials() {
    let sandbox = sandbox().await;
    sandbox.set(json!({"replay_grace_ms": 0})).await;
    let invalid =
        json!({"error": "UnAuthorized!", "error_description": "Invalid client credentials!"});
    let code = code(&sandbox, "second-a", ("locationId", HARBOR)).await;
    for pair in [DEFAULT, B, ("second-a", "secret-b"), ("nobody", "secret-a")] {
        let refused = exchange(&sandbox, pair, &code).await;
        assert_eq!(refused, (401, invalid.clone()), "{pair:?}");
    }
    let (status, body) = exchange(&sandbox, A, &code).await;
    assert_eq!(status, 200, "the code was not consumed: {body}");
    let first = tokens(body);
    for pair in [DEFAULT, B] {
        let refused = refresh(&sandbox, pair, &first.refresh).await;
        assert_eq!(refused, (401, invalid.clone()), "{pair:?}");
    }
    assert_eq!(
        refresh(&sandbox, A, &first.refresh).await.0,
        200,
        "it was not spent"
    );
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["clients"]["second-a"]["refresh_tokens_spent"], 1);
    assert_eq!(ledger["clients"]["second-a"]["refresh_tokens_issued"], 2);
    assert_eq!(
        ledger["clients"]["second-a"]["presented_by_other_client"],
        4
    );
    assert_eq!(ledger["presented_by_other_client"], 4);
    assert!(ledger["clients"].get("second-b").is_none());
    let (_, detail) = answer(sandbox.get(&format!("/_sandbox/ledger/{HARBOR}"))).await;
    assert_eq!(detail["installations"][0]["clientId"], "second-a");
}

#[tokio::test]
async fn installations_and_tokens_of_apps_are_independent() {
    let sandbox = sandbox().await;
    let first = sandbox
        .install_bulk(COMPANY, &[("locations", HARBOR)])
        .await;
    let code = code(&sandbox, "second-a", ("companyId", COMPANY)).await;
    let second = tokens(exchange(&sandbox, A, &code).await.1);
    let count = async |access: &str, app: &str| {
        let path =
            format!("/oauth/installedLocations?companyId={COMPANY}&appId={app}&isInstalled=true");
        let call = sandbox.call(reqwest::Method::GET, &path, access);
        let (status, body) = answer(call).await;
        (status.as_u16(), body["count"].as_u64())
    };
    assert_eq!(count(&first.access, "sandbox").await, (200, Some(1)));
    assert_eq!(count(&second.access, "second").await, (200, Some(3)));
    assert_eq!(count(&second.access, "sandbox").await.0, 400, "another app");

    let (_, body) = answer(sandbox.mint(&second.access, COMPANY, HARBOR)).await;
    assert_eq!(body["appId"], "second");
    let minted = tokens(body);
    assert_eq!(refresh(&sandbox, DEFAULT, &minted.refresh).await.0, 401);
    sandbox
        .control("uninstall", json!({"companyId": COMPANY}))
        .await;
    assert_eq!(count(&first.access, "sandbox").await.0, 401);
    assert_eq!(count(&second.access, "second").await, (200, Some(3)));
    let gone = json!({"companyId": COMPANY, "appId": "second"});
    sandbox.control("uninstall", gone).await;
    assert_eq!(count(&second.access, "second").await.0, 401);
    assert_eq!(refresh(&sandbox, A, &minted.refresh).await.0, 400);
}

#[tokio::test]
async fn app_cannot_uninstall_another_app() {
    let sandbox = sandbox().await;
    let access = sandbox.install(HARBOR).await.access;
    let uninstall = |app: &str| {
        let path = format!("/marketplace/app/{app}/installations");
        sandbox
            .call(reqwest::Method::DELETE, &path, &access)
            .json(&json!({"locationId": HARBOR}))
    };
    assert_eq!(answer(uninstall("second")).await.0, 403);
    assert_eq!(answer(uninstall("sandbox")).await.0, 200);
}

#[tokio::test]
async fn each_app_has_its_own_rate_limit() {
    let sandbox = sandbox().await;
    sandbox
        .set(json!({"rate_limit": 1, "rate_interval_ms": 60_000}))
        .await;
    let first = sandbox.install(HARBOR).await.access;
    let code = code(&sandbox, "second-a", ("locationId", HARBOR)).await;
    let second = tokens(exchange(&sandbox, A, &code).await.1).access;
    let call = |access: &str| {
        sandbox.call(
            reqwest::Method::GET,
            &format!("/locations/{HARBOR}"),
            access,
        )
    };
    assert_eq!(answer(call(&first)).await.0, 200);
    assert_eq!(answer(call(&first)).await.0, 429);
    assert_eq!(answer(call(&second)).await.0, 200);
}
