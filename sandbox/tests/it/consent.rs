//! The consent page.

use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Sandbox, answer, consent_query, parameter, send};

#[tokio::test]
async fn page_offers_the_locations_and_the_agency() {
    let sandbox = Sandbox::start().await;
    for path in ["/v2/oauth/chooselocation", "/oauth/chooselocation"] {
        let response = send(sandbox.get(path).query(&consent_query())).await;
        assert_eq!(response.status(), StatusCode::OK);
        let content_type = response.headers()["content-type"].to_str().unwrap();
        assert!(content_type.starts_with("text/html"), "{content_type}");
        let page = response.text().await.unwrap();
        for part in [
            "Harbor Dental",
            "Oak &amp; Ember Kitchen",
            "Northwind Sandbox Agency",
            "<code>products.readonly</code>",
            "<code>contacts.write</code>",
            "name=\"state\" value=\"a &quot;state&quot; &amp; more\"",
            "name=\"deny\"",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("<script"));
    }
}

#[tokio::test]
async fn choice_redirects_with_code_and_state() {
    let sandbox = Sandbox::start().await;
    let url = sandbox.consent(&[("locationId", "anything-goes_1")]).await;
    assert_eq!(url.path(), "/callback");
    assert_eq!(parameter(&url, "keep").as_deref(), Some("1"));
    let state = parameter(&url, "state");
    assert_eq!(state.as_deref(), Some("a \"state\" & more"));
    assert_eq!(parameter(&url, "code").map(|code| code.len()), Some(40));
}

#[tokio::test]
async fn choice_may_be_in_the_form_or_the_query() {
    let sandbox = Sandbox::start().await;
    let mut fields = consent_query().to_vec();
    fields.push(("locationId", "somewhere"));
    let path = "/oauth/chooselocation";
    for request in [
        sandbox.post(path).form(&fields),
        sandbox.post(path).query(&fields),
    ] {
        assert_eq!(send(request).await.status(), StatusCode::FOUND);
    }
}

#[tokio::test]
async fn denial_redirects_with_an_error() {
    let sandbox = Sandbox::start().await;
    let url = sandbox.consent(&[("deny", "1")]).await;
    assert_eq!(parameter(&url, "error").as_deref(), Some("access_denied"));
    assert!(parameter(&url, "state").is_some());
    assert!(parameter(&url, "code").is_none());
}

#[tokio::test]
async fn invalid_links_are_refused_as_page_or_json() {
    let sandbox = Sandbox::start().await;
    let path = "/v2/oauth/chooselocation";
    for (name, value, word) in [
        ("client_id", "stranger", "client_id"),
        ("response_type", "token", "response_type"),
        ("redirect_uri", "javascript:alert(1)", "redirect_uri"),
        ("locationId", "no good", "locationId"),
        ("companyId", "<script>", "companyId"),
    ] {
        let mut fields = consent_query().to_vec();
        fields.retain(|(field, _)| *field != name);
        fields.push((name, value));
        let (status, body) = answer(sandbox.post(path).form(&fields)).await;
        assert_eq!(status, 400);
        assert_eq!(body["statusCode"], 400);
        assert!(body["message"].as_str().unwrap().contains(word), "{body}");
        let page = send(
            sandbox
                .post(path)
                .form(&fields)
                .header("Accept", "text/html,*/*"),
        )
        .await;
        assert_eq!(page.status(), 400);
        assert!(page.text().await.unwrap().starts_with("<!doctype html>"));
    }
    let (status, body) = answer(sandbox.post(path).form(&consent_query())).await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({"statusCode": 400, "message": "locationId or companyId is needed"})
    );
}

#[tokio::test]
async fn index_lists_the_routes() {
    let sandbox = Sandbox::start().await;
    let page = send(sandbox.get("/")).await.text().await.unwrap();
    assert!(page.contains("/_sandbox/ledger"));
}
