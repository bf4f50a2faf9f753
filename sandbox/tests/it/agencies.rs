//! Bulk consents of agencies, and where the app is installed afterwards.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer, consent_query, send};

const COMPANY: &str = "sandboxNorthwindHQ01";
const HARBOR: &str = "sandboxHarborDental1";
const MAPLE: &str = "sandboxMapleYoga0002";
const OAK: &str = "sandboxOakEmberCafe3";

/// The ids of the locations with the app.
async fn installed(sandbox: &Sandbox, agency: &str, company: &str) -> Vec<String> {
    let body = sandbox
        .installed(agency, company, "&isInstalled=true&limit=100")
        .await;
    let locations = body["locations"].as_array().unwrap();
    locations.iter().map(id).collect()
}

fn id(location: &Value) -> String {
    location["_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn token_response_shows_the_choice_without_the_locations() {
    let sandbox = Sandbox::start().await;
    for (fields, all, future) in [
        (&[][..], true, true),
        (&[("future", "false")], true, false),
        (&[("locations", HARBOR), ("future", "false")], false, false),
        (&[("locations", HARBOR), ("locations", OAK)], false, true),
    ] {
        let choice = [&[("companyId", COMPANY)], fields].concat();
        let code = sandbox.code(&choice).await;
        let body = sandbox.exchange(&code).await;
        assert_eq!(body["userType"], "Company");
        assert_eq!(body["isBulkInstallation"], true);
        assert_eq!(body["approveAllLocations"], all, "{fields:?}");
        assert_eq!(body["installToFutureLocations"], future, "{fields:?}");
        assert!(body.get("locationId").is_none());
        assert!(!body.to_string().contains(HARBOR), "{body}");
        let refresh = body["refresh_token"].as_str().unwrap();
        let (_, refreshed) = sandbox.refresh(refresh).await;
        assert_eq!(refreshed["approveAllLocations"], all, "after a refresh");
        assert_eq!(refreshed["installToFutureLocations"], future);
    }
}

#[tokio::test]
async fn only_chosen_locations_have_the_app() {
    let sandbox = Sandbox::start().await;
    let choice = [("locations", &*format!("{HARBOR},{OAK}"))];
    let agency = sandbox.install_bulk(COMPANY, &choice).await.access;
    assert_eq!(installed(&sandbox, &agency, COMPANY).await, [HARBOR, OAK]);
    let all = sandbox.installed(&agency, COMPANY, "").await;
    assert_eq!(all["count"], 3);
    assert_eq!(all["locations"][1]["_id"], MAPLE);
    assert_eq!(all["locations"][1]["isInstalled"], false);
    assert!(all["locations"][1].get("installedAt").is_none());
    let without = sandbox
        .installed(&agency, COMPANY, "&isInstalled=false")
        .await;
    assert_eq!(
        (&without["count"], id(&without["locations"][0])),
        (&json!(1), MAPLE.to_owned())
    );

    for (location, status, message) in [
        (HARBOR, 200, None),
        (MAPLE, 400, Some("App is not installed on this location")),
        ("nobody", 400, Some("Location not found")),
    ] {
        let (got, body) = answer(sandbox.mint(&agency, COMPANY, location)).await;
        assert_eq!(got, status, "{location}: {body}");
        assert_eq!(body["message"].as_str(), message);
    }
}

#[tokio::test]
async fn locations_of_another_company_cannot_be_chosen() {
    let sandbox = Sandbox::start().await;
    sandbox
        .control(
            "locations",
            json!({"companyId": "other", "locationId": "foreign"}),
        )
        .await;
    for (locations, word) in [("foreign", "belong"), ("a b", "ids"), ("", "at least one")] {
        let response = sandbox
            .post("/oauth/chooselocation")
            .query(&consent_query())
            .form(&[("companyId", COMPANY), ("locations", locations)]);
        let (status, body) = answer(response).await;
        assert_eq!(status, 400, "{locations}");
        assert!(body["message"].as_str().unwrap().contains(word), "{body}");
    }
    let agency = sandbox.install_agency(COMPANY).await.access;
    let (_, body) = answer(sandbox.mint(&agency, COMPANY, "foreign")).await;
    assert_eq!(body["message"], "Location not found");
}

#[tokio::test]
async fn later_location_has_the_app_if_the_consent_covers_it() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox
        .install_bulk(COMPANY, &[("locations", HARBOR)])
        .await
        .access;
    let created = sandbox
        .control(
            "locations",
            json!({"companyId": COMPANY, "locationId": "later1", "name": "L"}),
        )
        .await;
    assert_eq!(created["installedApps"], json!(["sandbox"]));
    assert_eq!(created["location"]["name"], "L");
    assert_eq!(
        installed(&sandbox, &agency, COMPANY).await,
        [HARBOR, "later1"]
    );

    let choice = [("locations", HARBOR), ("future", "false")];
    let agency = sandbox
        .install_bulk("comp2", &[("locations", "x1"), choice[1]])
        .await
        .access;
    let later = json!({"companyId": "comp2", "locationId": "later2"});
    let created = sandbox.control("locations", later).await;
    assert_eq!(created["installedApps"], json!([]));
    assert_eq!(installed(&sandbox, &agency, "comp2").await, ["x1"]);
    let (status, _) = answer(sandbox.mint(&agency, "comp2", "later2")).await;
    assert_eq!(status, 400);
    // The agency adds it by hand.
    sandbox
        .control("install", json!({"locationId": "later2"}))
        .await;
    let (status, _) = answer(sandbox.mint(&agency, "comp2", "later2")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn uninstalled_location_is_refused_until_it_is_installed_again() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await.access;
    let (_, body) = answer(sandbox.mint(&agency, COMPANY, HARBOR)).await;
    let location = crate::harness::tokens(body);
    let gone = sandbox
        .control("uninstall", json!({"locationId": HARBOR}))
        .await;
    assert_eq!(gone["revoked"], 1);
    assert_eq!(installed(&sandbox, &agency, COMPANY).await, [MAPLE, OAK]);
    let (status, body) = answer(sandbox.mint(&agency, COMPANY, HARBOR)).await;
    assert_eq!(status, 400);
    assert_eq!(body["message"], "App is not installed on this location");
    let call = sandbox.call(
        Method::GET,
        &format!("/locations/{HARBOR}"),
        &location.access,
    );
    assert_eq!(answer(call).await.0, 401);
    assert_eq!(sandbox.refresh(&location.refresh).await.0, 400);
    let (status, _) = answer(sandbox.mint(&agency, COMPANY, MAPLE)).await;
    assert_eq!(status, 200, "the others keep the app");

    sandbox
        .install_bulk(COMPANY, &[("locations", HARBOR)])
        .await;
    let (status, _) = answer(sandbox.mint(&agency, COMPANY, HARBOR)).await;
    assert_eq!(status, 200);
    assert_eq!(installed(&sandbox, &agency, COMPANY).await.len(), 3);
}

#[tokio::test]
async fn uninstalled_company_loses_all_tokens_and_pending_codes() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await;
    let (_, body) = answer(sandbox.mint(&agency.access, COMPANY, HARBOR)).await;
    let minted = crate::harness::tokens(body);
    let own = sandbox.install(OAK).await;
    let pending = sandbox.code(&[("companyId", COMPANY)]).await;
    sandbox
        .control("uninstall", json!({"companyId": COMPANY}))
        .await;
    for (name, tokens) in [("agency", &agency), ("minted", &minted), ("own", &own)] {
        let call = sandbox.call(Method::GET, "/locations/search", &tokens.access);
        assert_eq!(answer(call).await.0, 401, "{name}");
        assert_eq!(sandbox.refresh(&tokens.refresh).await.0, 400, "{name}");
    }
    let fields = [("grant_type", "authorization_code"), ("code", &*pending)];
    assert_eq!(answer(sandbox.token(&fields)).await.0, 400);
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["grants_revoked"], 3);
    let again = sandbox
        .install_bulk(COMPANY, &[("locations", OAK)])
        .await
        .access;
    assert_eq!(installed(&sandbox, &again, COMPANY).await, [OAK]);
}

