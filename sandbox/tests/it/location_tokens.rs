//! `locationToken`: the tokens that an agency mints for its locations, and their counts.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer, tokens};

const COMPANY: &str = "sandboxNorthwindHQ01";
const HARBOR: &str = "sandboxHarborDental1";
const MAPLE: &str = "sandboxMapleYoga0002";

async fn mint(sandbox: &Sandbox, agency: &str, location: &str) -> Value {
    let (status, body) = answer(sandbox.mint(agency, COMPANY, location)).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn call(sandbox: &Sandbox, access: &str) -> u16 {
    let call = sandbox.call(Method::GET, &format!("/locations/{HARBOR}"), access);
    answer(call).await.0.as_u16()
}

#[tokio::test]
async fn response_has_ghls_fields_in_both_spellings() {
    let sandbox = Sandbox::start().await;
    let code = sandbox.code(&[("companyId", COMPANY)]).await;
    let company = sandbox.exchange(&code).await;
    let agency = company["access_token"].as_str().unwrap();
    let body = mint(&sandbox, agency, HARBOR).await;
    assert_eq!(body["userType"], "Location");
    assert_eq!(body["locationId"], HARBOR);
    assert_eq!(body["companyId"], COMPANY);
    assert_eq!(body["appId"], "sandbox");
    assert_eq!(body["scope"], company["scope"]);
    assert_eq!(body["userId"], company["userId"], "the user who consented");
    assert_eq!(body["expires_in"], 86_399);
    assert_eq!(body["versionId"].as_str().unwrap().len(), 24);
    assert!(body["traceId"].is_string() && body["refresh_token"].is_string());

    let form = [("companyId", COMPANY), ("locationId", HARBOR)];
    for path in ["/oauth/location-token", "/oauth/locationToken"] {
        let request = sandbox
            .post(path)
            .bearer_auth(agency)
            .header("Version", "v3");
        let (status, body) = answer(request.form(&form)).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body["accessToken"].is_string() && body["refreshToken"].is_string());
        assert_eq!(body["expiresIn"], 86_399);
        assert!(body.get("access_token").is_none());
    }
    let old = sandbox.call(Method::POST, "/oauth/location-token", agency);
    assert_eq!(answer(old.form(&form)).await.0, 400);
    let json = sandbox
        .call(Method::POST, "/oauth/locationToken", agency)
        .json(&json!({"companyId": COMPANY, "locationId": HARBOR}));
    assert_eq!(answer(json).await.0, 200);
}

#[tokio::test]
async fn locations_refresh_token_rotates_and_minting_spends_nothing() {
    let sandbox = Sandbox::start().await;
    sandbox.set(json!({"replay_grace_ms": 0})).await;
    let agency = sandbox.install_agency(COMPANY).await;
    let first = tokens(mint(&sandbox, &agency.access, HARBOR).await);
    let second = tokens(mint(&sandbox, &agency.access, HARBOR).await);
    assert_ne!(first.refresh, second.refresh);
    assert_eq!(
        call(&sandbox, &first.access).await,
        200,
        "minting again ends nothing"
    );
    let (status, body) = sandbox.refresh(&first.refresh).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        (&body["userType"], &body["locationId"]),
        (&json!("Location"), &json!(HARBOR))
    );
    let next = tokens(body);
    assert_eq!(sandbox.refresh(&first.refresh).await.0, 400, "good once");
    assert_eq!(sandbox.refresh(&next.refresh).await.0, 200);
    assert_eq!(sandbox.refresh(&second.refresh).await.0, 200);
    assert_eq!(sandbox.refresh(&agency.refresh).await.0, 200);
    assert_eq!(sandbox.ledger().await["refresh_tokens_spent"], 4);
}

#[tokio::test]
async fn minted_tokens_end_with_the_agencys_grant() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await;
    let minted = tokens(mint(&sandbox, &agency.access, HARBOR).await);
    let own = sandbox.install(HARBOR).await;
    let revoked = sandbox
        .control("revoke", json!({"companyId": COMPANY}))
        .await;
    assert_eq!(revoked["revoked"], 2);
    assert_eq!(call(&sandbox, &minted.access).await, 401);
    assert_eq!(sandbox.refresh(&minted.refresh).await.0, 400);
    assert_eq!(
        call(&sandbox, &own.access).await,
        200,
        "it has consented itself"
    );
}

#[tokio::test]
async fn replaced_grants_end_if_the_setting_says_so() {
    let sandbox = Sandbox::start().await;
    for (revoke, status, call_status) in [(false, 200, 200), (true, 400, 401)] {
        sandbox.set(json!({"revoke_replaced_grants": revoke})).await;
        let agency = sandbox.install_agency(COMPANY).await;
        let minted = tokens(mint(&sandbox, &agency.access, HARBOR).await);
        let new = sandbox.install_agency(COMPANY).await;
        assert_eq!(call(&sandbox, &minted.access).await, call_status);
        assert_eq!(call(&sandbox, &agency.access).await, call_status);
        assert_eq!(sandbox.refresh(&minted.refresh).await.0, status);
        assert_eq!(sandbox.refresh(&agency.refresh).await.0, status);
        assert_eq!(call(&sandbox, &new.access).await, 200);
        mint(&sandbox, &new.access, HARBOR).await;
    }
}

