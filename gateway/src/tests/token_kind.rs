//! Whose token a call gets: a location's or its company's.

use axum::response::Response;
use http::StatusCode;
use store::{InstallationId, Scope, Status, UserType};

use super::testbed::{LIFETIME, Testbed, get, json, post, with};

/// A company with two locations. GHL's token of each says whose it is.
struct Agency {
    testbed: Testbed,
    company: InstallationId,
    location: InstallationId,
    other: InstallationId,
}

impl Agency {
    async fn new() -> Self {
        let testbed = Testbed::new().await;
        let [company, location, other] = [(); 3].map(|()| testbed.install(LIFETIME));
        let as_company = |record: &mut store::record::StoredAccess| {
            record.user_type = UserType::Company;
            record.location = None;
        };
        testbed.store.put(&company, as_company, LIFETIME);
        testbed.store.put_owner("COM1", &company);
        for (id, generations) in [(&location, 1), (&other, 2)] {
            let change = |record: &mut store::record::StoredAccess| {
                for _ in 0..generations {
                    record.generation = record.generation.next();
                }
            };
            testbed.store.put(id, change, LIFETIME);
        }
        testbed.process_announcements().await;
        Self {
            testbed,
            company,
            location,
            other,
        }
    }

    fn location(&self) -> String {
        self.testbed.store.location(&self.location)
    }

    /// Whose token GHL saw.
    fn owner_seen(&self, response: &Response) -> &'static str {
        assert_eq!(response.status(), StatusCode::OK);
        let seen = self.testbed.ghl.seen().pop().expect("a call");
        match seen.header("authorization") {
            Some("Bearer token-1") => "company",
            Some("Bearer token-2") => "location",
            Some("Bearer token-3") => "other",
            token => panic!("{token:?}"),
        }
    }
}

#[tokio::test]
async fn operation_gets_the_kind_of_token_that_it_takes() {
    let agency = Agency::new().await;
    let location = agency.location();
    let company = agency.company.as_str();
    for (method, path, installation, expected) in [
        // Location
        (
            "POST",
            "/medias/upload-file?locationId=LOC",
            company,
            "location",
        ),
        ("POST", "/medias/upload-file?altId=LOC", "COM1", "location"),
        (
            "POST",
            "/medias/upload-file?locationId=NEW",
            company,
            "company",
        ),
        ("POST", "/medias/upload-file", company, "company"),
        // Either
        ("GET", "/contacts/?locationId=LOC", company, "location"),
        ("GET", "/contacts/?locationId=NEW", company, "company"),
        ("GET", "/contacts/?locationId=LOC", "", "location"),
        ("GET", "/contacts/", "LOC", "location"),
        ("GET", "/locations/LOC/tags", company, "location"),
        // Company
        ("PUT", "/locations/LOC", "", "company"),
        ("PUT", "/locations/LOC", "LOC", "company"),
        ("PUT", "/locations/LOC", company, "company"),
        ("GET", "/companies/COM1", "", "company"),
        ("GET", "/companies/COM1", "LOC", "company"),
        ("GET", "/snapshots/?companyId=COM1", "", "company"),
        // Unknown
        ("GET", "/x?locationId=LOC", company, "company"),
        ("GET", "/companies/x/y", "LOC", "location"),
    ] {
        let uri = format!("/ghl{}", path.replace("LOC", &location));
        let mut request = get(&uri);
        *request.method_mut() = method.parse().unwrap();
        if !installation.is_empty() {
            let named = installation.replace("LOC", &location);
            request = with(request, "x-installation-id", &named);
        }
        let response = agency.testbed.send(request).await;
        let owner = agency.owner_seen(&response);
        assert_eq!(owner, expected, "{method} {path} {installation}");
    }
}

