//! The kind and the scopes of a token, on every route.

use reqwest::Method;
use serde_json::json;

use crate::harness::{SCOPE, Sandbox, answer};

const COMPANY: &str = "sandboxNorthwindHQ01";
const HARBOR: &str = "sandboxHarborDental1";

/// Routes with the scope that each needs. The first element says which kinds of token are accepted.
fn routes() -> Vec<(&'static str, Method, String, &'static str)> {
    let either = "either";
    vec![
        (
            either,
            Method::GET,
            format!("/products/?locationId={HARBOR}"),
            "products.readonly",
        ),
        (
            either,
            Method::POST,
            "/products/".to_owned(),
            "products.write",
        ),
        (
            either,
            Method::GET,
            format!("/products/p?locationId={HARBOR}"),
            "products.readonly",
        ),
        (
            either,
            Method::PUT,
            "/products/p".to_owned(),
            "products.write",
        ),
        (
            either,
            Method::DELETE,
            format!("/products/p?locationId={HARBOR}"),
            "products.write",
        ),
        (
            "location",
            Method::GET,
            format!("/contacts/?locationId={HARBOR}"),
            "contacts.readonly",
        ),
        (
            "location",
            Method::POST,
            "/contacts/".to_owned(),
            "contacts.write",
        ),
        (
            "location",
            Method::POST,
            "/contacts/upsert".to_owned(),
            "contacts.write",
        ),
        (
            "location",
            Method::POST,
            "/contacts/search".to_owned(),
            "contacts.readonly",
        ),
        (
            "location",
            Method::GET,
            "/contacts/c".to_owned(),
            "contacts.readonly",
        ),
        (
            "location",
            Method::PUT,
            "/contacts/c".to_owned(),
            "contacts.write",
        ),
        (
            "location",
            Method::DELETE,
            "/contacts/c".to_owned(),
            "contacts.write",
        ),
        (
            "location",
            Method::GET,
            format!("/opportunities/search?location_id={HARBOR}"),
            "opportunities.readonly",
        ),
        (
            "location",
            Method::POST,
            "/opportunities/".to_owned(),
            "opportunities.write",
        ),
        (
            either,
            Method::GET,
            "/locations/search".to_owned(),
            "locations.readonly",
        ),
        (
            either,
            Method::GET,
            format!("/locations/{HARBOR}"),
            "locations.readonly",
        ),
        (
            "location",
            Method::POST,
            "/medias/upload-file".to_owned(),
            "medias.write",
        ),
        (
            "location",
            Method::GET,
            "/medias/files".to_owned(),
            "medias.readonly",
        ),
        (
            "location",
            Method::DELETE,
            "/medias/m".to_owned(),
            "medias.write",
        ),
        (
            "company",
            Method::GET,
            format!("/companies/{COMPANY}"),
            "companies.readonly",
        ),
        (
            "company",
            Method::POST,
            "/oauth/locationToken".to_owned(),
            "oauth.write",
        ),
        (
            "company",
            Method::GET,
            format!("/oauth/installedLocations?companyId={COMPANY}&appId=sandbox"),
            "oauth.readonly",
        ),
        (
            either,
            Method::DELETE,
            "/marketplace/app/sandbox/installations".to_owned(),
            "oauth.write",
        ),
    ]
}

#[tokio::test]
async fn every_route_needs_its_scope() {
    let sandbox = Sandbox::start().await;
    for (kind, method, path, scope) in routes() {
        let owner = match kind {
            "company" => ("companyId", COMPANY),
            _ => ("locationId", HARBOR),
        };
        let others: Vec<_> = SCOPE
            .split_whitespace()
            .filter(|other| *other != scope)
            .collect();
        let without = sandbox.install_with_scope(owner, &others.join(" ")).await;
        let only = sandbox.install_with_scope(owner, scope).await;
        let call = |access: &str| sandbox.call(method.clone(), &path, access).json(&json!({}));
        let refusal = "The token is not authorized for this scope.";
        let (status, body) = answer(call(&without.access)).await;
        assert_eq!(
            (status.as_u16(), &body["message"]),
            (401, &json!(refusal)),
            "{method} {path}"
        );
        let (_, body) = answer(call(&only.access)).await;
        assert_ne!(body["message"], refusal, "{method} {path}");
    }
}

#[tokio::test]
async fn every_route_needs_its_kind_of_token() {
    let sandbox = Sandbox::start().await;
    let location = sandbox.install(HARBOR).await.access;
    let company = sandbox.install_agency(COMPANY).await.access;
    for (kind, method, path, _) in routes() {
        // An invalid body leads to another error only after this check.
        let needs_a_body = method == Method::POST || method == Method::PUT;
        for (token, access) in [("location", &location), ("company", &company)] {
            let body = json!({"locationId": HARBOR});
            let call = sandbox.call(method.clone(), &path, access).json(&body);
            if method == Method::DELETE && path.starts_with("/marketplace") {
                continue;
            }
            let (status, body) = answer(call).await;
            let message = body["message"].to_string();
            let is_refused = status == 401 && message.contains("This authClass type");
            let is_allowed = kind == "either" || kind == token;
            if is_allowed || !needs_a_body {
                assert_eq!(is_refused, !is_allowed, "{token}: {method} {path}: {body}");
            } else {
                assert!(status.is_client_error(), "{token}: {method} {path}: {body}");
            }
        }
    }
}

#[tokio::test]
async fn own_routes_of_the_sandbox_need_no_scope() {
    let sandbox = Sandbox::start().await;
    let access = sandbox
        .install_with_scope(("locationId", HARBOR), "none")
        .await
        .access;
    let call = sandbox.call(Method::GET, "/_sandbox/echo/x", &access);
    assert_eq!(answer(call).await.0, 200);
}