#[tokio::test]
async fn installation_survives_a_restart_with_a_valid_token() {
    let sandbox = Sandbox::start().await;
    let agency = sandbox.install_agency(COMPANY).await;
    sandbox.stop().await;
    let sandbox = Sandbox::start().await;
    let (status, body) = answer(sandbox.mint(&agency.access, COMPANY, HARBOR)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(installed(&sandbox, &agency.access, COMPANY).await.len(), 3);
}

#[tokio::test]
async fn page_offers_the_locations_of_an_agency() {
    let sandbox = Sandbox::start().await;
    let agency = json!({"companyId": "big", "locations": 250, "name": "Big & Co"});
    sandbox.control("agencies", agency).await;
    let mut query = consent_query().to_vec();
    query.push(("companyId", "big"));
    let page = send(sandbox.get("/oauth/chooselocation").query(&query)).await;
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    for part in [
        "Big &amp; Co",
        "name=\"companyId\" value=\"big\"",
        "name=\"locations\" value=\"bigLoc00001\"",
        "name=\"all\" value=\"true\" checked",
        "name=\"future\" value=\"true\" checked",
        "and 50 more",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[tokio::test]
async fn agency_of_ten_thousand_locations_is_listed_in_pages() {
    let sandbox = Sandbox::start().await;
    sandbox
        .set(json!({"rate_limit": 0, "token_bytes": 0}))
        .await;
    let created = sandbox
        .control("agencies", json!({"companyId": "big", "locations": 10_000}))
        .await;
    assert_eq!(created["locations"], 10_000);
    assert_eq!(created["firstLocationId"], "bigLoc00001");
    assert_eq!(created["lastLocationId"], "bigLoc10000");
    let agency = sandbox.install_agency("big").await.access;
    let mut seen = Vec::new();
    for page in 0..100 {
        let query = format!("&isInstalled=true&limit=100&skip={}", page * 100);
        let body = sandbox.installed(&agency, "big", &query).await;
        assert_eq!(body["count"], 10_000);
        seen.extend(body["locations"].as_array().unwrap().iter().map(id));
    }
    let expected: Vec<_> = (1..=10_000)
        .map(|number| format!("bigLoc{number:05}"))
        .collect();
    assert_eq!(seen, expected);
    let (status, _) = answer(sandbox.mint(&agency, "big", "bigLoc10000")).await;
    assert_eq!(status, 200);
    let again = json!({"companyId": "big", "locations": 10_001});
    let created = sandbox.control("agencies", again).await;
    assert_eq!(created["locations"], 10_001, "only the missing one is new");
}