#[tokio::test]
async fn location_in_the_body_decides_between_the_locations_of_a_company() {
    let agency = Agency::new().await;
    let other = agency.testbed.store.location(&agency.other);
    let body = format!(r#"{{"locationId":"{other}"}}"#);
    let request = with(
        post("/ghl/contacts/", body),
        "content-type",
        "application/json",
    );
    let request = with(request, "x-installation-id", agency.company.as_str());
    let response = agency.testbed.send(request).await;
    assert_eq!(agency.owner_seen(&response), "other");
}

#[tokio::test]
async fn second_location_contradicts_the_one_whose_token_is_taken() {
    let agency = Agency::new().await;
    let (one, other) = (
        agency.location(),
        agency.testbed.store.location(&agency.other),
    );
    for second in [&other, "NEW"] {
        let uri = format!("/ghl/locations/{second}/tags?locationId={one}");
        let request = with(get(&uri), "x-installation-id", agency.company.as_str());
        let response = agency.testbed.send(request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let message = json(response).await["message"].to_string();
        assert!(message.contains(second), "{message}");
    }
    assert_eq!(agency.testbed.ghl.lines(), [""; 0]);
}

#[tokio::test]
async fn location_of_another_company_does_not_get_its_own_token() {
    let agency = Agency::new().await;
    let moved = |record: &mut store::record::StoredAccess| {
        record.company = Some("COM2".parse().unwrap());
    };
    agency.testbed.store.put(&agency.location, moved, LIFETIME);
    agency.testbed.process_announcements().await;
    let uri = format!("/ghl/contacts/?locationId={}", agency.location());
    let request = with(get(&uri), "x-installation-id", agency.company.as_str());
    let response = agency.testbed.send(request).await;
    assert_eq!(agency.owner_seen(&response), "company");
}

#[tokio::test]
async fn location_that_was_revoked_does_not_stop_its_company() {
    let agency = Agency::new().await;
    let revoked = |record: &mut store::record::StoredAccess| record.status = Status::Revoked;
    agency
        .testbed
        .store
        .put(&agency.location, revoked, LIFETIME);
    agency.testbed.process_announcements().await;
    let uri = format!("/ghl/contacts/?locationId={}", agency.location());
    let request = with(get(&uri), "x-installation-id", agency.company.as_str());
    let response = agency.testbed.send(request).await;
    assert_eq!(agency.owner_seen(&response), "company");
}

#[tokio::test]
async fn key_never_gets_the_token_of_an_installation_that_it_may_not_use() {
    let agency = Agency::new().await;
    let store = &agency.testbed.store;
    let location = agency.location();
    let keys = [
        ("evg_location", &agency.location),
        ("evg_company", &agency.company),
        ("evg_other", &agency.other),
    ];
    for (key, id) in keys {
        store.put_caller(key, &[Scope::Proxy], Some(vec![id.clone()]));
    }
    let pause = format!("/ghl/saas/pause/{location}");
    let tags = format!("/ghl/locations/{location}/tags");
    for (key, method, uri, installation, expected) in [
        // The company's token is taken only if the key is for the company.
        ("evg_location", "POST", &pause, None, Some("location")),
        ("evg_company", "POST", &pause, None, Some("company")),
        ("evg_other", "POST", &pause, None, None),
        // Likewise the location's.
        (
            "evg_company",
            "GET",
            &tags,
            Some(&agency.company),
            Some("company"),
        ),
        ("evg_location", "GET", &tags, Some(&agency.company), None),
        ("evg_location", "GET", &tags, None, Some("location")),
        ("evg_other", "GET", &tags, Some(&agency.company), None),
    ] {
        let mut request = with(get(uri), "x-api-key", key);
        *request.method_mut() = method.parse().unwrap();
        if let Some(id) = installation {
            request = with(request, "x-installation-id", id.as_str());
        }
        let response = agency.testbed.send(request).await;
        match expected {
            Some(expected) => {
                assert_eq!(agency.owner_seen(&response), expected, "{key} {uri}");
            }
            None => assert_eq!(response.status(), StatusCode::FORBIDDEN, "{key} {uri}"),
        }
    }
}

#[tokio::test]
async fn company_token_serves_while_the_store_cannot_say_who_owns_a_location() {
    let agency = Agency::new().await;
    let company = agency.company.as_str();
    let send = async |uri: &str| {
        let uri = uri.replace("LOC", &agency.location());
        let request = with(get(&uri), "x-installation-id", company);
        agency.testbed.send(request).await
    };
    send("/ghl/contacts/").await;
    agency.testbed.store.go_down();
    let response = send("/ghl/contacts/?locationId=LOC").await;
    assert_eq!(agency.owner_seen(&response), "company");
    // GHL would refuse the company's token for good.
    let response = send("/ghl/payments/orders?locationId=LOC").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}