#[tokio::test]
async fn paused_location_gets_no_token() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await.access;
    sandbox
        .control("pause", json!({"locationId": HARBOR}))
        .await;
    let (status, body) = answer(sandbox.mint(&agency, COMPANY, HARBOR)).await;
    assert_eq!(status, 400);
    assert_eq!(body["message"], "Location is not active");
    sandbox
        .control("resume", json!({"locationId": HARBOR}))
        .await;
    mint(&sandbox, &agency, HARBOR).await;
}

#[tokio::test]
async fn scopes_and_token_kind_are_required() {
    let sandbox = Sandbox::start().await;
    let location = sandbox.install(HARBOR).await.access;
    let (status, body) = answer(sandbox.mint(&location, COMPANY, HARBOR)).await;
    assert_eq!(status, 401);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .starts_with("This authClass type")
    );

    let scope = "oauth.readonlyish products.readonly";
    let agency = sandbox
        .install_with_scope(("companyId", COMPANY), scope)
        .await
        .access;
    let path = format!("/oauth/installedLocations?companyId={COMPANY}&appId=sandbox");
    for request in [
        sandbox.mint(&agency, COMPANY, HARBOR),
        sandbox.call(Method::GET, &path, &agency),
    ] {
        let (status, body) = answer(request).await;
        assert_eq!(status, 401);
        assert_eq!(
            body["message"],
            "The token is not authorized for this scope."
        );
    }
}

#[tokio::test]
async fn ledger_counts_mints_and_refusals() {
    let sandbox = Sandbox::start().await;
    let chosen = format!("{HARBOR},{MAPLE}");
    let choice = [("locations", chosen.as_str())];
    let agency = sandbox.install_bulk(COMPANY, &choice).await.access;
    for location in [HARBOR, HARBOR, MAPLE] {
        mint(&sandbox, &agency, location).await;
    }
    for location in ["sandboxOakEmberCafe3", "nobody"] {
        assert_eq!(
            answer(sandbox.mint(&agency, COMPANY, location)).await.0,
            400
        );
    }
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["location_tokens_minted"], 3);
    assert_eq!(ledger["location_tokens_refused"], 2);
    let company = &ledger["companies"][COMPANY];
    assert_eq!(company["location_tokens_minted"], 3);
    assert_eq!(company["location_tokens_refused"], 2);
    assert_eq!(company["locations_minted"], 2);
    assert_eq!(company["most_minted_of_a_location"], 2);
    let of = async |id: &str| {
        answer(sandbox.get(&format!("/_sandbox/ledger/{id}")))
            .await
            .1
    };
    let harbor = of(HARBOR).await;
    assert_eq!(harbor["location_tokens_minted"], 2);
    assert_eq!(harbor["installations"].as_array().unwrap().len(), 2);
    assert!(harbor["installations"][0]["mintedFrom"].is_string());
    let oak = of("sandboxOakEmberCafe3").await;
    assert_eq!(oak["location_tokens_refused"], 1);
    assert_eq!(oak["installations"], json!([]));
    assert_eq!(of(COMPANY).await["locations_minted"], 2);
}

#[tokio::test]
async fn ledger_counts_calls_beyond_the_companys_rate_limit() {
    let sandbox = Sandbox::start().await;
    sandbox
        .set(json!({"rate_limit": 2, "rate_interval_ms": 60_000}))
        .await;
    let agency = sandbox.install_agency(COMPANY).await.access;
    let location = tokens(mint(&sandbox, &agency, HARBOR).await).access;
    mint(&sandbox, &agency, HARBOR).await;
    assert_eq!(
        sandbox.ledger().await["companies"][COMPANY]["rate_limited_calls"],
        0
    );
    assert_eq!(answer(sandbox.mint(&agency, COMPANY, HARBOR)).await.0, 429);
    assert_eq!(
        call(&sandbox, &location).await,
        200,
        "the location has its own limit"
    );
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["companies"][COMPANY]["rate_limited_calls"], 1);
    assert_eq!(ledger["location_tokens_minted"], 2);
}

#[tokio::test]
async fn lost_answer_of_a_mint_is_counted() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await.access;
    let rule = json!([{"on": "api", "kind": "process_then_lose", "next": 1,
        "path": "/oauth/locationToken"}]);
    sandbox.faults(rule).await;
    sandbox.installed(&agency, COMPANY, "").await;
    assert!(sandbox.mint(&agency, COMPANY, HARBOR).send().await.is_err());
    mint(&sandbox, &agency, HARBOR).await;
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["location_tokens_minted"], 2);
    assert_eq!(ledger["api_calls"]["answers_lost"], 1);
}
