//! `installedLocations` and its version 3.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer};

const COMPANY: &str = "sandboxNorthwindHQ01";

async fn get(sandbox: &Sandbox, agency: &str, version: &str, path: &str) -> (StatusCode, Value) {
    let call = sandbox.request(Method::GET, path).bearer_auth(agency);
    answer(call.header("Version", version)).await
}

#[tokio::test]
async fn pages_are_limited_and_searchable() {
    let sandbox = Sandbox::start().await;
    sandbox
        .control("agencies", json!({"companyId": "big", "locations": 120}))
        .await;
    let agency = sandbox.install_agency("big").await.access;
    let page = async |query: &str| {
        let body = sandbox.installed(&agency, "big", query).await;
        let locations = body["locations"].as_array().unwrap().clone();
        (body["count"].as_u64().unwrap(), locations)
    };
    let (count, locations) = page("").await;
    assert_eq!((count, locations.len()), (120, 20), "the default");
    assert_eq!(page("&limit=1000").await.1.len(), 100, "the most");
    let (_, locations) = page("&skip=118&limit=5").await;
    assert_eq!(locations.len(), 2);
    assert_eq!(locations[0]["_id"], "bigLoc00119");
    assert!(page("&skip=120").await.1.is_empty());
    let (count, locations) = page("&query=LOC0011").await;
    assert_eq!((count, locations.len()), (10, 10));
    let (count, locations) = page("&query=Loc0011&skip=8&limit=20").await;
    assert_eq!((count, locations.len()), (10, 2));
    let (count, locations) = page("&locationId=bigLoc00007").await;
    assert_eq!((count, &locations[0]["_id"]), (1, &json!("bigLoc00007")));
    assert_eq!(page("&versionId=another").await.0, 0);
}

#[tokio::test]
async fn app_and_company_are_checked() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await.access;
    for (query, status) in [
        (format!("companyId={COMPANY}&appId=sandbox"), 200),
        (format!("companyId={COMPANY}&appId=other"), 400),
        (format!("companyId={COMPANY}"), 422),
        ("companyId=other&appId=sandbox".to_owned(), 403),
        ("appId=sandbox".to_owned(), 422),
        (
            format!("companyId={COMPANY}&appId=sandbox&isInstalled=maybe"),
            422,
        ),
    ] {
        let path = format!("/oauth/installedLocations?{query}");
        let (got, body) = get(&sandbox, &agency, "2021-07-28", &path).await;
        assert_eq!(got, status, "{query}: {body}");
    }
    let location = sandbox.install("sandboxHarborDental1").await.access;
    let path = format!("/oauth/installedLocations?companyId={COMPANY}&appId=sandbox");
    let (status, body) = get(&sandbox, &location, "2021-07-28", &path).await;
    assert_eq!(status, 401);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .starts_with("This authClass type")
    );
}

#[tokio::test]
async fn version_3_has_page_tokens() {
    let sandbox = Sandbox::start().await;
    sandbox
        .control("agencies", json!({"companyId": "big", "locations": 45}))
        .await;
    let agency = sandbox
        .install_bulk("big", &[("future", "false")])
        .await
        .access;
    let path = "/oauth/installed-locations?companyId=big&appId=sandbox";
    let (mut token, mut sizes, mut last) = (String::new(), Vec::new(), Value::Null);
    for _ in 0..4 {
        let path = format!("{path}&pageToken={token}");
        let (status, body) = get(&sandbox, &agency, "v3", &path).await;
        assert_eq!(status, 200, "{body}");
        let items = body["items"].as_array().unwrap();
        sizes.push(items.len());
        last = items.last().unwrap()["_id"].clone();
        assert_eq!(body["installToFutureLocations"], false);
        let pagination = &body["pagination"];
        if pagination["hasNextPage"] == false {
            assert_eq!(pagination["nextPageToken"], Value::Null);
            break;
        }
        token = pagination["nextPageToken"].as_str().unwrap().to_owned();
    }
    assert_eq!(sizes, [20, 20, 5]);
    assert_eq!(last, "bigLoc00045");
    for (query, status, code) in [
        ("&pageSize=101", 400, "INVALID_ARGUMENT"),
        ("&pageSize=0", 400, "INVALID_ARGUMENT"),
        ("&pageToken=x", 400, "INVALID_ARGUMENT"),
    ] {
        let (got, body) = get(&sandbox, &agency, "v3", &format!("{path}{query}")).await;
        assert_eq!(
            (got.as_u16(), &body["error"]["code"]),
            (status, &json!(code)),
            "{query}"
        );
    }
    let other = "/oauth/installed-locations?companyId=big&appId=other";
    let (status, body) = get(&sandbox, &agency, "v3", other).await;
    assert_eq!(status, 404);
    assert_eq!(body["error"]["code"], "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn each_path_exists_in_its_versions_only() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await.access;
    let query = format!("companyId={COMPANY}&appId=sandbox");
    for (path, version) in [
        ("/oauth/installedLocations", "v3"),
        ("/oauth/installed-locations", "2021-07-28"),
    ] {
        let path = format!("{path}?{query}");
        let (status, body) = get(&sandbox, &agency, version, &path).await;
        assert_eq!(status, 400);
        let message = body["message"].as_str().unwrap();
        let expected = format!("Endpoint {path} not available in API version {version}.");
        assert!(message.starts_with(&expected), "{message}");
    }
}
